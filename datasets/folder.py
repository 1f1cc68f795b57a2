"""Your own clips as a dataset: a folder of frames, a video file, or a folder of several of these.

What a scene looks like on disk:

* `cat/<n>.png` or `cat.mp4`: a clip alone. It is scored on its input view only.
* `cat/input/<n>.png` or `cat/input.mp4`, `cat/eval_<i>/<n>.png` and `cat/views.json`: a clip with
  reference pictures of other views. `views.json` says where those stand, relative to the input:
  `{"eval_0": {"azimuth_deg": -75, "elevation_deg": 0}, ...}`; a view (and `"input"`) may add `"cameras"`,
  one camera as `Cameras.to_dict` writes it.

A clip without alpha needs masks beside it, named `<clip>_mask`: `cat_mask/<n>.png` or `cat_mask.mp4`.

The reference pictures are made once as RGB on white in the cache, in a folder named by the digest of
all source files, so that they never depend on a file that changed since.
"""

import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import (
    cache_root,
    choose,
    digest,
    digest_json,
    expanded,
    frame_files,
    frame_numbers,
    sha256_file,
    title,
    utf8_name,
    write_json,
)
from mvtokenflow.base.partial import partial_folder, sweep
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.media.pictures import PICTURES, check_file, read_all_on_white
from mvtokenflow.media.video import read_clip, write_png
from mvtokenflow.views.cameras import Cameras

VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif")

# The views of the Consistent4D test set, relative to the input camera.
AZIMUTHS_DEG: Mapping[str, float] = {"eval_0": -75.0, "eval_1": 15.0, "eval_2": 105.0, "eval_3": 195.0}

_FORM = 2  # of what is cached; what another form accepted is read again

_FRAME = re.compile(r"\d+\.png\Z", re.IGNORECASE)
_NUMBERED = re.compile(r".*\d.*\.(png|jpe?g)\Z", re.IGNORECASE)
_EVAL = re.compile(r"eval_(\d+)\Z")


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where a scene's files are: `clip` and `mask` are folders of frames or videos, `views` eval folders."""

    clip: Path
    mask: Path | None
    views: Mapping[str, Path]
    angles: Path


class FolderDataset:
    """Scenes from a path of yours; nothing is read before a scene is asked for.

    Args:
        path: one scene or a folder of scenes, see the module.
        cache: where reference pictures are kept; default `cache_root()`.
    """

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        self.path = expanded(path, "--dataset")
        self.cache = cache
        self.name = f"folder-{title(utf8_name(self.path.resolve()))}"

    @property
    def root(self) -> Path:
        """What holds the reference pictures of all scenes."""
        return self.cache or cache_root()

    def scene_names(self) -> Sequence[str]:
        """Names of folders and videos, sorted.

        Raises:
            DataError: no such path, or no scene in it.
        """
        return sorted(_find(self.path))

    def scene(self, name: str) -> Scene:
        """The scene, after reading all its pictures once per content.

        Raises:
            DataError: whatever is wrong with a file, see `read_clip`; `views.json` missing or wrong.
            ConfigError: no such scene.
        """
        source = choose("scene", name, _find(self.path))
        angles = _read_angles(source)
        folder, sources = _materialise(name, source, self.cache or cache_root())
        for note in read_json(folder / "scene.json", dict, f"delete {folder}", check=_check_notes)["notes"]:
            warnings.warn(note, stacklevel=2)
        views = [
            View(name=view, frames=frame_files(folder / view), **angles[view])
            for view in ("input", *source.views)
        ]
        return Scene(
            name=name,
            clip=partial(read_clip, source.clip, source.mask, name=name),
            input=views[0],
            views=views[1:] or _standard_views(),
            root=folder,
            content=digest_json({"sources": sources, "cameras": _stated_cameras(views)}),
        )


def _stated_cameras(views: Sequence[View]) -> dict[str, Any]:
    return {view.name: view.cameras.to_dict() for view in views if view.cameras is not None}


def _standard_views() -> list[View]:
    """The benchmark's novel views, to be rendered; there are no reference pictures to compare them with."""
    return [
        View(name=name, azimuth_deg=azimuth, elevation_deg=0.0, cameras=None, frames=())
        for name, azimuth in AZIMUTHS_DEG.items()
    ]


def _find(path: Path) -> dict[str, _Source]:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give a folder of frames <n>.png or a video")
    alone = _source(path)
    if alone is not None:
        return {title(path.resolve()): alone}
    if path.is_file():
        raise DataError(
            f"{path}: not a video ({', '.join(VIDEO_SUFFIXES)}); give one or a folder of frames <n>.png"
        )
    entries = _entries(path)
    found: dict[str, _Source] = {}
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


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(utf8_name(entry) for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error


def _source(path: Path) -> _Source | None:
    """What makes `path` a scene by itself; None if nothing does."""
    if path.is_file():
        is_video = path.suffix.lower() in VIDEO_SUFFIXES
        return _Source(clip=path, mask=_mask_of(path), views={}, angles=path) if is_video else None
    if not path.is_dir():
        return None
    entries = _entries(path)
    views = {e.name: e for e in sorted(entries, key=_view_number) if _EVAL.match(e.name)}
    numbered = bool(entries) and all(_NUMBERED.match(entry.name) and entry.is_file() for entry in entries)
    if numbered or any(_FRAME.match(entry.name) for entry in entries):
        if views:
            raise DataError(f"{path}: frames beside {next(iter(views))}; move the frames into {path / 'input'}")
        return _Source(clip=path, mask=_mask_of(path), views={}, angles=path)
    for entry in entries:
        if title(entry) == "input" and (entry.is_dir() or entry.suffix.lower() in VIDEO_SUFFIXES):
            return _Source(clip=entry, mask=_mask_of(entry), views=views, angles=path / "views.json")
    if views:
        raise DataError(
            f"{path}: has {next(iter(views))} and no input; put the clip's frames into {path / 'input'}"
        )
    return None


def _view_number(entry: Path) -> int:
    match = _EVAL.match(entry.name)
    return int(match.group(1)) if match else -1


def _mask_of(clip: Path) -> Path | None:
    """`<clip>_mask`, a folder or a video, beside the clip."""
    clip = clip if clip.is_file() else clip.resolve()
    for entry in _entries(clip.parent):
        if title(entry) == f"{title(clip)}_mask" and (entry.is_dir() or entry.suffix.lower() in VIDEO_SUFFIXES):
            return entry
    return None


def _is_mask(entry: Path, entries: Sequence[Path]) -> bool:
    name = title(entry)
    return name.endswith("_mask") and name.removesuffix("_mask") in {title(e) for e in entries}


def _read_angles(source: _Source) -> dict[str, dict[str, Any]]:
    """Fields of `View` by view name."""
    angles: dict[str, Any] = {"input": {"azimuth_deg": 0, "elevation_deg": 0}}
    path = source.angles
    if path.is_file() and path.suffix == ".json":
        cure = f"write an object with one entry per view, as in {_EXAMPLE}"
        angles |= read_json(path, dict, cure, "not readable as JSON")
    missing, unknown = set(source.views) - set(angles), set(angles) - set(source.views) - {"input"}
    if missing:
        raise DataError(
            f"{path}: says nothing about {', '.join(sorted(missing))}; write e.g. {_EXAMPLE} into it"
        )
    if unknown:
        raise DataError(
            f"{path}: has {', '.join(sorted(unknown))}, which is no folder here; remove or rename it"
        )
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


def _materialise(name: str, source: _Source, cache: Path) -> tuple[Path, str]:
    """The folder with the scene's pictures on white, `input/<n>.png` and `eval_<i>/<n>.png`, made if needed.

    With it the digest of all source files.
    """
    inputs = {"clip": source.clip, **({"mask": source.mask} if source.mask else {}), **source.views}
    files = [
        (f"{role}/{file.name}", file)
        for role, path in inputs.items()
        for file in (_frames(role, path) if path.is_dir() else [path])
    ]
    for _, file in files:
        check_file(file)
    key = digest((role, sha256_file(file).encode()) for role, file in files)
    folder = cache / "folder" / f"{name}-{key[:16]}"
    numbers = frame_numbers(_frames("clip", source.clip)) if source.clip.is_dir() else None
    if _is_whole(folder, numbers):
        return folder, key
    clip = read_clip(source.clip, source.mask, name=name)
    numbers = list(range(len(clip))) if numbers is None else numbers
    _refuse_other_numbers(source, numbers)
    try:
        with _new_folder(folder, numbers) as building:
            for n, frame in zip(numbers, clip.on_background(1.0), strict=True):
                write_png(building / "input" / f"{n}.png", frame.numpy())
            counts = {"input": len(clip)}
            for view, path in source.views.items():
                frames = read_all_on_white(frame_files(path))
                counts[view] = len(frames)
                for n, picture in zip(numbers, frames, strict=True):
                    write_png(building / view / f"{n}.png", picture)
            write_json(
                building / "scene.json", {"frames": counts, "sources": key, "form": _FORM, "notes": clip.notes}
            )
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror}); free some space or set MVTF_CACHE to another "
            "folder"
        ) from error
    return folder, key


def _check_notes(stated: dict[str, Any]) -> None:
    if not all(isinstance(note, str) for note in stated["notes"]):
        raise TypeError("its notes are no texts")


def _frames(role: str, folder: Path) -> list[Path]:
    """Of a clip, a mask or a view; views are compared with renderings and are PNG only."""
    return frame_files(folder, PICTURES if role in ("clip", "mask") else ("png",))


def _refuse_other_numbers(source: _Source, numbers: Sequence[int]) -> None:
    """Refuse a view that lacks a frame of the input or has another: equal numbers are what is compared."""
    for path in source.views.values():
        found = frame_numbers(frame_files(path))
        lacking, spare = sorted(set(numbers) - set(found)), sorted(set(found) - set(numbers))
        if lacking or spare:
            what = f"lacks frame {lacking[0]}" if lacking else f"has a frame {spare[0]}, which is none"
            counted = "" if source.clip.is_dir() else ", whose frames count from 0"
            raise DataError(
                f"{path}: {what} of {source.clip}{counted}; number both alike, or leave the frame out of both"
            )


def _is_whole(folder: Path, numbers: Sequence[int] | None = None) -> bool:
    """The folder appears at once, but somebody may have removed files from it since.

    Args:
        numbers: of the clip's frames; None for those of a video.
    """
    try:
        stated = read_json(folder / "scene.json", dict, "it is made anew")
        counts = stated["frames"]
        return stated["form"] == _FORM and all(
            frame_numbers(frame_files(folder / view)) == list(range(count) if numbers is None else numbers)
            for view, count in counts.items()
        )
    except (KeyError, TypeError, AttributeError, DataError):
        return False


@contextmanager
def _new_folder(target: Path, numbers: Sequence[int]) -> Iterator[Path]:
    """A temporary folder that replaces `target` if the block succeeds and nobody else was faster."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, deep=False)
    with partial_folder(target) as temporary:
        yield temporary
        if not _is_whole(target, numbers):
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
