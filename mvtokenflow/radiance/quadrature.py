"""Volume rendering along rays: where rays run, where they are sampled, and how samples are composited."""

from typing import NamedTuple

import torch
from torch import Tensor

from mvtokenflow.views.cameras import Cameras


class Rays(NamedTuple):
    """Rays through pixel centres, in the world.

    Attributes:
        origins: (..., 3); of a pinhole camera its centre, of an ortho one on the plane of its centre.
        directions: (..., 3) unit.
    """

    origins: Tensor
    directions: Tensor


class Samples(NamedTuple):
    """Intervals along R rays, in world units from the origins.

    Attributes:
        starts, ends: (R, S). at: (R, S) where the field is read. valid: (R,) whether the ray meets the box.
    """

    starts: Tensor
    ends: Tensor
    at: Tensor
    valid: Tensor


class Rendered(NamedTuple):
    """What rays show.

    Attributes:
        weights: (..., S) share of each sample. opacity: (..., 1) in [0, 1].
        depth: (..., 1) sum of weights times distances, not divided by the opacity. colour: (..., 3).
    """

    weights: Tensor
    opacity: Tensor
    depth: Tensor
    colour: Tensor


def pixel_rays(cameras: Cameras) -> Rays:
    """Rays (C, H, W, 3) through the pixel centres of C cameras, pinhole or ortho."""
    rotation, lenses = cameras.world_to_camera[:, :3, :3], cameras.intrinsics
    rows = torch.arange(cameras.height, dtype=lenses.dtype, device=lenses.device) + 0.5
    columns = torch.arange(cameras.width, dtype=lenses.dtype, device=lenses.device) + 0.5
    y = (rows[None] - lenses[:, 1, 2, None]) / lenses[:, 1, 1, None]
    x = (columns[None] - lenses[:, 0, 2, None]) / lenses[:, 0, 0, None]
    shape = (len(cameras), cameras.height, cameras.width)
    across = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    centres = cameras.centres[:, None, None].expand(*shape, 3)
    if cameras.kind == "ortho":
        # rows of the rotation are the camera's axes in the world
        origins = centres + (across[..., None, :] @ rotation[:, None, None, :2])[..., 0, :]
        return Rays(origins, rotation[:, None, None, 2].expand(*shape, 3))
    inside = torch.cat([across, torch.ones_like(across[..., :1])], dim=-1)
    turned = (inside[..., None, :] @ rotation[:, None, None])[..., 0, :]
    return Rays(centres, torch.nn.functional.normalize(turned, dim=-1))


def box_span(rays: Rays, half_side: float) -> tuple[Tensor, Tensor]:
    """Distances (...,) at which rays enter and leave the cube of a half side around the origin, 0 or more.

    A ray that misses it has an exit that is not beyond its entry.
    """
    slope = torch.where(rays.directions.abs() < 1e-12, 1e-12, rays.directions)
    walls = [(wall - rays.origins) / slope for wall in (-half_side, half_side)]
    near = torch.minimum(*walls).amax(-1).clamp_min(0)
    return near, torch.maximum(*walls).amin(-1)


def sample_rays(near: Tensor, far: Tensor, count: int, generator: torch.Generator | None = None) -> Samples:
    """Cut rays into intervals of equal length, read at their middles or at random places within.

    Args:
        near, far: (R,), see `box_span`; where far is not beyond near, intervals are empty.
        count: S. generator: of the CPU, draws a place in each interval (training); None takes middles.
    """
    valid = far > near
    length = torch.where(valid, far - near, 0.0)[:, None] / count
    starts = near[:, None] + length * torch.arange(count, dtype=near.dtype, device=near.device)
    share: Tensor | float = 0.5
    if generator is not None:
        share = torch.rand(starts.shape, generator=generator).to(starts)
    return Samples(starts, starts + length, starts + length * share, valid)


def points_on(rays: Rays, distances: Tensor) -> Tensor:
    """Points (R, S, 3) on rays (R, 3) at distances (R, S)."""
    return rays.origins[:, None] + distances[..., None] * rays.directions[:, None]


def compositing_weights(density: Tensor, lengths: Tensor) -> Tensor:
    """Share of each sample (..., S): what is left of the light, times the opacity of the interval.

    Args:
        density: (..., S) per world unit, 0 or more. lengths: (..., S) world units.
    """
    thickness = density * lengths
    before = thickness.cumsum(-1) - thickness
    return torch.exp(-before) * -torch.expm1(-thickness)


def composite(
    density: Tensor, colours: Tensor, starts: Tensor, ends: Tensor, background: Tensor | float = 1.0
) -> Rendered:
    """Composite samples along rays over a background.

    Args:
        density: (..., S). colours: (..., S, 3). starts, ends: (..., S). background: (..., 3) or a grey level.
    """
    weights = compositing_weights(density, ends - starts)
    opacity = weights.sum(-1, keepdim=True)
    depth = (weights * (starts + ends) / 2).sum(-1, keepdim=True)
    colour = (weights[..., None] * colours).sum(-2) + (1 - opacity) * background
    return Rendered(weights, opacity, depth, colour)
