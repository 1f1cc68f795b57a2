"""The finding of a set of tables in one sentence."""

import math
from collections.abc import Sequence

from mvtokenflow.eval.tables.table import Cell, Column, Table, TableRow

_WORD = {"lower": "lowest", "higher": "highest"}
_Found = tuple[TableRow, Cell, float]


def finding(tables: Sequence[Table]) -> str:
    """Return what the first table with measured numbers shows in its first column; empty if none has any.

    It names the best measured row with its number and interval, the next one and whether the two can be told
    apart, and the known answers on either side.
    """
    for table in tables:
        for place, column in enumerate(table.columns):
            measured = _values(table, place, "measured")
            if measured and column.better != "none":
                return _sentence(table, column, measured, _values(table, place, "oracle"))
    return ""


def _values(table: Table, place: int, group: str) -> list[_Found]:
    return [
        (row, row.cells[place], value)
        for row in table.rows
        if row.group == group and (value := row.cells[place].value) is not None
    ]


def _sentence(table: Table, column: Column, measured: Sequence[_Found], known: Sequence[_Found]) -> str:
    order = sorted(measured, key=lambda found: found[2] if column.better == "lower" else -found[2])
    row, cell, value = order[0]
    runs = f"{cell.want} run{'s' if cell.want != 1 else ''} asked for"
    whole = "" if cell.have >= cell.want else f" ({cell.have} of {runs})"
    text = f"{column.title} {_number(value, column)}{_interval(cell, column)}{whole}"
    text += _between(value, known, column)
    if len(order) == 1:
        return f"{table.title}: {row.label} has {text}."
    head = f"of {len(order)} measured rows {row.label} has the {_WORD[column.better]} {text}"
    other, beside, next_value = order[1]
    apart = ", which cannot be told from it on these scenes" if beside.tied else ""
    return f"{table.title}: {head}; next is {other.label} with {_number(next_value, column)}{apart}."


def _between(value: float, known: Sequence[_Found], column: Column) -> str:
    """Return the known answers next to a value on either side, as ", between A and B"."""
    under = max((found for found in known if found[2] <= value), key=lambda found: found[2], default=None)
    over = min((found for found in known if found[2] > value), key=lambda found: found[2], default=None)
    names = [f"{found[0].label} ({_number(found[2], column)})" for found in (under, over) if found is not None]
    if len(names) == 2:
        return f", between {names[0]} and {names[1]}"
    return f", {'above' if under is not None else 'below'} {names[0]}" if names else ""


def _number(value: float, column: Column) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{column.digits}f}".replace("-", "−")


def _interval(cell: Cell, column: Column) -> str:
    if cell.low is None or cell.high is None:
        return ""
    return f" [{_number(cell.low, column)}, {_number(cell.high, column)}]"
