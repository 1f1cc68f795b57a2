"""The names of methods and their modules; imports nothing heavy."""

from collections.abc import Mapping
from types import MappingProxyType

from mvtokenflow.base.files import choose
from mvtokenflow.method.config import SWITCHES

_KNOWN = "mvtokenflow.baselines.known_answer"
_NATIVE = "mvtokenflow.baselines.mvtokenflow"

# Rows whose place in a table is known beforehand.
KNOWN_ANSWERS: Mapping[str, str] = MappingProxyType(
    {
        "ground-truth": f"{_KNOWN}:GROUND_TRUTH",
        "copy-input": f"{_KNOWN}:COPY_INPUT",
        "one-frame-lag": f"{_KNOWN}:ONE_FRAME_LAG",
        "first-frame": f"{_KNOWN}:FIRST_FRAME",
        "shuffled-frames": f"{_KNOWN}:SHUFFLED_FRAMES",
        "blurred": f"{_KNOWN}:BLURRED",
        "mirrored": f"{_KNOWN}:MIRRORED",
        "white": f"{_KNOWN}:WHITE",
    }
)
# The same across views and times; see `known_matrix`.
KNOWN_MATRICES: Mapping[str, str] = MappingProxyType(
    {
        name: f"mvtokenflow.baselines.known_matrix:{name.upper().replace('-', '_')}"
        for name in ("shuffled-times", "shuffled-views", "swapped-views", "lagging-view")
    }
)
# The method, without its last stage, and without one part each. "no-flow" is the paper's "w/o flow".
NATIVES: Mapping[str, str] = MappingProxyType(
    {
        "mvtokenflow": f"{_NATIVE}:FULL",
        "coarse": f"{_NATIVE}:COARSE",
        "no-enlarged-attention": f"{_NATIVE}:NO_ENLARGED_ATTENTION",
        "no-propagation": f"{_NATIVE}:NO_PROPAGATION",
        "no-flow-loss": f"{_NATIVE}:NO_FLOW_LOSS",
        "no-flow": f"{_NATIVE}:NO_FLOW",
        "no-normal": f"{_NATIVE}:NO_NORMAL",
        "no-regeneration": f"{_NATIVE}:NO_REGENERATION",
    }
)
# The method's reconstruction from the ground truth's views: an upper bound, on toy4d only.
BOUNDS: Mapping[str, str] = MappingProxyType({"true-views": f"{_NATIVE}:TRUE_VIEWS"})
# Published methods, run with this package's engine.
_RIVALS = ("consistent4d", "sc4d", "stag4d", "dg4d", "diffusion2")
RIVALS: Mapping[str, str] = MappingProxyType(
    {name: f"mvtokenflow.baselines.{name}.row:{name.upper()}" for name in _RIVALS}
)
# Views of the prior before any field is fitted, on the datasets that have the truth of them; see `generated`.
_STEPS = ("", "+attention", "+front", "+front-in-place", "+all-exact", "+all-in-place")
GENERATED: Mapping[str, str] = MappingProxyType(
    {
        name: f"mvtokenflow.baselines.generated:{name.upper().replace('-', '_').replace('+', '_')}"
        for name in (
            *(f"views{step}" for step in _STEPS),
            *(f"independent-views{step}" for step in _STEPS),
            *("first-pass", "second-pass"),
        )
    }
)
METHODS: Mapping[str, str] = MappingProxyType(
    {**NATIVES, **RIVALS, **BOUNDS, **KNOWN_ANSWERS, **KNOWN_MATRICES, **GENERATED}
)

# Words among the names of `--methods` that stand for several.
GROUPS: Mapping[str, Mapping[str, str]] = MappingProxyType({"rivals": RIVALS, "generated": GENERATED})
WITHOUT = "no-"  # begins the names of ablations, before the parts that are left out, joined by "+"


def method_names(text: str) -> list[str]:
    """Return the names in `text`, which commas separate; the words of `GROUPS` stand for all of a group."""
    given = [name for name in text.split(",") if name]
    return [name for word in given for name in GROUPS.get(word, (word,))]


def check_method_name(name: str) -> None:
    """Refuse a name that `catalogue.method_named` could not resolve, before anything is imported.

    Raises:
        ConfigError: an unknown name or part of the method (suggests the nearest); names of the form
            "package.module:attribute" are accepted.
    """
    if ":" in name:
        return
    if is_ablation_of_several(name):
        for part in parts_of(name):
            choose("part of the method", part, SWITCHES)
    else:
        choose("method", name, METHODS)


def is_ablation_of_several(name: str) -> bool:
    """Return whether a name is that of the method without several parts, "no-normal+flow"."""
    return ":" not in name and "+" in name and name.startswith(WITHOUT)


def parts_of(name: str) -> list[str]:
    """Return the parts that an ablation leaves out, by its name."""
    return name.removeprefix(WITHOUT).split("+")


def is_catalogued(name: str) -> bool:
    """Return whether a name is a method of this package, which data files may therefore name."""
    return ":" not in name and (name in METHODS or is_ablation_of_several(name))
