"""Errors against exact geometry: optical flow and surface normals. Maps first, then masked means.

Both metrics exist only where a dataset has ground truth (toy4d); no published table of video-to-4D has
them. End-point error is the measure of Baker et al., "A Database and Evaluation Methodology for Optical
Flow" (IJCV 2011); the angular summary (mean, median, share below 11.25, 22.5 and 30 degrees) is the one
of Fouhey et al., "Data-Driven 3D Primitives" (ICCV 2013), kept by later normal-estimation work.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

ANGLE_LIMITS_DEG = (11.25, 22.5, 30.0)
# Renderers hand over interpolated float16 or float32 vectors. An encoded normal picture (n/2 + 1/2)
# misses unit length by 0.1 to 0.7 at almost every pixel, so this bound separates the two.
_UNIT_TOLERANCE = 0.02


def masked_mean(values: NDArray[np.floating], mask: Mask) -> Floats:
    """Mean over the pixels of each frame that the mask keeps, in float64.

    Args:
        values: (N, H, W); what lies outside the mask is never read, NaN included.
        mask: (N, H, W) bool.

    Returns:
        (N,); NaN for a frame whose mask is empty: it has no value, and a caller must not record one.

    Raises:
        DataError: a kept pixel is NaN or infinite; names the frame.
    """
    if values.shape != mask.shape or values.ndim != 3:
        raise ValueError(f"values and mask must both be (N, H, W), got {values.shape} and {mask.shape}")
    kept = np.where(mask, values, 0.0).astype(np.float64)
    bad = ~np.isfinite(kept).all(axis=(1, 2))
    if bad.any():
        raise DataError(f"frame {int(np.argmax(bad))}: holds NaN or infinite values on the object")
    count = mask.sum(axis=(1, 2))
    total = kept.sum(axis=(1, 2))
    mean = np.full(len(count), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def end_point_error(flow: NDArray[np.floating], truth: NDArray[np.floating]) -> Floats:
    """Length of the difference of two flows, unreduced.

    Args:
        flow, truth: (P, H, W, 2) pixels (dx, dy) on the grid of the source frame, at equal size.

    Returns:
        (P, H, W) pixels. Reduce with `masked_mean(error, visible)`: a surface point that is hidden in
        the target frame has no defined flow.
    """
    if flow.shape != truth.shape or flow.ndim != 4 or flow.shape[-1] != 2:
        raise ValueError(f"flow and truth must both be (P, H, W, 2), got {flow.shape} and {truth.shape}")
    difference = flow.astype(np.float64) - truth
    return np.hypot(difference[..., 0], difference[..., 1])


def normal_angle(normal: NDArray[np.floating], truth: NDArray[np.floating]) -> Floats:
    """Angle between two normal maps, unreduced.

    Computed as atan2(|a x b|, a . b), which keeps its precision at 0 and 180 degrees where the arc
    cosine of a float32 dot product is off by up to 0.03 degrees.

    Args:
        normal, truth: (T, H, W, 3) world-frame normals, 0 outside the object.

    Returns:
        (T, H, W) degrees in [0, 180]; NaN where either map has no surface.

    Raises:
        DataError: a vector is neither 0 nor of unit length (an encoded picture, not normals).
    """
    if normal.shape != truth.shape or normal.ndim != 4 or normal.shape[-1] != 3:
        raise ValueError(f"normal and truth must both be (T, H, W, 3), got {normal.shape} and {truth.shape}")
    both = _surface(normal, "predicted") & _surface(truth, "true")
    a, b = normal[both].astype(np.float64), truth[both].astype(np.float64)
    angle = np.full(both.shape, np.nan)
    angle[both] = np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(axis=-1)))
    return angle


@dataclass(frozen=True, kw_only=True)
class NormalError:
    """Normal error of every frame. All arrays are (T,).

    Attributes:
        mean_deg, median_deg: angle over the pixels where both maps have a surface; NaN where none do.
        within: shares of those pixels below each limit of `ANGLE_LIMITS_DEG`, (T, 3).
        mask_iou: intersection over union of the two surfaces. The angle alone would reward a result
            that shows only what it is sure of; the two are read together.
        pixels: size of the intersection.
    """

    mean_deg: Floats
    median_deg: Floats
    within: Floats
    mask_iou: Floats
    pixels: NDArray[np.int64]


def normal_error(normal: NDArray[np.floating], truth: NDArray[np.floating]) -> NormalError:
    """Angular error on the intersection of the two surfaces, and how well the surfaces overlap.

    Args:
        normal, truth: (T, H, W, 3) unit world normals, 0 outside the object.

    Raises:
        DataError: as `normal_angle`.
    """
    angle = normal_angle(normal, truth)
    intersection = np.isfinite(angle)
    union = normal.any(axis=-1) | truth.any(axis=-1)
    pixels = intersection.sum(axis=(1, 2))
    frames = len(angle)
    median = np.full(frames, np.nan)
    within = np.full((frames, len(ANGLE_LIMITS_DEG)), np.nan)
    for t in np.flatnonzero(pixels):
        values = angle[t][intersection[t]]
        median[t] = np.median(values)
        within[t] = [(values < limit).mean() for limit in ANGLE_LIMITS_DEG]
    area = union.sum(axis=(1, 2))
    return NormalError(
        mean_deg=masked_mean(angle, intersection),
        median_deg=median,
        within=within,
        mask_iou=np.divide(pixels, area, out=np.ones(frames), where=area > 0),  # two empty frames agree
        pixels=pixels.astype(np.int64),
    )


def _surface(normal: NDArray[np.floating], whose: str) -> Mask:
    length = np.linalg.norm(normal.astype(np.float64), axis=-1)
    surface = length != 0
    wrong = surface & ~(np.abs(length - 1) <= _UNIT_TOLERANCE)  # `<=` is False for NaN
    if wrong.any():
        frame, row, column = (int(index) for index in np.argwhere(wrong)[0])
        raise DataError(
            f"{whose} normal at frame {frame}, row {row}, column {column} has length "
            f"{length[frame, row, column]:.3f}; expected unit vectors, 0 outside the object "
            "(decode normal pictures to [-1, 1] first)"
        )
    return np.asarray(surface, dtype=np.bool_)
