"""A finished run as one file that travels, and its way into the folder of all runs."""

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.partial import partial_folder
from mvtokenflow.eval.records.rows import Manifest, feature_log, row_log, run_folder
from mvtokenflow.eval.records.summary import Summary
from mvtokenflow.eval.tables.render import prediction_digest, refuse_other_pictures
from mvtokenflow.eval.tables.request import Scenes
from mvtokenflow.workdir.lock import working_in

_SUMMARY = "metrics-"


def tasks_folder(root: Path) -> Path:
    """Return where tasks of a folder of runs lie: what is submitted, logs, and what arrived."""
    return root / ".tasks"


def pack(folder: Path, target: IO[bytes], without: str = "") -> None:
    """Write a run's folder as one tar file, without hidden files and the subfolder `without`."""

    def visible(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if Path(member.name).name.startswith(".") else member

    with tarfile.open(fileobj=target, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            if path.name != without:
                archive.add(path, path.name, filter=visible)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack what `pack` wrote.

    Raises:
        DataError: damaged, or it holds anything but files and folders below it.
    """
    with damage(archive, "not a delivered run", "delete it and run the same command again"):
        with tarfile.open(archive) as found:
            found.extractall(folder, filter="data")
        if any(path.is_symlink() for path in folder.rglob("*")):
            raise ValueError("it holds links")


def take_in(archive: Path, root: Path, scenes: Scenes, waiting: Callable[[str], object]) -> Path:
    """Put a delivered run into the folder of all runs, by one rename, and return its folder there.

    A run that is there already stays: the records of the delivered one are added if its pictures are the same,
    and otherwise dropped.

    Args:
        archive: as `pack` wrote it; stays where it is.
        scenes: of the command; the run's scene is named as its reference, wherever the node had it.
        waiting: told, in a sentence, that another process works in the run's folder.

    Raises:
        DataError: damaged, or rendered from other pictures than the command's.
    """
    tasks_folder(root).mkdir(parents=True, exist_ok=True)
    with partial_folder(tasks_folder(root) / "run") as partial:
        unpack(archive, partial)
        manifest = Manifest.load(partial / "manifest.json")
        if prediction_digest(partial / "pred") != manifest.prediction_digest:
            raise DataError(
                f"{archive}: its pictures are not those of its manifest; run the same command again"
            )
        scene = scenes.open(manifest.scene)
        if scene is not None:
            refuse_other_pictures(partial, manifest, scenes.digests[manifest.scene])
            manifest = replace(manifest, reference_root=str(scene.root))
            manifest.save(partial / "manifest.json")
        names = manifest.dataset, manifest.method, manifest.scene, manifest.seed, manifest.config_hash
        folder = run_folder(root, *names)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.exists():
            partial.rename(folder)
            return folder
        with working_in(folder, waiting):
            if (folder / "manifest.json").is_file():
                if Manifest.load(folder / "manifest.json").prediction_digest == manifest.prediction_digest:
                    _add_records(partial, folder)
            else:  # left by a command that was stopped
                with partial_folder(folder) as left:
                    folder.rename(left / "left")
                    partial.rename(folder)
        return folder


def _add_records(source: Path, folder: Path) -> None:
    """Add the records of a delivered run to those of the same pictures; a second delivery changes no file."""
    if rows := row_log(source).read():
        row_log(folder).append(rows)
    if features := feature_log(source).read():
        feature_log(folder).append(features)
    for path in sorted(source.glob(f"{_SUMMARY}*.json")):
        protocol = path.stem.removeprefix(_SUMMARY)
        new, known = Summary.load(source, protocol), Summary.load(folder, protocol)
        if new is not None and (known is None or not new.measured <= known.measured):
            path.replace(folder / path.name)
