"""Figures as files: every text is there, the same figure gives the same bytes, wrong names are refused."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.eval.plots.panels import Costs, Dots, Figure, Line, Lines, Mark, Point
from mvtokenflow.reports.plots.files import save_figure
from mvtokenflow.reports.plots.items import LIGHT

MARKS = [
    Mark(label="mvtokenflow", group="measured", value=0.16, low=0.14, high=0.18),
    Mark(label="$a_b$ <c>", group="measured", value=0.2),
    Mark(label="blurred", group="oracle", value=0.17, low=0.1, high=0.2),
]
LINES = [
    Line(label=mark.label, group=mark.group, values=[mark.value, None, mark.value + 0.01]) for mark in MARKS
]
FIGURE = Figure(
    title="Novel views",
    panels=[
        Dots(title="LPIPS", better="lower", digits=4, marks=MARKS),
        Lines(
            title="LPIPS", better="lower", digits=4, over="view", at=["eval_0", "eval_1", "eval_2"], lines=LINES
        ),
        Costs(
            title="LPIPS",
            better="lower",
            digits=4,
            points=[Point(minutes=2.0, mark=MARKS[0]), Point(minutes=30.0, mark=MARKS[1])],
            levels=MARKS[2:],
        ),
    ],
)


@pytest.mark.parametrize("form", ["svg", "pdf", "png"])
def test_the_same_figure_gives_the_same_bytes(form: str, tmp_path: Path) -> None:
    first, second = tmp_path / f"a.{form}", tmp_path / f"b.{form}"
    save_figure(FIGURE, first)
    save_figure(FIGURE, second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, second.name]


def test_an_svg_holds_its_texts_as_text_and_its_rows_in_their_colours(tmp_path: Path) -> None:
    save_figure(FIGURE, tmp_path / "a.svg")
    source = (tmp_path / "a.svg").read_text()
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", source)
    assert texts.count("mvtokenflow") == 3
    assert texts.count("$a_b$ &lt;c&gt;") == 3, "no name is read as a formula"
    assert "blurred" in texts
    assert "minutes per scene" in texts
    for color in LIGHT[:2]:
        assert color in source


def test_panels_stand_beside_each_other_as_asked(tmp_path: Path) -> None:
    sizes = {}
    for columns in (1, 3):
        save_figure(FIGURE, tmp_path / "a.png", columns=columns, dpi=50)
        with Image.open(tmp_path / "a.png") as picture:
            sizes[columns] = picture.size
    assert sizes[3][0] == pytest.approx(3 * sizes[1][0], abs=3)
    assert sizes[1][1] > 2 * sizes[3][1]


def test_another_ending_and_an_empty_figure_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.jpg: the name of a figure ends with \.svg, \.pdf, \.png"):
        save_figure(FIGURE, tmp_path / "a.jpg")
    with pytest.raises(ConfigError, match="nothing to draw"):
        save_figure(Figure(title="", panels=[]), tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []


def test_the_command_draws_finished_runs(
    tiny: object, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    grid = ["--dataset", "tinyscenes:Tiny", "--root", tmp_path / "data", "--runs", tmp_path / "runs"]
    grid += ["--scenes", "ant,bee", "--protocol", "toy4d-v1", "--methods", "tinyscenes:NATIVE,blurred"]
    nothing = cli("plot", "table2", "-o", tmp_path / "a.svg", *grid)
    assert (nothing.code, "holds no finished run" in nothing.err) == (2, True)
    assert cli("table2", *grid, "--jobs", 1, "--no-quoted").code == 0
    for by in ("metric", "view", "frame", "scene", "minutes"):
        out = tmp_path / f"{by}.svg"
        done = cli("plot", "table2", "-o", out, "--by", by, "--columns", "psnr", *grid)
        assert done.code == 0, done.err
        assert "1 panels, 2 rows, 2 scenes" in done.err
        assert ">native</text>" in out.read_text()
    assert cli("plot", "table2", "-o", tmp_path / "x.svg", "--by", "viev", *grid).code == 2
    refused = cli("plot", "table2", "-o", tmp_path / "x.svg", "--columns", "psnrr", *grid)
    assert (refused.code, "no such column" in refused.err) == (2, True)
    assert not (tmp_path / "x.svg").exists()
