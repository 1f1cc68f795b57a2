"""Builds tables 1 to 4 from records; pure functions."""

from collections.abc import Mapping, Sequence
from sys import intern
from typing import Literal

from mvtokenflow.base.errors import ProtocolError
from mvtokenflow.baselines.published import PUBLISHED, Published
from mvtokenflow.eval.protocols import Protocol
from mvtokenflow.eval.records.rows import Run
from mvtokenflow.eval.tables.measured import Measured, is_measured, measure, mixed
from mvtokenflow.eval.tables.notes import (
    code_notes,
    data_notes,
    exchange_notes,
    force_notes,
    import_notes,
    protocol_notes,
    views_in_words,
)
from mvtokenflow.eval.tables.specs import ColumnSpec, Cost, TableSpec
from mvtokenflow.eval.tables.stats import bootstrap_mean, compare
from mvtokenflow.eval.tables.table import Cell, Column, Group, Table, TableRow

STATISTICS_SEED = 2025


def build_table(
    spec: TableSpec,
    runs: Sequence[Run],
    protocol: Protocol,
    methods: Sequence[str],
    scenes: Sequence[str],
    *,
    seeds: Sequence[int] | None = None,
    missing: Mapping[str, str] | None = None,
    unrun: Mapping[str, str] | None = None,
    allow_mixed: bool = False,
    quoted: bool = True,
) -> Table:
    """Build the table over the given runs.

    Args:
        runs: with rows of `protocol` only; others of the list are ignored.
        methods: measured rows, in order; a method without runs has empty cells with the reason.
        scenes, seeds: what was asked for, so that `6/7` differs from `7/7`; None for the seeds of the runs.
        missing: reasons by metric key why it could not be measured (for example no weights).
        unrun: reasons by method why it has no run.
        allow_mixed: put numbers of different signatures into one column; they are listed below the table.
        quoted: append published numbers, marked and never ranked.

    Raises:
        ProtocolError: a column would mix signatures and `allow_mixed` is not set.
    """
    measured = {s.key: s for s in protocol.metrics}
    columns = [column for column in spec.under(protocol).columns if is_measured(column, protocol)]
    wanted = set(scenes)
    by_method: dict[str, list[Run]] = {method: [] for method in methods}
    for run in runs:
        if run.manifest.method in by_method and run.manifest.scene in wanted:
            by_method[run.manifest.method].append(run)
    grid = {
        (method, index): measure(column, measured.get(column.metric), by_method[method])
        for method in methods
        for index, column in enumerate(columns)
    }
    heads = [_head(column, [grid[m, i] for m in methods], allow_mixed) for i, column in enumerate(columns)]
    groups = {method: _group(by_method[method]) for method in methods}
    cells: dict[str, list[Cell]] = {method: [] for method in methods}
    used = [run for method in methods for run in by_method[method]]
    want = len(scenes) * len(set(seeds) if seeds is not None else {r.manifest.seed for r in used} or {0})
    for index, column in enumerate(columns):
        ranked = _rank(column, {m: grid[m, index] for m in methods if groups[m] == "measured"})
        for method in methods:
            reason = _reason(column, by_method[method], missing or {}, (unrun or {}).get(method, "not run"))
            cells[method].append(_cell(grid[method, index], want, ranked.get(method), reason))
    rows = [
        TableRow(
            label=method,
            source=by_method[method][0].manifest.source if by_method[method] else "native",
            group=groups[method],
            cells=cells[method],
        )
        for method in sorted(
            methods, key=lambda m: groups[m] == "oracle"
        )  # stable: order within groups is kept
    ]
    forced = [method for method in methods if _forced([grid[method, i] for i in range(len(columns))])]
    about_rows = [*data_notes(used), *exchange_notes(used), *import_notes(used)]
    notes = [*protocol_notes(protocol, scenes), *about_rows, *force_notes(forced), *code_notes(used)]
    if quoted:
        rows += _quoted_rows(spec.name, columns, notes)
    return Table(
        name=spec.name,
        title=spec.title,
        caption=spec.caption.replace("{views}", views_in_words(used)),
        columns=heads,
        rows=rows,
        footnotes=notes,
    )


def _head(column: ColumnSpec, cells: Sequence[Measured | None], allow_mixed: bool) -> Column:
    present = [cell for cell in cells if cell is not None]
    signatures = sorted({cell.signature for cell in present})
    if mixed(present) and not allow_mixed:
        found = {cell.signature: cell.runs[0].folder for cell in reversed(present) if cell.runs}
        listed = "; ".join(f"{one} in {found[one]}" if one in found else one for one in signatures[:3])
        remedy = "score all rows under one protocol and the same weights"
        if isinstance(column.shows, Cost):
            remedy = "render all rows on one device"
        raise ProtocolError(
            f"column {column.title}: its cells were measured in different ways ({listed}); {remedy}, or accept "
            "it with `mvtf-eval table1 --allow-mixed`"
        )
    return Column(
        key=column.metric, title=column.title, better=column.better, digits=column.digits, signatures=signatures
    )


def _group(runs: Sequence[Run]) -> Group:
    return "oracle" if any(run.manifest.source == "oracle" for run in runs) else "measured"


def _rank(column: ColumnSpec, cells: Mapping[str, Measured | None]) -> dict[str, tuple[int, bool]]:
    """Rank methods by unrounded values among rows with every scene and seed of any row; ties share a rank.

    Rows that were scored by force are not ranked.
    """
    present = {method: cell for method, cell in cells.items() if cell is not None and not cell.forced()}
    pairs = {pair for cell in present.values() for pair in cell.pairs()}
    whole = {method: cell for method, cell in present.items() if cell.pairs() == pairs}
    if column.better == "none" or len(whole) < 2:
        return {}
    sign = 1 if column.better == "lower" else -1
    order = sorted(whole, key=lambda method: sign * whole[method].total)
    best = whole[order[0]]
    ranks = {}
    for method in order:
        cell = whole[method]
        better = sum(sign * other.total < sign * cell.total for other in whole.values())
        ranks[method] = (better + 1, method != order[0] and _tied(column, best, cell))
    return ranks


def _tied(column: ColumnSpec, best: Measured, other: Measured) -> bool:
    if not best.values:
        return best.total == other.total
    better: Literal["lower", "higher"] = "lower" if column.better == "lower" else "higher"
    return compare(best.values, other.values, better, STATISTICS_SEED).tied


def _reason(column: ColumnSpec, runs: Sequence[Run], missing: Mapping[str, str], unrun: str) -> str:
    if not runs:
        return unrun
    if column.metric in missing:
        return missing[column.metric]
    if isinstance(column.shows, Cost):
        return "rendered elsewhere: its cost is not known"
    reasons = {run.missing[column.metric] for run in runs if column.metric in run.missing}
    return "; ".join(sorted(reasons)) or "not measured: run the table again"


def _cell(found: Measured | None, want: int, ranked: tuple[int, bool] | None, reason: str) -> Cell:
    if found is None:
        return Cell(value=None, want=want, reason=reason)
    low = high = None
    if len(found.values) > 1:
        interval = bootstrap_mean(list(found.values.values()), STATISTICS_SEED)
        low, high = interval.low, interval.high
    return Cell(
        value=found.total,
        low=low,
        high=high,
        have=len(found.pairs()),
        want=want,
        rank=ranked[0] if ranked else None,
        tied=ranked[1] if ranked else False,
        provenance=_provenance(found),
    )


def _provenance(found: Measured) -> dict[str, object]:
    first = found.runs[0].manifest
    return {
        "signature": found.signature,
        "per scene": dict(found.values),
        "config": dict(first.config),
        **({"assumed": list(first.assumed)} if first.assumed else {}),
        "seeds": sorted({run.manifest.seed for run in found.runs}),
        "runs": {  # texts that the cells of a row share
            intern(
                run.folder.name if len(found.runs) == 1 else f"{run.manifest.scene}/{run.folder.name}"
            ): intern(run.manifest.prediction_digest[:16])
            for run in found.runs
        },
        "code": first.pedigree.get("code"),
        "weights": run_weights(found.runs),
        "device": first.pedigree.get("device"),
        "packages": first.pedigree.get("packages"),
    }


def run_weights(runs: Sequence[Run]) -> dict[str, str]:
    """Return the hashes of all weights behind some runs and their measurement."""
    pedigrees = [p for run in runs for p in (run.manifest.pedigree, run.measured_by)]
    return {name: sha for pedigree in pedigrees for name, sha in pedigree.get("weights", {}).items()}


def _forced(cells: Sequence[Measured | None]) -> bool:
    return any(cell is not None and cell.forced() for cell in cells)


def _quoted_rows(table: str, columns: Sequence[ColumnSpec], notes: list[str]) -> list[TableRow]:
    numbers = [number for number in PUBLISHED if number.table == table]
    methods = list(dict.fromkeys(number.method for number in numbers))
    rows = []
    for method in methods:
        cells, used = [], set()
        for column in columns:
            number = next(
                (
                    n
                    for n in numbers
                    if n.method == method and n.metric == column.metric and n.metric not in used
                ),
                None,
            )
            used.add(column.metric)  # a metric that fills two columns was printed once
            cells.append(_quoted_cell(number))
        sources = {f"arXiv {n.arxiv}, {n.where}: {n.protocol}" for n in numbers if n.method == method}
        note = "; ".join(sorted(sources))
        rows.append(TableRow(label=method, source="quoted", group="quoted", cells=cells, note=note))
    return rows


def _quoted_cell(number: Published | None) -> Cell:
    if number is None:
        return Cell(value=None, reason="not printed in the paper")
    source = {"arXiv": number.arxiv, "where": number.where, "protocol": number.protocol}
    return Cell(value=float(number.printed), printed=number.printed, provenance=source)
