"""What this machine offers the harness."""

import os
import shutil
from dataclasses import dataclass

from mvtokenflow.base.errors import UserError
from mvtokenflow.base.files import expanded
from mvtokenflow.weights import ledger as weights


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at: what was found, and how to mend it where it is missing."""

    name: str
    ok: bool
    found: str
    fix: str = ""


def examine() -> list[Check]:
    """Look at torch, disk, compiled code, weights and datasets; change nothing.

    Raises:
        ConfigError: a variable names a folder in the home folder of nobody.
    """
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
        _compiled_code(),
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


def _compiled_code() -> Check:
    from mvtokenflow.base.compiled import code_folder

    name, folder = "compiled code", code_folder()
    if folder is not None:
        return Check(name=name, ok=True, found=f"kept in {folder}")
    return Check(
        name=name,
        ok=False,
        found="kept nowhere, so that every process compiles anew, which takes a minute",
        fix="set NUMBA_CACHE_DIR or MVTF_CACHE to a folder that can be written",
    )


def _consistent4d() -> Check:
    from mvtokenflow.datasets.consistent4d import find_references

    name, fix = "dataset consistent4d", "mvtf-eval datasets verify consistent4d says what to download"
    root = os.environ.get("MVTF_CONSISTENT4D")
    if not root:
        return Check(name=name, ok=False, found="MVTF_CONSISTENT4D is not set", fix=fix)
    folder = expanded(root, "MVTF_CONSISTENT4D")
    try:
        return Check(name=name, ok=True, found=str(find_references(folder)))
    except UserError as error:
        return Check(name=name, ok=False, found=str(error), fix=fix)
