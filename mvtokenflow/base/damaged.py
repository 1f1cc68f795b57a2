"""Safe reading of the project's own JSON, JSON-lines and array (.npz) files; see `tensor_files` for tensors.

A disk fault, a cut copy or another program may have left anything in such a file. Any error of the libraries
that parse it becomes one user error, "FILE: what it is (the reason); the cure", and memory is bounded by the
expected content.
"""

import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError, UserError
from mvtokenflow.base.memory import ran_out

MAX_ARRAY_BYTES = 2**29  # array of unknown size: 64 frames of 800 x 800 normals
MAX_JSON_BYTES = 2**25  # one document; our largest, a summary of 100,000 values, has a fifth
MAX_LOG_BYTES = 2**28  # one file of lines
_DEEPEST = 50  # our JSON nests 6 deep; the interpreter's own functions fail at a thousand
_HEADER_BYTES = 4096  # our arrays' headers have 80
_PIECE = 2**20
_REASON = 200

T = TypeVar("T")


@contextmanager
def damage(path: Path, what: str, cure: str, kind: type[UserError] = DataError) -> Iterator[None]:
    """Turn anything raised inside the block into one error: "`path`: `what` (reason); `cure`".

    The errors that parsers raise on damaged bytes cannot be listed: of 300 flipped bits in a checkpoint,
        PyTorch
    raises nine types. So wrap the parsing of one file and nothing else. User errors that name the file pass,
    and so does a lack of device memory.

    Raises:
        `kind`: the block failed. A file that the system does not let us read is not called damaged.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) and str(path) in str(error):
            raise
        reason = ran_out(error)
        if reason is not None:
            if not isinstance(error, MemoryError):
                raise  # memory of a device: reported at the end of the command
            raise kind(f"{path}: does not fit into memory ({reason}); free some, then run again") from error
        if isinstance(error, OSError) and error.errno is not None:
            gone = isinstance(error, FileNotFoundError)
            advice = cure if gone else "check its permissions and the disk"
            raise kind(f"{path}: cannot be read ({error.strerror}); {advice}") from error
        raise kind(f"{path}: {what} ({reason_of(error)}); {cure}") from error


def reason_of(error: BaseException) -> str:
    """Describe an error in a few words on one line, for a sentence's brackets, without the file's bytes."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    line = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):
        line = f"no {line}"
    shown = "".join(sign if sign.isprintable() else "?" for sign in line)
    return shown if len(shown) <= _REASON else f"{shown[:_REASON]}..."


# ---- JSON ----


def parse_json(text: str | bytes, *, nan: bool = False) -> Any:
    """Parse UTF-8 JSON strictly: no NaN, no infinity, no lone surrogates, nested at most 50 deep.

    Args:
        nan: accept NaN and infinity, as logs of losses may hold them.

    Raises:
        ValueError, RecursionError: the text is not such JSON.
    """
    text = text.decode("utf-8-sig") if isinstance(text, bytes) else text  # json itself lets surrogates pass
    value = json.loads(text) if nan else json.loads(text, parse_constant=_no_number, parse_float=_finite)
    signs = text.encode()
    if signs.count(b"[") + signs.count(b"{") > _DEEPEST:
        _check_depth(value)
    if b"\\ud" in signs.lower():
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text
    return value


def bounded_bytes(path: Path, most: int | None = None) -> bytes:
    """Read a whole file of at most `most` bytes, by default `MAX_JSON_BYTES`.

    Raises:
        ValueError: it has more, or is a pipe or a device, which may have no end.
        OSError: it cannot be read.
    """
    limit = MAX_JSON_BYTES if most is None else most
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")
    with path.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"more than {limit >> 20} MiB")
    return data


def read_json(
    path: Path,
    form: type[T],
    cure: str,
    what: str = "damaged",
    kind: type[UserError] = DataError,
    check: Callable[[T], object] | None = None,
) -> T:
    """Read the value of a JSON file and check that it is a `form` (dict, list, ...).

    Args:
        cure: advice if the file is damaged, the end of a sentence.
        check: raises any exception where the value is not valid.

    Raises:
        `kind`: no readable file, not strict JSON (`parse_json`), another form.
    """
    with damage(path, what, cure, kind):
        value = parse_json(bounded_bytes(path))
        if not isinstance(value, form):
            raise TypeError(f"it holds {_kind(value)}, not {_KINDS[form]}")
        if check is not None:
            check(value)
        return value


def read_json_lines(
    path: Path, cure: str, check: Callable[[dict[str, Any]], object] | None = None
) -> list[dict[str, Any]]:
    """Read a file with one JSON object per line.

    A last line without its line end is ignored: a kill can cut it.

    Raises:
        DataError: no readable file; a line is not an object, or `check` raises for it.
    """
    rows: list[dict[str, Any]] = []
    with damage(path, "damaged", cure):
        lines = bounded_bytes(path, MAX_LOG_BYTES).split(b"\n")[:-1]
    for number, line in enumerate(lines, 1):
        with damage(path, f"damaged in line {number}", cure):
            row = parse_json(line, nan=True)
            if not isinstance(row, dict):
                raise TypeError(f"it holds {_kind(row)}, not an object")
            if check is not None:
                check(row)
            rows.append(row)
    return rows


_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "a truth value"}


def _kind(value: Any) -> str:
    return "null" if value is None else _KINDS.get(type(value), "a number")


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large a number")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError("nested too deep")


# ---- arrays ----


@dataclass(frozen=True)
class Form:
    """Expected element type and shape of an array.

    Attributes:
        kinds: letters of NumPy's kinds of elements ("f" floats, "iu" whole numbers, "b" truth values).
        shape: expected lengths, None where any length is right.
    """

    kinds: str
    shape: tuple[int | None, ...]

    def check(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Check a header against the form; raise a ValueError if it differs."""
        fits = len(shape) == len(self.shape) and all(
            length == wanted if wanted is not None else length >= 0
            for length, wanted in zip(shape, self.shape, strict=True)
        )
        if not fits or dtype.kind not in self.kinds:
            wanted = ", ".join("n" if length is None else str(length) for length in self.shape)
            raise ValueError(f"{name} is {_shape(shape)} of {dtype}, expected ({wanted}) of {self._words()}")

    def _words(self) -> str:
        words = {"f": "floats", "b": "truth values", "i": "whole numbers", "u": ""}
        return " or ".join(filter(None, (words[kind] for kind in self.kinds)))


def read_arrays(
    path: Path,
    forms: Mapping[str, Form],
    cure: str,
    what: str = "damaged",
    *,
    first: int | None = None,
    optional: bool = False,
) -> dict[str, NDArray[Any]]:
    """Read arrays of an .npz file; each header is checked against its form before memory is allocated.

    Args:
        forms: forms of the arrays to read, by name.
        first: maximum number of entries read along the first axis.
        optional: leave out arrays that are not there.

    Raises:
        DataError: no readable file, not an .npz, an array missing, of another form, compressed or encrypted in
            a way that NumPy does not write, or larger than `MAX_ARRAY_BYTES`.
    """
    with damage(path, what, cure), zipfile.ZipFile(path) as archive:
        members = set(archive.namelist())
        wanted = {name: form for name, form in forms.items() if not optional or f"{name}.npy" in members}
        return {name: _read_array(archive, name, form, first) for name, form in wanted.items()}


def _read_array(archive: zipfile.ZipFile, name: str, form: Form, first: int | None) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    if info.flag_bits & 1:
        raise ValueError(f"{name} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in a way that NumPy does not write")
    with archive.open(info) as member:
        shape, fortran, dtype = _header(member, name)
        form.check(name, shape, dtype)
        part = shape if first is None or not shape or fortran else (min(first, shape[0]), *shape[1:])
        size = math.prod(part) * dtype.itemsize
        if size > MAX_ARRAY_BYTES:
            raise ValueError(f"{name} is {_shape(part)}, more than {MAX_ARRAY_BYTES >> 20} MiB")
        array = np.empty(math.prod(part), dtype)
        if size:
            _fill(array.view(np.uint8).data, member, name)
        if part == shape and member.read(1):  # the archive's check sum is compared at its end
            raise ValueError(f"{name} has data after its end")
    array = array.reshape(part, order="F" if fortran else "C")
    return array[:first] if first is not None and shape else array


def _fill(space: memoryview, member: IO[bytes], name: str) -> None:
    done = 0
    while done < len(space):
        piece = member.read(min(_PIECE, len(space) - done))
        if not piece:
            raise EOFError(f"{name} is cut off")
        space[done : done + len(piece)] = piece
        done += len(piece)


def _header(member: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Parse an .npy header: shape, whether in Fortran order, element type."""
    try:
        if npy.read_magic(member) != (1, 0):  # later ones may have a header of 4 GiB; numbers never need it
            raise ValueError("another version")
        return npy.read_array_header_1_0(member, max_header_size=_HEADER_BYTES)
    except Exception as error:  # brackets alone can exhaust the stack or the memory of the parser
        raise ValueError(f"{name} has a damaged header, {reason_of(error)}") from error


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
