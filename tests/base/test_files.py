"""Atomic writes."""

import os
from pathlib import Path

import pytest

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import redact_paths, write_text


def test_a_target_that_is_no_file_is_left_alone(tmp_path: Path) -> None:
    """A rename onto /dev/null or a pipe would replace it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, tmp_path):
        with pytest.raises(ConfigError, match="not a regular file"):
            write_text(place, "text")
    assert pipe.is_fifo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["pipe"]


def test_a_link_to_a_file_or_to_nothing_is_replaced(tmp_path: Path) -> None:
    for name, target in (("file", tmp_path / "kept"), ("nothing", tmp_path / "absent")):
        (tmp_path / "kept").write_text("old")
        link = tmp_path / name
        link.symlink_to(target)
        write_text(link, "new")
        assert link.read_text() == "new"


def test_sentences_for_pages_do_not_tell_whose_machine_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here, data = tmp_path / "somebody", tmp_path / "somebody" / "work", tmp_path / "data"
    here.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert redact_paths(here / "runs" / "cat") == "runs/cat"
    assert redact_paths(home / "w.pt") == "~/w.pt"
    assert (
        redact_paths(f"{data}/theirs/cat: 40x40, see {home}.", data / "theirs") == "theirs/cat: 40x40, see ~."
    )
    assert redact_paths(f"{data}/theirs: no such folder", data / "theirs") == "theirs: no such folder"
    assert (
        redact_paths(f"{home}body/x and {data}/theirs2", data / "theirs") == f"{home}body/x and {data}/theirs2"
    )
    assert redact_paths("runs/cat: 3/4 frames", Path("runs")) == "runs/cat: 3/4 frames"
