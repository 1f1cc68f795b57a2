"""Pictures of standing cameras: a folder of frames or a video each, matched with the views that are wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import frame_files, frame_numbers
from mvtokenflow.baselines.importers.contract import AS_IS, Given, Opened, Wanted, numbered
from mvtokenflow.datasets.layout import VIDEO_SUFFIXES
from mvtokenflow.media.containers import opened
from mvtokenflow.media.pictures import PICTURES, Pixels, composite_white, is_jpeg, read_frame
from mvtokenflow.media.video import read_opaque

EXACT_DEG = 0.01  # azimuths written with two digits are exact


class NoViewError(DataError):
    """No picture shows a view that is wanted."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What one camera saw.

    Attributes:
        label: name of the folder or video, by which `--views` names it.
        path: a folder of frames or a video.
        view: name of a view, where the label is one.
        azimuth_deg: of a level camera; None if nobody states it.
        files: the frames of a folder in which other files lie; None takes all files of the folder.
        columns: first and last + 1 of its columns in wider pictures; None is all.
        span: first and last + 1 of its pictures in a longer video; None is all.
    """

    label: str
    path: Path
    view: str | None = None
    azimuth_deg: float | None = None
    files: tuple[Path, ...] | None = None
    columns: tuple[int, int] | None = None
    span: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class _Strip:
    """Pictures of a shot, checked: files, numbers as found, size, how they are stored, and a reader."""

    files: Sequence[Path]
    numbers: Sequence[int]
    size: tuple[int, int]
    codec: str
    alpha: bool
    read: Callable[[int], Pixels]


def match(shots: Sequence[Shot], wanted: Sequence[Wanted], given: Given, where: Path) -> dict[str, Shot]:
    """Find the shot of each wanted view: by `given.views`, by its name, or by its azimuth.

    Raises:
        ConfigError: `given.views` names a folder or view that is not there.
        DataError: two shots of one view.
        NoViewError: none of any.
    """
    names = {view.name for view in wanted}
    labels = {shot.label: shot for shot in shots}
    for label, name in given.views.items():
        if label not in labels:
            raise ConfigError(
                f"`mvtf-eval import --views {label}={name}`: {where} has {_listed(labels)} and no {label}"
            )
        if name not in names:
            raise ConfigError(
                f"`mvtf-eval import --views {label}={name}`: the views are {_listed(names)}; name one of them"
            )
    chosen: dict[str, Shot] = {}
    for shot in shots:
        meant = given.views.get(shot.label, shot.view)
        if meant is None or meant not in names:
            continue
        if meant in chosen:
            raise DataError(f"{where}: {chosen[meant].label} and {shot.label} are both {meant}; leave one out")
        chosen[meant] = shot
    for limit in dict.fromkeys((EXACT_DEG, max(given.nearest_deg, EXACT_DEG))):
        for view in (view for view in wanted if view.name not in chosen):
            left = [shot for shot in shots if shot not in chosen.values()]
            near = sorted(left, key=partial(off, view=view))
            if len(near) > 1 and off(near[1], view) <= EXACT_DEG:
                raise DataError(f"{where}: {near[0].label} and {near[1].label} are both {view.name}; name one")
            if near and off(near[0], view) <= limit:
                chosen[view.name] = near[0]
    if not chosen:
        raise NoViewError(f"{where}: {_nothing(shots, wanted)}")
    return {view.name: chosen[view.name] for view in wanted if view.name in chosen}


def off(shot: Shot, view: Wanted) -> float:
    """Degrees between the azimuths of a shot and of a level view; infinite if unknown."""
    if shot.azimuth_deg is None or view.elevation_deg != 0:
        return float("inf")
    return abs((shot.azimuth_deg - view.azimuth_deg + 180) % 360 - 180)


def _nothing(shots: Sequence[Shot], wanted: Sequence[Wanted]) -> str:
    placed = [shot for shot in shots if shot.azimuth_deg is not None]
    sides = [view for view in wanted if view.name != "input"] or list(wanted)
    there = (
        f"has {_listed(shot.label for shot in shots)}, which is no view of {_listed(v.name for v in wanted)}"
    )
    if placed:
        farthest = max(min(off(shot, view) for shot in placed) for view in sides)
        if farthest < float("inf"):
            limit = np.ceil(farthest * 100) / 100
            return f"{there}; accept nearest ones with `mvtf-eval import --nearest {limit:g}`"
    return f"{there}; say which is which with `mvtf-eval import --views {shots[0].label}={sides[0].name},...`"


def _listed(names: Any) -> str:
    found = sorted(names)
    return ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "")


def open_shots(
    shots: Sequence[Shot], wanted: Sequence[Wanted], given: Given, where: Path, count: int | None = None
) -> Opened:
    """Read and check the pictures of the wanted views.

    Args:
        count: frames that there must be; None is any number.

    Raises:
        DataError, ConfigError: as `Kind.open`.
    """
    chosen = match(shots, wanted, given, where)
    strips = {view: _strip(shot) for view, shot in chosen.items()}
    views = {view.name: view for view in wanted}
    placed = [(chosen[view].path, strip) for view, strip in strips.items()]
    numbers, remarks = _numbers(placed, views, given, count)
    sizes = {strip.size for strip in strips.values()}
    if len(sizes) > 1:
        listed = ", ".join(f"{chosen[v].label} {s.size[0]}x{s.size[1]}" for v, s in strips.items())
        raise DataError(f"{where}: pictures of several sizes, {listed}; make them one size")
    record = {view: _placed(chosen[view], views[view]) for view in strips}
    apart = {view: one["degrees_off"] for view, one in record.items() if one["degrees_off"]}
    codecs = sorted({strip.codec for strip in strips.values()})
    if apart:
        listed = ", ".join(f"{view} {degrees:+g} degrees off" for view, degrees in apart.items())
        remarks += (f"nearest views: {listed}",)
    if absent := [view.name for view in wanted if view.name not in strips]:
        remarks += (f"without {', '.join(absent)}",)
    if lossy := [codec for codec in codecs if codec != "png" and "lossless" not in codec]:
        remarks += (f"pictures went through {' and '.join(lossy)}, with loss",)
    alpha = any(strip.alpha for strip in strips.values())
    if alpha:
        remarks += ("RGBA put on white",)
    width, height = next(iter(sizes))
    return Opened(
        files=[path for strip in strips.values() for path in strip.files],
        views=record,
        numbers=numbers,
        facts={
            "codec": codecs,
            "background": "straight alpha put on white" if alpha else AS_IS,
            "size": [width, height],
            "time": AS_IS,
            "not imported": sorted(shot.label for shot in shots if shot not in chosen.values()),
        },
        remarks=remarks,
        draw=lambda view, index: strips[view].read(index),
    )


def _placed(shot: Shot, view: Wanted) -> dict[str, Any]:
    """Return the origin of a view's pictures, and by how much their camera misses it; positive is beyond it."""
    known = shot.azimuth_deg is not None and off(shot, view) < float("inf")
    apart = (float(shot.azimuth_deg or 0) - view.azimuth_deg + 180) % 360 - 180 if known else 0.0
    return {
        "from": shot.label,
        "azimuth_deg": shot.azimuth_deg if known else view.azimuth_deg,
        "degrees_off": 0.0 if abs(apart) <= EXACT_DEG else round(apart, 2),
    }


def _numbers(
    strips: Sequence[tuple[Path, _Strip]], views: dict[str, Wanted], given: Given, count: int | None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the dataset's numbers of the frames; all views must have the same."""
    wanted = next((view.numbers for view in views.values() if view.numbers is not None), None)
    found: list[tuple[Path, tuple[int, ...], tuple[str, ...]]] = []
    for path, strip in strips:
        if count is not None and len(strip.numbers) != count:
            raise DataError(f"{path}: {len(strip.numbers)} frames where {count} are written; copy it again")
        begins = given.first if path.is_dir() else 0  # a video's frames count from 0
        found.append((path, *numbered(strip.numbers, wanted, begins, path)))
    first, numbers, _ = found[0]
    for path, other, _ in found[1:]:
        if other != numbers:
            raise DataError(f"{path}: {len(other)} frames, but {first} has {len(numbers)}; import equal clips")
    return numbers, tuple(dict.fromkeys(remark for *_, remarks in found for remark in remarks))


def _strip(shot: Shot) -> _Strip:
    """Return the pictures of a shot; every one is read once, so that a damaged one is refused now."""
    return _frames(shot) if shot.path.is_dir() else _video(shot)


def _frames(shot: Shot) -> _Strip:
    paths = frame_files(shot.path, PICTURES) if shot.files is None else list(shot.files)

    def read(index: int) -> Pixels:
        picture = read_frame(paths[index])
        return composite_white(picture) if picture.shape[-1] == 4 else picture

    first, alpha = None, False
    for path in paths:
        picture = read_frame(path)
        alpha = alpha or picture.shape[-1] == 4
        first = first or picture.shape[:2]
        if picture.shape[:2] != first:
            here, there = (f"{shape[1]}x{shape[0]}" for shape in (picture.shape, first))
            raise DataError(f"{path}: {here} pixels, but {paths[0].name} has {there}; make all frames one size")
    assert first is not None  # `frame_files` refuses an empty folder
    codec = "jpeg" if any(map(is_jpeg, paths)) else "png"
    return _Strip(
        files=paths,
        numbers=frame_numbers(paths),
        size=(first[1], first[0]),
        codec=codec,
        alpha=alpha,
        read=read,
    )


def _video(shot: Shot) -> _Strip:
    @lru_cache(maxsize=1)
    def decoded() -> tuple[Pixels, bool]:
        found = read_opaque(shot.path)
        return found.pictures, found.lossy

    pictures, lossy = decoded()
    with opened(shot.path) as container:
        name = container.streams.video[0].codec_context.name
    start, stop = shot.columns or (0, pictures.shape[2])
    begin, end = shot.span or (0, len(pictures))
    return _Strip(
        files=[shot.path],
        numbers=list(range(end - begin)),
        size=(stop - start, pictures.shape[1]),
        codec=name if lossy else f"{name}, lossless",
        alpha=False,
        read=lambda index: np.ascontiguousarray(decoded()[0][begin + index, :, start:stop]),
    )


def is_video(path: Path) -> bool:
    """Return whether a file's name ends as a video's."""
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
