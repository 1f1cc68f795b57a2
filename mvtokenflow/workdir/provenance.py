"""Provenance of results: code, packages, weights, device and command."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from mvtokenflow.base.version import __version__

PACKAGES = (  # packages that affect numbers and pictures
    "av",
    "diffusers",
    "gsplat",
    "numba",
    "numpy",
    "open_clip_torch",
    "opencv-python-headless",
    "pillow",
    "rembg",
    "scikit-image",
    "scipy",
    "torch",
    "torchvision",
    "transformers",
)


ABSENT = "absent"


@cache
def versions() -> dict[str, str]:
    """Return the versions of the packages in `PACKAGES`; `ABSENT` for those that are not installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ABSENT
    return found


def _git(*arguments: str) -> str | None:
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():  # an installed wheel: never report another repository's commit
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def pedigree(device: str, weights: Mapping[str, str]) -> dict[str, Any]:
    """Collect the provenance that a manifest records beside its configuration.

    Args:
        device: torch device string the run used.
        weights: sha256 by name in the weights ledger.
    """
    status = _git("status", "--porcelain")
    return {
        "code": {
            "version": __version__,
            "commit": _git("rev-parse", "HEAD"),
            "dirty": None if status is None else bool(status),
        },
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": dict(versions()),
        "weights": dict(weights),
        "device": device_name(device),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def device_name(device: str) -> str:
    """Return "cpu" or the accelerator's name, with the TF32 setting that changes convolutions."""
    if device == "cpu":
        return "cpu"
    import torch

    tf32 = "tf32" if torch.backends.cudnn.allow_tf32 else "no-tf32"
    return f"{torch.cuda.get_device_name(torch.device(device))} ({tf32})"
