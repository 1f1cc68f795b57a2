"""Speed of the toy4d generator on one core: `OMP_NUM_THREADS=1 python benchmarks/toy4d.py`.

Prints training images per second (scene construction included; an image is RGB, alpha, normals and depth of
one view at 64 px), the floor the project requires, and the seconds to generate one benchmark scene on disk.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mvtokenflow.datasets.toy4d.dataset import Toy4D
from mvtokenflow.datasets.toy4d.render import render, render_flow
from mvtokenflow.datasets.toy4d.stream import ToyStream, six_views
from mvtokenflow.datasets.toy4d.toys import TRAINED_PLANS, Toy, make_toy
from mvtokenflow.views.cameras import Cameras

FLOOR = 300  # training images per second and core


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call, independent of other jobs on the machine."""
    start = time.process_time()
    work()
    return time.process_time() - start


def draw(toys: Sequence[Toy], cameras: Cameras) -> None:
    for toy in toys:
        render(toy, cameras, [0.3])


def move(toys: Sequence[Toy], cameras: Cameras) -> None:
    for toy in toys:
        render_flow(toy, cameras, [0.3], [0.4])


def main() -> None:
    stream = ToyStream(seed=0, batch_size=48)
    stream.batch(0)  # compiles
    images = 4 * 48 * 6
    rate = images / seconds(lambda: [stream.batch(k) for k in range(1, 5)])
    print(f"training stream, 64 px, 2x2 samples: {rate:.0f} images/s/core (floor {FLOOR})")

    toys = [make_toy(TRAINED_PLANS[k % 6], k) for k in range(120)]
    build = seconds(lambda: [make_toy(TRAINED_PLANS[k % 6], k) for k in range(120)]) / 120
    print(f"construction of a toy, fit included: {build * 1e3:.2f} ms")
    for size in (64, 128, 256):
        cameras = six_views(size)
        render_flow(toys[0], cameras, [0.3], [0.4])  # compiles
        picture = seconds(partial(draw, toys, cameras)) / (6 * len(toys))
        flow = seconds(partial(move, toys, cameras)) / (6 * len(toys))
        print(f"{size} px: render {1 / picture:.0f} images/s, flow and visibility {1 / flow:.0f} images/s")

    with tempfile.TemporaryDirectory() as folder:
        dataset = Toy4D(Path(folder))
        spent = [seconds(partial(dataset.scene, name)) for name in ("fish-01", "crab-01", "robot-01")]
    print(f"benchmark scene on disk (160 pictures, truth): {np.mean(spent):.1f} s CPU")


if __name__ == "__main__":
    main()
