"""Turns names into a table: renders and scores what is missing, then reads the records."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mvtokenflow.base.errors import DataError, UserError
from mvtokenflow.base.files import redact_paths
from mvtokenflow.base.memory import ran_out
from mvtokenflow.base.terminal import print_message, sentence_of
from mvtokenflow.baselines.imported import ImportedRenderings, ImportedRun
from mvtokenflow.baselines.method import Method
from mvtokenflow.datasets.scene import Dataset, Scene
from mvtokenflow.eval.engine.local import set_threads, start_worker, submit, worker_pool
from mvtokenflow.eval.metrics.spec import MetricSpec
from mvtokenflow.eval.protocols import INPUT, NOVEL, Protocol
from mvtokenflow.eval.records.common import Common
from mvtokenflow.eval.records.means import averages
from mvtokenflow.eval.records.rows import Manifest, Run, feature_log, load_run
from mvtokenflow.eval.records.summary import Missing, Summary, scored
from mvtokenflow.eval.score.scoring import Options, Report, is_scored, score_runs, settings_for, was_forced
from mvtokenflow.eval.score.units import Settings
from mvtokenflow.eval.tables.build import build_table
from mvtokenflow.eval.tables.render import Job, refuse_other_pictures, render, scene_digest
from mvtokenflow.eval.tables.specs import TableSpec
from mvtokenflow.eval.tables.table import Table
from mvtokenflow.weights.ledger import fingerprint, missing_in_short
from mvtokenflow.workdir.lock import working_in


@dataclass(frozen=True, kw_only=True)
class Words:
    """The words of a command from which another machine builds the same dataset, methods and protocol.

    Attributes:
        dataset, root, protocol, preset: as the options of these names; paths are absolute.
        methods: by the name of a row the word of `--methods` for it; rows that were imported have none.
    """

    dataset: str
    root: str | None
    protocol: str
    preset: str
    methods: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Request:
    """The rows and scenes of a table, and how to compute them.

    Attributes:
        dataset, methods, scenes, seeds: the grid of runs.
        root: folder of all runs.
        protocol: how they are scored.
        shard: (i, n): do only every n-th scene from the i-th; the table covers what is finished.
        words: what another machine needs to build the same request; None where it has no need to.
    """

    dataset: Dataset
    methods: Sequence[Method]
    scenes: Sequence[str]
    seeds: Sequence[int]
    root: Path
    protocol: Protocol
    shard: tuple[int, int] = (0, 1)
    options: Options = field(default_factory=Options)
    words: Words | None = None

    def jobs(self) -> list[Job]:
        """Return every run of the grid that belongs to this shard."""
        index, count = self.shard
        return list(self._runs(list(self.scenes)[index::count]))

    def whole_grid(self) -> Iterator[Job]:
        """Yield every run of all shards."""
        return self._runs(self.scenes)

    def _runs(self, scenes: Sequence[str]) -> Iterator[Job]:
        hashes: dict[tuple[str, str], str] = {}
        for scene in scenes:
            for method in self.methods:
                for seed in self.seeds:
                    yield Job(
                        dataset=self.dataset,
                        method=method,
                        scene=scene,
                        seed=seed,
                        root=self.root,
                        device=self.options.device,
                        hashes=hashes,
                    )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run without numbers, and the reason in one sentence."""

    method: str
    scene: str
    seed: int
    reason: str


def specs_of(protocol: Protocol, tables: Sequence[TableSpec]) -> list[MetricSpec]:
    """Return the metrics of a protocol that the columns of some tables show, on the views they show."""
    specs = []
    for spec in protocol.metrics:
        columns = [
            column for table in tables for column in table.under(protocol).columns if column.metric == spec.key
        ]
        if spec.spans_views and columns:
            specs.append(spec)
            continue
        places = {column.place for column in columns}
        roles = tuple(role for role in spec.views if (INPUT if role == "input" else NOVEL) in places)
        if roles:
            specs.append(replace(spec, views=roles))
    return specs


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


class Scenes:
    """The scenes of a dataset, each opened once, with digests; or the reason why one cannot be opened."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.opened: dict[str, Scene] = {}
        self.digests: dict[str, str] = {}
        self.closed: dict[str, str] = {}

    def open(self, name: str) -> Scene | None:
        """Open a scene; None if it cannot be opened, with the reason in `closed`."""
        if name not in self.opened and name not in self.closed:
            try:
                with _in_one_sentence():
                    scene = self.dataset.scene(name)
                    self.digests[name] = scene_digest(scene)
                    self.opened[name] = scene
            except UserError as error:
                self.closed[name] = str(error)
        return self.opened.get(name)


def is_rendered(job: Job) -> bool:
    """Return whether the run of a job is finished."""
    return (job.folder() / "manifest.json").is_file()


def manifest_of(job: Job) -> Manifest:
    """Read the manifest in the folder of a job, and check that it is that job's; as `Manifest.load`.

    Raises:
        DataError: damaged, or of another run: numbers of a folder that was moved would be in a wrong row.
    """
    path = job.folder() / "manifest.json"
    manifest = Manifest.load(path)
    _refuse_other_run(path, manifest, job)
    return manifest


def _refuse_other_run(path: Path, manifest: Manifest, job: Job) -> None:
    """Raise a DataError if a manifest is not that of a job."""
    wanted = (job.dataset.name, job.method.name, job.scene, job.seed, job.config_hash())
    found = (manifest.dataset, manifest.method, manifest.scene, manifest.seed, manifest.config_hash)
    if wanted == found:
        return
    for kind, ours, theirs in zip(("dataset", "method", "scene", "seed", "config"), wanted, found, strict=True):
        if ours != theirs:
            raise DataError(
                f"{path}: not a manifest of this folder (its {kind} is {theirs}, not {ours}); delete the run "
                "folder and run again"
            )


def failure_of(job: Job, reason: str) -> Failure:
    """Build the failure of a run; its reason goes on pages, so private folders are redacted."""
    method = job.method
    roots = [job.root, method.root] if isinstance(method, ImportedRenderings | ImportedRun) else [job.root]
    return Failure(method=method.name, scene=job.scene, seed=job.seed, reason=redact_paths(reason, *roots))


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """Turn a user's error into the sentence that ends one run; a bug ends the command.

    Raises:
        UserError: the block ran out of memory or met a file that it could not read or write.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = ran_out(error)
        if reason is not None:
            raise UserError(
                f"out of memory ({reason}); free some, or take fewer processes or a smaller preset"
            ) from error
        sentence = sentence_of(error)
        if sentence is None:
            raise
        raise UserError(sentence) from error


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
        with _in_one_sentence():
            weights_sha = {name: fingerprint(name) for name in job.method.weights()}
            with working_in(job.folder(), waiting=print_message):
                render(job, progress, weights_sha)
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
        _refuse_other_run(folder / "manifest.json", found.manifest, job)
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


def finished_only(request: Request) -> Request:
    """Restrict the request to scenes and methods with a finished run."""
    done = [job for job in request.whole_grid() if is_rendered(job)]
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
