"""Temporal consistency: warp error with its floor and its trap, motion, CLIP-t, flickering.

"Warp error" has no agreed definition in the literature (pixel scale, flow, resizing and normalisation all
differ), so this is ours, in full:

* frames in [0, 1] at the size given, nothing is resized;
* the flow belongs to the *reference* clip: exact where the dataset has it, else DIS on the reference
  clip with a forward-backward check (`estimate_clip_flow`). A prediction is judged on the motion it ought
  to show, so a static prediction does not score 0;
* frame t+span is sampled bilinearly at x + flow(x) and compared with frame t on the visible pixels, all
  colour channels alike; the mean absolute and the root mean squared difference are both kept;
* one value per frame pair; nothing is averaged over time here.

Bilinear sampling blurs, and shading changes: the reference clip itself does not score 0 either. That
floor, and the score of a clip that never moves, belong beside every warp error (`warp_error_in_context`).
A score *below* the floor is no better than one at the floor: smooth pictures warp well, so a blurred result
gets under it. Read warp error together with a sharpness-aware metric such as LPIPS.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.geometry import masked_mean

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Sampling positions are sums of float32 flows; without slack a point that lands exactly on the last
# pixel centre would count as outside the picture on one machine and inside on another.
_EDGE_SLACK_PX = 1e-3


@dataclass(frozen=True, kw_only=True)
class WarpError:
    """Warp error of each pair (t, t+span). All arrays are (P,).

    Attributes:
        mae: mean absolute difference in [0, 1]; NaN where `pixels` is 0 (no value, do not record one).
        rmse: root mean squared difference in [0, 1]; NaN likewise.
        pixels: pixels compared.
    """

    mae: Floats
    rmse: Floats
    pixels: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class WarpContext:
    """A warp error with the two numbers it must be read against, on the same flow and pixels.

    Attributes:
        prediction: the clip judged.
        floor: the reference clip itself; a perfect result scores this, not 0.
        static: the reference's first frame repeated; what doing nothing scores.
    """

    prediction: WarpError
    floor: WarpError
    static: WarpError


def warp_error(frames: NDArray[np.floating], flow: NDArray[np.floating], visible: Mask) -> WarpError:
    """Difference between each frame and the later frame warped back to it.

    Args:
        frames: (T, H, W, C) in [0, 1].
        flow: (P, H, W, 2) pixels (dx, dy) from frame t to t+span on the grid of t, where span = T - P.
            May hold anything (NaN too) where not visible.
        visible: (P, H, W) bool, the surface point of frame t is seen in frame t+span as well.

    Raises:
        DataError: a frame value is NaN or outside [0, 1], or the flow is NaN on a visible pixel.
    """
    _check_clip(frames)
    _check_flow(flow, visible)
    pairs = len(flow)
    span = len(frames) - pairs
    if span < 1 or flow.shape[1:3] != frames.shape[1:3]:
        raise ValueError(
            f"{len(frames)} frames of {frames.shape[1:3]} do not fit {pairs} flows of {flow.shape[1:3]}"
        )
    mae, rmse = np.full(pairs, np.nan), np.full(pairs, np.nan)
    pixels = np.zeros(pairs, dtype=np.int64)
    for t in range(pairs):
        rows, columns = np.nonzero(visible[t])
        x, y = _targets(flow[t], rows, columns)
        inside = _inside(x, y, *flow.shape[1:3])
        warped = _sample(frames[t + span], x[inside], y[inside])
        difference = warped - frames[t][rows[inside], columns[inside]]
        pixels[t] = inside.sum()
        if pixels[t]:
            mae[t] = np.abs(difference).mean()
            rmse[t] = np.sqrt(np.square(difference).mean())
    return WarpError(mae=mae, rmse=rmse, pixels=pixels)


def warp_error_in_context(
    frames: NDArray[np.floating],
    reference: NDArray[np.floating],
    flow: NDArray[np.floating],
    visible: Mask,
) -> WarpContext:
    """Warp error of a prediction, of its reference (floor) and of a frozen clip (trap).

    Args:
        frames, reference: (T, H, W, C) in [0, 1], at equal size.
        flow, visible: of the reference, as in `warp_error`.
    """
    if frames.shape != reference.shape:
        raise ValueError(f"prediction {frames.shape} and reference {reference.shape} differ in shape")
    frozen = np.broadcast_to(reference[:1], reference.shape)
    return WarpContext(
        prediction=warp_error(frames, flow, visible),
        floor=warp_error(reference, flow, visible),
        static=warp_error(frozen, flow, visible),
    )


def chain_flow(flow: NDArray[np.floating], visible: Mask, span: int) -> tuple[Floats, Mask]:
    """Flow over `span` frames by following each pixel through the neighbouring flows.

    F_{t,t+k+1}(x) = F_{t,t+k}(x) + f_{t+k}(x + F_{t,t+k}(x)), each flow sampled bilinearly. A point is
    visible at the end only if it stayed so at every step, which needs all pixels that the bilinear
    sample reads to be visible: nothing is interpolated across an outline.

    Args:
        flow: (T-1, H, W, 2) pixels, neighbouring frames, on the grid of the earlier one.
        visible: (T-1, H, W) bool.
        span: frames to bridge, 1 <= span <= T-1.

    Returns:
        flow (T-span, H, W, 2), 0 where not visible; visible (T-span, H, W).
    """
    _check_flow(flow, visible)
    if not 1 <= span <= len(flow):
        raise ValueError(f"span must be 1..{len(flow)} for {len(flow) + 1} frames, got {span}")
    height, width = flow.shape[1:3]
    known = np.where(visible[..., None], flow, 0.0).astype(np.float64)
    certain = visible[..., None].astype(np.float64)
    chained = np.zeros((len(flow) + 1 - span, height, width, 2))
    seen = np.zeros(chained.shape[:3], dtype=np.bool_)
    for t in range(len(chained)):
        rows, columns = np.nonzero(visible[t])
        moved = known[t][rows, columns]
        for step in range(1, span):
            x, y = columns + moved[:, 0], rows + moved[:, 1]
            keep = _inside(x, y, height, width)
            keep[keep] = _sample(certain[t + step], x[keep], y[keep])[:, 0] > 1 - 1e-9
            rows, columns, x, y = rows[keep], columns[keep], x[keep], y[keep]
            moved = moved[keep] + _sample(known[t + step], x, y)
        chained[t, rows, columns] = moved
        seen[t, rows, columns] = True
    return chained, seen


def motion_magnitude(flow: NDArray[np.floating], mask: Mask) -> Floats:
    """Mean length of the flow on the object, pixels per pair.

    Args:
        flow: (P, H, W, 2) pixels; mask: (P, H, W) bool, the object's visible pixels.

    Returns:
        (P,); NaN where the mask is empty.

    Raises:
        DataError: the flow is NaN or infinite on the mask.
    """
    _check_flow(flow, mask)
    known = np.where(mask[..., None], flow, 0.0)
    return masked_mean(np.hypot(known[..., 0], known[..., 1]), mask)


def motion_normalised(error: Floats, motion: Floats, minimum_px: float = 0.05) -> Floats:
    """Error per pixel of motion, so that slow clips do not look consistent only for being slow.

    Args:
        error, motion: (P,) from `warp_error` and `motion_magnitude`.
        minimum_px: pairs that move less have no value: the quotient would be noise, and a clip that
            stands still must not win (0/0).

    Returns:
        (P,) in [0, 1] per pixel; NaN where there is no value.
    """
    if error.shape != motion.shape:
        raise ValueError(f"error {error.shape} and motion {motion.shape} differ in shape")
    moves = motion >= minimum_px
    quotient = np.full(error.shape, np.nan)
    np.divide(error, motion, out=quotient, where=moves)
    return quotient


def clip_t(embeddings: NDArray[np.floating]) -> Floats:
    """Cosine between the embeddings of neighbouring frames ("CLIP-T" of 4D papers; higher is steadier).

    4DGen's score of the same name is a spherical distance (lower is better): not comparable.

    Args:
        embeddings: (T, D), T >= 2, of any length.

    Returns:
        (T-1,) in [-1, 1].

    Raises:
        DataError: an embedding is 0 or not finite; names the frame.
    """
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise ValueError(f"embeddings must be (T, D) of at least two frames, got {embeddings.shape}")
    vectors = embeddings.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1)
    bad = ~(np.isfinite(length) & (length > 0))
    if bad.any():
        raise DataError(f"frame {int(np.argmax(bad))}: its embedding is 0 or not finite")
    unit = vectors / length[:, None]
    cosine: Floats = np.clip((unit[1:] * unit[:-1]).sum(axis=1), -1.0, 1.0)
    return cosine


def temporal_flickering(frames: NDArray[np.floating]) -> Floats:
    """1 - mean absolute difference of neighbouring frames (VBench, "temporal flickering"; higher is better).

    Knows nothing of motion: a frozen clip scores a perfect 1. Print it beside the motion magnitude.

    Args:
        frames: (T, H, W, C) in [0, 1], T >= 2.

    Returns:
        (T-1,) in [0, 1].
    """
    _check_clip(frames)
    change = [np.abs(frames[t + 1].astype(np.float64) - frames[t]).mean() for t in range(len(frames) - 1)]
    return 1 - np.array(change)


def estimate_flow_dis(gray0: NDArray[np.floating], gray1: NDArray[np.floating]) -> NDArray[np.float32]:
    """Dense inverse search flow (Kroeger et al., ECCV 2016) from OpenCV.

    Preset "medium" (patch 8, stride 3, 25 descent and 5 variational iterations) with the finest level
    lowered from half to full resolution, because toy pictures are small. Grey values are quantised to
    8 bits, which is what the estimator takes. The result does not depend on the number of threads.

    Args:
        gray0, gray1: (H, W) in [0, 1], at least 12 pixels high and wide.

    Returns:
        (H, W, 2) pixels (dx, dy) from gray0 to gray1 on the grid of gray0.
    """
    if gray0.shape != gray1.shape or gray0.ndim != 2 or min(gray0.shape) < 12:
        raise ValueError(f"need two pictures (H, W) of at least 12x12, got {gray0.shape} and {gray1.shape}")
    first, second = (np.rint(np.clip(gray, 0, 1) * 255).astype(np.uint8) for gray in (gray0, gray1))
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    estimator.setFinestScale(0)
    return np.asarray(
        estimator.calc(first, second, np.zeros((*gray0.shape, 2), dtype=np.float32)), dtype=np.float32
    )


def forward_backward_visible(
    forward: NDArray[np.floating], backward: NDArray[np.floating], alpha: float = 0.01, beta: float = 0.5
) -> Mask:
    """Pixels whose flow is undone by the flow back: |f + b'|^2 < alpha (|f|^2 + |b'|^2) + beta.

    b' is the backward flow at x + f(x). The bound and its constants are those of Sundaram, Brox and
    Keutzer, "Dense Point Trajectories by GPU-Accelerated Large Displacement Optical Flow" (ECCV 2010).

    Args:
        forward: (H, W, 2) on the grid of the first frame; backward: (H, W, 2) on that of the second.

    Returns:
        (H, W) bool; False where x + f(x) leaves the picture.
    """
    if forward.shape != backward.shape or forward.ndim != 3 or forward.shape[-1] != 2:
        raise ValueError(f"flows must both be (H, W, 2), got {forward.shape} and {backward.shape}")
    height, width = forward.shape[:2]
    rows, columns = (index.ravel() for index in np.indices((height, width)))
    x, y = _targets(forward, rows, columns)
    visible = _inside(x, y, height, width)
    there = forward[rows, columns][visible].astype(np.float64)
    back = _sample(backward, x[visible], y[visible])
    bound = alpha * (np.square(there).sum(axis=1) + np.square(back).sum(axis=1)) + beta
    visible[visible] = np.square(there + back).sum(axis=1) < bound
    return visible.reshape(height, width)


def estimate_clip_flow(frames: NDArray[np.floating], foreground: Mask) -> tuple[NDArray[np.float32], Mask]:
    """Flow and visibility of a reference clip that has no exact ones.

    Args:
        frames: (T, H, W, 3) RGB in [0, 1].
        foreground: (T, H, W) bool, the object; a plain background has no flow that could be estimated.

    Returns:
        flow (T-1, H, W, 2) pixels and visible (T-1, H, W): on the object and undone by the flow back.
    """
    _check_clip(frames)
    if frames.shape[-1] != 3 or foreground.shape != frames.shape[:3]:
        raise ValueError(
            f"need frames (T, H, W, 3) and foreground (T, H, W), got {frames.shape}, {foreground.shape}"
        )
    gray = frames @ np.array([0.299, 0.587, 0.114], dtype=frames.dtype)  # Rec. 601 luma, as OpenCV's RGB2GRAY
    forward = np.stack([estimate_flow_dis(gray[t], gray[t + 1]) for t in range(len(gray) - 1)])
    backward = [estimate_flow_dis(gray[t + 1], gray[t]) for t in range(len(gray) - 1)]
    consistent = [forward_backward_visible(there, back) for there, back in zip(forward, backward, strict=True)]
    return forward, np.stack(consistent) & foreground[:-1]


def _check_clip(frames: NDArray[np.floating]) -> None:
    if frames.ndim != 4 or len(frames) < 2 or not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(
            f"frames must be floats (T, H, W, C) with T >= 2, got {frames.dtype} {frames.shape} "
            "(divide 8-bit pictures by 255)"
        )
    good = ((frames >= 0) & (frames <= 1)).all(axis=(1, 2, 3))  # False for NaN
    if not good.all():
        raise DataError(f"frame {int(np.argmin(good))}: holds NaN or values outside [0, 1]")


def _check_flow(flow: NDArray[np.floating], visible: Mask) -> None:
    if flow.ndim != 4 or flow.shape[-1] != 2 or visible.shape != flow.shape[:3] or visible.dtype != np.bool_:
        raise ValueError(
            f"need flow (P, H, W, 2) and boolean visible (P, H, W), got {flow.shape} and "
            f"{visible.dtype} {visible.shape}"
        )
    good = (np.isfinite(flow).all(axis=-1) | ~visible).all(axis=(1, 2))
    if not good.all():
        raise DataError(f"flow {int(np.argmin(good))}: NaN or infinite on a visible pixel")


def _targets(
    flow: NDArray[np.floating], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[Floats, Floats]:
    moved = flow[rows, columns].astype(np.float64)
    return columns + moved[:, 0], rows + moved[:, 1]


def _inside(x: Floats, y: Floats, height: int, width: int) -> Mask:
    """Whether positions lie between the outer pixel centres, where bilinear sampling is defined."""
    slack = _EDGE_SLACK_PX
    return (x >= -slack) & (x <= width - 1 + slack) & (y >= -slack) & (y <= height - 1 + slack)


def _sample(image: NDArray[np.floating], x: Floats, y: Floats) -> Floats:
    """Bilinear samples (N, C) of `image` (H, W, C) at pixel indices x, y (a pixel's centre is its index)."""
    height, width = image.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left = np.clip(np.floor(x), 0, max(width - 2, 0)).astype(np.intp)
    top = np.clip(np.floor(y), 0, max(height - 2, 0)).astype(np.intp)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    u, v = (x - left)[:, None], (y - top)[:, None]
    upper = (1 - u) * image[top, left] + u * image[top, right]
    lower = (1 - u) * image[bottom, left] + u * image[bottom, right]
    return np.asarray((1 - v) * upper + v * lower, dtype=np.float64)
