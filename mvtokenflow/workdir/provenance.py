"""Where a number comes from: code, packages, weights, device, command."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mvtokenflow
from mvtokenflow.base.files import digest
from mvtokenflow.workdir.store import package_versions

PACKAGES = (
    "numpy",
    "scipy",
    "pillow",
    "torch",
    "torchvision",
    "scikit-image",
    "open_clip_torch",
    "transformers",
    "diffusers",
    "gsplat",
    "numba",
    "opencv-python-headless",
)
_ROOMS = (".", "baselines", "datasets", "eval")  # folders of the package that numbers come from
_ELSEWHERE = {"baselines", "cli", "datasets", "eval", "reports"}  # rooms of their own, or without numbers
_SOURCES = ("*.py", "weights/*")


def code_digest(package: Path | None = None) -> str:
    """Hex sha256 over the code and the shipped weights that a number may depend on.

    Command lines and reports do not count.

    Args:
        package: folder of the package; the one that runs by default.
    """
    root = Path(mvtokenflow.__file__).parent if package is None else package
    files = {
        path.relative_to(root).as_posix(): path
        for room in _ROOMS  # one by one: in a checkout they are links, which a search does not follow
        for pattern in _SOURCES
        for path in (root / room).rglob(pattern)
        if path.is_file() and path.relative_to(root / room).parts[0] not in _ELSEWHERE
    }
    return digest((name, files[name].read_bytes()) for name in sorted(files))


def versions() -> dict[str, str]:
    """The versions of the packages that numbers come from; "absent" for those that are not installed."""
    return dict(package_versions(PACKAGES))


def _git(*arguments: str) -> str | None:
    checkout = Path(mvtokenflow.__file__).resolve().parents[1]
    if not (checkout / ".git").exists():  # an installed wheel: never report some other repository's commit
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def pedigree(device: str, weights: Mapping[str, str]) -> dict[str, Any]:
    """What a manifest records beside its configuration.

    Args:
        device: torch device string the run used.
        weights: sha256 by name in the weights ledger.
    """
    status = _git("status", "--porcelain")
    return {
        "code": {
            "version": mvtokenflow.__version__,
            "commit": _git("rev-parse", "HEAD"),
            "dirty": None if status is None else bool(status),
        },
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": versions(),
        "weights": dict(weights),
        "device": device_name(device),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def device_name(device: str) -> str:
    """ "cpu" or the accelerator's own name, with the TF32 setting that changes convolutions."""
    if device == "cpu":
        return "cpu"
    import torch

    tf32 = "tf32" if torch.backends.cudnn.allow_tf32 else "no-tf32"
    return f"{torch.cuda.get_device_name(torch.device(device))} ({tf32})"
