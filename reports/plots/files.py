"""Figures as files that a paper takes: SVG, PDF or PNG, drawn by matplotlib."""

from collections.abc import Sequence
from pathlib import Path as File
from typing import TYPE_CHECKING

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import atomic_path
from mvtokenflow.eval.plots.panels import Figure
from mvtokenflow.reports.plots.common import WIDTH
from mvtokenflow.reports.plots.draw import draw
from mvtokenflow.reports.plots.items import LIGHT, Disc, Drawing, Ink, Item, Path, Words, colors_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMS = ("svg", "pdf", "png")
_GAP = 24.0  # pixels between panels
_UNIT = 1 / 100  # inches of a pixel: text of 11 pixels is 7.9 pt high
_POINTS = 72 * _UNIT  # of a pixel
_LETTERS = 0.93  # the size of letters, which are wider here than on pages
_INKS: dict[Ink, str] = {"ink": "#1d1b18", "soft": "#68635a", "grid": "#e2ded6"}


def check_path(path: File) -> None:
    """Refuse a file whose name does not end with one of `FORMS`.

    Raises:
        ConfigError: it does not.
    """
    if path.suffix.lower().removeprefix(".") not in FORMS:
        raise ConfigError(f"{path}: the name of a figure ends with {', '.join(f'.{form}' for form in FORMS)}")


def save_figure(figure: Figure, path: File, *, columns: int = 2, dpi: int = 200) -> None:
    """Draw a figure and write it atomically; the same figure gives the same bytes.

    Args:
        path: .svg, .pdf or .png.
        columns: panels beside each other, each 3.4 inches wide.
        dpi: of a PNG.

    Raises:
        ConfigError: another kind of file, or a figure without panels.
    """
    check_path(path)
    if not figure.panels:
        raise ConfigError(f"{path}: nothing to draw, no row of the table was measured")
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    colors = colors_of([figure])
    placed, width, height = _placed([draw(panel, colors) for panel in figure.panels], columns)
    form = path.suffix.lower().removeprefix(".")
    with rc_context({"svg.hashsalt": "mvtokenflow", "svg.fonttype": "none", "pdf.fonttype": 42}):
        canvas = Canvas(figsize=(width * _UNIT, height * _UNIT), dpi=dpi)
        FigureCanvasAgg(canvas)
        axes = canvas.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        for drawing, left, top in placed:
            for layer, item in enumerate(drawing.items):
                _add(axes, item, left, top, layer)
        nothing = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[form]
        with atomic_path(path) as partial:
            canvas.savefig(partial, format=form, metadata=nothing)


def _placed(
    drawings: Sequence[Drawing], columns: int
) -> tuple[list[tuple[Drawing, float, float]], float, float]:
    """Return the drawings with their places, in rows, and the width and height of all."""
    placed = []
    top = _GAP / 2
    for start in range(0, len(drawings), columns):
        row = drawings[start : start + columns]
        placed += [(one, _GAP / 2 + place * (WIDTH + _GAP), top) for place, one in enumerate(row)]
        top += max(one.height for one in row) + _GAP
    across = min(columns, len(drawings))
    return placed, across * (WIDTH + _GAP), top - _GAP / 2


def _add(axes: "Axes", item: Item, left: float, top: float, layer: int) -> None:
    if isinstance(item, Path):
        across, down = zip(*((left + x, top + y) for x, y in item.points), strict=True)
        style = (0, (3, 3)) if item.dashed else "solid"
        width = item.width * _POINTS
        axes.plot(across, down, color=_hex(item.color), linewidth=width, linestyle=style, zorder=layer)
    elif isinstance(item, Disc):
        size = (2 * item.radius * _POINTS) ** 2
        x, y = [left + item.x], [top + item.y]
        axes.scatter(x, y, s=size, color=_hex(item.color), linewidths=0, zorder=layer)
    else:
        _write(axes, item, left, top, layer)


def _write(axes: "Axes", item: Words, left: float, top: float, layer: int) -> None:
    axes.text(
        left + item.x,
        top + item.y,
        item.text,
        color=_hex(item.ink),
        fontsize=item.size * _POINTS * _LETTERS,
        fontweight="bold" if item.bold else "normal",
        rotation=90 if item.turned else 0,
        rotation_mode="anchor",
        horizontalalignment={"start": "left", "middle": "center", "end": "right"}[item.anchor],
        verticalalignment="baseline",
        parse_math=False,
        zorder=layer,
    )


def _hex(color: int | Ink) -> str:
    return LIGHT[color % len(LIGHT)] if isinstance(color, int) else _INKS[color]
