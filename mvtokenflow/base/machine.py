"""What this machine offers: torch, GPUs, a compiler for CUDA kernels, disk space, kept machine code."""

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at: what was found, and how to mend it where it is missing."""

    name: str
    ok: bool
    found: str
    fix: str = ""

    def line(self) -> str:
        """Return one line for people."""
        return f"{'ok     ' if self.ok else 'missing'} {self.name}: {self.found}" + (
            f"; {self.fix}" if self.fix else ""
        )

    def to_json(self) -> dict[str, str | bool]:
        """Return one JSON object."""
        return {"check": self.name, "ok": self.ok, "found": self.found, "fix": self.fix}


def torch_here() -> Check:
    """Report the version of torch, and the number of cores."""
    import torch

    return Check(name="torch", ok=True, found=f"{torch.__version__}, {os.cpu_count()} cores")


def accelerator() -> Check:
    """Report the CUDA devices, with their memory."""
    import torch

    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    found = ", ".join(f"{device.name}, {device.total_memory / _GIB:.0f} GiB" for device in devices)
    return Check(
        name="accelerator",
        ok=bool(devices),
        found=found or "none; everything here runs on the CPU, the paper preset needs CUDA",
    )


def cuda_compiler() -> Check:
    """Report what gsplat needs to compile its CUDA kernels at their first use, which takes minutes."""
    import torch

    wanted = torch.version.cuda
    if wanted is None:
        return Check(
            name="compiler for gsplat",
            ok=False,
            found="this torch is built without CUDA",
            fix="install torch with CUDA to run on a GPU",
        )
    found = {"nvcc": _nvcc(), "c++": _first(os.environ.get("CXX", ""), "c++", "g++"), "ninja": _first("ninja")}
    missing = [name for name, path in found.items() if path is None]
    cure = f"install the CUDA toolkit {wanted} (nvcc; CUDA_HOME names its folder), a C++ compiler and ninja"
    return Check(
        name="compiler for gsplat",
        ok=not missing,
        found=f"no {', no '.join(missing)}" if missing else ", ".join(str(path) for path in found.values()),
        fix=f"{cure}; gsplat compiles its CUDA kernels at their first use" if missing else "",
    )


def _nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    path = Path(home) / "bin" / "nvcc" if home else None
    return str(path) if path is not None and path.is_file() else shutil.which("nvcc")


def _first(*names: str) -> str | None:
    """Return the first of these programs that is installed."""
    return next((path for name in names if name and (path := shutil.which(name)) is not None), None)


def package(name: str, use: str, command: str) -> Check:
    """Report whether an optional package is installed."""
    there = find_spec(name) is not None
    return Check(
        name=f"package {name}",
        ok=there,
        found=f"{'installed' if there else 'not installed'}, for {use}",
        fix="" if there else command,
    )


def disk(folder: Path, least_gib: float) -> Check:
    """Report the free space where `folder` is, or will be."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / _GIB
    enough = free > least_gib
    return Check(
        name="disk",
        ok=enough,
        found=f"{free:.0f} GiB free at {folder}",
        fix="" if enough else f"make room: {least_gib:g} GiB are needed",
    )


def compiled_code() -> Check:
    """Report where machine code of compiled functions is kept."""
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
