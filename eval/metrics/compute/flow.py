"""Optical flow for metrics: estimated on a clip, chained over frames, sampled between pixels."""

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Sampling positions are sums of float32 flows; without slack a point that lands exactly on the last
# pixel centre would count as outside the picture on one machine and inside on another.
_EDGE_SLACK_PX = 1e-3


def chain_flow(flow: NDArray[np.floating], visible: Mask, span: int) -> tuple[Floats, Mask]:
    """Chain flow over `span` frames by following each pixel through the neighbouring flows.

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
    check_flow(flow, visible)
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
            keep = within(x, y, height, width)
            keep[keep] = sample(certain[t + step], x[keep], y[keep])[:, 0] > 1 - 1e-9
            rows, columns, x, y = rows[keep], columns[keep], x[keep], y[keep]
            moved = moved[keep] + sample(known[t + step], x, y)
        chained[t, rows, columns] = moved
        seen[t, rows, columns] = True
    return chained, seen


def estimate_flow_dis(gray0: NDArray[np.floating], gray1: NDArray[np.floating]) -> NDArray[np.float32]:
    """Estimate dense inverse search flow (Kroeger et al., ECCV 2016) by OpenCV.

    Preset "medium" (patch 8, stride 3, 25 descent and 5 variational iterations) with the finest level
    lowered from half to full resolution, because toy pictures are small. Grey values are quantised to
    8 bits, which is what the estimator takes. The result does not depend on the number of threads.

    Args:
        gray0, gray1: (H, W) in [0, 1], at least 12 pixels high and wide.

    Returns:
        (H, W, 2) pixels (dx, dy) from gray0 to gray1 on the grid of gray0.
    """
    import cv2  # slow to import, and most metrics need none

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
    """Return pixels whose flow is undone by the flow back: |f + b'|² < alpha (|f|² + |b'|²) + beta.

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
    x, y = targets(forward, rows, columns)
    visible = within(x, y, height, width)
    there = forward[rows, columns][visible].astype(np.float64)
    back = sample(backward, x[visible], y[visible])
    bound = alpha * (np.square(there).sum(axis=1) + np.square(back).sum(axis=1)) + beta
    visible[visible] = np.square(there + back).sum(axis=1) < bound
    return visible.reshape(height, width)


def estimate_clip_flow(frames: NDArray[np.floating], foreground: Mask) -> tuple[NDArray[np.float32], Mask]:
    """Estimate flow and visibility of a reference clip without exact ones.

    Args:
        frames: (T, H, W, 3) RGB in [0, 1].
        foreground: (T, H, W) bool, the object; a plain background has no flow that could be estimated.

    Returns:
        flow (T-1, H, W, 2) pixels and visible (T-1, H, W): on the object and undone by the flow back.
    """
    check_clip(frames)
    if frames.shape[-1] != 3 or foreground.shape != frames.shape[:3]:
        raise ValueError(
            f"need frames (T, H, W, 3) and foreground (T, H, W), got {frames.shape}, {foreground.shape}"
        )
    gray = frames @ np.array([0.299, 0.587, 0.114], dtype=frames.dtype)  # Rec. 601 luma, as OpenCV's RGB2GRAY
    forward = np.stack([estimate_flow_dis(gray[t], gray[t + 1]) for t in range(len(gray) - 1)])
    backward = [estimate_flow_dis(gray[t + 1], gray[t]) for t in range(len(gray) - 1)]
    consistent = [forward_backward_visible(there, back) for there, back in zip(forward, backward, strict=True)]
    return forward, np.stack(consistent) & foreground[:-1]


def check_clip(frames: NDArray[np.floating]) -> None:
    """Refuse anything but two or more float frames (T, H, W, C).

    Raises:
        DataError: a frame is NaN or leaves [0, 1].
    """
    if frames.ndim != 4 or len(frames) < 2 or not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(
            f"frames must be floats (T, H, W, C) with T >= 2, got {frames.dtype} {frames.shape} "
            "(divide 8-bit pictures by 255)"
        )
    good = ((frames >= 0) & (frames <= 1)).all(axis=(1, 2, 3))  # False for NaN
    if not good.all():
        raise DataError(f"frame {int(np.argmin(good))}: holds NaN or values outside [0, 1]")


def check_flow(flow: NDArray[np.floating], visible: Mask) -> None:
    """Refuse anything but flow (P, H, W, 2) with a mask (P, H, W).

    Raises:
        DataError: the flow is NaN or infinite on a visible pixel.
    """
    if flow.ndim != 4 or flow.shape[-1] != 2 or visible.shape != flow.shape[:3] or visible.dtype != np.bool_:
        raise ValueError(
            f"need flow (P, H, W, 2) and boolean visible (P, H, W), got {flow.shape} and "
            f"{visible.dtype} {visible.shape}"
        )
    good = (np.isfinite(flow).all(axis=-1) | ~visible).all(axis=(1, 2))
    if not good.all():
        raise DataError(f"flow {int(np.argmin(good))}: NaN or infinite on a visible pixel")


def targets(
    flow: NDArray[np.floating], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[Floats, Floats]:
    """Return where the flow (H, W, 2) takes the pixels at `rows`, `columns`: x and y."""
    moved = flow[rows, columns].astype(np.float64)
    return columns + moved[:, 0], rows + moved[:, 1]


def within(x: Floats, y: Floats, height: int, width: int) -> Mask:
    """Return whether positions lie between the outer pixel centres, where bilinear sampling is defined."""
    slack = _EDGE_SLACK_PX
    return (x >= -slack) & (x <= width - 1 + slack) & (y >= -slack) & (y <= height - 1 + slack)


def sample(image: NDArray[np.floating], x: Floats, y: Floats) -> Floats:
    """Sample `image` (H, W, C) bilinearly, (N, C), at pixel indices x, y (pixel centres are integers)."""
    height, width = image.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left = np.clip(np.floor(x), 0, max(width - 2, 0)).astype(np.intp)
    top = np.clip(np.floor(y), 0, max(height - 2, 0)).astype(np.intp)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    u, v = (x - left)[:, None], (y - top)[:, None]
    upper = (1 - u) * image[top, left] + u * image[top, right]
    lower = (1 - u) * image[bottom, left] + u * image[bottom, right]
    return np.asarray((1 - v) * upper + v * lower, dtype=np.float64)
