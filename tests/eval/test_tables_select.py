"""Columns and rows are taken by name; equal reasons of failures are one note."""

import pytest

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.eval.tables.request import Failure
from mvtokenflow.eval.tables.select import select
from mvtokenflow.eval.tables.table import Cell, Column, Table, TableRow
from mvtokenflow.eval.tables.tabulate import failure_notes


def table() -> Table:
    columns = [
        Column(key=key, title=title, better="lower", digits=2, signatures=[])
        for key, title in (("lpips", "LPIPS"), ("psnr", "PSNR"), ("lpips", "LPIPS novel"))
    ]
    rows = [
        TableRow(
            label=label,
            source="native",
            group="measured",
            cells=[Cell(value=10.0 * row + place) for place in range(3)],
        )
        for row, label in enumerate(("ours", "theirs", "white"))
    ]
    return Table(name="table3", title="", caption="", columns=columns, rows=rows, footnotes=[])


def values(chosen: Table) -> list[list[float | None]]:
    return [[cell.value for cell in row.cells] for row in chosen.rows]


def test_columns_and_rows_come_in_the_order_that_was_asked_for() -> None:
    assert values(select(table())) == values(table())
    chosen = select(table(), "psnr,lpips novel", "white, ours")
    assert [column.title for column in chosen.columns] == ["PSNR", "LPIPS novel"]
    assert [row.label for row in chosen.rows] == ["white", "ours"]
    assert values(chosen) == [[21.0, 22.0], [1.0, 2.0]]


def test_a_title_comes_before_a_metric_and_a_metric_stands_for_all_its_columns() -> None:
    titles = [column.title for column in select(table(), "lpips").columns]
    assert titles == ["LPIPS"], "a column has that title"
    renamed = table()
    other = Column(key="lpips", title="Input", better="lower", digits=2, signatures=[])
    renamed = Table(**{**vars(renamed), "columns": [other, *renamed.columns[1:]]})
    assert [column.title for column in select(renamed, "lpips").columns] == ["Input", "LPIPS novel"]


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        ("ssim", None, r"no such column; it has lpips \(LPIPS\), psnr \(PSNR\), lpips \(LPIPS novel\)"),
        (None, "mine", "no such row; it has ours, theirs, white"),
        (",", None, "name at least one column"),
        (None, "", "name at least one row"),
    ],
)
def test_names_that_are_not_there_are_refused_with_those_that_are(
    columns: str | None, rows: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        select(table(), columns, rows)


def test_equal_reasons_are_one_note() -> None:
    failures = [
        Failure(method="ours", scene="ant", seed=0, reason="no disk"),
        Failure(method="theirs", scene="ant", seed=1, reason="no pictures"),
        Failure(method="ours", scene="bee", seed=0, reason="no disk"),
        Failure(method="theirs", scene="bee", seed=0, reason="no disk"),
    ]
    assert failure_notes(failures) == [
        "ours on ant, bee (seed 0); theirs on bee (seed 0): no disk",
        "theirs on ant (seed 1): no pictures",
    ]
    assert failure_notes([]) == []
