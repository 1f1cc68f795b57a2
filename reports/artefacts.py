"""The artefacts that runs list in their manifests, as far as pages can draw them."""

from collections.abc import Sequence
from pathlib import Path

from mvtokenflow.eval.records.rows import Run
from mvtokenflow.workdir.artefacts import FOLDERS, Artefact, Kind


def listed(run: Run | None, kind: Kind) -> list[tuple[Artefact, Path]]:
    """Yield artefacts of a kind that a run lists and still has, with their paths."""
    return [] if run is None else there(run.folder, run.manifest.artefacts, kind)


def there(folder: Path, artefacts: Sequence[Artefact], kind: Kind) -> list[tuple[Artefact, Path]]:
    """Return the artefacts of a kind whose files exist in `folder`; their paths are relative to it."""
    places = [(one, folder / one.path) for one in artefacts if one.kind == kind and one.path is not None]
    is_there = Path.is_dir if kind in FOLDERS else Path.is_file
    return [(one, place) for one, place in places if is_there(place)]


def reasons(artefacts: Sequence[Artefact], kind: Kind) -> list[str]:
    """Return why artefacts of a kind are left out on purpose, as sentences without a subject."""
    return [one.note for one in artefacts if one.kind == kind and one.path is None and one.note]


def is_documented(run: Run | None) -> bool:
    """Return whether a run lists any artefact, which methods with visible intermediate results do."""
    return run is not None and bool(run.manifest.artefacts)
