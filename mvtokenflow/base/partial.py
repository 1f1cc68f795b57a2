"""Temporary files and folders for atomic writes: hidden, locked, and removed if their process dies.

    .NAME.<8 hex digits>.partial[.SUFFIX]

The process that writes one holds a kernel lock on it, which ends with the process in any case.
An unlocked one was left by a process that died, and `sweep` removes it. On Windows and on drives without such
locks this cannot be detected, and nothing is removed.
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
_LONGEST = 40  # characters taken from the target's name, so that file systems accept the whole name


@contextmanager
def partial_file(target: Path) -> Iterator[Path]:
    """Create an empty file beside `target`, with the umask's mode; removed at the end if still there."""
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
    """Create a folder beside `target`; as `partial_file`."""
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
    """Remove temporary files of dead processes in `folder` and, if `deep`, in the folders below."""
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            if _NAME.match(name):
                with suppress(OSError):
                    _remove_dead(Path(root) / name)
        folders[:] = [name for name in folders if deep and not _NAME.match(name)]


def left_folders(target: Path) -> list[Path]:
    """List the temporary folders beside `target` that dead processes left (`partial_folder`)."""
    found = []
    for path in sorted(target.parent.iterdir()):
        if _NAME.match(path.name) and path.name.startswith(f".{target.name[:_LONGEST]}.") and path.is_dir():
            with _abandoned(path) as dead:
                found += [path] if dead else []
    return found


def hold(number: int) -> bool:
    """Try to lock an open file; False if another process has the lock. True as well on drives without locks."""
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
    """Wait for the lock of an open file and hold it inside the block."""
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
    """Return whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except FileNotFoundError:
        return False


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name[:_LONGEST]}.{secrets.token_hex(4)}.partial{suffix}")


@contextmanager
def _held(number: int, path: Path) -> Iterator[bool]:
    """Hold an open file's lock inside the block; False if the file was swept before."""
    if sys.platform == "win32":  # an open file can be neither renamed nor removed
        os.close(number)
        yield True
        return
    try:
        yield hold(number) and is_at(number, path)
    finally:
        os.close(number)


@contextmanager
def _abandoned(path: Path) -> Iterator[bool]:
    """Return whether a file or folder is unlocked; its lock is held inside the block. False without locks."""
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
    with _abandoned(path) as dead:
        if dead:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
