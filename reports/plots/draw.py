"""Lays out a panel of any kind."""

from mvtokenflow.eval.plots.panels import Costs, Dots, Panel
from mvtokenflow.reports.plots.common import Colors
from mvtokenflow.reports.plots.costs import costs
from mvtokenflow.reports.plots.dots import dots
from mvtokenflow.reports.plots.items import Drawing
from mvtokenflow.reports.plots.lines import lines


def draw(panel: Panel, colors: Colors) -> Drawing:
    """Lay out a panel, `common.WIDTH` pixels wide.

    Args:
        colors: numbers of the colours of measured rows, as `items.colors_of` gives them.
    """
    if isinstance(panel, Dots):
        return dots(panel, colors)
    return costs(panel, colors) if isinstance(panel, Costs) else lines(panel, colors)
