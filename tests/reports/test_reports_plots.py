"""Figures of numbers: nothing is covered or cut, colours stay apart for colour-blind eyes, text is escaped."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import mvtokenflow.reports
from mvtokenflow.eval.plots.panels import Costs, Dots, Figure, Line, Lines, Mark, Panel, Point, span
from mvtokenflow.reports.plots.common import WIDTH
from mvtokenflow.reports.plots.draw import draw
from mvtokenflow.reports.plots.items import DARK, LIGHT, Disc, Drawing, Words, colors_of
from mvtokenflow.reports.plots.items import Path as Stroke
from mvtokenflow.reports.plots.scale import Scale, levels, spread, text_width
from mvtokenflow.reports.plots.svg import svg

TEMPLATES = Path(str(mvtokenflow.reports.__file__)).parent / "templates"
NAMES = ("mvtokenflow", "sc4d", "dg4d", "no-enlarged-attention+normal", "a<b> & c", "d2")


def marks() -> list[Mark]:
    measured = [
        Mark(label=name, group="measured", value=0.15 + 0.01 * place, low=0.14, high=0.2 + 0.01 * place)
        for place, name in enumerate(NAMES)
    ]
    known = [
        Mark(label=f"known-{place}", group="oracle", value=0.16 + 0.0001 * place, low=0.1, high=0.2)
        for place in range(5)
    ]
    far = [
        Mark(label="ground-truth", group="oracle", value=0.0),
        Mark(label="white", group="oracle", value=0.43),
    ]
    return [*measured, *known, *far]


def strip() -> Dots:
    return Dots(title="LPIPS", better="lower", digits=4, marks=marks())


def curves(over: str = "scene", count: int = 24) -> Lines:
    lines = [
        Line(label=name, group="measured", values=[0.2 + 0.001 * place + 0.01 * (k % 3) for k in range(count)])
        for place, name in enumerate(NAMES)
    ]
    lines.append(Line(label="blurred", group="oracle", values=[0.205] * count))
    lines.append(Line(label="white", group="oracle", values=[0.9] * count))
    at = [f"quadruped-{k:02d}" if over == "scene" else str(k) for k in range(count)]
    assert over in ("scene", "frame")
    return Lines(
        title="LPIPS",
        better="lower",
        digits=4,
        over="scene" if over == "scene" else "frame",
        at=at,
        lines=lines,
    )


def scatter() -> Costs:
    measured = [mark for mark in marks() if mark.group == "measured"]
    points = [Point(minutes=5.0 + 0.2 * place, mark=mark) for place, mark in enumerate(measured)]
    levels = [mark for mark in marks() if mark.group == "oracle"]
    return Costs(title="LPIPS", better="lower", digits=4, points=points, levels=levels)


PANELS: list[Panel] = [strip(), curves(), curves("frame", 32), curves("frame", 2), scatter()]


def drawn(panel: Panel) -> Drawing:
    return draw(panel, colors_of([Figure(title="", panels=[panel])]))


def box(words: Words) -> tuple[float, float, float, float]:
    width = text_width(words.text, words.size) * 0.85  # an estimate from above; letters that touch are no fault
    left = words.x - {"start": 0.0, "middle": width / 2, "end": width}[words.anchor]
    return left, words.y - 0.75 * words.size, left + width, words.y


@pytest.mark.parametrize("panel", PANELS, ids=["dots", "scenes", "frames", "two frames", "costs"])
def test_texts_do_not_cover_each_other_and_stay_inside(panel: Panel) -> None:
    drawing = drawn(panel)
    boxes = [(item, box(item)) for item in drawing.items if isinstance(item, Words) and not item.turned]
    for item, (left, top, right, bottom) in boxes:
        assert left >= -1, item
        assert right <= WIDTH + 1, item
        assert 0 <= top < bottom <= drawing.height, item
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, (one.text, other.text)


@pytest.mark.parametrize("panel", PANELS, ids=["dots", "scenes", "frames", "two frames", "costs"])
def test_every_measured_row_is_named_and_drawn_in_its_colour(panel: Panel) -> None:
    drawing = drawn(panel)
    texts = [item.text for item in drawing.items if isinstance(item, Words)]
    for place, name in enumerate(NAMES):
        shown = name if len(name) <= 24 else f"{name[:11]}…{name[-11:]}"
        assert texts.count(shown) == 1
        assert any(isinstance(item, Disc | Stroke) and item.color == place for item in drawing.items)
    for item in drawing.items:
        if isinstance(item, Disc):
            assert 0 <= item.x <= WIDTH
            assert 0 <= item.y <= drawing.height


def test_known_answers_are_grey_ticks_and_those_far_away_are_named_below() -> None:
    drawing = drawn(strip())
    texts = [item.text for item in drawing.items if isinstance(item, Words)]
    assert "Outside the range: ground-truth 0.0000, white 0.4300." in texts
    dashed = [item for item in drawing.items if isinstance(item, Stroke) and item.dashed]
    assert len(dashed) == 5
    assert {item.color for item in dashed} == {"soft"}
    assert "Outside the range: white." in [i.text for i in drawn(curves()).items if isinstance(i, Words)]


def test_a_dot_is_where_its_number_is_on_the_axis() -> None:
    drawing = drawn(strip())
    at = {item.color: item.x for item in drawing.items if isinstance(item, Disc)}
    steps = np.diff([at[place] for place in range(len(NAMES))])
    assert np.allclose(steps, steps[0])
    assert steps[0] > 0


def test_svg_is_escaped_and_the_same_each_time() -> None:
    text = str(svg(drawn(strip())))
    assert "a&lt;b&gt; &amp; c" in text
    assert "<b>" not in text
    assert text == str(svg(drawn(strip())))
    assert 'aria-label="LPIPS: mvtokenflow 0.1500; sc4d 0.1600;' in text


def test_names_are_moved_apart_in_their_order_and_no_further_than_needed() -> None:
    assert spread([5.0, 50.0], 10, 0, 100) == [5.0, 50.0]
    assert spread([50.0, 50.0, 50.0], 10, 0, 100) == [40.0, 50.0, 60.0]
    assert spread([99.0, 98.0], 10, 0, 100) == [100.0, 90.0]
    assert spread([5.0] * 5, 50, 0, 100) == [0.0, 25.0, 50.0, 75.0, 100.0]
    assert spread([], 10, 0, 100) == []


def test_labels_get_levels_only_where_there_is_room() -> None:
    assert levels([10, 60, 12], [20, 20, 20], 2) == [0, 0, 1]
    assert levels([10, 11, 12], [20, 20, 20], 2) == [0, 1, None]


@pytest.mark.parametrize(
    ("low", "high"), [(0.137, 0.241), (641.5, 926.5), (-0.02, 0.01), (20.0, 20.001), (0.0, 1e-9)]
)
def test_an_axis_has_two_round_numbers_at_least(low: float, high: float) -> None:
    found = Scale(low=low, high=high, start=0, end=200).ticks(3)
    assert 2 <= len(found) <= 9
    assert all(low - 1e-12 <= value <= high + 1e-12 for value, _ in found)
    assert len({text for _, text in found}) == len(found)


def test_a_range_is_never_empty() -> None:
    assert span([2.0]) == pytest.approx((1.88, 2.12))
    assert span([0.0, 0.0]) == pytest.approx((-0.06, 0.06))
    with pytest.raises(ValueError, match="no range"):
        span([])


# ---- colours ----

# Red-blind and green-blind vision in linear RGB, after Machado, Oliveira and Fernandes (2009), severity 1.
PROTAN = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTAN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(color: str, seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* of a colour as eyes see it."""
    rgb = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x = TO_XYZ @ np.clip(seen @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("matrix", [np.eye(3), PROTAN, DEUTAN], ids=["all", "red-blind", "green-blind"])
def test_two_rows_are_never_of_nearly_one_colour(palette: tuple[str, ...], matrix: object) -> None:
    seen = np.asarray(matrix, np.float64)
    pairs = itertools.combinations([lab(color, seen) for color in palette], 2)
    assert min(float(np.linalg.norm(one - other)) for one, other in pairs) >= 15


@pytest.mark.parametrize(("sheet", "letter"), [("plots.css", "m"), ("scene.css", "c")])
def test_pages_have_the_same_colours_as_files(sheet: str, letter: str) -> None:
    text = (TEMPLATES / sheet).read_text()
    light, dark = text.split("@media (prefers-color-scheme: dark)", 1)
    for part, palette in ((light, LIGHT), (dark, DARK)):
        found = dict(re.findall(rf"--{letter}(\d): (#[0-9a-f]{{6}})", part))
        assert [found[str(place)] for place in range(len(palette))] == list(palette)
