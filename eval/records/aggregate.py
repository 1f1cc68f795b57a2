"""Means over frames, then views, then objects, matched by name, with exact sums."""

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.records.rows import Row, ViewMean

# Part of a row's signature where the value covers a whole clip: its length, and after a slash the reference's
# where that differs.
CLIP_LENGTH = "clip:"
_Cells = dict[str, dict[str, dict[int | None, Row]]]  # rows by object, view and frame
FORCED = "forced"  # part of a signature where a strict pre-flight check failed and was overruled


def mean(values: Sequence[float]) -> float:
    """Compute the arithmetic mean with an exact sum, independent of order and shards; may be infinite.

    Raises:
        DataError: values are infinite in both directions.
    """
    if not values:
        raise ValueError("the mean of nothing")
    if not has_mean(values):
        raise DataError(
            "infinite and minus infinite values have no mean; score under c4d-fixed-v1, which caps them"
        )
    try:
        return math.fsum(values) / len(values)
    except OverflowError as error:
        raise DataError("values too large to be averaged; a record of them is damaged, score again") from error


def has_mean(values: Iterable[float]) -> bool:
    """Return whether a mean exists, which it does unless values are infinite in both directions."""
    return not {math.inf, -math.inf} <= set(values)


@dataclass(frozen=True, kw_only=True)
class ObjectValue:
    """Value of a metric for one object.

    Attributes:
        value: mean over its views of the mean over frames.
        views: the value of each view.
        frames: number of frames of each view.
        signatures: signatures of the rows behind it.
    """

    value: float
    views: Mapping[str, float]
    frames: Mapping[str, int]
    signatures: frozenset[str]


def object_values(
    rows: Iterable[Row], metric: str, views: Container[str] | None = None
) -> dict[str, ObjectValue]:
    """Compute the values of `metric` by object, without objects whose values have no mean (`without_mean`).

    Args:
        rows: any rows; others are ignored. A (object, view, frame) measured twice under one signature
            (a re-rendered prediction) counts with its last row.
        views: only these views; None for all.
    """
    return object_means(view_means(rows, metric), views)


def view_means(rows: Iterable[Row], metric: str) -> dict[str, dict[str, ViewMean]]:
    """Average the rows of `metric` by object and view; rows as for `object_values`."""
    return {
        name: {view: _view_mean(list(frames.values())) for view, frames in sorted(views.items())}
        for name, views in sorted(_cells(rows, metric, None).items())
    }


def _view_mean(rows: Sequence[Row]) -> ViewMean:
    values = [row.value for row in rows]
    return ViewMean(
        value=mean(values) if has_mean(values) else None,
        frames=len(rows),
        signatures=frozenset(row.signature for row in rows),
    )


def object_means(
    means: Mapping[str, Mapping[str, ViewMean]], views: Container[str] | None = None
) -> dict[str, ObjectValue]:
    """Average over the views of each object; as `object_values`."""
    found = {}
    for name, by_view in means.items():
        chosen = {view: one for view, one in by_view.items() if views is None or view in views}
        values = {view: one.value for view, one in chosen.items() if one.value is not None}
        if not chosen or len(values) < len(chosen) or not has_mean(values.values()):
            continue
        found[name] = ObjectValue(
            value=mean(list(values.values())),
            views=values,
            frames={view: one.frames for view, one in chosen.items()},
            signatures=frozenset().union(*(one.signatures for one in chosen.values())),
        )
    return found


def frame_values(
    rows: Iterable[Row], metric: str, views: Container[str] | None = None
) -> dict[int, list[float]]:
    """Collect the values of `metric` by frame, of all objects and views; values of whole clips are left out."""
    found: dict[int, list[float]] = defaultdict(list)
    for of_object in _cells(rows, metric, views).values():
        for frames in of_object.values():
            for frame, row in frames.items():
                if frame is not None:
                    found[frame].append(row.value)
    return dict(sorted(found.items()))


def without_mean(rows: Iterable[Row], metric: str) -> list[str]:
    """List the objects with values of `metric` that are infinite in both directions."""
    return sorted(_without_mean(_cells(rows, metric, None)))


def _without_mean(cells: _Cells) -> set[str]:
    return {
        name
        for name, views in cells.items()
        if not has_mean(row.value for frames in views.values() for row in frames.values())
    }


def _cells(rows: Iterable[Row], metric: str, views: Container[str] | None) -> _Cells:
    """Group the rows of `metric` by object, view and frame; of several the last is used."""
    cells: _Cells = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.metric == metric and (views is None or row.view in views):
            cells[row.object][row.view][row.frame] = row
    return cells


def kind_of(signature: str) -> str:
    """Return a row's signature without the length of its clip."""
    return "|".join(part for part in signature.split("|") if not part.startswith(CLIP_LENGTH))


def clip_lengths(signature: str) -> list[str]:
    """Parse the clip length in a row's signature; empty for a value of one frame."""
    parts = signature.split("|")
    return [part.removeprefix(CLIP_LENGTH) for part in parts if part.startswith(CLIP_LENGTH)]


def signature_of(values: Mapping[str, ObjectValue], over: str | None = None) -> str:
    """Build the signature of a mean: that of its rows, with the frames, views and objects it covers.

    Clips of several lengths are listed in one signature. Signatures that differ otherwise are joined by
    " + "; tables refuse such a column by default.

    Args:
        over: description of the set of the mean; `objects:<count>` by default.
    """
    lengths: dict[str, set[str]] = {}
    for signature in {signature for value in values.values() for signature in value.signatures}:
        lengths.setdefault(kind_of(signature), set()).update(clip_lengths(signature))
    frames = {count for value in values.values() for count in value.frames.values()}
    views = {len(value.views) for value in values.values()}
    joined = []
    for signature in sorted(lengths):
        clips = sorted(lengths[signature], key=lambda length: [int(part) for part in length.split("/")])
        of = f"{CLIP_LENGTH}{','.join(clips)}" if lengths[signature] else f"frames:{_list(frames)}"
        joined.append(f"{signature}|{of}|views:{_list(views)}|{over or f'objects:{len(values)}'}")
    return " + ".join(joined)


def _list(numbers: Iterable[int]) -> str:
    return ",".join(map(str, sorted(numbers)))
