"""Settings of DreamGaussian4D, as published and for two CPU cores."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from mvtokenflow.base.files import choose
from mvtokenflow.base.settings import require
from mvtokenflow.baselines.rival_settings import DistillSettings, check_positive
from mvtokenflow.multiview.config import SamplingConfig, SquareConfig
from mvtokenflow.radiance.heads import HEADS, HeadKind
from mvtokenflow.small.config import small_sampling
from mvtokenflow.weights.method_entries import ERA3D_SNAPSHOT


@dataclass(frozen=True, kw_only=True)
class Dg4dSettings:
    """DreamGaussian4D; the defaults are the published numbers where the method has them.

    Attributes:
        distill: teacher, frames, weight of distillation.
        start: "static" fits Gaussians to the prior's views of the first frame, where the original has LGM;
            "random" starts from a grey ball of radius 0.5.
        sampling: of the views of the first frame. static_steps: of the fit to them. points: at the start.
        steps: of the dynamic stage.
        resolution, factors, channels, width: of the planes and their network. heads: "residual", zero at the
            start, or "plain".
        colour, mask: weights of the squared errors against the input, which grow linearly over the stage.
        whole_video: compare every frame with the input in every step; else one drawn frame.
        distilled_frames: frames distilled per step, spread evenly; all within a cycle of steps.
        levels: lowest and highest published noise level of the ramp.
        means, means_final, colours, opacities, scales, quats: learning rates of the Gaussians.
        network, planes: learning rates of the deformation, constant.
        sides, before: side of distilled pictures by step.
    """

    distill: DistillSettings = field(default_factory=DistillSettings)
    start: Literal["static", "random"] = "static"
    sampling: SamplingConfig = field(default_factory=lambda: small_sampling(6))
    static_steps: int = 1000
    points: int = 10_000
    steps: int = 500
    resolution: tuple[int, int, int, int] = (32, 32, 32, 32)
    factors: tuple[int, ...] = (1,)
    channels: int = 32
    width: int = 64
    heads: HeadKind = "residual"
    colour: float = 10_000.0
    mask: float = 1_000.0
    whole_video: bool = True
    distilled_frames: int = 32
    levels: tuple[int, int] = (20, 980)
    means: float = 1e-3
    means_final: float = 2e-5
    colours: float = 0.01
    opacities: float = 0.05
    scales: float = 0.005
    quats: float = 0.005
    network: float = 6.4e-4
    planes: float = 6.4e-3
    sides: tuple[int, ...] = (128, 256, 512)
    before: tuple[int, ...] = (150, 300)

    def __post_init__(self) -> None:
        check_positive(
            self, ("static_steps", "points", "steps", "channels", "width", "colour", "distilled_frames")
        )
        check_positive(
            self, ("means", "means_final", "colours", "opacities", "scales", "quats", "network", "planes")
        )
        require(self.start in ("static", "random"), "start", self.start, "static or random")
        require(self.heads in HEADS, "heads", self.heads, " or ".join(HEADS))
        require(len(self.sides) == len(self.before) + 1, "sides", self.sides, "one more than steps in `before`")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return asdict(self)


def paper() -> Dg4dSettings:
    """Return the published settings with Stable-Zero123, for a GPU."""
    return Dg4dSettings(
        distill=DistillSettings(
            teacher="stable-zero123",
            prior=ERA3D_SNAPSHOT.repository,
            square=SquareConfig(size=512, crop_size=-1),
            stride=1,
            sds_weight=1.0,
        ),
        sampling=SamplingConfig(steps=40, eta=1.0, guidance=3.0),
    )


def mini() -> Dg4dSettings:
    """Return the same method with the small prior, scaled to two CPU cores: fewer steps, faster rates."""
    return Dg4dSettings(
        distill=DistillSettings(level_floor=LEVEL_FLOOR, sds_weight=SDS_WEIGHT),
        static_steps=200,
        points=4000,
        steps=140,
        resolution=(16, 16, 16, 16),
        channels=16,
        width=32,
        distilled_frames=3,
        network=4 * 6.4e-4,
        planes=4 * 6.4e-3,
        sides=(64,),
        before=(),
    )


LEVEL_FLOOR, SDS_WEIGHT = 900, 16.0  # tuned by benchmarks/tune_rivals.py, on toys that no table evaluates
PRESETS: Mapping[str, Callable[[], Dg4dSettings]] = MappingProxyType({"paper": paper, "mini": mini})


def preset(name: str) -> Dg4dSettings:
    """Return a preset by name.

    Raises:
        ConfigError: there is none of this name.
    """
    return choose("preset", name, PRESETS)()
