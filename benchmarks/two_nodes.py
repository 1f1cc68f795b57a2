"""A table on a cluster of two nodes on this machine, and whether its bytes are those of one machine.

    python benchmarks/two_nodes.py run local out/here -- table1 --scenes crab-01,fish-01 --methods mvtokenflow
    python benchmarks/two_nodes.py run slurm out/slurm --kill 20 -- table1 --scenes crab-01,fish-01 ...
    python benchmarks/two_nodes.py compare out/here out/slurm

`run` starts SLURM (Debian: slurm-wlm, munge) or Ray, needs root, and writes OUT/stdout, OUT/stderr, OUT/runs
and OUT/site. With `--kill S` the second node is ended by `kill -9`, with everything that runs there, once its
tasks have worked for S CPU seconds, and is started again when the command has reported the loss. `compare`
prints how many tables, pictures, rows and pages there are and which differ, and ends with 1 if any does. Pages
show times, memory and the command line, which differ from trial to trial: they are built anew from the other
trial's records with these of the first one put in.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "builders"))
from ray_cluster import ADDRESS, RayCluster
from ray_cluster import why_not as why_no_ray
from slurm_cluster import NODES, SlurmCluster
from slurm_cluster import why_not as why_no_slurm

from mvtokenflow.base.files import write_json
from mvtokenflow.eval.records.rows import load_runs

PROGRAM = "from mvtokenflow.cli.mvtf_eval import main; main()"


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs.

    Attributes:
        words: options of the command that name it.
        prefix, environment: of the command.
        cpu_s: of the tasks on the node that may be killed.
        kill, revive: end this node, and start it again.
    """

    words: Sequence[str]
    prefix: Sequence[str]
    environment: dict[str, str]
    cpu_s: Callable[[], float]
    kill: Callable[[], None]
    revive: Callable[[], None]


@contextmanager
def started(engine: str, folder: Path, slots: int) -> Iterator[Cluster]:
    """Start a cluster of two nodes with so many slots each; none for "local"."""
    if engine == "local":
        yield Cluster(["--jobs", "2"], [], {}, lambda: 0.0, lambda: None, lambda: None)
    elif engine == "slurm":
        if why_no_slurm():
            sys.exit(why_no_slurm())
        with SlurmCluster(folder, slots=slots) as slurm:
            yield Cluster(
                ["--engine", "slurm"],
                [],
                dict(slurm.environment),
                lambda: slurm.cpu_s(NODES[1]),
                lambda: slurm.kill_node(NODES[1]),
                lambda: slurm.start_node(NODES[1]),
            )
    else:
        if why_no_ray():
            sys.exit(why_no_ray())
        with RayCluster(folder, slots=slots) as ray:
            yield Cluster(
                ["--engine", "ray", "--address", ADDRESS],
                ray.prefix,
                dict(ray.environment),
                lambda: ray.cpu_s("r2"),
                lambda: ray.kill_node("r2"),
                lambda: ray.start_node("r2"),
            )


def run(engine: str, out: Path, words: Sequence[str], kill_s: float | None, slots: int) -> None:
    """Run a command of `mvtf-eval` on a cluster."""
    out.mkdir(parents=True)
    with TemporaryDirectory() as folder, started(engine, Path(folder) / "cluster", slots) as cluster:
        command = [*cluster.prefix, sys.executable, "-c", PROGRAM, *words, *cluster.words]
        command += ["--runs", str(out / "runs"), "--site", str(out / "site")]
        start = time.monotonic()
        with (out / "stdout").open("wb") as stdout, (out / "stderr").open("wb") as stderr:
            surroundings = {**os.environ, **cluster.environment}
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=surroundings)
            killed = None if kill_s is None else _kill(cluster, process, kill_s, out / "stderr", start)
            code = process.wait()
        seconds = round(time.monotonic() - start, 1)
    found = {"engine": engine, "words": list(words), "exit": code, "s": seconds, "killed_at_s": killed}
    write_json(out / "trial.json", found)
    print(json.dumps(found))


def _kill(
    cluster: Cluster, process: "subprocess.Popen[bytes]", kill_s: float, stderr: Path, start: float
) -> float | None:
    """End the second node in the middle of its work; start it again when the command has reported the loss."""
    while process.poll() is None and cluster.cpu_s() < kill_s:
        time.sleep(0.5)
    if process.poll() is not None:
        return None
    cluster.kill()
    after = round(time.monotonic() - start, 1)
    while process.poll() is None and b"lost: " not in stderr.read_bytes():
        time.sleep(1)
    if process.poll() is None:
        cluster.revive()
    return after


def contents(out: Path) -> dict[str, dict[str, bytes]]:
    """What a trial made, by kind and name: the table, pictures, sorted rows."""
    runs = {}
    for one in load_runs(out / "runs"):
        name = one.folder.relative_to(out / "runs").as_posix()
        runs[name] = "\n".join(sorted(row.to_json() for row in one.rows)).encode()
    found = {
        "table": {"stdout": (out / "stdout").read_bytes()},
        "pictures": _files(out / "runs", "*/*/*/*/pred/**/*"),
        "rows": runs,
    }
    assert all(found.values()), f"{out}: nothing to compare"
    return found


def _files(root: Path, pattern: str) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.glob(pattern) if path.is_file()}


def rebuilt(one: Path, other: Path, folder: Path) -> Path:
    """Build the pages of one trial from its records, with the costs and provenance of another; return them."""
    shutil.copytree(other / "runs", folder / "runs", ignore=shutil.ignore_patterns(".*"))
    records = [path for name in ("manifest", "metrics-*") for path in folder.glob(f"runs/*/*/*/*/{name}.json")]
    for path in records:
        fields = json.loads(path.read_text())
        known = json.loads((one / path.relative_to(folder)).read_text())
        write_json(path, fields | {name: known[name] for name in ("stages", "pedigree") if name in fields})
    words = json.loads((other / "trial.json").read_text())["words"]
    command = [sys.executable, "-c", PROGRAM, *words, "--jobs", "1", "--runs", str(folder / "runs")]
    subprocess.run([*command, "--site", str(folder / "site")], check=True, capture_output=True)
    return folder / "site"


def compare(one: Path, other: Path) -> bool:
    """Print what differs between two trials; return whether nothing does."""
    ours, theirs = contents(one), contents(other)
    with TemporaryDirectory() as folder:
        ours["pages"] = _files(one / "site", "**/*")
        theirs["pages"] = _files(rebuilt(one, other, Path(folder)), "**/*")
    same = True
    for kind, files in ours.items():
        names = sorted(files.keys() | theirs[kind].keys())
        differ = [name for name in names if files.get(name) != theirs[kind].get(name)]
        print(json.dumps({"kind": kind, "files": len(names), "differ": differ}))
        same = same and not differ
    return same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("engine", choices=("local", "slurm", "ray"))
    runs.add_argument("out", type=Path, help="a new folder")
    runs.add_argument("--kill", type=float, metavar="S")
    runs.add_argument("--slots", type=int, default=1, help="of each node")
    runs.add_argument("words", nargs="+", help="after --, a table's command and its options")
    both = commands.add_parser("compare")
    both.add_argument("one", type=Path)
    both.add_argument("other", type=Path)
    given = parser.parse_args()
    if given.command == "compare":
        sys.exit(0 if compare(given.one, given.other) else 1)
    run(given.engine, given.out.absolute(), given.words, given.kill, given.slots)


if __name__ == "__main__":
    main()
