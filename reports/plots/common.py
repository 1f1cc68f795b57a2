"""Parts that the panels share: titles, intervals, names beside what they belong to, words below."""

import math
import textwrap
from collections.abc import Mapping, Sequence

from mvtokenflow.eval.plots.panels import Mark
from mvtokenflow.reports.plots.items import Item, Path, Point, Words, color
from mvtokenflow.reports.plots.scale import Scale, signed

WIDTH = 340.0
SMALL = 10.0  # size of small text
HEAD = 24.0  # height of the title
LINE = 13.0  # height of a line of small text
_LETTERS = 60  # of small text in a line
_LONGEST = 24  # letters of a name
_ARROWS = {"higher": (" ↑", "higher is better"), "lower": (" ↓", "lower is better"), "none": ("", "")}

Colors = Mapping[str, int]


def heading(title: str, better: str, after: str = "") -> list[Item]:
    """Return the title of a panel, with which way is better at its right."""
    arrow, words = _ARROWS[better]
    return [
        Words(x=0, y=13, text=f"{title}{arrow}{after}", bold=True),
        Words(x=WIDTH, y=13, text=words, anchor="end", ink="soft", size=SMALL),
    ]


def name(label: str) -> str:
    """Return a row's label, shortened in its middle if it is long."""
    half = (_LONGEST - 1) // 2
    return label if len(label) <= _LONGEST else f"{label[:half]}…{label[-half:]}"


def number(value: float, digits: int) -> str:
    """Return a finite number as it is printed in figures."""
    return signed(f"{value:.{digits}f}")


def across(x: Scale, top: float, bottom: float, count: int) -> list[Item]:
    """Return the vertical lines of a horizontal axis with their numbers below."""
    items: list[Item] = []
    for value, text in x.ticks(count):
        items.append(Path(points=[(x(value), top), (x(value), bottom)], color="grid"))
        items.append(Words(x=x(value), y=bottom + LINE, text=text, anchor="middle", ink="soft", size=SMALL))
    return items


def upwards(y: Scale, left: float, right: float, count: int) -> list[Item]:
    """Return the horizontal lines of a vertical axis with their numbers at its left."""
    items: list[Item] = []
    for value, text in y.ticks(count):
        items.append(Path(points=[(left, y(value)), (right, y(value))], color="grid"))
        items.append(Words(x=left - 5, y=y(value) + 3.5, text=text, anchor="end", ink="soft", size=SMALL))
    return items


def interval(mark: Mark, ends: Sequence[Point], colors: Colors) -> list[Item]:
    """Return the bar of a mark's interval between two points; nothing where there is none."""
    if mark.low is None or mark.high is None or not (math.isfinite(mark.low) and math.isfinite(mark.high)):
        return []
    return [Path(points=ends, color=color(mark.label, colors), width=2.5)]


def beyond(marks: Sequence[Mark], scale: Scale, digits: int) -> str:
    """Return a sentence on the marks that are not within the range of an axis, or an empty text."""
    outside = [f"{mark.label} {number(mark.value, digits)}" for mark in marks if not scale.holds(mark.value)]
    return f"Outside the range: {', '.join(outside)}." if outside else ""


def below(text: str, top: float) -> tuple[list[Item], float]:
    """Return lines of small text from `top` on, and where they end."""
    lines = textwrap.wrap(text, _LETTERS, break_on_hyphens=False)
    items: list[Item] = [
        Words(x=0, y=top + LINE * (place + 1), text=line, ink="soft", size=SMALL)
        for place, line in enumerate(lines)
    ]
    return items, top + LINE * len(lines) + 4
