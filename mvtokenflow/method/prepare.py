"""Prepares a clip: square pictures and flow for the prior, and the full frames for the fit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.flow.clip import ClipFlow
from mvtokenflow.flow.estimate import FlowEstimator
from mvtokenflow.flow.keyframes import keyframes
from mvtokenflow.media.masks import OBJECT_ALPHA
from mvtokenflow.media.video import Clip
from mvtokenflow.method.config import MethodConfig
from mvtokenflow.method.placement import (
    assumed_camera,
    cameras_in_field,
    cut,
    faces_front,
    square_window,
    squared,
)
from mvtokenflow.multiview.preprocess import Crop, square_clip
from mvtokenflow.views.cameras import Cameras
from mvtokenflow.views.video import FrontVideo, ViewFlow

FRONT = 0  # the view that the input is


@dataclass(frozen=True, kw_only=True)
class Input:
    """The clip as the prior sees it.

    Attributes:
        front: (F, S, S, 3) frames on white. alpha: (F, S, S, 1).
        times: (F,) of the frames kept, in [0, 1] of the whole clip.
        crop: where the square pictures lie in the clip's frames.
    """

    front: Tensor
    alpha: Tensor
    times: Tensor
    crop: Crop


def prepare(clip: Clip, config: MethodConfig) -> Input:
    """Crop every `stride`-th frame and the last to squares, with one crop box for the whole clip."""
    squares = square_clip(clip, config.square)
    kept = list(keyframes(len(clip), config.stride))
    return Input(
        front=squares.front[kept],
        alpha=squares.alpha[kept],
        times=clip.times[kept],
        crop=squares.crops[0],
    )


def near_pairs(frames: int, gap: int, *, backward: bool) -> tuple[tuple[int, int], ...]:
    """List pairs (source, target) of frames at most `gap` apart, those of neighbouring frames first."""
    pairs: list[tuple[int, int]] = []
    for step in range(1, min(gap, frames - 1) + 1):
        ahead = [(n, n + step) for n in range(frames - step)]
        pairs += [*ahead, *((b, a) for a, b in ahead)] if backward else ahead
    return tuple(pairs)


def input_flow(
    front: Tensor, alpha: Tensor, pairs: tuple[tuple[int, int], ...], estimator: FlowEstimator
) -> ViewFlow:
    """Estimate optical flow between pairs of input frames, for the flow loss on the front view.

    Every pair takes two estimates, since the way back shows what is visible; with both ways the pairs are twice
    as many and the estimates the same: of 32 frames 62 for neighbours, 236 for a gap of 4, 440 for one of 8.

    Args:
        front: (F, S, S, 3) frames on white. alpha: (F, S, S, 1).

    Returns:
        flow of the front view, 0 off the object.
    """
    flow, seen = ClipFlow(front, alpha[..., 0] > OBJECT_ALPHA, estimator).of(pairs)
    here = alpha[[source for source, _ in pairs]]
    return ViewFlow(view=FRONT, pairs=pairs, flow=torch.where(here > 0, flow, 0.0), visible=seen)


def front_video(clip: Clip, given: Input, camera: Cameras | None) -> FrontVideo:
    """Return the clip at its own resolution, all frames, as the target of the field's front view.

    It is cut to what the square pictures show, so that the object takes as large a share of it as of the other
    views. What they show beyond the frame is left out: nothing is known there of an object partly outside.

    Args:
        camera: (1,) that took the clip, level and at azimuth 0, in a world of its own; None is an orthographic
            one. Under a pinhole camera flow is seen by it too, on the squares' grid, where the prior's front
            camera would see the object without the perspective of the pictures.

    Raises:
        DataError: the camera is not one of the clip's pictures, level and at azimuth 0.
    """
    height, width = clip.rgb.shape[1:3]
    own = assumed_camera(height, width) if camera is None else camera
    if (own.height, own.width) != (height, width):
        raise DataError(
            f"{clip.name}: frames of {width}x{height}, but a camera of {own.width}x{own.height}; give the "
            "camera of these pictures"
        )
    if not faces_front(own):
        raise DataError(
            f"{clip.name}: its camera is not level or not at azimuth 0; turn the world that it is stated in so "
            "that it is"
        )
    placed = cameras_in_field(own, own, given.crop)
    window = square_window(given.crop, height, width)
    left, top, right, bottom = window
    return FrontVideo(
        view=FRONT,
        rgb=clip.rgb[:, top:bottom, left:right],
        alpha=clip.alpha[:, top:bottom, left:right],
        camera=cut(placed, window),
        times=clip.times,
        flow_camera=None if own.kind == "ortho" else squared(placed, given.crop),
    )
