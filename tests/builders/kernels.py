"""Compiles the functions that most tests use, so that several test processes need not compile them at once.

`make test` runs this while mypy runs; without it the tests take longer and give the same results.
"""

import numpy as np
import torch

from mvtokenflow.datasets.toy4d.render import render, render_flow
from mvtokenflow.datasets.toy4d.toys import make_toy
from mvtokenflow.eval.metrics.ssim import ssim
from mvtokenflow.splat.losses import d_ssim
from mvtokenflow.splat.rasterize import rasterize
from mvtokenflow.views.cameras import orbit


def compile_all() -> None:
    """Call each function once, on next to nothing."""
    camera = orbit([0.0], 0.0, size=16, kind="ortho", radius=3.0)
    means = torch.zeros(2, 3, requires_grad=True)
    turned, sizes = torch.tensor([[1.0, 0, 0, 0]]).expand(2, 4), torch.full((2, 3), 0.1)
    picture, _, _ = rasterize(
        means,
        turned,
        sizes,
        torch.ones(2),
        torch.ones(2, 3),
        camera.world_to_camera,
        camera.intrinsics,
        16,
        16,
        camera_model="ortho",
    )
    torch.autograd.backward(d_ssim(picture[0], torch.zeros(16, 16, 3)))
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    ssim(noise, noise // 2)
    toy = make_toy("fish", 0)
    render(toy, camera, [0.0])
    render_flow(toy, camera, [0.0], [0.1])


if __name__ == "__main__":
    compile_all()
