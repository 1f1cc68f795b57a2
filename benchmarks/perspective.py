"""Cost of rendering without perspective where the video has it: rows of the method on toy4d-pinhole.

    python benchmarks/perspective.py -o out                                   # bird-01, quadruped-01, both rows
    python benchmarks/perspective.py -o out --methods true-views --scenes all

Every scene is reconstructed once and rendered three times: through the dataset's own pinhole cameras, through
orthographic ones that see as much at the distance of the origin, and through pinhole cameras a quarter farther
away (and as much at the origin). PSNR in dB and LPIPS (VGG, -1..1) on white at 128 px, every fourth frame, of
the input view and of the four evaluation views. Runs in OUT are read, never repeated.
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from consistency_measures import lpips_network

from mvtokenflow.base.files import write_json
from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.baselines.method import Setup
from mvtokenflow.baselines.mvtokenflow import Native
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.datasets.toy4d.dataset import Toy4DPinhole
from mvtokenflow.datasets.toy4d.scenes import DISTANCE, FOV_DEG, FRAMES, SCENES, SIZE
from mvtokenflow.eval.metrics.compute.lpips import LpipsNetwork
from mvtokenflow.eval.metrics.psnr import psnr
from mvtokenflow.eval.tables.render import stages_folder
from mvtokenflow.media.pictures import read_on_white
from mvtokenflow.method.placement import cameras_in_field
from mvtokenflow.views.cameras import Cameras, orbit

EVERY = 4
FARTHER = 1.25
HALF_WIDTH = DISTANCE * math.tan(math.radians(FOV_DEG / 2))  # of the picture at the origin, world units


def own(view: View) -> Cameras:
    """Return the dataset's camera."""
    assert view.cameras is not None
    return view.cameras


def orthographic(view: View) -> Cameras:
    """Return the view's camera without perspective."""
    return orbit((view.azimuth_deg,), size=SIZE, kind="ortho", radius=DISTANCE, half_width=HALF_WIDTH)


def farther(view: View) -> Cameras:
    """Return the view's camera at a quarter too large a distance."""
    radius = FARTHER * DISTANCE
    fov = 2 * math.degrees(math.atan(HALF_WIDTH / radius))
    return orbit((view.azimuth_deg,), size=SIZE, kind="pinhole", radius=radius, fov_deg=fov)


READINGS: Mapping[str, Callable[[View], Cameras]] = {"pinhole": own, "ortho": orthographic, "farther": farther}


def measure(scene: Scene, method: str, folder: Path, network: LpipsNetwork) -> dict[str, dict[str, float]]:
    """Compute means by rendering, then by "psnr input" and the like."""
    row = method_named(method, Setup(store=stages_folder(folder.parent.parent)))
    assert isinstance(row, Native)
    result = row.reconstruct(scene, 0, folder, lambda stage, done, total: None)
    times = np.linspace(0, 1, FRAMES)
    found: dict[str, dict[str, float]] = {}
    for name, reading in READINGS.items():
        values: dict[str, list[float]] = {}
        for view in (scene.input, *scene.views):
            group = "input" if view.name == "input" else "novel"
            cameras = cameras_in_field(reading(view), reading(scene.input), result.crop)
            for frame in range(0, FRAMES, EVERY):
                with torch.no_grad():
                    picture = result.field.render(cameras, float(times[frame])).rgb[0].clamp(0, 1)
                levels = (picture.numpy() * 255 + 0.5).astype(np.uint8)
                reference = read_on_white(view.frames[frame])
                values.setdefault(f"psnr {group}", []).append(psnr(levels, reference))
                distance = network.distance(network.features(levels), network.features(reference))
                values.setdefault(f"lpips {group}", []).append(distance)
        found[name] = {key: float(np.mean(some)) for key, some in values.items()}
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--scenes", nargs="+", default=["bird-01", "quadruped-01"], help="or all")
    parser.add_argument("--methods", nargs="+", default=["true-views", "mvtokenflow"])
    given = parser.parse_args(arguments)
    data, network = Toy4DPinhole(), lpips_network()
    print(f"{'':28} {'cameras':8}   PSNR input novel   LPIPS input novel")
    for method in given.methods:
        for name in SCENES if given.scenes == ["all"] else given.scenes:
            folder = given.output / method / name
            kept = folder / "values.json"
            if not kept.exists():
                write_json(kept, measure(data.scene(name), method, folder, network))
            for reading, values in json.loads(kept.read_bytes()).items():
                print(
                    f"{method + ' ' + name:28} {reading:8}   {values['psnr input']:10.2f} "
                    f"{values['psnr novel']:5.2f}   {values['lpips input']:11.4f} {values['lpips novel']:.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
