"""Which picture conditions the distillation of a view, and the relative pose that goes with it.

Elevations here are signed by the caller's convention; DreamGaussian, SC4D, STAG4D and DreamGaussian4D count
below the horizon as positive. Azimuths grow counter-clockwise seen from above. All angles are in degrees.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError

INPUT_SHARE = 0.6  # STAG4D: how often the input conditions views that a generated picture could condition
INPUT_HALF_ANGLE_DEG = 30.0  # STAG4D: nearer to the input than this, it always conditions
GENERATED_AZIMUTHS_DEG = (30.0, 90.0, 150.0, 210.0, 270.0, 330.0)  # Zero123++ v1.1
GENERATED_ELEVATIONS_DEG = (-30.0, 20.0, -30.0, 20.0, -30.0, 20.0)  # negative is above


@dataclass(frozen=True)
class Condition:
    """The picture that conditions a view, and where the view lies relative to it.

    Attributes:
        picture: index of a generated picture, or None for the input.
        elevation, azimuth: of the view minus that of the picture, degrees, not wrapped: their sine and cosine
            enter the network.
    """

    picture: int | None
    elevation: float
    azimuth: float


def choose_condition(
    azimuth: float,
    elevation: float,
    draw: float,
    *,
    azimuths: Sequence[float] = GENERATED_AZIMUTHS_DEG,
    elevations: Sequence[float] = GENERATED_ELEVATIONS_DEG,
    input_share: float = INPUT_SHARE,
    input_half_angle: float = INPUT_HALF_ANGLE_DEG,
) -> Condition:
    """Choose the picture that conditions a view, as STAG4D's multi-reference distillation does.

    The input conditions views within `input_half_angle` of it, and others with probability `input_share`; else
    the generated picture of the sector that the view lies in does.

    Args:
        azimuth, elevation: of the view; the input's are 0.
        draw: uniform in [0, 1); the input is chosen from `1 - input_share` on. Unused within
            `input_half_angle`: `needs_draw` tests this beforehand.
        azimuths, elevations: of the n generated pictures, the centres of n equal sectors that start at 0.

    Raises:
        ConfigError: the pictures are not the centres of equal sectors.
    """
    sector = 360 / len(azimuths)
    if len(azimuths) != len(elevations) or any(
        abs(angle - sector * (n + 0.5)) > 1e-6 for n, angle in enumerate(azimuths)
    ):
        raise ConfigError(
            f"pictures at the azimuths {list(azimuths)}: expected the centres of equal sectors, with elevations"
        )
    if not needs_draw(azimuth, input_half_angle) or draw >= 1 - input_share:
        return Condition(None, elevation, azimuth)
    picture = int(azimuth % 360 // sector)
    return Condition(picture, elevation - elevations[picture], azimuth - azimuths[picture])


def needs_draw(azimuth: float, input_half_angle: float = INPUT_HALF_ANGLE_DEG) -> bool:
    """Return whether `choose_condition` uses its draw at this azimuth, in -180 to 180."""
    return not -input_half_angle < azimuth < input_half_angle


def nearest_condition(azimuth: float, azimuths: Sequence[float], input_azimuth: float = 0.0) -> int | None:
    """Choose the picture with the nearest azimuth, for pictures at any azimuths; None is the input.

    At equal distance the input comes first, then the first picture.
    """
    distances = [abs((azimuth - angle + 180) % 360 - 180) for angle in (input_azimuth, *azimuths)]
    nearest = min(range(len(distances)), key=distances.__getitem__)
    return nearest - 1 if nearest else None


def pose_embedding(elevation: Tensor, azimuth: Tensor, last: Tensor | float = 0.0) -> Tensor:
    """Embed relative poses (B,) in degrees as Zero123 expects them: `[elevation, sin a, cos a, last]` (B, 4).

    Args:
        elevation: polar angle of the view minus that of the condition: positive is below the condition.
        azimuth: of the view minus that of the condition.
        last: difference of radii for Zero123 and Zero123-XL; for stable-zero123 the absolute polar angle of
            the condition in radians (`stable_zero123_last`).
    """
    turned = torch.deg2rad(azimuth)
    rest = torch.as_tensor(last, dtype=azimuth.dtype, device=azimuth.device).expand_as(azimuth)
    return torch.stack([torch.deg2rad(elevation), turned.sin(), turned.cos(), rest], dim=-1)


def stable_zero123_last(condition_elevation: Tensor) -> Tensor:
    """Polar angle in radians of conditions at elevations (B,) in degrees, negative above: `90° + elevation`."""
    return torch.deg2rad(90 + condition_elevation)
