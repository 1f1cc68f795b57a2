"""Write one picture of a toy world: every scene in the input view and the four evaluation views.

    python benchmarks/world_picture.py toy4d-wild -o docs/images/toy4d-wild.png

Scenes of a plan stand in a row, at the first frame; each is its input view, then −75, 15, 105 and 195 degrees,
at half the benchmark's size.
"""

import argparse
from itertools import groupby
from pathlib import Path

import numpy as np

from mvtokenflow.base import terminal
from mvtokenflow.base.files import choose
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.scenes import SAMPLES, WORLDS, scene_toy
from mvtokenflow.media.pictures import to_uint8, write_png
from mvtokenflow.views.cameras import orbit

SIZE = 64
GAP = 12  # pixels between scenes


def scene_strip(name: str, azimuths: tuple[float, ...]) -> np.ndarray:
    """Return the views of a scene side by side, (SIZE, V SIZE + GAP, 3) uint8."""
    seen = render(scene_toy(name), orbit(azimuths, size=SIZE, kind="ortho", radius=3.0), [0.0], samples=SAMPLES)
    white = to_uint8(np.clip(seen.rgb[0] * seen.alpha[0] + 1 - seen.alpha[0], 0, 1))
    return np.concatenate([*white, np.full((SIZE, GAP, 3), 255, np.uint8)], 1)


def _run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world")
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    world = choose("world", given.world, {world.name: world for world in WORLDS})
    azimuths = tuple(world.views.values())
    rows = []
    for _, names in groupby(world.scenes, lambda name: world.scenes[name][0]):
        strips = [scene_strip(name, azimuths) for name in names]
        rows.append(np.concatenate(strips, 1))
    width = max(row.shape[1] for row in rows)
    filled = [np.pad(row, ((0, GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    write_png(given.out, np.concatenate(filled))


if __name__ == "__main__":
    terminal.run(_run)
