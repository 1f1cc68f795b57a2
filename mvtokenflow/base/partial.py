"""Files and folders that are being written: hidden, and gone with the process that writes them.

    .NAME.<8 hex digits>.partial[.SUFFIX]

The process that writes one holds a lock of the kernel on it, which ends with the process, however that ends.
One that nobody holds was left by a process that died: `sweep` removes it. On Windows and on drives without such
locks nothing can be told, and nothing is removed.
"""

import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_NAME = re.compile(r"\..*\.[0-9a-f]{8}\.partial(\.[^.]*)?\Z", re.DOTALL)
_LONGEST = 40  # letters of the target's name, so that the whole name is one that a file system takes


@contextmanager
def partial_file(target: Path) -> Iterator[Path]:
    """An empty file beside `target`, of the umask's mode; removed at the end if it is still there."""
    while True:
        path = _beside(target, target.suffix)
        number = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        with _held(number, path) as held:
            if held:
                try:
                    yield path
                finally:
                    path.unlink(missing_ok=True)
                return


@contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """As `partial_file`, a folder."""
    while True:
        path = _beside(target, "")
        path.mkdir()
        if sys.platform == "win32":  # which opens no folders
            number = os.open(os.devnull, os.O_RDONLY)
        else:
            number = os.open(path, os.O_RDONLY)
        with _held(number, path) as held:
            if held:
                try:
                    yield path
                finally:
                    shutil.rmtree(path, ignore_errors=True)
                return


def sweep(folder: Path, *, deep: bool = True) -> None:
    """Remove what processes that are no more were writing in `folder`, and, if `deep`, in the folders below."""
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            if _NAME.match(name):
                with suppress(OSError):
                    _remove_dead(Path(root) / name)
        folders[:] = [name for name in folders if deep and not _NAME.match(name)]


def left_folders(target: Path) -> list[Path]:
    """The folders that processes which are no more left beside `target` (`partial_folder`)."""
    found = []
    for path in sorted(target.parent.iterdir()):
        if _NAME.match(path.name) and path.name.startswith(f".{target.name[:_LONGEST]}.") and path.is_dir():
            with _of_nobody(path) as dead:
                found += [path] if dead else []
    return found


def hold(number: int) -> bool:
    """Take the lock of an open file, unless another process has it. True as well on drives without locks."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def locked(number: int) -> Iterator[None]:
    """Wait for the lock of an open file, and hold it meanwhile."""
    if sys.platform == "win32":
        yield
        return
    with suppress(OSError):  # a drive without locks
        fcntl.flock(number, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_UN)


def is_at(number: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except FileNotFoundError:
        return False


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name[:_LONGEST]}.{secrets.token_hex(4)}.partial{suffix}")


@contextmanager
def _held(number: int, path: Path) -> Iterator[bool]:
    """Hold an open file's lock meanwhile; False where it was swept away before that."""
    if sys.platform == "win32":  # an open file can be neither renamed nor removed
        os.close(number)
        yield True
        return
    try:
        yield hold(number) and is_at(number, path)
    finally:
        os.close(number)


@contextmanager
def _of_nobody(path: Path) -> Iterator[bool]:
    """Whether nobody holds the lock of a file or folder, which is then held here; False without locks."""
    if sys.platform == "win32":
        yield False
        return
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(number)


def _remove_dead(path: Path) -> None:
    with _of_nobody(path) as dead:
        if dead:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
