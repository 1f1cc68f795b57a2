"""Notes below a table about all of its rows."""

from collections.abc import Mapping, Sequence

from mvtokenflow.eval.protocols import NOVEL, Protocol
from mvtokenflow.eval.records.rows import Run
from mvtokenflow.eval.tables.stats import minimum_p


def protocol_notes(protocol: Protocol, scenes: Sequence[str]) -> list[str]:
    """Return how the rows were measured, and the smallest p of an exact test on so many scenes."""
    notes = [
        f"Protocol {protocol.name}: {protocol.summary}. Scenes: {len(scenes)}; "
        "95 % intervals by bootstrap over scenes; an exact paired test on them cannot go below "
        f"p = {minimum_p(len(scenes)):.2g}."
    ]
    return notes + [f"Assumed: {assumption}." for assumption in protocol.assumed]


def data_notes(runs: Sequence[Run]) -> list[str]:
    """Return what the datasets of some runs do not state, and the assumption made."""
    found = {(run.manifest.dataset, clause): None for run in runs for clause in run.manifest.assumed}
    return [f"Assumed of {dataset}: {clause}." for dataset, clause in found]


def import_notes(runs: Sequence[Run]) -> list[str]:
    """Return what was assumed of rows that `mvtf-eval import` read: one sentence for each row and remark."""
    found: dict[tuple[str, str], dict[str, None]] = {}  # scenes in order
    for run in runs:
        record = run.manifest.config.get("import") if run.manifest.source == "upstream-run" else None
        if not isinstance(record, Mapping) or not isinstance(record.get("remarks"), Sequence):
            continue
        start = f"{run.manifest.method} was imported as {record.get('kind')}"
        clauses = "; ".join(str(remark) for remark in record["remarks"])
        found.setdefault((start, clauses), {})[run.manifest.scene] = None
    notes = []
    for (start, clauses), scenes in found.items():
        where = f" ({', '.join(scenes)})" if sum(begin == start for begin, _ in found) > 1 else ""
        notes.append(f"{start}{where}{': ' if clauses else ''}{clauses}.")
    return notes


def exchange_notes(runs: Sequence[Run]) -> list[str]:
    """Return what was exchanged in published methods run here: one sentence for each subject and its rows."""
    found: dict[tuple[str, str], dict[str, None]] = {}  # methods in order
    for run in runs:
        exchanged = run.manifest.config.get("exchanged") if run.manifest.source == "native" else None
        if isinstance(exchanged, Mapping):
            for what, clause in exchanged.items():
                found.setdefault((str(what), str(clause)), {})[run.manifest.method] = None
    return [
        f"Not as published in {', '.join(methods)}: {what}: {clause}."
        for (what, clause), methods in found.items()
    ]


def force_notes(methods: Sequence[str]) -> list[str]:
    """Return which rows hold numbers that were scored by force; none if `methods` is empty."""
    if not methods:
        return []
    return [f"Scored although a strict pre-flight refused it, and not ranked: {', '.join(methods)}."]


def code_notes(runs: Sequence[Run]) -> list[str]:
    """Return which rows were rendered by which code, unless one code rendered them all."""
    by_code: dict[str, dict[str, None]] = {}  # methods in order
    for run in runs:
        by_code.setdefault(_code(run), {})[run.manifest.method] = None
    if len(by_code) < 2:
        return []
    listed = "; ".join(f"{', '.join(methods)} by {code}" for code, methods in by_code.items())
    return [f"Rendered by different code: {listed}."]


def _code(run: Run) -> str:
    code = run.manifest.pedigree.get("code") or {}
    commit = f" at {code['commit'][:10]}" if code.get("commit") else ""
    return f"{code.get('version', 'an unknown version')}{commit}{' with changes' if code.get('dirty') else ''}"


_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def views_in_words(runs: Sequence[Run]) -> str:
    """Describe the held-out views of some runs: "four held-out views (azimuth −75, 15, 105, 195 degrees)"."""
    found = {
        tuple((v.get("azimuth_deg"), v.get("elevation_deg")) for v in run.manifest.views if v["name"] in NOVEL)
        for run in runs
    }
    counts = sorted({len(views) for views in found})
    if not counts:
        return "the held-out views"
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} held-out views"
    count = counts[0]
    views = min(found, key=str)
    if count >= len(_WORDS) or len(found) > 1:
        return f"{count} held-out views"
    azimuths = ", ".join(_degrees(azimuth) for azimuth, _ in views)
    elevations = list(dict.fromkeys(_degrees(elevation) for _, elevation in views))
    raised = "" if elevations == ["0"] else f", elevation {', '.join(elevations)}"
    return f"{_WORDS[count]} held-out view{'' if count == 1 else 's'} (azimuth {azimuths} degrees{raised})"


def _degrees(angle: float | None) -> str:
    return "unknown" if angle is None else f"{angle:g}".replace("-", "−")
