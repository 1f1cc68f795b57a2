"""Fit flat Gaussians to a picture by gradient descent, with the rasterizer and nothing else of the product.

    python examples/rasterizer_alone.py picture.png fitted.png

The interface is gsplat's. CPU tensors take the compiled kernels, CUDA tensors gsplat's.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from mvtokenflow import rasterize
from mvtokenflow.media.pictures import read_on_white, to_uint8, write_png


def fit(target: Tensor, count: int = 400, steps: int = 200) -> tuple[Tensor, list[float]]:
    """Fit Gaussians in the plane z = 1, seen by one orthographic camera.

    Args:
        target: (H, W, 3) in [0, 1].

    Returns:
        The picture (H, W, 3) after the last step, and the mean squared error of every step.
    """
    height, width = target.shape[:2]
    draws = torch.Generator().manual_seed(0)
    places = torch.rand(count, 2, generator=draws) * 2 - 1
    means = torch.cat((places, torch.ones(count, 1)), dim=1).requires_grad_()
    log_scales = torch.full((count, 3), -2.5).requires_grad_()
    logits = torch.zeros(count).requires_grad_()
    colours = torch.rand(count, 3, generator=draws).requires_grad_()
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1)
    camera = torch.eye(4)[None]
    # An orthographic camera has its focal lengths in pixels per world unit: -1 to 1 fills the picture.
    intrinsics = torch.tensor([[[width / 2, 0, width / 2], [0, height / 2, height / 2], [0, 0, 1]]])
    optimizer = torch.optim.Adam([means, log_scales, logits, colours], lr=0.02)
    losses = []
    for _ in range(steps):
        scales, opacities = log_scales.exp(), logits.sigmoid()
        picture, _, _ = rasterize(
            *(means, quats, scales, opacities, colours, camera, intrinsics, width, height),
            camera_model="ortho",
            backgrounds=torch.ones(1, 3),
        )
        loss = (picture[0] - target).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return picture[0].detach(), losses


if __name__ == "__main__":
    pixels = read_on_white(Path(sys.argv[1]))
    fitted, errors = fit(torch.from_numpy(pixels).float() / 255)
    write_png(Path(sys.argv[2]), to_uint8(fitted.numpy(), "picture"))
    print(f"mean squared error {errors[0]:.5f} -> {errors[-1]:.5f}")
