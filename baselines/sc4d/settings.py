"""Settings of SC4D, as published and for two CPU cores."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.base.settings import require
from mvtokenflow.baselines.rival_settings import DistillSettings, check_positive
from mvtokenflow.multiview.config import SquareConfig


@dataclass(frozen=True, kw_only=True)
class FirstStage:
    """Control points as Gaussians of one shared radius.

    Attributes:
        steps: of the stage. levels: lowest and highest published noise level of its ramp.
        start_points: at the start, in a ball of radius 0.5.
        densify: first step, last step, and steps between two densifications. grow_gradient: threshold in NDC
            units. split_radius: Gaussians are split above this shared radius, else cloned. max_points.
        reduce_at: step at which the points are reduced to `Sc4dSettings.control_points`; rigidity acts from
            then on.
        means, means_final, means_steps: learning rate of positions, and steps until it has fallen.
        network: of the network, constant.
    """

    steps: int = 1500
    levels: tuple[int, int] = (600, 800)
    start_points: int = 512
    densify: tuple[int, int, int] = (100, 1000, 100)
    grow_gradient: float = 0.01
    split_radius: float = 0.04
    max_points: int = 100_000
    reduce_at: int = 1000
    means: float = 0.01
    means_final: float = 2e-4
    means_steps: int = 500
    network: float = 2e-4

    def __post_init__(self) -> None:
        check_positive(self, ("steps", "start_points", "max_points", "means", "means_final", "network"))
        require(0 <= self.reduce_at < self.steps, "reduce_at", self.reduce_at, "a step of the stage")
        require(self.densify[2] >= 1, "densify", self.densify, "first step, last step, distance")


@dataclass(frozen=True, kw_only=True)
class SecondStage:
    """Fine Gaussians that follow control points.

    Attributes:
        steps: of the stage. levels: as for `FirstStage`.
        each: Gaussians around every control point.
        rigid_until: last step of the rigidity loss. prune_every: steps between removals of faint Gaussians.
        means, means_final: learning rates of positions; the first is held until `means_hold`.
        network, network_final: of the network. nodes: of the control points. radii: of their radii.
    """

    steps: int = 5000
    levels: tuple[int, int] = (200, 800)
    each: int = 200
    rigid_until: int = 2000
    prune_every: int = 1000
    means: float = 2e-4
    means_final: float = 2e-6
    means_hold: int = 1000
    network: float = 2e-4
    network_final: float = 2e-6
    nodes: float = 2e-6
    radii: float = 0.005

    def __post_init__(self) -> None:
        check_positive(self, ("steps", "each", "prune_every", "means", "means_final", "network", "nodes"))


@dataclass(frozen=True, kw_only=True)
class Sc4dSettings:
    """SC4D; the defaults are the published numbers.

    Attributes:
        distill: teacher, frames, weight of distillation.
        control_points: M. neighbours: control points that a Gaussian follows. width, depth: of the network.
        fps: "correct" keeps the farthest points; "upstream" the points N - 1 - i that the original keeps.
        colour, mask: weights of the squared errors against the input. alignment, rigidity: of these losses.
        rigid_radius: distance of control points that rigidity connects, world units.
        sides: side of all pictures by step. before: shares of the steps at which the next side begins.
        background: "random" renders distilled views on white or black; a prior whose pictures are on white
            needs "white".
    """

    distill: DistillSettings = field(default_factory=DistillSettings)
    first: FirstStage = field(default_factory=FirstStage)
    second: SecondStage = field(default_factory=SecondStage)
    control_points: int = 512
    neighbours: int = 4
    width: int = 256
    depth: int = 8
    fps: Literal["correct", "upstream"] = "correct"
    colour: float = 5000.0
    mask: float = 500.0
    alignment: float = 10.0
    rigidity: float = 10.0
    rigid_radius: float = 0.1
    sides: tuple[int, ...] = (128, 256, 512)
    before: tuple[int, ...] = (200, 300)

    def __post_init__(self) -> None:
        check_positive(self, ("control_points", "width", "rigid_radius", "colour", "mask"))
        require(self.fps in ("correct", "upstream"), "fps", self.fps, "correct or upstream")
        require(min(self.alignment, self.rigidity) >= 0, "alignment", self.alignment, "0 or more")
        if not 1 <= self.neighbours <= self.control_points:
            raise ConfigError(f"neighbours is {self.neighbours}; expected 1 to {self.control_points}")
        if len(self.sides) != len(self.before) + 1:
            raise ConfigError(f"sides {self.sides} need one step less in `before`, it has {self.before}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return asdict(self)


def paper() -> Sc4dSettings:
    """Return the published settings with Zero123-XL, for a GPU."""
    return Sc4dSettings(
        distill=DistillSettings(
            teacher="zero123", square=SquareConfig(size=512, crop_size=-1), stride=1, sds_weight=1.0
        )
    )


def mini() -> Sc4dSettings:
    """Return the same method with the small prior, scaled to two CPU cores."""
    return Sc4dSettings(
        distill=DistillSettings(level_floor=LEVEL_FLOOR, sds_weight=SDS_WEIGHT),
        first=FirstStage(
            steps=180,
            start_points=96,
            densify=(30, 120, 30),
            max_points=400,
            reduce_at=120,
            means=0.01,
            means_final=2e-3,
            means_steps=180,
            network=1e-3,
        ),
        second=SecondStage(
            steps=360,
            each=30,
            rigid_until=144,
            prune_every=120,
            means=2e-3,
            means_final=2e-4,
            means_hold=0,
            network=1e-3,
            network_final=1e-4,
        ),
        control_points=96,
        width=64,
        rigid_radius=0.35,  # 96 points lie farther apart than 512
        sides=(32, 64),
        before=(18,),
    )


LEVEL_FLOOR, SDS_WEIGHT = 900, 16.0  # tuned by benchmarks/tune_rivals.py, on toys that no table evaluates
PRESETS: Mapping[str, Callable[[], Sc4dSettings]] = MappingProxyType({"paper": paper, "mini": mini})


def preset(name: str) -> Sc4dSettings:
    """Return a preset by name.

    Raises:
        ConfigError: there is none of this name.
    """
    return choose("preset", name, PRESETS)()
