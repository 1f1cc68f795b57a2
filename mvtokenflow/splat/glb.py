"""Writes glTF 2.0 in one file (.glb): a JSON document, and tables of numbers in one buffer."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError

VERTICES, INDICES = 34962, 34963  # what a table is for
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
_COMPONENTS = {"<f4": 5126, "<u2": 5123, "<u4": 5125}


@dataclass
class Tables:
    """Tables of a document, collected one after another."""

    views: list[dict[str, Any]] = field(default_factory=list)
    accessors: list[dict[str, Any]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)

    def add(
        self,
        values: NDArray[Any],
        *,
        target: int | None = None,
        normalized: bool = False,
        ranged: bool = False,
    ) -> int:
        """Append a table (n,) or (n, 3 or 4) of float32, uint16 or uint32; return its accessor's number.

        Args:
            target: `VERTICES`, `INDICES`, or None for keyframes.
            normalized: whole numbers stand for 0 to 1.
            ranged: state the least and greatest of each column, which positions and keyframes must.
        """
        table = values.reshape(len(values), -1)
        kind = table.dtype.newbyteorder("<").str.replace("=", "<")
        data = np.ascontiguousarray(table, kind).tobytes()
        view = {"buffer": 0, "byteOffset": len(self.body), "byteLength": len(data)}
        self.views.append(view if target is None else view | {"target": target})
        self.accessors.append(
            {
                "bufferView": len(self.views) - 1,
                "componentType": _COMPONENTS[kind],
                "count": len(table),
                "type": _TYPES[table.shape[1]],
                **({"normalized": True} if normalized else {}),
                **({"min": table.min(0).tolist(), "max": table.max(0).tolist()} if ranged else {}),
            }
        )
        self.body += data + b"\0" * (-len(data) % 4)
        return len(self.accessors) - 1


def glb_bytes(document: Mapping[str, Any], tables: Tables) -> bytes:
    """Put a document and its tables into one file."""
    whole = {
        "asset": {"version": "2.0", "generator": "mvtokenflow"},
        **document,
        "buffers": [{"byteLength": len(tables.body)}],
        "bufferViews": tables.views,
        "accessors": tables.accessors,
    }
    text = json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(tables.body)),
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(tables.body), b"BIN\0"),
            tables.body,
        ]
    )


def read_glb(path: Path) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Read a file of `glb_bytes`: the document, and its tables (n, k) in their order.

    Raises:
        DataError: it is not one.
    """
    raw = path.read_bytes()
    try:
        size = struct.unpack_from("<I", raw, 12)[0]
        document: dict[str, Any] = json.loads(raw[20 : 20 + size])
        body = raw[28 + size :]
        kinds = {number: kind for kind, number in _COMPONENTS.items()}
        widths = {name: width for width, name in _TYPES.items()}
        tables = []
        for accessor in document["accessors"]:
            view, width = document["bufferViews"][accessor["bufferView"]], widths[accessor["type"]]
            numbers = accessor["count"] * width
            table = np.frombuffer(body, kinds[accessor["componentType"]], numbers, view["byteOffset"])
            tables.append(table.reshape(-1, width))
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise DataError(f"{path}: not a .glb of this program, or a damaged one; delete it") from error
    return document, tables
