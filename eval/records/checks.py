"""Validation of run records, field by field, as in `docs/schemas`; a ValueError names the field.

Records are untrusted data: names become folders, counts become loops, texts are shown on pages. Types are those
of JSON: true is no number, and a number is finite.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from mvtokenflow.base.names import brief, name_fault
from mvtokenflow.base.seeds import MAX_SEED
from mvtokenflow.workdir.artefacts import Artefact

SOURCES = ("native", "upstream-run", "released-renderings", "oracle", "quoted")  # see `baselines.method.Source`
MAX_FRAMES = 100_000  # in a clip
MAX_VIEWS = 1_000
MAX_ARTEFACTS = 1_000
MAX_TEXT = 100_000  # characters in one text
MAX_FEATURES = 100_000  # numbers for one clip

_HASH = re.compile(r"[0-9a-f]{8,64}\Z")
_SHORTER = 2**63  # integers from there on are no counts
_MAX_DEGREES = 1e6
_MAX_COST = 1e12  # seconds or MiB of a stage

Check = Callable[[Any, str], None]


def manifest(fields: Mapping[str, Any]) -> None:
    """Check the fields of `manifest.json`, except `schema`, as far as they are there."""
    _each(fields, _of_manifest())


@cache
def _of_manifest() -> Mapping[str, Check]:
    return {
        "dataset": name,
        "method": name,
        "source": _one_of(SOURCES),
        "uses_truth": flag,
        "scene": name,
        "tags": _list_of(text),
        "seed": _whole(0, MAX_SEED),
        "config": mapping,
        "config_hash": fingerprint,
        "reference_root": _place,
        "views": _list_of(_view, 0, MAX_VIEWS),
        "frames": _whole(1, MAX_FRAMES),
        "prediction_digest": fingerprint,
        "pedigree": pedigree,
        "stages": _list_of(_stage),
        "scene_digest": _or_none(fingerprint),
        "assumed": _list_of(text),
        "artefacts": _list_of(_artefact, 0, MAX_ARTEFACTS),
        "variant_of": _or_none(name),
    }


def row(fields: Mapping[str, Any]) -> None:
    """Check the fields of a line of `rows.jsonl`."""
    checks = _record()
    if "value" not in fields:
        raise ValueError("it has no 'value'")
    _each(fields, {**checks, "view": _view_or_all, "frame": _or_none(_whole(0, _SHORTER)), "value": _value})


def features(fields: Mapping[str, Any]) -> None:
    """Check the fields of a line of `features.jsonl`."""
    vector = _list_of(number(), 1, MAX_FEATURES)
    _each(fields, {**_record(), "clip": _whole(0, _SHORTER), "pred": vector, "reference": vector})


def summary(fields: Mapping[str, Any]) -> None:
    """Check the fields of `metrics-<protocol>.json` that are read."""
    missing = _object({"metric": text, "reason": text})
    finding = _object({"severity": _one_of(("refuse", "note")), "where": text, "problem": text, "fix": text})
    _each(
        fields,
        {
            "protocol": text,
            "keys": _list_of(text),
            "measured": _list_of(text),
            "missing": _list_of(missing),
            "findings": _list_of(finding),
            "pedigree": pedigree,
        },
    )


def pedigree(value: Any, field: str) -> None:
    """Check the provenance in a manifest or summary; fields of later versions may hold anything."""
    mapping(value, field)
    known: Mapping[str, Check] = {
        "code": _code,
        "finished": text,
        "python": text,
        "packages": _mapping_of(text),
        "weights": _mapping_of(text),
        "device": text,
        "platform": text,
        "cores": _whole(1, _SHORTER),
        "command": _list_of(_any_text),
    }
    _each(value, known, field)


# ---- single values ----


_fault_of = lru_cache(maxsize=4096)(name_fault)  # the same names occur in every record


def name(value: Any, field: str) -> None:
    """Check a name of one folder."""
    if fault := _fault_of(value) if isinstance(value, str) else name_fault(value):
        raise ValueError(f"'{field}' {fault}")


def text(value: Any, field: str) -> None:
    _any_text(value, field)
    if not value:
        raise ValueError(f"'{field}' is empty")


def flag(value: Any, field: str) -> None:
    if not isinstance(value, bool):
        raise _wrong(field, value, "true or false")


def mapping(value: Any, field: str) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(field, value, "an object")


def fingerprint(value: Any, field: str) -> None:
    """Check the hex digits of a digest."""
    if not isinstance(value, str) or not _HASH.match(value):
        raise _wrong(field, value, "a digest in hex")


def number(least: float = -sys.float_info.max, most: float = sys.float_info.max) -> Check:
    """Build a check for a finite number from `least` to `most`."""

    def check(value: Any, field: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(field, value, "a number")
        if not least <= value <= most:  # integers too, which are unbounded
            raise _wrong(field, value, f"{least:g} to {most:g}")

    return check


def _whole(least: int, most: int) -> Check:
    def check(value: Any, field: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(field, value, "a whole number")
        if not least <= value <= most:
            raise _wrong(field, value, f"{least} to {most}")

    return check


def _any_text(value: Any, field: str) -> None:
    if not isinstance(value, str):
        raise _wrong(field, value, "text")
    if len(value) > MAX_TEXT:
        raise ValueError(f"'{field}' has more than {MAX_TEXT} characters")


def _place(value: Any, field: str) -> None:
    text(value, field)
    if "\0" in value:
        raise ValueError(f"'{field}' holds control characters")


def _view_or_all(value: Any, field: str) -> None:
    if value != "*":
        name(value, field)


def _value(value: Any, field: str) -> None:
    if not (isinstance(value, str) and value in ("inf", "-inf")):
        number()(value, field)


def _view(value: Any, field: str) -> None:
    degrees = number(-_MAX_DEGREES, _MAX_DEGREES)
    _object({"name": name, "azimuth_deg": degrees, "elevation_deg": degrees})(value, field)


def _code(value: Any, field: str) -> None:
    mapping(value, field)
    _each(value, {"version": text, "commit": _or_none(_any_text), "dirty": _or_none(flag)}, field)


def _stage(value: Any, field: str) -> None:
    _of_stage()(value, field)


@cache
def _of_stage() -> Check:
    cost = number(0, _MAX_COST)
    return _object({"name": text, "wall_s": cost, "peak_mib": cost})


def _artefact(value: Any, field: str) -> None:
    try:
        Artefact.from_json(value)
    except ValueError as error:
        raise ValueError(f"'{field}' {error}") from error


# ---- of others ----


def _record() -> dict[str, Check]:
    return {"key": text, "object": text, "view": name, "metric": text, "signature": text}


def _each(fields: Mapping[str, Any], checks: Mapping[str, Check], within: str = "") -> None:
    """Check the fields that exist."""
    for key, check in checks.items():
        if key in fields:
            check(fields[key], f"{within}.{key}" if within else key)


def _object(checks: Mapping[str, Check]) -> Check:
    """Build a check for an object with exactly these fields."""

    def check(value: Any, field: str) -> None:
        mapping(value, field)
        if value.keys() != checks.keys():
            raise ValueError(f"'{field}' has the fields {brief(', '.join(value))}, not {', '.join(checks)}")
        _each(value, checks, field)

    return check


def _list_of(check: Check, least: int = 0, most: int | None = None) -> Check:
    def every(value: Any, field: str) -> None:
        if not isinstance(value, list | tuple):
            raise _wrong(field, value, "a list")
        if len(value) < least or (most is not None and len(value) > most):
            raise ValueError(f"'{field}' has {len(value)} entries, not {least} to {most}")
        for place, entry in enumerate(value):
            check(entry, f"{field}[{place}]")

    return every


def _mapping_of(check: Check) -> Check:
    def every(value: Any, field: str) -> None:
        mapping(value, field)
        for key, entry in value.items():
            check(entry, f"{field}.{brief(key)}")

    return every


def _or_none(check: Check) -> Check:
    def if_there(value: Any, field: str) -> None:
        if value is not None:
            check(value, field)

    return if_there


def _one_of(known: Sequence[str]) -> Check:
    def check(value: Any, field: str) -> None:
        if not isinstance(value, str) or value not in known:
            raise _wrong(field, value, f"one of {', '.join(known)}")

    return check


def _wrong(field: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"'{field}' is {brief(repr(value))}, not {expected}")
