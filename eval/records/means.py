"""What tables read of a run: `.means-<protocol>.json`, its rows averaged by view, and its manifest in short.

Derived, and may be deleted. Reading and checking some hundred rows takes twenty times as long as a table
needs. The file holds the sizes and times of the records that it was made of, and is made anew where they are
others. It is no record: nothing else is computed from it, and it does not travel.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from sys import intern
from typing import Any

from mvtokenflow.base.damaged import bounded_bytes, parse_json
from mvtokenflow.base.files import canonical_json
from mvtokenflow.base.partial import partial_file
from mvtokenflow.eval.records import checks as record_checks
from mvtokenflow.eval.records.aggregate import view_means
from mvtokenflow.eval.records.common import Common
from mvtokenflow.eval.records.packed import Packed, form_of, packed
from mvtokenflow.eval.records.rows import Manifest, Means, Row, Stage, row_log
from mvtokenflow.eval.records.summary import Summary

_VERSION = 2
# Fields of a manifest that tables read, and those of them that runs have in common.
_OWN = ("dataset", "method", "scene", "seed", "config_hash", "prediction_digest", "stages")
_SHARED = ("source", "uses_truth", "config", "views", "assumed")
_OF_A_RUN = ("finished",)  # of a pedigree; the rest is the same for many runs


@dataclass(frozen=True, kw_only=True)
class Averages:
    """A run under one protocol, without its rows.

    Attributes:
        manifest: without tags, reference, frames, digest of the scene and artefacts, and when it was finished.
        means: of the rows that count.
        missing, pedigree: of its summary, reasons by metric.
        severities: of the findings in its summary.
    """

    manifest: Manifest
    means: Means
    missing: Mapping[str, str]
    pedigree: Mapping[str, Any]
    severities: tuple[str, ...]


def averages(folder: Path, protocol: str, common: Common | None = None) -> Averages | None:
    """Return the averages of a run, from its file or from its records; None if it is not finished and scored.

    Args:
        common: holds what the runs of a table share.

    Raises:
        DataError: a record is damaged.
    """
    common = Common() if common is None else common
    stamps = _stamps(folder, protocol)
    path = folder / f".means-{protocol}.json"
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        return _parsed(parse_json(bounded_bytes(path)), stamps, common)
    if "manifest.json" not in stamps:
        return None
    summary = Summary.load(folder, protocol)
    if summary is None:
        return None
    manifest = Manifest.load(folder / "manifest.json", count_frames=False)
    rows = [row for row in row_log(folder).read() if row.key in summary.keys]
    text = canonical_json(_to_json(manifest, summary, rows, stamps))
    with suppress(OSError), partial_file(path) as part:  # a folder that cannot be written, a full disk
        part.write_text(text)
        part.replace(path)
    return _parsed(parse_json(text), stamps, common)


def _stamps(folder: Path, protocol: str) -> dict[str, list[int]]:
    """Return the size in bytes and the time in ns of the records; a missing one has neither."""
    found: dict[str, list[int]] = {}
    for name in ("manifest.json", "rows.jsonl", f"metrics-{protocol}.json"):
        with suppress(FileNotFoundError, NotADirectoryError):
            state = (folder / name).stat()
            found[name] = [state.st_size, state.st_mtime_ns]
    return found


def _to_json(
    manifest: Manifest, summary: Summary, rows: Iterable[Row], stamps: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the file's content; what runs have in common is text within it, which is compared as such."""
    by_metric: dict[str, list[Row]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, []).append(row)
    form, objects, numbers = packed({metric: view_means(some, metric) for metric, some in by_metric.items()})
    pedigrees = [
        {name: value for name, value in one.items() if name not in _OF_A_RUN}
        for one in (manifest.pedigree, summary.pedigree)
    ]
    fields = asdict(manifest)
    state = {
        "missing": {entry.metric: entry.reason for entry in summary.missing},
        "severities": [str(finding["severity"]) for finding in summary.findings],
    }
    return {
        "version": _VERSION,
        "of": stamps,
        "own": {name: fields[name] for name in _OWN},
        "shared": json.dumps({name: fields[name] for name in _SHARED}),  # in the order of the manifest
        "pedigrees": [json.dumps(one) for one in pedigrees],
        "state": json.dumps(state),
        "form": json.dumps(form),
        "objects": objects,
        "numbers": b64encode(numbers).decode(),
    }


def _parsed(fields: Mapping[str, Any], stamps: Mapping[str, Any], common: Common) -> Averages:
    """Read the file's content; any error where it is damaged, or is of other records."""
    if fields["version"] != _VERSION or fields["of"] != stamps:
        raise ValueError("of other records")
    own = fields["own"]
    record_checks.manifest(own)
    missing, severities = common(_state, fields["state"])
    rendered, measured = (common(_pedigree, text) for text in fields["pedigrees"])
    manifest = Manifest(
        **common(_shared, fields["shared"]),
        dataset=intern(own["dataset"]),
        method=intern(own["method"]),
        scene=intern(own["scene"]),
        config_hash=intern(own["config_hash"]),
        seed=own["seed"],
        prediction_digest=own["prediction_digest"],
        pedigree=rendered,
        stages=tuple(Stage(**stage) for stage in own["stages"]),
        tags=(),
        reference_root="",
        frames=0,
    )
    objects = tuple(map(intern, fields["objects"]))
    return Averages(
        manifest=manifest,
        means=Packed(common(form_of, fields["form"]), objects, b64decode(fields["numbers"], validate=True)),
        missing=missing,
        pedigree=measured,
        severities=severities,
    )


def _shared(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Check the part of manifests that runs have in common."""
    record_checks.manifest(fields)
    return {**{name: fields[name] for name in _SHARED}, "assumed": tuple(fields["assumed"])}


def _pedigree(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    record_checks.pedigree(fields, "pedigree")
    return fields


def _state(fields: Mapping[str, Any]) -> tuple[Mapping[str, str], tuple[str, ...]]:
    for metric, reason in fields["missing"].items():
        record_checks.text(metric, "missing")
        record_checks.text(reason, "missing")
    return fields["missing"], tuple(map(str, fields["severities"]))
