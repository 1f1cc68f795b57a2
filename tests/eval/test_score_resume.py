"""Scoring killed at any moment, or spread over processes: the same bytes, and nothing is computed twice."""

import importlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mvtokenflow.eval.records.rows import Row, row_log

DATA = Path(__file__).parents[1] / "data" / "tables_tiny"
FRAMES = "12"
METRICS = ("psnr", "ssim", "motion", "motion_reference")


@pytest.fixture(scope="module")
def tiny() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DATA)
        patch.setenv("TINY_FRAMES", FRAMES)
        yield importlib.import_module("tinyscenes")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType) -> Iterator[Any]:
    """Without weights: what is cheap is measured, and the rest says why it is missing."""
    folder = tmp_path_factory.mktemp("server")
    module = importlib.import_module("server")
    with module.Server(folder, {"MVTF_WEIGHTS": str(folder / "none"), "TINY_FRAMES": FRAMES}) as running:
        yield running


@pytest.fixture(scope="module")
def gt(tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType) -> Path:
    root: Path = tmp_path_factory.mktemp("gt")
    for name in ("ant", "bee"):
        tiny.Tiny(root).scene(name)
    return root


@pytest.fixture
def pred(gt: Path, tmp_path: Path) -> Path:
    """The reference, a little darker."""
    root = tmp_path / "pred"
    shutil.copytree(gt, root)
    for path in root.rglob("*.png"):
        pixels = np.array(Image.open(path))
        Image.fromarray(np.where(pixels < 255, pixels + 7, pixels).astype(np.uint8)).save(path)
    return root


def command(pred: Path, gt: Path, record: Path, jobs: int = 1, protocol: str = "toy4d-v1") -> list[object]:
    return ["score", pred, "--gt", gt, "--protocol", protocol, "--record", record, "--jobs", jobs, "--json"]


def rows_of(record: Path) -> list[Row]:
    return row_log(record).read()


def result(record: Path, protocol: str = "toy4d-v1") -> bytes:
    return (record / f"score-{protocol}.json").read_bytes()


def lines(record: Path) -> int:
    path = record / "rows.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_when(server: Any, arguments: list[object], record: Path, count: int) -> bool:
    """SIGKILL the command as soon as `count` rows are on disk; False if it had ended by then."""
    pid = server.start(*arguments)
    until = time.monotonic() + 60
    while lines(record) < count and Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.0005)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return bool(server.wait().code == -signal.SIGKILL)


def killed_and_finished(server: Any, pred: Path, gt: Path, tmp_path: Path, kills: int) -> None:
    assert server.run(*command(pred, gt, tmp_path / "whole")).code == 0
    expected = sorted(row.to_json() for row in rows_of(tmp_path / "whole"))
    rng, record, died = random.Random(kills), tmp_path / "killed", 0
    for place in sorted(rng.sample(range(1, len(expected) * 3 // 4), kills)):
        died += kill_when(server, command(pred, gt, record), record, place)
        keys = [row.key for row in rows_of(record)]
        assert len(keys) == len(set(keys)), "a finished value was computed twice"
    assert died >= kills / 2, "most of the kills must have hit"
    assert 0 < lines(record) < len(expected)
    assert server.run(*command(pred, gt, record)).code == 0
    assert result(record) == result(tmp_path / "whole")
    assert sorted(row.to_json() for row in rows_of(record)) == expected


def test_killed_scoring_goes_on_where_it_stopped(server: Any, pred: Path, gt: Path, tmp_path: Path) -> None:
    killed_and_finished(server, pred, gt, tmp_path, kills=3)


@pytest.mark.slow
def test_scoring_survives_twenty_kills(server: Any, pred: Path, gt: Path, tmp_path: Path) -> None:
    killed_and_finished(server, pred, gt, tmp_path, kills=20)


def test_a_finished_score_computes_nothing_again(server: Any, pred: Path, gt: Path, tmp_path: Path) -> None:
    record = tmp_path / "r"
    first = server.run(*command(pred, gt, record))
    assert first.code == 0, first.err
    assert {row.metric for row in rows_of(record)} == set(METRICS)
    rows, document = (record / "rows.jsonl").read_bytes(), result(record)
    again = server.run(*command(pred, gt, record))
    assert (record / "rows.jsonl").read_bytes() == rows
    assert result(record) == document
    assert json.loads(again.out) == json.loads(first.out) == json.loads(document)


def test_one_changed_pixel_recomputes_what_depends_on_it_and_nothing_else(
    server: Any, pred: Path, gt: Path, tmp_path: Path
) -> None:
    record = tmp_path / "r"
    assert server.run(*command(pred, gt, record)).code == 0
    before, document = rows_of(record), result(record)
    path = pred / "ant" / "eval_1" / "2.png"
    original = path.read_bytes()
    pixels = np.array(Image.open(path))
    pixels[20, 8] = (1, 2, 3)
    Image.fromarray(pixels).save(path)
    assert server.run(*command(pred, gt, record)).code == 0
    fresh = rows_of(record)[len(before) :]
    assert {(row.object, row.view) for row in fresh} == {("ant", "eval_1")}
    assert {row.frame for row in fresh if row.metric in ("psnr", "ssim")} == {2}
    assert {row.metric for row in fresh} == set(METRICS)
    assert server.run(*command(pred, gt, tmp_path / "anew")).code == 0
    assert result(record) == result(tmp_path / "anew") != document, "older rows do not count"
    path.write_bytes(original)
    assert server.run(*command(pred, gt, record)).code == 0
    assert len(rows_of(record)) == len(before) + len(fresh), "what was known before is known again"
    assert result(record) == document


def test_another_protocol_shares_the_folder_but_no_values(
    server: Any, pred: Path, gt: Path, tmp_path: Path
) -> None:
    record = tmp_path / "r"
    assert server.run(*command(pred, gt, record)).code == 0
    document = result(record)
    other = server.run(*command(pred, gt, record, protocol="c4d-v1"), "--objects", "ant")
    assert other.code == 0, other.err
    assert {row.signature.partition("|p:")[2].partition("|")[0] for row in rows_of(record)} == {
        "toy4d-v1",
        "c4d-v1",
    }
    assert result(record) == document


def test_two_processes_give_the_rows_of_one(server: Any, pred: Path, gt: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert server.run(*command(pred, gt, one)).code == 0
    ended = server.run(*command(pred, gt, two, jobs=2))
    assert ended.code == 0, ended.err
    assert sorted(r.to_json() for r in rows_of(two)) == sorted(r.to_json() for r in rows_of(one))
    assert result(two) == result(one)


def test_a_failing_worker_loses_nothing_that_was_measured(
    server: Any, pred: Path, gt: Path, tmp_path: Path
) -> None:
    whole, record = tmp_path / "whole", tmp_path / "r"
    assert server.run(*command(pred, gt, whole)).code == 0
    path = pred / "bee" / "eval_3" / "4.png"  # the pre-flight decodes frames 0, 2, 3, 5, 6, 8, 9 and 11
    original = path.read_bytes()
    path.write_bytes(original[:-40])
    ended = server.run(*command(pred, gt, record, jobs=2))
    assert ended.code == 2, ended.err
    (sentence,) = (line for line in ended.err.splitlines() if line.startswith("error: "))
    assert "bee/eval_3/4.png" in sentence
    assert "Traceback" not in ended.err
    assert ended.out == ""
    kept = rows_of(record)
    assert kept
    path.write_bytes(original)
    assert server.run(*command(pred, gt, record)).code == 0
    assert rows_of(record)[: len(kept)] == kept
    keys = [row.key for row in rows_of(record)]
    assert len(keys) == len(set(keys))
    assert result(record) == result(whole)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_parent_and_a_killed_worker_is_one_sentence(
    server: Any, pred: Path, gt: Path, tmp_path: Path
) -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("this system has no /proc to look for processes in")
    for victim in ("parent", "worker"):
        record = tmp_path / victim
        pid = server.start(*command(pred, gt, record, jobs=2, protocol="c4d-fixed-v1"))
        while lines(record) < 3:
            time.sleep(0.002)
        children = _children(pid)
        assert len(children) >= 2
        os.kill(pid if victim == "parent" else children[-1], signal.SIGKILL)
        ended = server.wait()
        if victim == "worker":
            assert ended.code == 2, ended.err
            assert "error: a worker process was killed" in ended.err
        until = time.monotonic() + 30
        while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(Path(f"/proc/{child}").exists() for child in children)
        assert server.run(*command(pred, gt, record, protocol="c4d-fixed-v1")).code == 0
        keys = [row.key for row in rows_of(record)]
        assert len(keys) == len(set(keys))
