"""Stage cache shared between runs, keyed by a digest of everything a stage was computed from.

The ablations of a scene share most of their stages: each is computed once and copied afterwards.

    ROOT/<stage>-<key>/key.json    the values that the key is the digest of
    ROOT/<stage>-<key>/cost.json   cost of the stage when it was computed
    ROOT/<stage>-<key>/files/      its files, under their names in the folder of a run

The code that computes a stage and the versions of the packages it uses are part of every key, so that
a changed method never gets results of older code. An entry appears by one rename, whole or not at all; if
two processes compute the same stage, the first entry stays. Entries are never changed, and may be deleted.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.files import digest_json, write_json
from mvtokenflow.base.partial import partial_folder, sweep
from mvtokenflow.workdir.cost import Cost
from mvtokenflow.workdir.imports import code_digest
from mvtokenflow.workdir.provenance import versions

_KEY_DIGITS = 24


@dataclass(frozen=True)
class Entry:
    """A finished stage in the cache."""

    folder: Path

    @property
    def cost(self) -> Cost:
        """Cost of the stage when it was computed."""
        path = self.folder / "cost.json"
        return Cost.of(read_json(path, dict, f"delete {self.folder} to compute the stage anew", check=Cost.of))

    def copy_to(self, workdir: Path) -> None:
        """Copy the stage's files into a run's folder; subfolders come last, each by one rename."""
        workdir.mkdir(parents=True, exist_ok=True)
        for source in sorted((self.folder / "files").iterdir(), key=lambda path: (path.is_dir(), path.name)):
            with partial_folder(workdir / source.name) as partial:
                _copy(source, partial / source.name)
                (partial / source.name).replace(workdir / source.name)


@dataclass(frozen=True)
class StageStore:
    """Stage cache in a folder, which is created with the first entry.

    Attributes:
        root: the folder.
        makers: modules that compute the stages; their code, and all that they import, is part of every key.
    """

    root: Path
    makers: tuple[str, ...]

    def key(self, stage: str, depends: Mapping[str, Any]) -> str:
        """Digest of a stage's name, its code, and its other dependencies (JSON-able)."""
        return digest_json(self._identity(stage, depends))[:_KEY_DIGITS]

    def find(self, stage: str, depends: Mapping[str, Any]) -> Entry | None:
        """Look up a finished stage; None if it is not cached."""
        folder = self._folder(stage, depends)
        return Entry(folder) if folder.is_dir() else None

    def keep(
        self, stage: str, depends: Mapping[str, Any], workdir: Path, names: Sequence[str], cost: Cost
    ) -> None:
        """Cache the files and folders `names` of a run's folder as a finished stage, unless it is cached."""
        folder = self._folder(stage, depends)
        if folder.is_dir():
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with partial_folder(folder) as partial:
            (partial / "files").mkdir()
            for name in names:
                _copy(workdir / name, partial / "files" / name)
            write_json(partial / "cost.json", asdict(cost))
            write_json(partial / "key.json", self._identity(stage, depends))
            try:
                partial.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was first
                    raise

    def tidy(self) -> None:
        """Remove unfinished entries of dead processes."""
        sweep(self.root, deep=False)

    def _folder(self, stage: str, depends: Mapping[str, Any]) -> Path:
        return self.root / f"{stage}-{self.key(stage, depends)}"

    def _identity(self, stage: str, depends: Mapping[str, Any]) -> dict[str, Any]:
        # Through JSON, so that tuples and lists are equal.
        plain: dict[str, Any] = json.loads(json.dumps(dict(depends)))
        code = code_digest(*self.makers)
        return {"stage": stage, "code": code, "packages": versions(), "depends": plain}


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link)
    else:
        _link(source, target)


def _link(source: str | Path, target: str | Path) -> None:
    """Hard-link a finished file, which is only ever replaced; copy it where the file system cannot link."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
