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
        return Markup('<path d="M{}" fill="none" stroke="{}" stroke-width="{:g}"{}/>').format(
            points, _css(item.color), item.width, dashed
        )
    if isinstance(item, Disc):
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:g}" fill="{}"/>').format(
            item.x, item.y, item.radius, _css(item.color)
        )
    return _words(item)


def _words(item: Words) -> Markup:
    place = Markup('x="{:.1f}" y="{:.1f}"').format(item.x, item.y)
    if item.turned:
        place += Markup(' transform="rotate(-90 {:.1f} {:.1f})"').format(item.x, item.y)
    bold = Markup(' font-weight="600"') if item.bold else Markup("")
    return Markup('<text {} font-size="{:g}" text-anchor="{}" fill="{}"{}>{}</text>').format(
        place, item.size, item.anchor, _css(item.ink), bold, escape(item.text)
    )


def _css(color: int | Ink) -> str:
    if isinstance(color, int):
        return f"var(--m{color % len(LIGHT)})"
    return {"ink": "var(--ink)", "soft": "var(--soft)", "grid": "var(--line)"}[color]
