"""Settings that all rivals share: prior, pictures, weight and levels of distillation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from mvtokenflow.base.settings import require
from mvtokenflow.guidance.levels import LEVELS
from mvtokenflow.guidance.views import RandomViews
from mvtokenflow.method.config import SMALL_PRIOR
from mvtokenflow.multiview.config import SquareConfig

TeacherName = Literal["prior", "zero123", "stable-zero123"]


@dataclass(frozen=True, kw_only=True)
class DistillSettings:
    """What is distilled, from which frames, and how strongly.

    Attributes:
        teacher: "prior" distils the six views of the multiview prior; "zero123" and "stable-zero123" distil
            random views by Zero123-XL and Stable-Zero123, as published.
        prior: as in `MethodConfig`.
        square: how the clip becomes the teacher's square pictures.
        stride: every `stride`-th frame of the clip and the last are used.
        sds_weight: weight of the distillation loss. The small prior needs no guidance; this factor takes the
            place of the published guidance of 5, which scales the gradient as well.
        level_floor: lowest noise level of the teacher; with few steps, low levels only keep what is there.
        views: how Zero123's views are drawn; the prior's are fixed.
    """

    teacher: TeacherName = "prior"
    prior: str = SMALL_PRIOR
    square: SquareConfig = field(default_factory=lambda: SquareConfig(size=64, crop_size=56))
    stride: int = 2
    sds_weight: float = 4.0
    level_floor: int = 0
    views: RandomViews = field(default_factory=RandomViews)

    def __post_init__(self) -> None:
        require(self.teacher in ("prior", "zero123", "stable-zero123"), "teacher", self.teacher, "a teacher")
        require(self.stride >= 1, "stride", self.stride, "1 or more")
        require(self.sds_weight >= 0, "sds_weight", self.sds_weight, "0 or more")
        require(0 <= self.level_floor < LEVELS, "level_floor", self.level_floor, f"0 to {LEVELS - 1}")


LEDGER_NAMES: Mapping[TeacherName, str] = MappingProxyType(
    {"zero123": "zero123-xl", "stable-zero123": "stable-zero123"}
)
"""Teachers of the weights ledger by the names of settings."""


def check_positive(settings: object, names: Sequence[str]) -> None:
    """Check that settings of a dataclass are above 0.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        require(getattr(settings, name) > 0, name, getattr(settings, name), "a number above 0")
