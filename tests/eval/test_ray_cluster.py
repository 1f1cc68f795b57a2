"""A table on a Ray cluster of two nodes on this machine that share no folder: the same bytes, and a token."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from ray_cluster import ADDRESS, RayCluster, why_not

from mvtokenflow.eval.records.rows import load_runs

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not())]

PROGRAM = "from mvtokenflow.cli.mvtf_eval import main; main()"
RAY = ("--engine", "ray", "--address", ADDRESS)
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def surroundings(tiny: ModuleType, prior_file: Path, root: Path) -> dict[str, str]:
    return {
        "PYTHONPATH": str(Path(tiny.__file__ or "").parent),
        "TINY_PRIOR": str(prior_file),
        **{"MVTF_WEIGHTS": str(root / "none"), "GIT_DIR": str(root / "none"), "OMP_NUM_THREADS": "1"},
    }


@pytest.fixture(scope="module")
def cluster(surroundings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with RayCluster(tmp_path_factory.mktemp("ray"), slots=1, surroundings=surroundings) as running:
        yield running


@pytest.fixture(scope="module")
def start(cluster: RayCluster, surroundings: dict[str, str], root: Path) -> Start:
    """Start `mvtf-eval table2` with the method's rows beside the first node."""

    def started(runs: str, *words: str, **more: str) -> "subprocess.Popen[str]":
        place = ["--dataset", "tinyscenes:Tiny", "--root", root / "data", "--runs", root / runs]
        rows = ["--methods", "white,tinymethod:FULL", "--protocol", "toy4d-v1", "--force", "--allow-mixed"]
        command = [*cluster.prefix, sys.executable, "-c", PROGRAM, "table2", *place, *rows, "--json", *words]
        return subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, **surroundings, **cluster.environment, **more},
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return started


def ended(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=580)
    assert process.returncode == code, err
    return out, err


def test_a_killed_node_changes_no_byte(cluster: RayCluster, start: Start, root: Path) -> None:
    local, _ = ended(start("here", "--jobs", "1"))
    process = start("ray", *RAY)
    end = time.monotonic() + 400
    while cluster.cpu_s("r2") < 7:  # in the middle of a row; starting takes 5
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.2)
    cluster.kill_node("r2")
    out, err = ended(process)
    assert out == local
    assert "lost: " in err
    pairs = list(zip(load_runs(root / "ray"), load_runs(root / "here"), strict=True))
    assert len(pairs) == 6
    for run, twin in pairs:
        assert sorted(row.to_json() for row in run.rows) == sorted(row.to_json() for row in twin.rows)
        for picture in (twin.folder / "pred").rglob("*.png"):
            other = run.folder / "pred" / picture.relative_to(twin.folder / "pred")
            assert picture.read_bytes() == other.read_bytes()
        assert run.manifest.reference_root == twin.manifest.reference_root


@pytest.mark.parametrize("token", ["", "0" * 64], ids=["none", "another"])
def test_who_has_not_the_token_is_refused(start: Start, root: Path, token: str) -> None:
    (root / "other-token").write_text(token)
    mine = {"RAY_AUTH_TOKEN_PATH": str(root / "other-token")} if token else {"RAY_AUTH_MODE": "disabled"}
    out, err = ended(start("refused", *RAY, *([] if token else ["--trust-network"]), **mine), code=2)
    assert out == ""
    assert re.search(rf"^error: the Ray cluster at {ADDRESS} refuses this command: \S", err, re.MULTILINE), err
    assert "Traceback" not in err
    assert "InvalidAuthToken" in err
    assert not list(load_runs(root / "refused"))


def test_a_cluster_without_a_token_is_refused(tmp_path: Path, surroundings: dict[str, str]) -> None:
    """Though the command has one; unless the network is trusted."""
    with RayCluster(tmp_path / "open", slots=1, surroundings=surroundings, token=False) as running:
        token = tmp_path / "token"
        token.write_text("0" * 64)
        table = [
            "table2",
            "--dataset",
            "tinyscenes:Tiny",
            "--root",
            str(tmp_path / "data"),
            "--methods",
            "white",
        ]
        table += ["--protocol", "toy4d-v1", "--runs", str(tmp_path / "runs"), "--json", *RAY]
        mine = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        found = subprocess.run(
            [*running.prefix, sys.executable, "-c", PROGRAM, *table],
            env={**os.environ, **surroundings, **mine},
            capture_output=True,
            text=True,
            check=False,
        )
    assert found.returncode == 2, found.stderr
    assert found.stdout == ""
    assert "error: the cluster takes work from anyone: start it" in found.stderr
    assert "Traceback" not in found.stderr
