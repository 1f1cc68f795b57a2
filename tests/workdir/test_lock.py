"""One process at a time works in the folder of a run, and a dead one does not count."""

import errno
import os
import platform
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
from mvtokenflow.workdir import lock
from mvtokenflow.workdir.lock import LOCK_FILE, working_in

fcntl = pytest.importorskip("fcntl")

BUSY = r"another process is working in .*busy; wait for it, or take another folder"
HOLDER = """
import sys
from pathlib import Path
from mvtokenflow.workdir import lock
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


def _without_locks(number: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


OF_ELSEWHERE = "9\nsome.other.machine\n"


def _mounted(folder: Path, options: str) -> str:
    place = str(folder).replace(" ", r"\040")
    return f"/dev/sda / ext4 rw 0 0\nserver:/runs {place} nfs4 rw,{options},addr=10.0.0.1 0 0\n"


@pytest.mark.parametrize("locks", ["none", "of this machine only"])
def test_where_the_kernel_has_no_lock_a_file_stands_for_it(
    locks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never is a lock lost in silence, neither within one machine nor between two."""
    folder = tmp_path / "a drive"
    folder.mkdir()
    if locks == "none":
        monkeypatch.setattr(fcntl, "flock", _without_locks)
    else:
        (tmp_path / "mounts").write_text(_mounted(folder, "local_lock=flock"))
        monkeypatch.setattr(lock, "_MOUNTS", tmp_path / "mounts")
    marker = folder / f"{LOCK_FILE}.owner"
    with working_in(folder):
        assert [path.name for path in folder.iterdir()] == [marker.name]
        assert marker.read_text().split()[0] == str(os.getpid())
        with pytest.raises(DataError, match=rf"working in .* \(process {os.getpid()} on .*\); wait for it"):
            _enter_anyhow(folder)
    assert not list(folder.iterdir())
    marker.write_text(OF_ELSEWHERE)
    with pytest.raises(DataError, match=r"\(process 9 on some.other.machine\); .*delete .*owner if that"):
        _enter_anyhow(folder)
    marker.write_text(f"999999999\n{platform.node()}\n")
    _enter_anyhow(folder)
    assert not list(folder.iterdir()), "a process of this machine is known to be over"


def test_locks_that_other_machines_see_are_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mounts").write_text(_mounted(tmp_path / "runs", "local_lock=none"))
    monkeypatch.setattr(lock, "_MOUNTS", tmp_path / "mounts")
    _enter(tmp_path / "runs")
    (tmp_path / "mounts").write_text(_mounted(tmp_path / "run", "local_lock=all"))
    _enter(tmp_path / "runs")


def _enter_anyhow(folder: Path) -> None:
    with working_in(folder):
        pass


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
