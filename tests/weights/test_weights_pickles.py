"""Nothing in a pickle is ever executed; only nested dictionaries of float32 arrays come through."""

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvtokenflow.base.errors import WeightsCorruptError
from mvtokenflow.weights.pickles import read_arrays

TREE: dict[str, Any] = {
    "params": {
        "Conv_0": {"kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "bias": np.ones(4, np.float32)}
    },
    "scalar": np.array(7.0, np.float32),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "empty": np.zeros((0, 3), np.float32),
}


def _assert_refused(data: bytes, match: str = "evil.ckpt: refused") -> None:
    with pytest.raises(WeightsCorruptError, match=match):
        read_arrays(data, "evil.ckpt")


@pytest.mark.parametrize("protocol", [3, 4])  # the published files; older ones call a codec
@pytest.mark.parametrize("old_module", [False, True])
def test_arrays_are_read_exactly(protocol: int, old_module: bool) -> None:
    data = pickle.dumps(TREE, protocol)
    if old_module and protocol < 4:  # as written by NumPy 1 (module names are plain lines there)
        data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    arrays = read_arrays(data, "test")
    assert sorted(arrays) == ["empty", "fortran", "params/Conv_0/bias", "params/Conv_0/kernel", "scalar"]
    assert arrays["empty"].shape == (0, 3)
    assert arrays["scalar"].shape == ()
    assert arrays["scalar"] == 7.0
    np.testing.assert_array_equal(arrays["fortran"], TREE["fortran"])
    np.testing.assert_array_equal(arrays["params/Conv_0/kernel"], TREE["params"]["Conv_0"]["kernel"])
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in arrays.values())


class _Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["system", "eval", "getattr", "numpy.load", "import"])
def test_calls_are_refused_and_not_executed(tmp_path: Path, protocol: int, nested: bool, kind: str) -> None:
    victim = tmp_path / "victim"
    call = {
        "system": _Call(os.system, f"touch {victim}"),
        "eval": _Call(eval, f"open({str(victim)!r}, 'w')"),
        "getattr": _Call(getattr, os, "system"),
        "numpy.load": _Call(np.load, str(victim)),
        "import": _Call(__import__, "os"),
    }[kind]
    if kind == "getattr":  # modules do not pickle; the name alone is enough
        call = _Call(getattr, "x", "upper")
    data = pickle.dumps({"params": {"a": [TREE, {"deep": call}]}} if nested else call, protocol)
    _assert_refused(data, "which is not part of a NumPy array")
    assert not victim.exists()


def test_the_unpickler_itself_would_have_run_it(tmp_path: Path) -> None:
    """The test above can fail: the standard unpickler does execute such a pickle."""
    victim = tmp_path / "victim"
    pickle.loads(pickle.dumps(_Call(os.system, f"touch {victim}")))
    assert victim.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL, REDUCE
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.dump\x93.",  # attribute of an allowed class
        b"\x80\x02cnumpy\nndarray\n)\x81.",  # NEWOBJ of the class itself
        b"\x80\x02\x82\x01.",  # extension registry
        b"Pvictim\n.",  # persistent id
        b"cnumpy\ndtype\n}S'__code__'\nS'x'\nsb.",  # BUILD on what a global resolved to
        b"cnumpy\ndtype\nN}S'__code__'\nS'x'\ns\x86b.",  # the same with slot state
        b"cnumpy.core.multiarray\n_reconstruct\n(tR.",  # an array with no contents
        b"",
        b".",
        b"N.",
    ],
)
def test_hand_written_programs_are_refused(program: bytes) -> None:
    _assert_refused(program)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"a": np.ones(3)}, "not little-endian float32"),
        ({"a": np.ones(3, ">f4")}, "not little-endian float32"),
        ({"a": np.array([object], dtype=object)}, "not part of a NumPy array"),
        ({"a": np.array([None], dtype=object)}, "not little-endian float32"),
        ({"a": 1.0}, "a float at 'a'"),
        ({"a": [np.ones(3, np.float32)]}, "a list at 'a'"),
        ({1: np.ones(3, np.float32)}, "not text"),
        (np.ones(3, np.float32), "instead of a dictionary"),
    ],
)
def test_other_contents_are_refused(value: Any, match: str) -> None:
    _assert_refused(pickle.dumps(value, 4), match)


def test_wrong_sizes_and_depths_are_refused() -> None:
    data = pickle.dumps({"a": np.ones(3, np.float32)}, 3)
    _assert_refused(data.replace(b"K\x03\x85", b"K\x04\x85"), "another length")  # shape (3,) -> (4,)
    _assert_refused(data[:-20])  # truncated
    deep: Any = {"a": np.ones(1, np.float32)}
    for _ in range(40):
        deep = {"a": deep}
    _assert_refused(pickle.dumps(deep, 4), "nested more than")
    loop: dict[str, Any] = {}
    loop["a"] = loop
    _assert_refused(pickle.dumps(loop, 4), "nested more than")


def test_damaged_pickles_never_escape() -> None:
    """Any byte changed: the arrays come back, or one kind of error does."""
    data = bytearray(pickle.dumps(TREE, 4))
    generator = random.Random(0)
    outcomes = set()
    for _ in range(800):
        damaged = bytearray(data)
        for _ in range(generator.choice([1, 1, 2, 8])):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        try:
            read_arrays(bytes(damaged), "damaged")
            outcomes.add("read")
        except WeightsCorruptError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
