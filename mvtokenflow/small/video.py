"""Video denoisers; the learned one is the small prior's network with six frames of a view instead of six views.

It takes noisy latents of consecutive frames of a view and predicts the clean ones, as the prior does with the
views of a frame. Where the prior is conditioned by the front picture, it is conditioned by the pictures
(normals and colours) of its own view at one time, the anchor; the prompts name the view. One plane of the
condition that is 0 for level cameras holds the time from the anchor. It does not see the input video
(Diffusion², Yang et al., ICLR 2025: a video model per view).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.base.errors import WeightsMissingError
from mvtokenflow.multiview.prior import COLOUR, MultiviewPrior
from mvtokenflow.multiview.sampler import level_steps, predict_clean
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small.codec import PatchCodec
from mvtokenflow.small.config import small_sampling
from mvtokenflow.small.prior import read_network

FORMAT = "mvtokenflow-small-video-1"
WINDOW = 6  # frames, as many as the prior has views
_TIME_PLANE = 4  # of `place_planes`: the height of the viewing direction, 0 for level cameras


@dataclass(frozen=True, kw_only=True)
class AnchoredClip:
    """A clip's front view, and all views at one of its times: the anchor.

    Attributes:
        fronts: (F, 3, S, S) in [0, 1].
        times: (F,) in [0, 1].
        anchor: index of the frame that is the anchor.
        pictures: (2, V, 3, S, S) in [0, 1], normal maps and colours of the anchor; generated.
    """

    fronts: Tensor
    times: Tensor
    anchor: int
    pictures: Tensor


class VideoDenoiser(Protocol):
    """Predicts clean latents from noisy ones, each view from its own frames."""

    def __call__(self, latents: Tensor, timestep: int, alphabar: float, /) -> Tensor:
        """Map noisy latents (2, F, V, c, h, w) of signal power `alphabar` to clean ones."""
        ...


class VideoModel(Protocol):
    """A model of how views change over time."""

    def of_clip(self, prior: MultiviewPrior, clip: AnchoredClip) -> VideoDenoiser:
        """Prepare the denoiser of one clip, in the latents of the prior's codec."""
        ...


@dataclass(frozen=True, kw_only=True)
class LearnedVideo:
    """The learned video model.

    Attributes:
        unet: on the prior's device, evaluation mode.
        overlap: frames that a window shares with the next, 0 to 5; there the predictions' mean is taken.
    """

    unet: MultiviewUNet
    overlap: int = 2

    def of_clip(self, prior: MultiviewPrior, clip: AnchoredClip) -> VideoDenoiser:
        """Prepare the denoiser of one clip.

        Raises:
            TypeError: not the small prior.
        """
        if not isinstance(prior.codec, PatchCodec):
            raise TypeError("the learned video model works in the latents of the small prior's codec")
        views = torch.arange(len(prior.cameras), device=clip.pictures.device)
        draws = torch.Generator(clip.pictures.device)
        labels = prior.image_encoder.class_labels(clip.pictures[COLOUR], draws)
        windows = window_frames(len(clip.times), self.overlap)
        conditions = [
            window_condition(
                prior.codec,
                clip.pictures,
                views,
                (clip.times[frames] - clip.times[clip.anchor]).expand(len(views), -1),
            )
            for frames in windows
        ]

        def denoise(latents: Tensor, timestep: int, alphabar: float) -> Tensor:
            total, count = torch.zeros_like(latents), latents.new_zeros(latents.shape[1])
            for frames, condition in zip(windows, conditions, strict=True):
                clean = _window(self.unet, prior.prompts, labels, condition, latents[:, frames], timestep)
                total.index_add_(1, torch.tensor(frames, device=latents.device), clean.to(total))
                count += torch.bincount(torch.tensor(frames), minlength=len(count)).to(count)
            return total / count.view(1, -1, 1, 1, 1, 1)

        return denoise


def window_frames(frames: int, overlap: int) -> list[list[int]]:
    """List the frames of each window: six consecutive ones; of shorter clips the last is repeated.

    Args:
        frames: 1 or more. overlap: frames shared with the next window, 0 to 5; the last may share more.
    """
    last = max(frames - WINDOW, 0)
    starts = [*range(0, last, WINDOW - overlap), last]
    return [[min(start + k, frames - 1) for k in range(WINDOW)] for start in starts]


@torch.no_grad()
def _window(
    unet: MultiviewUNet, prompts: Tensor, labels: Tensor, condition: Tensor, latents: Tensor, timestep: int
) -> Tensor:
    """Predict the clean latents (2, T, V, c, h, w) of a window of all views."""
    sample = latents.transpose(1, 2)
    lead = sample.shape[:3]
    output = unet(
        torch.cat((sample, condition), dim=3).flatten(0, 2),
        torch.tensor(timestep, device=sample.device),
        prompts[:, :, None].expand(-1, -1, lead[2], -1, -1).flatten(0, 2),
        labels[None, :, None].expand(*lead, -1).flatten(0, 2),
    ).sample
    clean: Tensor = output.view_as(sample).transpose(1, 2)
    return clean


def window_condition(codec: PatchCodec, anchors: Tensor, views: Tensor, times: Tensor) -> Tensor:
    """Compute the condition (2, B, T, c', h, w) of B windows: anchor in [-1, 1], position, view and time.

    Args:
        anchors: (2, B, 3, S, S) normal map and colours in [0, 1] of the window's view at the anchor's time.
        views: (B,) index of the view. times: (B, T) from the anchor's; the clip has the length 1.
    """
    frames = times.shape[1]
    patches = F.pixel_unshuffle(2 * anchors - 1, codec.patch)
    planes = codec.places[:, views][:, :, None].expand(-1, -1, frames, -1, -1, -1).clone()
    planes[:, :, :, _TIME_PLANE] = times[None, :, :, None, None]
    return torch.cat((patches[:, :, None].expand(-1, -1, frames, -1, -1, -1), planes), dim=3)


@torch.no_grad()
def mean_pictures(prior: MultiviewPrior, front: Tensor, generator: torch.Generator) -> Tensor:
    """Predict the mean picture (2, F, V, 3, S, S) in [0, 1] of all views from the front (F, 3, S, S) alone.

    It is the prediction at the last level, where the latents are noise; one noise is drawn for all frames.
    """
    condition = prior.codec.condition(front)
    labels = prior.image_encoder.class_labels(front, generator)
    _, frames, views, _, *grid = condition.shape
    shape = (2, 1, views, prior.unet.config.out_channels, *grid)
    noise = torch.randn(shape, generator=generator, device=generator.device).to(condition)
    ((step, alpha, _),) = level_steps(prior, small_sampling(1), frames, views)
    latents = noise.expand(-1, frames, -1, -1, -1, -1)
    return prior.codec.decode(predict_clean(prior, latents, condition, labels, step, alpha), front)


def load_small_video(path: Path, device: torch.device | str = "cpu") -> LearnedVideo:
    """Load a video model of `mvtf train-video`; float32, evaluation mode, frozen.

    Raises:
        WeightsMissingError: no such file.
        WeightsCorruptError: not a video model, or one trained with another small CLIP.
    """
    if not path.is_file():
        raise WeightsMissingError(f"{path}: no video model there; run `mvtf train-video -o DIR`")
    unet, _ = read_network(path, FORMAT, "not a small video model")
    return LearnedVideo(unet=unet.to(device))
