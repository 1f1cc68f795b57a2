"""Takes columns and rows out of a table by their names, for print."""

from collections.abc import Sequence
from dataclasses import replace

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.names import brief
from mvtokenflow.eval.tables.table import Column, Table


def select(table: Table, columns: str | None = None, rows: str | None = None) -> Table:
    """Return the table with the named columns and rows alone.

    Ranks stay those among all rows of `table`: where they should be among the rows that are left, build the
    table of these methods.

    Args:
        columns: titles or metric keys separated by commas, in any case, in the order wanted; a key stands for
            every column of that metric. None for all.
        rows: labels separated by commas, in the order wanted; None for all.

    Raises:
        ConfigError: a name of neither.
    """
    places = _places(table.columns, columns) if columns is not None else list(range(len(table.columns)))
    wanted = range(len(table.rows)) if rows is None else _labelled([row.label for row in table.rows], rows)
    return replace(
        table,
        columns=[table.columns[place] for place in places],
        rows=[
            replace(table.rows[row], cells=[table.rows[row].cells[place] for place in places]) for row in wanted
        ],
    )


def names_in(text: str) -> list[str]:
    """Parse names separated by commas, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _places(columns: Sequence[Column], text: str) -> list[int]:
    found: list[int] = []
    for name in names_in(text):
        titled = [place for place, column in enumerate(columns) if column.title.lower() == name.lower()]
        named = titled or [place for place, column in enumerate(columns) if column.key == name.lower()]
        if not named:
            known = ", ".join(f"{column.key} ({column.title})" for column in columns)
            raise ConfigError(f"--columns {brief(name)}: the table has no such column; it has {known}")
        found += [place for place in named if place not in found]
    if not found:
        raise ConfigError("--columns: name at least one column, for example --columns lpips,psnr")
    return found


def _labelled(labels: Sequence[str], text: str) -> list[int]:
    names = names_in(text)
    if not names:
        raise ConfigError("--rows: name at least one row, for example --rows mvtokenflow")
    for name in names:
        if name not in labels:
            raise ConfigError(f"--rows {brief(name)}: the table has no such row; it has {', '.join(labels)}")
    return [place for name in names for place, label in enumerate(labels) if label == name]
