"""Pictures of a cascade of planes: all levels rendered by quadrature, empty cells skipped."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.radiance.cascade import CascadeField
from mvtokenflow.radiance.occupancy import Occupancy
from mvtokenflow.radiance.quadrature import Rays, box_span, composite, pixel_rays, points_on, sample_rays
from mvtokenflow.views.cameras import Cameras

CHUNK = 1 << 19  # samples evaluated at once without gradient


class LevelPictures(NamedTuple):
    """Pictures of C cameras by L levels.

    Attributes:
        rgb: (L, C, H, W, 3) on the background. opacity: (L, C, H, W, 1) in [0, 1].
        depth: (L, C, H, W, 1) camera z in world units, 0 where nothing is.
        samples: those that were evaluated.
    """

    rgb: Tensor
    opacity: Tensor
    depth: Tensor
    samples: "RaySamples"


class RaySamples(NamedTuple):
    """The n samples in occupied cells.

    Attributes:
        points: (n, 3) world units. times: (n, 1). directions: (n, 3) of their rays. weights: (L, n).
    """

    points: Tensor
    times: Tensor
    directions: Tensor
    weights: Tensor


def render_cascade(
    field: CascadeField,
    cameras: Cameras,
    times: Tensor,
    count: int,
    *,
    occupancy: Occupancy | None = None,
    generator: torch.Generator | None = None,
    background: float = 1.0,
) -> LevelPictures:
    """Render all levels.

    Args:
        cameras: C cameras. times: (C,) in [-1, 1], of each picture.
        count: samples per ray, over its way through the box.
        occupancy: samples in cells that it has as empty are left out; None evaluates all.
        generator: of the CPU, draws a place in each interval (training); None takes middles.
    """
    rays = pixel_rays(cameras)
    shape = rays.origins.shape[:-1]
    pixels = shape[1] * shape[2]
    flat = Rays(rays.origins.reshape(-1, 3), rays.directions.reshape(-1, 3))
    samples = sample_rays(*box_span(flat, field.radius), count, generator)
    points = points_on(flat, samples.at)
    wanted = samples.valid[:, None].expand(points.shape[:2])
    if occupancy is not None:
        wanted = wanted & occupancy.contains(points)
    chosen = wanted.reshape(-1).nonzero()[:, 0]
    inside = points.reshape(-1, 3)[chosen]
    at = times.to(inside)[chosen // (pixels * count)][:, None]
    found = _evaluated(field, inside, at)
    levels, rows = len(field.density_network), len(flat.origins)
    density = inside.new_zeros(levels, rows * count).index_copy(1, chosen, found[0][..., 0])
    colours = inside.new_zeros(levels, rows * count, 3).index_copy(1, chosen, found[1])
    made = composite(
        density.view(levels, rows, count),
        colours.view(levels, rows, count, 3),
        samples.starts,
        samples.ends,
        background,
    )
    axes = cameras.world_to_camera[:, 2, :3].to(inside).repeat_interleave(pixels, 0)
    along = (flat.directions * axes).sum(-1, keepdim=True)
    depth = made.depth / made.opacity.clamp_min(1e-6) * along * (made.opacity > 1e-6)
    weights = made.weights.reshape(levels, -1)[:, chosen]
    directions = flat.directions[chosen // count]
    return LevelPictures(
        rgb=made.colour.view(levels, *shape, 3),
        opacity=made.opacity.view(levels, *shape, 1),
        depth=depth.view(levels, *shape, 1),
        samples=RaySamples(inside, at, directions, weights),
    )


def _evaluated(field: CascadeField, points: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Densities (L, n, 1) and colours (L, n, 3), in chunks where no gradient is wanted."""
    if torch.is_grad_enabled() or len(points) <= CHUNK:
        found = field(points, times)
        return found.density, found.colours
    parts = [
        field(points[start : start + CHUNK], times[start : start + CHUNK])
        for start in range(0, len(points), CHUNK)
    ]
    return torch.cat([part.density for part in parts], 1), torch.cat([part.colours for part in parts], 1)


@torch.no_grad()
def refreshed(
    field: CascadeField,
    occupancy: Occupancy,
    step_length: float,
    generator: torch.Generator,
    decay: float,
    draws: int = 1,
) -> Occupancy:
    """Return the occupancy after new densities of the first level at random places and times.

    Args:
        step_length: of a sample, world units. generator: of the CPU. decay: of the values so far.
        draws: times at which each cell is looked at; the largest density counts.
    """
    largest: Tensor | None = None
    for _ in range(draws):
        places = occupancy.places(generator)
        times = (2 * torch.rand(len(places), 1, generator=generator) - 1).to(places)
        density = field.density(places, times, levels=1)[0, :, 0]
        largest = density if largest is None else torch.maximum(largest, density)
    assert largest is not None
    return occupancy.updated(largest * step_length, decay)


@torch.no_grad()
def occupied_at(field: CascadeField, times: Sequence[float], resolution: int, step_length: float) -> Occupancy:
    """Return the cells that hold something at one of some times in [-1, 1], with all cells around these.

    Args:
        step_length: of a sample, world units.
    """
    found = Occupancy.full(resolution, field.radius)
    places = found.places()
    largest = torch.zeros(len(places))
    for time in times:
        at = torch.full((len(places), 1), time).to(places)
        largest = torch.maximum(largest, field.density(places, at).amax(0)[:, 0].cpu())
    values = (largest * step_length).view(1, 1, *found.values.shape)
    grown = F.max_pool3d(values, 3, stride=1, padding=1)[0, 0]
    return Occupancy(grown.to(places), field.radius)
