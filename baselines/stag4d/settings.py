"""Settings of STAG4D, as published and for two CPU cores."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from mvtokenflow.base.files import choose
from mvtokenflow.base.settings import require
from mvtokenflow.baselines.rival_settings import DistillSettings, check_positive
from mvtokenflow.guidance.views import RandomViews
from mvtokenflow.multiview.config import SamplingConfig, SquareConfig
from mvtokenflow.small.config import small_sampling
from mvtokenflow.weights.method_entries import ERA3D_SNAPSHOT


@dataclass(frozen=True, kw_only=True)
class Densify:
    """Densification by share: Gaussians with the largest gradients, whatever these are.

    Attributes:
        start, stop: first and last step. every: steps between two.
        share: of the seen Gaussians that are cloned or split.
        grow_scale: longest axis in world units above which a Gaussian is split.
        prune_opacity: fainter ones are removed. prune_scales: so are those whose longest axis lies outside.
    """

    start: int = 1200
    stop: int = 6000
    every: int = 100
    share: float = 0.025
    grow_scale: float = 0.1
    prune_opacity: float = 0.01
    prune_scales: tuple[float, float] = (0.001, 0.1)

    def __post_init__(self) -> None:
        require(self.every >= 1, "densify.every", self.every, "1 or more")
        require(0 <= self.share < 1, "densify.share", self.share, "0 to below 1")
        least, most = self.prune_scales
        require(0 <= least < most, "densify.prune_scales", self.prune_scales, "least and most")


@dataclass(frozen=True, kw_only=True)
class Stag4dSettings:
    """STAG4D; the defaults are the published numbers where the method has them.

    Attributes:
        distill: teacher, frames, weight of distillation.
        sampling: of the views of all frames, with the same noise.
        anchor: every frame attends to the mean of its own and the first frame's keys and values.
        references: azimuths of the generated views that condition the teacher besides the input; () is none.
        points: Gaussians at the start, in a ball of radius 0.5.
        steps: of the fit. static_steps: of them on the middle frame alone, without deformation.
        resolution, factors, channels, width: of the planes and their network.
        ramp_steps: steps over which the losses against the input grow to their weights.
        colour, mask: of these. time, space, l1: of the planes' regularisation.
        scale_loss: "upstream" is the penalty of long axes as the original computes it, which is 0; "meant" is
            the one that it was meant to be.
        level_low, level_high: published noise levels as shares, at the first step and after `level_steps`.
        densify: see `Densify`.
        means, means_final, colours, opacities, scales, quats: learning rates of the Gaussians.
        network, network_final, planes, planes_final: of the deformation. rate_steps: until all have fallen.
        sides, before: side of distilled pictures by step.
    """

    distill: DistillSettings = field(default_factory=DistillSettings)
    sampling: SamplingConfig = field(default_factory=lambda: small_sampling(6))
    anchor: bool = True
    references: tuple[float, ...] = (45.0, 315.0)
    points: int = 10_000
    steps: int = 8_000
    static_steps: int = 700
    resolution: tuple[int, int, int, int] = (64, 64, 64, 25)
    factors: tuple[int, ...] = (1, 2, 4, 8)
    channels: int = 32
    width: int = 64
    ramp_steps: int = 2000
    colour: float = 20_000.0
    mask: float = 5_000.0
    time: float = 5.0
    space: float = 0.05
    l1: float = 0.05
    scale_loss: Literal["upstream", "meant"] = "upstream"
    level_low: tuple[float, float] = (0.5, 0.02)
    level_high: tuple[float, float] = (0.95, 0.5)
    level_steps: int = 3000
    densify: Densify = field(default_factory=Densify)
    means: float = 2e-3
    means_final: float = 2e-5
    colours: float = 0.005
    opacities: float = 0.02
    scales: float = 0.01
    quats: float = 0.002
    network: float = 1.6e-3
    network_final: float = 1.6e-4
    planes: float = 1.6e-2
    planes_final: float = 1.6e-3
    rate_steps: int = 2000
    sides: tuple[int, ...] = (128, 256, 512)
    before: tuple[int, ...] = (600, 1200)

    def __post_init__(self) -> None:
        check_positive(self, ("points", "steps", "channels", "width", "ramp_steps", "level_steps"))
        check_positive(self, ("colour", "mask", "means", "means_final", "network", "planes", "rate_steps"))
        require(0 <= self.static_steps <= self.steps, "static_steps", self.static_steps, "0 to steps")
        require(self.scale_loss in ("upstream", "meant"), "scale_loss", self.scale_loss, "upstream or meant")
        require(len(self.sides) == len(self.before) + 1, "sides", self.sides, "one more than steps in `before`")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return asdict(self)


def paper() -> Stag4dSettings:
    """Return the published settings with Zero123-XL, for a GPU; the views are the multiview prior's."""
    return Stag4dSettings(
        distill=DistillSettings(
            teacher="zero123",
            prior=ERA3D_SNAPSHOT.repository,
            square=SquareConfig(size=512, crop_size=-1),
            stride=1,
            sds_weight=1.0,
            views=RandomViews(count=1),
        ),
        sampling=SamplingConfig(steps=40, eta=1.0, guidance=3.0),
    )


def mini() -> Stag4dSettings:
    """Return the same method with the small prior, scaled to two CPU cores."""
    return Stag4dSettings(
        distill=DistillSettings(level_floor=LEVEL_FLOOR, sds_weight=SDS_WEIGHT),
        points=2000,
        steps=400,
        static_steps=40,
        resolution=(16, 16, 16, 12),
        factors=(1, 2),
        channels=16,
        width=32,
        ramp_steps=100,
        level_steps=150,
        # A ball of few Gaussians starts with large ones, which the published bound of 0.1 would remove at once.
        densify=Densify(start=60, stop=300, every=20, prune_scales=(0.001, 0.4)),
        means=4e-3,  # a twentieth of the steps: faster rates
        means_final=4e-4,
        colours=0.01,
        opacities=0.05,
        rate_steps=400,
        sides=(64,),
        before=(),
    )


LEVEL_FLOOR, SDS_WEIGHT = 900, 16.0  # tuned by benchmarks/tune_rivals.py, on toys that no table evaluates
PRESETS: Mapping[str, Callable[[], Stag4dSettings]] = MappingProxyType({"paper": paper, "mini": mini})


def preset(name: str) -> Stag4dSettings:
    """Return a preset by name.

    Raises:
        ConfigError: there is none of this name.
    """
    return choose("preset", name, PRESETS)()
