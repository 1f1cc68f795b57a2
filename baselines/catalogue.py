"""The methods by name; resolved on use, so that listing them imports nothing heavy."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import get_args

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.base.imports import attribute_at
from mvtokenflow.base.names import brief, name_fault
from mvtokenflow.baselines.method import Configurable, Method, Setup, Source

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
METHODS: Mapping[str, str] = MappingProxyType({**NATIVES, **BOUNDS, **KNOWN_ANSWERS})

_WITHOUT = "no-"


def method_named(name: str, setup: Setup | None = None) -> Method:
    """The method `name`, or the object at "package.module:attribute" for a method of your own.

    Names of several parts that are left out, "no-enlarged-attention+normal", need not be in the catalogue.

    Args:
        setup: for methods that mind it.

    Raises:
        ConfigError: unknown name, part or preset, or nothing to import there.
    """
    method = _several_left_out(name) or _imported(name)
    if setup is not None and isinstance(method, Configurable):
        return method.configured(setup)
    return method


def _several_left_out(name: str) -> Method | None:
    if ":" in name or "+" not in name or not name.startswith(_WITHOUT):
        return None
    from mvtokenflow.baselines.mvtokenflow import ablation

    return ablation(*name.removeprefix(_WITHOUT).split("+"))


def is_catalogued(name: str) -> bool:
    """Whether a name means a method of this package, so that data may name it."""
    return ":" not in name and (name in METHODS or ("+" in name and name.startswith(_WITHOUT)))


def _imported(name: str) -> Method:
    place = name if ":" in name else choose("method", name, METHODS)
    method: Method = attribute_at(place, f"method {brief(name)}")
    if name in METHODS:
        return method
    for needed in ("name", "source", "uses_truth", "config", "weights", "render"):
        if not hasattr(method, needed):
            raise ConfigError(
                f"method {name}: {place} has no '{needed}'; see the Method protocol in baselines/"
            )
    if isinstance(method, type):
        raise ConfigError(f"method {name}: {place} is a class; name an object made of it")
    for needed in ("config", "weights", "render"):
        if not callable(getattr(method, needed)):
            raise ConfigError(
                f"method {name}: '{needed}' of {place} is no function; see the Method protocol in baselines/"
            )
    if fault := name_fault(method.name):
        raise ConfigError(f"method {name}: its name becomes a folder, but it {fault}; give {place} another one")
    if method.source not in get_args(Source):
        raise ConfigError(
            f"method {name}: its source is {brief(repr(method.source))}; one of {', '.join(get_args(Source))}"
        )
    return method
