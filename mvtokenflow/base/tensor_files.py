"""Tensor files (.safetensors and checkpoints), written atomically and read safely (see `damaged`)."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import DataError, UserError
from mvtokenflow.base.files import atomic_path, write_bytes


def read_tensors(
    path: Path, what: str, cure: str, kind: type[UserError] = DataError, *, names: bool = True
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read metadata and tensors of a .safetensors file, on the CPU.

    Args:
        names: True reads the tensors, False the metadata only.

    Raises:
        `kind`: no readable file, or not a complete one of this kind.
    """
    with damage(path, what, cure, kind), safe_open(path, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()} if names else {}  # noqa: SIM118 - not a dict
        return stored.metadata() or {}, tensors


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a .safetensors file atomically.

    Raises:
        OSError: as `files.atomic_path`.
    """
    # The library's own file writing makes another file, with its own mode, and hides the number of the
    # system's error.
    write_bytes(path, save(dict(tensors), dict(metadata)))


def load_torch(path: Path, device: torch.device | str = "cpu", *, mmap: bool = False) -> Any:
    """Read a file of `torch.save`: nothing in it is executed, and no more memory is taken than it has bytes.

    Raises:
        ValueError: its archive states parts larger than the file.
        OSError, RuntimeError, pickle.UnpicklingError: it is no such file.
    """
    if zipfile.is_zipfile(path):  # older files are one pickle
        with zipfile.ZipFile(path) as archive:
            stated = sum(part.file_size for part in archive.infolist())
        if stated > path.stat().st_size:  # torch stores parts as they are
            raise ValueError(f"states {stated} bytes and has {path.stat().st_size}")
    return torch.load(path, map_location=device, weights_only=True, mmap=mmap)


def read_checkpoint(path: Path, device: torch.device | str, cure: str) -> Any:
    """Read a file of `write_checkpoint`; nothing in the file is executed.

    Raises:
        DataError: no readable file, or a damaged one.
    """
    with damage(path, "damaged checkpoint", cure):
        if not zipfile.is_zipfile(path):  # torch would try an older format, with arbitrary errors
            raise EOFError("cut off or not a checkpoint")
        return load_torch(path, device)


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers and strings atomically; a kill at any time leaves the old file or the new."""
    with atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as stream:  # Python's own file reports the system's errors
                torch.save(dict(state), stream)
        except RuntimeError as error:  # torch's archive raises this after the stream has failed
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise
