"""Sorts the files of a folder into clips, masks and views, and reads `views.json` with their angles."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import title, utf8_name
from mvtokenflow.base.names import name_fault
from mvtokenflow.views.cameras import Cameras

VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif")

# The views of the Consistent4D test set, relative to the input camera.
AZIMUTHS_DEG: Mapping[str, float] = {"eval_0": -75.0, "eval_1": 15.0, "eval_2": 105.0, "eval_3": 195.0}

_FRAME = re.compile(r"\d+\.png\Z", re.IGNORECASE)
_NUMBERED = re.compile(r".*\d.*\.(png|jpe?g)\Z", re.IGNORECASE)
_EVAL = re.compile(r"eval_(\d+)\Z")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a scene's files are: `clip` and `mask` are folders of frames or videos, `views` eval folders."""

    clip: Path
    mask: Path | None
    views: Mapping[str, Path]
    angles: Path


def objects_of(root: Path, views: Collection[str] = ()) -> Mapping[str, Path]:
    """Return the objects of a folder with the layout `<object>/<view>/<n>.png`.

    A folder that holds views itself counts as one object.

    Args:
        views: names of views beside `input` and `eval_<i>`; an object with a `views.json` names its own.

    Raises:
        DataError: no such folder, no views in it, or a name that records cannot hold.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected <object>/eval_<i>/<n>.png in it")
    entries = entries_of(root)
    if _has_views(entries, views):
        name = utf8_name(root.resolve()).name
        found = {name: root}
    else:
        found = {e.name: e for e in entries if e.is_dir() and _has_views(entries_of(e), views)}
    if not found:
        raise DataError(f"{root}: holds no <object>/eval_<i>/ folders; is this the right folder?")
    for name, folder in found.items():
        if fault := name_fault(name):
            raise DataError(f"{folder}: its name is the object's in records, but it {fault}; rename it")
    return found


def _has_views(entries: Sequence[Path], views: Collection[str]) -> bool:
    return any(
        entry.name == "views.json"
        if entry.is_file()
        else entry.name == "input" or entry.name.startswith("eval_") or entry.name in views
        for entry in entries
    )


def views_in(folder: Path, entries: Sequence[Path]) -> dict[str, Path]:
    """List folders of evaluation views: `eval_<i>` in the order of i, then others that `views.json` names."""
    stated: Sequence[str] = ()
    if (folder / "views.json").is_file():
        with suppress(DataError):  # reported where the angles are read
            stated = list(read_json(folder / "views.json", dict, ""))
    views = {e.name: e for e in sorted(entries, key=_view_number) if _EVAL.match(e.name)}
    named = {e.name: e for e in entries if e.is_dir() and e.name not in {"input", *views}}
    return views | {name: named[name] for name in stated if name in named}


def level_fields(azimuth_deg: float) -> dict[str, Any]:
    return {"azimuth_deg": azimuth_deg, "elevation_deg": 0.0, "cameras": None}


def find_sources(path: Path) -> dict[str, Source]:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give a folder of frames <n>.png or a video")
    alone = _source(path)
    if alone is not None:
        return {title(path.resolve()): alone}
    if path.is_file():
        raise DataError(
            f"{path}: not a video ({', '.join(VIDEO_SUFFIXES)}); give one or a folder of frames <n>.png"
        )
    entries = entries_of(path)
    found: dict[str, Source] = {}
    for entry in entries:
        source = _source(entry)
        if source is None or _is_mask(entry, entries):
            continue
        name = title(entry)
        if name in found:
            raise DataError(
                f"{entry}: a second scene named '{name}' beside {found[name].clip}; rename one of them"
            )
        found[name] = source
    if not found:
        first = f" (the first entry is {entries[0].name})" if entries else ""
        raise DataError(
            f"{path}: holds no frames named <integer>.png, no video and no folder of these{first}; "
            "rename the frames or give another folder"
        )
    return found


def entries_of(folder: Path) -> list[Path]:
    try:
        return sorted(utf8_name(entry) for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error


def _source(path: Path) -> Source | None:
    """Return the scene that `path` is by itself; None if it is none."""
    if path.is_file():
        is_video = path.suffix.lower() in VIDEO_SUFFIXES
        return Source(clip=path, mask=_mask_of(path), views={}, angles=path) if is_video else None
    if not path.is_dir():
        return None
    entries = entries_of(path)
    views = views_in(path, entries)
    numbered = bool(entries) and all(_NUMBERED.match(entry.name) and entry.is_file() for entry in entries)
    if numbered or any(_FRAME.match(entry.name) for entry in entries):
        if views:
            raise DataError(f"{path}: frames beside {next(iter(views))}; move the frames into {path / 'input'}")
        return Source(clip=path, mask=_mask_of(path), views={}, angles=path)
    for entry in entries:
        if title(entry) == "input" and (entry.is_dir() or entry.suffix.lower() in VIDEO_SUFFIXES):
            return Source(clip=entry, mask=_mask_of(entry), views=views, angles=path / "views.json")
    if views:
        raise DataError(
            f"{path}: has {next(iter(views))} and no input; put the clip's frames into {path / 'input'}"
        )
    return None


def _view_number(entry: Path) -> int:
    match = _EVAL.match(entry.name)
    return int(match.group(1)) if match else -1


def _mask_of(clip: Path) -> Path | None:
    """Find `<clip>_mask`, a folder or a video, beside the clip."""
    clip = clip if clip.is_file() else clip.resolve()
    for entry in entries_of(clip.parent):
        if title(entry) == f"{title(clip)}_mask" and (entry.is_dir() or entry.suffix.lower() in VIDEO_SUFFIXES):
            return entry
    return None


def _is_mask(entry: Path, entries: Sequence[Path]) -> bool:
    name = title(entry)
    return name.endswith("_mask") and name.removesuffix("_mask") in {title(e) for e in entries}


def read_angles(source: Source) -> dict[str, dict[str, Any]]:
    """Read fields of `View` by view name from `views.json`."""
    angles: dict[str, Any] = {"input": {"azimuth_deg": 0, "elevation_deg": 0}}
    path = source.angles
    if path.is_file() and path.suffix == ".json":
        cure = f"write an object with one entry per view, as in {_EXAMPLE}"
        angles |= read_json(path, dict, cure, "not readable as JSON")
    missing, unknown = set(source.views) - set(angles), set(angles) - set(source.views) - {"input"}
    if missing:
        raise DataError(f"{path}: does not state {', '.join(sorted(missing))}; write e.g. {_EXAMPLE} into it")
    if unknown:
        raise DataError(
            f"{path}: has {', '.join(sorted(unknown))}, which is no folder here; remove or rename it"
        )
    for view in source.views:
        fault = name_fault(view) or ("is taken for the clip or its mask" if view in ("clip", "mask") else None)
        if fault:
            raise DataError(f"{path.parent / view}: its name is that of a view, but it {fault}; rename it")
    read = {view: _view_fields(fields, f"{path}: {view}") for view, fields in angles.items()}
    placed = sorted(view for view, fields in read.items() if fields["cameras"] is not None)
    if placed and len(placed) < len(read):  # what the others see would be a guess, and at another scale
        other = min(set(read) - set(placed))
        raise DataError(f"{path}: has cameras of {placed[0]} and none of {other}; state those of all views")
    return read


_EXAMPLE = '{"eval_0": {"azimuth_deg": -75, "elevation_deg": 0}}'


def _view_fields(fields: Any, name: str) -> dict[str, Any]:
    needed = {"azimuth_deg", "elevation_deg"}
    if not isinstance(fields, dict) or not needed <= set(fields) <= needed | {"cameras"}:
        raise DataError(f"{name}: expected azimuth_deg, elevation_deg and perhaps cameras, as in {_EXAMPLE}")
    for key in sorted(needed):
        if not isinstance(fields[key], int | float) or not -360 <= fields[key] <= 360:
            raise DataError(f"{name}: {key} is {fields[key]!r}; expected degrees from -360 to 360")
    cameras = Cameras.from_dict(fields["cameras"], name) if "cameras" in fields else None
    if cameras is not None and len(cameras) != 1:
        raise DataError(f"{name}: {len(cameras)} cameras; expected one, which stands still")
    return {**{key: float(fields[key]) for key in needed}, "cameras": cameras}
