"""The items of a drawing, in pixels from its upper left corner, and the colours of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mvtokenflow.eval.plots.panels import Costs, Dots, Figure, Mark, Panel

# After Okabe and Ito: apart for red-blind and green-blind eyes too. The second line is for dark pages.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1d1b18")
DARK = ("#4aa3f0", "#ff8a4c", "#2fd0a0", "#f2a0d0", "#f5c93c", "#a9dcff", "#ffffff")

Anchor = Literal["start", "middle", "end"]
Ink = Literal["ink", "soft", "grid"]
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Path:
    """Straight lines from point to point; `color` is a row's colour or an ink."""

    points: Sequence[Point]
    color: int | Ink
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Disc:
    """A filled circle in a row's colour or an ink."""

    x: float
    y: float
    radius: float
    color: int | Ink


@dataclass(frozen=True, kw_only=True)
class Words:
    """A line of text; `y` is its baseline. Turned text reads upwards and ends at its point."""

    x: float
    y: float
    text: str
    anchor: Anchor = "start"
    ink: Ink = "ink"
    size: float = 11.0
    bold: bool = False
    turned: bool = False


Item = Path | Disc | Words


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A panel ready to be drawn. `summary` is a text for readers who cannot see it."""

    width: float
    height: float
    items: Sequence[Item]
    summary: str


def colors_of(figures: Sequence[Figure]) -> dict[str, int]:
    """Number the measured rows of some figures in the order in which they appear; a row keeps its colour."""
    labels = dict.fromkeys(label for figure in figures for panel in figure.panels for label in _measured(panel))
    return {label: place for place, label in enumerate(labels)}


def color(label: str, colors: Mapping[str, int]) -> int | Ink:
    """Return the colour of a measured row; known answers are grey."""
    return colors.get(label, "soft")


def _measured(panel: Panel) -> list[str]:
    if isinstance(panel, Dots):
        rows: Sequence[Mark] = panel.marks
        return [mark.label for mark in rows if mark.group == "measured"]
    if isinstance(panel, Costs):
        return [point.mark.label for point in panel.points]
    return [line.label for line in panel.lines if line.group == "measured"]
