"""The linear-Gaussian video denoiser: the best linear guess of a view's frames from noisy ones and an anchor.

Every number of a view's latents is taken as a Gaussian process in time, all channels and places alike, with
moments that were measured on training toys. Given noisy values at some times and the anchor, what the prior
draws of the view at one time, the posterior mean is a matrix times what is seen; one small matrix for each
domain, view and noise level. It needs no training, has no model of objects and serves as the video denoiser
where none was learned (Diffusion², Yang et al., ICLR 2025, composes a learned one).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import sqrt
from pathlib import Path

import torch
from torch import Tensor

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.tensor_files import read_tensors, write_tensors
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.small.video import AnchoredClip, VideoDenoiser

STATISTICS = Path(__file__).parent / "weights" / "video_linear.safetensors"
_FORMAT = "mvtokenflow-video-moments-1"


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Second moments over time of the latents of V views, means over channels, places and clips; float64.

    Attributes:
        lags: (L,) from 0, rising; a clip has the length 1.
        frames: (2, V, L) E[z(t) z(t + lag)] of clean latents z.
        anchor: (2, V, L) E[a z(t + lag)] with the anchor a, the prior's mean prediction at the time t.
        anchor_square: (2, V) E[a²].
    """

    lags: Tensor
    frames: Tensor
    anchor: Tensor
    anchor_square: Tensor

    def __post_init__(self) -> None:
        count, lead = len(self.lags), self.anchor_square.shape
        shapes = (self.frames.shape, self.anchor.shape)
        if count < 2 or self.lags[0] != 0 or not bool((self.lags.diff() > 0).all()):
            raise ValueError("lags must rise from 0")
        if len(lead) != 2 or lead[0] != 2 or any(shape != (*lead, count) for shape in shapes):
            raise ValueError(f"moments {shapes} and {tuple(lead)} do not fit {count} lags")

    def joint(self, times: Tensor, anchor_time: float) -> Tensor:
        """Covariance (2, V, T + 1, T + 1) of the latents at T times and the anchor, float64.

        Between the lags it is interpolated, beyond them the last is taken; what is not positive semidefinite
        of the result, by that and by chance, is cut off.
        """
        at = times.double()
        joint = self.frames.new_empty(*self.anchor_square.shape, len(at) + 1, len(at) + 1)
        joint[..., :-1, :-1] = self._interpolated(self.frames, (at[:, None] - at).abs())
        joint[..., -1, :-1] = joint[..., :-1, -1] = self._interpolated(self.anchor, (at - anchor_time).abs())
        joint[..., -1, -1] = self.anchor_square
        values, vectors = torch.linalg.eigh(joint)
        whole: Tensor = (vectors * values.clamp_min(0)[..., None, :]) @ vectors.mT
        return whole

    def _interpolated(self, moments: Tensor, lags: Tensor) -> Tensor:
        """Interpolate to (2, V, *lags.shape)."""
        wanted = lags.clamp_max(float(self.lags[-1])).contiguous()
        after = torch.searchsorted(self.lags, wanted).clamp(1, len(self.lags) - 1)
        share = (wanted - self.lags[after - 1]) / (self.lags[after] - self.lags[after - 1])
        return moments[..., after - 1] * (1 - share) + moments[..., after] * share


def posterior_matrix(joint: Tensor, alphabar: float) -> Tensor:
    """Matrix (..., T, T + 1) from noisy latents and the anchor to the posterior mean of the clean latents.

    With x = sqrt(ab) z + sqrt(1 - ab) n it is cov(z, (x, a)) cov((x, a))⁻¹.

    Args:
        joint: (..., T + 1, T + 1) covariance of z and a, the anchor last, see `Moments.joint`.
        alphabar: signal power ab of x, 0 to 1.
    """
    signal = joint.new_full((joint.shape[-1],), sqrt(alphabar))
    signal[-1] = 1.0
    noise = joint.new_full((joint.shape[-1],), 1 - alphabar)
    noise[-1] = 0.0
    seen = signal[:, None] * joint * signal + torch.diag(noise)
    matrix: Tensor = (joint * signal)[..., :-1, :] @ torch.linalg.pinv(seen, hermitian=True)
    return matrix


@dataclass(frozen=True)
class LinearVideo:
    """The video model of measured moments, a `video.VideoModel`."""

    moments: Moments

    def of_clip(self, prior: MultiviewPrior, clip: AnchoredClip) -> VideoDenoiser:
        """Prepare the denoiser of one clip."""
        front = clip.fronts[clip.anchor : clip.anchor + 1]
        anchor = prior.codec.encode(clip.pictures[:, None], front)
        joint = self.moments.joint(clip.times.cpu(), float(clip.times[clip.anchor]))

        def denoise(latents: Tensor, timestep: int, alphabar: float) -> Tensor:
            matrix = posterior_matrix(joint, alphabar).to(latents)
            seen = torch.cat((latents, anchor.to(latents)), dim=1)
            return torch.einsum("dvts,dsvchw->dtvchw", matrix, seen)

        return denoise


def save_moments(path: Path, moments: Moments, facts: Mapping[str, str]) -> None:
    """Write moments atomically as float32 safetensors; `facts` go into the metadata."""
    tensors = {item.name: getattr(moments, item.name).float().contiguous() for item in fields(moments)}
    write_tensors(path, tensors, {**facts, "format": _FORMAT})


def load_moments(path: Path | None = None) -> Moments:
    """Read the shipped moments, or those of `save_moments`.

    Raises:
        WeightsMissingError: no such file.
        WeightsCorruptError: a damaged file, or one of something else.
    """
    file = STATISTICS if path is None else path
    if not file.is_file():
        raise WeightsMissingError(f"{file}: no moments there; reinstall, or run `mvtf measure-video -o FILE`")
    what, cure = "no moments of a video denoiser", "reinstall, or measure them again"
    metadata, tensors = read_tensors(file, what, cure, WeightsCorruptError)
    with damage(file, what, cure, WeightsCorruptError):
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}")
        if not all(bool(value.isfinite().all()) for value in tensors.values()):
            raise ValueError("it holds NaN or infinite values")
        return Moments(**{item.name: tensors[item.name].double() for item in fields(Moments)})
