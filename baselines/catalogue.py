"""Resolves methods by name on use, so that listing them imports nothing heavy."""

from typing import get_args

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.base.imports import attribute_at
from mvtokenflow.base.names import brief, name_fault
from mvtokenflow.baselines.method import Configurable, Method, Setup, Source
from mvtokenflow.baselines.names import BOUNDS as BOUNDS
from mvtokenflow.baselines.names import KNOWN_ANSWERS as KNOWN_ANSWERS
from mvtokenflow.baselines.names import METHODS as METHODS
from mvtokenflow.baselines.names import NATIVES as NATIVES
from mvtokenflow.baselines.names import is_ablation_of_several, parts_of
from mvtokenflow.baselines.names import is_catalogued as is_catalogued


def method_named(name: str, setup: Setup | None = None) -> Method:
    """Return the method `name`, or the object at "package.module:attribute" for a method of your own.

    Ablations of several parts, "no-enlarged-attention+normal", need not be in the catalogue.

    Args:
        setup: for methods that follow one (`Configurable`).

    Raises:
        ConfigError: unknown name, part or preset, or nothing to import there.
    """
    method = _several_left_out(name) or _imported(name)
    if setup is not None and isinstance(method, Configurable):
        return method.configured(setup)
    return method


def _several_left_out(name: str) -> Method | None:
    if not is_ablation_of_several(name):
        return None
    from mvtokenflow.baselines.mvtokenflow import ablation

    return ablation(*parts_of(name))


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
                f"method {name}: '{needed}' of {place} is not a function; see the Method protocol in baselines/"
            )
    if fault := name_fault(method.name):
        raise ConfigError(f"method {name}: its name becomes a folder, but it {fault}; give {place} another one")
    if method.source not in get_args(Source):
        raise ConfigError(
            f"method {name}: its source is {brief(repr(method.source))}; one of {', '.join(get_args(Source))}"
        )
    return method
