"""Progress on stderr: bars on a terminal, lines in a file."""

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mvtokenflow.base import terminal
from mvtokenflow.base.terminal import progress

DATA = Path(__file__).parents[1] / "data" / "tables_tiny"

Calls = list[tuple[str, int, int]]


class Terminal(io.StringIO):
    """A stderr that says it is one."""

    def isatty(self) -> bool:
        return True


def lines(calls: Calls, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a pipe gets, without the times."""
    with progress() as report:
        for call in calls:
            report(*call)
    printed = capsys.readouterr()
    assert printed.out == ""
    return [re.sub(r", \d:\d\d:\d\d$", ", TIME", line) for line in printed.err.splitlines()]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([("a", n, 3) for n in (1, 2, 3)], ["a: 0/3", "a: 3/3, TIME"]),
        ([("a", 0, 2), ("a", 1, 2), ("b", 1, 1), ("a", 2, 2)], ["a: 0/2", "b: 1/1, TIME", "a: 2/2, TIME"]),
        ([("a", 1, 1), ("a", 1, 1)], ["a: 1/1, TIME"]),
        ([("a", n, 2) for n in (1, 2, 1, 2)], ["a: 0/2", "a: 2/2, TIME"] * 2),
        ([("a", 1, 2)], ["a: 0/2"]),
        ([], []),
    ],
    ids=["steps", "nested", "at once", "twice", "not finished", "nothing to do"],
)
def test_a_pipe_gets_a_line_where_a_stage_begins_and_one_where_it_ends(
    calls: Calls, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines(calls, capsys) == expected


def test_a_pipe_gets_its_lines_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as report:
        report("a", 1, 2)
        assert capsys.readouterr().err == "a: 0/2\n"
        report("a", 2, 2)
        assert capsys.readouterr().err.startswith("a: 2/2, 0:00:0")


def test_a_table_says_what_it_begins_before_the_first_run_is_done(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(DATA)
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    place = ["--dataset", "tinyscenes:Tiny", "--root", tmp_path / "data", "--runs", tmp_path / "runs"]
    rows = ["--methods", "white,tinyscenes:NATIVE", "--scenes", "ant", "--jobs", 1, "--protocol", "toy4d-v1"]
    first = cli("table2", *place, *rows)
    stages = [re.sub(r"(, .*)?$", "", line) for line in first.err.splitlines()]
    assert stages == ["device: cpu", "render: 0/2", "render: 2/2", "score: 0/32", "score: 32/32"]
    assert cli("table2", *place, *rows).err == "device: cpu\n", "nothing was left to do"


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress() as report:
        report("coarse", 1, 4)
        report("coarse", 4, 4)
    assert "━" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert "coarse: " not in terminal.getvalue()


def test_an_interrupted_command_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        with progress() as report:
            report("a", 1, 2)
            raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        terminal.run(interrupted)
    assert end.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("interrupted; run the same command again")


def test_too_little_memory_is_one_sentence_that_helps(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    def full() -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which "
            "1.2 GiB is free. Process 1 has 5 GiB in use. See documentation for Memory Management"
        )

    with pytest.raises(SystemExit) as ended:
        terminal.run(full)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: too little memory, of the device or this machine "
        "(CUDA out of memory. Tried to allocate 2.00 GiB);"
    )
    assert "--set sampling.chunk=1" in said
    assert said.count("\n") == 1


def test_a_checkpoint_that_does_not_fit_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from mvtokenflow.base.tensor_files import write_checkpoint as save_checkpoint
    from mvtokenflow.workdir.folder import load_checkpoint

    def full(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    save_checkpoint(tmp_path / "checkpoint.pt", {"step": 1})
    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(torch.OutOfMemoryError):
        load_checkpoint(tmp_path / "checkpoint.pt", torch.device("cpu"))


def test_torch_is_not_imported_to_explain_an_error() -> None:
    program = (
        "import sys\n"
        "from mvtokenflow.base.terminal import sentence_of\n"
        "assert sentence_of(ValueError()) is None\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
