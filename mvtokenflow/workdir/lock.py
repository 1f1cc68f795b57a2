"""A folder, or a result, that one process at a time works on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.partial import sweep

LOCK_FILE = ".lock"
# Seconds between looks at a lock that is waited for. It is tried for half as long before it counts as taken, as
# its last holder may just be removing it.
_PAUSE = 0.2

Say = Callable[[str], object]


@contextmanager
def working_in(folder: Path, waiting: Say | None = None) -> Iterator[None]:
    """Keep other processes out of `folder`, which is made if it is not there, while the block runs.

    The lock is the kernel's, on a hidden file in the folder: it ends with the process, however that ends, so
    that a killed run does not block the next one. What a killed process was writing there is removed first. On
    drives without such locks nothing is held. A block within a block is for other folders.

    Args:
        waiting: called with a sentence when another process works there, which is then waited for.

    Raises:
        DataError: another process works there, and `waiting` is None.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with holding(folder / LOCK_FILE, f"in {folder}", waiting) as left:
        if left:
            sweep(folder)
        yield


@contextmanager
def holding(path: Path, what: str, waiting: Say | None = None) -> Iterator[bool]:
    """Hold the lock file `path`, which is there only meanwhile; True if it was there before.

    Then a killed process has left it, or another one has worked until now.

    Args:
        what: words behind "another process is working".
        waiting, Raises: as `working_in`.
    """
    left = path.exists()
    lock = FileLock(path, poll_interval=_PAUSE, fallback_to_soft=False)
    try:
        _take(lock, what, waiting)
    except OSError as error:
        if (
            error.filename is not None
        ):  # the file cannot be made; other refusals are those of a drive without locks
            raise
    try:
        yield left
    finally:
        with suppress(OSError):  # Windows removes no open file
            path.unlink()  # before the lock ends; filelock takes no lock of a file that has lost its name
        lock.release()


def _take(lock: FileLock, what: str, waiting: Say | None) -> None:
    try:
        lock.acquire(timeout=_PAUSE / 2, poll_interval=_PAUSE / 10)
    except Timeout:
        if waiting is None:
            raise DataError(f"another process is working {what}; wait for it, or take another folder") from None
        waiting(f"another process is working {what}; waiting for it")
        lock.acquire()
