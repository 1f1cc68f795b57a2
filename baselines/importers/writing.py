"""Writing an import: `<scene>/<view>/<n>.png`, and `<scene>/import.json` with everything that was assumed."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import sha256_file, write_json
from mvtokenflow.base.partial import sweep
from mvtokenflow.baselines.imported import RECORD, read_record, unfinished
from mvtokenflow.baselines.importers.contract import AS_IS, Given, Opened, Wanted
from mvtokenflow.baselines.importers.scenes import Place
from mvtokenflow.media.pictures import write_png

FORM = 1
SAME = ("kind", "radius", "fov_deg", "world", "time")  # of all scenes of a row


@dataclass(frozen=True, kw_only=True)
class Import:
    """One scene that was checked and can be written.

    Attributes:
        scene: its name. record: content of `import.json`. opened: its pictures.
    """

    scene: str
    record: Mapping[str, Any]
    opened: Opened

    def changes(self) -> bool:
        """Return whether what it writes differs from what it reads."""
        files = {(path.parent.name, path.name) for path in self.opened.files}
        written = {(view, f"{number}.png") for view in self.opened.views for number in self.opened.numbers}
        return files != written or self.record.get("background") != AS_IS


def checked(place: Place, wanted: Sequence[Wanted], given: Given) -> Import:
    """Read and check the results of a scene; nothing is written.

    Raises:
        DataError, ConfigError: as `contract.Kind.open`.
    """
    _refuse_unused(place, given)
    opened = place.kind.open(place.found, wanted, given)
    files = {
        Path(os.path.relpath(path, place.found.root)).as_posix(): sha256_file(path) for path in opened.files
    }
    record = {
        "form": FORM,
        "kind": place.kind.name,
        "repository": place.kind.repository,
        "scene": place.scene,
        "files": files,
        "frames": len(opened.numbers),
        "numbers": list(opened.numbers),
        "views": {name: dict(view) for name, view in opened.views.items()},
        "remarks": list(opened.remarks),
        **opened.facts,
    }
    return Import(scene=place.scene, record=record, opened=opened)


def _refuse_unused(place: Place, given: Given) -> None:
    """Raise a ConfigError where something is stated that the kind would not mind."""
    plain = Given()
    stated = [one.name for one in fields(Given) if getattr(given, one.name) != getattr(plain, one.name)]
    if unused := [name for name in stated if name not in place.kind.options]:
        taken = ", ".join(name.removesuffix("_deg") for name in place.kind.options) or "nothing"
        raise ConfigError(
            f"{place.found.root}: {unused[0].removesuffix('_deg')} is stated, which results of "
            f"{place.kind.name} do not need; they take {taken}"
        )


def refuse_other(made: Import, folder: Path) -> None:
    """Refuse to write an import over something else.

    Args:
        folder: of the scene.

    Raises:
        DataError: `folder` holds files that are no import, or another one; or the folder beside it, of another
            scene, is of another kind or rests on other assumptions.
    """
    if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        if not (folder / RECORD).is_file():
            raise DataError(
                f"{folder}: holds files and no {RECORD}, so it is no import; import into another folder"
            )
        _refuse_difference(folder, read_record(folder), made.record, tuple(made.record), "of another import")
    for other in sorted(folder.parent.glob(f"*/{RECORD}")):
        if other.parent != folder:
            words = "of another row: one folder is one method under one set of assumptions"
            _refuse_difference(other.parent, read_record(other.parent), made.record, SAME, words)


def _refuse_difference(
    folder: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any], names: Sequence[str], words: str
) -> None:
    different = [name for name in names if stored.get(name) != wanted.get(name)]
    if different:
        found = ", ".join(_in_words(name, stored, wanted) for name in different[:2])
        raise DataError(f"{folder / RECORD}: {words} ({found}); delete the folder or import into another one")


def _in_words(name: str, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    there, here = stored.get(name), wanted.get(name)
    if isinstance(there, dict) and isinstance(here, dict):
        keys = sorted(key for key in {*there, *here} if there.get(key) != here.get(key))
        return f"{name}: {', '.join(keys[:2])}"
    return name if isinstance(there, list) else f"{name}: {there}, now {here}"


def write(made: Import, folder: Path, progress: Callable[[str, int, int], object]) -> bool:
    """Write the pictures that are not there yet.

    Returns:
        Whether there was something to do.

    Raises:
        DataError: as `refuse_other`, or what drawing a picture raises.
    """
    refuse_other(made, folder)
    if (folder / RECORD).is_file() and not unfinished(folder, made.record):
        return False
    if folder.is_dir():
        sweep(folder)
    write_json(folder / RECORD, made.record)
    total = len(made.opened.numbers)
    for index, number in enumerate(made.opened.numbers):
        progress(f"import {made.scene}", index, total)
        for view in made.opened.views:
            path = folder / view / f"{number}.png"
            if not path.is_file():
                write_png(path, made.opened.draw(view, index))
    progress(f"import {made.scene}", total, total)
    return True
