"""SC4D's adaptive Gaussian start: fine Gaussians in a ball around every control point of the first stage."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.splat.gaussians import SCALE_FLOOR, GaussianModel, gap_squared

OPACITY = 0.05
COLOUR_SPREAD = 1 / 255  # of the coefficients: nearly mid grey


@dataclass(frozen=True)
class BallDraws:
    """Uniform numbers in [0, 1) of the start.

    Attributes:
        angle, cosine, radius: (n,) of the points in one ball. colour: (M n, 3).
    """

    angle: Tensor
    cosine: Tensor
    radius: Tensor
    colour: Tensor

    @classmethod
    def draw(cls, nodes: int, each: int, generator: torch.Generator) -> "BallDraws":
        """Draw the numbers for `each` points around each of `nodes` control points."""
        angle, cosine, radius = (torch.rand(each, generator=generator) for _ in range(3))
        return cls(angle, cosine, radius, torch.rand(nodes * each, 3, generator=generator))


def ball_offsets(radius: float | Tensor, draws: BallDraws) -> Tensor:
    """Place points (n, 3) uniformly in a ball of a radius around the origin, world units."""
    angle, cosine = 2 * torch.pi * draws.angle, 2 * draws.cosine - 1
    sine = (1 - cosine.square()).clamp_min(0).sqrt()
    direction = torch.stack([sine * angle.cos(), sine * angle.sin(), cosine], dim=-1)
    return radius * draws.radius.pow(1 / 3)[:, None] * direction


def ball_start(count: int, radius: float, opacity: float, generator: torch.Generator) -> GaussianModel:
    """Start grey Gaussians uniformly in a ball around the origin, as large as the gaps between them.

    Args:
        radius: world units. opacity: within 0 and 1. generator: on the CPU.
    """
    points = ball_offsets(radius, BallDraws.draw(1, count, generator))
    return GaussianModel.from_points(points, torch.full_like(points, 0.5), opacity=opacity)


def adaptive_start(nodes: Tensor, radii: Tensor, draws: BallDraws) -> Mapping[str, Tensor]:
    """Start fine Gaussians around control points, with the same offsets around each.

    Args:
        nodes: (M, 3). radii: (M,), their standard deviations in world units; the ball has their mean.

    Returns:
        raw parameters by the names of `GaussianModel`, without `features_rest` and `hyper`: means (M n, 3),
        those of a control point together, scales of the distance to the three nearest, opacity 0.05, mid grey.

    Raises:
        DataError: sizes that do not fit.
    """
    count = len(nodes) * len(draws.angle)
    if len(radii) != len(nodes) or len(draws.colour) != count:
        raise DataError(
            f"{len(nodes)} control points with {len(radii)} radii, {len(draws.angle)} points around each and "
            f"{len(draws.colour)} colours; expected a radius each and {count} colours"
        )
    means = (nodes[:, None] + ball_offsets(radii.mean(), draws)).reshape(-1, 3)
    log_scales = 0.5 * gap_squared(means).clamp_min(SCALE_FLOOR).log()
    return {
        "means": means,
        "log_scales": log_scales[:, None].repeat(1, 3),
        "quats": means.new_tensor([1.0, 0, 0, 0]).repeat(count, 1),
        "logit_opacities": torch.logit(means.new_full((count,), OPACITY)),
        "features_dc": draws.colour * COLOUR_SPREAD,
    }
