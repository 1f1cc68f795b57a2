"""The data structure of every printed table; renderers in `reports` only format it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Direction = Literal["higher", "lower", "none"]
Group = Literal["measured", "oracle", "quoted"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A metric in a table.

    Attributes:
        key: metric key, e.g. "lpips".
        title: heading, e.g. "LPIPS".
        better: which way is better, drawn as an arrow; "none" where there is no better.
        digits: decimals printed; ranks never use rounded values.
        signatures: of the measured cells; more than one only when mixing was asked for.
    """

    key: str
    title: str
    better: Direction
    digits: int
    signatures: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number, or the reason why there is none.

    Attributes:
        value: None if missing; may be infinite.
        printed: of a quoted number, its text in the paper: its digits are the paper's, not the column's.
        low, high: 95 % interval by cluster bootstrap over objects; None with fewer than two objects.
        have, want: runs that contributed and runs asked for, one of each object and seed.
        rank: 1 for best, 2 for second, ... among measured rows, from unrounded values; None if not ranked.
        tied: the paired difference to the best row is not distinguishable from 0.
        reason: why the value is missing; None if it is there.
        provenance: what `mvtf-eval explain` shows: signature, run folders with digests, weights, command.
    """

    value: float | None
    printed: str | None = None
    low: float | None = None
    high: float | None = None
    have: int = 0
    want: int = 0
    rank: int | None = None
    tied: bool = False
    reason: str | None = None
    provenance: Mapping[str, Any] | None = None

    @property
    def coverage(self) -> str:
        """Return "12/14" where runs that were asked for are missing, else ""."""
        return f"{self.have}/{self.want}" if self.have < self.want else ""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One method. `source` is native, upstream-run, released-renderings, oracle or quoted."""

    label: str
    source: str
    group: Group
    cells: Sequence[Cell]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A whole table: rows are grouped, and quoted rows never share a ranking with measured ones.

    Attributes:
        name: e.g. "table1".
        title, caption: text for people.
        columns: in print order; every row has one cell per column.
        rows: in print order.
        footnotes: printed below (signatures, missing reasons, sources of quoted numbers).
    """

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[TableRow]
    footnotes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Return plain data; infinite values become the strings "inf" and "-inf"."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    return value
