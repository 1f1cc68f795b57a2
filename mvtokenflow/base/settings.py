"""Overrides `dotted.name=value` of nested frozen dataclasses, and type checks of settings from files."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, TypeVar

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.base.names import brief

Config = TypeVar("Config")


def overridden(config: Config, assignments: Sequence[str]) -> Config:
    """Return `config` with assignments `dotted.name=value` applied, e.g. `static.iterations=100`.

    Values are parsed by the setting's type: numbers, true or false, one of the words of a Literal, text, or a
    tuple with commas. `none` or `null` unsets an optional setting, and settings of a part that is None start
    from that part's defaults. Case does not matter except in text.

    Args:
        config: a frozen dataclass; its parts may be dataclasses too. All new values are set before checks run.

    Raises:
        ConfigError: not an assignment, an unknown setting, a value of another type, infinite or out of range.
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(
                f"'{brief(assignment)}' sets nothing; write it as name=value, or group.name=value in a group"
            )
        *groups, last = name.strip().split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{group} is set as a whole and in {name.strip()}; give one of them")
        if isinstance(place.get(last), dict):
            raise ConfigError(f"{name.strip()} is set as a whole and in part; give one of them")
        place[last] = text.strip()
    changed: Config = _replaced(config, tree, "")
    return changed


def _replaced(config: Any, tree: Mapping[str, Any], prefix: str) -> Any:
    """Replace settings of `config` by the texts of a tree, all at once, so that checks see them together."""
    hints = typing.get_type_hints(type(config))
    changes: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        kind = choose("setting", key, hints)
        parts: list[Any] = [option for option in _options(kind) if dataclasses.is_dataclass(option)]
        if isinstance(value, dict):
            if not parts:
                raise ConfigError(f"{name} is a single value, it has no setting {next(iter(value))}")
            inner = getattr(config, key)
            changes[key] = _replaced(parts[0]() if inner is None else inner, value, f"{name}.")
        elif parts and not _left_out(kind, value):
            raise ConfigError(
                f"{name} is a group; set one of {', '.join(f.name for f in fields(parts[0]))} in it"
            )
        else:
            changes[key] = _parsed(kind, value, name)
    return replace(config, **changes)


def _options(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type alone."""
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _left_out(kind: Any, text: str) -> bool:
    return text.lower() in ("none", "null") and type(None) in _options(kind)


def _parsed(kind: Any, text: str, name: str) -> Any:
    word = text.lower()
    if _left_out(kind, text):
        return None
    for option in _options(kind):
        if typing.get_origin(option) is Literal and word in typing.get_args(option):
            return word
        if typing.get_origin(option) is tuple:
            return tuple(_parsed(typing.get_args(option)[0], part, name) for part in text.split(","))
        if option is bool and word in ("true", "false"):
            return word == "true"
        if option in (int, float) and (number := _number(option, text)) is not None:
            return number
        if option is str and text:
            return text
    raise ConfigError(f"{name} is '{brief(text)}'; expected {_expected(kind)}")


def _number(kind: type[int] | type[float], text: str) -> int | float | None:
    """Parse a finite number in ASCII digits, an integer within 64 bits; None for anything else."""
    if not text.isascii() or "_" in text or len(text) > _MAX_DIGITS:
        return None
    try:
        number = kind(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < 2**63 else None


_MAX_DIGITS = 400  # longest accepted text of a number; the smallest float has 325


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Check a setting's range.

    Args:
        holds: whether the value is in range; an infinite number or NaN never is.
        name: of the setting, with its group.
        expected: the range, in words.

    Raises:
        ConfigError: it is not in range.
    """
    if not holds or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"{name} is {value!r}; expected {expected}")


def check_types(config: Any, group: str) -> None:
    """Check the types of settings that come from JSON or TOML files.

    Raises:
        ConfigError: names the first setting of `group` with a wrong type. Infinity and NaN are no numbers.
    """
    for name, kind in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not any(_is_a(value, option) for option in _options(kind)):
            raise ConfigError(f"{group}: {name} is {value!r}; expected {_expected(kind)}")


def _is_a(value: Any, option: Any) -> bool:
    if typing.get_origin(option) is tuple:
        part = typing.get_args(option)[0]
        return isinstance(value, tuple) and all(_is_a(entry, part) for entry in value)
    if option in (int, float) and isinstance(value, bool):
        return False
    if option is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, option)


def _expected(kind: Any) -> str:
    return " or ".join(_described(option) for option in _options(kind))


def _described(option: Any) -> str:
    if option is type(None):
        return "none"
    if typing.get_origin(option) is Literal:
        return " or ".join(typing.get_args(option))
    if typing.get_origin(option) is tuple:
        return "texts" if str in typing.get_args(option) else "numbers with commas"
    return {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}[option]
