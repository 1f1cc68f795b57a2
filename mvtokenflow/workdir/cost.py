"""Cost of a run's stages in seconds and peak memory, stored beside their results."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.files import write_json

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of one stage: seconds and peak memory.

    Attributes:
        stage: its name.
        seconds: wall time over all calls that worked on it, without the time lost in a killed process.
        peak_mib: peak memory of the process during the stage; of the device on CUDA. Where the system cannot
            reset the counter, the process's peak so far; 0 on Windows.
        finished: whether the stage is complete.
    """

    stage: str
    seconds: float
    peak_mib: float
    finished: bool

    @classmethod
    def of(cls, fields: Any) -> "Cost":
        """Rebuild a cost from the fields of `asdict`; raises TypeError or ValueError for anything else."""
        cost = cls(**fields)
        kinds = {"stage": str, "seconds": int | float, "peak_mib": int | float, "finished": bool}
        for name, kind in kinds.items():
            value = getattr(cost, name)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise TypeError(f"{name} is {value!r}")
        if not (0 <= cost.seconds < math.inf and 0 <= cost.peak_mib < math.inf):
            raise ValueError(f"{cost.seconds} s and {cost.peak_mib} MiB")
        return cost


def read_costs(path: Path) -> tuple[Cost, ...]:
    """Read the costs in a file of `measured`, in the order the stages started; empty if there is no file.

    Raises:
        DataError: the file is damaged.
    """
    if not path.exists():
        return ()
    cure = "delete it and run the same command again; only what the stages cost is lost"
    entries = read_json(path, list, cure, check=lambda entries: [Cost.of(entry) for entry in entries])
    return tuple(Cost.of(entry) for entry in entries)


def keep_cost(path: Path, cost: Cost) -> None:
    """Add the cost of a stage that was computed elsewhere to a file of `measured`."""
    known = {known.stage: known for known in read_costs(path)} | {cost.stage: cost}
    write_json(path, [asdict(entry) for entry in known.values()])


@contextmanager
def measured(stage: str, path: Path, device: torch.device) -> Iterator[None]:
    """Add the cost of the block to that of `stage` in `path`; reading a finished stage costs nothing."""
    known = {cost.stage: cost for cost in read_costs(path)}
    before = known.get(stage, Cost(stage=stage, seconds=0.0, peak_mib=0.0, finished=False))
    if before.finished:
        yield
        return
    _restart_peak(device)
    began, finished = time.perf_counter(), False
    try:
        yield
        finished = True
    finally:
        known[stage] = Cost(
            stage=stage,
            seconds=round(before.seconds + time.perf_counter() - began, 3),
            peak_mib=round(max(before.peak_mib, _peak_mib(device)), 1),
            finished=finished,
        )
        write_json(path, [asdict(cost) for cost in known.values()])


def _restart_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # also starts CUDA: no stage may have used the device yet
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        with suppress(OSError):  # not allowed everywhere
            _CLEAR.write_text("5")  # Linux: resets peak resident size to the current one


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    if sys.platform == "win32":
        return 0.0
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
