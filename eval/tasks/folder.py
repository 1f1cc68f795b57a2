"""A folder of renderings, scored on a cluster: a task measures one object, and its records arrive as files.

They are added to the command's records, and then the command scores the folder as always: it finds the values,
and computes those that a task left out.
"""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.errors import DataError, UserError
from mvtokenflow.base.files import write_bytes, write_json
from mvtokenflow.eval.engine.engine import Engine, Work
from mvtokenflow.eval.protocols import protocol_named
from mvtokenflow.eval.records.rows import FeatureRow, Log, Row, feature_log, row_log
from mvtokenflow.eval.score.folder import records_of, score_folder
from mvtokenflow.eval.score.pairs import plan_folder
from mvtokenflow.eval.score.scoring import Options, settings_for
from mvtokenflow.eval.tasks.delivery import pack, tasks_folder, unpack
from mvtokenflow.eval.tasks.distribute import ATTEMPTS
from mvtokenflow.eval.tasks.task import Worded, here, refuse_absent, refuse_difference
from mvtokenflow.eval.tasks.worker import END, EVERY
from mvtokenflow.workdir.lock import working_in

_SIDES = ("prediction", "reference")


@dataclass(frozen=True, kw_only=True)
class FolderTask(Worded):
    """One object of two folders to compare.

    Attributes:
        prediction, reference: folders of the command.
        protocol, object: names.
        device, force: as `score.scoring.Options`.
        weights: sha256 by name.
        paths: files or folders of weights that the command names.
        here: of the command's machine, `task.here`.
        command: the user's.
        attempt: how often it was lost before.
    """

    prediction: str
    reference: str
    protocol: str
    object: str
    device: str
    force: bool
    weights: Mapping[str, str]
    paths: Mapping[str, str]
    here: Mapping[str, str]
    command: Sequence[str]
    attempt: int = 0


def perform_object(words: str, given: Mapping[str, bytes]) -> Iterator[tuple[str, Path]]:
    """Measure the object of a task; yield its logs of records and the end, as `worker.perform` does.

    Args:
        words: of a `FolderTask`.
        given: both folders of the object as `delivery.pack` writes them, where the node does not see the
            command's.
    """
    with TemporaryDirectory(prefix="mvtf-", dir=os.environ.get("SLURM_TMPDIR")) as scratch:
        folder, refused = Path(scratch), {}
        try:
            task = FolderTask.from_json(words)
            paths = {name: Path(path) for name, path in task.paths.items()}
            refuse_difference(here(task.protocol), task.here, task.weights, paths)
            refuse_absent(task.device)
            sys.argv = list(task.command)
            score_folder(
                _side(task, "prediction", folder, given),
                _side(task, "reference", folder, given),
                task.protocol,
                objects=[task.object],
                record=folder / "records",
                allow_missing=True,
                options=Options(device=task.device, jobs=1, weights=paths, force=task.force),
            )
        except UserError as error:
            refused = {EVERY: str(error)}
        for log in (row_log(folder / "records"), feature_log(folder / "records")):
            if log.path.is_file():
                yield log.path.name, log.path
        write_json(folder / END, {"refused": refused})
        yield END, folder / END


def _side(task: FolderTask, side: str, folder: Path, given: Mapping[str, bytes]) -> Path:
    """Return the folder of predictions or references; unpack it if it was given."""
    if side not in given:
        return Path(getattr(task, side))
    write_bytes(folder / "given.tar", given[side])
    target = folder / side
    (target / task.object).mkdir(parents=True)
    unpack(folder / "given.tar", target / task.object)
    return target


def measure_objects(
    prediction: Path,
    reference: Path,
    protocol: str,
    start: Callable[[Path], Engine],
    say: Callable[[str], object],
    *,
    objects: Sequence[str] | None = None,
    record: Path | None = None,
    allow_missing: bool = False,
    options: Options,
) -> None:
    """Measure a folder on a cluster, for `score_folder` with the same arguments to find the values.

    Args:
        start: connects to the cluster, for deliveries below a folder.
        say: called with lines on the progress and on tasks that were lost.

    Raises:
        DataError: as `score_folder`; a task refused its object, or was lost too often; or another process works
            in the folder of records.
        ConfigError: as `score_folder`, or the cluster refuses the tasks.
    """
    chosen = protocol_named(protocol)
    plan = plan_folder(
        prediction, reference, chosen, only=objects, allow_missing=allow_missing, force=options.force
    )
    settings, _ = settings_for(chosen, options)
    folder = records_of(prediction, reference) if record is None else record
    template = FolderTask(
        prediction=str(prediction.absolute()),
        reference=str(reference.absolute()),
        protocol=protocol,
        object="",
        device=options.device,
        force=options.force,
        weights=settings.weights_sha,
        paths={name: str(path.absolute()) for name, path in options.weights.items()},
        here=here(protocol),
        command=(Path(sys.argv[0]).name, *sys.argv[1:]),
    )
    with working_in(tasks_folder(folder)):
        engine = start(folder)
        try:
            _Objects(template, engine, folder, say).work(list(plan.pairs))
        finally:
            engine.close()


class _Objects:
    """The objects whose tasks have not ended."""

    def __init__(
        self, template: FolderTask, engine: Engine, folder: Path, say: Callable[[str], object]
    ) -> None:
        self.template, self.engine, self.folder, self.say = template, engine, folder, say
        self.flights: dict[str, FolderTask] = {}
        self.gone: dict[str, int] = {}

    def work(self, names: Sequence[str]) -> None:
        """Submit a task for each object, unless an earlier command did, and wait for all of them."""
        tasks = [replace(self.template, object=name) for name in names]
        held = self.engine.held().keys()
        self.flights = {task.key(): task for task in tasks if task.key() in held}
        self._submit([task for task in tasks if task.key() not in held])
        line = ""
        try:
            while self.flights:
                alive = self.engine.alive()
                self._collect()
                self._resubmit(alive)
                running = sum(1 for key in self.flights if alive.get(key))
                now = f"objects {len(names) - len(self.flights)}/{len(names)}, tasks: {running} running"
                if now != line:
                    line = now
                    self.say(line)
                if self.flights:
                    time.sleep(min(self.engine.pause_s, 1))
        except BaseException:
            self.engine.cancel(self.flights)
            self.engine.ended(self.flights)
            raise

    def _submit(self, tasks: Sequence[FolderTask]) -> None:
        works = {task.key(): Work(words=task.to_json(), given=self._given(task)) for task in tasks}
        if works:
            self.engine.submit(works)
            self.flights |= {task.key(): task for task in tasks}

    def _given(self, task: FolderTask) -> Mapping[str, Callable[[], bytes]]:
        if self.engine.name == "slurm":
            return {}
        return {side: partial(_packed, Path(getattr(task, side)) / task.object) for side in _SIDES}

    def _collect(self) -> None:
        """Add what arrived to the records.

        Raises:
            DataError: a task refused its object.
        """
        for file in sorted(self.engine.arrived.iterdir(), key=lambda file: file.name.endswith(END)):
            key, _, name = file.name.partition(".")
            if not key:  # being written
                continue
            if name == END:
                refused = read_json(file, dict, "delete it and run the same command again")["refused"]
                task = self.flights.pop(key, None)
                self.engine.ended([key])
                if task is not None and refused:
                    file.unlink()
                    raise DataError(f"{task.object}: {refused[EVERY]}")
            elif name == "rows.jsonl":
                row_log(self.folder).append(Log(file, Row.from_json).read())
            elif name == "features.jsonl":
                feature_log(self.folder).append(Log(file, FeatureRow.from_json).read())
            file.unlink()

    def _resubmit(self, alive: Mapping[str, str]) -> None:
        """Submit again what was lost.

        Raises:
            DataError: it was lost too often, or a node does not see the folder.
        """
        again = []
        for key, task in list(self.flights.items()):
            self.gone[key] = 0 if key in alive else self.gone.get(key, 0) + 1
            if self.gone[key] and self.engine.unseen(key):
                raise DataError(
                    f"{self.folder} is not seen by a node: a task left neither result nor log; choose a folder "
                    "that all nodes share with --record, or --engine ray"
                )
            if self.gone[key] < 2:
                continue
            log = self.engine.log(key) or "it left no log"
            if task.attempt + 1 == ATTEMPTS:
                raise DataError(f"{task.object}: lost {ATTEMPTS} times (out of memory or time); {log}")
            self.say(f"lost: {task.object}; {log}")
            del self.flights[key]
            self.engine.ended([key])
            again.append(replace(task, attempt=task.attempt + 1))
        self._submit(again)


def _packed(folder: Path) -> bytes:
    stream = io.BytesIO()
    pack(folder, stream)
    return stream.getvalue()
