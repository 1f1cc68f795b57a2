"""Decides the printed form of a table once for all renderers: marks, footnote numbers and groups.

Renderers (`text`, `html`) only translate this structure into their syntax, so that markdown, LaTeX, the
terminal and the page can never disagree on what is bold or why a cell is empty.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.tables.table import Cell, Column, Group, Table, TableRow

DASH = "—"
DAGGER = "†"
TIED = "≈"
INFINITY = "∞"
EVERY = "Every column"  # begins the note of what all signatures share
Notes = Literal["full", "short", "none"]
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}
GROUPS: dict[Group, str] = {
    "measured": "Measured here",
    "oracle": "Known answers (oracle)",
    "quoted": "Quoted from papers",
}


@dataclass(frozen=True, kw_only=True)
class PrintCell:
    """One cell as printed.

    Attributes:
        text: the rounded number, `∞`, `-∞`, or an em dash where there is none.
        interval: "[0.101, 0.139]", or "" where there is none or none was asked for.
        coverage: "6/7" where fewer runs contributed than were asked for, else "".
        best, second: marks; only measured rows carry them.
        tied: not distinguishable from the best row.
        note: number of the footnote with the reason for a missing value.
    """

    text: str
    interval: str = ""
    coverage: str = ""
    best: bool = False
    second: bool = False
    tied: bool = False
    note: int | None = None


@dataclass(frozen=True, kw_only=True)
class PrintHead:
    """A column heading: its title, its arrow ("↑", "↓" or "") and the footnotes of its signatures."""

    title: str
    arrow: str
    notes: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class PrintRow:
    """A method; `quoted` rows are drawn with a dagger. `index` is its position in `Table.rows`."""

    label: str
    source: str
    quoted: bool
    note: int | None
    cells: Sequence[PrintCell]
    index: int


@dataclass(frozen=True, kw_only=True)
class PrintGroup:
    """Rows that may be compared with each other."""

    name: Group
    title: str
    rows: Sequence[PrintRow]


@dataclass(frozen=True, kw_only=True)
class PrintTable:
    """A table ready for a syntax. `notes` are numbered from 1; `legend` explains the marks in use."""

    heads: Sequence[PrintHead]
    groups: Sequence[PrintGroup]
    notes: Sequence[str]
    legend: Sequence[str]


def number(value: float, digits: int) -> str:
    """Round `value` to `digits` decimals with an ASCII minus, `∞` or `-∞`; never a negative zero."""
    if math.isinf(value):
        return INFINITY if value > 0 else "-" + INFINITY
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def lay_out(table: Table, *, intervals: bool, notes: Notes = "full") -> PrintTable:
    """Decide everything about `table` that does not depend on the output syntax.

    The table's own footnotes keep their order and numbers; signatures, reasons and row notes that are not
    among them are appended in reading order, each once. What all signatures share is one note.

    Args:
        intervals: print them beside the numbers.
        notes: "full", or "short" for what all signatures share and the notes that a cell or a row refers to, or
            "none" for neither notes nor a legend.

    Raises:
        DataError: a row has not one cell per column, or a cell holds NaN or neither value nor reason.
    """
    found = _Notes(table.footnotes if notes == "full" else ())
    own, shared = _signatures(table)
    heads = []
    for column, signatures in zip(table.columns, own, strict=True):
        numbers = [found.signature(column, *pair) for pair in signatures] if notes == "full" else []
        heads.append(PrintHead(title=column.title, arrow=ARROWS[column.better], notes=numbers))
    if shared:
        found.number(f"{EVERY}: {shared}")
    groups = []
    for name, title in GROUPS.items():
        members = [(index, row) for index, row in enumerate(table.rows) if row.group == name]
        if members:
            rows = [_row(table, row, index, found, intervals) for index, row in members]
            groups.append(PrintGroup(name=name, title=title, rows=rows))
    laid = PrintTable(heads=heads, groups=groups, notes=found.texts, legend=_legend(groups))
    return _without_notes(laid) if notes == "none" else laid


def signatures_text(table: Table) -> str:
    """Return the whole signatures of a table, one a line after the column's title and its metric."""
    lines = [f"{column.title} ({column.key}): {one}" for column in table.columns for one in column.signatures]
    return "".join(f"{line}\n" for line in lines)


def _signatures(table: Table) -> tuple[list[list[tuple[str, str]]], str]:
    """Return each column's signatures, whole and without the parts that all share, and those parts."""
    parts = [one.split("|") for column in table.columns for one in column.signatures if " + " not in one]
    shared = [part for part in parts[0][1:] if all(part in other for other in parts)] if len(parts) > 1 else []

    def own(signature: str) -> str:
        if " + " in signature:  # of several kinds of rows
            return signature
        return "|".join(part for part in signature.split("|") if part not in shared)

    return [[(one, own(one)) for one in column.signatures] for column in table.columns], "|".join(shared)


def _without_notes(laid: PrintTable) -> PrintTable:
    """Return a table whose heads, rows and cells refer to no note."""
    groups = [
        replace(
            group,
            rows=[
                replace(row, note=None, cells=[replace(cell, note=None) for cell in row.cells])
                for row in group.rows
            ],
        )
        for group in laid.groups
    ]
    return PrintTable(
        heads=[replace(head, notes=[]) for head in laid.heads], groups=groups, notes=[], legend=[]
    )


class _Notes:
    """Footnotes with stable numbers."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)

    def number(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1

    def signature(self, column: Column, signature: str, own: str) -> int:
        """Return the footnote with this signature; a new one with its own parts if there is none yet."""
        for place, text in enumerate(self.texts, 1):
            if signature in text:
                return place
        return self.number(f"{column.title}: {own}")


def _row(table: Table, row: TableRow, index: int, notes: _Notes, intervals: bool) -> PrintRow:
    if len(row.cells) != len(table.columns):
        raise DataError(
            f"table {table.name}: row '{row.label}' has {len(row.cells)} cells for "
            f"{len(table.columns)} columns; build the table again"
        )
    return PrintRow(
        label=row.label,
        source=row.source,
        quoted=row.group == "quoted",
        note=notes.number(row.note) if row.note else None,
        cells=[
            _cell(table, row, column, cell, notes, intervals)
            for column, cell in zip(table.columns, row.cells, strict=True)
        ],
        index=index,
    )


def _cell(table: Table, row: TableRow, column: Column, cell: Cell, notes: _Notes, intervals: bool) -> PrintCell:
    where = f"table {table.name}: {row.label}, {column.title}"
    if cell.value is None:
        if not cell.reason:
            raise DataError(f"{where}: neither a value nor the reason why it is missing")
        return PrintCell(text=DASH, note=notes.number(cell.reason))
    if math.isnan(cell.value):
        raise DataError(f"{where}: NaN; score again, a record never holds NaN")
    ranked = row.group == "measured"  # a quoted or known-answer number is never compared by rank
    bounds = ""
    if intervals and cell.low is not None and cell.high is not None:
        bounds = f"[{number(cell.low, column.digits)}, {number(cell.high, column.digits)}]"
    return PrintCell(
        text=cell.printed or number(cell.value, column.digits),
        interval=bounds,
        coverage=cell.coverage,
        best=ranked and cell.rank == 1,
        second=ranked and cell.rank == 2,
        tied=ranked and cell.tied,
    )


def _legend(groups: Sequence[PrintGroup]) -> list[str]:
    cells = [cell for group in groups for row in group.rows for cell in row.cells]
    lines = []
    if any(cell.best or cell.second for cell in cells):
        lines.append("Bold: best, underlined: second best among measured rows, ranked on unrounded values.")
    if any(cell.tied for cell in cells):
        lines.append(f"{TIED} the paired difference to the best row is not distinguishable from zero.")
    if any(cell.interval for cell in cells):
        lines.append("[low, high]: 95 % interval by cluster bootstrap over objects.")
    if any(cell.coverage for cell in cells):
        lines.append("n/m: runs (one of each object and seed) that contributed / runs asked for.")
    if any(group.name == "quoted" for group in groups):
        lines.append(f"{DAGGER} quoted from the paper: not measured here, never ranked with measured rows.")
    return lines
