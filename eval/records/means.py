"""What tables read of a run: `.means-<protocol>.json`, its rows averaged by view. Derived, and may be deleted.

Reading and checking some hundred rows takes ten times as long as a table needs. The file holds the sizes and
times of the records that it was made of, and is made anew where they are others. It is no record: nothing else
is computed from it, and it does not travel.
"""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mvtokenflow.base.damaged import bounded_bytes, parse_json
from mvtokenflow.base.files import canonical_json
from mvtokenflow.base.partial import partial_file
from mvtokenflow.eval.records import checks as record_checks
from mvtokenflow.eval.records.aggregate import view_means
from mvtokenflow.eval.records.rows import Means, Row, ViewMean, row_log
from mvtokenflow.eval.records.summary import Summary, plain

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Averages:
    """A run under one protocol, without its rows.

    Attributes:
        means: of the rows that count.
        missing, pedigree: of its summary, reasons by metric.
        severities: of the findings in its summary.
    """

    means: Means
    missing: Mapping[str, str]
    pedigree: Mapping[str, Any]
    severities: tuple[str, ...]


def averages(folder: Path, protocol: str) -> Averages | None:
    """Return the averages of a run, from its file or from its records; None if it was not scored.

    Raises:
        DataError: a record is damaged.
    """
    path = folder / f".means-{protocol}.json"
    stamps = _stamps(folder, protocol)
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        return _parsed(path, stamps)
    summary = Summary.load(folder, protocol)
    if summary is None:
        return None
    found = _averaged(summary, (row for row in row_log(folder).read() if row.key in summary.keys))
    with suppress(OSError), partial_file(path) as part:  # a folder that cannot be written, a full disk
        part.write_text(canonical_json(_to_json(found, stamps)))
        part.replace(path)
    return found


def _stamps(folder: Path, protocol: str) -> dict[str, list[int]]:
    """Return the size in bytes and the time in ns of the records; a missing one has neither."""
    found: dict[str, list[int]] = {}
    for name in ("rows.jsonl", Summary.path(folder, protocol).name):
        with suppress(FileNotFoundError):
            state = (folder / name).stat()
            found[name] = [state.st_size, state.st_mtime_ns]
    return found


def _averaged(summary: Summary, rows: Iterable[Row]) -> Averages:
    by_metric: dict[str, list[Row]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, []).append(row)
    return Averages(
        means={metric: view_means(some, metric) for metric, some in by_metric.items()},
        missing={entry.metric: entry.reason for entry in summary.missing},
        pedigree=summary.pedigree,
        severities=tuple(str(finding["severity"]) for finding in summary.findings),
    )


def _to_json(found: Averages, stamps: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "of": stamps,
        "missing": dict(found.missing),
        "pedigree": dict(found.pedigree),
        "severities": list(found.severities),
        "means": {
            metric: {
                name: {
                    view: [None if one.value is None else plain(one.value), one.frames, sorted(one.signatures)]
                    for view, one in views.items()
                }
                for name, views in objects.items()
            }
            for metric, objects in found.means.items()
        },
    }


def _parsed(path: Path, stamps: Mapping[str, Any]) -> Averages:
    """Read the file; any error where it is not there, is damaged, or is of other records."""
    fields = parse_json(bounded_bytes(path))
    if fields["version"] != _VERSION or fields["of"] != stamps:
        raise ValueError("of other records")
    record_checks.pedigree(fields["pedigree"], "pedigree")
    for metric, reason in fields["missing"].items():
        record_checks.text(metric, "missing")
        record_checks.text(reason, "missing")
    return Averages(
        means={
            metric: {
                name: {view: _view_mean(view, *entry) for view, entry in views.items()}
                for name, views in objects.items()
            }
            for metric, objects in fields["means"].items()
        },
        missing=fields["missing"],
        pedigree=fields["pedigree"],
        severities=tuple(map(str, fields["severities"])),
    )


@lru_cache(maxsize=4096)
def _check_view(view: str) -> None:
    """Raise a ValueError for what is no name of a view."""
    if view != "*":
        record_checks.name(view, "view")


def _view_mean(view: str, value: Any, frames: Any, signatures: Any) -> ViewMean:
    _check_view(view)
    number = None if value is None else float(value)
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1 or (number and math.isnan(number)):
        raise ValueError("not a mean")
    return ViewMean(value=number, frames=frames, signatures=frozenset(map(str, signatures)))
