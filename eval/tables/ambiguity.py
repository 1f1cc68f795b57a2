"""Measures how far the plausible readings of a protocol lie apart for one prediction."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mvtokenflow.base.errors import UserError
from mvtokenflow.eval.protocols import Protocol, readings
from mvtokenflow.eval.records.aggregate import mean, object_values
from mvtokenflow.eval.records.rows import row_log
from mvtokenflow.eval.records.summary import plain, why_missing
from mvtokenflow.eval.score.measure import measure
from mvtokenflow.eval.score.pairs import Plan
from mvtokenflow.eval.score.scoring import Options, settings_for
from mvtokenflow.eval.score.units import units_of


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The value under one reading.

    Attributes:
        label: the metric and its one difference from the protocol.
        value: mean over objects; None if it cannot be measured here.
        difference: value minus the protocol's own; None where either is missing or infinite.
        reason: why the value is missing.
    """

    label: str
    value: float | None
    difference: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {k: plain(v) if isinstance(v, float) else v for k, v in asdict(self).items()}


def spread(
    plan: Plan, base: Protocol, options: Options, report: Callable[[str, int, int], None]
) -> list[Reading]:
    """Score one paired prediction under every reading of `base`.

    Nothing is recorded: these numbers compare readings and are not for tables.
    """
    table = readings(base)
    found = []
    for done, (label, protocol) in enumerate(table):
        report("readings", done, len(table))
        found.append(_value(label, plan, protocol, options))
    report("readings", len(table), len(table))
    own = {reading.label: reading.value for reading in found}
    anchors = {
        protocol.metrics[0].key: own[label]
        for label, protocol in table
        if protocol.metrics[0] in base.metrics and protocol.size == base.size
    }
    return [_against(reading, anchors) for reading in found]


def _against(reading: Reading, anchors: dict[str, float | None]) -> Reading:
    anchor = anchors.get(reading.label.partition(":")[0])
    if (
        reading.value is None
        or anchor is None
        or abs(anchor) == float("inf")
        or abs(reading.value) == float("inf")
    ):
        return reading
    return Reading(label=reading.label, value=reading.value, difference=reading.value - anchor)


def _value(label: str, plan: Plan, protocol: Protocol, options: Options) -> Reading:
    settings, missing = settings_for(protocol, options)
    if missing:
        return Reading(label=label, value=None, reason=missing[0].reason)
    with tempfile.TemporaryDirectory() as scratch:
        units = [unit for name in plan.pairs for unit in units_of(name, {scratch: plan}, settings)]
        try:
            measure(units, settings, jobs=options.jobs, step=lambda frames: None)
        except UserError as error:  # a reading may not exist for this clip, if it is too short
            return Reading(label=label, value=None, reason=str(error))
        rows = row_log(Path(scratch)).read()
    if why := why_missing(protocol.metrics[0], rows, ()):
        return Reading(label=label, value=None, reason=why)
    try:
        total = mean([value.value for value in object_values(rows, protocol.metrics[0].key).values()])
    except UserError as error:
        return Reading(label=label, value=None, reason=str(error))
    return Reading(label=label, value=total)
