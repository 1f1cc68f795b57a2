"""The names of datasets and their modules; imports nothing heavy."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from mvtokenflow.base.files import choose

DATASETS: Mapping[str, str] = MappingProxyType(
    {
        "toy4d": "mvtokenflow.datasets.toy4d.dataset:Toy4D",
        "toy4d-pinhole": "mvtokenflow.datasets.toy4d.dataset:Toy4DPinhole",
        "toy4d-wild": "mvtokenflow.datasets.toy4d.dataset:Toy4DWild",
        "toy4d-views": "mvtokenflow.datasets.toy4d.dataset:Toy4DViews",
        "toy4d-wild-views": "mvtokenflow.datasets.toy4d.dataset:Toy4DWildViews",
        "toy4d-matrix": "mvtokenflow.datasets.toy4d.dataset:Toy4DMatrix",
        "toy4d-wild-matrix": "mvtokenflow.datasets.toy4d.dataset:Toy4DWildMatrix",
        "consistent4d": "mvtokenflow.datasets.consistent4d:Consistent4D",
        "consistent4d-ortho": "mvtokenflow.datasets.consistent4d:Orthographic",
        "consistent4d-r1.5": "mvtokenflow.datasets.consistent4d:Nearer",
        "consistent4d-r2.5": "mvtokenflow.datasets.consistent4d:Farther",
        "mv4dbench": "mvtokenflow.datasets.mv4dbench:MV4DBench",
        "consistent4d-videos": "mvtokenflow.datasets.consistent4d_videos:Consistent4DVideos",
    }
)
# The truth of views that the small prior generates, for rows that stop there.
GENERATED_VIEWS = ("toy4d-views", "toy4d-wild-views")
# 21 views by 21 times.
MATRICES = ("toy4d-matrix", "toy4d-wild-matrix")
# Those with exact geometry.
TOYS = ("toy4d", "toy4d-pinhole", "toy4d-wild", *GENERATED_VIEWS)


def check_dataset_name(name: str) -> None:
    """Refuse a name that `catalogue.open_dataset` could not open, before anything is imported.

    Raises:
        ConfigError: not in the catalogue, not of the form "package.module:Class", and no path (suggests the
            nearest name).
    """
    if name not in DATASETS and not is_path(name) and ":" not in name:
        choose("dataset", name, DATASETS)


def is_path(name: str) -> bool:
    """Return whether a name outside the catalogue is a path: it exists, or holds a path separator."""
    return name not in DATASETS and ("/" in name or _exists(name))


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # no file system takes such a name
        return False
