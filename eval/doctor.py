"""What this machine offers the harness."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from mvtokenflow.errors import UserError
from mvtokenflow.eval import weights


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at: what was found, and how to mend it where it is missing."""

    name: str
    ok: bool
    found: str
    fix: str = ""


def examine() -> list[Check]:
    """Look at torch, memory, disk, weights, datasets and the browser for screenshots; change nothing."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    checks = [
        Check(name="torch", ok=True, found=f"{torch.__version__}, {os.cpu_count()} cores"),
        Check(
            name="accelerator",
            ok=bool(gpus),
            found=", ".join(gpus) or "none; everything here runs on the CPU, the paper preset needs CUDA",
        ),
        _disk(),
    ]
    for state in weights.status():
        ready = state.state == "ready"
        get = (
            "reinstall mvtokenflow"
            if state.weights.shipped
            else f"mvtf-eval weights fetch {state.weights.name}"
        )
        fix = "" if ready else get
        uses = ", ".join(state.weights.metrics)
        checks.append(
            Check(name=f"weights {state.weights.name}", ok=ready, found=f"{state.state}, for {uses}", fix=fix)
        )
    checks.append(_consistent4d())
    return checks


def _disk() -> Check:
    folder = weights.root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    return Check(
        name="disk", ok=free > 5, found=f"{free:.0f} GiB free at {folder}", fix="" if free > 5 else "make room"
    )


def _consistent4d() -> Check:
    from mvtokenflow.datasets.consistent4d import find_references

    name, fix = "dataset consistent4d", "mvtf-eval datasets verify consistent4d says what to download"
    root = os.environ.get("MVTF_CONSISTENT4D")
    if not root:
        return Check(name=name, ok=False, found="MVTF_CONSISTENT4D is not set", fix=fix)
    try:
        return Check(name=name, ok=True, found=str(find_references(Path(root))))
    except UserError as error:
        return Check(name=name, ok=False, found=str(error), fix=fix)
