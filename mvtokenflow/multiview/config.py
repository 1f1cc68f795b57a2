"""Settings of multiview diffusion: square input pictures and sampling."""

from dataclasses import dataclass
from itertools import pairwise
from math import inf

from mvtokenflow.base.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Settings of sampling; the defaults are Era3D's.

    Attributes:
        steps: denoising steps, spaced by the prior's scheduler.
        eta: 0 is deterministic DDIM, 1 adds as much noise as DDPM.
        guidance: weight of the image condition; 1 runs no unconditional branch, at half the cost.
        timesteps: explicit training timesteps, `steps` of them, strictly decreasing; None is the scheduler's.
        share_noise: use the same noise for all frames, per view and domain.
        chunk: frames that the network and the codec process at once; bounds memory.
    """

    steps: int = 40
    eta: float = 1.0
    guidance: float = 3.0
    timesteps: tuple[int, ...] | None = None
    share_noise: bool = True
    chunk: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.chunk < 1:
            raise ConfigError(f"steps is {self.steps}, chunk is {self.chunk}; both must be at least 1")
        if self.steps > 10_000:
            raise ConfigError(f"steps is {self.steps}; expected at most 10000")
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"eta is {self.eta}; expected 0 (deterministic) to 1")
        if not 0 <= self.guidance < inf:
            raise ConfigError(f"guidance is {self.guidance}; expected 0 or more, 1 is none")
        if self.timesteps is not None:
            falling = all(later < earlier for earlier, later in pairwise(self.timesteps))
            if not self.timesteps or not falling or self.timesteps[-1] < 0:
                raise ConfigError(
                    f"timesteps are {self.timesteps}; expected strictly falling, down to 0 or above"
                )
            if len(self.timesteps) != self.steps:
                raise ConfigError(
                    f"steps is {self.steps}, but {len(self.timesteps)} timesteps are named; change both"
                )


MAX_SIDE = 4096  # pixels of the prior's pictures; Era3D has 512


@dataclass(frozen=True, kw_only=True)
class SquareConfig:
    """Settings for cropping and scaling a clip to square pictures.

    Attributes:
        size: S, the side of the pictures in pixels.
        crop_size: longer side of the object's box in the picture (rounding may take a pixel), up to `size`;
            Era3D recommends 420 or 400 of 512, and 380 for portraits. -1 keeps the whole frame, padded to a
            square.
        per_frame: crop every frame by its own box, as the original does, including its loss of the last row
            and column of the box.
    """

    size: int = 512
    crop_size: int = 420
    per_frame: bool = False

    def __post_init__(self) -> None:
        if self.size > MAX_SIDE:
            raise ConfigError(f"size is {self.size}; expected at most {MAX_SIDE} pixels")
        if self.size < 1 or not (self.crop_size == -1 or 1 <= self.crop_size <= self.size):
            raise ConfigError(
                f"size is {self.size}, crop_size is {self.crop_size}; expected a crop_size of 1 to size, or -1 "
                "for whole frames"
            )
