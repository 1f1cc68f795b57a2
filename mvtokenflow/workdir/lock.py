"""A folder, or a result, that one process at a time works on."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.partial import hold, is_at, sweep

LOCK_FILE = ".lock"
_PAUSE = 0.2  # seconds between looks at a lock that is waited for

Say = Callable[[str], object]


@contextmanager
def working_in(folder: Path, waiting: Say | None = None) -> Iterator[None]:
    """Keep other processes out of `folder`, which is made if it is not there, while the block runs.

    The lock is the kernel's, on a hidden file in the folder: it ends with the process, however that ends, so
    that a killed run does not block the next one. What a killed process was writing there is removed first. On
    Windows and on drives without such locks nothing is held. A block within a block is for other folders.

    Args:
        waiting: told, in a sentence, that another process works there, which is then waited for.

    Raises:
        DataError: another process works there, and `waiting` is None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with holding(folder / LOCK_FILE, f"in {folder}", waiting) as left:
        if left:
            sweep(folder)
        yield


@contextmanager
def holding(path: Path, what: str, waiting: Say | None = None) -> Iterator[bool]:
    """Hold the lock file `path`, which is there only meanwhile; True if a killed process had left it.

    Args:
        what: words behind "another process is working".
        waiting, Raises: as `working_in`.
    """
    if sys.platform == "win32":
        yield False
        return
    while True:
        left = path.exists()
        with path.open("a") as file:
            _take(file.fileno(), what, waiting)
            if not is_at(file.fileno(), path):  # the last holder removed it after it was opened here
                continue
            try:
                yield left
            finally:
                path.unlink(missing_ok=True)
            return


def _take(number: int, what: str, waiting: Say | None) -> None:
    if hold(number):
        return
    if waiting is None:
        raise DataError(f"another process is working {what}; wait for it, or take another folder")
    waiting(f"another process is working {what}; waiting for it")
    while not hold(number):
        time.sleep(_PAUSE)
