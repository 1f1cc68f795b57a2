"""Drawings as inline SVG, whose colours are those of the page (`templates/plots.css`)."""

from markupsafe import Markup, escape

from mvtokenflow.reports.plots.items import LIGHT, Disc, Drawing, Ink, Item, Path, Words


def svg(drawing: Drawing) -> Markup:
    """Write a drawing as one <svg> element."""
    body = Markup("").join(map(_item, drawing.items))
    return Markup(
        '<svg class="plot" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        'role="img" aria-label="{summary}">{body}</svg>'
    ).format(width=drawing.width, height=drawing.height, summary=drawing.summary, body=body)


def _item(item: Item) -> Markup:
    if isinstance(item, Path):
        points = "L".join(f"{x:.1f} {y:.1f}" for x, y in item.points)
        dashed = Markup(' stroke-dasharray="3 3"') if item.dashed else Markup("")
        return Markup('<path class="{}" d="M{}" stroke-width="{:g}"{}/>').format(
            _name(item.color), points, item.width, dashed
        )
    if isinstance(item, Disc):
        return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:g}"/>').format(
            _name(item.color), item.x, item.y, item.radius
        )
    return _words(item)


def _words(item: Words) -> Markup:
    place = Markup('x="{:.1f}" y="{:.1f}"').format(item.x, item.y)
    if item.turned:
        place += Markup(' transform="rotate(-90 {:.1f} {:.1f})"').format(item.x, item.y)
    bold = Markup(' font-weight="600"') if item.bold else Markup("")
    return Markup('<text class="{}" {} font-size="{:g}" text-anchor="{}"{}>{}</text>').format(
        item.ink, place, item.size, item.anchor, bold, escape(item.text)
    )


def _name(color: int | Ink) -> str:
    """Return the class of a colour in the style sheet."""
    return f"m{color % len(LIGHT)}" if isinstance(color, int) else color
