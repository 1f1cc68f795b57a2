"""What the numbers of two rows say about a claim of the paper.

A claim names a row with a part of the method and the row without it (`claim_specs`), and the metrics it is
about: those are *primary* and decide. The others are shown beside them, so that what a part costs is seen too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mvtokenflow.errors import DataError
from mvtokenflow.eval.aggregate import mean
from mvtokenflow.eval.claim_specs import MEASURES, Claim, Measure
from mvtokenflow.eval.stats import Comparison, Interval, compare, holm
from mvtokenflow.eval.tables import STATISTICS_SEED

SCENES_ASKED = 24
ALPHA = 0.05

Outcome = Literal["better", "worse", "undecided", "no test", "missing"]
Ruling = Literal["replicates", "contradicted", "undecided", "untested"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One measure of two rows.

    Attributes:
        first, second: by scene, averaged over seeds, frames and views; empty where only a set of scenes has a
            number.
        totals: of both rows, where only a set of scenes has a number.
        floor: by scene, the reference's own value, below which lower is no longer better. Values below it count
            as the floor in the comparison.
        reason: why there is nothing to compare.
        signature: of the numbers.
    """

    first: Mapping[str, float] = field(default_factory=dict)
    second: Mapping[str, float] = field(default_factory=dict)
    totals: tuple[float, float] | None = None
    floor: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    signature: str | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one measure says of a claim.

    Attributes:
        measure, primary: which, and whether the claim is about it.
        first, second: means over the scenes both rows have, or the numbers of the set of scenes.
        scenes: how many those are.
        comparison: first - second; None where there is no test.
        p: of the sign-flip test, after Holm over all tested measures of the claim.
        reason: why there is no number.
    """

    measure: Measure
    primary: bool
    first: float | None = None
    second: float | None = None
    scenes: int = 0
    comparison: Comparison | None = None
    p: float | None = None
    reason: str | None = None

    @property
    def difference(self) -> Interval | None:
        """first - second."""
        return None if self.comparison is None else self.comparison.difference

    @property
    def gain(self) -> Interval | None:
        """The difference, turned so that more is better for the first row."""
        raw = self.difference
        if raw is None or self.measure.column.better == "higher":
            return raw
        low, high = (None if bound is None else -bound for bound in (raw.high, raw.low))
        return Interval(mean=-raw.mean, low=low, high=high, n=raw.n, level=raw.level)

    @property
    def relative(self) -> float | None:
        """The difference as a share of the first row's value; None where that has no meaning."""
        raw = self.difference
        if raw is None or self.first is None or abs(self.first) in (0.0, float("inf")):
            return None
        return None if abs(raw.mean) == float("inf") else raw.mean / abs(self.first)

    @property
    def outcome(self) -> Outcome:
        """A difference only if both witnesses agree: its interval excludes 0 and p after Holm <= 0.05."""
        if self.first is None:
            return "missing"
        if self.comparison is None or self.p is None:
            return "no test"
        gain = self.gain
        if gain is None or not gain.excludes(0.0) or self.p > ALPHA:
            return "undecided"
        return "better" if gain.mean > 0 else "worse"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the measured numbers say of a claim.

    Attributes:
        ruling: "replicates" if every primary measure there is got better; "contradicted" if one got worse and
            none better; "untested" if none was measured on both rows; otherwise "undecided".
        findings: of every measure, the primary ones first.
        notes: what a reader of the numbers must know.
    """

    claim: Claim
    ruling: Ruling
    findings: Sequence[Finding]
    notes: Sequence[str]

    @property
    def primary(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.primary]

    @property
    def scenes(self) -> int:
        """Scenes behind the primary measures: the fewest of those there are."""
        return min((f.scenes for f in self.primary if f.comparison is not None), default=0)


def judge(claim: Claim, values: Mapping[str, Pair]) -> Verdict:
    """What the two rows' numbers say of a claim; a function of its arguments alone.

    Scenes that only one of the rows has are left out and counted in the notes.

    Args:
        values: by key of `MEASURES`; those that are not there count as not measured.

    Raises:
        DataError: an unknown key, or a NaN.
    """
    unknown = sorted(values.keys() - MEASURES.keys())
    if unknown:
        raise DataError(f"no such measure: {', '.join(unknown)}; known are {', '.join(MEASURES)}")
    order = sorted(MEASURES, key=lambda key: key not in claim.primary)  # stable
    nothing = Pair(reason="not measured")
    raw = [_compared(MEASURES[key], key in claim.primary, values.get(key, nothing)) for key in order]
    tested = [finding.comparison for finding in raw if finding.comparison is not None]
    adjusted = iter(holm([comparison.test.p for comparison in tested]))
    findings = [
        finding if finding.comparison is None else replace(finding, p=next(adjusted)) for finding in raw
    ]
    verdict = Verdict(claim=claim, ruling=_ruling(findings), findings=findings, notes=())
    pairs = {key: values.get(key, nothing) for key in order}
    return replace(verdict, notes=_notes(verdict, pairs))


def _compared(measure: Measure, primary: bool, pair: Pair) -> Finding:
    if pair.totals is not None:
        first, second = pair.totals
        return Finding(measure=measure, primary=primary, first=first, second=second)
    scenes = sorted(pair.first.keys() & pair.second.keys())
    if not scenes:
        reason = pair.reason or "the two rows share no scene"
        return Finding(measure=measure, primary=primary, reason=reason)
    first_values = {scene: pair.first[scene] for scene in scenes}
    second_values = {scene: pair.second[scene] for scene in scenes}
    better: Literal["higher", "lower"] = "higher" if measure.column.better == "higher" else "lower"
    return Finding(
        measure=measure,
        primary=primary,
        first=mean(list(first_values.values())),
        second=mean(list(second_values.values())),
        scenes=len(scenes),
        comparison=compare(
            _floored(first_values, pair.floor),
            _floored(second_values, pair.floor),
            better,
            STATISTICS_SEED,
            alpha=ALPHA,
        ),
    )


def _floored(values: Mapping[str, float], floor: Mapping[str, float]) -> dict[str, float]:
    return {scene: max(value, floor.get(scene, value)) for scene, value in values.items()}


def _ruling(findings: Sequence[Finding]) -> Ruling:
    outcomes = [f.outcome for f in findings if f.primary and f.outcome not in ("missing", "no test")]
    if not outcomes:
        return "untested"
    if all(outcome == "better" for outcome in outcomes):
        return "replicates"
    return "contradicted" if "worse" in outcomes and "better" not in outcomes else "undecided"


def _notes(verdict: Verdict, pairs: Mapping[str, Pair]) -> list[str]:
    notes = []
    if verdict.ruling != "untested" and verdict.scenes < SCENES_ASKED:
        notes.append(f"Scenes: {verdict.scenes}, fewer than the {SCENES_ASKED} that the comparison asks for.")
    tests = [finding.comparison.test for finding in verdict.findings if finding.comparison is not None]
    least = min(1.0, len(tests) * min((test.minimum_p for test in tests), default=0.0))
    if least > ALPHA:
        notes.append(
            f"Nothing can be decided: no p can fall below {least:.2g} after Holm "
            f"(scenes: {max(test.n for test in tests)}; tested metrics: {len(tests)})."
        )
    for finding in verdict.findings:
        title = finding.measure.column.title[:1].upper() + finding.measure.column.title[1:]
        pair = pairs[finding.measure.key]
        lone = len(pair.first.keys() ^ pair.second.keys())
        if lone and finding.scenes:
            notes.append(f"{title}: scenes that only one row has are left out ({lone}).")
        if finding.measure.floor is not None and finding.comparison is not None and not pair.floor:
            notes.append(
                f"{title}: the reference's own was not measured; a value below it would pass for better."
            )
        below = [
            scene
            for scene, floor in pair.floor.items()
            if any(values.get(scene, floor) < floor for values in (pair.first, pair.second))
        ]
        if below:
            notes.append(
                f"{title}: in {len(below)} scenes a value lies below the reference's own, where lower is not "
                "better; it counts as equal to that."
            )
    reasons: dict[str, list[str]] = {}
    for finding in verdict.findings:
        if finding.reason is not None:
            reasons.setdefault(finding.reason.rstrip("."), []).append(finding.measure.column.title)
    notes += [f"Not compared: {', '.join(titles)} ({reason})." for reason, titles in reasons.items()]
    absent = [finding.measure.column.title for finding in verdict.primary if finding.reason is not None]
    if absent and verdict.ruling != "untested":
        notes.append(f"The verdict is without {', '.join(absent)}.")
    return notes
