"""The numbers of figures against tables and records made by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from manifests import make_manifest

from mvtokenflow.eval.plots.collect import BY, headline, overview, panels
from mvtokenflow.eval.plots.finding import finding
from mvtokenflow.eval.plots.panels import Costs, Dots, Lines
from mvtokenflow.eval.protocols import protocol_named
from mvtokenflow.eval.records.rows import Row, Run, Stage
from mvtokenflow.eval.tables.build import build_table
from mvtokenflow.eval.tables.specs import table_named
from mvtokenflow.eval.tables.table import Table
from mvtokenflow.reports.plots.draw import draw
from mvtokenflow.reports.plots.items import Words

SCENES = ("ant", "bee")
VIEWS = ("eval_0", "eval_1")
FRAMES = 3
SPEC = table_named("table2")
METHODS = ("ours", "theirs", "white", "blurred")


def value(method: str, scene: str, view: str, frame: int) -> float:
    """PSNR: the method's level, and what scene, view and frame add to it."""
    level = {"ours": 20.0, "theirs": 22.0, "white": 3.0, "blurred": 21.0}[method]
    return level + SCENES.index(scene) + 0.25 * VIEWS.index(view) + 0.125 * frame


def run(method: str, scene: str) -> Run:
    signature = "psnr|v:1|p:toy4d-v2"
    rows = [
        Row(
            key=f"{method}{scene}{view}{frame}",
            object=scene,
            view=view,
            frame=frame,
            metric="psnr",
            value=value(method, scene, view, frame),
            signature=signature,
        )
        for view in VIEWS
        for frame in range(FRAMES)
    ]
    known = method in ("white", "blurred")
    manifest = make_manifest(
        method=method,
        scene=scene,
        source="oracle" if known else "native",
        views=[{"name": view} for view in VIEWS],
        frames=FRAMES,
        stages=[Stage(name="fit", wall_s=60.0 * (1 + METHODS.index(method)), peak_mib=1.0)],
    )
    return Run(folder=Path("runs") / method / scene, manifest=manifest, rows=rows)


RUNS = [run(method, scene) for method in METHODS for scene in SCENES]


def table(runs: Sequence[Run] = RUNS) -> Table:
    return build_table(SPEC, runs, protocol_named("toy4d-v2"), METHODS, SCENES)


def test_dots_are_the_cells_of_the_table_without_what_papers_print() -> None:
    (psnr,) = panels(table(), SPEC.columns, RUNS, "metric")
    assert isinstance(psnr, Dots)
    assert [(mark.label, mark.group) for mark in psnr.marks] == [
        ("ours", "measured"),
        ("theirs", "measured"),
        ("white", "oracle"),
        ("blurred", "oracle"),
    ]
    cells = {row.label: row.cells for row in table().rows}
    place = [column.key for column in table().columns].index("psnr")
    for mark in psnr.marks:
        cell = cells[mark.label][place]
        assert (mark.value, mark.low, mark.high) == (cell.value, cell.low, cell.high)


def test_a_row_that_lacks_scenes_is_drawn_with_their_count() -> None:
    partial = [one for one in RUNS if (one.manifest.method, one.manifest.scene) != ("theirs", "bee")]
    (psnr,) = panels(table(partial), SPEC.columns, partial, "metric")
    assert isinstance(psnr, Dots)
    assert {mark.label: mark.coverage for mark in psnr.marks if mark.group == "measured"} == {
        "ours": "",
        "theirs": "1/2",
    }
    drawing = draw(psnr, {"ours": 0, "theirs": 1})
    shown = [item.text for item in drawing.items if isinstance(item, Words)]
    assert "22.25 1/2" in shown, shown


def test_the_range_is_that_of_measured_rows_and_their_intervals() -> None:
    (psnr,) = panels(table(), SPEC.columns, RUNS, "metric")
    assert isinstance(psnr, Dots)
    low, high = psnr.span()
    ends = [bound for mark in psnr.marks[:2] for bound in (mark.low, mark.high) if bound is not None]
    assert 3.0 < low < min(ends), "white is far below"
    assert max(ends) < high < max(ends) + 1


@pytest.mark.parametrize(
    ("by", "at", "wanted"),
    [
        ("view", list(VIEWS), [20.625, 20.875]),
        ("frame", ["0", "1", "2"], [20.625, 20.75, 20.875]),
        ("scene", list(SCENES), [20.25, 21.25]),
    ],
)
def test_lines_are_means_over_all_else(by: str, at: list[str], wanted: list[float]) -> None:
    (chosen,) = (one for one in BY if one == by)
    (psnr,) = panels(table(), SPEC.columns, RUNS, chosen)
    assert isinstance(psnr, Lines)
    assert (psnr.over, list(psnr.at)) == (by, at)
    assert psnr.lines[0].label == "ours"
    assert psnr.lines[0].values == pytest.approx(wanted)
    assert [line.group for line in psnr.lines] == ["measured", "measured", "oracle", "oracle"]


def test_a_value_that_is_infinite_leaves_a_gap() -> None:
    first = RUNS[0]
    rows = [replace(row, value=float("inf")) if row.frame == 1 else row for row in first.rows]
    runs = [replace(first, rows=rows), *RUNS[1:]]
    (psnr,) = panels(table(), SPEC.columns, runs, "frame")
    assert isinstance(psnr, Lines)
    assert [value is None for value in psnr.lines[0].values] == [False, True, False]


def test_costs_are_minutes_of_rows_that_were_rendered_here() -> None:
    (psnr,) = panels(table(), SPEC.columns, RUNS, "minutes")
    assert isinstance(psnr, Costs)
    assert [(point.mark.label, point.minutes) for point in psnr.points] == [("ours", 1.0), ("theirs", 2.0)]
    assert [mark.label for mark in psnr.levels] == ["white", "blurred"]
    elsewhere = [
        replace(one, manifest=replace(one.manifest, source="upstream-run"))
        if one.manifest.method == "ours"
        else one
        for one in RUNS
    ]
    (psnr,) = panels(table(elsewhere), SPEC.columns, elsewhere, "minutes")
    assert isinstance(psnr, Costs)
    assert [point.mark.label for point in psnr.points] == ["theirs"]


def test_the_first_page_shows_every_metric_and_takes_the_first_apart() -> None:
    whole = table()
    every, apart = overview(whole, SPEC.columns, RUNS)
    assert [panel.title for panel in every.panels] == ["PSNR"]
    assert [type(panel) for panel in apart.panels] == [Lines, Lines, Lines, Costs]
    assert headline(whole) == [column.key for column in whole.columns].index("psnr")
    nothing = table([])
    assert overview(nothing, SPEC.columns, []) == []
    assert headline(nothing) is None


def test_the_finding_names_the_best_row_its_neighbours_and_the_next() -> None:
    assert finding([table([])]) == ""
    assert finding([table([]), table()]) == (
        "Novel views against ground truth: of 2 measured rows theirs has the highest PSNR 22.75 "
        "[22.25, 23.25], above blurred (21.75); next is ours with 20.75, which cannot be told from it on these "
        "scenes."
    )
    alone = [one for one in RUNS if one.manifest.method != "theirs"]
    assert finding([table(alone)]) == (
        "Novel views against ground truth: ours has PSNR 20.75 [20.25, 21.25], between white (3.75) and "
        "blurred (21.75)."
    )
    half = [one for one in alone if one.manifest.scene == "ant"]
    assert "PSNR 20.25 (1 of 2 runs asked for)" in finding([table(half)])
