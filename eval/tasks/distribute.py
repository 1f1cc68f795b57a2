"""Completes the runs of a request on a cluster: what is left is submitted, what arrives is put in its place.

One rule for a first start, a lost node, an interrupt and a second start: the runs that are not finished and
scored are to do, and a task that still runs is not submitted again.
"""

import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.errors import ConfigError, DataError, UserError
from mvtokenflow.eval.engine.engine import Engine, Work
from mvtokenflow.eval.records.means import averages
from mvtokenflow.eval.records.rows import Run
from mvtokenflow.eval.records.summary import Missing
from mvtokenflow.eval.score.scoring import Report, is_scored, settings_for
from mvtokenflow.eval.score.units import Settings
from mvtokenflow.eval.tables.ensure import render_missing
from mvtokenflow.eval.tables.render import Job, refuse_other_pictures, stages_folder
from mvtokenflow.eval.tables.request import Failure, Request, Scenes, failure_of, is_rendered, manifest_of
from mvtokenflow.eval.tables.specs import TableSpec, specs_of
from mvtokenflow.eval.tasks.delivery import pack, take_in, tasks_folder
from mvtokenflow.eval.tasks.task import Task, here
from mvtokenflow.eval.tasks.worker import END, EVERY
from mvtokenflow.weights.ledger import fingerprint
from mvtokenflow.workdir.lock import working_in

ATTEMPTS = 3  # a task that is lost so often is a failure
_AT_A_TIME = 32  # deliveries that are removed together, once all of them are on the disk
_GONE = 2  # looks at the cluster after which a task that it lacks, and that has not delivered its end, is lost

Place = tuple[str, int]  # scene and seed
Say = Callable[[str], object]


def distribute(
    request: Request,
    tables: Sequence[TableSpec],
    engine: Engine,
    report: Report,
    say: Say,
    *,
    gpus: int = 0,
    detach: bool = False,
) -> list[Failure]:
    """Render and score on a cluster what `tables.ensure.ensure` would here, with the same results.

    Imported renderings are read here, and scored on the cluster.

    Args:
        engine: tasks that it still has from an earlier call are waited for, not submitted again.
        report: as for `ensure`, for what is done here.
        say: called with lines on the progress, and on tasks that were lost.
        gpus: of each task; the device is a GPU if there are any, and the CPU else.
        detach: return when everything is submitted.

    Returns:
        What failed; the rest is on disk, or is going on if `detach`.

    Raises:
        ConfigError: the cluster refuses the tasks.
        DataError: as `ensure`; nodes do not see the folder of runs; or another process distributes it.
    """
    if request.words is None:
        raise ConfigError("a cluster takes datasets, methods and protocols by name only")
    with working_in(tasks_folder(request.root)):
        scenes = Scenes(request.dataset)
        read = [method for method in request.methods if method.name not in request.words.methods]
        failures = render_missing(replace(request, methods=read), scenes, report) if read else []
        desk = _Desk(request, tables, engine, scenes, say, "cuda" if gpus else "cpu")
        try:
            desk.work(detach)
        except KeyboardInterrupt:
            engine.cancel(desk.flights)
            desk.collect()
            raise
        finally:
            desk.clear()
        methods = [method.name for method in request.methods]
        return sorted(
            [*failures, *desk.failures],
            key=lambda one: (methods.index(one.method), request.scenes.index(one.scene), one.seed),
        )


@dataclass
class _Flight:
    """A task on its way.

    Attributes:
        rows: those that have not arrived.
        gone: looks at the cluster in which it was not there.
        node: it was last seen on.
        dropped: why something of it was not taken in.
    """

    place: Place
    rows: set[str]
    gone: int = 0
    node: str = ""
    dropped: str = ""


@dataclass
class _Counts:
    total: int = 0
    retried: int = 0
    refused: int = 0
    line: str = ""


class _Desk:
    """The rows that are left, the tasks on their way, and what arrives."""

    def __init__(
        self,
        request: Request,
        tables: Sequence[TableSpec],
        engine: Engine,
        scenes: Scenes,
        say: Say,
        device: str,
    ) -> None:
        self.request, self.engine, self.scenes, self.say = request, engine, scenes, say
        self.failures: list[Failure] = []
        self.counts = _Counts()
        self.flights: dict[str, _Flight] = {}
        self.lost: dict[Place, int] = {}
        self.avoid: set[str] = set()
        self.taken: list[Path] = []
        specs = specs_of(request.protocol, tables)
        settings, missing = settings_for(request.protocol, request.options, specs)
        self.places: dict[Path, tuple[Place, str]] = {}  # by the folder of a run that is left
        self.left = self._unfinished(settings)
        self.counts.total = sum(map(len, self.left.values()))
        self.template = self._template(tables, settings, missing, device)

    def work(self, detach: bool) -> None:
        """Adopt, submit and wait."""
        self.collect()
        for key, words in self.engine.held().items():
            task = Task.from_json(words)
            rows = {*task.methods, *(Path(place).parts[1] for place in task.given)}
            if rows & self.left.get((task.scene, task.seed), {}).keys():
                self.flights[key] = _Flight(place=(task.scene, task.seed), rows=rows)
        self._submit()
        if detach:
            return
        start = time.monotonic()
        while self.flights:
            alive = self.engine.alive()
            self.collect()
            self._note_lost(alive)
            if not any(self.left.values()):  # a node that was taken for lost may have delivered after all
                self.engine.cancel(self.flights)
                self.engine.ended(self.flights)
                self.flights.clear()
            self._submit()
            self._show(alive)
            if self.flights:
                time.sleep(min(self.engine.pause_s, 1 + (time.monotonic() - start) / 20))

    def collect(self) -> None:
        """Put in its place what has arrived."""
        over = []
        for file in sorted(self.engine.arrived.iterdir()):
            key, _, name = file.name.partition(".")
            if not key:  # being written
                continue
            if name == END:
                over.append(key)
                self._end(key, read_json(file, dict, "delete it and run the same command again"))
            elif file not in self.taken:
                self._take(key, file)
            self.taken.append(file)
        self.engine.ended(over)
        if len(self.taken) >= _AT_A_TIME:
            self.clear()

    def clear(self) -> None:
        """Remove the files of what is in its place, once that is on the disk."""
        if self.taken:
            os.sync()
        for file in self.taken:
            file.unlink(missing_ok=True)
        self.taken.clear()

    def _unfinished(self, settings: Settings) -> dict[Place, dict[str, Job]]:
        """Return the runs by place and row that are not finished and scored; refuse those of other pictures."""
        left: dict[Place, dict[str, Job]] = {}
        for job in self.request.jobs():
            if is_rendered(job):
                run = Run(folder=job.folder(), manifest=manifest_of(job), rows=())
                if self.scenes.open(job.scene) is not None:
                    refuse_other_pictures(job.folder(), run.manifest, self.scenes.digests[job.scene])
                    if is_scored(run, settings, self.request.options.force):
                        continue
            if self.scenes.open(job.scene) is None:
                self.failures.append(failure_of(job, self.scenes.closed[job.scene]))
            else:
                left.setdefault((job.scene, job.seed), {})[job.method.name] = job
                self.places[job.folder()] = (job.scene, job.seed), job.method.name
        return left

    def _template(
        self, tables: Sequence[TableSpec], settings: Settings, missing: Sequence[Missing], device: str
    ) -> Task:
        """Build a task without rows."""
        request, words = self.request, self.request.words
        assert words is not None  # checked by `distribute`
        found = here(tuple(words.methods.values()), words.dataset, words.protocol)
        root = request.root.absolute()
        return Task(
            dataset=words.dataset,
            root=words.root,
            protocol=words.protocol,
            preset=words.preset,
            scene="",
            seed=0,
            scene_digest="",
            methods={},
            given=(),
            tables=tuple(table.name for table in tables),
            metrics=tuple(spec.key for spec in settings.specs),
            missing={entry.metric: entry.reason for entry in missing},
            weights={**settings.weights_sha, **self._weights_of_methods()},
            paths={name: str(path.absolute()) for name, path in request.options.weights.items()},
            device=device,
            force=request.options.force,
            runs=str(root),
            stages=str(stages_folder(root)) if self.engine.name == "slurm" else None,
            code=found.pop("code"),
            versions=found,
            command=(Path(sys.argv[0]).name, *sys.argv[1:]),
        )

    def _weights_of_methods(self) -> dict[str, str]:
        """Return the sha256 by name of the weights of rows to render; rows that lack theirs have failed."""
        found: dict[str, str] = {}
        for rows in self.left.values():
            for name, job in list(rows.items()):
                try:
                    if not is_rendered(job):
                        found |= {one: fingerprint(one) for one in job.method.weights() if one not in found}
                except UserError as error:
                    self._fail((job.scene, job.seed), [name], str(error))
        return found

    def _fail(self, place: Place, rows: Iterable[str], reason: str) -> None:
        """Take rows that are left for failures."""
        for name in rows:
            job = self.left[place].pop(name)
            self.failures.append(failure_of(job, reason))
            self.counts.refused += 1

    def _submit(self) -> None:
        """Submit every row that is left and not on its way."""
        flying: dict[Place, set[str]] = {}
        for flight in self.flights.values():
            flying.setdefault(flight.place, set()).update(flight.rows)
        works = {}
        for place, rows in self.left.items():
            todo = {name: job for name, job in rows.items() if name not in flying.get(place, ())}
            if todo:
                task = self._task(place, todo)
                works[task.key()] = Work(words=task.to_json(), given=self._given(task))
                self.flights[task.key()] = _Flight(place=place, rows=set(todo))
        if works:
            self.engine.submit(works, frozenset(self.avoid))

    def _task(self, place: Place, rows: Mapping[str, Job]) -> Task:
        words = self.request.words
        assert words is not None  # checked by `distribute`
        rendered = [job for job in rows.values() if is_rendered(job)]
        return replace(
            self.template,
            scene=place[0],
            seed=place[1],
            scene_digest=self.scenes.digests[place[0]],
            methods={name: words.methods[name] for name, job in rows.items() if job not in rendered},
            given=tuple(job.folder().relative_to(self.request.root).as_posix() for job in rendered),
            attempt=self.lost.get(place, 0),
        )

    def _given(self, task: Task) -> Mapping[str, Callable[[], bytes]]:
        return {place: partial(_packed, self.request.root / place) for place in task.given}

    def _take(self, key: str, file: Path) -> None:
        try:
            folder = take_in(file, self.request.root, self.scenes, self.say)
            averages(folder, self.request.protocol.name)  # now, while tasks run: a table need not read all rows
        except UserError as error:
            self.say(f"dropped: {error}")
            if key in self.flights:
                self.flights[key].dropped = str(error)
            return
        if folder in self.places:
            place, row = self.places.pop(folder)
            self.left[place].pop(row, None)
            if key in self.flights:
                self.flights[key].rows.discard(row)

    def _end(self, key: str, document: Mapping[str, Mapping[str, str]]) -> None:
        """Take the rows that a task refused, or that could not be taken in, for failures."""
        flight = self.flights.pop(key, None)
        if flight is None:
            return
        refused = document["refused"]
        for row in sorted(flight.rows & self.left.get(flight.place, {}).keys()):
            reason = refused.get(row) or refused.get(EVERY) or flight.dropped or "it was not delivered"
            self._fail(flight.place, [row], reason)

    def _note_lost(self, alive: Mapping[str, str]) -> None:
        """Count the tasks that are over without an end; their rows stay left, or fail after `ATTEMPTS`."""
        over = []
        for key, flight in self.flights.items():
            flight.node = alive.get(key) or flight.node
            flight.gone = 0 if key in alive else flight.gone + 1
            if flight.gone and self.engine.unseen(key):
                self._refuse_folder(flight.node)
            over += [key] if flight.gone >= _GONE else []
        for key in over:
            flight, log = self.flights.pop(key), self.engine.log(key)
            place, node = flight.place, flight.node
            self.lost[place] = self.lost.get(place, 0) + 1
            self.avoid |= {node} - {""}
            where = f" on {node}" if node else ""
            self.say(f"lost: {place[0]} (seed {place[1]}){where}; {_log_of(log)}")
            if self.lost[place] < ATTEMPTS:
                self.counts.retried += 1
            elif self.engine.name == "slurm" and not log:
                self._refuse_folder(node)
            else:
                reason = f"lost {ATTEMPTS} times (out of memory or time, or its node failed); {_log_of(log)}"
                self._fail(place, sorted(flight.rows & self.left.get(place, {}).keys()), reason)
        self.engine.ended(over)

    def _refuse_folder(self, node: str) -> NoReturn:
        """End the tasks, and raise a DataError: a node does not see the folder of runs."""
        self.engine.cancel(self.flights)
        raise DataError(
            f"{self.request.root} is not seen by {f'node {node}' if node else 'a node'}: a task left neither "
            "result nor log; choose a folder that all nodes share, or --engine ray"
        )

    def _show(self, alive: Mapping[str, str]) -> None:
        """Print one line on the progress, if it is another one than before."""
        counts = self.counts
        done = counts.total - sum(map(len, self.left.values())) - counts.refused
        running = sum(1 for key in self.flights if alive.get(key))
        line = (
            f"rows {done}/{counts.total}, tasks: {running} running, {len(self.flights) - running} waiting, "
            f"{counts.retried} retried, {counts.refused} refused"
        )
        if line != self.counts.line:
            self.counts.line = line
            self.say(line)


def _packed(folder: Path) -> bytes:
    stream = io.BytesIO()
    pack(folder, stream, without="work")
    return stream.getvalue()


def _log_of(log: str) -> str:
    return log or "it left no log"
