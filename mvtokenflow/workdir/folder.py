"""The folder of one reconstruction: identity, checkpoints and loss log.

WORKDIR/run.json                    configuration, input digest and seed; written first
WORKDIR/<stage>/checkpoint.pt       everything a killed stage needs to resume bit for bit
WORKDIR/<stage>/losses.jsonl        one line per logged step
WORKDIR/<stage>/preview_<step>.png  pictures beside their targets
WORKDIR/<stage>/field.safetensors   the result; a stage that has it is finished
WORKDIR/tensorboard/                the same numbers and pictures for TensorBoard
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mvtokenflow.base.damaged import damage, read_json, read_json_lines
from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import naming, write_json, write_text
from mvtokenflow.base.tensor_files import read_checkpoint

RUN_FILE = "run.json"
_MOST = 1e30  # of a logged number, which pages draw
REDO = "delete it to redo the stage"


def claim(workdir: Path, identity: Mapping[str, Any]) -> None:
    """Make `workdir` the folder of the run described by `identity`, or check that it is.

    Raises:
        ConfigError: it belongs to another run; the message names the settings that differ.
        DataError: it holds other files, or its run.json is damaged.
    """
    path = workdir / RUN_FILE
    if not path.exists():
        if workdir.is_dir() and any(not entry.name.startswith(".") for entry in workdir.iterdir()):
            raise DataError(f"{workdir}: holds files but no {RUN_FILE}; give a new or empty folder")
        write_json(path, dict(identity))
        return
    found = read_json(path, dict, f"delete {workdir} to start again")
    different = _differences(found, json.loads(json.dumps(dict(identity))))
    if different:
        raise ConfigError(
            f"{workdir}: belongs to another run ({'; '.join(different[:4])}); give another folder or delete it"
        )


def _differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted({*found, *wanted})
        return [
            d
            for key in keys
            for d in _differences(found.get(key), wanted.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if found == wanted else [f"{name} is {_short(found)} there, {_short(wanted)} here"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:12]}...{text[-6:]}"


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Read a checkpoint, or return None if there is no file; nothing in the file is executed.

    Raises:
        DataError: a damaged file.
    """
    if not path.exists():
        return None
    state = read_checkpoint(path, device, REDO)
    with damage(path, "damaged checkpoint", REDO):
        return {str(name): value for name, value in state.items()}


class LossLog:
    """Log with one JSON line per logged step; a resumed run drops lines after its checkpoint."""

    def __init__(self, path: Path, step: int) -> None:
        """Keep the lines up to `step` of an existing file."""
        self._path = path
        kept = [row for row in read_losses(path) if row["step"] <= step]
        write_text(path, "".join(_line(row) for row in kept))

    def append(self, row: Mapping[str, float | int]) -> None:
        """Append one line."""
        with naming(self._path), self._path.open("a") as stream:
            stream.write(_line(row))


def read_losses(path: Path) -> list[dict[str, float]]:
    """Read the rows of a `LossLog`, without one that is still being written; empty if there is no file.

    Raises:
        DataError: a line is not a row.
    """
    if not path.is_file():
        return []
    return read_json_lines(path, "delete it; the stage continues without its earlier curve", _check_row)


def _check_row(row: Mapping[str, Any]) -> None:
    for name, value in {"step": None, "gaussians": None, **row}.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}, not a number")
        if abs(value) > _MOST and value not in (math.inf, -math.inf):
            raise ValueError(f"{name} is beyond {_MOST:g}")
    if not 0 < row["step"] <= _MOST:
        raise ValueError(f"step is {row['step']}")


def _line(row: Mapping[str, float]) -> str:
    return json.dumps(dict(row)) + "\n"
