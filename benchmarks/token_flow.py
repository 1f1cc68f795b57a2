"""Time and memory of a denoising step with token flow, and the effect of propagation on toy4d features.

    python benchmarks/token_flow.py                     # both parts
    python benchmarks/token_flow.py --part cost --frames 16,32 --rounds 3
    python benchmarks/token_flow.py --part features

Cost: a network for 64 px pictures (16x16 and 8x8 tokens, 64 and 128 channels, six views, no guidance, random
weights) over all frames of a clip in float32, with flow of an object that fills two thirds of the picture and
of which a fifth is hidden. The best of the rounds counts, since other programs only ever add time; CPU seconds
(of all threads) show what a free core would need when the machine is busy. Record is the size of the
keyframes' record, own tokens are those that keep their own attention at either token grid.

Features: the colour of every token of toy4d's front view stands for a feature, with independent noise in each
frame for the inconsistency of a generated clip. Keyframe features are propagated by exact and by estimated
flow. *Error* is the distance to the clean feature; *warp error* that between a frame and its successor along
the exact flow, visible as flicker. Without propagation both are those of the noise.
*Misplaced* is the error of propagated clean features, from wrong flow, hidden parts and sampling.
"""

import argparse
import os
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from mvtokenflow.datasets.toy4d.render import render, render_flow
from mvtokenflow.datasets.toy4d.scenes import FRAMES, scene_toy
from mvtokenflow.datasets.toy4d.stream import RADIUS
from mvtokenflow.flow.estimate import DisEstimator
from mvtokenflow.flow.keyframes import KeyframeFlow, estimate_keyframe_flow, keyframe_flow, keyframes
from mvtokenflow.flow.ops import warp
from mvtokenflow.multiview.passes import Step
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.tokenflow.config import TokenFlowConfig
from mvtokenflow.tokenflow.controller import TokenFlow, TokenFlowReport
from mvtokenflow.tokenflow.warp import fetch, plan_frames
from mvtokenflow.views.cameras import orbit

VIEWS, SIDE, SIZE = 6, 16, 64
CASES: tuple[tuple[str, str, str], ...] = (
    ("independent frames", "off", "none"),
    ("keyframes + own", "keyframes+own", "none"),
    ("keyframes + own, front filled", "keyframes+own", "front"),
    ("keyframes + own, all filled", "keyframes+own", "all"),
    ("all frames", "all", "none"),
    ("all frames, front filled", "all", "front"),
    ("all frames, all filled", "all", "all"),
)


def make_network() -> MultiviewUNet:
    """Build a network of the small prior's size with random weights, on which time does not depend."""
    torch.manual_seed(0)
    return MultiviewUNet.from_config(
        {
            "in_channels": 96,
            "out_channels": 48,
            "block_out_channels": [64, 128],
            "down_block_types": ["CrossAttnDownBlockMV2D"] * 2,
            "up_block_types": ["CrossAttnUpBlockMV2D"] * 2,
            "layers_per_block": 2,
            "attention_head_dim": [2, 4],
            "cross_attention_dim": 64,
            "projection_class_embeddings_input_dim": 64,
            "regress_elevation": False,
            "regress_focal_length": False,
        }
    ).eval()


def make_flows(frames: int, views: int) -> KeyframeFlow:
    """Build flow of a disc of two thirds of the picture, a quarter pixel per frame, a tenth of it hidden."""
    row, column = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    disc = ((row - SIZE / 2) ** 2 + (column - SIZE / 2) ** 2 < 0.21 * SIZE**2).float()
    alpha = disc.expand(frames, views, SIZE, SIZE).contiguous()
    seen = (row < 0.78 * SIZE).expand(views, SIZE, SIZE)

    def between(n: int, key: int) -> tuple[Tensor, Tensor]:
        return torch.tensor([0.25 * (key - n), 0.0]).expand(views, SIZE, SIZE, 2), seen

    return keyframe_flow(between, alpha, keyframes(frames, 8), range(views))


@torch.no_grad()
def run_step(unet: MultiviewUNet, controller: TokenFlow, frames: int, chunk: int) -> None:
    """Run the network over all frames of a clip at one noise level."""
    at = Step(index=0, count=40, timestep=999, frames=frames, views=VIEWS, halves=1, chunk=chunk)
    config = unet.config
    for current in controller.passes(at):
        count = 2 * len(current.frames) * VIEWS
        sample = torch.randn(count, config.in_channels, SIDE, SIDE)
        context = torch.randn(count, 4, config.cross_attention_dim)
        labels = torch.randn(count, config.projection_class_embeddings_input_dim)
        with controller.running(at, current):
            unet(sample, torch.tensor(999), context, labels)


def time_case(
    unet: MultiviewUNet, enlarged: str, propagation: str, frames: int, rounds: int
) -> tuple[float, float, float, TokenFlowReport]:
    """Measure wall seconds, CPU seconds, those of attn1 alone (CPU), and the report."""
    config = TokenFlowConfig(enlarged=enlarged, propagation=propagation)  # type: ignore[arg-type]  # from CASES
    views = {"none": 0, "front": 1, "all": VIEWS}[propagation]
    flows = make_flows(frames, views) if views else None
    walls, spent, inner = [], [], []
    with TokenFlow(unet, config, flows) as controller:
        attention = AttentionClock(unet)
        for _ in range(rounds):
            attention.seconds = 0.0
            started, began = time.perf_counter(), time.process_time()
            run_step(unet, controller, frames, chunk=4)
            walls.append(time.perf_counter() - started)
            spent.append(time.process_time() - began)
            inner.append(attention.seconds)
        attention.remove()
        return min(walls), min(spent), min(inner), controller.report()


class AttentionClock:
    """Measures CPU seconds in the modules attn1."""

    def __init__(self, unet: MultiviewUNet) -> None:
        self.seconds = 0.0
        self._hooks = []
        for name, module in unet.named_modules():
            if name.endswith(".attn1"):
                self._hooks.append(module.register_forward_pre_hook(self._start))
                self._hooks.append(module.register_forward_hook(self._stop))

    def _start(self, *_: object) -> None:
        self._began = time.process_time()

    def _stop(self, *_: object) -> None:
        self.seconds += time.process_time() - self._began

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()


def report_cost(frames: Sequence[int], rounds: int) -> None:
    """Print one table per number of frames."""
    unet = make_network()
    for count in frames:
        print(
            f"\n{count} frames, seconds per step; load {os.getloadavg()[0]:.1f}, "
            f"{torch.get_num_threads()} threads"
        )
        print(f"{'':32} {'wall':>7} {'CPU':>7} {'attn1':>7} {'record MB':>10} {'own tokens':>11}")
        for title, enlarged, propagation in CASES:
            wall, cpu, attention, report = time_case(unet, enlarged, propagation, count, rounds)
            left = " ".join(f"{share:.0%}" for share in report.own_share.values()) or "-"
            held = report.record_bytes / 1e6
            print(f"{title:32} {wall:7.2f} {cpu:7.2f} {attention:7.2f} {held:10.1f} {left:>11}", flush=True)


def toy_clip(scene: str) -> tuple[Tensor, Tensor, KeyframeFlow, Tensor, Tensor]:
    """Render a scene's front view with exact flow.

    Returns:
        frames on white (T, H, W, 3), alpha (T, H, W), flow to keyframes, flow to the next frame
        (T-1, H, W, 2) and its visibility (T-1, H, W).
    """
    toy, cameras = scene_toy(scene), orbit((0.0,), size=SIZE, kind="ortho", radius=RADIUS)
    times = [n / (FRAMES - 1) for n in range(FRAMES)]
    picture = render(toy, cameras, times, samples=3)
    rgb, alpha = torch.from_numpy(picture.rgb[:, 0]), torch.from_numpy(picture.alpha[:, 0])

    def between(n: int, key: int) -> tuple[Tensor, Tensor]:
        motion = render_flow(toy, cameras, times[n : n + 1], times[key : key + 1])
        return torch.from_numpy(motion.flow[0]), torch.from_numpy(motion.visible[0])

    keys = keyframes(FRAMES, 8)
    exact = keyframe_flow(between, alpha[..., 0][:, None], keys, (0,))
    following = render_flow(toy, cameras, times[:-1], times[1:])
    motion, seen = torch.from_numpy(following.flow[:, 0]), torch.from_numpy(following.visible[:, 0])
    return (rgb * alpha + 1 - alpha).clamp(0, 1), alpha[..., 0], exact, motion, seen


def tokens_of(pictures: Tensor, side: int) -> Tensor:
    """Average pictures over tokens, (T, side, side, C)."""
    pooled = torch.nn.functional.adaptive_avg_pool2d(pictures.permute(0, 3, 1, 2), side)
    return pooled.permute(0, 2, 3, 1)


def propagate(features: Tensor, flows: KeyframeFlow, **options: bool | float | str) -> tuple[Tensor, float]:
    """Propagate features (T, side, side, C) between keyframes; also return the share left unchanged."""
    count, side = features.shape[:2]
    plans = plan_frames(flows, side, torch.device("cpu"), **options)  # type: ignore[arg-type]  # forwarded
    known = features[list(flows.keyframes)].view(1, len(flows.keyframes), 1, side**2, -1)
    out = features.clone()
    for n, plan in plans.items():
        filled = fetch(known, plan).view(side**2, -1)
        own = plan.weight.sum(dim=1) == 0
        out[n] = torch.where(own[:, None], features[n].view(side**2, -1), filled).view(side, side, -1)
    return out, sum(plan.own_share for plan in plans.values()) / count


def measure(
    features: Tensor, clean: Tensor, exact: KeyframeFlow, motion: Tensor, seen: Tensor
) -> tuple[float, float]:
    """Root mean squared error to the clean features, and between neighbours along the exact flow.

    Both on object tokens.
    """
    side = features.shape[1]
    on_object = exact.pooled(side).on_object[:, 0]
    between = torch.tensor([n not in exact.keyframes for n in range(len(features))])
    error = (features - clean)[between][on_object[between]].square().mean().sqrt()
    # Features are looked up at pixels: a token's value holds for all of its pixels.
    fine = features.repeat_interleave(SIZE // side, 1).repeat_interleave(SIZE // side, 2)
    fine_clean = clean.repeat_interleave(SIZE // side, 1).repeat_interleave(SIZE // side, 2)
    noise = fine - fine_clean
    flicker = (warp(noise[1:], motion, "nearest") - noise[:-1])[seen].square().mean().sqrt()
    return float(error), float(flicker)


def report_features(scenes: Sequence[str], noise: float) -> None:
    """Print errors for exact and estimated flow at 32x32, 16x16 and 8x8 tokens, means over scenes."""
    variants: dict[str, dict[str, bool | float | str]] = {
        "": {},
        ", nearest": {"interpolation": "nearest"},
        ", literal weight": {"literal_lambda": True},
        ", hidden tokens warped too": {"own_where_hidden": False},
    }
    rows: dict[tuple[int, str], list[tuple[float, ...]]] = {}
    for scene in scenes:
        frames, alpha, exact, motion, seen = toy_clip(scene)
        estimated = estimate_keyframe_flow(frames, alpha, exact.keyframes, DisEstimator())
        still = keyframe_flow(
            lambda n, key: (torch.zeros(1, SIZE, SIZE, 2), torch.ones(1, SIZE, SIZE, dtype=torch.bool)),
            exact.alpha,
            exact.keyframes,
            (0,),
        )
        for side in (2 * SIDE, SIDE, SIDE // 2):
            clean = tokens_of(frames, side)
            draws = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
            noisy = clean + noise * draws
            rows.setdefault((side, "no propagation"), []).append(
                (*measure(noisy, clean, exact, motion, seen), 0.0, 1.0)
            )
            for title, flows in (("exact flow", exact), ("DIS flow", estimated), ("no motion", still)):
                for name, options in variants.items():
                    out, own = propagate(noisy, flows, **options)
                    misplaced, _ = measure(propagate(clean, flows, **options)[0], clean, exact, motion, seen)
                    values = (*measure(out, clean, exact, motion, seen), misplaced, own)
                    rows.setdefault((side, title + name), []).append(values)
    print(f"\nfeatures with noise {noise}, means over {', '.join(scenes)}")
    print(f"{'tokens':>7} {'':38} {'error':>7} {'flicker':>8} {'misplaced':>10} {'own':>6}")
    for (side, title), found in sorted(rows.items(), key=lambda row: -row[0][0]):
        error, flicker, misplaced, own = torch.tensor(found).mean(dim=0).tolist()
        print(f"{side:4}x{side:<2} {title:38} {error:7.4f} {flicker:8.4f} {misplaced:10.4f} {own:6.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("cost", "features", "both"), default="both")
    parser.add_argument("--frames", default="16,32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--scenes", default="quadruped-01,bird-01,fish-01,robot-01,crab-02")
    parser.add_argument("--noise", type=float, default=0.1)
    arguments = parser.parse_args()
    if arguments.part != "features":
        report_cost([int(count) for count in arguments.frames.split(",")], arguments.rounds)
    if arguments.part != "cost":
        report_features(arguments.scenes.split(","), arguments.noise)


if __name__ == "__main__":
    main()
