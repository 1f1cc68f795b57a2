"""One process at a time works in the folder of a run, and a dead one does not count."""

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mvtokenflow.base.errors import DataError
from mvtokenflow.media.pictures import write_png
from mvtokenflow.media.video import Clip
from mvtokenflow.method.config import mini
from mvtokenflow.method.pipeline import run
from mvtokenflow.workdir.lock import LOCK_FILE, working_in

fcntl = pytest.importorskip("fcntl")

BUSY = r"another process is working in .*busy; wait for it, or take another folder"
HOLDER = """
import sys
from pathlib import Path
from mvtokenflow.workdir.lock import working_in
with working_in(Path(sys.argv[1])):
    print("holding", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that works in `busy` until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "busy")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"holding\n"
    yield process
    process.kill()
    process.communicate()


def _enter(folder: Path) -> None:
    with working_in(folder):
        assert (folder / LOCK_FILE).exists()


def test_of_two_processes_one_works_and_the_other_after_it(
    holder: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=BUSY):
        _enter(tmp_path / "busy")
    with working_in(tmp_path / "other"):
        _enter(tmp_path / "other" / "part")
    holder.communicate(b"")
    _enter(tmp_path / "busy")
    assert not list((tmp_path / "busy").iterdir())


def test_a_killed_holder_does_not_block(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    holder.kill()
    holder.communicate()
    assert (tmp_path / "busy" / LOCK_FILE).exists()
    _enter(tmp_path / "busy")


def test_an_interrupt_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), working_in(tmp_path):
        raise KeyboardInterrupt
    _enter(tmp_path)


def test_a_lock_that_its_last_holder_removed_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opened the file before it was removed would share the folder with who opens the next one."""
    asked: list[int] = []
    flock = fcntl.flock

    def slowly(number: int, operation: int) -> None:
        if not asked:
            (tmp_path / LOCK_FILE).unlink()
        asked.append(operation)
        flock(number, operation)

    monkeypatch.setattr(fcntl, "flock", slowly)
    _enter(tmp_path)
    assert asked[:2] == [fcntl.LOCK_EX | fcntl.LOCK_NB] * 2


def test_a_drive_without_locks_holds_nothing_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    _enter(tmp_path)
    assert not list(tmp_path.iterdir())


def _picture() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = np.zeros((16, 16, 4), np.uint8)
    picture[4:12, 4:12] = 255
    return picture


@pytest.mark.parametrize("verb", ["run", "reconstruct", "train-prior", "train-clip"])
def test_verbs_leave_a_busy_folder_alone(
    verb: str,
    holder: subprocess.Popen[bytes],
    mvtf: Callable[..., tuple[int, str, str]],
    prior_file: Path,
    tmp_path: Path,
) -> None:
    for n in range(2):
        write_png(tmp_path / "clip" / f"{n}.png", _picture())
        for view in range(6):
            write_png(tmp_path / "views" / f"view_{view}" / f"{n}.png", _picture())
    options = {
        "run": (tmp_path / "clip", "--set", f"prior={prior_file}"),
        "reconstruct": (tmp_path / "views", "--cameras", "era3d"),
        "train-prior": ("--samples", 1),
        "train-clip": ("--steps", 1, "--toys", 2),
    }
    code, printed, messages = mvtf(verb, *options[verb], "-o", tmp_path / "busy")
    assert (code, printed) == (2, "")
    assert f"another process is working in {tmp_path / 'busy'}; wait for it" in messages
    assert [path.name for path in (tmp_path / "busy").iterdir()] == [LOCK_FILE]


def test_a_row_of_a_table_leaves_a_busy_folder_alone(
    holder: subprocess.Popen[bytes], prior_file: Path, tmp_path: Path
) -> None:
    clip = Clip(rgb=torch.zeros(2, 16, 16, 3), alpha=torch.ones(2, 16, 16, 1), name="grey")
    with pytest.raises(DataError, match=BUSY):
        run(clip, replace(mini(), prior=str(prior_file)), tmp_path / "busy", 0)
    assert [path.name for path in (tmp_path / "busy").iterdir()] == [LOCK_FILE]
