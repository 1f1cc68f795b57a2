"""Reads pickles that hold nested dictionaries of NumPy arrays, without executing anything in them.

A pickle is a program: `pickle.load` imports and calls whatever it names. The published ports of LPIPS and
I3D ship their weights as pickles of plain arrays, which need three globals (`numpy.ndarray`, `numpy.dtype`,
`multiarray._reconstruct`). Here none of the three resolves to NumPy: each is replaced by an inert record of
what was asked for, every other global is refused, and the arrays are built afterwards from checked records.
"""

import io
import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import WeightsCorruptError

Arrays = dict[str, NDArray[np.float32]]

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2.0
_MAX_DEPTH = 16  # the published trees are 5 deep


class _DType:
    """A pickled `numpy.dtype`: (code, align, copy), then a state that holds the byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any) -> None:
        self.code = code
        self.order: Any = None

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Array:
    """A pickled `numpy.ndarray`: (version, shape, dtype, Fortran order, bytes)."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def build(self) -> NDArray[np.float32]:
        """Build the array after checking every part of the record."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array without contents")
        _, shape, dtype, fortran, data = self.state
        if not isinstance(dtype, _DType) or (dtype.code, dtype.order) != ("f4", "<"):
            raise ValueError("an array that is not little-endian float32")
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"an array of shape {shape!r}")
        if not isinstance(data, bytes) or len(data) != 4 * math.prod(shape):
            raise ValueError(f"an array of shape {shape} whose data has another length")
        array = np.frombuffer(data, "<f4").reshape(shape, order="F" if fortran else "C")
        return np.array(array, np.float32, order="C")  # a copy; `ascontiguousarray` would give a scalar an axis


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that resolves the three globals of a pickled array and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        # Made anew for every look-up: nothing a pickle does to one (BUILD sets attributes) outlives the call.
        replacements: dict[str, Any] = {
            "numpy.ndarray": "numpy.ndarray",
            "numpy.dtype": lambda code, *_: _DType(code),
            **{f"{multiarray}._reconstruct": lambda *_: _Array() for multiarray in _MULTIARRAY},
        }
        if f"{module}.{name}" not in replacements:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not part of a NumPy array")
        return replacements[f"{module}.{name}"]


def _flatten(node: Any, path: str, depth: int, add: Callable[[str, NDArray[np.float32]], None]) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"dictionaries nested more than {_MAX_DEPTH} deep")
    if isinstance(node, _Array):
        add(path, node.build())
    elif isinstance(node, Mapping):
        for key, child in node.items():
            if not isinstance(key, str):
                raise ValueError(f"a key that is not text below '{path}'")
            _flatten(child, f"{path}/{key}" if path else key, depth + 1, add)
    else:
        raise ValueError(f"a {type(node).__name__} at '{path}'")


def read_arrays(data: bytes, source: str) -> Arrays:
    """Read the float32 arrays of a pickle of nested dictionaries, keyed by path: "params/Conv_0/kernel".

    Args:
        data: the bytes of the pickle. Nothing in them is executed or imported.
        source: what the bytes are, for the error message.

    Raises:
        WeightsCorruptError: the pickle names anything but NumPy arrays, is damaged, or holds something that
            is not a dictionary of little-endian float32 arrays.
    """
    arrays: Arrays = {}
    try:
        tree = _ArrayUnpickler(io.BytesIO(data)).load()
        if not isinstance(tree, Mapping):
            raise ValueError(f"a {type(tree).__name__} instead of a dictionary of arrays")
        _flatten(tree, "", 0, arrays.__setitem__)
    # A hostile or damaged pickle can raise nearly anything inside the unpickler; all of it means the same.
    except Exception as error:
        raise WeightsCorruptError(
            f"{source}: refused, not a pickle of plain float32 arrays: {error}"
        ) from error
    return arrays
