"""From names to a table: render what is missing, score what is missing, then read the records."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

from mvtokenflow.baselines.method import Method
from mvtokenflow.datasets.scene import Dataset
from mvtokenflow.errors import DataError, UserError
from mvtokenflow.eval.protocols import INPUT_VIEW, NOVEL_VIEWS, MetricSpec, Protocol
from mvtokenflow.eval.records import Run, load_run
from mvtokenflow.eval.runs import Job, render
from mvtokenflow.eval.scoring import Options, is_scored, score_runs, settings_for
from mvtokenflow.eval.summary import scored
from mvtokenflow.eval.table import Table
from mvtokenflow.eval.table_specs import TableSpec
from mvtokenflow.eval.tables import build_table
from mvtokenflow.eval.weights import fingerprint
from mvtokenflow.eval.workers import set_threads, start_worker, worker_pool

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which rows on which scenes.

    Attributes:
        dataset, methods, scenes, seeds: the grid of runs.
        root: folder of all runs.
        protocol: how they are scored.
        shard: (i, n): do only every n-th scene from the i-th; the table covers what is finished.
    """

    dataset: Dataset
    methods: Sequence[Method]
    scenes: Sequence[str]
    seeds: Sequence[int]
    root: Path
    protocol: Protocol
    shard: tuple[int, int] = (0, 1)
    options: Options = field(default_factory=Options)

    def jobs(self) -> list[Job]:
        """Every run of the grid that belongs to this shard."""
        index, count = self.shard
        return [
            Job(
                dataset=self.dataset,
                method=method,
                scene=scene,
                seed=seed,
                root=self.root,
                device=self.options.device,
            )
            for scene in list(self.scenes)[index::count]
            for method in self.methods
            for seed in self.seeds
        ]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run that gave no numbers, and the sentence that says why."""

    method: str
    scene: str
    seed: int
    reason: str


def specs_of(protocol: Protocol, tables: Sequence[TableSpec]) -> list[MetricSpec]:
    """The metrics of a protocol that the columns of some tables show, on no more views than they show."""
    specs = []
    for spec in protocol.metrics:
        columns = [column for table in tables for column in table.columns if column.metric == spec.key]
        if spec.needs == "views" and columns:
            specs.append(spec)
            continue
        shown = {view for column in columns for view in column.views or ()}
        roles = tuple(r for r in spec.views if (INPUT_VIEW if r == "input" else NOVEL_VIEWS[0]) in shown)
        if roles:
            specs.append(replace(spec, views=roles))
    return specs


def ensure(request: Request, tables: Sequence[TableSpec], report: Report) -> list[Failure]:
    """Render everything the request names and score what the tables show, unless it is finished.

    Args:
        report: told (stage, done, total).

    Returns:
        What failed; the rest is on disk.
    """
    jobs = request.jobs()
    failures = _render_all([job for job in jobs if not _is_rendered(job)], request, report)
    runs = [load_run(job.folder()) for job in jobs if _is_rendered(job)]
    specs = specs_of(request.protocol, tables)
    settings, missing = settings_for(request.protocol, request.options, specs)
    pending = [run for run in runs if not is_scored(run, settings)]
    views = {
        view for spec in settings.specs for view in request.protocol.views_of(spec) if spec.needs == "frame"
    }
    total = sum(run.manifest.frames * len(views) for run in pending)
    done = 0

    def step(frames: int) -> None:
        nonlocal done
        done += frames
        report("score", done, total)

    for refused in score_runs(pending, settings, missing, request.options, step):
        manifest = refused.run.manifest
        failures.append(
            Failure(method=manifest.method, scene=manifest.scene, seed=manifest.seed, reason=refused.reason)
        )
    return failures


def _is_rendered(job: Job) -> bool:
    return (job.folder() / "manifest.json").is_file()


def _render_all(jobs: Sequence[Job], request: Request, report: Report) -> list[Failure]:
    failures = []
    if jobs:
        report("render", 0, len(jobs))  # the first run may take minutes
    for done, (job, reason) in enumerate(_render_each(_in_turn(jobs), request.options), 1):
        report("render", done, len(jobs))
        if reason is not None:
            failures.append(Failure(method=job.method.name, scene=job.scene, seed=job.seed, reason=reason))
    return failures


def _in_turn(jobs: Sequence[Job]) -> list[Job]:
    """Method by method: rows of one scene share stages, so they should not be computed at the same time."""
    methods = list(dict.fromkeys(job.method.name for job in jobs))
    return sorted(jobs, key=lambda job: methods.index(job.method.name))


def _render_each(jobs: Sequence[Job], options: Options) -> Iterator[tuple[Job, str | None]]:
    if options.jobs == 1 or len(jobs) <= 1:
        set_threads(options.threads)
        for job in jobs:
            yield job, _render_one(job)
        return
    with worker_pool(min(options.jobs, len(jobs)), start_worker, (options.threads,)) as pool:
        futures = {pool.submit(_render_one, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _render_one(job: Job) -> str | None:
    """None, or the sentence of the user error that stopped it."""
    try:
        weights_sha = {name: fingerprint(name) for name in job.method.weights()}
        render(job, lambda stage, done, total: None, weights_sha)
    except UserError as error:
        return str(error)
    return None


def tabulate(
    request: Request,
    spec: TableSpec,
    failures: Sequence[Failure],
    *,
    allow_mixed: bool = False,
    quoted: bool = True,
) -> Table:
    """The table over whatever of the request is finished, in all shards."""
    runs = scored_runs(request)
    _, missing = settings_for(request.protocol, request.options, specs_of(request.protocol, [spec]))
    reasons = {entry.metric: entry.reason for entry in missing}
    unrun = {f.method: "no run succeeded, see the notes" for f in failures}
    table = build_table(
        spec,
        runs,
        request.protocol,
        [method.name for method in request.methods],
        list(request.scenes),
        missing=reasons,
        unrun=unrun,
        allow_mixed=allow_mixed,
        quoted=quoted,
    )
    notes = [f"{f.method} on {f.scene} (seed {f.seed}): {f.reason}" for f in failures]
    return replace(table, footnotes=[*table.footnotes, *notes])


def scored_runs(request: Request) -> list[Run]:
    """The finished and scored runs of the whole grid, all shards, in grid order."""
    whole = replace(request, shard=(0, 1))
    found = [scored(load_run(job.folder()), request.protocol.name) for job in whole.jobs() if _is_rendered(job)]
    return [run for run in found if run is not None]


def finished_only(request: Request) -> Request:
    """The request without scenes and methods that have no finished run at all."""
    done = [job for job in replace(request, shard=(0, 1)).jobs() if _is_rendered(job)]
    scenes = {job.scene for job in done}
    methods = {job.method.name for job in done}
    if not done:
        raise DataError(
            f"{request.root}: holds no finished run of {request.dataset.name}; run `mvtf-eval table1`"
        )
    return replace(
        request,
        scenes=[name for name in request.scenes if name in scenes],
        methods=[method for method in request.methods if method.name in methods],
    )
