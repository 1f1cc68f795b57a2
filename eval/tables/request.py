"""What a table asks for: a grid of runs, the words of a command for it, and its scenes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mvtokenflow.base.errors import DataError, UserError
from mvtokenflow.base.files import redact_paths
from mvtokenflow.base.memory import ran_out
from mvtokenflow.base.terminal import sentence_of
from mvtokenflow.baselines.imported import ImportedRenderings, ImportedRun
from mvtokenflow.baselines.method import Method
from mvtokenflow.datasets.scene import Dataset, Scene
from mvtokenflow.eval.protocols import Protocol
from mvtokenflow.eval.records.rows import Manifest
from mvtokenflow.eval.score.scoring import Options
from mvtokenflow.eval.tables.render import Job, scene_digest


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


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run without numbers, and the reason in one sentence."""

    method: str
    scene: str
    seed: int
    reason: str


def failure_of(job: Job, reason: str) -> Failure:
    """Build the failure of a run; its reason goes on pages, so private folders are redacted."""
    method = job.method
    roots = [job.root, method.root] if isinstance(method, ImportedRenderings | ImportedRun) else [job.root]
    return Failure(method=method.name, scene=job.scene, seed=job.seed, reason=redact_paths(reason, *roots))


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
                with in_one_sentence():
                    scene = self.dataset.scene(name)
                    self.digests[name] = scene_digest(scene)
                    self.opened[name] = scene
            except UserError as error:
                self.closed[name] = str(error)
        return self.opened.get(name)


@contextmanager
def in_one_sentence() -> Iterator[None]:
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
    refuse_other_run(path, manifest, job)
    return manifest


def refuse_other_run(path: Path, manifest: Manifest, job: Job) -> None:
    """Raise a DataError if the manifest read from `path` is not that of a job."""
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
