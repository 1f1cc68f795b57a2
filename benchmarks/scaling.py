"""How the time of tasks of a fixed length falls with slots: a SLURM cluster on this machine, and processes.

    python benchmarks/scaling.py --seconds 30 --figure docs/images/scaling.png

A task sleeps, so that slots may outnumber cores. Needs root and Debian's slurm-wlm and munge. For each number
of slots prints the seconds until the last of its tasks has arrived, the fraction of linear, the overhead of a
task (what a slot spends on one besides sleeping: the scheduler, and a Python process that is started for it),
and the load of the machine, which the overhead depends on.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "builders"))
from slurm_cluster import SlurmCluster, why_not

from mvtokenflow.eval.engine.engine import Placement, Work
from mvtokenflow.eval.engine.slurm import Slurm

END = "end.json"
SLOTS = (1, 2, 4, 8)


def nap(words: str, given: Mapping[str, bytes]) -> Iterator[tuple[str, Path]]:
    """Sleep so many seconds, and deliver an empty end."""
    time.sleep(float(words))
    with TemporaryDirectory() as folder:
        end = Path(folder) / END
        end.write_text("{}")
        yield END, end


def on_slurm(folder: Path, seconds: float, tasks: int, slots: int) -> float:
    """Return the seconds from submitting to the last arrival."""
    engine = Slurm(folder, nap, Placement(at_once=slots, partition="gpu"))
    works = {f"task{number:03d}": Work(words=str(seconds)) for number in range(tasks)}
    start = time.time()
    engine.submit(works)
    arrived: list[Path] = []
    while len(arrived) < tasks:
        time.sleep(0.5)
        arrived = [path for path in engine.arrived.iterdir() if path.name.endswith(END) and path.name[0] == "t"]
    return max(path.stat().st_mtime for path in arrived) - start


def on_processes(folder: Path, seconds: float, tasks: int, slots: int) -> float:
    """As `on_slurm`, on processes of this machine, which sleep one task after the other."""
    start = time.time()
    with ProcessPoolExecutor(slots) as pool:
        list(pool.map(time.sleep, [seconds] * tasks))
    return time.time() - start


def measured(engine: str, seconds: float, per_slot: int) -> list[dict[str, Any]]:
    """Measure an engine on each number of slots; print as it goes."""
    run = on_slurm if engine == "slurm" else on_processes
    found = []
    for slots in SLOTS:
        tasks = slots * per_slot
        with TemporaryDirectory() as folder:
            taken = run(Path(folder), seconds, tasks, slots)
        ideal = seconds * per_slot
        found.append(
            {
                "engine": engine,
                "slots": slots,
                "tasks": tasks,
                "s": round(taken, 1),
                "of_linear": round(ideal / taken, 3),
                "overhead_s": round((taken - ideal) / per_slot, 2),
                "load": round(os.getloadavg()[0], 1),
            }
        )
        print(json.dumps(found[-1]), flush=True)
    return found


def draw(found: Sequence[Mapping[str, Any]], seconds: float, path: Path) -> None:
    """Draw the speed in slots over the number of slots."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    axes.plot(SLOTS, SLOTS, color="0.7", linewidth=1, label="linear")
    for engine, marker in (("slurm", "o"), ("local", "s")):
        rows = [row for row in found if row["engine"] == engine]
        if rows:
            speed = [row["slots"] * row["of_linear"] for row in rows]
            axes.plot([row["slots"] for row in rows], speed, marker=marker, label=engine)
    axes.set(xlabel="slots", ylabel=f"tasks of {seconds:g} s at a time", xscale="log", yscale="log")
    axes.set_xticks(SLOTS, map(str, SLOTS))
    axes.set_yticks(SLOTS, map(str, SLOTS))
    axes.minorticks_off()
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--per-slot", type=int, default=2, help="tasks")
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    if why_not():
        sys.exit(why_not())
    with (
        TemporaryDirectory() as folder,
        SlurmCluster(Path(folder) / "cluster", slots=SLOTS[-1] // 2) as cluster,
    ):
        os.environ |= cluster.environment
        found = measured("slurm", given.seconds, given.per_slot)
    found += measured("local", given.seconds, given.per_slot)
    if given.figure is not None:
        draw(found, given.seconds, given.figure)


if __name__ == "__main__":
    main()
