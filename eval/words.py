"""What the words of a command line or a recipe name: scenes of a dataset, seeds."""

from mvtokenflow.datasets.scene import Dataset
from mvtokenflow.errors import ConfigError
from mvtokenflow.seeds import MAX_SEED


def scenes_named(dataset: Dataset, text: str) -> list[str]:
    """The scenes that `text` names: names separated by commas, or "all".

    Raises:
        ConfigError: the dataset has no such scene.
    """
    known = list(dataset.scene_names())
    wanted = known if text == "all" else list(dict.fromkeys(text.split(",")))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(f"{dataset.name} has no scene {', '.join(unknown)}. Known: {', '.join(known)}")
    return wanted


def seeds_named(text: str) -> list[int]:
    """Seeds separated by commas.

    Raises:
        ConfigError: one is not a whole number from 0 to `MAX_SEED`.
    """
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(f"--seeds {text}: write whole numbers from 0 on, for example 0,1,2")
    if not all(len(part) <= len(str(MAX_SEED)) and int(part) <= MAX_SEED for part in parts):
        raise ConfigError(f"--seeds {text}: seeds end at {MAX_SEED} (2**62); write smaller ones")
    return list(dict.fromkeys(map(int, parts)))
