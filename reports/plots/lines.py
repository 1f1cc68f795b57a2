"""Lines over views, frames or scenes, each with its name at its end."""

from collections.abc import Sequence

from mvtokenflow.eval.plots.panels import Line, Lines
from mvtokenflow.reports.plots.common import (
    HEAD,
    LINE,
    SMALL,
    WIDTH,
    Colors,
    below,
    heading,
    name,
    upwards,
)
from mvtokenflow.reports.plots.items import Anchor, Disc, Drawing, Item, Path, Point, Words, color
from mvtokenflow.reports.plots.scale import Scale, spread, text_width

_LEFT = 42.0
_HEIGHT = 150.0  # of the axis, at least
_GAP = 12.0  # between names
_DISCS = 24  # so many points or fewer are marked


def lines(panel: Lines, colors: Colors) -> Drawing:
    """Lay out lines in the range of the measured ones; of the others what lies within is drawn, in grey."""
    low, high = panel.span()
    inside = [(line, _within(line, low, high)) for line in panel.lines]
    drawn = [(line, values) for line, values in inside if any(value is not None for value in values)]
    right = WIDTH - max(text_width(name(line.label), SMALL) for line, _ in drawn) - 14
    bottom = HEAD + max(_HEIGHT, _GAP * len(drawn))
    x = Scale(low=0, high=max(1, len(panel.at) - 1), start=_LEFT, end=right)
    y = Scale(low=low, high=high, start=bottom, end=HEAD + 4)
    names, under = _names_below(panel, x, bottom)
    items = [*heading(panel.title, panel.better, f" by {panel.over}"), *upwards(y, _LEFT, right, 4), *names]
    ends: list[tuple[Line, Point]] = []
    for line, values in sorted(drawn, key=lambda pair: pair[0].group == "measured"):  # measured ones on top
        points = [(x(place), y(value)) if value is not None else None for place, value in enumerate(values)]
        items += _strokes(line, points, colors)
        ends.append((line, [point for point in points if point is not None][-1]))
    items += _names_beside(ends, right, bottom, colors)
    gone = [line.label for line, values in inside if all(value is None for value in values)]
    text, height = below(f"Outside the range: {', '.join(gone)}." if gone else "", under)
    labels = ", ".join(line.label for line, _ in drawn)
    summary = f"{panel.title} by {panel.over} of {labels}"
    return Drawing(width=WIDTH, height=height, items=[*items, *text], summary=summary)


def _within(line: Line, low: float, high: float) -> list[float | None]:
    return [value if value is not None and low <= value <= high else None for value in line.values]


def _strokes(line: Line, points: Sequence[Point | None], colors: Colors) -> list[Item]:
    """Return a line with gaps where there is no value, and discs at the values if they are few."""
    measured = line.group == "measured"
    parts: list[list[Point]] = [[]]
    for point in points:
        if point is None:
            parts.append([])
        else:
            parts[-1].append(point)
    width = 2.0 if measured else 1.0
    items: list[Item] = [
        Path(points=part, color=color(line.label, colors), width=width, dashed=not measured)
        for part in parts
        if len(part) > 1
    ]
    if len(points) <= _DISCS:
        radius = 3.0 if measured else 2.0
        items += [
            Disc(x=point[0], y=point[1], radius=radius, color=color(line.label, colors))
            for point in points
            if point is not None
        ]
    return items


def _names_beside(
    ends: Sequence[tuple[Line, Point]], right: float, bottom: float, colors: Colors
) -> list[Item]:
    """Return the names at the right, moved apart, each joined with the end of its line."""
    items: list[Item] = []
    wanted = spread([point[1] for _, point in ends], _GAP, HEAD + 4, bottom)
    for (line, (at, level)), y in zip(ends, wanted, strict=True):
        ends_early = at < right - 1  # what leads on from there is no value
        ink = "grid" if ends_early else color(line.label, colors)
        items.append(Path(points=[(at, level), (right + 2, level), (right + 10, y)], color=ink, width=0.7))
        measured = line.group == "measured"
        text = name(line.label)
        items.append(Words(x=right + 13, y=y + 3.5, text=text, ink="ink" if measured else "soft", size=SMALL))
    return items


def _names_below(panel: Lines, x: Scale, bottom: float) -> tuple[list[Item], float]:
    """Return the names below the axis, turned where they have no room, and where they end.

    Frames are numbered as often as there is room.
    """
    widths = [text_width(text, SMALL) for text in panel.at]
    room = (x.end - x.start) / max(1, len(panel.at) - 1)
    if panel.over == "frame":
        step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000, 10_000) if step * room > max(widths) + 8)
        shown = [(place, text) for place, text in enumerate(panel.at) if place % step == 0]
    else:
        shown = list(enumerate(panel.at))
    turned = panel.over != "frame" and max(widths) + 6 > room
    items: list[Item] = []
    for place, text in shown:
        at, y = x(place), bottom + (5 if turned else LINE)
        anchor: Anchor = "end" if turned else "middle"
        across = at + 3.5 if turned else at
        items.append(
            Words(x=across, y=y, text=name(text), anchor=anchor, ink="soft", size=SMALL, turned=turned)
        )
    return items, bottom + (max(text_width(name(text), SMALL) for text in panel.at) + 8 if turned else LINE + 4)
