"""Milliseconds of one rendering with its gradient: the CPU kernels, and the dense reference they replace.

    python benchmarks/raster.py   # several sizes
    python benchmarks/raster.py --count 20000 --size 256 --channels 3 --rounds 30

Gaussians fill a ball that covers half of a square picture, each about as large as its distance to the next. The
best of the rounds counts, since other programs only ever add time; the load of the machine is printed.
CPU milliseconds (of all threads, waiting included) show what a free core would need when the machine is busy.
The dense reference is timed on a few pixels and scaled to the picture: its cost is the same at every
pixel, and the whole would not fit into memory.
"""

import argparse
import os
import time
from collections.abc import Callable

import numba
import torch
from torch import Tensor

from mvtokenflow.splat.kernels import reference
from mvtokenflow.splat.rasterize import rasterize

SIZES = ((5_000, 128, 3), (20_000, 256, 3), (20_000, 256, 8), (50_000, 512, 3))
DENSE_PIXELS = 64


def ball(count: int, size: int, channels: int) -> dict[str, Tensor]:
    """Build a float32 scene for an ortho camera."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    distance = 0.8 * torch.rand(count, 1, generator=generator) ** (1 / 3)
    spacing = 0.8 * count ** (-1 / 3)
    pose = torch.eye(4)
    pose[2, 3] = 3.0
    return {
        "means": direction * distance,
        "quats": torch.randn(count, 4, generator=generator),
        "scales": 0.6 * spacing * torch.exp(0.4 * torch.randn(count, 3, generator=generator)),
        "opacities": torch.sigmoid(1.5 * torch.randn(count, generator=generator)),
        "colors": torch.rand(count, channels, generator=generator),
        "viewmats": pose[None],
        "Ks": torch.tensor([[[size / 2, 0, size / 2], [0, size / 2, size / 2], [0, 0, 1]]]),
        "backgrounds": torch.ones(1, channels),
    }


def best(rounds: int, run: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """Return the minimum forward and backward seconds."""
    times = [run() for _ in range(rounds)]
    return min(forward for forward, _ in times), min(backward for _, backward in times)


def time_cpu(
    scene: dict[str, Tensor], size: int, rounds: int, clock: Callable[[], float]
) -> tuple[float, float]:
    trained = ("means", "quats", "scales", "opacities", "colors")
    leaves = {name: value.clone().requires_grad_(name in trained) for name, value in scene.items()}
    weights = (torch.randn(1, size, size, scene["colors"].shape[1]), torch.randn(1, size, size, 1))

    def run() -> tuple[float, float]:
        start = clock()
        render, alpha, _ = rasterize(
            leaves["means"],
            leaves["quats"],
            leaves["scales"],
            leaves["opacities"],
            leaves["colors"],
            leaves["viewmats"],
            leaves["Ks"],
            size,
            size,
            camera_model="ortho",
            backgrounds=leaves["backgrounds"],
            backend="cpu",
        )
        middle = clock()
        torch.autograd.grad((render, alpha), [leaves[name] for name in trained], weights)
        return middle - start, clock() - middle

    run()  # compiles
    return best(rounds, run)


def time_dense(
    scene: dict[str, Tensor], size: int, rounds: int, clock: Callable[[], float]
) -> tuple[float, float]:
    """Time the dense compositing of all pixels, without its projection."""
    with torch.no_grad():
        seen = reference.project(
            scene["means"],
            scene["quats"],
            scene["scales"],
            scene["opacities"],
            scene["viewmats"],
            scene["Ks"],
            size,
            size,
            kind="ortho",
            near=0.01,
            far=1e10,
            eps2d=0.3,
            antialiased=False,
        )
        order = reference.depth_order(seen.depths[0])
    parts = (seen.means2d[0], seen.conics[0], seen.opacities[0], scene["colors"])
    leaves = [part[order].clone().requires_grad_() for part in parts]
    pixels = torch.rand(DENSE_PIXELS, 2) * size
    weights = (torch.randn(DENSE_PIXELS, scene["colors"].shape[1]), torch.randn(DENSE_PIXELS))

    def run() -> tuple[float, float]:
        start = clock()
        outputs = reference.composite_pixels(pixels, *leaves)
        middle = clock()
        torch.autograd.grad(outputs, leaves, weights)
        return middle - start, clock() - middle

    scale = size * size / DENSE_PIXELS
    forward, backward = best(max(2, rounds // 5), run)
    return forward * scale, backward * scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, help="Gaussians")
    parser.add_argument("--size", type=int, default=256, help="side of the picture in pixels")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    sizes = SIZES if options.count is None else ((options.count, options.size, options.channels),)
    threads = f"{numba.get_num_threads()} numba and {torch.get_num_threads()} torch threads"
    print(f"{threads}, load {os.getloadavg()[0]:.1f}")
    heads = "forward  backward  together  together, CPU     dense  times faster"
    print(f" Gaussians  size  channels   {heads}")
    for count, size, channels in sizes:
        scene = ball(count, size, channels)
        forward, backward = time_cpu(scene, size, options.rounds, time.perf_counter)
        cpu = sum(time_cpu(scene, size, options.rounds, time.process_time))
        dense = sum(time_dense(scene, size, options.rounds, time.perf_counter))
        together = forward + backward
        times = f"{1e3 * forward:9.1f} {1e3 * backward:9.1f} {1e3 * together:9.1f} {1e3 * cpu:14.1f}"
        print(f"{count:10d} {size:5d} {channels:9d} {times} {1e3 * dense:9.0f} {dense / together:13.0f}")
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
