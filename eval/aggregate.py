"""Means in one place: frames, then views, then objects, by name and with exact sums."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mvtokenflow.eval.records import Row


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean with an exact sum, so that order and shards give the same bits; may be infinite."""
    if not values:
        raise ValueError("the mean of nothing")
    return math.fsum(values) / len(values)


@dataclass(frozen=True, kw_only=True)
class ObjectValue:
    """A metric of one object.

    Attributes:
        value: mean over its views of the mean over frames.
        views: the value of each view.
        frames: how many frames each view has.
        signatures: of the rows behind it.
    """

    value: float
    views: Mapping[str, float]
    frames: Mapping[str, int]
    signatures: frozenset[str]


def object_values(
    rows: Iterable[Row], metric: str, views: Sequence[str] | None = None
) -> dict[str, ObjectValue]:
    """The values of `metric` by object.

    Args:
        rows: any rows; others are ignored. A (object, view, frame) measured twice under one signature
            (a re-rendered prediction) counts with its last row.
        views: only these views; None for all.
    """
    cells: dict[str, dict[str, dict[int | None, Row]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.metric == metric and (views is None or row.view in views):
            cells[row.object][row.view][row.frame] = row
    values = {}
    for name in sorted(cells):
        by_view = {
            view: mean([row.value for row in frames.values()]) for view, frames in sorted(cells[name].items())
        }
        values[name] = ObjectValue(
            value=mean(list(by_view.values())),
            views=by_view,
            frames={view: len(frames) for view, frames in sorted(cells[name].items())},
            signatures=frozenset(row.signature for frames in cells[name].values() for row in frames.values()),
        )
    return values


def signature_of(values: Mapping[str, ObjectValue]) -> str:
    """The signature of a mean over objects: that of its rows, with the frames, views and objects it covers.

    Several row signatures are joined by " + "; tables refuse such a column unless told.
    """
    signatures = sorted({signature for value in values.values() for signature in value.signatures})
    frames = sorted({count for value in values.values() for count in value.frames.values()})
    views = sorted({len(value.views) for value in values.values()})
    extent = f"frames:{_list(frames)}|views:{_list(views)}|objects:{len(values)}"
    return " + ".join(f"{signature}|{extent}" for signature in signatures)


def _list(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
