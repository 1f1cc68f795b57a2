"""Tables in every syntax: one synthetic table with all kinds of cells, names made to break escaping."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.eval.tables.table import Cell, Column, Table, TableRow
from mvtokenflow.reports import text
from mvtokenflow.reports.html import script_json, table_html, tables_page
from mvtokenflow.reports.layout import lay_out, number
from mvtokenflow.reports.terminal import terminal

SNAPSHOTS = Path(__file__).parents[1] / "data"
NASTY = "a<b> & c_d 50% |x| *y* ünï–λ {z}"


def all_kinds() -> Table:
    """Ranked, tied, partial, missing, infinite, oracle and quoted cells."""
    columns = [
        Column(key="psnr", title="PSNR", better="higher", digits=2, signatures=["psnr|p:toy4d-v1|range:255"]),
        Column(key="lpips", title="LPIPS", better="lower", digits=3, signatures=["lpips|p:toy4d-v1|net:vgg"]),
        Column(key="n", title="Gaussians_#", better="none", digits=0, signatures=[]),
    ]
    provenance = {
        "signature": "lpips|p:toy4d-v1|net:vgg",
        "runs": [{"folder": "toy4d/ours/fox/seed0-abc", "digest": "ff00"}],
        "command": ["mvtf-eval", "table1", "--scenes", "<all>"],
    }
    rows = [
        TableRow(
            label="ours",
            source="native",
            group="measured",
            cells=[
                Cell(value=24.126, low=22.0, high=26.25, have=7, want=7, rank=1),
                Cell(value=0.1224, low=0.1011, high=0.1391, have=6, want=7, rank=1, provenance=provenance),
                Cell(value=4096.0, have=7, want=7),
            ],
        ),
        TableRow(
            label=NASTY,
            source="upstream-run",
            group="measured",
            cells=[
                Cell(value=24.1259, low=22.1, high=26.3, have=7, want=7, rank=2, tied=True),
                Cell(value=None, have=0, want=7, reason="weights <vgg_16> are missing"),
                Cell(value=-0.0004, have=7, want=7),
            ],
        ),
        TableRow(
            label="ground truth",
            source="oracle",
            group="oracle",
            cells=[
                Cell(value=math.inf, have=7, want=7),
                Cell(value=0.0, have=7, want=7),
                Cell(value=None, have=0, want=7, reason="not applicable"),
            ],
        ),
        TableRow(
            label="MVTokenFlow (paper)",
            source="quoted",
            group="quoted",
            note="arXiv:2502.11697v2, Table 1",
            cells=[
                Cell(value=-1.5, rank=1),
                Cell(value=0.1, printed="0.10", rank=1, tied=True),
                Cell(value=None, reason="not applicable"),
            ],
        ),
    ]
    return Table(
        name="table1",
        title="Table 1: 7 objects & <all> views",
        caption="Means over 100% of the frames.",
        columns=columns,
        rows=rows,
        footnotes=["PSNR is psnr|p:toy4d-v1|range:255 in dB"],
    )


@pytest.mark.parametrize(("form", "name"), [("md", "md"), ("csv", "csv"), ("latex", "tex"), ("json", "json")])
def test_text_is_the_reviewed_snapshot(form: str, name: str) -> None:
    expected = (SNAPSHOTS / f"reports_table.{name}").read_text()
    assert text.render(all_kinds(), form, intervals=True) == expected


def test_html_and_terminal_are_the_reviewed_snapshots() -> None:
    assert str(table_html(all_kinds())) == (SNAPSHOTS / "reports_table.html").read_text()
    console = Console(width=140, record=True, file=io.StringIO(), force_terminal=True)
    console.print(terminal(all_kinds(), intervals=True))
    assert console.export_text(styles=True) == (SNAPSHOTS / "reports_table.ansi").read_text()


def test_marks_groups_and_notes_are_decided_once() -> None:
    laid = lay_out(all_kinds(), intervals=False)
    assert [group.name for group in laid.groups] == ["measured", "oracle", "quoted"]
    ours, nasty = laid.groups[0].rows
    assert [cell.best for cell in ours.cells] == [True, True, False]
    assert (ours.cells[1].coverage, ours.cells[1].interval) == ("6/7", "")
    assert (nasty.cells[0].second, nasty.cells[0].tied, nasty.cells[2].text) == (True, True, "0")
    assert laid.groups[1].rows[0].cells[0].text == "∞"
    quoted = laid.groups[2].rows[0]
    # the table gave this row rank 1; a quoted number is never ranked whatever the table says
    assert not any(cell.best or cell.second or cell.tied for cell in quoted.cells)
    # the table's footnote holds PSNR's signature and keeps number 1; equal reasons share a number
    assert laid.heads[0].notes == [1]
    assert laid.notes[laid.heads[1].notes[0] - 1] == "LPIPS: lpips|net:vgg"
    assert laid.groups[1].rows[0].cells[2].note == quoted.cells[2].note
    assert laid.notes[(quoted.note or 0) - 1] == "arXiv:2502.11697v2, Table 1"
    assert len(laid.notes) == len(set(laid.notes)) == 6


def test_intervals_appear_only_when_asked_for() -> None:
    assert "**0.122** [0.101, 0.139] (6/7)" in text.markdown(all_kinds(), intervals=True)
    assert "[0.101" not in text.markdown(all_kinds())


@pytest.mark.parametrize(
    ("value", "digits", "printed"),
    [
        (-0.0004, 3, "0.000"),
        (-0.0, 0, "0"),
        (-0.0006, 3, "-0.001"),
        (-10.0, 0, "-10"),
        (math.inf, 2, "∞"),
        (-math.inf, 2, "-∞"),
        (0.1225, 3, "0.122"),
    ],
)
def test_numbers(value: float, digits: int, printed: str) -> None:
    assert number(value, digits) == printed


def test_markdown_has_one_width_and_loses_no_character() -> None:
    lines = [line for line in text.markdown(all_kinds()).splitlines() if line.startswith("|")]
    unescaped_bars = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert unescaped_bars == {5}
    assert "a&lt;b&gt; &amp; c_d 50% \\|x\\| \\*y\\* ünï–λ {z}" in text.markdown(all_kinds())
    assert len({len(line) for line in lines}) == 1


def test_csv_round_trips_every_name_and_number() -> None:
    lines = list(csv.DictReader(io.StringIO(text.render(all_kinds(), "csv"))))
    assert [line["method"] for line in lines] == [row.label for row in all_kinds().rows]
    assert float(lines[0]["lpips"]) == 0.1224
    assert lines[0]["lpips_have"] == "6"
    assert float(lines[2]["psnr"]) == math.inf
    assert lines[1]["lpips"] == ""
    assert lines[1]["lpips_reason"] == "weights <vgg_16> are missing"
    assert lines[3]["psnr_rank"] == ""


def test_latex_escapes_and_balances() -> None:
    source = text.latex(all_kinds(), intervals=True)
    body = re.sub(r"\\[\\{}$&#%_]", "", source)
    assert body.count("{") == body.count("}")
    assert body.count("$") % 2 == 0
    rows = [line for line in source.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {3}
    comments = [line for line in body.splitlines() if "%" in line]
    assert comments == ["% needs \\usepackage{booktabs}"]
    assert r"a\textless{}b\textgreater{} \& c\_d 50\% \textbar{}" in source
    assert r"$\infty$" in source
    assert r"$-$1.50" in source
    assert not re.search(r"[—†≈∞↑↓−]", source)


class _Reader(HTMLParser):
    """Text of the first column, and whether the tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.labels: list[str] = []
        self.details = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("br", "meta", "link"):
            self.open.append(tag)
        if ("scope", "row") in attrs:
            self.labels.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "th" and self.labels:
            self.labels[-1] += data
        if self.open and self.open[-1] == "script":
            self.details += data


def test_html_nests_escapes_and_carries_the_provenance() -> None:
    reader = _Reader()
    reader.feed(str(table_html(all_kinds())))
    assert reader.open == []
    assert reader.labels == ["ours", NASTY, "ground truth", "MVTokenFlow (paper)"]
    details = json.loads(reader.details)
    assert details["0.1"]["provenance"]["command"][-1] == "<all>"
    assert details["2.0"]["note"].startswith("PSNR ∞")
    assert details["0.1"]["note"].splitlines()[0] == "LPIPS 0.1224"
    assert "<b>" not in str(table_html(all_kinds()))


def test_script_json_cannot_leave_its_element() -> None:
    nasty = {"</script><b>": "<!-- & \u2028"}
    encoded = str(script_json(nasty))
    assert not set("<>&\u2028") & set(encoded)
    assert json.loads(encoded) == nasty


def test_page_is_self_contained() -> None:
    page = tables_page([all_kinds()], title="A < B")
    assert "<title>A &lt; B</title>" in page
    assert not re.search(r"(?:src|href)=\"(?!#|data:,)", page)
    assert "http" not in page.replace("http-equiv", "")
    assert page == tables_page([all_kinds()], title="A < B")


def test_malformed_tables_are_refused() -> None:
    table = all_kinds()
    short = replace(table, rows=[replace(table.rows[0], cells=table.rows[0].cells[:2])])
    with pytest.raises(DataError, match="row 'ours' has 2 cells for 3 columns"):
        text.render(short, "csv")
    for cell, message in [(Cell(value=math.nan), "NaN"), (Cell(value=None), "neither a value nor the reason")]:
        broken = replace(table, rows=[replace(table.rows[0], cells=[cell, *table.rows[0].cells[1:]])])
        with pytest.raises(DataError, match=message):
            text.render(broken, "md")
    with pytest.raises(ConfigError, match="Did you mean 'latex'"):
        text.render(table, "latx")
