"""Settings of Diffusion² and its presets."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal, get_args

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.method.config import mini as method_mini
from mvtokenflow.method.config import paper as method_paper
from mvtokenflow.multiview.composition import Mixing, Renoise
from mvtokenflow.multiview.config import SquareConfig
from mvtokenflow.small.config import NOISE_LEVELS
from mvtokenflow.small.video import WINDOW
from mvtokenflow.splat.training_config import ReconstructionConfig, StageConfig

Models = Literal["learned", "linear", "sv3d+svd"]


@dataclass(frozen=True, kw_only=True)
class MatrixSampling:
    """How the matrix of views and frames is sampled.

    Attributes:
        timesteps: noise levels of the small prior, strictly falling, down to 0 or above.
        renoised: the first levels that are taken twice, with noise added in between (variance-reducing
            sampling; the original takes a fifth of its levels twice).
        renoise: "upstream" adds less noise than was taken away, as the original's code; "exact" adds as much.
        mixing: course of the multiview model's share s over the levels (`composition.mixing_share`).
        share: s of the kind "constant". least: s at the end of the kinds "linear" and "cosine".
        least_weight: levels at which no view weighs the video model as much as this do without it.
        anchor: frame whose views condition the video model: the "first", or the "last" as the original has it.
        overlap: frames that windows of the learned video model share.
    """

    timesteps: tuple[int, ...] = (999, 875, 812, 734, 644, 500, 381, 250, 120, 40)
    renoised: int = 2
    renoise: Renoise = "upstream"
    mixing: Mixing = "cosine"
    share: float = 0.6
    least: float = 0.6
    least_weight: float = 0.02
    anchor: Literal["first", "last"] = "first"
    overlap: int = 2

    def __post_init__(self) -> None:
        falling = all(later < earlier for earlier, later in pairwise(self.timesteps))
        if not self.timesteps or not falling or self.timesteps[-1] < 0 or self.timesteps[0] >= NOISE_LEVELS:
            raise ConfigError(
                f"timesteps are {self.timesteps}; expected strictly falling, {NOISE_LEVELS - 1} to 0"
            )
        if not 0 <= self.renoised <= len(self.timesteps):
            raise ConfigError(f"renoised is {self.renoised}; expected 0 to {len(self.timesteps)}, the levels")
        for name, kinds in (("renoise", Renoise), ("mixing", Mixing), ("anchor", Literal["first", "last"])):
            if getattr(self, name) not in get_args(kinds):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected {' or '.join(get_args(kinds))}")
        for name in ("share", "least", "least_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if not 0 <= self.overlap < WINDOW:
            raise ConfigError(f"overlap is {self.overlap}; expected 0 to {WINDOW - 1}")


@dataclass(frozen=True, kw_only=True)
class EdmSampling:
    """How the original samples its matrix; the defaults are its own.

    Attributes:
        views: of the matrix. frames: at most so many, as many as SVD-XT was trained with.
        steps, largest, smallest, rho: noise levels of EDM (`composition.edm_sigmas`).
        renoised, renoise, mixing, share, anchor: as in `MatrixSampling`.
        guidance: of SV3D. video_guidance: of SVD at the first and the last frame.
        augmentation, video_augmentation: noise on the conditioning pictures' latents.
        fps, motion: of SVD's condition.
    """

    views: int = 21
    frames: int = 25
    steps: int = 50
    largest: float = 700.0
    smallest: float = 0.002
    rho: float = 7.0
    renoised: int = 10
    renoise: Renoise = "upstream"
    mixing: Mixing = "constant"
    share: float = 0.6
    anchor: Literal["first", "last"] = "last"
    guidance: float = 2.5
    video_guidance: tuple[float, float] = (1.5, 3.0)
    augmentation: float = 1e-5
    video_augmentation: float = 0.02
    fps: int = 24
    motion: int = 127

    def __post_init__(self) -> None:
        if min(self.views, self.frames, self.steps) < 1:
            raise ConfigError("views, frames and steps must be at least 1")
        if not 0 < self.smallest < self.largest or self.rho <= 0:
            raise ConfigError(
                f"noise levels {self.largest} to {self.smallest}, rho {self.rho}; expected falling, above 0"
            )
        if not 0 <= self.renoised <= self.steps:
            raise ConfigError(f"renoised is {self.renoised}; expected 0 to {self.steps}, the steps")
        if not 0 <= self.share <= 1:
            raise ConfigError(f"share is {self.share}; expected 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Diffusion2Settings:
    """Diffusion²: the models, their matrix, and the fit to it.

    Attributes:
        models: "linear": the small prior and the linear-Gaussian video denoiser; "learned": the small prior
            and a video model of `mvtf train-video`; "sv3d+svd": the original's.
        video_file: the weights of the learned video model, of which none is in the package: none has passed
            its gate (docs/rivals.md).
        square: how the clip becomes the models' square pictures.
        stride: views are generated for every `stride`-th frame of the clip and the last.
        sampling: of the small models. edm: of the original's.
        reconstruction: the fit, without losses of normals or flow, which the original does not have.
    """

    models: Models = "linear"
    video_file: str | None = None
    square: SquareConfig = field(default_factory=lambda: method_mini().square)
    stride: int = 2
    sampling: MatrixSampling = field(default_factory=MatrixSampling)
    edm: EdmSampling = field(default_factory=EdmSampling)
    reconstruction: ReconstructionConfig = field(default_factory=lambda: photometric(method_mini().fitted()))

    def __post_init__(self) -> None:
        if self.models not in get_args(Models):
            raise ConfigError(f"models is {self.models!r}; expected {' or '.join(get_args(Models))}")
        if (self.models == "learned") != (self.video_file is not None):
            raise ConfigError(
                f"models is {self.models!r}, video_file is {self.video_file!r}; a file of `mvtf train-video` "
                "belongs to the models learned, and only to them"
            )
        if self.stride < 1:
            raise ConfigError(f"stride is {self.stride}; expected 1 or more")
        if self.square.per_frame:
            raise ConfigError("square.per_frame is on, but a field needs one crop box for the whole clip")
        weights = self.reconstruction.weights
        if weights.normal or weights.flow:
            raise ConfigError(
                f"the weights of normals and flow are {weights.normal} and {weights.flow}; expected 0: the "
                "original has no such losses"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values: all that change a result."""
        held = asdict(self)
        del held["video_file"]  # what is in it counts, not where it is (`models.model_names`)
        del held["sampling" if self.models == "sv3d+svd" else "edm"]
        return held


def photometric(config: ReconstructionConfig) -> ReconstructionConfig:
    """Return a reconstruction without losses of normals and flow."""
    return replace(config, weights=replace(config.weights, normal=0.0, flow=0.0))


def mini() -> Diffusion2Settings:
    """Return the settings for two CPU cores: small models, a matrix of six views."""
    fit = replace(
        method_mini().reconstruction, static=StageConfig(iterations=300), refine=StageConfig(iterations=0)
    )
    return Diffusion2Settings(
        sampling=MatrixSampling(least=0.9),  # the linear denoiser's error is too large for more
        reconstruction=photometric(fit),
    )


def paper() -> Diffusion2Settings:
    """Return the original's sampler and our reconstruction for a GPU; the original's was not released."""
    return Diffusion2Settings(
        models="sv3d+svd",
        square=SquareConfig(size=576, crop_size=-1),
        stride=2,  # 17 of 32 frames: SVD-XT takes up to 25
        reconstruction=photometric(replace(method_paper().reconstruction, view_weights=None)),
    )


PRESETS: Mapping[str, Callable[[], Diffusion2Settings]] = MappingProxyType({"mini": mini, "paper": paper})
