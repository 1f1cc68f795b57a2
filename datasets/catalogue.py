"""The datasets by name; resolved on use, so that listing them imports nothing heavy."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mvtokenflow.datasets.folder import FolderDataset
from mvtokenflow.datasets.scene import Dataset
from mvtokenflow.errors import ConfigError
from mvtokenflow.files import choose

DATASETS: Mapping[str, str] = MappingProxyType(
    {
        "toy4d": "mvtokenflow.datasets.toy4d.dataset:Toy4D",
        "consistent4d": "mvtokenflow.datasets.consistent4d:Consistent4D",
    }
)


def open_dataset(name: str, root: Path | None = None) -> Dataset:
    """A dataset of the catalogue, of a third party, or made of your own clips.

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
    if "/" in name or Path(name).exists():
        if root is not None:
            raise ConfigError(f"dataset {name}: a path says where its files are; leave out the root {root}")
        return FolderDataset(Path(name))
    return _load(name, name if ":" in name else choose("dataset", name, DATASETS), root)


def _load(name: str, place: str, root: Path | None) -> Dataset:
    module, _, attribute = place.partition(":")
    try:
        kind: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"dataset {name}: cannot import {place} ({error}); is its package installed?"
        ) from error
    made: Any = kind() if root is None else kind(root)
    for needed in ("name", "scene_names", "scene"):
        if not hasattr(made, needed):
            raise ConfigError(
                f"dataset {name}: {place} has no '{needed}'; see the Dataset protocol in datasets/"
            )
    dataset: Dataset = made
    return dataset
