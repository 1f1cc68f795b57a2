"""How far a run is: its stages by name, the time left, and what stays of a run that was stopped."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvtokenflow.method.config import MethodConfig, mini, without
from mvtokenflow.method.following import PROGRESS_FILE, Following, note_in, unfinished


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _followed(
    config: MethodConfig, workdir: Path, calls: Sequence[tuple[float, str, int, int]]
) -> tuple[list[Any], list[str]]:
    """States and names of a run whose progress is called at these times."""
    clock, states, named = _Clock(), list[Any](), list[str]()
    following = Following(
        config=config,
        frames=32,
        workdir=workdir,
        note=states.append,
        progress=lambda name, done, total: named.append(name),
        clock=clock,
    )
    for seconds, label, done, total in calls:
        clock.now = seconds
        following.report(label, done, total)
    return states, named


WHOLE = [
    (0, "denoise", 1, 4),
    (30, "denoise", 4, 4),
    (33, "decode", 1, 1),
    (34, "static", 1, 2),
    (40, "coarse", 1, 1),
    (60, "denoise", 1, 4),
    (80, "decode", 1, 1),
    (81, "refine", 1, 1),
    (91, "turntable", 1, 48),
]


def test_stages_are_counted_and_named_as_the_page_names_them(tmp_path: Path) -> None:
    states, named = _followed(mini(), tmp_path, WHOLE)
    begun = {state["stage"]: state["title"] for state in states}
    assert begun == {
        1: "First pass",
        2: "Static field",
        3: "Coarse field",
        4: "Second pass",
        5: "Refined field",
        6: "Videos and files",
    }
    assert {state["stages"] for state in states} == {6}
    assert named[0] == "1/6 First pass: denoise"
    assert named[5] == "4/6 Second pass: denoise"
    assert named[-1] == "6/6 Videos and files: turntable"


# Stages of runs with `mini` by their number of frames: label, CPU seconds, and how many reports they made.
MEASURED = {
    32: [
        *(("segment", 12, 32), ("denoise", 22, 4), ("decode", 1, 17), ("static", 27, 40), ("coarse", 62, 80)),
        *(("denoise", 25, 4), ("decode", 1, 17), ("refine", 25, 40), ("turntable", 6, 48)),
    ],
    16: [
        *(("segment", 6, 16), ("denoise", 12, 4), ("decode", 1, 9), ("static", 16, 40), ("coarse", 72, 80)),
        *(("denoise", 10, 4), ("decode", 1, 9), ("refine", 33, 40), ("turntable", 6, 48)),
    ],
}


def _calls(frames: int) -> tuple[list[tuple[float, str, int, int]], float]:
    """Reports of a measured run, evenly spaced in each stage, and its seconds."""
    now, calls = 0.0, []
    for label, seconds, reports in MEASURED[frames]:
        calls += [
            (now + seconds * done / reports, label, done, reports)
            for done in range(label in ("turntable", "decode"), reports + 1)
        ]
        now += seconds
    return calls, now


@pytest.mark.parametrize("frames", MEASURED)
def test_the_time_left_is_within_a_half_after_a_quarter_of_the_run(tmp_path: Path, frames: int) -> None:
    """And it is not given too early: cutting the object out says nothing about the rest."""
    calls, whole = _calls(frames)
    clock, seen = _Clock(), 0
    following = Following(config=mini(), frames=frames, workdir=tmp_path, clock=clock)
    for clock.now, label, done, total in calls:
        following.report(label, done, total)
        truth, left = whole - clock.now, following.state(at_work=True)["seconds_left"]
        if label == "segment":
            assert left is None
        if whole / 4 < clock.now < 0.9 * whole:
            assert truth / 1.5 <= left <= truth * 1.5, (clock.now, label, truth, left)
            seen += 1
    assert seen > 100


def test_fewer_frames_leave_more_of_the_time_to_the_fits(tmp_path: Path) -> None:
    left = {}
    for frames in (8, 32):
        clock = _Clock()
        following = Following(config=mini(), frames=frames, workdir=tmp_path, clock=clock)
        following.report("denoise", 0, 4)
        clock.now = 40
        following.report("decode", 1, 1)
        left[frames] = following.state(at_work=True)["seconds_left"]
    assert left[8] > 2 * left[32]


def test_work_of_an_earlier_process_is_not_taken_for_this_one_s(tmp_path: Path) -> None:
    """Half of the coarse field was there; the other half took ten seconds."""
    clock = _Clock()
    following = Following(config=mini(), frames=32, workdir=tmp_path, clock=clock)
    following.report("coarse", 200, 400)
    clock.now = 10
    following.report("coarse", 400, 400)
    assert 15 <= following.state(at_work=True)["seconds_left"] <= 40


def test_a_resumed_run_begins_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "cameras.json").write_text("{}")
    states, named = _followed(mini(), tmp_path, [(0, "denoise", 1, 4), (20, "refine", 1, 1)])
    assert [state["stage"] for state in states] == [4, 5]
    assert named[0] == "4/6 Second pass: denoise"


@pytest.mark.parametrize(
    ("parts", "stages"), [(("refinement",), 4), (("regeneration",), 5), (("propagation",), 5), ((), 6)]
)
def test_parts_that_are_left_out_are_no_stages(parts: tuple[str, ...], stages: int, tmp_path: Path) -> None:
    states, _ = _followed(without(mini(), *parts), tmp_path, [(0, "denoise", 1, 4)])
    assert states[0]["stages"] == stages


def test_what_stays_of_a_run_that_was_stopped(tmp_path: Path) -> None:
    drawn: list[dict[str, Any]] = []
    path = tmp_path / PROGRESS_FILE
    following = Following(config=replace(mini()), frames=32, workdir=tmp_path)
    following.note = note_in(tmp_path, lambda: drawn.append(json.loads(path.read_text())))

    def stop(label: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    following.progress = stop
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path, following):
        following.report("static", 1, 10)
    following.progress = None
    assert [state["at_work"] for state in drawn] == [True, False]
    assert drawn[1]["title"] == "Static field"
    assert all(
        abs(state["written"] - time.time()) < 60 for state in drawn
    )  # for pages of runs that were killed
    with unfinished(tmp_path, following):
        following.report("coarse", 1, 10)
        assert path.is_file()
    assert not path.exists()
