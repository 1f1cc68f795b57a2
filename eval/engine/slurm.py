"""Tasks as jobs of a SLURM cluster, through submitit. Nodes see the folder of runs, and deliver there.

FOLDER/submitted.json   by key of a task: its job and its text; jobs go on without the command
FOLDER/logs/            what each job printed, and submitit's own files
FOLDER/arrived/         what tasks deliver
"""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from getpass import getuser
from pathlib import Path
from typing import Any, Literal

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import atomic_path, write_json
from mvtokenflow.eval.engine.engine import Function, Placement, Work

ANSWER_S = 5  # seconds in which a cluster's controller answers
_SQUEUE = ("squeue", "--noheader", "--array", "--format=%i|%T|%N|%r")
MOST_AT_ONCE = 10_000
_LONGEST = 500  # characters of what sbatch printed


def deliver(function: Function, works: str, arrived: str) -> None:
    """Run tasks one after the other on a node; their files appear in the folder `arrived`.

    Args:
        function: what runs a task.
        works: JSON list of pairs, key and text.
        arrived: path on a drive that the command sees as well.
    """
    for key, words in json.loads(works):
        for name, file in function(words, {}):
            with atomic_path(Path(arrived) / f"{key}.{name}") as part:
                shutil.copyfile(file, part)


class Slurm:
    """A SLURM cluster as an engine.

    Args:
        folder: for jobs, logs and deliveries, on a drive that all nodes see.
        function: a module's function that runs one task.
        cluster: "local" runs jobs as processes of this machine, which they do not survive.

    Raises:
        ConfigError: submitit is not installed, or no SLURM is here or answers.
    """

    name = "slurm"

    def __init__(
        self,
        folder: Path,
        function: Function,
        placement: Placement,
        cluster: Literal["slurm", "local"] = "slurm",
    ) -> None:
        _refuse_absence(cluster)
        self.pause_s = 10.0 if cluster == "slurm" else 0.5
        self.folder = folder.absolute()
        self.arrived = self.folder / "arrived"
        self.arrived.mkdir(parents=True, exist_ok=True)
        self._function, self._placement, self._cluster = function, placement, cluster
        self._notes = self.folder / "submitted.json"
        self._jobs: dict[str, dict[str, str]] = {}
        if cluster == "slurm" and self._notes.is_file():
            self._jobs = read_json(self._notes, dict, "delete it once `squeue` lists no job of yours")
        self._local: dict[str, Any] = {}  # submitit's jobs by id
        self._last: dict[str, str] | None = None  # what `squeue` answered last, by job

    def held(self) -> Mapping[str, str]:
        alive = self.alive()
        return {key: job["words"] for key, job in self._jobs.items() if key in alive}

    def submit(self, works: Mapping[str, Work], avoid: frozenset[str] = frozenset()) -> None:
        """Submit an array of jobs; beyond the cluster's largest array a job runs several tasks."""
        pairs = [(key, work.words) for key, work in works.items()]
        size = math.ceil(len(pairs) / (self._largest_array() if self._cluster == "slurm" else len(pairs)))
        chunks = [pairs[start : start + size] for start in range(0, len(pairs), size)]
        try:
            jobs = self._executor(avoid).map_array(
                deliver,
                [self._function] * len(chunks),
                [json.dumps(chunk) for chunk in chunks],
                [str(self.arrived)] * len(chunks),
            )
        except Exception as error:  # submitit has errors of its own, each with what sbatch printed
            if avoid:  # there may be no other nodes
                self.submit(works)
                return
            raise ConfigError(f"SLURM refuses the jobs: {_line_of(error)}; nothing was submitted") from error
        for job, chunk in zip(jobs, chunks, strict=True):
            self._local[job.job_id] = job
            for key, words in chunk:
                self._jobs[key] = {"id": job.job_id, "log": str(job.paths.stdout), "words": words}
        self._last = None if self._last is None else self._last | {job.job_id: "" for job in jobs}
        write_json(self._notes, self._jobs)

    def alive(self) -> Mapping[str, str]:
        states = self._states()
        return {key: states[job["id"]] for key, job in self._jobs.items() if job["id"] in states}

    def ended(self, keys: Collection[str]) -> None:
        if self._jobs.keys() & set(keys):
            self._jobs = {key: job for key, job in self._jobs.items() if key not in keys}
            write_json(self._notes, self._jobs)

    def log(self, key: str) -> str:
        path = Path(self._jobs[key]["log"]) if key in self._jobs else None
        return f"its log: {path}" if path is not None and _is_listed(path) else ""

    def unseen(self, key: str) -> bool:
        """Return whether SLURM started a task, and its job ended by itself without a log here.

        A node opens the log before anything else, and where it sees another folder under the same path it lacks
        what submitit wrote there. A lost node, a time limit and a cancelled job are other states.
        """
        if self._cluster == "local" or key not in self._jobs or self.log(key):
            return False
        answer = _answer(["scontrol", "--oneliner", "show", "job", self._jobs[key]["id"]])
        found = re.search(r"\bJobState=(\w+)", answer.stdout)
        return found is not None and found[1] == "FAILED"

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def ids(self) -> list[str]:
        """Return the numbers of the arrays that hold tasks."""
        return sorted({job["id"].partition("_")[0] for job in self._jobs.values()})

    def cancel(self, keys: Collection[str]) -> None:
        ids = sorted({self._jobs[key]["id"] for key in keys if key in self._jobs})
        if self._cluster == "local":
            for name in ids:
                self._local[name].cancel()
            return
        for start in range(0, len(ids), 500):
            subprocess.run(["scancel", *ids[start : start + 500]], capture_output=True, check=False)

    def _executor(self, avoid: frozenset[str]) -> Any:
        import submitit

        folder = self.folder / "logs"
        if self._cluster == "local":
            local = submitit.AutoExecutor(folder=folder, cluster="local")
            local.update_parameters(name="mvtf-eval", stderr_to_stdout=True, timeout_min=24 * 60)
            return local
        chosen = self._placement
        executor = submitit.SlurmExecutor(folder=folder)  # `AutoExecutor` makes five minutes of no limit
        executor.update_parameters(
            job_name="mvtf-eval",
            stderr_to_stdout=True,
            cpus_per_task=chosen.cpus_per_task,
            time=chosen.minutes,  # None: the limit of the partition
            ntasks_per_node=1,
            array_parallelism=chosen.at_once or MOST_AT_ONCE,
            setup=list(chosen.setup) or None,
            partition=chosen.partition,
            gpus_per_task=chosen.gpus_per_task or None,
            exclude=",".join(sorted(avoid)) or None,
            additional_parameters={"no-requeue": True, **chosen.sbatch},  # the command submits again
        )
        return executor

    def _states(self) -> Mapping[str, str]:
        """Return the node of each job that is not over, "" where it waits; as before if SLURM is silent."""
        if self._cluster == "local":
            return {name: "localhost" for name, job in self._local.items() if not job.done()}
        answer = _answer([*_SQUEUE, "-u", getuser()])
        if answer.returncode:
            return self._last if self._last is not None else {job["id"]: "" for job in self._jobs.values()}
        found = {}
        for line in answer.stdout.splitlines():
            name, _, node, reason = line.split("|", 3)
            if "held" not in reason.lower():  # a job that SLURM holds after a failed start never starts
                found[name] = node
        self._last = found
        return found

    def _largest_array(self) -> int:
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", _answer(["scontrol", "show", "config"]).stdout)
        return max(1, int(found[1]) - 1) if found else 1000


def _refuse_absence(cluster: str) -> None:
    """Raise a ConfigError unless submitit and, for a cluster, SLURM are here and answer."""
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise ConfigError("--engine slurm needs submitit: pip install 'mvtokenflow[slurm]'") from error
    if cluster == "local":
        return
    if shutil.which("srun") is None:
        raise ConfigError(
            "no SLURM on this machine (srun is not in PATH); log in to a submit node, or leave out --engine"
        )
    answer = _answer(["sinfo", "--noheader"])
    if answer.returncode:
        words = (answer.stderr.strip().splitlines() or ["no answer"])[-1]
        raise ConfigError(f"SLURM does not answer ({words}); ask its administrators, nothing was submitted")


def _answer(command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command of SLURM; one that does not answer in time has failed."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {ANSWER_S} s")


def _is_listed(path: Path) -> bool:
    """Return whether a file is there; a drive of a network may remember for a while that it was not."""
    try:
        return path in path.parent.iterdir()
    except OSError:
        return False


def _line_of(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if line.startswith("sbatch: ")), lines[-1])[:_LONGEST]
