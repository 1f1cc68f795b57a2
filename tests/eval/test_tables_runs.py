"""Tables end to end: shards, kills, processes and repeats give the same bytes; failures are told apart."""

import importlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mvtokenflow.eval.records.rows import load_runs

METHODS = "ground-truth,mirrored,white,tinyscenes:NATIVE,tinyscenes:DARKER"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType) -> Iterator[Any]:
    """Without weights, and without the commit, which may move between two commands of one test."""
    folder = tmp_path_factory.mktemp("server")
    hidden = {"MVTF_WEIGHTS": str(folder / "none"), "GIT_DIR": str(folder / "none")}
    with importlib.import_module("server").Server(folder, hidden) as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType) -> Path:
    root: Path = tmp_path_factory.mktemp("data")
    for name in tiny.SCENES:
        tiny.Tiny(root).scene(name)
    return root


def command(
    data: Path, runs: Path, methods: str = METHODS, table: str = "table2", jobs: int = 1
) -> list[object]:
    place = ["--dataset", "tinyscenes:Tiny", "--root", data, "--runs", runs, "--protocol", "toy4d-v1"]
    return [table, *place, "--methods", methods, "--jobs", jobs, "--json"]


@pytest.fixture(scope="module")
def whole(server: Any, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The runs and the table of one undisturbed command."""
    runs = tmp_path_factory.mktemp("whole") / "runs"
    ended = server.run(*command(data, runs))
    assert ended.code == 0, ended.err
    return runs, ended.out


def row(table: dict[str, Any], label: str) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in table["rows"] if r["label"] == label and r["group"] != "quoted")
    keys = [column["key"] for column in table["columns"]]
    return dict(zip(keys, found["cells"], strict=True))


def test_rows_stand_where_their_answer_says(whole: tuple[Path, str]) -> None:
    table = json.loads(whole[1])
    assert [r["label"] for r in table["rows"] if r["group"] != "quoted"] == [
        "native",
        "darker",
        "ground-truth",
        "mirrored",
        "white",
    ]
    truth, mirrored, white = (row(table, name) for name in ("ground-truth", "mirrored", "white"))
    assert (truth["psnr"]["value"], truth["ssim"]["value"], truth["warp"]["value"]) == (100, 1, 0)
    assert mirrored["warp"]["value"] > 20
    assert white["warp"]["value"] == 0, "a still picture flickers not at all; the floor and PSNR tell"
    assert white["psnr"]["value"] < 15
    native, darker = row(table, "native"), row(table, "darker")
    assert (native["psnr"]["rank"], darker["psnr"]["rank"]) == (1, 2)
    assert native["psnr"]["value"] > darker["psnr"]["value"] > white["psnr"]["value"]
    assert truth["lpips"]["value"] is None
    assert "weights fetch lpips-vgg" in truth["lpips"]["reason"]


def test_the_same_table_again_renders_and_measures_nothing(
    server: Any, data: Path, whole: tuple[Path, str]
) -> None:
    runs, text = whole
    before = {path: path.read_bytes() for path in sorted(runs.rglob("*")) if path.is_file()}
    again = server.run(*command(data, runs))
    assert again.code == 0
    assert again.out == text
    assert {path: path.read_bytes() for path in sorted(runs.rglob("*")) if path.is_file()} == before


def test_shards_make_the_table_of_one_run(
    server: Any, data: Path, whole: tuple[Path, str], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    for index in range(2):
        part = server.run(*command(data, runs), "--shard", f"{index}/2")
        assert part.code == 0, part.err
        assert {run.manifest.scene for run in load_runs(runs)} == ({"ant", "cow"}, {"ant", "bee", "cow"})[index]
        have = row(json.loads(part.out), "native")["psnr"]["have"]
        assert have == (2, 3)[index], "a shard's table covers what is finished"
    files = {path for path in runs.rglob("*") if path.is_file()}
    ended = server.run(*command(data, runs))
    assert ended.out == part.out == whole[1]
    assert {path for path in runs.rglob("*") if path.is_file()} == files


@pytest.mark.slow  # two processes import everything twice, for rendering and for scoring
def test_two_processes_make_the_table_of_one(
    server: Any, data: Path, whole: tuple[Path, str], tmp_path: Path
) -> None:
    ended = server.run(*command(data, tmp_path / "runs", jobs=2))
    assert ended.code == 0, ended.err
    assert ended.out == whole[1]
    for run, other in zip(load_runs(tmp_path / "runs"), load_runs(whole[0]), strict=True):
        assert run.folder.relative_to(tmp_path / "runs") == other.folder.relative_to(whole[0])
        assert {r.to_json() for r in run.rows} == {r.to_json() for r in other.rows}


def survives_kills(server: Any, data: Path, whole: str, runs: Path, delays: list[float]) -> None:
    for delay in delays:
        pid = server.start(*command(data, runs))
        time.sleep(delay)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        server.wait()
        for run in load_runs(runs):
            keys = [r.key for r in run.rows]
            assert len(keys) == len(set(keys))
    ended = server.run(*command(data, runs))
    assert ended.code == 0, ended.err
    assert ended.out == whole


def test_a_killed_table_is_finished_by_the_same_command(
    server: Any, data: Path, whole: tuple[Path, str], tmp_path: Path
) -> None:
    survives_kills(server, data, whole[1], tmp_path / "runs", [0.25, 0.6])


@pytest.mark.slow
def test_a_table_survives_ten_kills(server: Any, data: Path, whole: tuple[Path, str], tmp_path: Path) -> None:
    rng = random.Random(4)
    survives_kills(server, data, whole[1], tmp_path / "runs", [rng.uniform(0.05, 1.5) for _ in range(10)])


def test_a_method_that_fails_on_a_scene_leaves_the_rest_standing(
    server: Any, data: Path, tmp_path: Path
) -> None:
    ended = server.run(
        *command(data, tmp_path / "runs", "tinyscenes:NATIVE,tinyscenes:FICKLE,tinyscenes:FLOAT")
    )
    assert ended.code == 2, "something is for the user to fix"
    assert "Traceback" not in ended.err
    table = json.loads(ended.out)
    fickle = row(table, "fickle")["psnr"]
    assert (fickle["have"], fickle["want"], fickle["rank"]) == (2, 3, None)
    assert any("fickle on bee (seed 0): bee: diverged at step 7" in note for note in table["footnotes"])
    broken = row(table, "float")["psnr"]
    assert broken["value"] is None
    assert broken["reason"] == "no run succeeded, see the notes"
    assert sum("must be (T, H, W, 3) uint8" in note for note in table["footnotes"]) == 3


def test_imports_of_another_size_fail_alone(server: Any, data: Path, tiny: ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    theirs = tmp_path / "theirs"
    for name in tiny.SCENES:
        tiny.Tiny(theirs).scene(name)
    for path in (theirs / "bee").rglob("*.png"):
        Image.open(path).resize((40, 40)).save(path)
    arguments = command(data, tmp_path / "runs", "tinyscenes:NATIVE")
    ended = server.run(*arguments, "--import", f"theirs={theirs}", "--force")
    assert ended.code == 2
    table = json.loads(ended.out)
    assert row(table, "native")["psnr"]["have"] == 3
    assert (row(table, "theirs")["psnr"]["have"], row(table, "theirs")["psnr"]["value"]) == (2, 100)
    assert any("40x40, the reference is 32x32" in note for note in table["footnotes"])
    assert next(r for r in table["rows"] if r["label"] == "theirs")["source"] == "released-renderings"


def test_weights_that_arrive_later_fill_their_cells_without_measuring_the_rest_again(
    server: Any, data: Path, tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mvtokenflow.base.errors import WeightsMissingError
    from mvtokenflow.weights import ledger as weights

    try:
        weights.resolve("lpips-vgg")
    except WeightsMissingError as missing:
        pytest.skip(str(missing))
    runs = tmp_path / "runs"
    arguments = [*command(data, runs, "ground-truth,white", "table1"), "--scenes", "ant"]
    before = json.loads(server.run(*arguments).out)
    assert row(before, "white")["lpips"]["value"] is None
    rows = {run.folder: list(run.rows) for run in load_runs(runs)}
    after = json.loads(cli(*arguments).out)
    assert row(after, "ground-truth")["lpips"]["value"] == 0
    assert row(after, "white")["lpips"]["value"] > 0.1
    assert row(after, "white")["psnr"] == {
        **row(before, "white")["psnr"],
        "provenance": row(after, "white")["psnr"]["provenance"],
    }
    for run in load_runs(runs):
        fresh = run.rows[len(rows[run.folder]) :]
        assert list(run.rows[: len(rows[run.folder])]) == rows[run.folder]
        assert {r.metric for r in fresh} == {"lpips"}
