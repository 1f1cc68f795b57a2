"""Reads the records of a request's finished runs, and builds its table from them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mvtokenflow.datasets.scene import Scene
from mvtokenflow.eval.records.common import Common
from mvtokenflow.eval.records.means import averages
from mvtokenflow.eval.records.rows import Run, feature_log, load_run
from mvtokenflow.eval.records.summary import Summary, scored
from mvtokenflow.eval.score.scoring import settings_for, was_forced
from mvtokenflow.eval.tables.build import build_table
from mvtokenflow.eval.tables.request import Failure, Request, Scenes, is_rendered, manifest_of, refuse_other_run
from mvtokenflow.eval.tables.specs import TableSpec, specs_of
from mvtokenflow.eval.tables.table import Table
from mvtokenflow.weights.ledger import missing_in_short


def tabulate(
    request: Request,
    spec: TableSpec,
    failures: Sequence[Failure],
    *,
    allow_mixed: bool = False,
    quoted: bool = True,
) -> Table:
    """Build the table over all finished runs of the request, in all shards."""
    shown = specs_of(request.protocol, [spec])
    found = list(averaged_runs(request, features=any(one.is_of_set for one in shown)))
    hidden = [] if request.options.force else [run for run, forced in found if forced]
    runs = [run for run, forced in found if request.options.force or not forced]
    failures = [*failures, *_hidden(hidden, failures)]
    _, missing = settings_for(request.protocol, request.options, shown)
    absent = {entry.metric for entry in missing}  # for want of weights
    reasons = {s.key: missing_in_short(s.weights) for s in shown if s.weights and s.key in absent}
    unrun = {f.method: "no run succeeded, see the notes" for f in failures}
    table = build_table(
        spec,
        runs,
        request.protocol,
        [method.name for method in request.methods],
        list(request.scenes),
        seeds=request.seeds,
        missing=reasons,
        unrun=unrun,
        allow_mixed=allow_mixed,
        quoted=quoted,
    )
    return replace(table, footnotes=[*table.footnotes, *failure_notes(failures)])


def failure_notes(failures: Sequence[Failure]) -> list[str]:
    """Return one sentence for each reason, with the methods, scenes and seeds that it stopped."""
    found: dict[str, dict[tuple[str, int], list[str]]] = {}
    for failure in failures:
        runs = found.setdefault(failure.reason, {})
        runs.setdefault((failure.method, failure.seed), []).append(failure.scene)
    return [
        "; ".join(f"{method} on {', '.join(scenes)} (seed {seed})" for (method, seed), scenes in runs.items())
        + f": {reason}"
        for reason, runs in found.items()
    ]


def _hidden(runs: Sequence[Run], known: Sequence[Failure]) -> list[Failure]:
    """Return why forced runs are not shown, of those whose refusal is not `known`."""
    reported = {(f.method, f.scene, f.seed) for f in known}
    return [
        Failure(
            method=run.manifest.method,
            scene=run.manifest.scene,
            seed=run.manifest.seed,
            reason="a strict pre-flight refused it; what was scored all the same only tables that force it show"
            ", as `mvtf-eval table1 --force` does",
        )
        for run in runs
        if (run.manifest.method, run.manifest.scene, run.manifest.seed) not in reported
    ]


def scored_runs(request: Request) -> list[Run]:
    """Return the finished and scored runs of the whole grid, all shards, in grid order.

    Runs that were scored by force are among them only if the request forces as well.
    """
    found = []
    for job in request.whole_grid():
        summary = None
        if is_rendered(job):
            manifest_of(job)
            summary = Summary.load(job.folder(), request.protocol.name)
        run = scored(load_run(job.folder()), request.protocol.name) if summary is not None else None
        if run is not None and summary is not None:
            severities = [str(finding["severity"]) for finding in summary.findings]
            if request.options.force or not was_forced(run, severities, request.protocol):
                found.append(run)
    return found


def averaged_runs(request: Request, *, features: bool) -> Iterator[tuple[Run, bool]]:
    """Yield every finished and scored run of the whole grid without its rows, and whether force scored it.

    Its manifest is in short (`Averages.manifest`), and what runs have in common is held once, so that ten
    thousands of them fit into memory.

    Args:
        features: read the features of clips as well, on which values of sets of clips rest.
    """
    name = request.protocol.name
    common = Common()
    for job in request.whole_grid():
        folder = job.folder()
        found = averages(folder, name, common)
        if found is None:
            continue
        refuse_other_run(folder / "manifest.json", found.manifest, job)
        run = Run(
            folder=folder,
            manifest=found.manifest,
            rows=(),
            missing=found.missing,
            measured_by=found.pedigree,
            means=found.means,
        )
        if features and (folder / "features.jsonl").is_file():
            keys = summary.keys if (summary := Summary.load(folder, name)) is not None else frozenset()
            kept = [row for row in feature_log(folder).read() if row.key in keys]
            run = replace(run, features=kept)
        yield run, was_forced(run, found.severities, request.protocol)


def reference_scenes(request: Request, runs: Sequence[Run]) -> dict[tuple[str, str], Scene]:
    """Open the scenes of some runs by dataset and scene, with the ground truth that pages show.

    Manifests name a folder too, but it may differ from the user's. It only shows whether the reference was
    ever on this machine: no scene is generated for a page.
    """
    scenes = Scenes(request.dataset)
    found: dict[tuple[str, str], Scene] = {}
    for run in runs:
        place = run.manifest.dataset, run.manifest.scene
        if (
            place[0] == request.dataset.name
            and place not in found
            and Path(run.manifest.reference_root).is_dir()
        ):
            scene = scenes.open(place[1])
            if scene is not None and run.manifest.scene_digest in (None, scenes.digests[place[1]]):
                found[place] = scene
    return found
