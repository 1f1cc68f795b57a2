"""Summaries `metrics-<protocol>.json`: which records of a run count, their averages, and what is missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mvtokenflow.base.damaged import bounded_bytes, damage, parse_json
from mvtokenflow.base.files import write_json
from mvtokenflow.base.names import brief
from mvtokenflow.eval.metrics.spec import MetricSpec
from mvtokenflow.eval.protocols import Protocol
from mvtokenflow.eval.records import checks as record_checks
from mvtokenflow.eval.records.aggregate import has_mean, mean, object_values, signature_of, without_mean
from mvtokenflow.eval.records.rows import SCHEMA_VERSION, FeatureRow, Row, Run


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A metric without a value, and the reason."""

    metric: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """State of one run folder under one protocol.

    Attributes:
        protocol: its name.
        keys: keys of the records that belong to the current files; others are older and do not count.
        measured: requested metrics as `metric@view signature`, with or without a value.
        missing: metrics without values.
        findings: findings of the pre-flight check.
        pedigree: provenance of the measurement.
    """

    protocol: str
    keys: frozenset[str]
    measured: frozenset[str]
    missing: Sequence[Missing]
    findings: Sequence[Mapping[str, Any]]
    pedigree: Mapping[str, Any]

    @staticmethod
    def path(folder: Path, protocol: str) -> Path:
        return folder / f"metrics-{protocol}.json"

    def save(self, folder: Path, rows: Sequence[Row], protocol: Protocol) -> None:
        """Write the summary atomically, with values per object and view for people."""
        current = [row for row in rows if row.key in self.keys]
        write_json(
            self.path(folder, self.protocol),
            {
                "schema": SCHEMA_VERSION,
                "protocol": self.protocol,
                "keys": sorted(self.keys),
                "measured": sorted(self.measured),
                "missing": [{"metric": m.metric, "reason": m.reason} for m in self.missing],
                "findings": list(self.findings),
                "pedigree": dict(self.pedigree),
                "values": {
                    spec.key: {
                        name: {
                            "value": plain(value.value),
                            "views": {k: plain(v) for k, v in value.views.items()},
                        }
                        for name, value in object_values(current, spec.key).items()
                    }
                    for spec in protocol.metrics
                },
            },
        )

    @classmethod
    def load(cls, folder: Path, protocol: str) -> "Summary | None":
        """Load a summary; None if the folder was not scored under this protocol.

        Raises:
            DataError: the file is damaged or of another version.
        """
        path = cls.path(folder, protocol)
        if not path.is_file():
            return None
        with damage(path, "not a summary", "delete it and score again"):
            fields = parse_json(bounded_bytes(path))
            if fields["schema"] != SCHEMA_VERSION or fields["schema"] is True:
                raise ValueError(f"schema {brief(repr(fields['schema']))}, this version reads {SCHEMA_VERSION}")
            record_checks.summary(fields)
            if fields["protocol"] != protocol:
                raise ValueError(f"of the protocol {brief(fields['protocol'])}")
            return cls(
                protocol=fields["protocol"],
                keys=frozenset(fields["keys"]),
                measured=frozenset(fields["measured"]),
                missing=tuple(Missing(**entry) for entry in fields["missing"]),
                findings=tuple(fields["findings"]),
                pedigree=fields["pedigree"],
            )


def plain(value: float) -> float | str:
    """Convert infinities, which JSON lacks, to "inf" and "-inf"."""
    return str(value) if value in (float("inf"), float("-inf")) else value


def why_missing(spec: MetricSpec, rows: Sequence[Row], features: Sequence[FeatureRow]) -> str | None:
    """Explain why a metric that could be measured has no value (for an object); None if it has one."""
    if spec.is_of_set:
        return None if any(f.metric == spec.key for f in features) else spec.why_missing()
    if contrary := without_mean(rows, spec.key):
        return (
            f"{', '.join(contrary)}: infinite in frames that equal their reference, minus infinite in frames "
            "whose reference is of one flat grey; they have no mean"
        )
    return None if any(row.metric == spec.key for row in rows) else spec.why_missing()


def score_json(
    protocol: Protocol, rows: Sequence[Row], missing: Sequence[Missing], absent: Sequence[str] = ()
) -> dict[str, Any]:
    """Build the document of `mvtf-eval score --json`: values by object and on average, null where missing.

    Args:
        absent: requested objects without renderings; the average covers the others and states so.
    """
    reasons = list(missing)
    names = sorted({row.object for row in rows} | set(absent))
    objects: dict[str, dict[str, float | None]] = {name: {} for name in names}
    average: dict[str, float | None] = {}
    signatures: dict[str, str] = {}
    for spec in protocol.metrics:
        if spec.is_of_set:
            continue  # a value of a set of clips, not of objects
        values = object_values(rows, spec.key)
        for name, cells in objects.items():
            cells[spec.key] = _finite(values[name].value) if name in values else None
        if not values:
            average[spec.key] = None
            continue
        signatures[spec.key] = signature_of(values)
        if absent:
            reason = f"the average is over {len(values)} of {len(names)} objects; absent: {', '.join(absent)}"
            reasons.append(Missing(metric=spec.key, reason=reason))
        numbers = {name: value.value for name, value in values.items()}
        average[spec.key] = _finite(mean(list(numbers.values()))) if has_mean(numbers.values()) else None
        if average[spec.key] is None:
            reasons.append(Missing(metric=spec.key, reason=_why_infinite(numbers)))
    return {
        "protocol": protocol.name,
        "objects": objects,
        "average": average,
        "missing": [{"metric": m.metric, "reason": m.reason} for m in reasons],
        "signatures": signatures,
    }


def _why_infinite(numbers: Mapping[str, float]) -> str:
    """Explain why the values of some objects, and with them the average, are infinite."""
    causes = {
        float("inf"): "infinite: frames equal their reference in",
        float("-inf"): "minus infinite: the reference of frames is of one flat grey in",
    }
    found = {cause: [n for n, number in numbers.items() if number == value] for value, cause in causes.items()}
    return "; ".join(f"{cause} {', '.join(names)}" for cause, names in found.items() if names)


def _finite(value: float) -> float | None:
    return value if abs(value) != float("inf") else None


def scored(run: Run, protocol: str) -> Run | None:
    """Return the run with the records that count under `protocol`; None if it was not scored under it."""
    summary = Summary.load(run.folder, protocol)
    if summary is None:
        return None
    return replace(
        run,
        rows=[row for row in run.rows if row.key in summary.keys],
        features=[row for row in run.features if row.key in summary.keys],
        missing={entry.metric: entry.reason for entry in summary.missing},
        measured_by=summary.pedigree,
    )


def current_rows(run: Run, protocol: str | None) -> Iterator[Row]:
    """Yield the rows of a run that count under a protocol, or any; for one cell the last."""
    names = (
        [protocol] if protocol else sorted(p.stem.split("-", 1)[1] for p in run.folder.glob("metrics-*.json"))
    )
    seen: set[str] = set()
    for name in names:
        current = scored(run, name)
        cells = {(row.metric, row.view, row.frame): row for row in (current.rows if current else ())}
        yield from (row for row in cells.values() if row.key not in seen)
        seen |= {row.key for row in cells.values()}


def merged(first: Run, second: Run) -> Run:
    """Merge two views of one run folder: the records that count under either of two protocols."""
    rows = {row.key: row for row in (*first.rows, *second.rows)}
    features = {row.key: row for row in (*first.features, *second.features)}
    return replace(
        first,
        rows=list(rows.values()),
        features=list(features.values()),
        missing={**first.missing, **second.missing},
    )
