"""Resolves datasets by name on use, so that listing them imports nothing heavy."""

from pathlib import Path
from typing import Any

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.base.imports import attribute_at
from mvtokenflow.base.names import brief, name_fault
from mvtokenflow.datasets.folder import FolderDataset
from mvtokenflow.datasets.names import DATASETS as DATASETS
from mvtokenflow.datasets.names import TOYS as TOYS
from mvtokenflow.datasets.names import is_path
from mvtokenflow.datasets.scene import Dataset


def open_dataset(name: str, root: Path | None = None) -> Dataset:
    """Open a dataset of the catalogue, of a third party, or of your own clips.

    Args:
        name: a name in `DATASETS`; a path to a clip or a folder of clips (anything that exists or holds a
            path separator, e.g. `./toy4d` for a folder of that name); or "package.module:Class", whose
            class offers the `Dataset` protocol and is called with `root`, if one is given.
        root: where the dataset's files are or go.

    Raises:
        ConfigError: unknown name (suggests the nearest), nothing to import there, not a dataset.
    """
    if name in DATASETS:
        return _load(name, DATASETS[name], root)
    if is_path(name):
        if root is not None:
            raise ConfigError(f"dataset {name}: a path needs no root; leave out the root {root}")
        return FolderDataset(Path(name))
    return _load(name, name if ":" in name else choose("dataset", name, DATASETS), root)


def is_catalogued(name: str) -> bool:
    """Return whether a name is a dataset of this package, which data files may therefore name."""
    return name in DATASETS


def _load(name: str, place: str, root: Path | None) -> Dataset:
    kind: Any = attribute_at(place, f"dataset {brief(name)}")
    if not isinstance(kind, type):
        raise ConfigError(f"dataset {name}: {place} is no class; name the class that offers the scenes")
    arguments = () if root is None else (root,)
    if name in DATASETS:
        known: Dataset = kind(*arguments)
        return known
    try:
        made: Any = kind(*arguments)
    except TypeError as error:
        how = "without arguments" if root is None else "with the folder of its files alone"
        raise ConfigError(f"dataset {name}: {place} cannot be called {how} ({error})") from error
    for needed in ("name", "scene_names", "scene"):
        if not hasattr(made, needed):
            raise ConfigError(
                f"dataset {name}: {place} has no '{needed}'; see the Dataset protocol in datasets/"
            )
    if fault := name_fault(made.name):
        raise ConfigError(
            f"dataset {name}: its name becomes a folder, but it {fault}; give {place} another one"
        )
    dataset: Dataset = made
    return dataset
