"""Consistent4D's losses on pictures and samples of a cascade; L levels are supervised each by itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError

Interpolator = Callable[[Tensor, Tensor, float], Tensor]


def colour_loss(rendered: Tensor, target: Tensor, mask: Tensor, background: Tensor | float = 1.0) -> Tensor:
    """Mean squared error (L,) of each level against the input over a background.

    Args:
        rendered: (L, B, H, W, 3). target: (B, H, W, 3). mask: (B, H, W, 1), 0 or 1: `hard_mask`.
        background: (B, H, W, 3) as rendered, or a grey level.
    """
    wanted = target * mask + background * (1 - mask)
    return (rendered - wanted).square().flatten(1).mean(-1)


def mask_loss(opacity: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error (L,) of the opacities (L, B, H, W, 1) of each level against the mask (B, H, W, 1)."""
    return (opacity - mask).square().flatten(1).mean(-1)


def hard_mask(alpha: Tensor) -> Tensor:
    """Mask of the input, 1 where alpha is above a half, of alpha's type."""
    return (alpha > 0.5).to(alpha)


def interpolation_consistency(pictures: Tensor, interpolator: Interpolator) -> Tensor:
    """Mean squared distance (L,) of the middle pictures of a sequence from an interpolation between its ends.

    Ends and interpolation get no gradient from it: the middle pictures are pulled to them.

    Args:
        pictures: (L, B, H, W, 3), B >= 3, in the order of the sequence: along an arc, or in time.
        interpolator: gives the picture (H, W, 3) at a share of the way from the first to the last.

    Raises:
        ConfigError: fewer than three pictures.
    """
    count = pictures.shape[1]
    if count < 3:
        raise ConfigError(f"interpolation between {count} pictures has no middle; render 3 or more")
    with torch.no_grad():
        wanted = torch.stack(
            [
                torch.stack([interpolator(level[0], level[-1], k / (count - 1)) for k in range(1, count - 1)])
                for level in pictures.detach()
            ]
        )
    return (pictures[:, 1:-1] - wanted).square().flatten(1).mean(-1)


def linear_interpolator(first: Tensor, last: Tensor, share: float) -> Tensor:
    """Blend two pictures linearly: the plainest `Interpolator`."""
    return first * (1 - share) + last * share


def orientation_loss(weights: Tensor, normals: Tensor, directions: Tensor, opacity: Tensor) -> Tensor:
    """Penalty of normals that look away from the camera, by the number of pixels that show something.

    `Σ sg(w) max(n · d, 0)² / #(opacity > 0)` (Ref-NeRF, Verbin et al. 2022).

    Args:
        weights: (N, 1) of samples. normals, directions: (N, 3) unit. opacity: of the pixels, of any shape.
    """
    facing = (normals * directions).sum(-1, keepdim=True).clamp_min(0)
    return (weights.detach() * facing.square()).sum() / (opacity > 0).sum().clamp_min(1)


def normal_smoothness(normals: Tensor, perturbed: Tensor) -> Tensor:
    """Mean absolute difference of normals (N, 3) and those at points moved by 0.01 of normal noise."""
    return (normals - perturbed).abs().mean()


@dataclass(frozen=True, kw_only=True)
class CascadeWeights:
    """Weights of the losses; the defaults are the published ones.

    Attributes:
        distillation, colour, mask, interpolation: of each level's loss. smoothness: of the normals.
        orientation: weight at the first step and at the end, and the number of steps in between.
    """

    distillation: float = 0.1
    colour: float = 500.0
    mask: float = 50.0
    interpolation: float = 2500.0
    smoothness: float = 2.0
    orientation: tuple[float, float, int] = (1.0, 20.0, 5000)

    def at(self, step: int) -> Mapping[str, float]:
        """Return the weights by the names of the losses at a step, counted from 0."""
        start, end, steps = self.orientation
        return {
            "distillation": self.distillation,
            "colour": self.colour,
            "mask": self.mask,
            "interpolation": self.interpolation,
            "smoothness": self.smoothness,
            "orientation": start + (end - start) * min(max(step / steps, 0.0), 1.0),
        }


def cascade_loss(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of losses by name, each a number or one of each level (L,), times their weights.

    A step has either the losses of the input (colour, mask) or those of the prior (distillation, and
    interpolation in a sequence), and the regularisers in both.

    Raises:
        ConfigError: a loss without a weight, or no loss.
    """
    missing = set(losses) - set(weights)
    if missing or not losses:
        raise ConfigError(
            f"losses {sorted(losses)} with weights of {sorted(weights)}; expected a weight for each"
        )
    return torch.stack([weights[name] * loss.sum() for name, loss in losses.items()]).sum()


def is_reference_step(step: int) -> bool:
    """Return whether a step, counted from 0, compares with the input; the others distil."""
    return step % 2 == 0
