"""Collection of finished runs to judge the paper's claims; nothing is rendered or measured."""

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.claims.judge import Pair, Verdict, judge
from mvtokenflow.eval.claims.specs import Claim, Measure, table_of
from mvtokenflow.eval.records.rows import Run
from mvtokenflow.eval.score.scoring import settings_for
from mvtokenflow.eval.tables.build import build_table, run_weights
from mvtokenflow.eval.tables.request import Request
from mvtokenflow.eval.tables.specs import ColumnSpec, TableSpec, specs_of
from mvtokenflow.eval.tables.table import Cell
from mvtokenflow.eval.tables.tabulate import scored_runs
from mvtokenflow.workdir.provenance import PACKAGES

Where = tuple[str, int]  # scene, seed
_NOT_PACKAGES = ("code", "device")


@dataclass(frozen=True, kw_only=True)
class Report:
    """The claims judged on a set of runs.

    Attributes:
        verdicts: in the order of the claims.
        signatures: signatures of the numbers, by key of measure.
        todo: what is missing, and the command that produces it.
        pedigree: protocol, scenes, seeds, code, packages, devices, weights and priors behind the numbers.
    """

    verdicts: Sequence[Verdict]
    signatures: Mapping[str, str]
    todo: Sequence[tuple[str, str]]
    pedigree: Mapping[str, Any]


def rows_of(claims: Sequence[Claim]) -> list[str]:
    """List the rows that some claims compare, each once."""
    return list(dict.fromkeys(name for claim in claims for name in (claim.row, claim.against)))


def claims_report(
    request: Request, claims: Sequence[Claim], command: Sequence[str], *, allow_mixed: bool = False
) -> Report:
    """Judge claims on the finished and scored runs of the request.

    Args:
        request: rows of all claims; scenes and seeds without a run are no error.
        claims: those that compare the same two rows compare the same measures.
        command: command-line options that select the same grid, for `todo`.
        allow_mixed: compare numbers of different signatures.

    Raises:
        DataError: no claim's row has a scored run.
        ProtocolError: two rows were measured in different ways and `allow_mixed` is not set.
    """
    runs = scored_runs(request)
    if not runs:
        makers = _makers(claims)
        make = "; ".join(
            _command(table, [row for row in makers if makers[row] == table], request.scenes, request, command)
            for table in dict.fromkeys(makers.values())
        )
        raise DataError(
            f"{request.root}: holds no finished run of {request.dataset.name} that was scored under "
            f"{request.protocol.name}; make them: {make}"
        )
    columns = tuple({key: m.column for claim in claims for key, m in claim.measures.items()}.values())
    spec = TableSpec(name="claims", title="", caption="", columns=columns)
    _, missing = settings_for(request.protocol, request.options, specs_of(request.protocol, [spec]))
    unmeasurable = {entry.metric for entry in missing}
    lacking = {spec.weights for spec in request.protocol.metrics if spec.key in unmeasurable}
    reader = _Reader(request, runs, lacking, allow_mixed)
    values = {
        rows: {key: reader.pair(*rows, measure) for key, measure in measures.items()}
        for rows, measures in {(claim.row, claim.against): claim.measures for claim in claims}.items()
    }
    unlike = {rows: _unlike(*(reader.runs[row] for row in rows)) for rows in values}
    return Report(
        verdicts=[
            replace(verdict, notes=[*verdict.notes, *unlike[verdict.claim.row, verdict.claim.against]])
            for verdict in (judge(claim, values[claim.row, claim.against]) for claim in claims)
        ],
        signatures=_signatures(values),
        todo=[*_lacking_runs(request, runs, claims, command), *reader.lacking_measures(command)],
        pedigree=_pedigree(request, runs),
    )


class _Reader:
    """Reads pairs of numbers from runs: each measure over the scenes and seeds that both rows have."""

    def __init__(
        self, request: Request, runs: Sequence[Run], lacking_weights: Set[str | None], allow_mixed: bool
    ) -> None:
        self.request = request
        self.lacking_weights = lacking_weights
        self.allow_mixed = allow_mixed
        self.runs: dict[str, dict[Where, Run]] = defaultdict(dict)
        self.places: dict[str, set[tuple[str, str]]] = {}  # content of runs: metric and view
        for run in runs:
            self.runs[run.manifest.method][run.manifest.scene, run.manifest.seed] = run
            self.places[str(run.folder)] = {(r.metric, r.view) for r in run.rows} | {
                (f.metric, f.view) for f in run.features
            }
        self.unmeasured: dict[str, set[tuple[str, str]]] = defaultdict(set)  # table: method and scene

    def pair(self, first_row: str, second_row: str, measure: Measure) -> Pair:
        """Return one measure of two rows."""
        column, rows = measure.column, (first_row, second_row)
        if not self._in_protocol(column):
            return Pair(reason=f"protocol {self.request.protocol.name} does not measure it")
        absent = [row for row in rows if not self.runs[row]]
        if absent:
            return Pair(reason=f"no scored run of {' or '.join(absent)}")
        shared = self._shared(rows, column)
        if not shared:
            return Pair(reason=self._why_not(rows, measure))
        first, second = self._cells(rows, column, shared)
        if first.value is None or second.value is None:  # too few clips for a value of the set
            return Pair(reason=first.reason or second.reason)
        floor = self._floor(rows, measure.floor, shared) if measure.floor else {}
        per_scene = [(cell.provenance or {}).get("per scene", {}) for cell in (first, second)]
        return Pair(
            first=per_scene[0],
            second=per_scene[1],
            totals=None if per_scene[0] else (first.value, second.value),
            floor=floor,
            signature=str((first.provenance or {})["signature"]),
            views=tuple(self._views(self.runs[first_row][min(shared)], column)),
        )

    def _in_protocol(self, column: ColumnSpec) -> bool:
        protocol = self.request.protocol
        return any(
            spec.key == column.metric and column.place in protocol.places_of(spec) for spec in protocol.metrics
        )

    def _floor(self, rows: Sequence[str], column: ColumnSpec, shared: Set[Where]) -> Mapping[str, float]:
        """Return the reference's own value by scene; note the table that measures it for scenes without one."""
        known = self._shared(rows, column) & shared
        if self._in_protocol(column):
            lacking = {(row, scene) for row in rows for scene, _ in shared - known}
            self.unmeasured[table_of(column)] |= lacking
        if not known:
            return {}
        found: Mapping[str, float] = (self._cells(rows, column, known)[0].provenance or {})["per scene"]
        return found

    def _shared(self, rows: Sequence[str], column: ColumnSpec) -> set[Where]:
        """List scenes and seeds for which both rows have the column's numbers."""
        found = [{where for where, run in self.runs[row].items() if self._views(run, column)} for row in rows]
        return found[0] & found[1]

    def _views(self, run: Run, column: ColumnSpec) -> list[str]:
        """Return the views in a run's records that a column shows, sorted; "*" for what lies between views."""
        place, measured = column.place, self.places[str(run.folder)]
        return sorted(v for metric, v in measured if metric == column.metric and place and v in place)

    def _cells(self, rows: Sequence[str], column: ColumnSpec, shared: set[Where]) -> tuple[Cell, Cell]:
        table = build_table(
            TableSpec(name="claims", title="", caption="", columns=(column,)),
            [self.runs[row][where] for row in rows for where in sorted(shared)],
            self.request.protocol,
            rows,
            list(self.request.scenes),
            allow_mixed=self.allow_mixed,
            quoted=False,
        )
        cells = {row.label: row.cells[0] for row in table.rows}
        return cells[rows[0]], cells[rows[1]]

    def _why_not(self, rows: Sequence[str], measure: Measure) -> str:
        metric = measure.column.metric
        weights = {spec.weights for spec in self.request.protocol.metrics if spec.key == metric}
        lacking = sorted(str(name) for name in weights & self.lacking_weights)
        if lacking:  # reworded: the ledger's message names a folder of this machine, and pages are published
            return f"the weights {lacking[0]} are not here; `mvtf-eval weights fetch {lacking[0]}`"
        runs = [run for row in rows for run in self.runs[row].values()]
        reasons = sorted({run.missing[metric] for run in runs if metric in run.missing})
        if reasons and weights == {None}:  # otherwise the weights have arrived since
            return "; ".join(reasons)
        where = [set(self.runs[row]) for row in rows]
        if not where[0] & where[1]:
            return "the two rows share no scene and seed"
        self.unmeasured[measure.table] |= {(run.manifest.method, run.manifest.scene) for run in runs}
        return f"not measured by the tables so far; {measure.table} does"

    def lacking_measures(self, command: Sequence[str]) -> list[tuple[str, str]]:
        """List the tables that would measure what finished runs lack."""
        return [
            (
                f"Finished runs lack what {table} measures; nothing is rendered for it.",
                _command(
                    table,
                    [m.name for m in self.request.methods if m.name in {method for method, _ in found}],
                    [scene for scene in self.request.scenes if scene in {name for _, name in found}],
                    self.request,
                    command,
                ),
            )
            for table, found in sorted(self.unmeasured.items())
            if found
        ]


def _makers(claims: Sequence[Claim]) -> dict[str, str]:
    """Return the table whose command makes each row: 2 of generated views, 3 of ablations, else 1."""
    generated = rows_of([claim for claim in claims if claim.generated])
    ablated = rows_of([claim for claim in claims if not claim.rival])
    tables = {row: "table3" if row in ablated else "table1" for row in rows_of(claims)}
    return tables | dict.fromkeys(generated, "table2")


def _lacking_runs(
    request: Request, runs: Sequence[Run], claims: Sequence[Claim], command: Sequence[str]
) -> list[tuple[str, str]]:
    """List one command for each table and set of scenes that some of its rows lack."""
    have = {(run.manifest.method, run.manifest.scene, run.manifest.seed) for run in runs}
    rows: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for row, table in _makers(claims).items():
        lacking = tuple(
            scene for scene in request.scenes if any((row, scene, seed) not in have for seed in request.seeds)
        )
        if lacking:
            rows[table, lacking].append(row)
    return [
        (
            f"{len(scenes)} of {len(request.scenes)} scenes lack scored runs of {', '.join(methods)}.",
            _command(table, methods, scenes, request, command),
        )
        for (table, scenes), methods in rows.items()
    ]


def _command(
    table: str, methods: Sequence[str], scenes: Sequence[str], request: Request, command: Sequence[str]
) -> str:
    every = list(scenes) == list(request.dataset.scene_names())
    words = ["mvtf-eval", table, "--methods", ",".join(methods)]
    return " ".join([*words, "--scenes", "all" if every else ",".join(scenes), *command])


def _signatures(values: Mapping[tuple[str, str], Mapping[str, Pair]]) -> dict[str, str]:
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for pairs in values.values():
        for key, pair in pairs.items():
            if pair.signature is not None:
                found[key][pair.signature] = None
    return {key: " / ".join(signatures) for key, signatures in found.items()}


def _pedigree(request: Request, runs: Sequence[Run]) -> dict[str, Any]:
    """Collect the provenance of the numbers, each item once; without times, folders and commands."""
    manifests = [run.manifest for run in runs]
    packages = [manifest.pedigree.get("packages", {}) for manifest in manifests]
    return {
        "protocol": request.protocol.name,
        "dataset": request.dataset.name,
        "scenes": [scene for scene in request.scenes if any(m.scene == scene for m in manifests)],
        "seeds": sorted({m.seed for m in manifests}),
        "runs": {row: sum(m.method == row for m in manifests) for row in sorted({m.method for m in manifests})},
        "code": sorted({_code(m.pedigree.get("code") or {}) for m in manifests}),
        "packages": {
            name: sorted({str(versions[name]) for versions in packages if name in versions})
            for name in PACKAGES
            if any(name in versions for versions in packages)
        },
        "rendered on": sorted({str(m.pedigree.get("device", "unknown")) for m in manifests}),
        "measured on": sorted({str(run.measured_by.get("device", "unknown")) for run in runs}),
        "prior": sorted(
            {str(m.config[key]) for m in manifests for key in ("views", "prior") if key in m.config}
        ),
        "weights": run_weights(runs),
    }


def _unlike(first: Mapping[Where, Run], second: Mapping[Where, Run]) -> list[str]:
    """Note differences between compared runs other than the row; empty if there are none."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    scenes = set()
    for where in first.keys() & second.keys():
        here, there = _made_with(first[where]), _made_with(second[where])
        for name in here.keys() | there.keys():
            values = here.get(name, "unknown"), there.get(name, "unknown")
            if values[0] != values[1]:
                scenes.add(where[0])
                for side, value in zip(found.setdefault(name, (set(), set())), values, strict=True):
                    side.add(value)
    if not found:
        return []
    differences = [
        f"{name} {', '.join(sorted(found[name][0]))} against {', '.join(sorted(found[name][1]))}"
        for name in sorted(found, key=lambda name: (name not in _NOT_PACKAGES, name))
    ]
    return [f"The two rows were not computed alike (scenes: {len(scenes)}): {'; '.join(differences)}."]


def _made_with(run: Run) -> dict[str, str]:
    """Collect what may change a run's numbers beside its configuration: code, device, package versions."""
    pedigree = run.manifest.pedigree
    made = {"code": _code(pedigree.get("code") or {}), "device": str(pedigree.get("device", "unknown"))}
    return made | {name: str(version) for name, version in pedigree.get("packages", {}).items()}


def _code(code: Mapping[str, Any]) -> str:
    commit = str(code.get("commit") or "no commit")[:12]
    return f"{code.get('version', 'unknown')} ({commit}{', changed' if code.get('dirty') else ''})"
