"""The lesson of the video denoiser: consecutive frames of one view, from what the prior draws at one time."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mvtokenflow.multiview.prior import COLOUR, MultiviewPrior
from mvtokenflow.small.codec import FRONT, PatchCodec
from mvtokenflow.small.training.data import Views, training_pictures
from mvtokenflow.small.training.lesson import Example
from mvtokenflow.small.video import WINDOW, mean_pictures, window_condition


class ClipTensors(NamedTuple):
    """K clips of 1 + 6 frames in six views: the anchor, then the window.

    Attributes:
        pictures: (2, K, 7, V, 3, S, S) uint8, as `training_pictures`.
        times: (K, 7); the clip has the length 1.
    """

    pictures: Tensor
    times: Tensor


@dataclass(frozen=True, kw_only=True)
class Clips:
    """K clips in bytes, a batch of `training.data.Source`.

    Attributes:
        views: K x 7 moments, clip by clip.
        times: (K, 7).
    """

    views: Views
    times: Tensor

    def tensors(self) -> ClipTensors:
        """Return the tensors as the lesson takes them."""
        return ClipTensors(_by_clip(training_pictures(self.views), self.times.shape), self.times)


@dataclass(frozen=True, kw_only=True)
class WindowLesson:
    """Six consecutive frames of a view, given the prior's mean prediction of that view at another time.

    The anchor is what a sampler has: drawn by the prior from the front picture alone, not the truth.

    Attributes:
        prior: the trained small prior, on the network's device; its codec is the network's.
        views: of each clip, drawn anew from all six: so many windows are made of a clip.
    """

    prior: MultiviewPrior
    views: int

    @torch.no_grad()
    def __call__(self, held: ClipTensors, generator: torch.Generator) -> Example:
        """Build the example of K x `views` windows."""
        device = self.prior.prompts.device
        pictures, times = held.pictures.to(device).float() / 255, held.times.to(device).float()
        count, chosen = len(times), []
        for _ in range(count):
            order = torch.randperm(pictures.shape[3], generator=generator, device=device)
            chosen.append(order[: self.views])
        clips = torch.arange(count, device=device).repeat_interleave(self.views)
        return window_example(self.prior, pictures, times, clips, torch.cat(chosen), generator)


def window_example(
    prior: MultiviewPrior,
    pictures: Tensor,
    times: Tensor,
    clips: Tensor,
    views: Tensor,
    generator: torch.Generator,
) -> Example:
    """Build the example of B windows of K clips.

    Args:
        pictures: (2, K, 7, V, 3, S, S) in [0, 1]: the anchor, then the window. times: (K, 7).
        clips, views: (B,) of each window.
    """
    codec = prior.codec
    if not isinstance(codec, PatchCodec):
        raise TypeError("windows are made in the latents of a small prior's codec")
    frames = pictures[:, :, 1:]
    flat = frames.flatten(1, 2)
    latents = _by_clip(codec.encode(flat, flat[COLOUR, :, FRONT]), frames.shape[1:3])
    clean = latents[:, clips, :, views].movedim(0, 1)  # indices that are apart come first
    anchors = mean_pictures(prior, pictures[COLOUR, :, 0, FRONT], generator)[:, clips, views]
    labels = prior.image_encoder.class_labels(anchors[COLOUR], generator)
    weights = torch.ones(2, len(views), WINDOW, device=anchors.device)
    weights[COLOUR, views == FRONT] = 0.0  # the codec has it already
    return Example(
        clean=clean,
        condition=window_condition(codec, anchors, views, times[clips, 1:] - times[clips, :1]),
        labels=labels,
        prompts=prior.prompts[:, views][:, :, None].expand(-1, -1, WINDOW, -1, -1),
        weights=weights / weights.mean().clamp_min(1 / weights.numel()),
    )


def _by_clip(pictures: Tensor, lead: tuple[int, ...]) -> Tensor:
    """Reshape (2, K T, ...) to (2, K, T, ...)."""
    return pictures.view(2, *lead, *pictures.shape[2:])
