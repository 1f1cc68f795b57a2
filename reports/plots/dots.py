"""A strip of dots: one metric of all measured rows on the scale of the known answers."""

from collections.abc import Sequence

from mvtokenflow.eval.plots.panels import Dots, Mark
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
    number,
)
from mvtokenflow.reports.plots.items import Disc, Drawing, Item, Path, Words, color
from mvtokenflow.reports.plots.scale import Scale, levels, text_width

_ROW = 20.0
_LEVELS = 4  # of labels of known answers, one above the other


def dots(panel: Dots, colors: Colors) -> Drawing:
    """Lay out a strip: measured rows below each other, known answers as grey ticks with their names above."""
    measured = [mark for mark in panel.marks if mark.group == "measured"]
    known = [mark for mark in panel.marks if mark.group == "oracle"]
    numbers = [" ".join((number(mark.value, panel.digits), mark.coverage)).rstrip() for mark in measured]
    low, high = panel.span()
    x = Scale(
        low=low,
        high=high,
        start=max(text_width(name(mark.label)) for mark in measured) + 10,
        end=WIDTH - max(map(text_width, numbers)) - 10,
    )
    inside = [mark for mark in known if x.holds(mark.value)]
    above, top = _names_above(inside, x)
    bottom = top + _ROW * len(measured)
    items = [*heading(panel.title, panel.better), *across(x, top, bottom, 3), *above]
    items += [
        Path(points=[(x(mark.value), top - 2), (x(mark.value), bottom)], color="soft", dashed=True)
        for mark in inside
    ]
    for row, (mark, text) in enumerate(zip(measured, numbers, strict=True)):
        y = top + _ROW * (row + 0.5)
        items.append(Words(x=0, y=y + 4, text=name(mark.label)))
        items += interval(mark, [(x(end), y) for end in (mark.low, mark.high) if end is not None], colors)
        items.append(Disc(x=x(mark.value), y=y, radius=4.5, color=color(mark.label, colors)))
        items.append(Words(x=WIDTH, y=y + 4, text=text, anchor="end"))
    lines, height = below(beyond(known, x, panel.digits), bottom + LINE + 2)
    values = "; ".join(f"{mark.label} {text}" for mark, text in zip(measured, numbers, strict=True))
    return Drawing(width=WIDTH, height=height, items=[*items, *lines], summary=f"{panel.title}: {values}")


def _names_above(marks: Sequence[Mark], x: Scale) -> tuple[list[Item], float]:
    """Return the names of known answers above their ticks, none over another, and where the rows begin."""
    widths = [text_width(name(mark.label), SMALL) for mark in marks]
    centres = [
        min(max(x(mark.value), width / 2), WIDTH - width / 2) for mark, width in zip(marks, widths, strict=True)
    ]
    on = levels(centres, widths, _LEVELS)
    used = max((level + 1 for level in on if level is not None), default=0)
    top = HEAD + LINE * used
    items: list[Item] = []
    for mark, centre, level in zip(marks, centres, on, strict=True):
        if level is None:
            continue
        y = top - LINE * level - 4
        items.append(Words(x=centre, y=y, text=name(mark.label), anchor="middle", ink="soft", size=SMALL))
        if level:
            items.append(Path(points=[(x(mark.value), y + 2), (x(mark.value), top - 2)], color="grid"))
    return items, top
