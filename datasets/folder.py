"""Your own clips as a dataset: a folder of frames, a video file, or a folder of several of these.

What a scene looks like on disk:

* `cat/<n>.png` or `cat.mp4`: a clip alone. It is scored on its input view only.
* `cat/input/<n>.png` or `cat/input.mp4`, `cat/<view>/<n>.png` and `cat/views.json`: a clip with reference
  pictures of other views, any number of them. `views.json` gives their names and positions, relative to
  the input: `{"eval_0": {"azimuth_deg": -75, "elevation_deg": 0}, ...}`; a view (and `"input"`) may add
  `"cameras"`, one camera as `Cameras.to_dict` writes it.

A clip without alpha needs masks beside it, named `<clip>_mask`: `cat_mask/<n>.png` or `cat_mask.mp4`.

The reference pictures are made once as RGB on white in the cache, in a folder named by the digest of
all source files, so that they never depend on a file that changed since.
"""

import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from mvtokenflow.datasets.layout import (
    AZIMUTHS_DEG,
    Source,
    entries_of,
    find_sources,
    level_fields,
    objects_of,
    read_angles,
    views_in,
)
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.media.pictures import PICTURES, check_file, read_all_on_white
from mvtokenflow.media.video import read_clip, write_png

_FORM = 2  # of what is cached; what another form accepted is read again


class FolderDataset:
    """Scenes from a path of the user; nothing is read before a scene is requested.

    Args:
        path: one scene or a folder of scenes, see the module.
        cache: where reference pictures are kept; default `cache_root()`.
        option: the option of a command line that named the path, for messages.
    """

    def __init__(self, path: Path, cache: Path | None = None, option: str = "--dataset") -> None:
        self.path = expanded(path, option)
        self.cache = cache
        self.name = f"folder-{title(utf8_name(self.path.resolve()))}"

    def scene_names(self) -> Sequence[str]:
        """Return the names of folders and videos, sorted.

        Raises:
            DataError: no such path, or no scene in it.
        """
        return sorted(find_sources(self.path))

    def scene(self, name: str) -> Scene:
        """Return the scene, after reading all its pictures once per content.

        Raises:
            DataError: a damaged file, see `read_clip`; `views.json` missing or wrong.
            ConfigError: no such scene.
        """
        source = choose("scene", name, find_sources(self.path))
        angles = read_angles(source)
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

    def reference_folders(self) -> Mapping[str, Path]:
        """Return the folders of objects that renderings can be compared with; these need no input clip.

        Raises:
            DataError: no such folder, no views in it, or a name that records cannot hold.
        """
        return objects_of(self.path)

    def reference(self, name: str) -> Scene:
        """Return an object of `reference_folders` as a scene with the files themselves, RGB or RGBA.

        Without `views.json` its views are those of the Consistent4D test set. A view whose folder is not there
        has no frames; a clip may be missing as well.

        Raises:
            DataError: stray files among the frames; `views.json` is wrong.
            ConfigError: no such object.
        """
        folder = choose("object", name, self.reference_folders())
        entries, angles = entries_of(folder), folder / "views.json"
        views = views_in(folder, entries)
        if angles.is_file():
            fields = read_angles(Source(clip=folder / "input", mask=None, views=views, angles=angles))
        else:
            views = {view: folder / view for view in AZIMUTHS_DEG}
            fields = {view: level_fields(azimuth) for view, azimuth in {"input": 0.0, **AZIMUTHS_DEG}.items()}
        seen = [
            View(name=view, frames=frame_files(path) if path.is_dir() else (), **fields[view])
            for view, path in {"input": folder / "input", **views}.items()
        ]
        clip = partial(read_clip, folder / "input", name=name)
        return Scene(name=name, clip=clip, input=seen[0], views=seen[1:], root=folder)


def _stated_cameras(views: Sequence[View]) -> dict[str, Any]:
    return {view.name: view.cameras.to_dict() for view in views if view.cameras is not None}


def _standard_views() -> list[View]:
    """Return the benchmark's novel views, which are rendered without a reference to compare with."""
    return [
        View(name=name, azimuth_deg=azimuth, elevation_deg=0.0, cameras=None, frames=())
        for name, azimuth in AZIMUTHS_DEG.items()
    ]


def _materialise(name: str, source: Source, cache: Path) -> tuple[Path, str]:
    """Return the folder of the scene's pictures on white, `input/<n>.png`, `eval_<i>/<n>.png`; make it first.

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
    """Read the frames of a clip, a mask or a view; views are compared with renderings and are PNG only."""
    return frame_files(folder, PICTURES if role in ("clip", "mask") else ("png",))


def _refuse_other_numbers(source: Source, numbers: Sequence[int]) -> None:
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
    """Return whether no file is missing; the folder appears at once, but files may be deleted later.

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
    """Yield a temporary folder that replaces `target` if the block succeeds and `target` is still missing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, deep=False)
    with partial_folder(target) as temporary:
        yield temporary
        if not _is_whole(target, numbers):
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
