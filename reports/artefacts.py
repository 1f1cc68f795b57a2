"""The artefacts that runs list in their manifests, as far as pages can draw them."""

from collections.abc import Sequence
from pathlib import Path

from mvtokenflow.eval.records.rows import Run
from mvtokenflow.workdir.artefacts import FOLDERS, Artefact, Kind


def listed(run: Run | None, kind: Kind) -> list[tuple[Artefact, Path]]:
    """What a run lists of a kind and still holds, with its place."""
    return [] if run is None else there(run.folder, run.manifest.artefacts, kind)


def there(folder: Path, artefacts: Sequence[Artefact], kind: Kind) -> list[tuple[Artefact, Path]]:
    """The artefacts of a kind that are in `folder`, which their paths are relative to."""
    places = [(one, folder / one.path) for one in artefacts if one.kind == kind and one.path is not None]
    is_there = Path.is_dir if kind in FOLDERS else Path.is_file
    return [(one, place) for one, place in places if is_there(place)]


def reasons(artefacts: Sequence[Artefact], kind: Kind) -> list[str]:
    """Why artefacts of a kind are not there on purpose, sentences without their subject."""
    return [one.note for one in artefacts if one.kind == kind and one.path is None and one.note]


def is_documented(run: Run | None) -> bool:
    """Whether a run lists anything: whether it is of a method that shows how its results came about."""
    return run is not None and bool(run.manifest.artefacts)
