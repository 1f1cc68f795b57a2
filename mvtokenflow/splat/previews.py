"""Preview pictures of a reconstruction: targets above renderings, one column per view."""

from pathlib import Path

import torch
from torch import Tensor

from mvtokenflow.media.pictures import Pixels, write_png
from mvtokenflow.splat.field import DynamicField, render_gaussians
from mvtokenflow.views.video import MultiviewVideo


def strip(targets: Tensor, renderings: Tensor) -> Pixels:
    """Stack targets in the first row and renderings in the second.

    Args:
        targets, renderings: (V, H, W, 3) in [0, 1]; values outside are clipped.

    Returns:
        (2 H, V W, 3) uint8.
    """
    rows = [torch.cat(list(row.detach().clamp(0, 1)), dim=1) for row in (targets, renderings)]
    pixels: Pixels = (torch.cat(rows) * 255).round().to(torch.uint8).cpu().numpy()
    return pixels


def psnr(image: Tensor, target: Tensor) -> float:
    """Compute the peak signal-to-noise ratio in dB of pictures in [0, 1], over all values."""
    error = (image.clamp(0, 1) - target).square().mean().clamp_min(1e-10)
    return float(-10 * torch.log10(error))


@torch.no_grad()
def write_comparison(path: Path, field: DynamicField, video: MultiviewVideo) -> float:
    """Write a PNG of all views of the first, middle and last frame, targets above renderings, on white.

    Returns:
        The PSNR in dB on white, mean over all frames and views.
    """
    shown = sorted({0, len(video) // 2, len(video) - 1})
    values, rows = [], []
    for frame, time in enumerate(video.times.tolist()):
        target = video.rgb[frame] * video.alpha[frame] + 1 - video.alpha[frame]
        seen = render_gaussians(field.at(time), video.cameras).rgb
        values += [psnr(one, other) for one, other in zip(seen, target, strict=True)]
        if frame in shown:
            rows.append(torch.from_numpy(strip(target, seen)))
    write_png(path, torch.cat(rows).numpy())
    return sum(values) / len(values)
