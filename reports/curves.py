"""Curves of training losses as coordinates for an inline SVG, without scripts or libraries."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 46, 6, 8, 18  # margins for the ticks
LEAST = 1e-30  # smaller terms are not drawn: they are switched off
SUM = "loss"  # of the terms of a step
_COUNTS = ("step", "seconds", "gaussians")  # in every row

Row = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One loss term over all stages, in the coordinates of a WIDTH x HEIGHT picture.

    Attributes:
        name: of the term. lines: SVG path data, one per stage.
        ticks: (y, label) of the levels drawn. borders: (x, name) where a stage begins.
        last: the term's last value.
    """

    name: str
    lines: Sequence[str]
    ticks: Sequence[tuple[float, str]]
    borders: Sequence[tuple[float, str]]
    last: float


def charts(stages: Sequence[tuple[str, Sequence[Row]]]) -> list[Chart]:
    """Build a chart for every term in the rows of any stage, in order of appearance.

    The horizontal axis is the step, stages following one another; the vertical one is logarithmic. Values
    that are not positive (a term that is switched off) are left out, and so is a term that no stage has twice.
    Where steps of different kinds alternate, their sums cannot be compared: such a stage has no line in the
    chart of "loss".

    Args:
        stages: (name, rows), a row as in `losses.jsonl`: "step" counts from 1 within its stage.
    """
    stages = [(name, rows) for name, rows in stages if rows]
    terms = dict.fromkeys(key for _, rows in stages for row in rows for key in row if key not in _COUNTS)
    made = [_chart(term, stages) for term in terms]
    return [chart for chart in made if chart is not None]


def _chart(term: str, stages: Sequence[tuple[str, Sequence[Row]]]) -> Chart | None:
    offsets, total = [], 0.0
    for _, rows in stages:
        offsets.append(total)
        total += rows[-1]["step"]
    points = [
        []
        if term == SUM and _alternates(rows)
        else [(offset + row["step"], row[term]) for row in rows if _drawable(row.get(term))]
        for offset, (_, rows) in zip(offsets, stages, strict=True)
    ]
    points = [line for line in points if len(line) > 1]
    values = [value for line in points for _, value in line]
    if not values:
        return None
    low, high = _range(min(values), max(values))

    def x(step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / total, 1)

    def y(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)

    return Chart(
        name=term,
        lines=["M" + "L".join(f"{x(step)} {y(value)}" for step, value in line) for line in points],
        ticks=[(y(value), f"{value:g}") for value in _ticks(low, high)],
        borders=[(x(offset), name) for offset, (name, _) in zip(offsets, stages, strict=True)],
        last=values[-1],
    )


def _alternates(rows: Sequence[Row]) -> bool:
    """Return whether a row lacks a term that rows before and after it have: steps are of several kinds."""
    for term in {key for row in rows for key in row}:
        places = [place for place, row in enumerate(rows) if term in row]
        if places[-1] - places[0] >= len(places):
            return True
    return False


def _drawable(value: float | None) -> bool:
    return value is not None and LEAST < value < math.inf


def _range(low: float, high: float) -> tuple[float, float]:
    """Return exponents of 10 around the values, at least a third of a decade apart."""
    bottom, top = math.log10(low), math.log10(high)
    spare = max(0.34 - (top - bottom), 0.04) / 2
    return bottom - spare, top + spare


def _ticks(low: float, high: float) -> list[float]:
    """Return powers of 10 within the range, and multiples of them where the range holds fewer than two."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        found = [step * 10.0**decade for decade in decades for step in steps]
        found = [value for value in found if low <= math.log10(value) <= high]
        if len(found) >= 2:
            return found
    return found
