"""Verdicts on claims as sentences, and the numbers of comparisons as text.

Decimals are those of the metric, or more where the interval of a difference would have fewer than two digits.
"""

import math

from mvtokenflow.eval.claims.judge import ALPHA, Finding, Ruling, Verdict
from mvtokenflow.eval.tables.stats import Interval

RULINGS: dict[Ruling, str] = {
    "replicates": "replicates",
    "contradicted": "does not replicate",
    "undecided": "undecided",
    "untested": "untested",
}


def sentence(verdict: Verdict) -> str:
    """Write the claim's verdict and the numbers it rests on, in a few plain sentences."""
    return f"{verdict.claim.title}: {RULINGS[verdict.ruling]}. {measured(verdict)}"


def measured(verdict: Verdict) -> str:
    """Write the primary numbers of a verdict as a sentence, and what else decided it."""
    clauses = [_clause(finding) for finding in verdict.primary if finding.first is not None]
    titles: dict[str, list[str]] = {}
    for finding in verdict.primary:
        if finding.reason is not None:
            titles.setdefault(finding.reason, []).append(finding.measure.column.title)
    absent = [f"{', '.join(named)}: {reason}" for reason, named in titles.items()]
    if not clauses:
        return f"Nothing to compare ({'; '.join(absent)})."
    text = f"{verdict.claim.opening}, {'; '.join(clauses)}."
    if verdict.only_proxies:
        text += f" A proxy decides nothing alone; what decides is missing ({'; '.join(absent)})."
    worse = [_clause(guard) for guard in verdict.guards if guard.outcome == "worse"]
    if worse and verdict.ruling == "undecided":
        text += f" But {'; '.join(worse)}; it guards the claim."
    return text


def _clause(finding: Finding) -> str:
    title, unit = finding.measure.column.title, finding.measure.unit
    comparison, raw = finding.comparison, finding.difference
    if comparison is None:
        values = [value_text(finding, value) for value in (finding.first, finding.second)]
        return f"{title} is {values[0]} instead of {values[1]} (no test)"
    count = f"{finding.scenes} scene{'s' if finding.scenes > 1 else ''}, p = {p_text(finding.p)}"
    if raw is None:
        return f"{title} is infinitely better on some scenes and infinitely worse on others ({count})"
    if comparison.wins == comparison.losses == 0:
        return f"{title} is {_equal(finding)}"
    digits = _digits(finding)
    if finding.outcome == "undecided":
        bounds = f" {_bounds(raw, digits, signed=True)}" if raw.low is not None else ""
        excluded = _excluded(finding)
        return f"{title} changes by {signed_text(raw.mean, digits)}{unit}{bounds} ({count}){excluded}"
    verb = "rises" if raw.mean > 0 else "falls"
    worse = ", which is worse" if finding.outcome == "worse" else ""
    return f"{title} {verb} by {_plain(abs(raw.mean), digits)}{unit} {_bounds(raw, digits)} ({count}){worse}"


def _equal(finding: Finding) -> str:
    """Describe in what way two rows are equal on every scene."""
    under = "at or below the reference's own in both rows, where lower is not better,"
    if not finding.at_floor:
        return f"the same on every one of {finding.scenes} scenes"
    if finding.at_floor == finding.scenes:
        return f"{under} on every one of {finding.scenes} scenes"
    return f"{under} on {finding.at_floor} of {finding.scenes} scenes and the same on the others"


def _excluded(finding: Finding) -> str:
    """Describe the values that the interval of an undecided difference excludes."""
    gain = finding.gain
    if gain is None or gain.low is None or gain.high is None:
        return ""
    if finding.hopeless:
        return ", too few scenes to exclude anything"
    digits, unit = _digits(finding), finding.measure.unit
    parts = []
    for name, bound in (("improvement", gain.high), ("deterioration", -gain.low)):
        if bound <= 0:
            parts.append(f"any {name}")
        elif bound < math.inf:
            parts.append(f"{'an' if name[0] == 'i' else 'a'} {name} of more than {_plain(bound, digits)}{unit}")
    if not parts:
        return ""
    found = f": the interval excludes {' and '.join(parts)}"
    return f"{found}, but p does not reach {ALPHA}" if gain.excludes(0.0) else found


def p_text(p: float | None) -> str:
    """Format a p value with two digits, or as many as it has above 0.00001."""
    if p is None:
        return "–"
    return f"{p:.2g}" if p >= 1e-3 else f"{p:.5f}" if p >= 1e-5 else "less than 0.00001"


def _digits(finding: Finding) -> int:
    """Return the number of decimals for two digits of the interval's width, or of a lone difference.

    No fewer than the metric's own.
    """
    own, raw = finding.measure.column.digits, finding.difference
    if raw is None:
        return own
    size = abs(raw.mean) if raw.low is None or raw.high is None else raw.high - raw.low
    return min(6, max(own, 1 - math.floor(math.log10(size)))) if 0 < size < math.inf else own


def _plain(value: float, digits: int) -> str:
    return ("−" if value < 0 else "") + ("∞" if math.isinf(value) else f"{abs(value):.{digits}f}")


def signed_text(value: float, digits: int) -> str:
    """Format a number with its sign and so many decimals; zero has none."""
    return ("+" if value > 0 else "") + _plain(value, digits)


def _bounds(raw: Interval, digits: int, *, signed: bool = False) -> str:
    assert raw.low is not None
    assert raw.high is not None
    if signed:
        return f"[{signed_text(raw.low, digits)}, {signed_text(raw.high, digits)}]"
    low, high = sorted((abs(raw.low), abs(raw.high)))
    return f"[{_plain(low, digits)}, {_plain(high, digits)}]"


def value_text(finding: Finding, value: float | None) -> str:
    """Format a value of the finding's metric; a dash stands for none."""
    return "–" if value is None else _plain(value, finding.measure.column.digits)


def difference_text(finding: Finding) -> str:
    """Format the difference of the two rows with its unit and interval; empty where there is none."""
    raw = finding.difference
    if raw is not None:
        digits = _digits(finding)
        bounds = "" if raw.low is None else f" {_bounds(raw, digits, signed=True)}"
        return f"{signed_text(raw.mean, digits)}{finding.measure.unit}{bounds}"
    if finding.first is None or finding.second is None or finding.comparison is not None:
        return ""
    return f"{signed_text(finding.first - finding.second, finding.measure.column.digits)}{finding.measure.unit}"
