"""The README's picture of the method, from the runs of `make table1`.

    python benchmarks/method_picture.py runs -o docs/images/method.png

Each row is a scene at one time: the input's frame, renderings of the field at 128 px, and its normals.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvtokenflow.datasets.toy4d.scenes import SIZE, render_scene
from mvtokenflow.datasets.toy4d.stream import RADIUS
from mvtokenflow.eval.records.rows import load_runs
from mvtokenflow.media.pictures import write_png
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.io import load_field
from mvtokenflow.views.cameras import orbit

SCENES = ("quadruped-01", "vehicle-01")
TIMES = (0.25, 0.75)
COLOURS = (0.0, 15.0, 105.0, 195.0, 285.0)  # degrees
NORMALS = (15.0, 105.0)


@torch.no_grad()
def row(scene: str, field: DynamicField, time: float) -> Tensor:
    """Draw one row (H, W, 3) in [0, 1]."""
    cameras = orbit((0.0,), size=SIZE, kind="ortho", radius=RADIUS)
    seen = render_scene(scene, cameras, np.array([time]))
    rgb, alpha = torch.from_numpy(seen.rgb)[0, 0], torch.from_numpy(seen.alpha)[0, 0]
    blocks = [rgb * alpha + 1 - alpha]
    blocks += list(field.render(orbit(COLOURS, size=SIZE, kind="ortho", radius=RADIUS), time).rgb)
    picture = field.render(orbit(NORMALS, size=SIZE, kind="ortho", radius=RADIUS), time)
    normal, valid = picture.normals
    blocks += list(torch.where(valid[..., None], (normal + 1) / 2, torch.ones(3)))
    return torch.cat(blocks, dim=1).clamp(0, 1)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    fields = {
        run.manifest.scene: load_field(run.folder / "work" / "refined" / "refine" / "field.safetensors")
        for run in load_runs(given.runs)
        if run.manifest.method == "mvtokenflow" and run.manifest.scene in SCENES
    }
    missing = [scene for scene in SCENES if scene not in fields]
    if missing:
        raise SystemExit(f"{given.runs}: no run of mvtokenflow on {', '.join(missing)}; run mvtf-eval table1")
    rows = [row(scene, fields[scene], time) for scene in SCENES for time in TIMES]
    pixels: NDArray[np.uint8] = (torch.cat(rows) * 255).round().to(torch.uint8).numpy()
    write_png(given.out, pixels)


if __name__ == "__main__":
    main()
