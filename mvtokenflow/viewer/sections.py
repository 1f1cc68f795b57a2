"""Tables of numbers as bytes, the body of format `mvtf4d`: quantised, split into byte planes, deflated.

A number of a quantised table is `low + step · q`, with q a whole number of 8, 16 or 32 bits, low and step of
its column. A table is stored column by column; of a column first the lowest bytes of all rows, then the next
ones. docs/viewer.md describes the format for others.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError

Kind = Literal["u8", "u16", "u32", "f32"]
Table = NDArray[np.float64]
BYTES: Mapping[str, int] = {"u8": 1, "u16": 2, "u32": 4, "f32": 4}
_LEVEL = 9  # of deflate; fixed, so that equal fields give equal bytes


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table as it is stored.

    Attributes:
        name: what it holds, see docs/viewer.md. kind: type of the stored numbers.
        stored: (rows, width) uint32; the bits of float32 where `kind` is "f32".
        low, step: of every column; empty where the stored numbers are the values themselves.
        difference: each number is stored as the difference to the one so many rows before it, modulo the
            range of its type; 0 for none.
    """

    name: str
    kind: Kind
    stored: NDArray[np.uint32]
    low: tuple[float, ...] = ()
    step: tuple[float, ...] = ()
    difference: int = 0

    def described(self) -> dict[str, Any]:
        """Return the section's entry in the header."""
        rows, width = self.stored.shape
        entry: dict[str, Any] = {"name": self.name, "type": self.kind, "rows": rows, "width": width}
        if self.low:
            entry |= {"low": list(self.low), "step": list(self.step)}
        return entry | ({"difference": self.difference} if self.difference else {})

    def values(self) -> Table:
        """Return the numbers (rows, width) that the section stands for."""
        if self.kind == "f32":
            return self.stored.view(np.float32).astype(np.float64)
        numbers = self.stored.astype(np.float64)
        return np.array(self.low) + np.array(self.step) * numbers if self.low else numbers


def exact(name: str, values: NDArray[Any], kind: Kind) -> Section:
    """Store whole numbers as they are, or with "f32" any numbers as float32."""
    table = np.ascontiguousarray(values).reshape(len(values), -1)
    if kind == "f32":
        return Section(name=name, kind=kind, stored=np.ascontiguousarray(table, np.float32).view(np.uint32))
    return Section(name=name, kind=kind, stored=table.astype(np.uint32))


def quantised(
    name: str,
    values: NDArray[Any],
    kind: Kind,
    bounds: tuple[float, float] | None = None,
    *,
    difference: int = 0,
) -> Section:
    """Round numbers to the steps of a range.

    Args:
        values: (rows, width).
        bounds: of all columns; None takes the least and greatest number of each column.
        difference: as of `Section`.
    """
    table = np.ascontiguousarray(values, np.float64).reshape(len(values), -1)
    if bounds is None:
        low, high = table.min(axis=0), table.max(axis=0)
    else:
        low, high = (np.full(table.shape[1], bound) for bound in bounds)
    levels = 2 ** (8 * BYTES[kind]) - 1
    step = (high - low) / levels
    numbers = np.rint((table - low) / np.where(step > 0, step, 1.0)).clip(0, levels)
    return Section(
        name=name,
        kind=kind,
        stored=numbers.astype(np.uint32),
        low=tuple(low.tolist()),
        step=tuple(step.tolist()),
        difference=difference,
    )


def join(sections: Sequence[Section]) -> bytes:
    """Write sections one after another and deflate them (zlib header)."""
    parts = []
    for section in sections:
        numbers = section.stored.copy()
        if section.difference:
            numbers[section.difference :] -= section.stored[: -section.difference]  # modulo 2^32
        for column in numbers.T:
            parts += [(column >> shift).astype(np.uint8).tobytes() for shift in _shifts(section.kind)]
    return zlib.compress(b"".join(parts), _LEVEL)


def split(entries: Sequence[Mapping[str, Any]], stream: bytes) -> dict[str, Section]:
    """Read the sections of a stream by name; the reverse of `join`.

    Raises:
        DataError: the stream is damaged, or longer or shorter than the entries say.
    """
    unpacked = zlib.decompressobj()
    wanted = sum(entry["rows"] * entry["width"] * BYTES[entry["type"]] for entry in entries)
    try:
        data = unpacked.decompress(stream, wanted + 1)
    except zlib.error as error:
        raise DataError(f"the stream of a viewer's data is damaged ({error}); write the page again") from error
    if len(data) != wanted or not unpacked.eof:
        raise DataError(
            f"a viewer's data has {len(data)} bytes, its header states {wanted}; write the page again"
        )
    found, place = {}, 0
    for entry in entries:
        rows, width, kind = entry["rows"], entry["width"], entry["type"]
        stored = np.zeros((rows, width), np.uint32)
        for column in range(width):
            for shift in _shifts(kind):
                plane = np.frombuffer(data, np.uint8, rows, place)
                stored[:, column] |= plane.astype(np.uint32) << np.uint32(shift)
                place += rows
        found[entry["name"]] = Section(
            name=entry["name"],
            kind=kind,
            stored=_summed(stored, entry.get("difference", 0), kind),
            low=tuple(entry.get("low", ())),
            step=tuple(entry.get("step", ())),
            difference=entry.get("difference", 0),
        )
    return found


def _shifts(kind: str) -> range:
    return range(0, 8 * BYTES[kind], 8)


def _summed(stored: NDArray[np.uint32], difference: int, kind: str) -> NDArray[np.uint32]:
    """Undo differences to earlier rows."""
    if not difference:
        return stored
    blocks = stored.reshape(-1, difference, stored.shape[1])
    whole: NDArray[np.uint32] = np.cumsum(blocks, axis=0, dtype=np.uint32).reshape(stored.shape)
    return whole & np.uint32(2 ** (8 * BYTES[kind]) - 1)
