"""The clip as the prior sees it: square pictures of the frames that are generated, and their optical flow."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mvtokenflow.config import MethodConfig
from mvtokenflow.flow import visible
from mvtokenflow.flow_estimate import FlowEstimator, estimate_flow
from mvtokenflow.flow_keyframes import keyframes
from mvtokenflow.multiview.preprocess import Crop, square_clip
from mvtokenflow.splat.views import ViewFlow
from mvtokenflow.video import Clip

FRONT = 0  # the view that the input is
SOLID = 0.5  # alpha of a pixel that is more object than background


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
    """Square pictures of every `stride`-th frame and the last, by one crop box of the whole clip."""
    squares = square_clip(clip, config.square)
    kept = list(keyframes(len(clip), config.stride))
    last = max(len(clip) - 1, 1)
    return Input(
        front=squares.front[kept],
        alpha=squares.alpha[kept],
        times=torch.tensor(kept, dtype=torch.float32) / last,
        crop=squares.crops[0],
    )


def input_flow(given: Input, estimator: FlowEstimator) -> ViewFlow:
    """Optical flow of the input from every frame to the next, for the flow loss on the front view."""
    steps = [(n, n + 1) for n in range(len(given.front) - 1)]
    there = estimate_flow(given.front, steps, estimator)
    back = estimate_flow(given.front, [(b, a) for a, b in steps], estimator)
    solid = given.alpha[..., 0] > SOLID
    return ViewFlow(view=FRONT, flow=there, visible=visible(there, back, solid[:-1], solid[1:]))
