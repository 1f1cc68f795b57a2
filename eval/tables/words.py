"""Parses words of a command line or a recipe: scenes of a dataset, seeds, a shard."""

from collections.abc import Sequence

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.names import brief, name_fault
from mvtokenflow.base.seeds import MAX_SEED
from mvtokenflow.datasets.scene import Dataset

MAX_SEEDS = 1000  # of one grid
_MAX_DIGITS = len(str(MAX_SEED))


def scene_names(dataset: Dataset) -> Sequence[str]:
    """Return the names of a dataset's scenes, each checked to be usable as a folder's name.

    Raises:
        DataError: one is not.
    """
    names = dataset.scene_names()
    for name in names:
        if fault := name_fault(name):
            raise DataError(
                f"{brief(str(dataset.name))}: the scene {brief(repr(name))} becomes a folder of runs, but its "
                f"name {fault}; rename it"
            )
    return names


def scenes_named(dataset: Dataset, text: str) -> list[str]:
    """Return the scenes in `text`: names separated by commas, or "all".

    Raises:
        ConfigError: the dataset has no such scene.
    """
    known = list(scene_names(dataset))
    wanted = known if text == "all" else list(dict.fromkeys(text.split(",")))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(f"{dataset.name} has no scene {brief(', '.join(unknown))}. Known: {', '.join(known)}")
    return wanted


def seeds_named(text: str) -> list[int]:
    """Parse seeds separated by commas.

    Raises:
        ConfigError: one is not a whole number from 0 to `MAX_SEED`.
    """
    parts = text.split(",")
    given = f"--seeds {brief(text)}"
    if not all(map(_is_whole, parts)):
        raise ConfigError(f"{given}: write whole numbers from 0 on, for example 0,1,2")
    if not all(len(part) <= _MAX_DIGITS and int(part) <= MAX_SEED for part in parts):
        raise ConfigError(f"{given}: seeds end at {MAX_SEED} (2**62); write smaller ones")
    seeds = list(dict.fromkeys(map(int, parts)))
    if len(seeds) > MAX_SEEDS:
        raise ConfigError(f"{given}: {len(seeds)} seeds; a grid has at most {MAX_SEEDS}, write fewer")
    return seeds


def shard_named(text: str) -> tuple[int, int]:
    """Parse "i/n" as (i, n) with 0 <= i < n.

    Raises:
        ConfigError: it is not that.
    """
    index, _, count = text.partition("/")
    if not all(_is_whole(part) and len(part) <= _MAX_DIGITS for part in (index, count)) or int(index) >= int(
        count
    ):
        raise ConfigError(f"--shard {brief(text)}: write i/n with 0 <= i < n, for example 0/4")
    return int(index), int(count)


def _is_whole(text: str) -> bool:
    """Return whether the text is ASCII digits only; `isdigit` accepts characters that `int` refuses."""
    return text.isascii() and text.isdigit()
