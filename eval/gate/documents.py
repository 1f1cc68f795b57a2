"""The two documents of the regression gate, plain mappings stored as JSON files.

measured   {"schema": 1, "kind": "measured", "cells": [{"method", "metric", "object", "value", "signature",
           "better"}]}
baseline   {"schema": 1, "kind": "baseline", "cells": [the same, and "tolerance", "noise"]}

`object` is null for a value over all objects; `better` is "higher", "lower", or "none" for a number that
should not move either way; `signature` is the metric under its protocol. Infinities are the strings "inf"
and "-inf". A measured `value` of null, with an optional "reason", is a cell that could not be computed.
`scenes`, of a mean over several, are the values by scene; both kinds may have them. `tolerance` is how far a
value may move, and `noise` what that was measured on: {"repeats", "worst", "floor", "values"}, and "floor_from"
where a command line gave the floor ("--tolerance").
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import write_json
from mvtokenflow.base.names import brief

SCHEMA_VERSION = 1
Kind = Literal["baseline", "measured"]


@dataclass(frozen=True, kw_only=True, order=True)
class CellName:
    """The name of a number: a method's metric on one object, or over all objects ("*")."""

    method: str
    metric: str
    object: str = "*"

    def __str__(self) -> str:
        return f"{self.method} / {self.metric}" + ("" if self.object == "*" else f" / {self.object}")


def load_document(path: Path, kind: Kind) -> dict[str, Any]:
    """Read and check a baseline or measured file.

    Raises:
        ConfigError: there is no such file.
        DataError: the file cannot be read or is malformed; names the file and the fault.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such {kind} file")
    document = read_json(path, dict, "restore it or measure it again", f"unreadable {kind}")
    try:
        checked_cells(document, kind)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return dict(document)


def save_document(path: Path, document: Mapping[str, Any]) -> None:
    """Check a baseline or measured document and write it atomically, cells in a stable order.

    Raises:
        DataError: the document is malformed; the file is untouched.
    """
    kind: Kind = "baseline" if document.get("kind") == "baseline" else "measured"
    names = list(checked_cells(document, kind))
    rows = [
        {**cell, "value": plain_number(cell["value"])}
        for _, cell in sorted(zip(names, document["cells"], strict=True), key=lambda pair: pair[0])
    ]
    write_json(path, {**document, "cells": rows})


def measured_document(cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Build a "measured" document, and check its cells.

    Args:
        cells: mappings with method, metric, value (float, or None with a "reason"), signature, better,
            and object (a name, or None or "*" for all objects).

    Raises:
        DataError: a malformed or repeated cell.
    """
    rows = [
        {
            **cell,
            "object": None if cell.get("object") == "*" else cell.get("object"),
            "value": plain_number(cell.get("value")),
        }
        for cell in cells
    ]
    document = {"schema": SCHEMA_VERSION, "kind": "measured", "cells": rows}
    checked_cells(document, "measured")
    return document


def checked_cells(document: Mapping[str, Any], kind: Kind) -> dict[CellName, Mapping[str, Any]]:
    """Return a document's cells by name, `value` and `tolerance` as floats (value None if missing).

    Raises:
        DataError: the document is malformed; names the cell and the fault.
    """
    if not isinstance(document, Mapping) or document.get("kind") != kind:
        raise DataError(f"not a {kind} document: it must be a mapping with kind '{kind}'")
    if document.get("schema") != SCHEMA_VERSION or document["schema"] is True:
        raise DataError(f"{kind} of schema {document.get('schema')}, this version reads {SCHEMA_VERSION}")
    cells = document.get("cells")
    if not isinstance(cells, list | tuple) or (kind == "baseline" and not cells):
        raise DataError(
            f"{kind}: 'cells' must be a list" + (" that is not empty" if kind == "baseline" else "")
        )
    checked: dict[CellName, Mapping[str, Any]] = {}
    for number, cell in enumerate(cells):
        name, fields = _check_cell(cell, kind, f"{kind} cell {number}")
        if name in checked:
            raise DataError(f"{kind} cell {number}: {name} is there twice")
        checked[name] = fields
    return checked


def plain_number(value: float | str | None) -> float | str | None:
    """Return a number for strict JSON: infinities and NaN become "inf", "-inf", "nan"."""
    if isinstance(value, float | int) and not math.isfinite(value):
        return str(float(value))
    return value


def _check_cell(cell: Any, kind: str, where: str) -> tuple[CellName, Mapping[str, Any]]:
    if not isinstance(cell, Mapping):
        raise DataError(f"{where}: must be a mapping")
    for key in ("method", "metric", "signature"):
        if not isinstance(cell.get(key), str) or not cell[key]:
            raise DataError(f"{where}: '{key}' must be text, got {cell.get(key)!r}")
    target = cell.get("object")
    if target is not None and (not isinstance(target, str) or not target):
        raise DataError(f"{where}: 'object' must be a name or null, got {target!r}")
    name = CellName(method=cell["method"], metric=cell["metric"], object=target or "*")
    if cell.get("better") not in ("higher", "lower", "none"):
        raise DataError(f"{where} ({name}): 'better' must be higher, lower or none, got {cell.get('better')!r}")
    value = _number(cell.get("value"), f"{where} ({name}): 'value'")
    scenes = cell.get("scenes", {})
    if not isinstance(scenes, Mapping) or not all(isinstance(scene, str) for scene in scenes):
        raise DataError(f"{where} ({name}): 'scenes' must hold numbers by scene, got {brief(repr(scenes))}")
    for scene, number in scenes.items():
        if _number(number, f"{where} ({name}): the value of {brief(scene)}") is None:
            raise DataError(f"{where} ({name}): the scene {brief(scene)} has no value")
    if kind == "measured":
        return name, {**cell, "value": value}
    tolerance = _number(cell.get("tolerance"), f"{where} ({name}): 'tolerance'")
    if value is None or math.isnan(value):
        raise DataError(f"{where} ({name}): 'value' must be a number; measure the baseline again")
    if tolerance is None or not 0 <= tolerance < math.inf:
        raise DataError(f"{where} ({name}): 'tolerance' must be finite and not negative, got {tolerance}")
    return name, {**cell, "value": value, "tolerance": tolerance}


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if value in ("inf", "-inf", "nan"):
        return float(value)
    raise DataError(f'{where} must be a number, "inf", "-inf", "nan" or null, got {value!r}')
