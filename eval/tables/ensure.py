"""Renders and scores what a request lacks."""

from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed

from mvtokenflow.base.errors import UserError
from mvtokenflow.base.terminal import print_message
from mvtokenflow.eval.engine.local import set_threads, start_worker, submit, worker_pool
from mvtokenflow.eval.records.rows import Run
from mvtokenflow.eval.records.summary import Missing
from mvtokenflow.eval.score.scoring import Options, Report, is_scored, score_runs, settings_for
from mvtokenflow.eval.score.units import Settings
from mvtokenflow.eval.tables.render import Job, refuse_other_pictures, render
from mvtokenflow.eval.tables.request import (
    Failure,
    Request,
    Scenes,
    failure_of,
    in_one_sentence,
    is_rendered,
    manifest_of,
)
from mvtokenflow.eval.tables.specs import TableSpec, specs_of
from mvtokenflow.weights.ledger import fingerprint
from mvtokenflow.workdir.lock import working_in


def ensure(request: Request, tables: Sequence[TableSpec], report: Report) -> list[Failure]:
    """Render and score everything that the request names and the tables show, unless it is finished.

    Args:
        report: called with (stage, done, total).

    Returns:
        What failed; the rest is on disk.

    Raises:
        DataError: a finished run was rendered from other pictures than its scene has now.
    """
    scenes = Scenes(request.dataset)
    failures = render_missing(request, scenes, report)
    settings, missing = settings_for(request.protocol, request.options, specs_of(request.protocol, tables))
    return failures + score_missing(request, scenes, settings, missing, report)


def render_missing(request: Request, scenes: "Scenes", report: Report) -> list[Failure]:
    """Render every run of the request that is not finished; return what failed.

    Raises:
        DataError: as `ensure`.
    """
    jobs = request.jobs()
    for job in jobs:
        if is_rendered(job) and scenes.open(job.scene) is not None:
            refuse_other_pictures(job.folder(), manifest_of(job), scenes.digests[job.scene])
    return _render_all([job for job in jobs if not is_rendered(job)], request, report)


def score_missing(
    request: Request, scenes: "Scenes", settings: Settings, missing: Sequence[Missing], report: Report
) -> list[Failure]:
    """Score every rendered run of the request that lacks something of `settings`; return what failed.

    Args:
        missing: metrics that are not measured, with the reasons that summaries record.
    """
    failures, pending = [], []
    for job in (job for job in request.jobs() if is_rendered(job)):
        run = Run(folder=job.folder(), manifest=manifest_of(job), rows=())  # the tables read the records
        if scenes.open(job.scene) is None:
            failures.append(failure_of(job, scenes.closed[job.scene]))
        elif not is_scored(run, settings, request.options.force):
            pending.append((job, run))
    job_of = {run.folder: job for job, run in pending}
    runs = [run for _, run in pending]
    refusals = score_runs(runs, scenes.opened, settings, missing, request.options, report)
    return failures + [failure_of(job_of[refused.run.folder], refused.reason) for refused in refusals]


def _render_all(jobs: Sequence[Job], request: Request, report: Report) -> list[Failure]:
    failures = []
    if jobs:
        report("render", 0, len(jobs))  # the first run may take minutes
    for done, (job, reason) in enumerate(_render_each(_in_turn(jobs), request.options, report), 1):
        report("render", done, len(jobs))
        if reason is not None:
            failures.append(failure_of(job, reason))
    return failures


def _in_turn(jobs: Sequence[Job]) -> list[Job]:
    """Order jobs method by method: rows of a scene share stages, and would compute them twice in parallel."""
    methods = list(dict.fromkeys(job.method.name for job in jobs))
    return sorted(jobs, key=lambda job: methods.index(job.method.name))


def _render_each(jobs: Sequence[Job], options: Options, report: Report) -> Iterator[tuple[Job, str | None]]:
    if options.jobs == 1 or len(jobs) <= 1:
        set_threads(options.threads)
        for job in jobs:
            yield job, _render_one(job, report)
        return
    with worker_pool(min(options.jobs, len(jobs)), start_worker, (options.threads,)) as pool:
        futures = {submit(pool, _render_one, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _render_one(job: Job, report: Report | None = None) -> str | None:
    """Render one run; return None, or the sentence of the user error that stopped it."""

    def progress(stage: str, done: int, total: int) -> None:
        if report is not None and job.method.source == "native":  # all others take no time
            report(f"run: {stage}", done, total)

    try:
        with in_one_sentence():
            weights_sha = {name: fingerprint(name) for name in job.method.weights()}
            with working_in(job.folder(), waiting=print_message):
                render(job, progress, weights_sha)
    except UserError as error:
        return str(error)
    return None
