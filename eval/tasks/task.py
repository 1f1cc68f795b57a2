"""A task: one scene and seed of a table's grid, as words that another machine builds the same rows from."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from mvtokenflow.base.errors import ConfigError, UserError, WeightsMissingError
from mvtokenflow.base.files import digest_json
from mvtokenflow.base.terminal import check_device
from mvtokenflow.base.version import __version__
from mvtokenflow.weights.ledger import fingerprint
from mvtokenflow.workdir.imports import code_digest
from mvtokenflow.workdir.provenance import versions

_KEY_DIGITS = 24


class OtherMachineError(UserError):
    """A node differs from the machine that the command runs on, so that its numbers would be others."""


@dataclass(frozen=True, kw_only=True)
class Worded:
    """What any task is: plain words, from which its key follows."""

    def to_json(self) -> str:
        """Serialise to one line of JSON, in which entries keep their order."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, words: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            OtherMachineError: another version of this package wrote it.
        """
        found: dict[str, Any] = json.loads(words)
        refuse_other_fields(cls, found)
        lists = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
        return cls(**found | lists)

    def key(self) -> str:
        """Return a digest of the task, which names its files."""
        return digest_json(asdict(self))[:_KEY_DIGITS]


@dataclass(frozen=True, kw_only=True)
class Task(Worded):
    """The rows of one scene and seed that are not finished.

    Attributes:
        dataset, root, protocol, preset: as in `tables.request.Words`.
        scene, seed, scene_digest: of the rows; `tables.render.scene_digest` where the command runs.
        methods: by the name of a row its word; what has to be rendered and scored.
        given: folders below `runs` of rows that are rendered and have to be scored.
        tables, metrics: names of the tables that show the values, and keys of the metrics to measure.
        missing: by metric the reason why it is not measured, as summaries record it.
        weights: sha256 by name of the weights of metrics and methods.
        paths: files or folders of weights that the command names.
        device: torch device.
        force: as `score.scoring.Options`.
        runs: folder of all runs where the command runs.
        stages: folder in which rows share stages, on a drive that nodes see; None shares within a task.
        code, versions: of this package, Python and the packages it computes with; see `here`.
        command: the user's, which manifests record.
        attempt: how many tasks of the scene and seed were lost before.
    """

    dataset: str
    root: str | None
    protocol: str
    preset: str
    scene: str
    seed: int
    scene_digest: str
    methods: Mapping[str, str]
    given: tuple[str, ...]
    tables: tuple[str, ...]
    metrics: tuple[str, ...]
    missing: Mapping[str, str]
    weights: Mapping[str, str]
    paths: Mapping[str, str]
    device: str
    force: bool
    runs: str
    stages: str | None
    code: str
    versions: Mapping[str, str]
    command: tuple[str, ...] = field(default_factory=tuple)
    attempt: int = 0

    def refuse_other_machine(self) -> None:
        """Compare this machine with the one that the command runs on.

        Raises:
            OtherMachineError: its code, versions or weights differ, or it lacks the device.
        """
        found = here(tuple(self.methods.values()), self.dataset, self.protocol)
        paths = {name: Path(path) for name, path in self.paths.items()}
        refuse_difference(found, {"code": self.code, **self.versions}, self.weights, paths)
        refuse_absent(self.device)


def refuse_other_fields(kind: type[Any], found: Mapping[str, Any]) -> None:
    """Raise an OtherMachineError if another version of this package wrote the words of a task."""
    if found.keys() != {one.name for one in fields(kind)}:
        raise OtherMachineError(_other_code(_package_digest(), str(found.get("code", "unknown"))))


def refuse_difference(
    found: Mapping[str, str],
    wanted: Mapping[str, str],
    weights: Mapping[str, str],
    paths: Mapping[str, Path],
) -> None:
    """Compare this machine with the one that a command runs on.

    Args:
        found, wanted: as `here`.
        weights: sha256 by name.
        paths: files or folders of weights that the command names.

    Raises:
        OtherMachineError: its code, versions or weights differ.
    """
    if found["code"] != wanted["code"]:
        raise OtherMachineError(_other_code(found["code"], wanted["code"]))
    for name, version in wanted.items():
        if found.get(name) != version:
            raise OtherMachineError(
                f"node {platform.node()} has {name} {found.get(name)}, the command {version}; install the "
                "same packages on all nodes"
            )
    for name, sha in weights.items():
        _refuse_other_weights(name, sha, paths.get(name))


def refuse_absent(device: str) -> None:
    """Raise an OtherMachineError if this machine lacks a torch device."""
    try:
        check_device(device)
    except ConfigError as error:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        raise OtherMachineError(
            f"node {platform.node()} has no GPU that torch sees (CUDA_VISIBLE_DEVICES={visible}; {error})"
        ) from error


def _refuse_other_weights(name: str, sha: str, path: Path | None) -> None:
    cure = f"`mvtf-eval weights fetch {name}` there, or share MVTF_WEIGHTS"
    try:
        found = fingerprint(name, path)
    except WeightsMissingError as error:
        raise OtherMachineError(f"node {platform.node()} lacks {name} (sha256 {sha[:12]}); {cure}") from error
    if found != sha:
        raise OtherMachineError(
            f"node {platform.node()} has another {name} (sha256 {found[:12]}, not {sha[:12]}); {cure}"
        )


def _other_code(found: str, wanted: str) -> str:
    return (
        f"node {platform.node()} runs mvtokenflow {__version__} of other code ({found[:12]}, the "
        f"command {wanted[:12]}); install the same wheel, and your own modules, on all nodes"
    )


def here(*words: str | tuple[str, ...]) -> dict[str, str]:
    """Return "code", a digest, "Python" and the packages that this machine would compute with.

    Args:
        words: names of methods, datasets and protocols; the code of those outside this package counts as well.
    """
    flat = [word for group in words for word in ((group,) if isinstance(group, str) else group)]
    outside = sorted({word.partition(":")[0] for word in flat if ":" in word and not Path(word).exists()})
    code = digest_json([_package_digest(), code_digest(*outside)]) if outside else _package_digest()
    return {"code": code, "Python": platform.python_version(), **versions()}


@cache
def _package_digest() -> str:
    """Compute the sha256, in hex, of the package's source files, byte for byte."""
    spec = find_spec(__name__.partition(".")[0])
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    found = sorted(
        Path(folder, name)
        for folder, _, names in os.walk(root, followlinks=True)  # rooms of a checkout are links
        for name in names
        if name.endswith(".py")
    )
    hasher = hashlib.sha256()
    for path in found:
        hasher.update(f"{path.relative_to(root).as_posix()}\0".encode())
        hasher.update(hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()
