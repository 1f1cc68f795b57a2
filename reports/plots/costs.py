"""Quality against minutes, with the known answers as levels."""

from collections.abc import Sequence

from mvtokenflow.eval.plots.panels import Costs, Mark
from mvtokenflow.eval.plots.panels import Point as Measured
from mvtokenflow.reports.plots.common import (
    HEAD,
    LINE,
    SMALL,
    WIDTH,
    Colors,
    across,
    below,
    beyond,
    heading,
    interval,
    name,
    upwards,
)
from mvtokenflow.reports.plots.items import Disc, Drawing, Item, Path, Words, color
from mvtokenflow.reports.plots.scale import Scale, spread, text_width

_LEFT = 42.0
_BOTTOM = HEAD + 160
_GAP = 12.0
_ROOM = 1.5  # factor of minutes on either side

Box = tuple[float, float, float, float]  # left, top, right, bottom


def costs(panel: Costs, colors: Colors) -> Drawing:
    """Lay out a metric against minutes on a logarithmic axis; a name stands beside its dot."""
    low, high = panel.span()
    minutes = [point.minutes for point in panel.points]
    y = Scale(low=low, high=high, start=_BOTTOM, end=HEAD + 4)
    inside = [mark for mark in panel.levels if y.holds(mark.value)]
    gutter = max((text_width(name(mark.label), SMALL) + 10 for mark in inside), default=0.0)
    right = WIDTH - gutter
    x = Scale(low=min(minutes) / _ROOM, high=max(minutes) * _ROOM, start=_LEFT, end=right, logarithmic=True)
    items = [*heading(panel.title, panel.better, " against minutes"), *upwards(y, _LEFT, right, 4)]
    items += [*across(x, HEAD + 4, _BOTTOM, 4), *_levels(inside, y, right)]
    items.append(
        Words(
            x=(_LEFT + right) / 2,
            y=_BOTTOM + 2 * LINE,
            text="minutes per scene",
            anchor="middle",
            ink="soft",
            size=SMALL,
        )
    )
    for point in panel.points:
        at, mark = x(point.minutes), point.mark
        items += interval(mark, [(at, y(end)) for end in (mark.low, mark.high) if end is not None], colors)
        items.append(Disc(x=at, y=y(mark.value), radius=4.5, color=color(mark.label, colors)))
    items += _names(panel.points, x, y)
    text, height = below(beyond(panel.levels, y, panel.digits), _BOTTOM + 2 * LINE + 2)
    listed = "; ".join(f"{point.mark.label} {point.minutes:.3g} min" for point in panel.points)
    summary = f"{panel.title} against minutes: {listed}"
    return Drawing(width=WIDTH, height=height, items=[*items, *text], summary=summary)


def _levels(marks: Sequence[Mark], y: Scale, right: float) -> list[Item]:
    items: list[Item] = []
    wanted = spread([y(mark.value) for mark in marks], _GAP, HEAD + 4, _BOTTOM)
    for mark, beside in zip(marks, wanted, strict=True):
        level = y(mark.value)
        items.append(Path(points=[(_LEFT, level), (right, level)], color="soft", dashed=True))
        items.append(Path(points=[(right, level), (right + 6, beside)], color="soft", width=0.7))
        items.append(Words(x=right + 9, y=beside + 3.5, text=name(mark.label), ink="soft", size=SMALL))
    return items


def _names(points: Sequence[Measured], x: Scale, y: Scale) -> list[Item]:
    """Return the names beside the dots: at that side where they cover least of the others."""
    taken: list[Box] = [
        (x(p.minutes) - 6, y(p.mark.value) - 6, x(p.minutes) + 6, y(p.mark.value) + 6) for p in points
    ]
    for point in points:
        bounds = [y(end) for end in (point.mark.low, point.mark.high) if end is not None]
        if bounds:
            taken.append((x(point.minutes) - 3, min(bounds), x(point.minutes) + 3, max(bounds)))
    items: list[Item] = []
    for point in points:
        text = name(point.mark.label)
        width, at, level = text_width(text, SMALL), x(point.minutes), y(point.mark.value)
        places = [
            (at + 8 if side > 0 else at - 8 - width, level + shift)
            for shift in (0, -11, 11)
            for side in (1, -1)
        ]
        boxes = [(left, middle - 6, left + width, middle + 6) for left, middle in places]
        best = min(boxes, key=lambda box: _covered(box, taken))
        taken.append(best)
        items.append(Words(x=best[0], y=best[1] + 9.5, text=text, size=SMALL))
    return items


def _covered(box: Box, others: Sequence[Box]) -> float:
    """Return the area of a box that others cover, and much more where it leaves the panel."""
    area = sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in others
    )
    return area + 1e4 * (max(0.0, _LEFT - box[0]) + max(0.0, box[2] - WIDTH))
