"""What runs on a node: one task, in a folder of its own; each run is delivered as soon as it is scored."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mvtokenflow.base.errors import DataError, UserError
from mvtokenflow.base.files import write_bytes, write_json
from mvtokenflow.base.terminal import progress
from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.baselines.method import Method, Progress, Rendering, Setup, Source
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.eval.protocols import protocol_named
from mvtokenflow.eval.records.rows import Manifest
from mvtokenflow.eval.records.summary import Missing
from mvtokenflow.eval.score.scoring import Options, settings_for
from mvtokenflow.eval.score.units import Settings
from mvtokenflow.eval.tables.ensure import render_missing, score_missing
from mvtokenflow.eval.tables.render import stages_folder
from mvtokenflow.eval.tables.request import Request, Scenes
from mvtokenflow.eval.tables.specs import specs_of, table_named
from mvtokenflow.eval.tasks.delivery import pack, unpack
from mvtokenflow.eval.tasks.task import Task

END = "end.json"
ROW = ".tar"
EVERY = "*"  # stands for all rows of a task


@dataclass(frozen=True)
class Rendered:
    """A row whose run was rendered before, as its manifest describes it; it renders nothing."""

    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest.method

    @property
    def source(self) -> Source:
        source: Any = self.manifest.source  # one of them: `records.checks`
        found: Source = source
        return found

    @property
    def uses_truth(self) -> bool:
        return self.manifest.uses_truth

    def config(self) -> Mapping[str, Any]:
        return self.manifest.config

    def weights(self) -> Sequence[str]:
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        raise DataError(f"{workdir.parent}: its renderings are gone; run the same command again")


def perform(words: str, given: Mapping[str, bytes]) -> Iterator[tuple[str, Path]]:
    """Render and score the rows of a task; yield names and files to deliver.

    A file is one finished run (`delivery.pack`), the last one the end of the task: JSON with "refused", the
    sentences by row, or for `EVERY` row, of what failed. A file is gone when the next one is asked for.

    Args:
        words: of a `Task`.
        given: by folder the packed runs that are rendered, where the node does not see the command's folder.
    """
    scratch = os.environ.get("SLURM_TMPDIR")  # else $TMPDIR or /tmp
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="mvtf-", dir=scratch)))
        task: Task | None = None
        refused: dict[str, str] = {}
        try:
            task = Task.from_json(words)
            task.refuse_other_machine()
            sys.argv = list(task.command)
            place = _Place(task, folder, given)
        except UserError as error:
            refused = {EVERY: str(error)}
        else:
            for number, batch in enumerate(place.batches()):
                refused |= place.complete(batch)
                for row, method in enumerate(batch):
                    if method.name not in refused:
                        file = folder / f"{number}-{row}{ROW}"
                        with file.open("wb") as stream:
                            pack(place.folder_of(method), stream)
                        yield file.name, file
                        file.unlink()
                        shutil.rmtree(place.folder_of(method))
        end = folder / END
        write_json(end, {"refused": refused})
        yield END, end


class _Place:
    """The request of a task in a folder of this node.

    Raises:
        UserError: the dataset, a method or the protocol is not here, or the scene has other pictures.
    """

    def __init__(self, task: Task, folder: Path, given: Mapping[str, bytes]) -> None:
        self.root = folder / Path(task.runs).name  # messages name it as they would the command's folder
        protocol = protocol_named(task.protocol)
        options = Options(
            device=task.device,
            weights={name: Path(path) for name, path in task.paths.items()},
            force=task.force,
        )
        specs = specs_of(protocol, [table_named(name) for name in task.tables])
        self.settings: Settings
        self.settings, _ = settings_for(protocol, options, [s for s in specs if s.key in task.metrics])
        self.missing = [Missing(metric=key, reason=reason) for key, reason in task.missing.items()]
        store = stages_folder(self.root) if task.stages is None else Path(task.stages)
        setup = Setup(preset=task.preset, device=task.device, store=store)
        self.methods: list[Method] = [self._given(task, place, given, folder) for place in task.given]
        self.methods += [method_named(word, setup) for word in task.methods.values()]
        self.request = Request(
            dataset=open_dataset(task.dataset, None if task.root is None else Path(task.root)),
            methods=self.methods,
            scenes=[task.scene],
            seeds=[task.seed],
            root=self.root,
            protocol=protocol,
            options=options,
        )
        self.scenes = Scenes(self.request.dataset)
        if self.scenes.open(task.scene) is None:
            raise DataError(self.scenes.closed[task.scene])
        found = self.scenes.digests[task.scene]
        if found != task.scene_digest:
            raise DataError(
                f"node {os.uname().nodename} has other pictures of {task.scene} than the command "
                f"({found[:12]}, not {task.scene_digest[:12]}); give all nodes the same files"
            )

    def _given(self, task: Task, place: str, given: Mapping[str, bytes], folder: Path) -> Rendered:
        """Copy a rendered run here."""
        target = self.root / place
        if place in given:
            write_bytes(folder / "given.tar", given[place])
            target.mkdir(parents=True)
            unpack(folder / "given.tar", target)
        else:
            hidden = shutil.ignore_patterns(".*", "work")
            shutil.copytree(Path(task.runs) / place, target, ignore=hidden)
        return Rendered(Manifest.load(target / "manifest.json"))

    def batches(self) -> list[list[Method]]:
        """Return the rows in the order of their work: those that take no time together, then one by one."""
        quick = [one for one in self.methods if one.source != "native" or isinstance(one, Rendered)]
        return [batch for batch in (quick, *([one] for one in self.methods if one not in quick)) if batch]

    def complete(self, batch: Sequence[Method]) -> dict[str, str]:
        """Render and score the rows of a batch; return the sentences by row of what failed."""
        request = replace(self.request, methods=batch)
        try:
            with progress() as report:
                failures = render_missing(request, self.scenes, report)
                failures += score_missing(request, self.scenes, self.settings, self.missing, report)
        except UserError as error:
            return {method.name: str(error) for method in batch}
        return {failure.method: failure.reason for failure in failures}

    def folder_of(self, method: Method) -> Path:
        """Return the folder of a row's run."""
        (job,) = replace(self.request, methods=[method]).jobs()
        return job.folder()
