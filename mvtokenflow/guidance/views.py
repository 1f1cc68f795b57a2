"""Settings of views drawn at random."""

import math
from dataclasses import dataclass

from mvtokenflow.base.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RandomViews:
    """How views are drawn.

    Attributes:
        count: in each step. elevation: lowest and highest in degrees, above is positive.
        guidance: scale of classifier-free guidance.
    """

    count: int = 4
    elevation: tuple[float, float] = (-30.0, 30.0)
    guidance: float = 5.0

    def __post_init__(self) -> None:
        low, high = self.elevation
        if self.count < 1 or not -90 < low <= high < 90:
            raise ConfigError(
                f"{self.count} views at elevations {low} to {high}; expected 1 or more, within -90 and 90"
            )
        if not 0 <= self.guidance < math.inf:
            raise ConfigError(f"guidance is {self.guidance}; expected 0 or more")
