"""What the records of many runs have in common, held once in memory."""

from collections.abc import Callable
from typing import Any, TypeVar

from mvtokenflow.base.damaged import parse_json

T = TypeVar("T")


class Common:
    """Builds one object from all equal JSON texts."""

    def __init__(self) -> None:
        self._known: dict[tuple[Callable[[Any], Any], str], Any] = {}

    def __call__(self, build: Callable[[Any], T], text: str) -> T:
        """Return what `build` makes of a JSON text; of equal texts the same object.

        Raises:
            ValueError: no such JSON, or whatever `build` raises.
        """
        place = build, text
        if place not in self._known:
            self._known[place] = build(parse_json(text))
        found: T = self._known[place]
        return found
