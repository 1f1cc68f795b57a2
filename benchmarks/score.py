"""Seconds per scored pair: this package against the computation of the published scripts.

    python benchmarks/score.py                          # a procedural figure covering a sixth of 512x512 pixels
    python benchmarks/score.py --pictures FOLDER        # real frames (RGBA is put on white) as ground truth

A pair is: decode two PNGs, squash to 512, PSNR, SSIM, LPIPS-VGG. The published path is that of Consistent4D's
script with the same libraries: torchmetrics at batch 1 in float32, both pictures of every pair. Both
paths alternate in one process and the best of the rounds counts; CPU seconds are steadier than wall
seconds on a shared machine.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torchmetrics.functional.image import lpips as torchmetrics_lpips
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from mvtokenflow.base.errors import UserError
from mvtokenflow.eval.metrics.compute import vgg
from mvtokenflow.eval.metrics.compute.lpips import LpipsNetwork
from mvtokenflow.eval.metrics.compute.region import flat_background
from mvtokenflow.eval.metrics.compute.resize import squash
from mvtokenflow.eval.metrics.psnr import psnr
from mvtokenflow.eval.metrics.ssim import ssim
from mvtokenflow.weights import ledger as weights

SIDE = 512
METHODS = 5
Scores = dict[tuple[int, int], tuple[float, float, float]]  # (frame, method): PSNR, SSIM, LPIPS


@dataclass
class Clock:
    """Best wall and CPU seconds over the rounds."""

    wall: float = float("inf")
    cpu: float = float("inf")
    scores: Scores = field(default_factory=dict)

    def time(self, run: Callable[[], Scores]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.scores = run()
        self.wall = min(self.wall, time.perf_counter() - wall)
        self.cpu = min(self.cpu, time.process_time() - cpu)


def procedural(frame: int) -> Image.Image:
    """Draw a textured figure on white, with another pose in each frame."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2.0
    angle = np.arctan2(y, x) + frame / 3
    inside = np.hypot(x, 0.9 * y) < 118 * (1 + 0.25 * np.sin(3 * angle))
    grain = np.random.default_rng(frame).normal(0, 12, (SIDE, SIDE, 3))
    waves = [120 + 70 * np.sin((x + 20 * c) / 11) * np.cos((y - 15 * c) / 8) for c in range(3)]
    picture = np.where(inside[..., None], np.stack(waves, -1) + grain, 255)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def on_white(path: Path) -> Image.Image:
    picture = Image.open(path).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def write_pictures(root: Path, truths: Sequence[Image.Image]) -> None:
    """Write `gt/<frame>.png` and, per method, a blurred and shifted copy as its prediction."""
    for frame, truth in enumerate(truths):
        for method in range(-1, METHODS):
            picture = truth
            if method >= 0:
                picture = Image.new("RGB", truth.size, "white")
                picture.paste(truth.filter(ImageFilter.GaussianBlur(0.5 + 0.5 * method)), (method + 1, 1))
            folder = root / ("gt" if method < 0 else f"method{method}")
            folder.mkdir(exist_ok=True)
            picture.save(folder / f"{frame}.png")


def read(root: Path, side: str, frame: int) -> Any:
    return squash(Image.open(root / side / f"{frame}.png"), (SIDE, SIDE))


def ours(root: Path, network: LpipsNetwork, frames: int, methods: int, pool: ThreadPoolExecutor) -> Scores:
    """Score with this package; frames are spread over threads of one core each, as the harness does."""

    def one(frame: int) -> Scores:
        gt = read(root, "gt", frame)
        gt_features = network.features(gt)
        scores = {}
        for method in range(methods):
            pred = read(root, f"method{method}", frame)
            distance = network.distance(network.features(pred), gt_features)
            scores[frame, method] = psnr(pred, gt), ssim(pred, gt), distance
        return scores

    return {key: value for part in pool.map(one, range(frames)) for key, value in part.items()}


@torch.inference_mode()
def published(root: Path, network: torch.nn.Module, frames: int, methods: int) -> Scores:
    """Score as the published scripts do, method by method and frame by frame, with torch's set threads."""
    scores = {}
    for method in range(methods):
        for frame in range(frames):
            pred, gt = (
                torch.from_numpy(read(root, side, frame)).float().permute(2, 0, 1)[None]
                for side in (f"method{method}", "gt")
            )
            scores[frame, method] = (
                float(peak_signal_noise_ratio(pred, gt, data_range=255.0)),
                float(structural_similarity_index_measure(pred, gt, data_range=255.0)),  # type: ignore[arg-type]
                float(network(pred / 127.5 - 1, gt / 127.5 - 1)),
            )
    return scores


def torchmetrics_network(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Build torchmetrics' own LPIPS-VGG with the same weights."""
    module: Any = torchmetrics_lpips
    with torch.device("meta"):  # nothing is initialised or downloaded; all weights are assigned below
        network = module._LPIPS(net="vgg", pretrained=False, pnet_rand=True)
    network.scaling_layer = module.ScalingLayer()
    named = {}
    for key, value in network.state_dict().items():
        if key.startswith("net.slice"):
            named[key] = state["features." + key.split(".", 2)[2]]
        elif key.startswith("lin"):
            named[key] = state[f"lin{key.split('.')[1] if key.startswith('lins.') else key[3]}.model.1.weight"]
        else:
            named[key] = value
    network.load_state_dict(named, assign=True, strict=True)
    return network.eval()  # type: ignore[no-any-return]


def products(image: Any) -> float:
    """GFLOP of the matrix products of `vgg` for a picture."""
    background = flat_background(image)
    active = np.ones(image.shape[:2], bool) if background is None else background[1]
    channels = {0: 3, 2: 64, 5: 64, 7: 128, 10: 128, 12: 256, 14: 256, 17: 256} | dict.fromkeys(
        range(18, 29), 512
    )
    outputs = {i: 64 if i < 5 else 128 if i < 10 else 256 if i < 17 else 512 for i in channels}
    total = 0.0
    for convolution, _ in vgg.steps():
        active = vgg.halve(active) if convolution is None else vgg.dilate(active)
        if convolution is not None:
            per_tile = 16 * 9 if convolution == 0 else 36
            total += (
                2 * per_tile * len(vgg.tile_places(active)[0]) * channels[convolution] * outputs[convolution]
            )
    return total / 1e9


def gemm_peak(threads: int) -> float:
    """Measure GFLOP/s of a 2048³ float32 matrix product."""
    torch.set_num_threads(threads)
    a = torch.rand(2048, 2048)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(a, a)
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best / 1e9


DENSE_GFLOP = sum(
    2 * 9 * inputs * outputs * (SIDE // 2**halvings) ** 2 / 1e9
    for inputs, outputs, halvings in (
        (3, 64, 0), (64, 64, 0), (64, 128, 1), (128, 128, 1), (128, 256, 2), (256, 256, 2), (256, 256, 2),
        (256, 512, 3), (512, 512, 3), (512, 512, 3), (512, 512, 4), (512, 512, 4), (512, 512, 4),
    )
)  # fmt: skip


def breakdown(root: Path, network: LpipsNetwork) -> None:
    """Print where one thread's time goes for one pair."""
    pred, gt = read(root, "method0", 0), read(root, "gt", 0)
    a, b = network.features(pred), network.features(gt)
    parts: dict[str, Callable[[], Any]] = {
        "decode and squash a picture": partial(read, root, "gt", 0),
        "PSNR": partial(psnr, pred, gt),
        "SSIM": partial(ssim, pred, gt),
        "LPIPS features of a picture": partial(network.features, gt),
        "LPIPS distance": partial(network.distance, a, b),
    }
    print(f"\none pair on one thread; features of the ground truth hold {b.nbytes / 2**20:.0f} MiB")
    for name, run in parts.items():
        times = []
        for _ in range(5):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        print(f"  {name:30s} {1e3 * min(times):8.1f} ms")


def report(name: str, mine: Clock, theirs: Clock, pairs: int) -> None:
    difference = [
        max(abs(mine.scores[key][k] - theirs.scores[key][k]) for key in theirs.scores) for k in range(3)
    ]
    print(f"\n{name}, seconds per pair      wall      CPU")
    print(f"  published computation      {theirs.wall / pairs:8.3f} {theirs.cpu / pairs:8.3f}")
    print(f"  ours                       {mine.wall / pairs:8.3f} {mine.cpu / pairs:8.3f}")
    print(f"  times faster               {theirs.wall / mine.wall:8.1f} {theirs.cpu / mine.cpu:8.1f}")
    print("  largest difference         PSNR {:.1e} dB, SSIM {:.1e}, LPIPS {:.1e}".format(*difference))


def bench(options: argparse.Namespace, root: Path) -> None:
    state = weights.load("lpips-vgg")
    paths = sorted(options.pictures.glob("*.png"))[: options.frames] if options.pictures else []
    if options.pictures and not paths:
        raise UserError(f"{options.pictures}: holds no *.png")
    truths = [on_white(path) for path in paths] or [procedural(frame) for frame in range(options.frames)]
    write_pictures(root, truths)
    network, peer = LpipsNetwork("vgg", state), torchmetrics_network(state)
    shown = [read(root, side, 0) for side in ("gt", "method0")]
    flat = [flat_background(picture) for picture in shown]
    covered = np.mean([1.0 if f is None else f[1].mean() for f in flat])
    setting = f"{len(truths)} frames, {covered:.0%} foreground, {options.threads} threads"
    print(f"{setting}, load {os.getloadavg()[0]:.1f}")

    results = {methods: (Clock(), Clock()) for methods in (1, METHODS)}
    with ThreadPoolExecutor(options.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        ours(root, network, len(truths), 1, pool)  # compiles the kernels, fills the background cache
        for _ in range(options.rounds):
            for methods, (mine, theirs) in results.items():
                torch.set_num_threads(options.threads)
                theirs.time(partial(published, root, peer, len(truths), methods))
                mine.time(partial(ours, root, network, len(truths), methods, pool))
    report("one method", *results[1], len(truths))
    report(f"{METHODS} methods sharing one ground truth", *results[METHODS], METHODS * len(truths))
    print("  (SSIM differs because torchmetrics' is computed in float32)")

    peak = gemm_peak(options.threads)
    need = sum(products(picture) for picture in shown)
    print(f"\narithmetic of LPIPS for a pair at {peak:.0f} GFLOP/s (float32 matrix product)")
    print(f"  dense convolutions           {2 * DENSE_GFLOP:6.1f} GFLOP {2 * DENSE_GFLOP / peak:8.3f} s")
    print(f"  what is computed here        {need:6.1f} GFLOP {need / peak:8.3f} s")
    torch.set_num_threads(1)
    breakdown(root, network)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="folder of PNG frames used as ground truth")
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            bench(options, Path(folder))
        except UserError as error:
            parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
