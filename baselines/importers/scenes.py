"""Which folder holds the results of which scene."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import title, utf8_name
from mvtokenflow.base.names import name_fault
from mvtokenflow.baselines.importers.catalogue import AUTO, lacking, recognised
from mvtokenflow.baselines.importers.contract import Found, Kind
from mvtokenflow.datasets.layout import entries_of

# What programs append to the name of a scene in that of its folder: frames of DreamGaussian4D, steps of STAG4D.
_APPENDED = r"(_frames|\d+)?"


@dataclass(frozen=True)
class Place:
    """Where the results of a scene are."""

    scene: str
    kind: Kind
    found: Found


def places_of(
    source: Path, known: Sequence[str] | None, scene: str | None = None, kind: str = AUTO
) -> list[Place]:
    """Find the scenes of a folder: it is one itself, or holds a folder for each.

    Args:
        known: names of the dataset's scenes; None accepts any.
        scene: only this one. It is the folder `scene` in `source`, or else `source` itself.

    Raises:
        DataError: nothing there is of any kind, or of several.
        ConfigError: `source` is one scene and its name is not given.
    """
    if not source.is_dir():
        raise DataError(f"{source}: not a folder; give the folder of a scene, or one with a folder for each")
    if fault := name_fault(scene) if scene is not None else None:
        raise ConfigError(f"`mvtf-eval import --scene`: {scene} becomes a folder, but it {fault}")
    asked = [scene] if scene else known or ()
    inside = {name: folder for name in asked if (folder := _folder_of(source, name))}
    alone = None if inside else recognised(source, kind)
    if alone is not None:
        return [Place(scene or _name_of(source, alone[1], known), *alone)]
    if known is None and scene is None:
        inside = {entry.name: entry for entry in entries_of(source) if entry.is_dir()}
    found = {name: recognised(folder, kind) for name, folder in inside.items()}
    places = [Place(name, *one) for name, one in found.items() if one is not None]
    unread = {name: inside[name] for name, one in found.items() if one is None}
    if unread and (known is not None or scene is not None):
        folder = next(iter(unread.values()))
        raise DataError(f"{folder}: results of no kind that is read: {lacking(folder, kind)}")
    if not places:
        why = f"{lacking(source, kind)}{_others(source, known)}"
        raise DataError(f"{source}: results of no kind that is read: {why}")
    return places


def _others(source: Path, known: Sequence[str] | None) -> str:
    folders = [entry.name for entry in entries_of(source) if entry.is_dir()][:3]
    if known is None or not folders:
        return ""
    listed = ", ".join([*known][:3]) + (", ..." if len(known) > 3 else "")
    return (
        f"; and none of its folders ({', '.join(folders)}) is named as a scene ({listed}), see "
        "`mvtf-eval import --scene`"
    )


def _folder_of(source: Path, scene: str) -> Path | None:
    """Return the folder of a scene in a folder of scenes.

    Raises:
        DataError: there are several.
    """
    if (source / scene).is_dir():
        return source / scene
    pattern = re.compile(re.escape(scene) + _APPENDED + r"\Z")
    found = [entry for entry in entries_of(source) if entry.is_dir() and pattern.match(entry.name)]
    if len(found) > 1:
        listed = ", ".join(entry.name for entry in found)
        raise DataError(f"{source}: {listed} may all be {scene}; give one of them")
    return found[0] if found else None


def _name_of(source: Path, found: Found, known: Sequence[str] | None) -> str:
    """Return the name of a folder's only scene: the dataset's only one, or that of its files or folder."""
    stated = [name for name in (found.scene, title(utf8_name(source.resolve()))) if name]
    if known is None:
        return stated[0]
    for name in stated:
        for scene in known:
            if re.match(re.escape(scene) + _APPENDED + r"\Z", name):
                return scene
    if len(known) == 1:
        return known[0]
    raise ConfigError(
        f"{source}: holds the results of one scene; say of which with `mvtf-eval import --scene NAME`"
    )
