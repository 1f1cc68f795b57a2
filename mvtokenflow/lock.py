"""A folder that one process at a time works in."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mvtokenflow.errors import DataError

if sys.platform != "win32":
    import fcntl

LOCK_FILE = ".lock"


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of `folder`, which is made if it is not there, while the block runs.

    The lock is the kernel's, on a hidden file in the folder: it ends with the process, however that ends, so
    that a killed run does not block the next one. On Windows and on drives without such locks nothing is held.
    A block within a block is for other folders.

    Raises:
        DataError: another process works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    path = folder / LOCK_FILE
    while True:
        with path.open("a") as file:
            _hold(file, folder)
            if not _is_at(file, path):  # the last holder removed it after it was opened here
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _hold(file: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(
            f"another process is working in {folder}; wait for it, or take another folder"
        ) from error
    except OSError:
        return  # a drive without locks


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
