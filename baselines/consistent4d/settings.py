"""Settings of Consistent4D, as published and for two CPU cores."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.base.settings import require
from mvtokenflow.baselines.rival_settings import DistillSettings, check_positive
from mvtokenflow.guidance.views import RandomViews
from mvtokenflow.multiview.config import SquareConfig
from mvtokenflow.radiance.occupancy import DECAY

Resolution = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Consistent4dSettings:
    """Consistent4D; the defaults are the published numbers.

    Attributes:
        distill: teacher, frames, weight of distillation.
        resolutions: of each level's planes along x, y, z, t. channels, width: of all levels.
        steps: of the fit; steps counted from 0 compare with the input where even and distil where odd.
        samples: per ray.
        interpolation_share: share of the distilling steps that are for consistency of interpolation.
        batch: pictures of a sequence. interpolator: "dis" along DIS flow, or "linear".
        arc: least and largest step of azimuth along an arc, degrees.
        sds, colour, mask, interpolation, smoothness, orientation: weights of the losses, the last at the first
            step and after half of the steps.
        regularised: samples that the normals' losses are estimated from; their sum is scaled to all.
        deep: every level is compared with the input and distilled, not the last alone.
        rate: of Adam.
        level_low, level_high: published noise levels as shares, at the first step and after half of the steps.
        sides: side of all pictures by step. before: steps at which the next side begins.
        occupancy: cells along an axis. occupancy_every: steps between two updates. occupancy_decay: of the
            largest recent value at each of them. occupancy_draws: random times at which cells are looked at.
    """

    distill: DistillSettings = field(default_factory=DistillSettings)
    resolutions: tuple[Resolution, ...] = ((50, 50, 50, 8), (100, 100, 100, 16))
    channels: int = 16
    width: int = 32
    steps: int = 10_000
    samples: int = 256
    interpolation_share: float = 0.25
    batch: int = 4
    interpolator: Literal["dis", "linear"] = "dis"
    arc: tuple[float, float] = (5.0, 15.0)
    sds: float = 0.1
    colour: float = 500.0
    mask: float = 50.0
    interpolation: float = 2500.0
    smoothness: float = 2.0
    orientation: tuple[float, float] = (1.0, 20.0)
    regularised: int = 65_536
    deep: bool = True
    rate: float = 0.01
    level_low: tuple[float, float] = (0.8, 0.2)
    level_high: tuple[float, float] = (0.98, 0.25)
    sides: tuple[int, ...] = (64, 256)
    before: tuple[int, ...] = (5000,)
    occupancy: int = 32
    occupancy_every: int = 16
    occupancy_decay: float = DECAY
    occupancy_draws: int = 1

    def __post_init__(self) -> None:
        check_positive(self, ("channels", "width", "steps", "samples", "regularised", "rate", "colour", "mask"))
        check_positive(self, ("occupancy", "occupancy_every", "occupancy_draws"))
        weights = (self.sds, self.interpolation, self.smoothness, *self.orientation)
        require(min(weights) >= 0, "a weight", min(weights), "0 or more")
        require(0 <= self.interpolation_share <= 1, "interpolation_share", self.interpolation_share, "0 to 1")
        require(self.batch >= 3, "batch", self.batch, "3 or more pictures of a sequence")
        require(self.interpolator in ("dis", "linear"), "interpolator", self.interpolator, "dis or linear")
        if not self.resolutions:
            raise ConfigError("resolutions names no level; give one or more")
        if len(self.sides) != len(self.before) + 1:
            raise ConfigError(f"sides {self.sides} need one step less in `before`, it has {self.before}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return asdict(self)


def paper() -> Consistent4dSettings:
    """Return the published settings with Zero123-XL, for a GPU."""
    return Consistent4dSettings(
        distill=DistillSettings(
            teacher="zero123",
            square=SquareConfig(size=256, crop_size=-1),
            stride=1,
            sds_weight=1.0,
            views=RandomViews(elevation=(-10.0, 60.0)),
        )
    )


def mini() -> Consistent4dSettings:
    """Return the same method with the small prior, scaled to two CPU cores."""
    return Consistent4dSettings(
        distill=DistillSettings(level_floor=LEVEL_FLOOR, sds_weight=SDS_WEIGHT),
        resolutions=((16, 16, 16, 6), (32, 32, 32, 12)),
        channels=8,
        width=16,
        steps=420,
        samples=48,
        regularised=2048,
        occupancy_every=8,
        occupancy_decay=0.7,  # of few updates: they must forget sooner, and look at more times
        occupancy_draws=4,
        sides=(32, 64),
        before=(280,),
    )


LEVEL_FLOOR, SDS_WEIGHT = 900, 16.0  # tuned by benchmarks/tune_rivals.py, on toys that no table evaluates
PRESETS: Mapping[str, Callable[[], Consistent4dSettings]] = MappingProxyType({"paper": paper, "mini": mini})


def preset(name: str) -> Consistent4dSettings:
    """Return a preset by name.

    Raises:
        ConfigError: there is none of this name.
    """
    return choose("preset", name, PRESETS)()
