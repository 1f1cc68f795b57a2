"""Record of what a folder's results were computed with: versions, platform, device."""

import platform
from pathlib import Path
from typing import Any

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.files import write_json
from mvtokenflow.base.version import __version__
from mvtokenflow.workdir.provenance import ABSENT, versions

ENVIRONMENT_FILE = "environment.json"


def note_environment(folder: Path, device: str) -> None:
    """Add this process's versions and device to FOLDER/environment.json, unless its last entry is the same.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / ENVIRONMENT_FILE
    here = {
        "mvtokenflow": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": _device_name(device),
        "packages": {name: version for name, version in versions().items() if version != ABSENT},
    }
    cure = "delete it and run the same command again; only what earlier calls computed with is lost"
    known: list[dict[str, Any]] = read_json(path, list, cure, check=check_notes) if path.exists() else []
    if known[-1:] != [here]:
        write_json(path, [*known, here])


def check_notes(notes: list[Any]) -> None:
    """Check the form of the file: a list of objects.

    Raises:
        TypeError: it has another.
    """
    if not notes or not all(isinstance(note, dict) for note in notes):
        raise TypeError("it is not a list of objects")


def _device_name(device: str) -> str:
    if device == "cpu":
        return device
    import torch

    return torch.cuda.get_device_name(torch.device(device))
