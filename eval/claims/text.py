"""Judged claims as markdown, JSON or terminal output; equal reports give equal bytes."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mvtokenflow.baselines.published import PUBLISHED
from mvtokenflow.eval.claims.collect import Report
from mvtokenflow.eval.claims.judge import ROLES, Finding, Role, Verdict
from mvtokenflow.eval.claims.rivals import OURS
from mvtokenflow.eval.claims.sentences import (
    RULINGS,
    difference_text,
    measured,
    p_text,
    sentence,
    signed_text,
    value_text,
)
from mvtokenflow.eval.claims.specs import PRINTED, Claim
from mvtokenflow.eval.records.summary import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

HEADS = ("metric", "with", "without", "difference", "relative", "scenes + = −", "p (Holm)", "outcome", "paper")
RIVAL_HEADS = (HEADS[0], "ours", "theirs", *HEADS[3:])
LEGEND = (
    "Bold metrics decide, italic ones guard. With and without the part: means over the scenes both rows have. "
    "Difference: with − without, its 95 % bootstrap interval over scenes, and its size relative to the value "
    "with the part. Scenes: on how many the part is better, equal, worse. p: paired sign-flip test, after Holm "
    "over the metrics that decide a claim, over those that guard it, and over the others; where claims share "
    "a table, as in the claim that the metric decides, else guards, else the first. Better or worse needs both "
    "an interval without 0 and p ≤ 0.05. Paper: what it prints for both."
)
RIVAL_LEGEND = (
    "Beside other methods: bold metrics decide, those that the paper prints better than theirs; italic ones, "
    "printed equal, guard. Ours and theirs: means over the scenes both rows have. Difference: ours − theirs, "
    "its 95 % bootstrap interval over scenes, and its size relative to ours. Scenes: where ours is better, "
    "equal, worse. p: paired sign-flip test, after Holm over the metrics that decide a claim, over those that "
    "guard it, and over the others. Better or worse needs both an interval without 0 and p ≤ 0.05. Paper: what "
    "it prints for both, on other scenes and with other priors."
)
STYLES: Mapping[Role, str] = {"primary": "bold", "guard": "italic", "secondary": ""}
MARKS: Mapping[Role, str] = {"primary": "**", "guard": "*", "secondary": ""}


def _comparisons(report: Report) -> list[list[Verdict]]:
    """Group claims that compare the same two rows, which share a table."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in report.verdicts:
        groups.setdefault(_rows([verdict]), []).append(verdict)
    return list(groups.values())


def _printed(claim: Claim, finding: Finding) -> str:
    """Return the paper's numbers of the two rows, where it has them."""
    metric = PRINTED[claim.printed_in].get(finding.measure.key)
    numbers = {n.method: n.printed for n in PUBLISHED if (n.table, n.metric) == (claim.printed_in, metric)}
    return f"{numbers[OURS]} / {numbers[claim.printed]}" if claim.printed in numbers else ""


def _lines(group: Sequence[Verdict]) -> list[tuple[Role, list[str]]]:
    """Write the comparison of two rows: the role and cells of each metric.

    A metric is shown in the role it has in the claim that it decides, else guards, else in the first claim.
    """
    found: dict[str, Finding] = {}
    for finding in sorted((f for v in group for f in v.findings), key=lambda f: ROLES.index(f.role)):  # stable
        found.setdefault(finding.measure.key, finding)
    lines = []
    for finding in found.values():
        column, comparison = finding.measure.column, finding.comparison
        arrow = "↑" if column.better == "higher" else "↓"
        cells = [f"{column.title[:1].upper()}{column.title[1:]} {arrow}"]
        cells += [
            value_text(finding, finding.first),
            value_text(finding, finding.second),
            difference_text(finding),
        ]
        relative = finding.relative
        cells.append("" if relative is None else f"{signed_text(100 * relative, 1)} %")
        counts = () if comparison is None else (comparison.wins, comparison.ties, comparison.losses)
        cells.append(" ".join(map(str, counts)))
        p = "" if comparison is None else p_text(finding.p)
        printed = [text for verdict in group if (text := _printed(verdict.claim, finding))]
        cells += [p, finding.outcome, printed[0] if printed else ""]
        lines.append((finding.role, cells))
    return lines


def _notes(report: Report) -> tuple[list[str], dict[tuple[str, str], list[str]]]:
    """Split the notes: those of every comparison, and the others by the two rows compared."""
    by_rows = {
        _rows(group): list(dict.fromkeys(note for verdict in group for note in verdict.notes))
        for group in _comparisons(report)
    }
    common = [note for note in next(iter(by_rows.values())) if all(note in notes for notes in by_rows.values())]
    return common, {rows: [note for note in notes if note not in common] for rows, notes in by_rows.items()}


def _with_and_without_numbers(report: Report) -> tuple[list[list[Verdict]], list[list[Verdict]]]:
    """Split the comparisons into those with any number and those without."""
    groups = _comparisons(report)
    shown = [group for group in groups if any(f.first is not None for v in group for f in v.findings)]
    return shown, [group for group in groups if group not in shown]


def _without_numbers(groups: Sequence[Sequence[Verdict]]) -> list[str]:
    """Write a line for each comparison without a number, with its reasons."""
    lines = []
    for group in groups:
        reasons = {f.reason: None for verdict in group for f in verdict.findings if f.reason is not None}
        lines.append(f"`{group[0].claim.row}` against `{group[0].claim.against}`: {'; '.join(reasons)}")
    return lines


def _rows(group: Sequence[Verdict]) -> tuple[str, str]:
    return group[0].claim.row, group[0].claim.against


def _heads(claim: Claim) -> Sequence[str]:
    return RIVAL_HEADS if claim.rival else HEADS


def _legends(report: Report) -> list[str]:
    """Return what the columns mean, of each kind of comparison that is there."""
    kinds = {verdict.claim.rival for verdict in report.verdicts}
    return [text for rival, text in ((False, LEGEND), (True, RIVAL_LEGEND)) if rival in kinds]


def _origin(report: Report) -> list[str]:
    """List the provenance and the signatures, a line each."""
    lines = []
    for name, value in report.pedigree.items():
        if isinstance(value, dict):
            items = [f"{k} {', '.join(v) if isinstance(v, list) else v}" for k, v in value.items()]
        else:
            items = [str(item) for item in value] if isinstance(value, list) else [str(value)]
        count = f" ({len(items)})" if name == "scenes" else ""
        lines.append(f"{name}{count}: {', '.join(items) or 'none'}")
    return lines


def markdown_text(report: Report) -> str:
    """Write GitHub-flavoured markdown: verdicts, comparisons, what is missing, provenance."""
    parts = ["| claim | in the paper | verdict | measured |\n| :-- | :-- | :-- | :-- |"]
    for verdict in report.verdicts:
        claim = verdict.claim
        line = (claim.title, claim.where, f"**{RULINGS[verdict.ruling]}**", measured(verdict))
        parts[0] += f"\n| {' | '.join(map(_md, line))} |"
    common, notes = _notes(report)
    parts += ["Of all comparisons:\n\n" + "\n".join(f"- {_md(note)}" for note in common)] if common else []
    shown, empty = _with_and_without_numbers(report)
    for group in shown:
        parts += _section(group, notes[_rows(group)])
    parts += _legends(report)
    if empty:
        parts += ["### Not compared", "\n".join(f"- {_md(line)}" for line in _without_numbers(empty))]
    if report.todo:
        parts.append("### What is missing")
        parts.append("\n".join(f"- {_md(what)} Make it: `{command}`" for what, command in report.todo))
    parts.append("### Where the numbers come from")
    origin = [f"- {_md(line)}" for line in _origin(report)]
    origin += [f"- {key}: `{signature}`" for key, signature in report.signatures.items()]
    parts.append("\n".join(origin))
    return "\n\n".join(parts) + "\n"


def _section(group: Sequence[Verdict], notes: Sequence[str]) -> list[str]:
    """Write the comparison of two rows in markdown."""
    claim = group[0].claim
    parts = [f"### `{claim.row}` against `{claim.against}`"]
    verdicts = []
    for verdict in group:
        about = verdict.claim
        title, says, where = _md(about.title), _md(about.says), _md(about.where)
        verdicts.append(f"- **{title}: {RULINGS[verdict.ruling]}.** {says} In the paper: {where}.")
    parts.append("\n".join(verdicts))
    rows = [f"| {' | '.join(_heads(claim))} |", f"| :-- |{' --: |' * (len(HEADS) - 3)} :-- | --: |"]
    for role, cells in _lines(group):
        name = f"{MARKS[role]}{_md(cells[0])}{MARKS[role]}"
        rows.append(f"| {' | '.join([name, *map(_md, cells[1:])])} |")
    parts.append("\n".join(rows))
    return [*parts, "\n".join(f"- {_md(note)}" for note in notes)] if notes else parts


def _md(text: str) -> str:
    """Escape text for a cell or a line; existing bold stays."""
    return re.sub(r"(?<!\*)\*(?!\*)|[\\|<]|_", lambda found: f"\\{found[0]}", " ".join(text.split()))


def terminal(report: Report) -> "RenderableType":
    """Build the terminal output for `rich.console.Console.print`."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    common, notes = _notes(report)
    parts: list[RenderableType] = [Text(sentence(verdict)) for verdict in report.verdicts]
    parts += [Text(note, style="dim") for note in common]
    shown, empty = _with_and_without_numbers(report)
    for group in shown:
        claim = group[0].claim
        grid = Table(
            title=Text(f"\n{claim.row} against {claim.against}"),
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for head in _heads(claim):
            grid.add_column(head, justify="left" if head in ("metric", "outcome") else "right")
        for role, cells in _lines(group):
            grid.add_row(*(Text(cell, style=STYLES[role]) for cell in cells))
        parts += [grid, *(Text(note, style="dim") for note in notes[_rows(group)])]
    parts += [Text(f"not compared: {line}") for line in _without_numbers(empty)]
    parts += [*(Text(f"\n{legend}", style="dim") for legend in _legends(report)), Text("")]
    parts += [Text(f"{what} Make it: {command}") for what, command in report.todo]
    parts += [Text(line, style="dim") for line in _origin(report)]
    parts += [Text(f"{key}: {signature}", style="dim") for key, signature in report.signatures.items()]
    return Group(*parts)


def json_text(report: Report) -> str:
    """Write one strict JSON document; infinite values become the strings "inf" and "-inf"."""
    document = {
        "schema": 1,
        "claims": [_claim_json(verdict) for verdict in report.verdicts],
        "signatures": dict(report.signatures),
        "missing": [{"what": what, "command": command} for what, command in report.todo],
        "pedigree": dict(report.pedigree),
    }
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def _claim_json(verdict: Verdict) -> dict[str, Any]:
    claim = verdict.claim
    return {
        "claim": claim.key,
        "title": claim.title,
        "says": claim.says,
        "where": claim.where,
        "row": claim.row,
        "against": claim.against,
        "verdict": RULINGS[verdict.ruling],
        "sentence": sentence(verdict),
        "scenes": verdict.scenes,
        "metrics": [_finding_json(finding) for finding in verdict.findings],
        "notes": list(verdict.notes),
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    raw, comparison = finding.difference, finding.comparison

    def number(value: float | None) -> float | str | None:
        return None if value is None else plain(value)

    return {
        "measure": finding.measure.key,
        "metric": finding.measure.column.metric,
        "views": list(finding.views),
        "better": finding.measure.column.better,
        "role": finding.role,
        "with": number(finding.first),
        "without": number(finding.second),
        "difference": None if raw is None else number(raw.mean),
        "low": None if raw is None else number(raw.low),
        "high": None if raw is None else number(raw.high),
        "relative": finding.relative,
        "scenes": finding.scenes,
        "wins": None if comparison is None else comparison.wins,
        "ties": None if comparison is None else comparison.ties,
        "losses": None if comparison is None else comparison.losses,
        "p": None if comparison is None else comparison.test.p,
        "p_holm": finding.p,
        "outcome": finding.outcome,
        "reason": finding.reason,
    }
