"""Time and memory of the paper's preset from a clip to a refined field, with random weights of Era3D's size.

    python benchmarks/paper_preset.py --device cuda -o paper_preset.json
    python benchmarks/paper_preset.py --device cuda --frames 32 --steps 40 --iterations 15000   # the paper's
    python benchmarks/paper_preset.py --tiny --iterations 4                                     # on a CPU

Nothing of `preset("paper")` is replaced but the counts given here; what was computed is read from the run's own
files. Weights do not change the cost, so none need be downloaded: a folder in Era3D's public layout is written
(`era3d_folder`), random but for a few channels that show the input in all views, since noise has no outline
that could be reconstructed; and RAFT's, random but for a last layer that outputs no motion. A real
checkpoint and real flow weights are used where they are given.

With two frames both are keyframes and no tokens are carried, hence the default of three. Gaussians are
added from step 500 on, which is why each stage runs for 700 steps; opacities would be reset at 3000.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from era3d_folder import Sizes, tiny_sizes, write_folder
from rich.console import Console
from rich.table import Table

from mvtokenflow.base.files import write_json
from mvtokenflow.base.progress import Progress
from mvtokenflow.datasets.toy4d.scenes import render_scene
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.media.video import Clip
from mvtokenflow.method.config import MethodConfig, preset
from mvtokenflow.method.pipeline import run
from mvtokenflow.multiview.checkpoint import load_era3d
from mvtokenflow.multiview.config import SquareConfig
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.splat.training_config import STAGES, Stage
from mvtokenflow.views.folder import FLOW_FILE

SCENE = "quadruped-01"
FULL, TINY = 512, 64
FOLDERS: dict[Stage, str] = {"static": "coarse/static", "coarse": "coarse/coarse", "refine": "refined/refine"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the benchmark; see the command's help."""

    frames: int = 3
    steps: int = 2
    iterations: int = 700
    size: int = FULL
    device: str = "cpu"
    checkpoint: Path | None = None
    flow: str = "raft_large"
    flow_weights: Path | None = None
    tiny: bool = False


def toy_clip(frames: int, size: int) -> Clip:
    """Render the front view of a toy."""
    times = [n / max(frames - 1, 1) for n in range(frames)]
    seen = render_scene(SCENE, six_views(size)[:1], times)
    return Clip(
        rgb=torch.from_numpy(seen.rgb[:, 0]).float().clamp(0, 1),
        alpha=torch.from_numpy(seen.alpha[:, 0]).float().clamp(0, 1),
        name=SCENE,
    )


def write_flow_weights(path: Path, name: str) -> Path:
    """Write random weights of torchvision's RAFT with zero updates, so that the flow is zero."""
    from torchvision.models import optical_flow

    torch.manual_seed(0)
    network = getattr(optical_flow, name)(weights=None)
    last = network.update_block.flow_head.conv2
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    torch.save(network.state_dict(), path)
    return path


def write_checkpoint(folder: Path, options: Options) -> None:
    """Write random weights, on a GPU in the type that the run loads them in."""
    sizes = tiny_sizes() if options.tiny else Sizes()
    if not options.tiny:
        sizes = replace(sizes, unet=sizes.unet | {"sample_size": options.size // 8})
    kind = torch.float16 if options.device.startswith("cuda") else torch.float32
    write_folder(folder, sizes, device=options.device, dtype=kind)
    if options.device.startswith("cuda"):
        torch.cuda.empty_cache()


def method(options: Options, checkpoint: Path, flow_weights: Path | None) -> MethodConfig:
    """Return the paper's preset with the counts of the options."""
    paper = preset("paper")
    stages = {name: getattr(paper.reconstruction, name) for name in STAGES}
    shorter = {
        name: replace(stage, iterations=min(stage.iterations, options.iterations))
        for name, stage in stages.items()
    }
    crop = round(paper.square.crop_size * options.size / paper.square.size)
    return replace(
        paper,
        prior=str(checkpoint),
        square=SquareConfig(size=options.size, crop_size=crop),
        sampling=replace(paper.sampling, steps=options.steps),
        flow=options.flow,
        flow_weights=None if flow_weights is None else str(flow_weights),
        reconstruction=replace(paper.reconstruction, **shorter),
    )


def loaded(options: Options, checkpoint: Path) -> MultiviewPrior | None:
    """Load the prior, or return None where the run loads it itself; other sizes have another configuration."""
    if options.size == FULL:
        return None
    kind = torch.float16 if options.device.startswith("cuda") else torch.float32
    return load_era3d(checkpoint, dtype=kind, device=options.device, strict=False)


def measure(options: Options, folder: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Run the preset in `folder` and read its output files."""
    began = time.perf_counter()
    checkpoint, flow_weights = options.checkpoint, options.flow_weights
    if checkpoint is None:
        checkpoint = folder / "era3d"
        write_checkpoint(checkpoint, options)
    if flow_weights is None and options.flow != "dis":
        flow_weights = write_flow_weights(folder / f"{options.flow}.pth", options.flow)
    config = method(options, checkpoint, flow_weights)
    clip = toy_clip(options.frames, options.size)
    prepared = time.perf_counter()
    prior = loaded(options, checkpoint)
    result = run(clip, config, folder / "run", 0, prior=prior, device=options.device, progress=progress)
    torch_device = torch.device(options.device)
    return {
        "options": {name: str(value) for name, value in asdict(options).items()},
        "device": torch.cuda.get_device_name(torch_device) if torch_device.type == "cuda" else "cpu",
        "versions": {"torch": torch.__version__},
        "seconds": {
            "weights and clip": round(prepared - began, 1),
            "run": round(time.perf_counter() - prepared, 1),
        },
        "stages": [asdict(cost) for cost in result.costs],
        "fits": {stage: fit(folder / "run" / path) for stage, path in FOLDERS.items()},
        "token_flow": {
            name: json.loads((folder / "run" / f"{name}.json").read_text())["token_flow"]
            for name in ("views", "regenerated")
        },
        "gaussians": len(result.field.gaussians),
        "entered": entered(folder / "run", config),
    }


def fit(folder: Path) -> dict[str, float]:
    """Read steps, speed, number of Gaussians and losses of one reconstruction stage."""
    rows = _rows(folder)
    first, last = rows[0], rows[-1]
    steps = last["step"] - first["step"]
    return {
        "steps": last["step"],
        "steps_per_s": round(steps / max(last["seconds"] - first["seconds"], 1e-3), 2),
        "gaussians_first": first["gaussians"],
        "gaussians_last": last["gaussians"],
        "loss_first": first["loss"],
        "loss_last": last["loss"],
    }


def entered(folder: Path, config: MethodConfig) -> dict[str, str]:
    """Report which parts of the preset were computed: how much of each, or "no" and why."""
    found = {}
    for name, what in (("views", "front view"), ("regenerated", "all views")):
        report = json.loads((folder / f"{name}.json").read_text())["token_flow"]
        passes, shares = report["passes"], report["own_share"]
        key = f"pass {1 + (name == 'regenerated')}: "
        found[key + "enlarged attention"] = _counted(passes.get("key", 0), "passes of the keyframes")
        found[key + f"propagation, {what}"] = _counted(
            passes.get("fill", 0), f"passes, {len(shares)} token grids", "every frame is a keyframe"
        )
        found[key + "late steps without propagation"] = _counted(passes.get("own", 0), "passes")
        found[key + "tokens hidden in both keyframes"] = (
            f"share {max(shares.values()):.3f}" if shares else "no, nothing was propagated"
        )
        with np.load(folder / name / FLOW_FILE) as arrays:
            found[key + f"optical flow, {config.flow}"] = _counted(
                int(arrays["visible"].sum()), "pixels visible"
            )
    for stage, path in FOLDERS.items():
        rows = _rows(folder / path)
        for term in ("image", "d_ssim", "mask", "normal", "flow", "arap"):
            values = [row[term] for row in rows if term in row]
            if values or not (stage == "static" and term in ("flow", "arap")):
                known = f"{values[0]:.4f} to {values[-1]:.4f}" if values and max(values) > 0 else "no, always 0"
                found[f"{stage}: loss {term}"] = known
        found |= {f"{stage}: {name}": text for name, text in _density(rows, config, stage).items()}
    return found


def _density(rows: list[dict[str, float]], config: MethodConfig, stage: Stage) -> dict[str, str]:
    """Report the number of Gaussians and the bands of a stage."""
    settings, density = config.reconstruction.stage(stage), config.reconstruction.density
    counts = [int(row["gaussians"]) for row in rows]
    before = config.reconstruction.steps_before(stage)
    last = before + settings.iterations
    changed = f"{counts[0]} to {counts[-1]} Gaussians" if len(set(counts)) > 1 else "no Gaussian needed it"
    if density is None or stage == "refine":
        texts = dict.fromkeys(("density control", "opacity reset"), "no, not in this stage")
    else:
        late = f"no, step {last} of all stages comes before step {density.start}"
        texts = {"density control": late if last <= density.start + density.every else changed}
        reset = f"no, steps {before + 1} to {last} of all stages are none of every {density.reset_every}"
        resets = last // density.reset_every > before // density.reset_every
        texts["opacity reset"] = "yes" if resets else reset
    if stage == "static":
        bands = min(
            settings.iterations // config.reconstruction.sh_every, config.reconstruction.field.sh_degree
        )
        texts["colour bands"] = f"{bands} of {config.reconstruction.field.sh_degree}"
    return texts


def _counted(count: int, what: str, otherwise: str = "none") -> str:
    return f"{count} {what}" if count else f"no, {otherwise}"


def _rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def show(found: Mapping[str, Any], console: Console) -> None:
    """Print three tables."""
    console.print(f"{found['device']}, torch {found['versions']['torch']}, {found['seconds']}")
    table = Table("stage", "seconds", "peak MiB")
    for cost in found["stages"]:
        table.add_row(cost["stage"], f"{cost['seconds']:.1f}", f"{cost['peak_mib']:.0f}")
    console.print(table)
    table = Table("fit", "steps", "steps/s", "Gaussians", "loss")
    for name, row in found["fits"].items():
        gaussians = f"{row['gaussians_first']} -> {row['gaussians_last']}"
        loss = f"{row['loss_first']:.4f} -> {row['loss_last']:.4f}"
        table.add_row(name, str(row["steps"]), f"{row['steps_per_s']:.1f}", gaussians, loss)
    console.print(table)
    table = Table("part of the preset", "entered")
    for name, text in found["entered"].items():
        table.add_row(name, text)
    console.print(table)
    for name, report in found["token_flow"].items():
        console.print(f"token flow of {name}: {report}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="denoising steps of both passes")
    parser.add_argument("--iterations", type=int, default=700, help="of each reconstruction stage, at most")
    parser.add_argument("--size", type=int, help="side of the pictures in px, 512 or another multiple of 64")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--checkpoint", type=Path, help="Era3D's folder; otherwise random weights are written")
    parser.add_argument("--flow", default="raft_large", choices=("raft_large", "raft_small", "dis"))
    parser.add_argument("--flow-weights", type=Path, help="of RAFT; otherwise random ones are written")
    parser.add_argument("--tiny", action="store_true", help="a small random network for 64 px, for a CPU")
    parser.add_argument("--work", type=Path, help="folder of the run; an existing one is resumed")
    parser.add_argument("-o", "--out", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    """Run, print and save."""
    given = _arguments()
    names = ("frames", "steps", "iterations", "device", "checkpoint", "flow", "flow_weights", "tiny")
    size = given.size or (TINY if given.tiny else FULL)
    options = Options(size=size, **{name: getattr(given, name) for name in names})
    console = Console(width=110)
    started: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage not in started or done == total:
            started.append(stage)
            console.print(f"{time.strftime('%H:%M:%S')} {stage} {done}/{total}")

    with tempfile.TemporaryDirectory() as temporary:
        folder = given.work or Path(temporary)
        found = measure(options, folder, progress)
    if given.out is not None:
        write_json(given.out, found)
    show(found, console)


if __name__ == "__main__":
    main()
