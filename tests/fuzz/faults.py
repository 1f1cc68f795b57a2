"""Readers with known faults, for the test of the fuzzer: workers import them by name."""

import os
import time
from pathlib import Path

from mvtokenflow.base.errors import DataError

TEXT = b'{"a": [1, 2.5, {"b": null}], "c": "words"}\n'


def make(folder: Path, shared: Path) -> None:
    (folder / "a.json").write_bytes(TEXT)


def breaks(folder: Path) -> None:
    known = {TEXT: 1}
    known[(folder / "a.json").read_bytes()]


def dies(folder: Path) -> None:
    if (folder / "a.json").read_bytes() != TEXT:
        os.kill(os.getpid(), 11)


def spins(folder: Path) -> None:
    while (folder / "a.json").read_bytes() != TEXT:
        sum(range(10_000))


def eats(folder: Path) -> None:
    if (folder / "a.json").read_bytes() != TEXT:
        bytearray(4 * 2**30)


def refuses(folder: Path) -> None:
    raise DataError(f"{folder / 'a.json'}: not wanted; delete it")


def says_nothing(folder: Path) -> None:
    if (folder / "a.json").read_bytes() != TEXT:
        raise DataError("something is wrong")


def sleeps(folder: Path) -> None:
    time.sleep(0.3)
