"""Every number of a reconstruction, with the paper's and small presets."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal

from mvtokenflow.errors import ConfigError
from mvtokenflow.files import choose
from mvtokenflow.splat.density import DensityConfig
from mvtokenflow.splat.field import FieldConfig
from mvtokenflow.splat.losses import LossWeights

Stage = Literal["static", "coarse", "refine"]
STAGES: tuple[Stage, ...] = ("static", "coarse", "refine")


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Adam's step sizes. Those with a `final` fall log-linearly to it over each stage and start again.

    The paper gives the network's 3e-4 with "exponential decay" and its reset; the rest is SC-GS's.

    Attributes:
        means, means_final: positions, world units per step.
        features, rest: bands of spherical harmonics, the constant one and the others.
        opacities, scales, quats, hyper: of the Gaussians' other parameters (logits, logarithms, raw).
        network, network_final: the deformation network.
        nodes: radii, weights and hyper coordinates of the control points.
    """

    means: float = 8e-4
    means_final: float = 8e-6
    features: float = 2.5e-3
    rest: float = 1.25e-4
    opacities: float = 0.05
    scales: float = 5e-3
    quats: float = 1e-3
    hyper: float = 2.5e-3
    network: float = 3e-4
    network_final: float = 3e-6
    nodes: float = 8e-4

    def __post_init__(self) -> None:
        for item in fields(self):
            _require(
                getattr(self, item.name) > 0, f"learning rate {item.name}", getattr(self, item.name), "> 0"
            )


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage.

    Attributes:
        iterations: optimizer steps; 0 passes the field on as it is.
        density: when Gaussians are split, cloned and pruned; None keeps their number.
    """

    iterations: int
    density: DensityConfig | None = None

    def __post_init__(self) -> None:
        _require(self.iterations >= 0, "iterations", self.iterations, "0 or more")


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """A reconstruction: three stages, one set of weights.

    Attributes:
        static: Gaussians of the keyframe alone. coarse: their motion, from all frames. refine: the same
            again, learning rates reset, on (regenerated) frames.
        field: the control points and the Gaussians' colours.
        weights: of the loss terms.
        rates: learning rates.
        keyframe: frame of the static stage; None is the middle one, (T - 1) // 2, which is the nearest to
            all others. The paper says "a keyframe".
        points: Gaussians that the static stage starts with, on the visual hull of the masks.
        opacity: that they start with. 3DGS starts at 0.1 from a sparse cloud; on a hull 0.5 leaves less fog.
        extent: half side of the cube, in world units, that holds the object.
        times_per_step: frames per step, each in all views.
        adjacent: probability that they are consecutive (`schedule.sample_frames`); the paper gives none.
        background: "white", or "random": another colour behind renderings and targets in every step.
        sh_every: steps after which another band of spherical harmonics is added, up to `field.sh_degree`.
    """

    static: StageConfig
    coarse: StageConfig
    refine: StageConfig
    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    weights: LossWeights = dataclasses.field(default_factory=LossWeights)
    rates: LearningRates = dataclasses.field(default_factory=LearningRates)
    keyframe: int | None = None
    points: int = 10_000
    opacity: float = 0.1
    extent: float = 1.0
    times_per_step: int = 4
    adjacent: float = 0.5
    background: Literal["white", "random"] = "white"
    sh_every: int = 1000

    def __post_init__(self) -> None:
        _require(self.points >= 4, "points", self.points, "4 or more")
        _require(0 < self.opacity < 1, "opacity", self.opacity, "within 0 and 1")
        _require(self.extent > 0, "extent", self.extent, "> 0")
        _require(self.times_per_step >= 1, "times_per_step", self.times_per_step, "1 or more")
        _require(0 <= self.adjacent <= 1, "adjacent", self.adjacent, "a probability")
        _require(self.background in ("white", "random"), "background", self.background, "white or random")
        _require(self.sh_every >= 1, "sh_every", self.sh_every, "1 or more")
        _require(self.keyframe is None or self.keyframe >= 0, "keyframe", self.keyframe, "a frame number")

    def stage(self, name: Stage) -> StageConfig:
        """The settings of one stage."""
        found: StageConfig = getattr(self, name)
        return found

    def keyframe_of(self, frames: int) -> int:
        """The frame of the static stage in a video of `frames`.

        Raises:
            ConfigError: there is no such frame.
        """
        if self.keyframe is not None and self.keyframe >= frames:
            raise ConfigError(
                f"keyframe is {self.keyframe}, the video has frames 0 to {frames - 1}; choose one"
            )
        return (frames - 1) // 2 if self.keyframe is None else self.keyframe

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields."""
        return asdict(self)


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"{name} is {value}; expected {expected}")


# ---- presets ----


def paper() -> ReconstructionConfig:
    """The paper's numbers (4.1, A.1); what it leaves open is SC-GS's, on a GPU.

    3DGS and SC-GS densify until half of their iterations; here that is the first half of each dynamic stage;
    the static one, which has fewest, goes on to four fifths.
    """
    return ReconstructionConfig(
        static=StageConfig(iterations=5_000, density=DensityConfig(stop=4_000)),
        coarse=StageConfig(iterations=10_000, density=DensityConfig(stop=5_000)),
        refine=StageConfig(iterations=15_000, density=DensityConfig(stop=7_500)),
        field=FieldConfig(control_points=512, neighbours=3, sh_degree=3),
        background="random",
    )


def mini() -> ReconstructionConfig:
    """The same on two CPU cores, for pictures of 64 to 128 pixels."""
    return ReconstructionConfig(
        static=StageConfig(iterations=400),
        coarse=StageConfig(iterations=1000),
        refine=StageConfig(iterations=600),
        field=FieldConfig(control_points=64, neighbours=3, hyper_dim=2, width=64, depth=6),
        rates=LearningRates(means=2e-3, means_final=2e-4, network=1e-3, network_final=5e-5),
        weights=LossWeights(normal=0.3),  # on toys never evaluated, 0.2 dB better in new views than 1
        points=4000,
        opacity=0.5,
        times_per_step=2,
    )


PRESETS: Mapping[str, Callable[[], ReconstructionConfig]] = MappingProxyType({"paper": paper, "mini": mini})


def preset(name: str) -> ReconstructionConfig:
    """A preset by name.

    Raises:
        ConfigError: there is none of this name.
    """
    return choose("preset", name, PRESETS)()
