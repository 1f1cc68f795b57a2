"""Angle between a method's own normals and the exact ones.

It exists only where a dataset has ground truth (toy4d); no published table of video-to-4D has it. The angular
summary (mean, median, share below 11.25, 22.5 and 30 degrees) is the one of Fouhey et al., "Data-Driven 3D
Primitives" (ICCV 2013), kept by later normal-estimation work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.compute.masked import Mask, masked_mean
from mvtokenflow.eval.metrics.spec import Better, ClipPair, Floats, MetricSpec, Needs, Networks, present

ANGLE_LIMITS_DEG = (11.25, 22.5, 30.0)
# Renderers hand over interpolated float16 or float32 vectors. An encoded normal picture (n/2 + 1/2)
# misses unit length by 0.1 to 0.7 at almost every pixel, so this bound separates the two.
_UNIT_TOLERANCE = 0.02


@dataclass(frozen=True, kw_only=True)
class NormalError(MetricSpec):
    """Mean angle in degrees between the method's normals and the exact ones, where both have an object."""

    needs: ClassVar[Needs] = "clip"
    better: ClassVar[Better] = "lower"
    digits: ClassVar[int] = 1
    unit: ClassVar[str] = "°"
    floor: ClassVar[float | None] = 1e-2
    key: str = "normal_deg"

    def why_missing(self) -> str:
        return "the method offers no normals, the dataset has no exact ones, or frames are missing"

    def can_measure(self, clip: ClipPair) -> bool:
        return clip.has_truth and clip.offers("normal")

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        count = len(clip.names)
        angles = normal_angles(clip.offered(count, "normal"), clip.truth(count, "normal")[0])
        return present(angles.pixels, angles.mean_deg)


def normal_angle(normal: NDArray[np.floating], truth: NDArray[np.floating]) -> Floats:
    """Compute the angle between two normal maps, unreduced.

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
class NormalAngles:
    """The normal error of every frame. All arrays are (T,).

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


def normal_angles(normal: NDArray[np.floating], truth: NDArray[np.floating]) -> NormalAngles:
    """Compute the angular error on the intersection of two surfaces, and the overlap of the surfaces.

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
    return NormalAngles(
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
