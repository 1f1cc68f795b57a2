"""Settings of a field, its loss weights and its density control."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.settings import require
from mvtokenflow.splat.kernels.constants import ALPHA_MIN, MAX_DEGREE

# A Gaussian much smaller than a pixel is blurred to a variance of 0.3 pixels² and may lie on a pixel's corner,
# 0.5 pixels² off all centres; below this opacity it stays under the rasterizer's 1/255 in every pixel and
# would never get a gradient again.
OPACITY_FLOOR = 1.02 * ALPHA_MIN * math.exp(0.5 * 0.5 / 0.3)


@dataclass(frozen=True, kw_only=True)
class DensityConfig:
    """Schedule and thresholds for adding and removing Gaussians; steps are counted over all stages.

    Attributes:
        start, stop: densify at steps in (start, stop). every: steps between densifications.
        grow_gradient: clone or split a Gaussian from this mean gradient of the loss by its picture position, in
            NDC units (the picture is 2 wide). With `absolute` use about 8e-4.
        grow_scale: Gaussians up to this share of the extent are cloned, larger ones split.
        prune_opacity: Gaussians below this opacity are removed.
        prune_scale: Gaussians with an axis longer than this share of the extent are removed, after the first
            reset of opacities.
        reset_every: steps between opacity resets, 0 for never. reset_opacity: upper bound a reset sets.
        absolute: sum absolute values of the pixels' gradients (AbsGS), so that opposite pulls do not cancel.
        max_count: upper bound on the number of Gaussians; those with the strongest gradients are added first.

    Raises:
        ConfigError: a value out of range, or a reset after which Gaussians would be pruned or get no gradient.
    """

    start: int = 500
    stop: int = 15_000
    every: int = 100
    grow_gradient: float = 2e-4
    grow_scale: float = 0.01
    prune_opacity: float = 0.005
    prune_scale: float = 0.1
    reset_every: int = 3_000
    reset_opacity: float = 0.02
    absolute: bool = False
    max_count: int = 200_000

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            require(value >= 0, f"density.{entry.name}", value, "a finite number, 0 or more")
        require(self.every >= 1, "density.every", self.every, "at least 1")
        require(1 <= self.max_count <= 50_000_000, "density.max_count", self.max_count, "1 to 50000000")
        least = max(OPACITY_FLOOR, 2 * self.prune_opacity)
        require(
            least <= self.reset_opacity <= 1,
            "density.reset_opacity",
            self.reset_opacity,
            f"{least:.4f} to 1: fainter Gaussians are pruned or have no effect on any pixel",
        )


# Upper bounds on sizes in stored fields and on command lines: far above any use, below what exhausts memory.
_MOST = {"control_points": 100_000, "neighbours": 1_000, "hyper_dim": 1_000, "width": 1_024, "depth": 32}


@dataclass(frozen=True, kw_only=True)
class FieldConfig:
    """Settings of a dynamic field: control points, deform network, colours and flow visibility.

    Attributes:
        control_points: M, by farthest point sampling over the static Gaussians (paper: 512).
        neighbours: K, the control points that steer a Gaussian (paper: 3).
        hyper_dim: extra coordinates in which Gaussians find their control points (SC-GS's recipes: 8).
        width, depth: size of the deform network (SC-GS: 256, 8); at least 6 layers: after the fifth its
            inputs are concatenated again.
        time_network: encode time by a small network (SC-GS's `is_blender`) or by sines alone.
        local_frame: rotate Gaussians about their control points (SC-GS's `local_frame`).
        rotation: "frame" turns Gaussians by the blended frames of their control points, so that a rigid
            motion of the control points moves them rigidly; "residual" is SC-GS: another output of the
            network is added to the quaternion.
        sh_degree: 0 to 3, highest band of view-dependent colour.
        background: colour behind the object, in [0, 1].
        depth_tolerance: world units by which a surface may lie behind the rendered depth and still count
            as visible in `flow`.
    """

    control_points: int = 512
    neighbours: int = 3
    hyper_dim: int = 8
    width: int = 256
    depth: int = 8
    time_network: bool = True
    local_frame: bool = True
    rotation: Literal["frame", "residual"] = "frame"
    sh_degree: int = 0
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    depth_tolerance: float = 0.05

    def __post_init__(self) -> None:
        least = {"control_points": 1, "neighbours": 1, "hyper_dim": 0, "width": 1, "depth": 6, "sh_degree": 0}
        for name, low in least.items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(whole and value >= low, f"field.{name}", value, f"a whole number of at least {low}")
            require(value <= _MOST.get(name, value), f"field.{name}", value, f"at most {_MOST.get(name)}")
        if self.neighbours > self.control_points:
            raise ConfigError(
                f"field.neighbours is {self.neighbours} but there are {self.control_points} control points; "
                "lower it"
            )
        require(self.sh_degree <= MAX_DEGREE, "field.sh_degree", self.sh_degree, f"0 to {MAX_DEGREE}")
        require(
            self.rotation in ("frame", "residual"), "field.rotation", self.rotation, "'frame' or 'residual'"
        )
        colour = self.background
        unit = len(colour) == 3 and all(0 <= part <= 1 for part in colour)
        require(unit, "field.background", colour, "three numbers in [0, 1]")
        require(self.depth_tolerance > 0, "field.depth_tolerance", self.depth_tolerance, "a positive length")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values; `FieldConfig(**settings)` restores them."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the loss terms; the defaults are the paper's (appendix A.1), 0 switches a term off.

    Attributes:
        image: weight of `l1` on colours. mask: of `mask_loss`. d_ssim: of `d_ssim`. arap: of `arap`, the mean
            over edges. normal: of `normal_loss`. flow: of `flow_loss`, front view only.

    Raises:
        ConfigError: a weight is negative, NaN or infinite.
    """

    image: float = 0.8
    mask: float = 2.0
    d_ssim: float = 0.2
    arap: float = 1.0
    normal: float = 1.0
    flow: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            require(value >= 0, f"loss weight {field.name}", value, "a finite number, 0 or more")
