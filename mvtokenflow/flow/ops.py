"""Optical flow as tensors: warping, composition, visibility, resizing; pure functions for CPU and CUDA.

Flow is (..., H, W, 2), (dx, dy) in pixels, on the grid of the source frame: the surface at pixel x of the
source lies at x + flow(x) in the target. Backward warping brings a target's features to this grid.
Pixel centres are at +0.5, so a point belongs to the picture while its index lies in [-0.5, size - 0.5].
Estimators are in `estimate`, flow to keyframes in `keyframes`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mvtokenflow.flow.config import Interpolation

# Sundaram, Brox and Keutzer, "Dense Point Trajectories by GPU-Accelerated Large Displacement Optical Flow"
# (ECCV 2010), eq. 4: a share of the squared lengths of both flows, and squared pixels.
ROUND_TRIP_SHARE = 0.01
ROUND_TRIP_SLACK_PX2 = 0.5


def positions(flow: Tensor) -> Tensor:
    """Return each source pixel's target (x, y) in pixel indices, (..., H, W, 2); centres are integers."""
    height, width = flow.shape[-3:-1]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)
    return flow + torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def inside(flow: Tensor) -> Tensor:
    """Return whether the target position lies in the picture, (..., H, W) bool."""
    size = torch.tensor([flow.shape[-2], flow.shape[-3]], device=flow.device, dtype=flow.dtype)
    where = positions(flow)
    return ((where >= -0.5) & (where <= size - 0.5)).all(dim=-1)


def warp(target: Tensor, flow: Tensor, interpolation: Interpolation = "bilinear") -> Tensor:
    """Warp the target frame backward onto the grid of the source: out(x) = target(x + flow(x)).

    Args:
        target: (..., H, W, C) any features of the target frame.
        flow: (..., H, W, 2) from source to target, with equal leading sizes.
        interpolation: bilinear or nearest; positions outside take the value at the border.

    Returns:
        (..., H, W, C) in the type of `target`; positions are computed in float32 at least.
    """
    if target.shape[:-1] != flow.shape[:-1] or flow.shape[-1] != 2:
        raise ValueError(
            f"target {tuple(target.shape)} and flow {tuple(flow.shape)} do not fit; expected "
            "(..., H, W, C) and (..., H, W, 2)"
        )
    exact = torch.promote_types(flow.dtype, torch.float32)
    height, width, channels = target.shape[-3:]
    size = torch.tensor([width, height], device=flow.device, dtype=exact)
    grid = (2 * positions(flow.to(exact)) + 1) / size - 1
    sampled = F.grid_sample(
        target.to(exact).reshape(-1, height, width, channels).permute(0, 3, 1, 2),
        grid.reshape(-1, height, width, 2),
        mode=interpolation,
        padding_mode="border",
        align_corners=False,
    )
    return sampled.permute(0, 2, 3, 1).reshape(target.shape).to(target.dtype)


def round_trip(
    forward: Tensor, backward: Tensor, share: float = ROUND_TRIP_SHARE, slack_px2: float = ROUND_TRIP_SLACK_PX2
) -> Tensor:
    """Mark pixels whose flow is undone by the flow back: |f + b'|² < share (|f|² + |b'|²) + slack.

    Args:
        forward: f, (..., H, W, 2) on the grid of the source; backward: b, the same on that of the target;
            b' = b(x + f(x)).

    Returns:
        (..., H, W) bool; False where x + f(x) leaves the picture.
    """
    back = warp(backward, forward)
    bound = share * (forward.square().sum(-1) + back.square().sum(-1)) + slack_px2
    return ((forward + back).square().sum(-1) < bound) & inside(forward)


def visible(forward: Tensor, backward: Tensor, source_mask: Tensor, target_mask: Tensor) -> Tensor:
    """Mark object pixels of the source that are seen in the target too.

    Args:
        forward, backward: (..., H, W, 2).
        source_mask, target_mask: (..., H, W) bool, the object in either frame.

    Returns:
        (..., H, W) bool: on the object, undone by the flow back, in the picture and on the target's object.
    """
    lands = warp(target_mask[..., None].float(), forward, "nearest")[..., 0] > 0.5
    return source_mask & lands & round_trip(forward, backward)


def compose(first: Tensor, first_seen: Tensor, second: Tensor, second_seen: Tensor) -> tuple[Tensor, Tensor]:
    """Chain flow from a to c over b: f(x) = f_ab(x) + f_bc(x + f_ab(x)).

    Only seen pixels of f_bc are interpolated, so that nothing is mixed across an outline; a point is seen at
    the end if it was in both steps.

    Args:
        first, second: (..., H, W, 2) from a to b on the grid of a, and from b to c on that of b.
        first_seen, second_seen: (..., H, W) bool.

    Returns:
        flow (..., H, W, 2), `first` alone where the second step is unknown, and seen (..., H, W) bool.
    """
    weight = second_seen[..., None].to(second.dtype)
    sampled = warp(torch.cat([second * weight, weight], dim=-1), first)
    step, weight = sampled[..., :2], sampled[..., 2:]
    flow = first + torch.where(weight > 0, step / weight.clamp_min(1e-6), 0.0)
    return flow, first_seen & (weight[..., 0] >= 0.5) & inside(first)


def resize(flow: Tensor, height: int, width: int) -> Tensor:
    """Resize flow to another grid: averaged or interpolated, values scaled with the size.


    Args:
        flow: (..., H, W, 2) pixels of the old grid.

    Returns:
        (..., height, width, 2) pixels of the new grid.
    """
    old_height, old_width = flow.shape[-3:-1]
    if (old_height, old_width) == (height, width):
        return flow
    scale = torch.tensor([width / old_width, height / old_height], device=flow.device, dtype=flow.dtype)
    planes = flow.reshape(-1, old_height, old_width, 2).permute(0, 3, 1, 2)
    if height <= old_height and width <= old_width:
        planes = F.adaptive_avg_pool2d(planes, (height, width))
    else:
        planes = F.interpolate(planes, (height, width), mode="bilinear", align_corners=False)
    return planes.permute(0, 2, 3, 1).reshape(*flow.shape[:-3], height, width, 2) * scale
