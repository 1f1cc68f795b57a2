"""Value of the training pixel's low-pass: finished fields rendered with it, and as plain 3DGS.

    mvtf-eval table1 --runs runs
    python benchmarks/low_pass.py runs                             # rows of the method on toy4d
    python benchmarks/low_pass.py runs --methods true-views --pictures out

PSNR in dB on white at 128 px, every fourth frame, of the input view and of the four evaluation views. Plain
3DGS adds 0.3 px² of the rendered picture, as earlier versions did. With `--pictures` a PNG for
each scene shows, at 64, 128 and 512 px, the truth, plain 3DGS, and the training pixel's low-pass.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvtokenflow.datasets.toy4d.scenes import FRAMES, SIZE, VIEWS, render_scene
from mvtokenflow.datasets.toy4d.stream import RADIUS
from mvtokenflow.eval.records.rows import Run, load_runs
from mvtokenflow.media.pictures import write_png
from mvtokenflow.splat.field import DynamicField, render_gaussians
from mvtokenflow.splat.io import load_field
from mvtokenflow.splat.previews import psnr
from mvtokenflow.views.cameras import Cameras, orbit

EVERY = 4
SIZES = (64, 128, 512)  # sizes of the saved pictures
SHOWN = ("input", "eval_0")
LAST = ("refined/refine", "coarse/coarse")  # folders of a run's last field


def last_field(run: Run) -> DynamicField:
    """Load the field that a run's pictures were rendered from."""
    found = next(path for stage in LAST if (path := run.folder / "work" / stage / "field.safetensors").exists())
    return load_field(found)


def drawn(field: DynamicField, cameras: Cameras, time: float, *, plain: bool) -> Tensor:
    """Render (C, H, W, 3) on white, clamped."""
    moment = field.at(time)
    return render_gaussians(replace(moment, pixel=None) if plain else moment, cameras).rgb.clamp(0, 1)


def truth(scene: str, cameras: Cameras, times: NDArray[np.float64]) -> Tensor:
    """Render the true pictures (T, C, H, W, 3) on white."""
    seen = render_scene(scene, cameras, times)
    rgb, alpha = torch.from_numpy(seen.rgb), torch.from_numpy(seen.alpha)
    return (rgb * alpha + 1 - alpha).clamp(0, 1)


@torch.no_grad()
def compare(scene: str, field: DynamicField) -> dict[str, float]:
    """Compute PSNR by view group and low-pass."""
    times = np.arange(0, FRAMES, EVERY) / (FRAMES - 1)
    cameras = orbit(tuple(VIEWS.values()), size=SIZE, kind="ortho", radius=RADIUS)
    groups = ["input" if view == "input" else "novel" for view in VIEWS]
    wanted = truth(scene, cameras, times)
    values: dict[str, list[float]] = {}
    for plain in (True, False):
        for frame, time in enumerate(times.tolist()):
            for group, one, other in zip(
                groups, drawn(field, cameras, time, plain=plain), wanted[frame], strict=True
            ):
                values.setdefault(f"{group} {'plain' if plain else 'own'}", []).append(psnr(one, other))
    return {name: sum(found) / len(found) for name, found in values.items()}


@torch.no_grad()
def picture(scene: str, field: DynamicField, time: float = 0.5) -> NDArray[np.uint8]:
    """Draw (H, W, 3): a row per size, enlarged to the largest: truth, plain, own; one block per view."""
    rows = []
    for size in SIZES:
        cameras = orbit([VIEWS[view] for view in SHOWN], size=size, kind="ortho", radius=RADIUS)
        columns = [
            truth(scene, cameras, np.array([time]))[0],
            drawn(field, cameras, time, plain=True),
            drawn(field, cameras, time, plain=False),
        ]
        blocks = torch.stack(columns, dim=1).flatten(0, 1)  # view by view, its three pictures side by side
        factor = max(SIZES) // size
        large = blocks.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        rows.append(torch.cat(list(large), dim=1))
    pixels: NDArray[np.uint8] = (torch.cat(rows) * 255).round().to(torch.uint8).numpy()
    return pixels


def print_table(rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print one line for each run."""
    width = max(map(len, rows))
    print(f"{'':{width}}   input: plain   own      novel: plain   own")
    for name, row in rows.items():
        print(
            f"{name:{width}}   {row['input plain']:12.2f} {row['input own']:6.2f}"
            f"   {row['novel plain']:14.2f} {row['novel own']:6.2f}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--methods", nargs="+", default=["mvtokenflow", "true-views"])
    parser.add_argument("--pictures", type=Path, help="folder of PNGs")
    given = parser.parse_args(arguments)
    rows: dict[str, dict[str, float]] = {}
    for run in load_runs(given.runs):
        if run.manifest.dataset != "toy4d" or run.manifest.method not in given.methods:
            continue
        field = last_field(run)
        rows[f"{run.manifest.method} {run.manifest.scene}"] = compare(run.manifest.scene, field)
        if given.pictures is not None:
            path = given.pictures / f"{run.manifest.method}-{run.manifest.scene}.png"
            write_png(path, picture(run.manifest.scene, field))
    if not rows:
        raise SystemExit(f"{given.runs}: no finished run of {', '.join(given.methods)} on toy4d")
    means = {name: float(np.mean([row[name] for row in rows.values()])) for name in next(iter(rows.values()))}
    print_table({**rows, "mean": means})


if __name__ == "__main__":
    main()
