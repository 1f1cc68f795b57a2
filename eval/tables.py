"""Tables 1-4 as pure functions of records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mvtokenflow.baselines.published import PUBLISHED, Published
from mvtokenflow.errors import ProtocolError
from mvtokenflow.eval.aggregate import CLIP_LENGTH, ObjectValue, mean, object_values, signature_of
from mvtokenflow.eval.metrics.fvd import frechet_distance
from mvtokenflow.eval.protocols import Protocol
from mvtokenflow.eval.records import Run
from mvtokenflow.eval.stats import bootstrap_mean, compare
from mvtokenflow.eval.table import Cell, Column, Group, Table, TableRow
from mvtokenflow.eval.table_specs import ColumnSpec, TableSpec

STATISTICS_SEED = 2025


COSTS: Mapping[str, Callable[[Run], float]] = {
    "minutes": lambda run: sum(stage.wall_s for stage in run.manifest.stages) / 60,
    "peak_mib": lambda run: max(stage.peak_mib for stage in run.manifest.stages),
}


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """One cell before ranks: values by scene, averaged over seeds."""

    values: Mapping[str, float]
    signature: str
    total: float
    runs: Sequence[Run]


def build_table(
    spec: TableSpec,
    runs: Sequence[Run],
    protocol: Protocol,
    methods: Sequence[str],
    scenes: Sequence[str],
    *,
    missing: Mapping[str, str] | None = None,
    unrun: Mapping[str, str] | None = None,
    allow_mixed: bool = False,
    quoted: bool = True,
) -> Table:
    """The table over the given runs.

    Args:
        runs: with rows of `protocol` only; others of the list are ignored.
        methods: measured rows, in order; a method without runs has empty cells with the reason.
        scenes: what was asked for, so that `6/7` can be told from `7/7`.
        missing: reasons by metric key why nobody could measure it (no weights, say).
        unrun: reasons by method why it has no run.
        allow_mixed: put numbers of different signatures into one column; they are listed below the table.
        quoted: append published numbers, marked and never ranked.

    Raises:
        ProtocolError: a column would mix signatures and `allow_mixed` is not set.
    """
    measured_here = {s.key for s in protocol.metrics} | set(COSTS)
    columns = [column for column in spec.columns if column.metric in measured_here]
    by_method = {m: [r for r in runs if r.manifest.method == m and r.manifest.scene in scenes] for m in methods}
    grid = {
        (method, index): _measure(column, by_method[method])
        for method in methods
        for index, column in enumerate(columns)
    }
    heads = [_head(column, [grid[m, i] for m in methods], allow_mixed) for i, column in enumerate(columns)]
    groups = {method: _group(by_method[method]) for method in methods}
    cells: dict[str, list[Cell]] = {method: [] for method in methods}
    for index, column in enumerate(columns):
        ranked = _rank(column, {m: grid[m, index] for m in methods if groups[m] == "measured"})
        for method in methods:
            reason = _reason(column, by_method[method], missing or {}, (unrun or {}).get(method, "not run"))
            cells[method].append(_cell(grid[method, index], len(scenes), ranked.get(method), reason))
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
    notes = _protocol_notes(protocol, scenes)
    if quoted:
        rows += _quoted_rows(spec.name, columns, notes)
    return Table(
        name=spec.name, title=spec.title, caption=spec.caption, columns=heads, rows=rows, footnotes=notes
    )


def _measure(column: ColumnSpec, runs: Sequence[Run]) -> _Measured | None:
    if column.metric in COSTS:
        values = _over_seeds({(r.manifest.scene, r.manifest.seed): COSTS[column.metric](r) for r in runs})
        devices = sorted({str(r.manifest.pedigree.get("device", "unknown")) for r in runs})
        signature = f"{column.metric}|device:{','.join(devices)}|scenes:{len(values)}"
        return (
            _Measured(values=values, signature=signature, total=mean(list(values.values())), runs=runs)
            if runs
            else None
        )
    if column.metric == "fvd":
        return _measure_set(column, runs)
    found: dict[tuple[str, int], ObjectValue] = {}
    for run in runs:
        values_here = object_values(run.rows, column.metric, column.views)
        if run.manifest.scene in values_here:
            found[run.manifest.scene, run.manifest.seed] = values_here[run.manifest.scene]
    if not found:
        return None
    by_scene = _over_seeds({key: value.value for key, value in found.items()})
    seeds = len({seed for _, seed in found})
    signature = signature_of({f"{scene}/{seed}": value for (scene, seed), value in found.items()})
    return _Measured(
        values=by_scene,
        signature=_without_objects(signature) + f"|objects:{len(by_scene)}|seeds:{seeds}",
        total=mean(list(by_scene.values())),
        runs=[run for run in runs if (run.manifest.scene, run.manifest.seed) in found],
    )


def _without_objects(signature: str) -> str:
    return "|".join(part for part in signature.split("|") if not part.startswith("objects:"))


def _over_seeds(values: Mapping[tuple[str, int], float]) -> dict[str, float]:
    scenes = sorted({scene for scene, _ in values})
    return {scene: mean([v for (name, _), v in sorted(values.items()) if name == scene]) for scene in scenes}


def _measure_set(column: ColumnSpec, runs: Sequence[Run]) -> _Measured | None:
    """The set-level FVD: one number for a method, over all clips of all scenes and views."""
    features = [
        f for r in runs for f in r.features if f.metric == column.metric and f.view in (column.views or ())
    ]
    if len(features) < 2:
        return None
    features.sort(key=lambda f: (f.object, f.view, f.clip, f.key))
    total = frechet_distance(
        np.array([f.pred for f in features], np.float64), np.array([f.reference for f in features], np.float64)
    )
    signatures = sorted({f.signature for f in features})
    return _Measured(
        values={},
        signature=" + ".join(f"{s}|clips:{len(features)}" for s in signatures),
        total=total,
        runs=runs,
    )


def _head(column: ColumnSpec, cells: Sequence[_Measured | None], allow_mixed: bool) -> Column:
    signatures = sorted({cell.signature for cell in cells if cell is not None})
    kinds = {_without_extent(signature) for signature in signatures}
    mixed = len(kinds) > 1 or any(" + " in signature for signature in signatures)
    if mixed and column.metric not in COSTS and not allow_mixed:
        listed = "; ".join(signatures[:3])
        raise ProtocolError(
            f"column {column.title}: its cells were measured in different ways ({listed}); score all "
            "rows under one protocol and the same weights, or accept it with --allow-mixed"
        )
    return Column(
        key=column.metric, title=column.title, better=column.better, digits=column.digits, signatures=signatures
    )


def _without_extent(signature: str) -> str:
    """A signature without how many objects and seeds contributed: partial rows are marked, not mixed."""
    extent = ("objects:", "seeds:", "clips:", "frames:", CLIP_LENGTH)
    return "|".join(part for part in signature.split("|") if not part.startswith(extent))


def _group(runs: Sequence[Run]) -> Group:
    return "oracle" if any(run.manifest.source == "oracle" for run in runs) else "measured"


def _rank(column: ColumnSpec, cells: Mapping[str, _Measured | None]) -> dict[str, tuple[int, bool]]:
    """Rank and tie by method, from unrounded values; only rows over the same scenes are compared."""
    present = {method: cell for method, cell in cells.items() if cell is not None}
    if column.better == "none" or len(present) < 2:
        return {}
    widest = max(len(cell.values) for cell in present.values())
    whole = {method: cell for method, cell in present.items() if len(cell.values) == widest}
    sign = 1 if column.better == "lower" else -1
    order = sorted(whole, key=lambda method: sign * whole[method].total)
    best = whole[order[0]]
    ranks = {}
    for method in order:
        cell = whole[method]
        better = sum(sign * other.total < sign * cell.total for other in whole.values())
        ranks[method] = (better + 1, method != order[0] and _tied(column, best, cell))
    return ranks


def _tied(column: ColumnSpec, best: _Measured, other: _Measured) -> bool:
    if best.values.keys() != other.values.keys() or not best.values:
        return best.total == other.total
    better: Literal["lower", "higher"] = "lower" if column.better == "lower" else "higher"
    return compare(best.values, other.values, better, STATISTICS_SEED).tied


def _reason(column: ColumnSpec, runs: Sequence[Run], missing: Mapping[str, str], unrun: str) -> str:
    if not runs:
        return unrun
    if column.metric in missing:
        return missing[column.metric]
    reasons = {run.missing[column.metric] for run in runs if column.metric in run.missing}
    return "; ".join(sorted(reasons)) or "not measured: run the table again"


def _cell(found: _Measured | None, want: int, ranked: tuple[int, bool] | None, reason: str) -> Cell:
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
        have=len(found.values) or want,
        want=want,
        rank=ranked[0] if ranked else None,
        tied=ranked[1] if ranked else False,
        provenance=_provenance(found),
    )


def _provenance(found: _Measured) -> dict[str, object]:
    first = found.runs[0].manifest
    return {
        "signature": found.signature,
        "per scene": dict(found.values),
        "config": dict(first.config),
        "seeds": sorted({run.manifest.seed for run in found.runs}),
        "runs": {
            run.folder.name if len(found.runs) == 1 else f"{run.manifest.scene}/{run.folder.name}": (
                run.manifest.prediction_digest[:16]
            )
            for run in found.runs
        },
        "code": first.pedigree.get("code"),
        "weights": run_weights(found.runs),
        "device": first.pedigree.get("device"),
        "packages": first.pedigree.get("packages"),
    }


def run_weights(runs: Sequence[Run]) -> dict[str, str]:
    """Hashes of all weights behind some runs and their measurement."""
    return {name: sha for run in runs for name, sha in run.manifest.pedigree.get("weights", {}).items()}


def _protocol_notes(protocol: Protocol, scenes: Sequence[str]) -> list[str]:
    notes = [
        f"Protocol {protocol.name}: {protocol.summary}. {len(scenes)} scenes; "
        "95 % intervals by bootstrap over scenes."
    ]
    notes += [f"Assumed: {assumption}." for assumption in protocol.assumed]
    return notes


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
