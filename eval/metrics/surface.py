"""Geometry of a result in space: distance of surfaces over time, F-score, tracks of surface points, depth.

They exist only where a dataset has exact surfaces (toy4d) and a method offers points that move with its own: of
a field of Gaussians the centres of the opaque ones (`of:centres` in the signature), which lie a little inside.
Lengths are in hundredths of the half-width of the pictures (1 is .64 px of 128).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.eval.metrics.compute.masked import masked_mean
from mvtokenflow.eval.metrics.spec import (
    Better,
    ClipPair,
    Floats,
    MetricSpec,
    Needs,
    Networks,
    ViewRole,
    present,
)

Points = NDArray[np.floating]
HUNDREDTHS = 100.0


@dataclass(frozen=True, kw_only=True)
class SurfaceMetric(MetricSpec):
    """Base of metrics on points of surfaces; they belong to the object and are kept with its input view."""

    needs: ClassVar[Needs] = "clip"
    resized: ClassVar[bool] = False
    better: ClassVar[Better] = "lower"
    digits: ClassVar[int] = 2
    floor: ClassVar[float | None] = 1e-2
    views: tuple[ViewRole, ...] = ("input",)
    of: Literal["centres"] = "centres"

    def why_missing(self) -> str:
        return "the method offers no points of its surface, the dataset has no exact one, or frames are missing"

    def can_measure(self, clip: ClipPair) -> bool:
        return clip.has_surface and clip.offers("points")


@dataclass(frozen=True, kw_only=True)
class Chamfer(SurfaceMetric):
    """Chamfer distance: mean distance from the result's points to the exact surface and back, averaged."""

    column: ClassVar[str | None] = "Chamfer"
    key: str = "chamfer"

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        return [HUNDREDTHS * float(0.5 * (a.mean() + b.mean())) for a, b in _distances(clip)]


@dataclass(frozen=True, kw_only=True)
class FScore(SurfaceMetric):
    """F-score: harmonic mean of the shares of either surface within `radius` of the other, in percent."""

    better: ClassVar[Better] = "higher"
    digits: ClassVar[int] = 1
    unit: ClassVar[str] = " %"
    column: ClassVar[str | None] = "F-score"
    key: str = "fscore"
    radius: float = 0.05

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        return [100 * f_score(a, b, self.radius) for a, b in _distances(clip)]


@dataclass(frozen=True, kw_only=True)
class TrackError(SurfaceMetric):
    """End-point error of tracks: points of the exact surface at the first frame follow the result's nearest
    point, and are compared with where they really go."""

    column: ClassVar[str | None] = "Track EPE"
    key: str = "track_epe"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return frames[1:]

    def can_measure(self, clip: ClipPair) -> bool:
        return super().can_measure(clip) and len(clip.names) > 1

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        count = len(clip.names)
        points, outside = clip.surface(count)
        errors = track_errors(clip.offered(count, "points"), points[:, outside[0]])
        return [HUNDREDTHS * float(error) for error in errors[1:].mean(-1)]


@dataclass(frozen=True, kw_only=True)
class DepthError(MetricSpec):
    """Mean absolute difference of depth where both have a surface."""

    needs: ClassVar[Needs] = "clip"
    resized: ClassVar[bool] = False
    better: ClassVar[Better] = "lower"
    digits: ClassVar[int] = 2
    floor: ClassVar[float | None] = 1e-2
    column: ClassVar[str | None] = "Depth"
    key: str = "depth_err"

    def why_missing(self) -> str:
        return "the method offers no depth, the dataset has no exact one, or frames are missing"

    def can_measure(self, clip: ClipPair) -> bool:
        return clip.has_truth and clip.offers("depth")

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        count = len(clip.names)
        made, true = clip.offered(count, "depth"), clip.truth(count, "depth")[0]
        both = (made > 0) & (true > 0)
        error = HUNDREDTHS * masked_mean(np.abs(made - true), both)
        return present(np.asarray(both.any(axis=(1, 2))), error)


def _distances(clip: ClipPair) -> list[tuple[Floats, Floats]]:
    """Return of every frame the distances of the result's points to the exact surface, and back."""
    return clip.kept("surface distances", lambda: _measured(clip))


def _measured(clip: ClipPair) -> list[tuple[Floats, Floats]]:
    count = len(clip.names)
    points, outside = clip.surface(count)
    made = clip.offered(count, "points")
    return [nearest_distances(made[t], points[t, outside[t]]) for t in range(count)]


def nearest_distances(first: Points, second: Points) -> tuple[Floats, Floats]:
    """Compute the distance of each point of either set (N, 3) and (M, 3) to the nearest one of the other.

    Raises:
        ValueError: a set is empty.
    """
    from scipy.spatial import cKDTree

    if not len(first) or not len(second):
        raise ValueError("a surface has no points")
    return cKDTree(second).query(first)[0], cKDTree(first).query(second)[0]


def f_score(there: Floats, back: Floats, radius: float) -> float:
    """Compute the F-score in [0, 1] of distances from one surface to the other and back."""
    precision, recall = float((there <= radius).mean()), float((back <= radius).mean())
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def track_errors(made: Points, true: Points) -> Floats:
    """Compute the errors (T, M) of following points `true` (T, M, 3) with the nearest of `made` (T, N, 3).

    Which one is nearest is decided at the first time, where the error is 0.
    """
    from scipy.spatial import cKDTree

    followed = cKDTree(made[0]).query(true[0])[1]
    moved = made[:, followed] - made[0, followed]
    errors: Floats = np.linalg.norm(true[0] + moved - true, axis=-1).astype(np.float64)
    return errors
