"""A table on a SLURM cluster of two nodes on this machine: the same bytes, whatever dies."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from slurm_cluster import NODES, SlurmCluster, why_not

from mvtokenflow.eval.records.rows import load_runs

pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

ROWS = "ground-truth,white,tinyscenes:NATIVE"
# Ends as `kill -9` would end it, on one scene.
DEADLY = """
import os, signal
from tinyscenes import Native

class Deadly(Native):
    def render(self, scene, seed, workdir, progress):
        if scene.name == "bee":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().render(scene, seed, workdir, progress)

DEADLY = Deadly(name="deadly")
"""
# The first to render one scene goes on only when it is let go: a node that was taken for lost.
GHOST = """
import os, time
from pathlib import Path
from tinyscenes import Native

class Ghost(Native):
    def render(self, scene, seed, workdir, progress):
        folder = Path(os.environ["TINY_GHOST"])
        if scene.name == "ant":
            try:
                with (folder / "first").open("x") as file:
                    file.write(os.environ["SLURMD_NODENAME"])
            except FileExistsError:
                pass
            else:
                end = time.monotonic() + 400
                while not (folder / "go").exists() and time.monotonic() < end:
                    time.sleep(0.2)
        return super().render(scene, seed, workdir, progress)

GHOST = Ghost(name="ghost")
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def start(
    cluster: SlurmCluster, tiny: ModuleType, prior_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Start:
    """Start `mvtf-eval table2` in a process of its own."""
    root = tmp_path_factory.mktemp("tables")
    tiny_folder = str(Path(tiny.__file__ or "").parent)
    (root / "deadly.py").write_text(DEADLY)
    (root / "ghost.py").write_text(GHOST)
    surroundings = {
        **os.environ,
        **cluster.environment,
        **{"MVTF_WEIGHTS": str(root / "none"), "GIT_DIR": str(root / "none"), "OMP_NUM_THREADS": "1"},
        **{"TINY_GHOST": str(root), "TINY_PRIOR": str(prior_file)},
        "PYTHONPATH": os.pathsep.join([tiny_folder, str(root)]),
    }

    def started(
        runs: str, *words: str, methods: str = ROWS, instead: Sequence[str] = ()
    ) -> "subprocess.Popen[str]":
        program = "from mvtokenflow.cli.mvtf_eval import main; main()"
        place = ["--dataset", "tinyscenes:Tiny", "--root", root / "data", "--runs", root / runs]
        table = ["table2", *place, "--protocol", "toy4d-v1", "--methods", methods]
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, instead or table), "--json", *words],
            env=surroundings,
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    vars(started)["root"] = root
    return started


@pytest.fixture(scope="module")
def here(start: Start) -> str:
    """The table of this machine."""
    return ended(start("here", "--jobs", "1"))[0]


SLURM = ("--engine", "slurm", "--partition", "gpu")


def ended(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=500)
    assert process.returncode == code, err
    return out, err


def ended_without(cluster: SlurmCluster, process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What a command prints whose first node is killed now, and is back at the end."""
    cluster.kill_node(NODES[0])
    try:
        return ended(process)
    finally:
        cluster.start_node(NODES[0])


def running(cluster: SlurmCluster) -> list[str]:
    """The nodes of jobs that run, one for each."""
    return cluster.ask("squeue", "--noheader", "--array", "--states=R", "--format=%N").split()


def until(holds: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 400
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


def assert_same_runs(start: Start, name: str, twins: str = "here") -> None:
    root: Path = vars(start)["root"]
    pairs = list(zip(load_runs(root / name), load_runs(root / twins), strict=True))
    assert pairs
    for run, twin in pairs:
        assert sorted(row.to_json() for row in run.rows) == sorted(row.to_json() for row in twin.rows)
        for picture in (twin.folder / "pred").rglob("*.png"):
            other = run.folder / "pred" / picture.relative_to(twin.folder / "pred")
            assert picture.read_bytes() == other.read_bytes()


def logs(start: Start, name: str) -> list[Path]:
    folder: Path = vars(start)["root"] / name / ".tasks" / "logs"
    return sorted(folder.glob("*.out"))


def test_a_cluster_makes_the_table_of_one_machine(cluster: SlurmCluster, start: Start, here: str) -> None:
    out, err = ended(start("slurm", *SLURM))
    assert out == here
    assert_same_runs(start, "slurm")
    assert len(logs(start, "slurm")) == 3, "each scene once"
    assert "rows 9/9, tasks: " in err
    listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    of_slurm = [line.split()[3] for line in listening.splitlines() if "slurm" in line]
    assert of_slurm
    assert all(address.startswith("127.0.0.1:") for address in of_slurm)


def test_what_sbatch_refuses_is_one_sentence(start: Start) -> None:
    _, err = ended(start("refused", "--engine", "slurm", "--partition", "nosuch"), code=2)
    last = err.splitlines()[-1]
    assert last.startswith("error: SLURM refuses the jobs: ")
    assert re.search(r"invalid partition .*specified.*; nothing was submitted$", last, re.IGNORECASE)


@pytest.mark.slow
def test_a_killed_node_costs_what_it_was_working_on(cluster: SlurmCluster, start: Start, here: str) -> None:
    process = start("killed", *SLURM)
    until(lambda: NODES[0] in running(cluster), process)
    time.sleep(1)
    out, err = ended_without(cluster, process)
    assert out == here
    assert_same_runs(start, "killed")
    assert f"(seed 0) on {NODES[0]}; its log: " in err
    assert len(logs(start, "killed")) > 3, "somewhere else again"


@pytest.mark.slow
def test_a_folder_is_scored_object_by_object(
    cluster: SlurmCluster, start: Start, tiny: ModuleType, tmp_path: Path
) -> None:
    """What `mvtf-eval score` prints and records, and no object twice."""
    for scene in ("ant", "bee"):
        tiny.Tiny(tmp_path / "gt").scene(scene)
        shutil.rmtree(tmp_path / "gt" / scene / "truth")
        for view in tiny.VIEWS:
            for n, frame in enumerate(tiny.pictures(scene, view) // 2 + 100):
                (tmp_path / "theirs" / scene / view).mkdir(parents=True, exist_ok=True)
                Image.fromarray(frame.astype(np.uint8)).save(tmp_path / "theirs" / scene / view / f"{n}.png")
    words = ["score", str(tmp_path / "theirs"), "--gt", str(tmp_path / "gt"), "--record"]
    local, _ = ended(start("", instead=[*words, str(tmp_path / "here")]))
    out, err = ended(start("", *SLURM, instead=[*words, str(tmp_path / "there")]))
    assert out == local
    assert "objects 2/2" in err
    ours, theirs = (tmp_path / name / "rows.jsonl" for name in ("there", "here"))
    assert sorted(ours.read_text().splitlines()) == sorted(theirs.read_text().splitlines())
    assert len(list((tmp_path / "there" / ".tasks" / "logs").glob("*.out"))) == 2


@pytest.mark.slow
def test_the_methods_rows_on_a_killed_node(cluster: SlurmCluster, start: Start) -> None:
    methods = "tinymethod:FULL,tinymethod:COARSE,white"
    poor = ("--force", "--allow-mixed")  # so few steps leave frames without an object
    local, _ = ended(start("method-here", "--jobs", "1", *poor, methods=methods))
    process = start("method", *SLURM, *poor, methods=methods)
    until(lambda: cluster.cpu_s(NODES[0]) > 14, process)  # two tasks in the middle of a row; starting takes 10
    out, err = ended_without(cluster, process)
    assert out == local
    assert_same_runs(start, "method", "method-here")
    assert f"(seed 0) on {NODES[0]}; its log: " in err


def files(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """What runs hold, and when it changed."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.glob("tiny/*/*/*/**/*"))
        if path.is_file() and path.name[0] != "."
    }


@pytest.mark.slow
def test_a_node_that_delivers_after_it_was_lost_changes_nothing(cluster: SlurmCluster, start: Start) -> None:
    root: Path = vars(start)["root"]
    methods = "white,ghost:GHOST"
    process = start("ghost", *SLURM, methods=methods)
    until((root / "first").exists, process)
    node = (root / "first").read_text()
    cluster.cut_off(node)
    try:
        out, err = ended(process)
        assert f"lost: ant (seed 0) on {node}; its log: " in err
        before = files(root / "ghost")
        assert before
        (root / "go").touch()
        arrived, end = root / "ghost" / ".tasks" / "arrived", time.monotonic() + 120
        while not list(arrived.glob("*.end.json")):
            assert time.monotonic() < end, "the lost node delivers nothing"
            time.sleep(0.2)
        assert list(arrived.glob("*.tar"))
        assert ended(start("ghost", *SLURM, methods=methods))[0] == out
    finally:
        cluster.start_node(node)
    assert not list(arrived.iterdir())
    assert files(root / "ghost") == before
    assert ended(start("ghost-here", "--jobs", "1", methods=methods))[0] == out
    assert_same_runs(start, "ghost", "ghost-here")


@pytest.mark.slow
def test_a_folder_that_nodes_do_not_see_is_named_when_the_first_task_ends(
    cluster: SlurmCluster, start: Start
) -> None:
    folder: Path = vars(start)["root"] / "unseen"
    folder.mkdir()
    try:
        for node in NODES:
            cluster.kill_node(node)
            cluster.start_node(node, without=folder)
        out, err = ended(start("unseen", *SLURM), code=2)
    finally:
        for node in NODES:
            cluster.kill_node(node)
            cluster.start_node(node)
    assert out == ""
    assert re.search(
        r"^error: \S+/unseen is not seen by (node n[12]|a node): a task left neither result nor log; choose a "
        r"folder that all nodes share, or --engine ray$",
        err,
        re.MULTILINE,
    )
    assert "lost: " not in err, "not submitted again"
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_killed_command_leaves_its_jobs_to_the_next(cluster: SlurmCluster, start: Start, here: str) -> None:
    process = start("parent", *SLURM)
    until(lambda: running(cluster), process)
    process.kill()
    process.communicate()
    assert ended(start("parent", *SLURM))[0] == here
    assert_same_runs(start, "parent")
    assert len(logs(start, "parent")) == 3, "none was submitted twice"


@pytest.mark.slow
def test_an_interrupt_ends_the_jobs(cluster: SlurmCluster, start: Start, here: str) -> None:
    process = start("stopped", *SLURM)
    until(lambda: running(cluster), process)
    process.send_signal(signal.SIGINT)
    _, err = ended(process, code=130)
    assert "interrupted; run the same command again" in err
    end = time.monotonic() + 10
    while cluster.ask("squeue", "--noheader").strip():
        assert time.monotonic() < end
        time.sleep(0.2)
    assert ended(start("stopped", *SLURM))[0] == here


@pytest.mark.slow
def test_detached_jobs_are_waited_for_later(cluster: SlurmCluster, start: Start, here: str) -> None:
    out, err = ended(start("detached", *SLURM, "--detach"))
    assert out == ""
    assert "submitted: " in err
    assert ended(start("detached", *SLURM))[0] == here
    assert len(logs(start, "detached")) == 3


@pytest.mark.slow
def test_a_task_that_dies_three_times_is_a_failure(cluster: SlurmCluster, start: Start) -> None:
    out, err = ended(start("dead", *SLURM, methods="white,deadly:DEADLY"), code=2)
    assert "deadly on bee (seed 0): lost 3 times (out of memory or time, or its node failed); its log: " in err
    have = {
        row["label"]: {cell["have"] for cell in row["cells"] if cell["value"] is not None}
        for row in json.loads(out)["rows"]
        if row["group"] != "quoted"
    }
    assert have == {"white": {3}, "deadly": {2}}


def test_each_task_has_a_gpu_of_its_own(start: Start) -> None:
    """The stand-ins are no GPUs, so that tasks refuse them by the numbers that SLURM gave them."""
    _, err = ended(start("gpu", *SLURM, "--gpus-per-task", "1", methods="white"), code=2)
    assert "has no GPU that torch sees" in err
    assert set(re.findall(r"CUDA_VISIBLE_DEVICES=(\d*);", err)) == {"0", "1"}, "two tasks of one node"
    assert "lost" not in err
