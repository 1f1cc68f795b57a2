"""Tables on terminals of several widths: no number is cut, no line is longer than the terminal."""

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from mvtokenflow.eval.tables.table import Cell, Column, Table, TableRow
from mvtokenflow.reports.layout import lay_out, signatures_text
from mvtokenflow.reports.terminal import terminal
from mvtokenflow.reports.text import render

TITLES = ("LPIPS", "CLIP views", "FVD (C4D)", "PSNR", "SSIM", "Warp error", "Flow EPE input px", "Motion px")
METHODS = ("mvtokenflow", "shuffled-frames", "no-enlarged-attention+normal")


def number(row: int, column: int) -> float:
    """A number that no other cell has, of seven characters at least."""
    return 1000.0 + 100 * row + column + 0.25


def wide() -> Table:
    columns = [
        Column(
            key=f"m{place}",
            title=title,
            better="lower",
            digits=3,
            signatures=[f"m{place}|v:1|p:toy4d-v2|net:{place}|frames:32"],
        )
        for place, title in enumerate(TITLES)
    ]
    rows = [
        TableRow(
            label=label,
            source="native",
            group="oracle" if row else "measured",
            cells=[
                Cell(value=number(row, place), low=number(row, place) - 1, high=number(row, place) + 1)
                for place in range(len(columns))
            ],
        )
        for row, label in enumerate(METHODS)
    ]
    notes = ["Protocol toy4d-v2: for the test."]
    return Table(name="table1", title="Wide", caption="", columns=columns, rows=rows, footnotes=notes)


def printed(table: Table, width: int, *, intervals: bool = False) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(terminal(table, intervals=intervals))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
@pytest.mark.parametrize("intervals", [False, True])
def test_every_number_is_whole_at_every_width(width: int, intervals: bool) -> None:
    lines = printed(wide(), width, intervals=intervals)
    assert max(map(cell_len, lines)) <= width
    words = " ".join(lines).split()
    for row in range(len(METHODS)):
        for place in range(len(TITLES)):
            assert words.count(f"{number(row, place):.3f}") == 1
            if intervals:
                assert f"[{number(row, place) - 1:.3f}," in words
                assert f"{number(row, place) + 1:.3f}]" in words
    for title in TITLES:
        assert set(title.split()) <= set(words)


def test_a_wide_terminal_shows_one_block_and_a_narrow_one_repeats_the_names() -> None:
    assert sum("mvtokenflow" in line for line in printed(wide(), 140)) == 1
    assert sum("mvtokenflow" in line for line in printed(wide(), 80)) == 2
    assert sum("mvtokenflow" in line for line in printed(wide(), 60)) > 2


def test_a_name_is_broken_only_where_a_number_would_have_no_room() -> None:
    lines = printed(wide(), 30)
    assert max(map(cell_len, lines)) <= 30
    assert any("1200.250" in line for line in lines)


def test_what_signatures_share_is_one_note() -> None:
    laid = lay_out(wide(), intervals=False)
    assert laid.notes[0] == "Protocol toy4d-v2: for the test."
    assert laid.notes[1] == "LPIPS: m0|net:0"
    assert laid.notes[-1] == "Every column: v:1|p:toy4d-v2|frames:32"
    assert laid.heads[0].notes == [2]
    alone = replace(wide(), columns=wide().columns[:1], rows=[])
    assert lay_out(alone, intervals=False).notes[-1] == "LPIPS: m0|v:1|p:toy4d-v2|net:0|frames:32"
    mixed = replace(wide().columns[0], signatures=["a|v:1|x:1 + a|v:1|x:2"])
    two = replace(wide(), columns=[mixed, *wide().columns[1:]])
    assert "LPIPS: a|v:1|x:1 + a|v:1|x:2" in lay_out(two, intervals=False).notes


def test_notes_can_be_short_or_none_and_signatures_stay_whole_beside() -> None:
    missing = replace(wide().rows[0], cells=[Cell(value=None, reason="no weights"), *wide().rows[0].cells[1:]])
    table = replace(wide(), rows=[missing, *wide().rows[1:]])
    short = lay_out(table, intervals=False, notes="short")
    assert short.notes == ["Every column: v:1|p:toy4d-v2|frames:32", "no weights"]
    assert short.groups[0].rows[0].cells[0].note == 2
    none = lay_out(table, intervals=True, notes="none")
    assert (none.notes, none.legend) == ([], [])
    assert "<sup>" not in render(table, "md", notes="none")
    assert "Protocol" not in render(table, "md", notes="short")
    assert signatures_text(table).splitlines()[0] == "LPIPS (m0): m0|v:1|p:toy4d-v2|net:0|frames:32"


def test_a_bare_tabular_has_no_notes_and_no_float() -> None:
    source = render(wide(), "latex-tabular", intervals=True)
    assert source.startswith("% needs \\usepackage{booktabs}\n\\begin{tabular}{l" + "r" * len(TITLES) + "}\n")
    assert source.endswith("  \\bottomrule\n\\end{tabular}\n")
    assert "textsuperscript" not in source
    assert "caption" not in source
    for row in range(len(METHODS)):
        assert all(f"{number(row, place):.3f}" in source for place in range(len(TITLES)))
