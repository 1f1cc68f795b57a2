"""Options of clusters: what does not go together, and what is not here, is one sentence."""

import json
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.cli.eval.engines import EngineOptions, minutes, sbatch_options
from mvtokenflow.eval.engine.engine import Placement, Work
from mvtokenflow.eval.engine.ray import Ray
from mvtokenflow.eval.engine.slurm import Slurm
from mvtokenflow.eval.tasks.worker import perform


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"engine": "slrum"}, "no engine 'slrum'. Did you mean 'slurm'"),
        ({"partition": "gpu"}, "--partition is no option of --engine local"),
        ({"gpus_per_task": 1}, "--gpus-per-task is no option of --engine local"),
        ({"engine": "ray", "address": "a:1", "detach": True}, "--detach is no option of --engine ray"),
        ({"engine": "slurm", "trust_network": True}, "--trust-network is no option of --engine slurm"),
        ({"engine": "ray"}, "--engine ray needs --address HOST:PORT"),
        ({"engine": "slurm", "time_limit": "3"}, "--time-limit 3: write a time as 90m, 3h or 1d12h"),
        ({"engine": "slurm", "slurm": ["gpu"]}, "--slurm gpu: write NAME=VALUE"),
        ({"engine": "slurm", "slurm": ["a b=c"]}, "--slurm a b=c: write NAME=VALUE"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence.replace("(", r"\(")):
        EngineOptions(**options).check_engine("0/1")  # type: ignore[arg-type]


def test_a_cluster_takes_no_shards() -> None:
    with pytest.raises(ConfigError, match="--shard 0/4: --engine slurm divides the work itself"):
        EngineOptions(engine="slurm").check_engine("0/4")
    EngineOptions().check_engine("0/4")


@pytest.mark.parametrize(("text", "count"), [("90m", 90), ("3h", 180), ("1d12h", 2160), ("2h30m", 150)])
def test_times_are_minutes(text: str, count: int) -> None:
    assert minutes(text) == count


@pytest.mark.parametrize("text", ["", "0m", "h", "3h1d", "1.5h", "٣h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        minutes(text)


def test_options_of_sbatch_are_names_and_values() -> None:
    assert sbatch_options(["account=vision", "--constraint=a100|h100"]) == {
        "account": "vision",
        "constraint": "a100|h100",
    }


def slurm(folder: Path) -> Slurm:
    return Slurm(folder, perform, Placement())


def test_without_submitit_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"needs submitit: pip install 'mvtokenflow\[slurm\]'"):
        slurm(tmp_path)


def test_without_slurm_the_submit_node_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no SLURM on this machine \(srun is not in PATH\); log in"):
        slurm(tmp_path)


@pytest.mark.parametrize("answer", ["echo Unable to contact the controller >&2; exit 1", "exec sleep 60"])
def test_a_controller_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    for name in ("srun", "sinfo"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("mvtokenflow.eval.engine.slurm.ANSWER_S", 0.3)
    with pytest.raises(ConfigError, match=r"SLURM does not answer \((Unable to contact|no answer within)"):
        slurm(tmp_path)


@pytest.mark.parametrize(
    ("state", "log", "unseen"),
    [("FAILED", False, True), ("FAILED", True, False), ("NODE_FAIL", False, False), ("TIMEOUT", False, False)],
)
def test_a_task_that_failed_without_a_log_did_not_see_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, log: bool, unseen: bool
) -> None:
    """A job of an earlier command; a node that died is no such case."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    for name, answer in (("srun", ""), ("sinfo", ""), ("scontrol", f"JobId=7 JobState={state} Reason=None")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    note = {"key": {"id": "7_0", "log": str(tmp_path / "7_0_log.out"), "words": "{}"}}
    (tmp_path / "submitted.json").write_text(json.dumps(note))
    if log:
        (tmp_path / "7_0_log.out").touch()
    engine = slurm(tmp_path)
    assert engine.unseen("key") == unseen
    assert not engine.unseen("another")


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize(("minutes", "limit"), [(None, []), (90, ["--time=90"])])
def test_without_a_time_limit_the_partitions_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: int, minutes: int | None, limit: list[str]
) -> None:
    """What sbatch is given; submitit's own limit would be five minutes."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    for name in ("srun", "sinfo", "scontrol", "sbatch"):
        (tmp_path / name).write_text("#!/bin/sh\necho Submitted batch job 7\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    placement = Placement(minutes=minutes, partition="gpu", gpus_per_task=2, sbatch={"account": "vision"})
    engine = Slurm(tmp_path, perform, placement)
    engine.submit({f"key{number}": Work(words="{}") for number in range(tasks)}, frozenset({"n1", "n2"}))
    (script,) = (tmp_path / "logs").glob("*_submission.sh")
    options = re.findall(r"^#SBATCH (\S+)$", script.read_text(), re.MULTILINE)
    assert [option for option in options if option.startswith("--time")] == limit
    assert {"--account=vision", "--exclude=n1,n2", "--gpus-per-task=2", "--no-requeue"} < set(options)
    assert {"--partition=gpu", "--cpus-per-task=1", "--job-name=mvtf-eval"} < set(options)


def ray(folder: Path, address: str, trust: bool = False) -> Ray:
    return Ray(folder, perform, Placement(), address, trust)


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"needs Ray: pip install 'mvtokenflow\[ray\]'"):
        ray(tmp_path, "127.0.0.1:1")


def test_a_ray_cluster_that_is_open_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(ConfigError, match=r"takes work from anyone: .*RAY_AUTH_MODE=token.* --trust-network"):
        ray(tmp_path, "127.0.0.1:1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(ConfigError, match=f"no Ray cluster at {address}; start one, or name another --address"):
        ray(tmp_path, address, trust=True)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"no Ray cluster at {address}; start one"):
            ray(tmp_path, address, trust=True)
    with pytest.raises(ConfigError, match="write HOST:PORT"):
        ray(tmp_path, "auto", trust=True)


def test_the_command_refuses_with_exit_code_2(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    methods = ("--methods", "white", "--scenes", "bird-01")
    code, printed, messages = cli("table1", "--engine", "slurm", "--runs", tmp_path / "runs", *methods)
    assert (code, printed) == (2, "")
    assert messages.splitlines()[-1].startswith("error: no SLURM on this machine")
