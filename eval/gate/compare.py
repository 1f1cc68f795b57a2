"""The regression gate's comparison: has any number changed by more than its measured noise?

It compares a "measured" document with a "baseline" (`mvtokenflow.eval.gate.documents`); two values with
different signatures are never compared. The tolerance of a cell is

    max(absolute floor of its metric, 1.05 x worst difference between any two repeats)

Each cell has one outcome and the gate exits with the worst, in this order: a number that got worse (1);
then a cell of the baseline that was not measured (4) or cannot be compared (3), since neither is a success;
then one that got better, so that the baseline is out of date and hides later losses (2); else 0.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from xml.etree import ElementTree

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.escapes import markdown
from mvtokenflow.base.names import brief
from mvtokenflow.eval.gate.documents import SCHEMA_VERSION, CellName, checked_cells, plain_number
from mvtokenflow.eval.tables.table import Direction

NOISE_MARGIN = 1.05
_SCENES = 5  # below a cell that moved, those that moved most

Outcome = Literal["ok", "regressed", "improved", "incomparable", "missing"]
# Worst first.
EXIT_CODES: Mapping[Outcome, int] = {"regressed": 1, "missing": 4, "incomparable": 3, "improved": 2, "ok": 0}
SEVERITY: Sequence[Outcome] = tuple(EXIT_CODES)


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One cell of the baseline and its outcome.

    Attributes:
        baseline, current: values; current is None where missing, and may be NaN.
        change: current - baseline; None where they are not comparable.
        reason: one sentence for everything but "ok".
        scenes: of a mean over scenes, each scene's value in the baseline and now, where both are known.
    """

    name: CellName
    outcome: Outcome
    better: Direction
    baseline: float
    current: float | None
    change: float | None
    tolerance: float
    reason: str = ""
    scenes: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def moved(self) -> list[tuple[str, float, float]]:
        """Return (scene, baseline, current) of the scenes whose value changed, the largest change first."""
        changed = [(name, then, now) for name, (then, now) in self.scenes.items() if then != now]
        return sorted(changed, key=lambda scene: (-abs(scene[2] - scene[1]), scene[0]))


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """Outcomes of all cells of a baseline, worst first.

    Attributes:
        cells: sorted by severity, then name.
        ungated: measured cells that the baseline lacks; they do not influence the exit code.
    """

    cells: Sequence[CellResult]
    ungated: Sequence[CellName] = field(default_factory=tuple)

    @property
    def outcome(self) -> Outcome:
        """Return the worst outcome of any cell."""
        return self.cells[0].outcome

    @property
    def exit_code(self) -> int:
        """Return the exit code of the worst cell: 0 ok, 1 regressed, 2 improved, 3 incomparable, 4 missing."""
        return EXIT_CODES[self.outcome]

    def counts(self) -> dict[Outcome, int]:
        """Return how many cells had each outcome, worst first."""
        return {outcome: sum(cell.outcome == outcome for cell in self.cells) for outcome in SEVERITY}

    def to_json(self) -> dict[str, Any]:
        """Return plain data for strict JSON; infinities and NaN become the strings "inf", "-inf", "nan"."""
        return {
            "schema": SCHEMA_VERSION,
            "kind": "gate-report",
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "counts": self.counts(),
            "cells": [
                {
                    **asdict(cell.name),
                    "outcome": cell.outcome,
                    "better": cell.better,
                    "baseline": plain_number(cell.baseline),
                    "current": plain_number(cell.current),
                    "change": plain_number(cell.change),
                    "tolerance": cell.tolerance,
                    "reason": cell.reason,
                    "scenes": [
                        {"scene": name, "baseline": plain_number(then), "current": plain_number(now)}
                        for name, then, now in (cell.moved() if cell.outcome != "ok" else ())
                    ],
                }
                for cell in self.cells
            ],
            "ungated": [asdict(name) for name in self.ungated],
        }


def compare(baseline: Mapping[str, Any], current: Mapping[str, Any]) -> GateReport:
    """Judge measured values against a baseline.

    A NaN is a regression, not an absence: the cell was computed and no longer means anything. A value
    exactly at the tolerance is ok.

    Raises:
        DataError: either document is malformed; names the document, the cell and the fault.
    """
    expected = checked_cells(baseline, "baseline")
    measured = checked_cells(current, "measured")
    results = [_judge(name, cell, measured.get(name)) for name, cell in expected.items()]
    results.sort(key=lambda result: (SEVERITY.index(result.outcome), result.name))
    values = {name for name, cell in measured.items() if cell["value"] is not None}
    return GateReport(cells=tuple(results), ungated=tuple(sorted(values - expected.keys())))


def metric_of(name: str) -> str:
    """Return the key of a metric whose cell names the column too, where several columns show it."""
    return name.partition(" in ")[0]


def with_tolerances(baseline: Mapping[str, Any], given: Mapping[str, float]) -> dict[str, Any]:
    """Return a baseline in which the cells of some metrics have other tolerances.

    Args:
        given: by metric, in its unit.

    Raises:
        ConfigError: no cell is of such a metric.
    """
    checked_cells(baseline, "baseline")
    _refuse_unknown(given, {metric_of(str(cell["metric"])) for cell in baseline["cells"]})
    cells = [
        {**cell, "tolerance": given.get(metric_of(str(cell["metric"])), cell["tolerance"])}
        for cell in baseline["cells"]
    ]
    return {**baseline, "cells": cells}


def _refuse_unknown(given: Mapping[str, float], metrics: set[str]) -> None:
    for metric in given:
        if metric not in metrics:
            known = ", ".join(sorted(metrics))
            raise ConfigError(f"--tolerance {brief(metric)}: the baseline holds no such metric; it has {known}")


def make_baseline(
    repeats: Sequence[Mapping[str, Any]],
    floors: Mapping[str, float],
    default_floor: float | None = None,
    scales: Mapping[str, float] | None = None,
    given: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Build a baseline from repeated measurements of the same thing.

    The value of a cell is the median of the repeats. Vary between repeats what will vary in use (machine,
    thread count, order): the tolerance covers only the noise it was measured on.

    Args:
        repeats: two or more "measured" documents with the same cells and signatures.
        floors: metric -> smallest tolerance worth failing a build over, in the metric's unit.
        default_floor: for metrics not in `floors`; None refuses them.
        scales: method -> factor on all floors of its cells; 1 for methods not in it.
        given: metric -> floor to take in place of that in `floors`, with no factor.

    Raises:
        ConfigError: fewer than two repeats, a metric without a floor, or a given one that no cell has.
        DataError: the repeats disagree in cells or signatures, or a value is missing, NaN, or sometimes
            infinite.
    """
    if len(repeats) < 2:
        raise ConfigError(
            f"noise is measured on two or more repeats, got {len(repeats)}; run the same thing again"
        )
    tables = [checked_cells(document, "measured") for document in repeats]
    for number, table in enumerate(tables[1:], 2):
        if differing := sorted(table.keys() ^ tables[0].keys()):
            raise DataError(f"repeats 1 and {number} hold different cells, first {differing[0]}")
    given = given or {}
    _refuse_unknown(given, {metric_of(name.metric) for name in tables[0]})
    cells = []
    for name, first in sorted(tables[0].items()):
        own = given.get(metric_of(name.metric))
        floor = floors.get(name.metric, default_floor) if own is None else own
        if floor is None:
            raise ConfigError(
                f"no tolerance floor for the metric '{name.metric}'; known: {', '.join(sorted(floors))}"
            )
        if not (math.isfinite(floor) and floor >= 0):
            raise ConfigError(
                f"the tolerance floor of '{name.metric}' must be finite and not negative, got {floor}"
            )
        scale = (scales or {}).get(name.method, 1.0) if own is None else 1.0
        cell = _baseline_cell(name, [table[name] for table in tables], first, floor * scale)
        cells.append(cell if own is None else {**cell, "noise": {**cell["noise"], "floor_from": "--tolerance"}})
    return {"schema": SCHEMA_VERSION, "kind": "baseline", "cells": cells}


def _judge(name: CellName, cell: Mapping[str, Any], now: Mapping[str, Any] | None) -> CellResult:
    value, tolerance, better = float(cell["value"]), float(cell["tolerance"]), cell["better"]
    current = None if now is None or now["value"] is None else float(now["value"])

    def result(outcome: Outcome, change: float | None, reason: str) -> CellResult:
        return CellResult(
            name=name,
            outcome=outcome,
            better=better,
            baseline=value,
            current=current,
            change=change,
            tolerance=tolerance,
            reason=reason,
            scenes=_scenes(cell, now),
        )

    if now is None:
        return result("missing", None, "not measured")
    if current is None:
        return result("missing", None, str(now.get("reason") or "no value and no reason given"))
    for key in ("signature", "better"):
        if now[key] != cell[key]:
            return result("incomparable", None, f"{key} is '{now[key]}', baseline has '{cell[key]}'")
    if math.isnan(current):
        return result("regressed", None, "the value is NaN")
    change = 0.0 if current == value else current - value
    # A change of exactly the tolerance must pass whichever way the subtraction rounds.
    slack = 0.0 if math.isinf(change) else 4 * math.ulp(max(abs(current), abs(value)))
    if abs(change) <= tolerance + slack:
        return result("ok", change, "")
    if better == "none":
        return result("regressed", change, "moved beyond tolerance")
    if (change > 0) == (better == "higher"):
        return result("improved", change, "better than the baseline beyond tolerance; measure a new baseline")
    return result("regressed", change, "worse than the baseline beyond tolerance")


def _scenes(cell: Mapping[str, Any], now: Mapping[str, Any] | None) -> dict[str, tuple[float, float]]:
    then, here = cell.get("scenes") or {}, (now or {}).get("scenes") or {}
    return {name: (float(then[name]), float(here[name])) for name in then if name in here}


def _median(values: Sequence[float]) -> float:
    """Return the middle of sorted values; of an even number that differ, the mean of the middle two."""
    middle = len(values) // 2
    whole = len(values) % 2 or values[0] == values[-1]
    return values[middle] if whole else (values[middle - 1] + values[middle]) / 2


def _baseline_cell(
    name: CellName, repeats: Sequence[Mapping[str, Any]], first: Mapping[str, Any], floor: float
) -> dict[str, Any]:
    for number, cell in enumerate(repeats, 1):
        if cell["value"] is None or math.isnan(float(cell["value"])):
            raise DataError(f"repeat {number}: {name} has no value; a baseline needs every cell measured")
        for key in ("signature", "better"):
            if cell[key] != first[key]:
                raise DataError(f"repeat {number}: {name} has {key} '{cell[key]}', repeat 1 has '{first[key]}'")
    values = sorted(float(cell["value"]) for cell in repeats)
    worst = 0.0 if values[0] == values[-1] else values[-1] - values[0]
    if not math.isfinite(worst):
        raise DataError(f"{name} is infinite in some repeats and not in others; it cannot be gated")
    median = _median(values)
    by_scene = {
        scene: plain_number(_median(sorted(float(cell["scenes"][scene]) for cell in repeats)))
        for scene in first.get("scenes") or {}
        if all(scene in (cell.get("scenes") or {}) for cell in repeats)
    }
    return {
        **({"scenes": by_scene} if by_scene else {}),
        "method": name.method,
        "metric": name.metric,
        "object": None if name.object == "*" else name.object,
        "value": plain_number(median),
        "signature": first["signature"],
        "better": first["better"],
        "tolerance": max(floor, NOISE_MARGIN * worst),
        "noise": {
            "repeats": len(values),
            "worst": worst,
            "floor": floor,
            "values": [plain_number(float(cell["value"])) for cell in repeats],
        },
    }


def to_markdown(report: GateReport) -> str:
    """Write a summary for a pull request: the verdict, then every cell that is not ok, worst first."""
    counted = ", ".join(f"{count} {outcome}" for outcome, count in report.counts().items() if count)
    lines = [f"**Regression gate: {report.outcome}** (exit {report.exit_code}): {counted}.", ""]
    moved = [cell for cell in report.cells if cell.outcome != "ok"]
    if moved:
        lines += [
            "| outcome | cell | baseline | current | change | tolerance | why |",
            "|---|---|--:|--:|--:|--:|---|",
        ]
        for cell in moved:
            numbers = (cell.baseline, cell.current, cell.change, cell.tolerance)
            texts = [cell.outcome, str(cell.name), *map(_text, numbers), cell.reason]
            lines.append("| " + " | ".join(markdown(text) for text in texts) + " |")
            lines += [_scene_line(*scene) for scene in cell.moved()[:_SCENES]]
        lines.append("")
    if report.ungated:
        lines += [f"Not in the baseline: {', '.join(markdown(str(name)) for name in report.ungated)}.", ""]
    return "\n".join(lines)


def _scene_line(name: str, then: float, now: float) -> str:
    """Return the line of a scene below that of its cell."""
    texts = ["", f"· {name}", _text(then), _text(now), _text(0.0 if then == now else now - then), "", ""]
    return "| " + " | ".join(markdown(text) for text in texts) + " |"


def to_junit_xml(report: GateReport) -> str:
    """Write JUnit XML as CI services read it: one test case per cell.

    Regressed and improved cells are failures, missing and incomparable ones errors, so that the page is
    green exactly when the exit code is 0.
    """
    counts = report.counts()
    totals = {
        "tests": str(len(report.cells)),
        "failures": str(counts["regressed"] + counts["improved"]),
        "errors": str(counts["missing"] + counts["incomparable"]),
    }
    root = ElementTree.Element("testsuites", totals)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "regression gate", "skipped": "0", **totals})
    for cell in report.cells:
        title = cell.name.metric + ("" if cell.name.object == "*" else f" [{cell.name.object}]")
        attributes = {"classname": _xml_safe(cell.name.method), "name": _xml_safe(title)}
        case = ElementTree.SubElement(suite, "testcase", attributes)
        if cell.outcome == "ok":
            continue
        tag = "failure" if cell.outcome in ("regressed", "improved") else "error"
        message = _xml_safe(
            f"{cell.reason}: baseline {_text(cell.baseline)}, current {_text(cell.current)}, "
            f"change {_text(cell.change)}, tolerance {_text(cell.tolerance)}"
            + "".join(f"; {name}: {_text(a)} to {_text(b)}" for name, a, b in cell.moved()[:_SCENES])
        )
        ElementTree.SubElement(case, tag, {"type": cell.outcome, "message": message})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _xml_safe(text: str) -> str:
    """Replace what XML 1.0 cannot hold; ElementTree would write it and nobody could read it back."""
    return re.sub(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]", "\ufffd", text)
