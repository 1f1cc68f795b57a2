"""The methods by name; resolved on use, so that listing them imports nothing heavy."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from mvtokenflow.baselines.method import Method
from mvtokenflow.errors import ConfigError
from mvtokenflow.files import choose

_KNOWN = "mvtokenflow.baselines.known_answer"
METHODS: Mapping[str, str] = MappingProxyType(
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


def method_named(name: str) -> Method:
    """The method `name`, or the object at "package.module:attribute" for a method of your own.

    Raises:
        ConfigError: unknown name, or nothing to import there.
    """
    place = name if ":" in name else choose("method", name, METHODS)
    module, _, attribute = place.partition(":")
    try:
        method: Method = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"method {name}: cannot import {place} ({error}); is its package installed?"
        ) from error
    for needed in ("name", "source", "uses_truth", "config", "weights", "render"):
        if not hasattr(method, needed):
            raise ConfigError(
                f"method {name}: {place} has no '{needed}'; see the Method protocol in baselines/"
            )
    return method
