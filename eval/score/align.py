"""Detects whether a prediction's views are turned or mirrored against the reference. Changes nothing.

Methods differ in where azimuth 0 lies and which way it runs, and a result in another convention scores
like a bad one. Silhouettes show the difference without any network. The finding is reported with its
evidence; values of an aligned prediction must carry `Alignment.signature` in their names.

A hypothesis (yaw, mirror, reverse) states: the predicted view named azimuth a shows what the reference
shows at `yaw + a` (`yaw - a` if reverse), with the picture flipped left-right if mirror. So

* yaw alone: the orbit starts elsewhere;
* reverse alone: the views are right but were numbered clockwise;
* mirror and reverse: the object itself is mirrored;
* mirror alone: the pictures were flipped.

What silhouettes cannot distinguish: seen without perspective at elevation 0, opposite views have mirrored
silhouettes, so (yaw, mirror) and (yaw + 180, not mirror) look alike, and symmetric objects look alike from
many sides. All within a margin of the best are listed; the answer is the one of them that needs the fewest
causes, with "nothing is turned" first of all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.compute.silhouette import iou, resize_coverage

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SAME_AZIMUTH_DEG = 1e-3
# Turns of one kind closer than this are one finding: neighbours on the flank of the same peak.
_PEAK_WIDTH_DEG = 15.0
# (mirror, reverse) -> number of errors it takes; flipped pictures come last because half a turn,
# which usually looks the same, is the more common mistake.
_CAUSES = {(False, False): 0.0, (True, True): 1.0, (False, True): 1.0, (True, False): 1.5}


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """One rotation or reflection that the views may have.

    Attributes:
        yaw_deg: in (-180, 180].
        mirror: pictures flipped left-right.
        reverse: azimuth runs the other way.
        iou: mean silhouette IoU over views and frames under this hypothesis.
    """

    yaw_deg: float
    mirror: bool
    reverse: bool
    iou: float

    @property
    def is_identity(self) -> bool:
        """Return whether the hypothesis is that nothing is turned."""
        return self.yaw_deg == 0 and not self.mirror and not self.reverse

    @property
    def signature(self) -> str:
        """Return the suffix of values scored under this alignment, "align:yaw+90,mirror"; "" for none."""
        if self.is_identity:
            return ""
        parts = [f"yaw{self.yaw_deg:+g}", *(["mirror"] * self.mirror), *(["reverse"] * self.reverse)]
        return "align:" + ",".join(parts)


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """The best hypothesis and the evidence for it.

    Attributes:
        best: the hypothesis of fewest causes that no other beats by more than the margin.
        source_azimuth_deg: (V,) reference azimuth that each predicted view shows, in (-180, 180].
        iou_before, iou_after: (V,) per view, mean over frames, as named and under `best`.
        rivals: other hypotheses within the margin, best first; if not empty, silhouettes do not decide.
    """

    best: Hypothesis
    source_azimuth_deg: Floats
    iou_before: Floats
    iou_after: Floats
    rivals: Sequence[Hypothesis]

    @property
    def aligned(self) -> bool:
        """Return whether the views are those that their names state."""
        return self.best.is_identity


def dense_orbit(silhouettes: Callable[[float], Mask], step_deg: float = 1.0) -> tuple[Floats, Mask]:
    """Render reference silhouettes all around, for datasets that can render any view.

    Args:
        silhouettes: azimuth in degrees -> (T, H, W) bool.
        step_deg: divides 360.

    Returns:
        azimuths (A,) in [0, 360) and masks (A, T, H, W).
    """
    count = round(360 / step_deg)
    if count < 1 or abs(count * step_deg - 360) > 1e-9:
        raise ValueError(f"the step must divide 360 degrees, got {step_deg}")
    azimuths = np.arange(count, dtype=np.float64) * step_deg
    return azimuths, np.stack([silhouettes(float(azimuth)) for azimuth in azimuths])


def align(
    predicted: Sequence[Mask],
    azimuth_deg: Sequence[float],
    reference: Sequence[Mask] | Mask,
    reference_azimuth_deg: Sequence[float] | Floats,
    *,
    margin: float = 0.01,
    size: int = 64,
) -> Alignment:
    """Search yaw, mirroring and direction by silhouette IoU.

    A yaw is tried if it takes every predicted view to an azimuth that the reference holds: all turns of a
    dense orbit, or, with the V ground-truth views only, the turns that permute them.

    Args:
        predicted: V masks (T, H, W), one per view.
        azimuth_deg: V azimuths as the prediction names them.
        reference: A masks (T, H, W), e.g. from `dense_orbit` or the ground-truth views.
        reference_azimuth_deg: A azimuths, among them those of `azimuth_deg`.
        margin: hypotheses whose mean IoU is within this of the best are not distinguished.
        size: masks are area-averaged to squares of this side, or of the shortest side met.

    Raises:
        DataError: clips of different frame counts, a predicted view that is empty in all frames, or a
            predicted azimuth that the reference does not hold.
    """
    nominal, angles = np.asarray(azimuth_deg, np.float64), np.asarray(reference_azimuth_deg, np.float64)
    if len(predicted) != len(nominal) or len(reference) != len(angles) or not len(predicted):
        raise ValueError(
            f"{len(predicted)} predicted views with {len(nominal)} azimuths and {len(reference)} reference "
            f"views with {len(angles)} azimuths do not match"
        )
    as_named = _positions(nominal, angles)
    if (as_named < 0).any():
        raise DataError(f"the reference holds no view at azimuth {nominal[np.argmin(as_named)]:g}")
    overlap = _overlaps(predicted, reference, size)
    views = np.arange(len(nominal))
    found = _hypotheses(overlap, nominal, angles)
    top = max(hypothesis.iou for hypothesis in found)
    close = _peaks([hypothesis for hypothesis in found if hypothesis.iou >= top - margin])
    best, rivals = close[0], sorted(close[1:], key=lambda hypothesis: -hypothesis.iou)
    shown = _shown(best, nominal, angles)
    return Alignment(
        best=best,
        source_azimuth_deg=_wrap(angles[shown]),
        iou_before=overlap[0, views, as_named],
        iou_after=overlap[int(best.mirror), views, shown],
        rivals=tuple(rivals),
    )


def _hypotheses(overlap: Floats, nominal: Floats, angles: Floats) -> list[Hypothesis]:
    """Score every rotation and reflection that the reference can confirm."""
    views = np.arange(len(nominal))
    found = []
    for mirror, reverse in _CAUSES:
        turned = -nominal if reverse else nominal
        for yaw in np.unique(np.round(_wrap(angles - turned[0]), 3)):
            shown = _positions(turned + yaw, angles)
            if (shown >= 0).all():
                score = float(overlap[int(mirror), views, shown].mean())
                found.append(Hypothesis(yaw_deg=float(yaw), mirror=mirror, reverse=reverse, iou=score))
    return found


def _peaks(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Return one hypothesis per peak, that of fewest causes first, then by IoU."""

    def causes(item: Hypothesis) -> tuple[float, float, int, float]:
        kind = (item.mirror, item.reverse)
        turned = 0.0 if item.yaw_deg == 0 else 1.0
        return _CAUSES[kind] + turned, -round(item.iou, 9), list(_CAUSES).index(kind), abs(item.yaw_deg)

    peaks: list[Hypothesis] = []
    for item in sorted(hypotheses, key=causes):
        near = (
            abs(_wrap(np.array(item.yaw_deg - peak.yaw_deg))) < _PEAK_WIDTH_DEG
            for peak in peaks
            if (peak.mirror, peak.reverse) == (item.mirror, item.reverse)
        )
        if not any(near):
            peaks.append(item)
    return peaks


def _shown(hypothesis: Hypothesis, nominal: Floats, angles: Floats) -> NDArray[np.intp]:
    return _positions((-nominal if hypothesis.reverse else nominal) + hypothesis.yaw_deg, angles)


def _positions(wanted: Floats, angles: Floats) -> NDArray[np.intp]:
    """Return the index into `angles` of each wanted azimuth, -1 where there is none."""
    distance = np.abs(_wrap(wanted[:, None] - angles[None]))
    nearest = distance.argmin(axis=1)
    return np.where(distance[np.arange(len(wanted)), nearest] <= _SAME_AZIMUTH_DEG, nearest, -1)


def _wrap(degrees: Floats) -> Floats:
    """Wrap degrees to (-180, 180]."""
    return 180.0 - np.mod(180.0 - degrees, 360.0)


def _overlaps(predicted: Sequence[Mask], reference: Sequence[Mask] | Mask, size: int) -> Floats:
    """Compute the IoU (2, V, A) of each predicted view, as it is and flipped, with each reference view."""
    frames = len(predicted[0])
    for index, clip in enumerate([*predicted, *reference]):
        if len(clip) != frames:
            whose, number = (
                ("predicted", index) if index < len(predicted) else ("reference", index - len(predicted))
            )
            raise DataError(f"{whose} view {number} has {len(clip)} frames, predicted view 0 has {frames}")
        if index < len(predicted) and not clip.any():
            raise DataError(f"predicted view {index} is empty in all frames; there is no silhouette to align")
    side = min([size, *(length for clip in [*predicted, *reference] for length in clip.shape[1:])])
    ours = [resize_coverage(clip, side) for clip in predicted]
    theirs = [resize_coverage(clip, side) for clip in reference]
    # One pair at a time: a dense orbit of long clips at once would need gigabytes.
    return np.array(
        [
            [[iou(view, other).mean() for other in theirs] for view in flipped]
            for flipped in (ours, [v[..., ::-1] for v in ours])
        ]
    )
