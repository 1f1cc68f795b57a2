"""Settings of a reconstruction, with the paper's and small presets."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.base.settings import require
from mvtokenflow.splat.config import DensityConfig, FieldConfig, LossWeights

Stage = Literal["static", "coarse", "refine"]
MAX_POINTS = 5_000_000  # a GB of parameters
MAX_ITERATIONS = 10_000_000
STAGES: tuple[Stage, ...] = ("static", "coarse", "refine")


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """Adam's step sizes; those with a `final` value decay log-linearly to it over each stage and restart.

    The paper gives the network's 3e-4 with "exponential decay" and its reset; the rest is SC-GS's.

    Attributes:
        means, means_final: positions, world units per step.
        features, rest: bands of spherical harmonics, the constant one and the others.
        opacities, scales, quats, hyper: the Gaussians' other parameters (logits, logarithms, raw).
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
            require(getattr(self, item.name) > 0, f"learning rate {item.name}", getattr(self, item.name), "> 0")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Settings of one training stage.

    Attributes:
        iterations: optimizer steps; 0 passes the field on as it is.
    """

    iterations: int

    def __post_init__(self) -> None:
        require(0 <= self.iterations <= MAX_ITERATIONS, "iterations", self.iterations, f"0 to {MAX_ITERATIONS}")


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """Settings of a reconstruction: three stages and one set of loss weights.

    Attributes:
        static: Gaussians of the keyframe alone. coarse: their motion, from all frames. refine: both
            again, learning rates reset, on (regenerated) frames.
        field: the control points and the Gaussians' colours.
        weights: weights of the loss terms.
        view_weights: weights of views in the means of colours, masks and normals, in the order of the video's
            views, e.g. 1, .7, .4, 1, .7, .4, which Era3D's own reconstruction takes. Only their ratios count,
            and the loss keeps its scale. None weighs all alike; the paper gives no weights.
        rates: learning rates.
        density: when Gaussians are split, cloned and pruned, and opacities reset. Its steps are counted over
            the stages, as 3DGS counts its 30,000; the refinement does none. None keeps the number of Gaussians.
        keyframe: frame of the static stage; None is the middle one, (T - 1) // 2, which is the nearest to
            all others. The paper states "a keyframe".
        points: number of Gaussians at the start, on the visual hull of the masks.
        opacity: initial opacity. 3DGS starts at 0.1 from a sparse cloud; on a hull 0.5 leaves less fog.
        extent: half side of the cube, in world units, that holds the object.
        times_per_step: frames per step, each in all views.
        adjacent: probability that they are consecutive (`schedule.sample_frames`); the paper gives none.
        flow_gap: largest distance in frames between two frames of a step that are compared by flow; 1 is
            neighbours alone. The paper pairs the times of a step without a limit, but far ones are hard to
            estimate.
        flow_backward: flow to earlier frames counts too.
        background: "white", or "random": a new colour behind renderings and targets in every step.
        sh_every: steps after which another band of spherical harmonics is added, up to `field.sh_degree`.
    """

    static: StageConfig
    coarse: StageConfig
    refine: StageConfig
    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    weights: LossWeights = dataclasses.field(default_factory=LossWeights)
    view_weights: tuple[float, ...] | None = None
    rates: LearningRates = dataclasses.field(default_factory=LearningRates)
    density: DensityConfig | None = None
    keyframe: int | None = None
    points: int = 10_000
    opacity: float = 0.1
    extent: float = 1.0
    times_per_step: int = 4
    adjacent: float = 0.5
    flow_gap: int = 4
    flow_backward: bool = True
    background: Literal["white", "random"] = "white"
    sh_every: int = 1000

    def __post_init__(self) -> None:
        require(4 <= self.points <= MAX_POINTS, "points", self.points, f"4 to {MAX_POINTS}")
        require(0 < self.opacity < 1, "opacity", self.opacity, "within 0 and 1")
        require(0 < self.extent <= 1e6, "extent", self.extent, "> 0, at most 1e6")
        require(1 <= self.times_per_step <= 1_000, "times_per_step", self.times_per_step, "1 to 1000")
        require(0 <= self.adjacent <= 1, "adjacent", self.adjacent, "a probability")
        require(self.flow_gap >= 1, "flow_gap", self.flow_gap, "1 or more")
        require(
            self.view_weights is None
            or (all(0 <= weight < math.inf for weight in self.view_weights) and sum(self.view_weights) > 0),
            "view_weights",
            self.view_weights,
            "finite numbers of 0 or more, one of them above",
        )
        require(self.background in ("white", "random"), "background", self.background, "white or random")
        require(self.sh_every >= 1, "sh_every", self.sh_every, "1 or more")
        require(self.keyframe is None or self.keyframe >= 0, "keyframe", self.keyframe, "a frame number")

    def stage(self, name: Stage) -> StageConfig:
        """Return the settings of one stage."""
        found: StageConfig = getattr(self, name)
        return found

    def steps_before(self, name: Stage) -> int:
        """Sum the iterations of the stages before one."""
        return sum(self.stage(earlier).iterations for earlier in STAGES[: STAGES.index(name)])

    def weights_of(self, views: int) -> tuple[float, ...]:
        """Return the weight of each of `views` views.

        Raises:
            ConfigError: there are not as many weights as views.
        """
        weights = (1.0,) * views if self.view_weights is None else self.view_weights
        if len(weights) != views:
            raise ConfigError(f"view_weights has {len(weights)} numbers for {views} views; give one for each")
        return weights

    def keyframe_of(self, frames: int) -> int:
        """Return the frame of the static stage in a video of `frames` frames.

        Raises:
            ConfigError: there is no such frame.
        """
        if self.keyframe is not None and self.keyframe >= frames:
            raise ConfigError(
                f"keyframe is {self.keyframe}, the video has frames 0 to {frames - 1}; choose one"
            )
        return (frames - 1) // 2 if self.keyframe is None else self.keyframe

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return asdict(self)


# ---- presets ----


def paper() -> ReconstructionConfig:
    """Return the paper's preset (4.1, A.1), for a GPU; what the paper leaves open is SC-GS's.

    Density control is 3DGS's, until half of the 30,000 steps: where the coarse stage ends.
    """
    return ReconstructionConfig(
        static=StageConfig(iterations=5_000),
        coarse=StageConfig(iterations=10_000),
        refine=StageConfig(iterations=15_000),
        field=FieldConfig(control_points=512, neighbours=3, sh_degree=3),
        density=DensityConfig(stop=15_000),
        background="random",
    )


def mini() -> ReconstructionConfig:
    """Return the preset for two CPU cores and pictures of 64 to 128 pixels."""
    return ReconstructionConfig(
        static=StageConfig(iterations=400),
        coarse=StageConfig(iterations=1000),
        refine=StageConfig(iterations=600),
        field=FieldConfig(control_points=64, neighbours=3, hyper_dim=2, width=64, depth=6, sh_degree=3),
        rates=LearningRates(means=2e-3, means_final=2e-4, network=1e-3, network_final=5e-5),
        weights=LossWeights(normal=0.3),  # on toys never evaluated, 0.2 dB better in new views than 1
        points=4000,
        opacity=0.5,
        times_per_step=2,
        flow_gap=1,
        flow_backward=False,
    )


PRESETS: Mapping[str, Callable[[], ReconstructionConfig]] = MappingProxyType({"paper": paper, "mini": mini})


def preset(name: str) -> ReconstructionConfig:
    """Return a preset by name.

    Raises:
        ConfigError: unknown name.
    """
    return choose("preset", name, PRESETS)()
