"""A folder, or a result, that one process at a time works on."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.partial import sweep

LOCK_FILE = ".lock"
_MARKER = ".owner"  # ends the name of the file that stands for a lock where the kernel has none
# Seconds between looks at a lock that is waited for. It is tried for half as long before it counts as taken, as
# its last holder may just be removing it.
_PAUSE = 0.2
_MOUNTS = Path("/proc/self/mounts")
# Mounts whose kernel locks hold on this machine only, as nfs(5) and lustre's mount options name them.
_OF_ONE_MACHINE = {"local_lock=flock", "local_lock=all", "localflock"}
_OCTAL = re.compile(r"\\([0-7]{3})")

Say = Callable[[str], object]


@contextmanager
def working_in(folder: Path, waiting: Say | None = None) -> Iterator[None]:
    """Keep other processes out of `folder`, which is made if it is not there, while the block runs.

    The lock is the kernel's, on a hidden file in the folder: it ends with the process, however that ends, so
    that a killed run does not block the next one. What a killed process was writing there is removed first. On
    drives without such locks, or with locks that other machines do not see, a file names the machine and the
    process that works there instead; one that a killed process of another machine left has to be deleted by
    hand. A block within a block is for other folders.

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
    lock: BaseFileLock = FileLock(path, poll_interval=_PAUSE, fallback_to_soft=False)
    kernel = _reaches_other_machines(path.parent)
    if kernel:
        try:
            _take(lock, what, waiting)
        except OSError as error:
            if error.filename is not None:  # the file cannot be made
                raise
            kernel = False
            with suppress(OSError):
                path.unlink()
    if not kernel:
        lock = SoftFileLock(path.with_name(path.name + _MARKER), poll_interval=_PAUSE)
        left = left or Path(lock.lock_file).exists()
        _take(lock, what, waiting)
    try:
        yield left
    finally:
        if kernel:
            with suppress(OSError):  # Windows removes no open file
                path.unlink()  # before the lock ends; filelock takes no lock of a file that has lost its name
        lock.release()


def _take(lock: BaseFileLock, what: str, waiting: Say | None) -> None:
    try:
        lock.acquire(timeout=_PAUSE / 2, poll_interval=_PAUSE / 10)
    except Timeout:
        owner, remedy = _owner(lock)
        if waiting is None:
            raise DataError(
                f"another process is working {what}{owner}; wait for it, {remedy}or take another folder"
            ) from None
        waiting(
            f"another process is working {what}{owner}; waiting for it" + (f" ({remedy})" if remedy else "")
        )
        lock.acquire()


def _owner(lock: BaseFileLock) -> tuple[str, str]:
    """Return who holds a lock that is only a file, and what to do if it is over; empty for kernel locks."""
    if not isinstance(lock, SoftFileLock):
        return "", ""
    try:
        process, machine = Path(lock.lock_file).read_text().split()[:2]
    except (OSError, ValueError):  # it has just ended, or is just being written
        return "", ""
    return f" (process {process} on {machine})", f"delete {lock.lock_file} if that process is over, "


def _reaches_other_machines(folder: Path) -> bool:
    """Return False for a folder on a network mount whose kernel locks only hold on this machine."""
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:  # not Linux
        return True
    place, found = os.path.realpath(folder), ("", "")
    for _, mount, _, options, *_ in (line.split(" ") for line in lines):
        mount = _OCTAL.sub(lambda code: chr(int(code[1], 8)), mount)
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(found[0]):  # of mounts on one place the last is seen
            found = mount, options
    return not _OF_ONE_MACHINE & set(found[1].split(","))
