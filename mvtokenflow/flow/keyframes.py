"""Flow from every frame to its two enclosing keyframes, and its pooling to token grids.

Paper Sec. 3.1: features of the keyframes are warped to the other frames by 2D flow. Backward warping needs,
on the grid of frame n, the flow n -> n_{m-1} and n -> n_m; the paper's π(n_{m-1} -> n) points the other way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mvtokenflow.flow.clip import ClipFlow
from mvtokenflow.flow.estimate import FlowEstimator
from mvtokenflow.media.masks import OBJECT_ALPHA

# between(n, k): flow (V, H, W, 2) and visible (V, H, W) bool from frame n to keyframe k.
FlowBetween = Callable[[int, int], tuple[Tensor, Tensor]]


def keyframes(frames: int, interval: int) -> tuple[int, ...]:
    """Choose every `interval`-th frame from 0 on, and the last one.

    The paper's equidistant keyframes alone leave the frames after the last of them without a right
    neighbour (32 frames, interval 8: 25..31), so the last frame is always a keyframe.
    """
    if frames < 1 or interval < 1:
        raise ValueError(f"need at least one frame and an interval of one, got {frames} and {interval}")
    return tuple(sorted({*range(0, frames, interval), frames - 1}))


def enclosing(frames: int, keys: Sequence[int]) -> list[tuple[int, int]]:
    """For each frame, find the positions in `keys` of the keyframes at or before it and at or after it.

    A keyframe has itself on both sides.

    Raises:
        ValueError: keys are not increasing, or do not begin with 0 and end with the last frame.
    """
    if not keys or keys[0] != 0 or keys[-1] != frames - 1 or list(keys) != sorted(set(keys)):
        raise ValueError(f"keyframes must increase from 0 to {frames - 1}, got {tuple(keys)}")
    before = [max(i for i, key in enumerate(keys) if key <= n) for n in range(frames)]
    return [(i, i if keys[i] == n else i + 1) for n, i in enumerate(before)]


@dataclass(frozen=True, kw_only=True)
class TokenMotion:
    """Motion of tokens on a grid of `side` x `side`, to the keyframes before (index 0) and after (index 1).

    Attributes:
        flow: (2, F, V, side, side, 2) in tokens; 0 on the background.
        visible: (2, F, V, side, side) bool: the token may be fetched from that keyframe. True for background
            tokens: `on_object` decides whether the keyframe has background there too.
        on_object: (F, V, side, side) bool, the class of each token of each frame.
    """

    flow: Tensor
    visible: Tensor
    on_object: Tensor


@dataclass(frozen=True, kw_only=True)
class KeyframeFlow:
    """Flow from each of F frames to the keyframes that enclose it, for V views.

    Attributes:
        keyframes: increasing frame indices, first 0, last F - 1.
        views: indices of these views in the multiview model, in order.
        flow: (2, F, V, H, W, 2) pixels on the grid of the frame; [0] to the keyframe at or before it, [1] to
            the one at or after it. 0 outside the object.
        visible: (2, F, V, H, W) bool; False outside the object.
        alpha: (F, V, H, W) in [0, 1], the object in each frame.
        chained: pairs (frame, keyframe) whose flow was chained over neighbouring frames.
    """

    keyframes: tuple[int, ...]
    views: tuple[int, ...]
    flow: Tensor
    visible: Tensor
    alpha: Tensor
    chained: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(self.alpha.shape)
        if len(shape) != 4 or self.flow.shape != (2, *shape, 2) or self.visible.shape != (2, *shape):
            raise ValueError(
                "expected flow (2, F, V, H, W, 2), visible (2, F, V, H, W) and alpha (F, V, H, W), got "
                f"{tuple(self.flow.shape)}, {tuple(self.visible.shape)} and {shape}"
            )
        if len(self.views) != shape[1] or len(set(self.views)) != len(self.views):
            raise ValueError(f"{len(self.views)} views {self.views} for flow of {shape[1]}")
        enclosing(shape[0], self.keyframes)

    def pooled(self, side: int, share: float = 0.5) -> TokenMotion:
        """Pool the flow to a token grid.

        A token belongs to the object if at least half of it does. Its flow is the mean over its visible
        object pixels, so that neither background nor hidden parts mix in, in units of tokens; where none is
        visible, the mean over all its object pixels.

        Args:
            side: tokens per row and column.
            share: share of a token's object pixels that must be visible for the token to be visible.
        """
        size = torch.tensor([side / self.flow.shape[-2], side / self.flow.shape[-3]], device=self.flow.device)
        alpha = self.alpha.float()
        seen = self.visible * alpha
        mass = _pool(alpha, side)
        seen_mass = _pool(seen, side)
        on_object = mass >= 0.5
        whole = self._mean_flow(alpha.expand_as(seen), side)
        flow = torch.where((seen_mass > 0)[..., None], self._mean_flow(seen, side), whole)
        flow = torch.where(on_object[..., None], flow, 0.0) * size
        # A share of exactly 1 must survive the rounding of the two means.
        return TokenMotion(
            flow=flow, visible=~on_object | (seen_mass >= share * mass - 1e-6), on_object=on_object
        )

    def _mean_flow(self, weight: Tensor, side: int) -> Tensor:
        """Compute the mean flow (2, F, V, side, side, 2) under weights (2, F, V, H, W)."""
        planes = _pool((self.flow.float() * weight[..., None]).movedim(-1, 2), side).movedim(2, -1)
        return planes / _pool(weight, side).clamp_min(1e-6)[..., None]


def keyframe_flow(
    between: FlowBetween, alpha: Tensor, keys: Sequence[int], views: Sequence[int]
) -> KeyframeFlow:
    """Collect flow and visibility from every frame to its enclosing keyframes.

    Args:
        between: returns flow and visibility from a frame to a keyframe; rendered flow of a dynamic field
            (paper Sec. 3.3) is passed directly. Called once per pair, never for a keyframe and itself.
        alpha: (F, V, H, W) in [0, 1].
        keys: the keyframes, from `keyframes`.
        views: V view indices.
    """
    flow = torch.zeros(2, *alpha.shape, 2, device=alpha.device)
    seen = (alpha > OBJECT_ALPHA).expand(2, *alpha.shape).clone()
    for n, sides in enumerate(enclosing(len(alpha), keys)):
        for side, position in enumerate(sides):
            if keys[position] != n:
                moved, found = between(n, keys[position])
                seen[side, n] &= found
                flow[side, n] = torch.where(alpha[n, ..., None] > 0, moved.float(), 0.0)
    return KeyframeFlow(keyframes=tuple(keys), views=tuple(views), flow=flow, visible=seen, alpha=alpha)


def estimate_keyframe_flow(
    frames: Tensor, alpha: Tensor, keys: Sequence[int], estimator: FlowEstimator, view: int = 0
) -> KeyframeFlow:
    """Estimate the keyframe flow of one view, the input video in the paper's first pass.

    Flow to far frames may be chained over neighbours, see `ClipFlow`.

    Args:
        frames: (F, H, W, 3) in [0, 1] on a plain background, on the crop that the diffusion model sees.
        alpha: (F, H, W) in [0, 1].
        keys: the keyframes, from `keyframes`.
        view: index of this view in the multiview model; 0 is the front.
    """
    clip = ClipFlow(frames, alpha > OBJECT_ALPHA, estimator)

    def between(frame: int, key: int) -> tuple[Tensor, Tensor]:
        flow, seen = clip.between(frame, key)
        return flow[None], seen[None]

    flows = keyframe_flow(between, alpha[:, None], keys, (view,))
    return KeyframeFlow(
        keyframes=flows.keyframes,
        views=flows.views,
        flow=flows.flow,
        visible=flows.visible,
        alpha=flows.alpha,
        chained=tuple(clip.chained),
    )


def _pool(planes: Tensor, side: int) -> Tensor:
    """Average (..., H, W) over the cells of a (..., side, side) grid."""
    pooled = F.adaptive_avg_pool2d(planes.reshape(-1, *planes.shape[-2:]), (side, side))
    return pooled.reshape(*planes.shape[:-2], side, side)
