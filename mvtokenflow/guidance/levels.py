"""Noise levels of score distillation: the published schedules, and the same level in another noise schedule.

A level is a training timestep, 0 (clean) to count - 1. Levels of two noise schedules with equal numbers are not
equally noisy; `equivalent_levels` goes from one to the other by the share of the signal, alphabar.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.guidance.sds import level_weight

LEVELS = 1000
LEAST_WEIGHT = 2e-3  # of the x0 form: below, a step's gradient is lost among those of other levels


@dataclass(frozen=True, kw_only=True)
class RandomBand:
    """Levels drawn uniformly between two bounds that move linearly over the steps.

    Attributes:
        low: lower bound as a share of the levels, at the first step and once it has arrived.
        high: upper bound, likewise; 0 <= low <= high <= 1.
        steps: number of steps until the bounds have arrived, 1 or more; they stay there.

    Consistent4D: 0.8 to 0.2 and 0.98 to 0.25 over 5000 steps, counted from 0. STAG4D: 0.5 to 0.02 and 0.95 to
    0.5 over 3000, counted from 1. Equal ends give a band that does not move.

    Raises:
        ConfigError: bounds that are out of order, or no steps.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    steps: int

    def __post_init__(self) -> None:
        for low, high in zip(self.low, self.high, strict=True):
            if not 0 <= low <= high <= 1:
                raise ConfigError(f"levels from {low} to {high}: expected 0 <= low <= high <= 1")
        if self.steps < 1:
            raise ConfigError(f"levels move over {self.steps} steps; give 1 or more")

    def bounds(self, step: int, count: int = LEVELS) -> tuple[int, int]:
        """Return the lowest and the highest level at a step, both included, of `count` levels."""
        progress = ramp(step, self.steps)
        low = self.low[0] + (self.low[1] - self.low[0]) * progress
        high = self.high[0] + (self.high[1] - self.high[0]) * progress
        return int(count * low), min(int(count * high), count - 1)

    def draw(self, step: int, generator: torch.Generator, count: int = LEVELS) -> int:
        """Draw the level of a step, one number from the generator."""
        low, high = self.bounds(step, count)
        return int(torch.randint(low, high + 1, (), generator=generator))


@dataclass(frozen=True, kw_only=True)
class ClippedRamp:
    """One level per step: from the noisiest to clean over the steps, clipped to a range.

    Attributes:
        low, high: range of levels, 0 <= low <= high.
        steps: number of steps of the ramp; steps count from 1.

    SC4D: 600 to 800 over the first stage, 200 to 800 over the second. DreamGaussian4D: 20 to 980.

    Raises:
        ConfigError: bounds that are out of order, or no steps.
    """

    low: int
    high: int
    steps: int

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ConfigError(f"levels from {self.low} to {self.high}: expected 0 <= low <= high")
        if self.steps < 1:
            raise ConfigError(f"the ramp of levels has {self.steps} steps; give 1 or more")

    def level(self, step: int, count: int = LEVELS) -> int:
        """Return the level of a step, rounded to the nearest (to the even one of two)."""
        return min(max(round((1 - ramp(step, self.steps)) * count), self.low), self.high)


def ramp(step: int, steps: int) -> float:
    """Progress `step / steps`, clipped to [0, 1]."""
    return min(max(step / steps, 0.0), 1.0)


def linear(start: float, end: float, progress: float) -> float:
    """Interpolate linearly at a progress in [0, 1], e.g. the weight of a loss that grows."""
    return start + (end - start) * progress


def staircase(step: int, values: Sequence[int], before: Sequence[int]) -> int:
    """Return the value of the stair that a step lies on, e.g. the side of the pictures.

    Args:
        values: n + 1 values. before: n ascending steps; value k holds while step < before[k].
    """
    for value, end in zip(values, before, strict=False):
        if step < end:
            return value
    return values[-1]


def scaled_linear_alphabars(start: float = 0.00085, end: float = 0.012, count: int = LEVELS) -> Tensor:
    """Alphabars (count,) of Stable Diffusion's schedule, in float32 as its pipelines compute them.

    Zero123, Zero123++ and stable-zero123 share it. Betas are linear in their square roots, `start` to `end`.
    """
    betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32).square()
    return torch.cumprod(1 - betas, dim=0)


def equivalent_levels(levels: Sequence[int], source: Tensor, target: Tensor) -> list[int]:
    """Map levels of one noise schedule to those of another with the nearest alphabar.

    Args:
        levels: of the source. source, target: alphabars (n,) and (m,) by level, falling.

    Raises:
        ConfigError: a level outside the source.
    """
    for level in levels:
        if not 0 <= level < len(source):
            raise ConfigError(f"level {level} is not one of the {len(source)} levels of its schedule")
    wanted = source[torch.as_tensor(list(levels), dtype=torch.long)]
    return [int((target.double() - value).abs().argmin()) for value in wanted.double()]


def check_levels(levels: Sequence[int], alphabars: Tensor) -> None:
    """Check that distillation at these levels moves anything.

    Args:
        levels: to be used. alphabars: (n,) by level.

    Raises:
        ConfigError: a level outside the schedule, or one whose weight `sqrt(ab (1 - ab))` is below 0.002: where
            a schedule ends without signal, its last levels say nothing about the picture.
    """
    for level in levels:
        if not 0 <= level < len(alphabars):
            raise ConfigError(f"level {level} is not one of the {len(alphabars)} levels of its schedule")
        weight = float(level_weight(alphabars[level].double()))
        if weight < LEAST_WEIGHT:
            raise ConfigError(
                f"level {level} has the weight {weight:.2g} in score distillation and would change nothing; "
                "choose levels that keep some of the signal"
            )
