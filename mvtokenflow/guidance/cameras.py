"""Random cameras of a Consistent4D batch, as a function of its draws.

Elevations are positive above, azimuths grow counter-clockwise seen from above. `views.cameras.orbit` places
them, `views.cameras.to_threestudio` gives the poses that the original works with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError

BatchMode = Literal["views", "arc", "times", "same"]


@dataclass(frozen=True, kw_only=True)
class CameraRange:
    """Ranges of the random cameras; the defaults are the published ones.

    Attributes:
        elevation, azimuth: lowest and highest angle in degrees.
        arc: least and largest step of azimuth along an arc, degrees.
    """

    elevation: tuple[float, float] = (-10.0, 60.0)
    azimuth: tuple[float, float] = (-180.0, 180.0)
    arc: tuple[float, float] = (5.0, 15.0)


def batch_mode(draw: float) -> BatchMode:
    """Choose what a batch of B pictures shows from one uniform draw in [0, 1).

    "views" (p = 0.5): one time, B cameras. "arc" (0.125): one time, cameras along an arc. "times" (0.125): one
    camera, B times in a row. "same" (0.25): one camera and one time, B times over.
    """
    for mode, end in (("views", 0.5), ("arc", 0.625), ("times", 0.75)):
        if draw < end:
            return mode  # type: ignore[return-value]
    return "same"


def batch_angles(
    mode: BatchMode,
    elevation_draws: Sequence[float],
    azimuth_draws: Sequence[float],
    *,
    uniform_angle: bool,
    size: int,
    arc_draw: float | None = None,
    ranges: CameraRange = CameraRange(),  # frozen
) -> tuple[Tensor, Tensor]:
    """Compute the elevations and azimuths (B,) in degrees, float32, of a batch from its draws.

    Args:
        elevation_draws, azimuth_draws: uniform in [0, 1), B of each for "views", else one.
        uniform_angle: True draws elevations uniformly in degrees; False as `asin(2 p - 1)` with p uniform
            between `(low + 90) / 180` and `(high + 90) / 180`, which is not the whole range (upstream's
            formula: -6.4 to 41.8 degrees for -10 to 60).
        size: B. arc_draw: uniform in [0, 1), for "arc".

    Raises:
        ConfigError: draws that do not fit the mode.
    """
    wanted = size if mode == "views" else 1
    if (
        len(elevation_draws) != wanted
        or len(azimuth_draws) != wanted
        or (mode == "arc") != (arc_draw is not None)
    ):
        raise ConfigError(
            f"a batch of {size} in the mode {mode!r} has {wanted} draws of each angle, and one for an arc"
        )
    low, high = ranges.elevation
    drawn = torch.tensor(list(elevation_draws), dtype=torch.float32)
    if uniform_angle:
        elevation = drawn * (high - low) + low
    else:
        bottom, top = (low + 90.0) / 180.0, (high + 90.0) / 180.0
        elevation = torch.asin(2 * (drawn * (top - bottom) + bottom) - 1.0) / math.pi * 180.0
    left, right = ranges.azimuth
    azimuth = torch.tensor(list(azimuth_draws), dtype=torch.float32) * (right - left) + left
    if arc_draw is not None:
        azimuth = azimuth + torch.arange(size) * (ranges.arc[0] + (ranges.arc[1] - ranges.arc[0]) * arc_draw)
    return elevation.expand(size), azimuth.expand(size)


def batch_frames(mode: BatchMode, start: int, size: int, count: int, jump: int | None = None) -> list[int]:
    """List the frames of a batch: `start` for all, or in the mode "times" every `jump`-th from `start` on.

    Args:
        start: first frame; the original draws it uniformly below `T - B * jump`. count: T. jump: None is
            `T // 16`, at least 1 (the original has 0 below 16 frames and stops).

    Raises:
        ConfigError: frames past the end.
    """
    step = max(1, count // 16) if jump is None else jump
    frames = [start + (step * n if mode == "times" else 0) for n in range(size)]
    if not start >= 0 or frames[-1] >= count:
        raise ConfigError(f"frames {frames} of a video of {count}; start earlier or take smaller steps")
    return frames
