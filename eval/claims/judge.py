"""Statistical judgement of one claim of the paper from the numbers of two rows.

A claim names a row with a part of the method and the row without it (`claims.specs`), or the method and another
one (`claims.rivals`), and the metrics it is about: those are *primary* and decide. Its *guards* must not get
worse, so that apparent improvements do not pass. The other metrics are listed beside them to show what a part
costs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.claims.specs import Claim, Measure
from mvtokenflow.eval.records.aggregate import mean
from mvtokenflow.eval.tables.build import STATISTICS_SEED
from mvtokenflow.eval.tables.stats import Comparison, Interval, compare, holm, minimum_p

SCENES_REQUIRED = 24
ALPHA = 0.05

Role = Literal["primary", "guard", "secondary"]
ROLES: tuple[Role, ...] = get_args(Role)
Outcome = Literal["better", "worse", "undecided", "no test", "missing"]
Ruling = Literal["replicates", "contradicted", "undecided", "untested"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One measure of two rows.

    Attributes:
        first, second: by scene, averaged over seeds, frames and views; empty where only a set of scenes has a
            number.
        totals: values of both rows, where only a set of scenes has a number.
        floor: by scene, the reference's own value, below which lower is no longer better. Values below it count
            as the floor. Where it is known for some scenes only, only those are compared.
        reason: why there is nothing to compare.
        signature: signature of the numbers.
        views: on which they were measured.
    """

    first: Mapping[str, float] = field(default_factory=dict)
    second: Mapping[str, float] = field(default_factory=dict)
    totals: tuple[float, float] | None = None
    floor: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    signature: str | None = None
    views: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Result of one measure for a claim.

    Attributes:
        measure, role: the measure, and whether it decides the claim, guards it, or is additional.
        first, second: means over the compared scenes, or the numbers of the set of scenes.
        scenes: number of compared scenes.
        at_floor: number of them where neither row is above the reference's own value.
        comparison: first - second; None where there is no test.
        p: p of the sign-flip test, after Holm over the tested measures of the same role.
        least_p: lower bound of p, given the number of scenes that differ and of tests.
        reason: why there is no number.
        views: on which it was measured; empty without a number.
    """

    measure: Measure
    role: Role
    first: float | None = None
    second: float | None = None
    scenes: int = 0
    at_floor: int = 0
    comparison: Comparison | None = None
    p: float | None = None
    least_p: float = 1.0
    reason: str | None = None
    views: tuple[str, ...] = ()

    @property
    def hopeless(self) -> bool:
        """Return whether p cannot reach 0.05 for any numbers."""
        return self.least_p > ALPHA

    @property
    def difference(self) -> Interval | None:
        """Return the interval of first - second."""
        return None if self.comparison is None else self.comparison.difference

    @property
    def gain(self) -> Interval | None:
        """Return the interval of the difference, signed so that more is better for the first row."""
        raw = self.difference
        if raw is None or self.measure.column.better == "higher":
            return raw
        low, high = (None if bound is None else -bound for bound in (raw.high, raw.low))
        return Interval(mean=-raw.mean, low=low, high=high, n=raw.n, level=raw.level)

    @property
    def relative(self) -> float | None:
        """Return the difference as a share of the first row's value; None where that has no meaning."""
        raw = self.difference
        if raw is None or self.first is None or abs(self.first) in (0.0, float("inf")):
            return None
        return None if abs(raw.mean) == float("inf") else raw.mean / abs(self.first)

    @property
    def outcome(self) -> Outcome:
        """Return the outcome: a difference only if the interval excludes 0 and p after Holm <= 0.05."""
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
    """Verdict on a claim from the measured numbers.

    Attributes:
        ruling: "replicates" if every primary measure there is got better and no guard worse; "contradicted" if
            a primary one got worse and none better; "untested" if none was measured on both rows; otherwise
            "undecided". Proxies alone decide nothing.
        findings: one of every measure, the primary ones first, then the guards.
        notes: remarks needed to read the numbers.
    """

    claim: Claim
    ruling: Ruling
    findings: Sequence[Finding]
    notes: Sequence[str]

    @property
    def primary(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.role == "primary"]

    @property
    def guards(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.role == "guard"]

    @property
    def scenes(self) -> int:
        """Return the number of scenes behind the primary measures: the minimum over those that exist."""
        return min((f.scenes for f in self.primary if f.comparison is not None), default=0)

    @property
    def only_proxies(self) -> bool:
        """Return whether the primary measures that were tested are all proxies."""
        tested = [finding for finding in self.primary if finding.comparison is not None]
        return bool(tested) and all(finding.measure.proxy for finding in tested)


def judge(claim: Claim, values: Mapping[str, Pair]) -> Verdict:
    """Judge a claim from the two rows' numbers; depends on its arguments only.

    Scenes that only one of the rows has are left out and counted in the notes.

    Args:
        values: by key of the claim's measures; absent ones count as not measured.

    Raises:
        DataError: an unknown key, or a NaN.
    """
    measures = claim.measures
    unknown = sorted(values.keys() - measures.keys())
    if unknown:
        raise DataError(f"no such measure: {', '.join(unknown)}; known are {', '.join(measures)}")
    roles: dict[str, Role] = dict.fromkeys(measures, "secondary")
    roles |= {**dict.fromkeys(claim.guards, "guard"), **dict.fromkeys(claim.primary, "primary")}
    pairs = {key: values.get(key, Pair(reason="not measured")) for key in measures}
    findings: list[Finding] = []
    for role in ROLES:
        findings += _adjusted(
            [_compared(measures[key], role, pairs[key]) for key in measures if roles[key] == role]
        )
    verdict = Verdict(claim=claim, ruling="undecided", findings=findings, notes=())
    verdict = replace(verdict, ruling=_ruling(verdict))
    return replace(verdict, notes=_notes(verdict, pairs))


def _compared(measure: Measure, role: Role, pair: Pair) -> Finding:
    if pair.totals is not None:
        first, second = pair.totals
        return Finding(measure=measure, role=role, first=first, second=second, views=pair.views)
    shared = pair.first.keys() & pair.second.keys()
    if not shared:
        return Finding(measure=measure, role=role, reason=pair.reason or "the two rows share no scene")
    # Where the floor is unknown, a value below it would count as better.
    scenes = sorted(shared & pair.floor.keys() or shared)
    first_values, second_values = (
        {scene: max(values[scene], pair.floor.get(scene, values[scene])) for scene in scenes}
        for values in (pair.first, pair.second)
    )
    better: Literal["higher", "lower"] = "higher" if measure.column.better == "higher" else "lower"
    return Finding(
        measure=measure,
        role=role,
        first=mean(list(first_values.values())),
        second=mean(list(second_values.values())),
        scenes=len(scenes),
        views=pair.views,
        at_floor=sum(first_values[s] == second_values[s] == pair.floor.get(s) for s in scenes),
        comparison=compare(first_values, second_values, better, STATISTICS_SEED, alpha=ALPHA),
    )


def _adjusted(family: Sequence[Finding]) -> list[Finding]:
    """Apply Holm's correction to the p of one role's findings that have a test."""
    tested = [finding.comparison for finding in family if finding.comparison is not None]
    if not tested:
        return list(family)
    adjusted = iter(holm([comparison.test.p for comparison in tested]))
    least = len(tested) * min(_least_p(comparison) for comparison in tested)
    return [
        finding
        if finding.comparison is None
        else replace(finding, p=next(adjusted), least_p=min(1.0, max(least, _least_p(finding.comparison))))
        for finding in family
    ]


def _least_p(comparison: Comparison) -> float:
    """Return the smallest possible p of the test; a scene on which the rows are equal cannot lower it."""
    return max(comparison.test.minimum_p, minimum_p(comparison.wins + comparison.losses))


def _ruling(verdict: Verdict) -> Ruling:
    tested = [finding for finding in verdict.primary if finding.comparison is not None]
    if not tested:
        return "untested"
    if verdict.only_proxies:
        return "undecided"
    outcomes = {finding.outcome for finding in tested}
    if outcomes == {"better"}:
        guarded = all(guard.outcome != "worse" for guard in verdict.guards)
        return "replicates" if guarded else "undecided"
    worse = any(finding.outcome == "worse" and not finding.measure.proxy for finding in tested)
    return "contradicted" if worse and "better" not in outcomes else "undecided"


def _notes(verdict: Verdict, pairs: Mapping[str, Pair]) -> list[str]:
    notes = []
    tested = [finding for finding in verdict.primary if finding.comparison is not None]
    if tested and verdict.scenes < SCENES_REQUIRED:
        notes.append(f"Scenes: {verdict.scenes}, fewer than the {SCENES_REQUIRED} that are required.")
    if tested and all(finding.hopeless for finding in tested):
        metrics = "1 metric" if len(tested) == 1 else f"{len(tested)} metrics"
        differ = max(f.comparison.wins + f.comparison.losses for f in tested if f.comparison is not None)
        notes.append(
            f"Nothing can be decided by {metrics}: no p can fall below {min(f.least_p for f in tested):.2g} "
            f"after Holm (scenes that differ: {differ})."
        )
    for finding in verdict.findings:
        notes += _pairing_notes(finding, pairs[finding.measure.key])
    reasons: dict[str, list[str]] = {}
    for finding in verdict.findings:
        if finding.reason is not None:
            reasons.setdefault(finding.reason.rstrip("."), []).append(finding.measure.column.title)
    notes += [f"Not compared: {', '.join(titles)} ({reason})." for reason, titles in reasons.items()]
    absent = [finding.measure.column.title for finding in verdict.primary if finding.reason is not None]
    if absent and tested:
        notes.append(f"The verdict on “{verdict.claim.title}” is without {', '.join(absent)}.")
    blind = [guard.measure.column.title for guard in verdict.guards if guard.hopeless]
    if blind and verdict.ruling == "replicates":
        notes.append(
            f"The verdict on “{verdict.claim.title}” is without its guard: nothing could show that "
            f"{', '.join(blind)} got worse."
        )
    return notes


def _pairing_notes(finding: Finding, pair: Pair) -> list[str]:
    """Note which scenes are compared, and the effect of a floor on them."""
    if finding.comparison is None:
        return []
    notes = []
    title = finding.measure.column.title[:1].upper() + finding.measure.column.title[1:]
    lone = len(pair.first.keys() ^ pair.second.keys())
    if lone:
        notes.append(f"{title}: scenes that only one row has are left out ({lone}).")
    if finding.measure.floor is None:
        return notes
    shared = pair.first.keys() & pair.second.keys()
    known = shared & pair.floor.keys()
    if not known:
        notes.append(f"{title}: the reference's own was not measured; a value below it would pass for better.")
    elif known != shared:
        notes.append(
            f"{title}: compared on the {len(known)} of {len(shared)} scenes where the reference's own was "
            "measured; elsewhere a value below it would pass for better."
        )
    below = sum(min(pair.first[scene], pair.second[scene]) < pair.floor[scene] for scene in known)
    if below:
        notes.append(
            f"{title}: in {below} scene{'s' * (below > 1)} a value lies below the reference's own, where lower "
            "is not better; it counts as equal to that, in the means too."
        )
    return notes
