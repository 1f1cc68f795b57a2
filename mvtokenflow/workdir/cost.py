"""What the stages of a run cost: seconds and peak memory, kept beside what they made."""

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
    """Of one stage.

    Attributes:
        stage: its name.
        seconds: wall time, over all calls that worked on it; what a killed process spent is not in it.
        peak_mib: most memory the process held meanwhile; of the device on CUDA. Where the system cannot start
            the count anew, the process's peak so far; 0 on Windows.
        finished: whether the stage is complete.
    """

    stage: str
    seconds: float
    peak_mib: float
    finished: bool

    @classmethod
    def of(cls, fields: Any) -> "Cost":
        """The cost that `asdict` made `fields` of. Raises TypeError or ValueError for anything else."""
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
    """The costs in a file of `measured`, in the order the stages were begun; none if there is no file.

    Raises:
        DataError: the file is damaged.
    """
    if not path.exists():
        return ()
    cure = "delete it and run the same command again; only what the stages cost is lost"
    entries = read_json(path, list, cure, check=lambda entries: [Cost.of(entry) for entry in entries])
    return tuple(Cost.of(entry) for entry in entries)


def keep_cost(path: Path, cost: Cost) -> None:
    """Put the cost of a stage that was computed elsewhere into a file of `measured`."""
    known = {known.stage: known for known in read_costs(path)} | {cost.stage: cost}
    write_json(path, [asdict(entry) for entry in known.values()])


@contextmanager
def measured(stage: str, path: Path, device: torch.device) -> Iterator[None]:
    """Add what happens inside to the cost of `stage` in the file `path`; reading a finished stage is free."""
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
        torch.cuda.synchronize(device)  # and start CUDA: no stage may have touched the device yet
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        with suppress(OSError):  # not everywhere allowed
            _CLEAR.write_text("5")  # Linux: peak resident size starts from the present one


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
