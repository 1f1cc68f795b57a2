"""Reading tensors of foreign checkpoints without running anything in them.

A file of `torch.save` is a zip archive with a pickle and the bytes of each tensor. The pickle is a program that
names classes and calls them. Here only the names that tensors need are known, each replaced by an inert
record; objects of configuration libraries, which Lightning stores beside the tensors, become empty stand-ins;
any other name is refused. Tensors are built afterwards from checked records, and only those that are asked for.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import DataError
from mvtokenflow.media.pictures import check_file

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_SETTINGS = ("omegaconf.", "argparse.Namespace", "typing.", "pathlib.", "collections.defaultdict")
_PLAIN = ("builtins.dict", "builtins.list", "builtins.int", "builtins.float", "builtins.str", "builtins.bool")


@dataclass(frozen=True)
class _Stored:
    """Where the numbers of a tensor are: the archive's member, their type and their count."""

    key: str
    kind: torch.dtype
    count: int


@dataclass(frozen=True)
class _Record:
    """A tensor as pickled."""

    stored: _Stored
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _StandIn:
    """In place of an object of settings: takes whatever a pickle does to it and keeps nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def __hash__(self) -> int:
        return 0

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        whole = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if whole == "collections.OrderedDict":
            return _Ordered
        if whole == "torch._utils._rebuild_tensor_v2":
            return _rebuilt
        if whole == "torch._utils._rebuild_parameter":
            return lambda record, *_: record
        if whole in _PLAIN or whole.startswith(_SETTINGS):
            return type("StandIn", (_StandIn,), {})  # made anew: nothing outlives this file
        raise pickle.UnpicklingError(f"it names {whole}, which is no part of a tensor")

    def persistent_load(self, pid: Any) -> Any:
        kind, storage, key, _, count = pid
        if kind != "storage" or not isinstance(storage, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("it refers to something that is no tensor's storage")
        return _Stored(key, storage, int(count))


class _Ordered(OrderedDict[Any, Any]):
    def __setstate__(self, state: Any) -> None:
        """Drop the versions of modules that torch keeps beside their tensors."""


def _rebuilt(stored: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Record:
    if not isinstance(stored, _Stored):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _Record(stored, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def read_state(path: Path, inside: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a state dictionary.

    Args:
        inside: entry of the file that is the dictionary, "state_dict" of a Lightning checkpoint; None where the
            file is one.

    Raises:
        DataError: no readable file, cut off, no such entry, a name that is no part of a tensor, or NaN.
    """
    check_file(path)
    with damage(path, "refused, not a checkpoint of plain tensors", "copy it again, or save tensors alone"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickled = next((name for name in names if name.endswith("/data.pkl")), None)
            if pickled is None:
                raise ValueError("it holds no data.pkl; files of torch before 1.6 are not read")
            base = pickled.removesuffix("data.pkl")
            if f"{base}byteorder" in names and archive.read(f"{base}byteorder") != b"little":
                raise ValueError("its numbers are not little endian")
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                raise ValueError("it states more bytes than it has")
            tree = _Unpickler(io.BytesIO(archive.read(pickled))).load()
            found = tree if inside is None else _entry(tree, inside)
            if not isinstance(found, Mapping):
                raise ValueError(f"a {type(found).__name__} where tensors by name are expected")
            state = {
                str(name): _tensor(archive, f"{base}data/{record.stored.key}", record)
                for name, record in found.items()
                if isinstance(record, _Record)
            }
        if not state:
            raise ValueError("it holds no tensors")
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DataError(f"{path}: {name} holds NaN or infinite values; train it again")
    return state


def _entry(tree: Any, name: str) -> Any:
    if not isinstance(tree, Mapping) or name not in tree:
        raise ValueError(f"no entry {name}")
    return tree[name]


def _tensor(archive: zipfile.ZipFile, member: str, record: _Record) -> Tensor:
    """Build a tensor from a copy of its bytes, after checking that it lies inside of them."""
    data, stored = archive.read(member), record.stored
    if len(data) != stored.count * stored.kind.itemsize:
        raise ValueError(f"a storage of {len(data)} bytes, {stored.count * stored.kind.itemsize} are stated")
    if len(record.shape) != len(record.strides) or min(record.shape + record.strides, default=0) < 0:
        raise ValueError(f"a tensor of shape {record.shape} and strides {record.strides}")
    last = record.offset + sum((n - 1) * step for n, step in zip(record.shape, record.strides, strict=True))
    if math.prod(record.shape) == 0:
        return torch.empty(record.shape, dtype=stored.kind)
    if not 0 <= record.offset <= last < stored.count:
        raise ValueError(f"a tensor of shape {record.shape} outside of its storage")
    flat = torch.frombuffer(bytearray(data), dtype=stored.kind)
    view = flat.as_strided(record.shape, record.strides, record.offset).clone()
    return view.float() if view.is_floating_point() else view
