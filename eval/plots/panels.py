"""The panels of a figure, as plain numbers; `reports.plots` draws them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mvtokenflow.eval.tables.table import Direction

Group = Literal["measured", "oracle"]
Over = Literal["view", "frame", "scene"]
PADDING = 0.06  # of a range, on either side


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A number of one row with its interval, if it has one.

    Attributes:
        value: finite.
        coverage: "12/14", of how many of the runs asked for it is; "" if of all.
    """

    label: str
    group: Group
    value: float
    low: float | None = None
    high: float | None = None
    coverage: str = ""


@dataclass(frozen=True, kw_only=True)
class Dots:
    """A metric of all rows: measured ones as dots, known answers as the scale that they are read on."""

    title: str
    better: Direction
    digits: int
    marks: Sequence[Mark]

    def span(self) -> tuple[float, float]:
        """Return the range of the axis, from measured rows and their intervals."""
        return span(bound for mark in self.marks if mark.group == "measured" for bound in _bounds(mark))


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row's values, in the order of `Lines.at`; None where there is none or it is infinite."""

    label: str
    group: Group
    values: Sequence[float | None]


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A metric of all rows over views, frames or scenes, whose names are in `at`."""

    title: str
    better: Direction
    digits: int
    over: Over
    at: Sequence[str]
    lines: Sequence[Line]

    def span(self) -> tuple[float, float]:
        """Return the range of the axis, from measured rows."""
        return span(v for line in self.lines if line.group == "measured" for v in line.values if v is not None)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A measured row by its minutes per scene (above 0) and its number."""

    minutes: float
    mark: Mark


@dataclass(frozen=True, kw_only=True)
class Costs:
    """A metric against minutes per scene; known answers, which cost nothing, are levels."""

    title: str
    better: Direction
    digits: int
    points: Sequence[Point]
    levels: Sequence[Mark]

    def span(self) -> tuple[float, float]:
        """Return the range of the vertical axis, from measured rows and their intervals."""
        return span(bound for point in self.points for bound in _bounds(point.mark))


Panel = Dots | Lines | Costs


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


def span(values: Iterable[float]) -> tuple[float, float]:
    """Return the range of some finite values with a margin; never empty.

    Raises:
        ValueError: there are no values.
    """
    found = list(values)
    if not found:
        raise ValueError("a panel without measured values has no range")
    low, high = min(found), max(found)
    margin = PADDING * (high - low or abs(high) or 1.0)
    return low - margin, high + margin


def _bounds(mark: Mark) -> list[float]:
    return [value for value in (mark.value, mark.low, mark.high) if value is not None and math.isfinite(value)]
