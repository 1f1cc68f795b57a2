"""A table for the terminal, in as many blocks of columns as its width needs; no number is cut."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.console import Group as RichGroup
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from mvtokenflow.base.names import printable
from mvtokenflow.eval.tables.table import Table
from mvtokenflow.reports.layout import DAGGER, TIED, Notes, PrintCell, PrintHead, PrintTable, lay_out

_LEAST_NAME = 8  # columns of the terminal for a name that has to be broken
_RULES = 6  # around two columns and between them
_UNLIMITED = 10_000
_SUPERSCRIPT = str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹˒")


def terminal(table: Table, *, intervals: bool = False, notes: Notes = "full") -> RenderableType:
    """Render for `rich.console.Console.print`; no name is read as console markup.

    Columns that do not fit beside each other follow in further blocks, with the names of the rows again.

    Raises:
        DataError: the table is malformed (see `layout.lay_out`).
    """
    laid = lay_out(table, intervals=intervals, notes=notes)
    below = [_text(table.caption)] if table.caption else []
    below += [_text(line, style="dim") for line in laid.legend]
    below += [_text(f"{place}. {note}", style="dim") for place, note in enumerate(laid.notes, 1)]
    return RichGroup(_Blocks(_text(table.title, style="bold"), laid), *below)


@dataclass(frozen=True)
class _Blocks:
    """The grid of a table, split where the console is too narrow for it."""

    title: Text
    laid: PrintTable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        def width(columns: Sequence[int], words: bool) -> int:
            grid = _grid(self.laid, columns, names, words)
            return Measurement.get(console, options.update(width=_UNLIMITED), grid).minimum

        yield self.title
        names = self._names(options.max_width)
        blocks: list[list[int]] = [[]]
        for index in range(len(self.laid.heads)):
            if blocks[-1] and width([*blocks[-1], index], True) > options.max_width:
                blocks.append([])
            blocks[-1].append(index)
        for block in blocks:
            yield _grid(self.laid, block, names, width(block, False) > options.max_width)

    def _names(self, width: int) -> int:
        """Return the width of the column of names: that of the longest, or what the widest number leaves."""
        widest = max((_width(self.laid, index, True) for index in range(len(self.laid.heads))), default=0)
        longest = max(cell_len(text.plain) for text in _labels(self.laid))
        return min(longest, max(_LEAST_NAME, width - widest - _RULES))


def _grid(laid: PrintTable, columns: Sequence[int], names: int, words: bool) -> RichTable:
    """Build a block of columns; headings are broken between words where `words` is set, numbers never are."""
    grid = RichTable(header_style="", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    grid.add_column("Method", width=names, overflow="fold")
    for index in columns:
        width = _width(laid, index, words)
        grid.add_column(_heading(laid.heads[index]), justify="right", width=width, overflow="fold")
    labels = iter(_labels(laid)[1:])
    for group in laid.groups:
        if len(laid.groups) > 1:
            grid.add_row(next(labels))
        for row in group.rows:
            grid.add_row(next(labels), *(_cell(row.cells[index]) for index in columns))
        grid.add_section()
    return grid


def _labels(laid: PrintTable) -> list[Text]:
    """Return the texts of the first column from top to bottom."""
    found = [Text("Method")]
    for group in laid.groups:
        if len(laid.groups) > 1:
            found.append(_text(group.title, style="italic dim"))
        for row in group.rows:
            label = _text(row.label + (f" {DAGGER}" if row.quoted else ""))
            found.append(label.append(_raised([] if row.note is None else [row.note]), style="dim"))
    return found


def _width(laid: PrintTable, index: int, words: bool) -> int:
    """Return the width of a column: of its widest number, and of its heading or that one's longest word."""
    heading = _heading(laid.heads[index]).plain
    numbers = [_cell(row.cells[index]).cell_len for group in laid.groups for row in group.rows]
    return max([*numbers, *map(cell_len, heading.split() if words else [heading])])


def _heading(head: PrintHead) -> Text:
    title = _text(head.title + (f" {head.arrow}" if head.arrow else ""), style="bold")
    return title.append(_raised(head.notes), style="not bold dim")


def _cell(cell: PrintCell) -> Text:
    text = Text(cell.text, style="bold" if cell.best else "underline" if cell.second else "")
    text.append(TIED if cell.tied else "", style="not bold not underline")
    rest = " ".join(part for part in (cell.interval, cell.coverage and f"({cell.coverage})") if part)
    after = f" {rest}" if rest else _raised([] if cell.note is None else [cell.note])
    return text.append(after, style="not bold not underline dim")


def _text(text: str, style: str = "") -> Text:
    """Return text without console markup and without characters that control a terminal."""
    return Text(printable(text), style=style)


def _raised(notes: Sequence[int]) -> str:
    return " " + ",".join(map(str, notes)).translate(_SUPERSCRIPT) if notes else ""
