"""Tables with the method's own rows: killed at any moment, or spread over machines, they are the same bytes."""

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mvtokenflow.eval.records.rows import load_runs

DATA = Path(__file__).parents[1] / "data" / "tables_tiny"
FORMATS = ("json", "csv", "md")


@pytest.fixture(scope="module")
def tiny(prior_file: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DATA)
        patch.setenv("TINY_PRIOR", str(prior_file))
        yield importlib.import_module("tinyscenes")


@dataclass(frozen=True)
class Bench:
    """Where commands run: fresh processes of one server, the scenes, the file that orders a death."""

    server: Any
    data: Path
    order: Path
    environment: dict[str, str]

    def table3(self, runs: Path, scenes: str, *more: object) -> list[object]:
        """Without `--jobs` 1 a command would start processes that outlive a kill for a moment."""
        place = ["--dataset", "tinyscenes:Tiny", "--root", self.data, "--runs", runs, "--protocol", "toy4d-v2"]
        rows = ["--methods", "tinymethod:FULL,tinymethod:COARSE", "--scenes", scenes, "--no-quoted"]
        poor = ["--force", "--allow-mixed"]  # so few steps leave frames without a normal to compare
        return ["table3", *place, *rows, *poor, *(more or ("--jobs", 1))]

    def printed(self, runs: Path, scenes: str, forms: Sequence[str]) -> dict[str, str]:
        """The table in these formats; the first one does what is missing."""
        shown = {}
        for form in forms:
            ended = self.server.run(*self.table3(runs, scenes), "--format", form)
            assert ended.code == 0, ended.err + ended.out
            shown[form] = ended.out
        return shown

    def killed_after(self, seconds: float, runs: Path, scenes: str) -> bool:
        """Whether the command was still at work."""
        pid = self.server.start(*self.table3(runs, scenes))
        time.sleep(seconds)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return bool(self.server.wait().code == -signal.SIGKILL)

    def killed_at(self, naming: int, runs: Path, scenes: str) -> bool:
        """As above, dead before it names its `naming`-th file or folder."""
        self.order.write_text(str(naming))
        ended = self.server.run(*self.table3(runs, scenes))
        self.order.unlink()
        assert ended.code in (0, -signal.SIGKILL), ended.err
        return bool(ended.code != 0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType) -> Iterator[Bench]:
    """Without weights, and without the commit, which may move between two commands of one test."""
    folder = tmp_path_factory.mktemp("server")
    data, order, absent = folder / "data", folder / "order", str(folder / "none")
    for name in tiny.SCENES:
        tiny.Tiny(data).scene(name)
    environment = {
        "MVTF_WEIGHTS": absent,
        "GIT_DIR": absent,
        "TINY_KILL": str(order),
        "NUMBA_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with importlib.import_module("server").Server(folder, environment, ["tinynative"]) as running:
        yield Bench(running, data, order, environment)


@dataclass(frozen=True)
class Whole:
    """What one undisturbed command made, and how long it took."""

    runs: Path
    printed: dict[str, str]
    seconds: float


@pytest.fixture(scope="module")
def one_scene(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return _undisturbed(bench, tmp_path_factory.mktemp("one") / "runs", "ant", FORMATS[:1])


@pytest.fixture(scope="module")
def two_scenes(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return _undisturbed(bench, tmp_path_factory.mktemp("two") / "runs", "ant,bee", FORMATS)


def _undisturbed(bench: Bench, runs: Path, scenes: str, forms: Sequence[str]) -> Whole:
    began = time.perf_counter()
    first = bench.printed(runs, scenes, forms[:1])
    seconds = time.perf_counter() - began
    return Whole(runs, {**first, **bench.printed(runs, scenes, forms[1:])}, seconds)


def values(runs: Path) -> dict[str, tuple[str, list[str]]]:
    """By run folder, the digest of its renderings and its records; a record that is there twice is a fault."""
    found = {}
    for run in load_runs(runs):
        lines = [*(row.to_json() for row in run.rows), *(row.to_json() for row in run.features)]
        assert len(lines) == len(set(lines))
        found[str(run.folder.relative_to(runs))] = (run.manifest.prediction_digest, sorted(lines))
    return found


def same(bench: Bench, runs: Path, scenes: str, whole: Whole) -> None:
    assert bench.printed(runs, scenes, list(whole.printed)) == whole.printed
    assert values(runs) == values(whole.runs)


@pytest.mark.slow  # half a minute for one scene; `test_tables_runs` kills a table of a quick method every time
def test_a_table_of_the_method_is_what_it_claims(one_scene: Whole) -> None:
    table = json.loads(one_scene.printed["json"])
    keys = [column["key"] for column in table["columns"]]
    measured = {row["label"]: dict(zip(keys, row["cells"], strict=True)) for row in table["rows"]}
    assert list(measured) == ["full", "coarse"]
    for metric in ("psnr", "flow_epe", "normal_deg"):
        assert measured["full"][metric]["value"] != measured["coarse"][metric]["value"], "two rows, not one"
    assert len(values(one_scene.runs)) == 2


@pytest.mark.slow
def test_a_killed_table_of_the_method_is_finished_by_the_same_command(
    bench: Bench, one_scene: Whole, tmp_path: Path
) -> None:
    rng = random.Random(3)
    deaths = [bench.killed_at(rng.randint(40, 160), tmp_path / "runs", "ant") for _ in range(2)]
    assert all(deaths)
    same(bench, tmp_path / "runs", "ant", one_scene)


@pytest.mark.slow
def test_a_table_of_the_method_survives_ten_kills(bench: Bench, two_scenes: Whole, tmp_path: Path) -> None:
    """Ten random moments of the undisturbed command; between two of them lies one attempt."""
    runs, rng = tmp_path / "runs", random.Random(7)
    idle = time.perf_counter()
    bench.server.run(*bench.table3(two_scenes.runs, "ant,bee"))  # nothing to do: what a start costs
    idle = time.perf_counter() - idle
    moments = sorted(rng.uniform(0, two_scenes.seconds - idle) for _ in range(10))
    pauses = [after - before for before, after in zip([0.0, *moments], moments, strict=False)]
    states, deaths = set(), 0
    for pause in pauses:
        deaths += bench.killed_after(idle + pause, runs, "ant,bee")
        states.add(frozenset(str(path.relative_to(runs)) for path in runs.rglob("*")))
    assert deaths >= 8, "it must have been at work"
    assert len(states) >= 5, "at different stages"
    same(bench, runs, "ant,bee", two_scenes)


@pytest.mark.slow
def test_a_table_of_the_method_survives_death_at_every_stage(
    bench: Bench, two_scenes: Whole, tmp_path: Path
) -> None:
    """Dies again and again, a random number of files further on, until it is finished.

    Views are 52 files that count when they are all there, so that some attempts come to nothing.
    """
    runs, rng = tmp_path / "runs", random.Random(11)
    deaths, stages = 0, set()
    while bench.killed_at(rng.randint(20, 130), runs, "ant,bee"):
        deaths += 1
        stages |= {path.name for path in runs.glob("*/*/*/*/work/*")}
        assert deaths < 100, "every attempt gets further"
    assert deaths >= 12
    assert {"views", "coarse", "regenerated", "refined"} <= stages
    same(bench, runs, "ant,bee", two_scenes)


def _process(bench: Bench, *arguments: object) -> "subprocess.Popen[bytes]":
    """The command as a user starts it, head of a group of processes."""
    environment = {**os.environ, **bench.environment, "PYTHONPATH": str(DATA)}
    return subprocess.Popen(
        [sys.executable, "-c", "from mvtokenflow.cli.mvtf_eval import main; main()", *map(str, arguments)],
        env=environment,
        cwd=bench.data,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.slow
def test_a_killed_group_of_processes_is_finished_too(bench: Bench, two_scenes: Whole, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for landmark in ("*/*/*/*/work/coarse/run.json", "*/*/*/*/rows.jsonl"):  # rendering, scoring
        process = _process(bench, *bench.table3(runs, "ant,bee", "--jobs", 2))
        while process.poll() is None and not list(runs.glob(landmark)):
            time.sleep(0.05)
        assert process.poll() is None, "killed at work"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    same(bench, runs, "ant,bee", two_scenes)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["one folder", "two folders"])
def test_shards_of_the_method_make_the_table_of_one_run(
    shared: bool, bench: Bench, two_scenes: Whole, tmp_path: Path
) -> None:
    """At the same time, into one folder as of machines that share a disk, or into folders that are merged."""
    folders = [tmp_path / ("runs" if shared else f"runs{index}") for index in range(2)]
    commands = [
        bench.table3(folder, "ant,bee", "--jobs", 1, "--shard", f"{index}/2")
        for index, folder in enumerate(folders)
    ]
    processes = [_process(bench, *command) for command in commands]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    merged = tmp_path / "runs"
    if not shared:
        for folder in folders:
            shutil.copytree(folder, merged, dirs_exist_ok=True)
    before = sorted(merged.rglob("*"))
    same(bench, merged, "ant,bee", two_scenes)
    assert sorted(merged.rglob("*")) == before, "nothing was left to do"
