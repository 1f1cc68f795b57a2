"""The folder of one reconstruction: whose it is, its checkpoints, its log of losses.

WORKDIR/run.json                    configuration, input digest and seed; written first
WORKDIR/<stage>/checkpoint.pt       everything a killed stage needs to go on bit for bit
WORKDIR/<stage>/losses.jsonl        one line per logged step
WORKDIR/<stage>/preview_<step>.png  pictures beside their targets
WORKDIR/<stage>/field.safetensors   the result; a stage that has it is finished
WORKDIR/tensorboard/                the same numbers and pictures for TensorBoard
"""

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mvtokenflow.errors import ConfigError, DataError
from mvtokenflow.files import atomic_path, write_json, write_text

RUN_FILE = "run.json"


def claim(workdir: Path, identity: Mapping[str, Any]) -> None:
    """Make `workdir` the folder of the run described by `identity`, or check that it is.

    Raises:
        ConfigError: it belongs to another run; the message names the settings that differ.
        DataError: it holds other things, or its run.json is damaged.
    """
    path = workdir / RUN_FILE
    if not path.exists():
        if workdir.is_dir() and any(not entry.name.startswith(".") for entry in workdir.iterdir()):
            raise DataError(f"{workdir}: holds files but no {RUN_FILE}; give a new or empty folder")
        write_json(path, dict(identity))
        return
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); delete {workdir} to start again") from error
    different = _differences(found, json.loads(json.dumps(dict(identity))))
    if different:
        raise ConfigError(
            f"{workdir}: belongs to another run ({'; '.join(different[:4])}); give another folder or delete it"
        )


def _differences(found: Any, asked: Any, name: str = "") -> list[str]:
    if isinstance(found, dict) and isinstance(asked, dict):
        keys = sorted({*found, *asked})
        return [
            d for key in keys for d in _differences(found.get(key), asked.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if found == asked else [f"{name} is {_short(found)} there, {_short(asked)} here"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:12]}...{text[-6:]}"


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Atomically write tensors, numbers and strings; a kill at any time leaves the old file or the new."""
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, or None if there is no file. Nothing in the file is executed.

    Raises:
        DataError: a damaged file.
    """
    if not path.exists():
        return None
    try:
        if not zipfile.is_zipfile(path):  # torch would take it for an older format and fail in any way
            raise EOFError("cut off or not a checkpoint")
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except torch.OutOfMemoryError:  # a RuntimeError, but no fault of the file
        raise
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: damaged checkpoint ({reason}); delete it to redo the stage") from error
    return state


class LossLog:
    """One JSON line per logged step; lines after a checkpoint are dropped when a killed run goes on from it."""

    def __init__(self, path: Path, step: int) -> None:
        """Keep the lines up to `step` of an existing file."""
        self._path = path
        kept = [line for line in self._lines() if json.loads(line)["step"] <= step]
        write_text(path, "".join(kept))

    def _lines(self) -> list[str]:
        """Complete lines: a kill can cut the last one."""
        if not self._path.exists():
            return []
        return [line for line in self._path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def append(self, row: Mapping[str, float | int]) -> None:
        """Add one line."""
        with self._path.open("a") as stream:
            stream.write(json.dumps(dict(row)) + "\n")
