"""The Consistent4D test set: 7 animated objects, 4 views of 32 frames, and the input videos.

Evaluation views stand at azimuth −75, 15, 105, 195 degrees from the input view, elevation 0 (issue 12 of
the Consistent4D repository). Distance and field of view of the references were never published. They are
assumed to be those that Consistent4D trains and renders with, distance 2 (issue 13) and 49.1 degrees (its
configuration), and most others with it. `Orthographic`, `Nearer` and `Farther` are other readings of the same
pictures, as datasets.

The reference pictures are used as published: RGBA. `View.frames` are the files themselves, and scoring
composites them on white (`read_on_white`), as Consistent4D's README asks before its own scripts run.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import (
    choose,
    expanded,
    frame_files,
    frame_numbers,
    sha256_file,
)
from mvtokenflow.datasets.assumed import AssumedCamera
from mvtokenflow.datasets.layout import AZIMUTHS_DEG
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.media.pictures import picture_size
from mvtokenflow.media.video import Clip, read_clip, read_rgba

OBJECTS = ("aurorus", "crocodile", "guppie", "monster", "pistol", "skull", "trump")
FRAMES = 32
CAMERA = AssumedCamera(distance=2.0, fov_deg=49.1)

ROOT_VARIABLE = "MVTF_CONSISTENT4D"
VIDEOS_VARIABLE = "MVTF_CONSISTENT4D_VIDEOS"

INSTRUCTIONS = f"""\
How to get the Consistent4D test set (the authors' terms apply; it cannot be redistributed here):
  1. test set with ground truth: https://drive.google.com/open?id=1jn18kA2FfKMnyQ6fisIn8rhBI0dr3NFk
  2. input videos:               https://drive.google.com/open?id=1mJNhFKvzZ-8icAw6KC-W-sf7JmmmMUkx
  3. unpack both into one folder, so that it holds
       test_dataset/eval_gt/<object>/eval_<0..3>/<0..31>.png   (eval_gt/... or <object>/... also do)
       <any folder>/<object>/<0..31>.png                       (e.g. synthetic/, in-the-wild/)
     for the objects {", ".join(OBJECTS)}
  4. export {ROOT_VARIABLE}=<that folder>   ({VIDEOS_VARIABLE} if the videos are elsewhere)"""

Masks = NDArray[np.bool_]

_REPLACE = "unpack it again from the download"
_CLEARLY = 0.05  # of IoU: an object that looks alike from all sides gives no evidence


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fault in a copy of the data: where, what, and what to do."""

    path: Path
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; {self.fix}"


class Consistent4D:
    """The dataset `consistent4d`.

    Args:
        root: the folder with the test set; default `$MVTF_CONSISTENT4D`.
        videos: the folder with the input videos; default `$MVTF_CONSISTENT4D_VIDEOS`, else below `root`.

    Attributes:
        camera: assumed of all views, the input's too.
    """

    name = "consistent4d"
    camera = CAMERA

    def __init__(self, root: Path | None = None, videos: Path | None = None) -> None:
        self._root = root
        self._videos = videos

    def scene_names(self) -> Sequence[str]:
        """Return the names of the seven objects, whether or not they are on this machine."""
        return OBJECTS

    def scene(self, name: str) -> Scene:
        """Return an object after checking that all its frames exist (not their pixels: see `verify`).

        Without an input video the scene can still be scored; its clip raises DataError.

        Raises:
            DataError: files are missing; the message names what to download and where to put it.
            ConfigError: no such object.
        """
        choose("object", name, dict.fromkeys(OBJECTS))
        root = given_folder(self._root, ROOT_VARIABLE)
        if root is None:
            raise DataError(f"consistent4d: no folder given and {ROOT_VARIABLE} is not set\n{INSTRUCTIONS}")
        folder = find_references(root) / name
        for finding in _object_layout(folder):
            raise DataError(f"{finding}\n{INSTRUCTIONS}")
        found = find_input(name, root, self._videos)
        if found is None:
            clip = partial(_no_clip, name, self._videos or root)
        else:
            for finding in _frames_layout(found):
                raise DataError(f"{finding}\n{INSTRUCTIONS}")
            clip = partial(read_clip, found, name=name)
        return Scene(
            name=name,
            clip=clip,
            input=seen("input", 0.0, found, self.camera),
            views=[seen(view, azimuth, folder / view, self.camera) for view, azimuth in AZIMUTHS_DEG.items()],
            root=folder,
            assumed=assumptions(self.camera),
        )


class Orthographic(Consistent4D):
    """The dataset `consistent4d-ortho`: cameras without perspective, like those of priors."""

    name = "consistent4d-ortho"
    camera = replace(CAMERA, kind="ortho")


class Nearer(Consistent4D):
    """The dataset `consistent4d-r1.5`: cameras at the distance that DreamGaussian4D renders from."""

    name = "consistent4d-r1.5"
    camera = replace(CAMERA, distance=1.5)


class Farther(Consistent4D):
    """The dataset `consistent4d-r2.5`: cameras as far behind the assumed distance as `Nearer` is in front."""

    name = "consistent4d-r2.5"
    camera = replace(CAMERA, distance=2.5)


def assumptions(camera: AssumedCamera) -> tuple[str, ...]:
    """Return `Scene.assumed` for a choice of cameras."""
    return (f"cameras of the views: {camera}; Consistent4D does not state them",)


def seen(name: str, azimuth_deg: float, folder: Path | None, camera: AssumedCamera) -> View:
    """Return the level view of the frames in `folder` through the assumed camera; None without frames.

    Raises:
        DataError: the first frame is not a readable PNG.
    """
    frames = frame_files(folder) if folder else ()
    cameras = camera.at(azimuth_deg, *picture_size(frames[0])) if frames else None
    return View(name=name, azimuth_deg=azimuth_deg, elevation_deg=0.0, cameras=cameras, frames=frames)


def find_references(root: Path) -> Path:
    """Find the folder of `<object>/eval_<i>`: `test_dataset/eval_gt`, `eval_gt` or `root` itself.

    Raises:
        DataError: none of them does.
    """
    candidates = (root / "test_dataset" / "eval_gt", root / "eval_gt", root)
    for folder in candidates:
        if any((folder / name / "eval_0").is_dir() for name in OBJECTS):
            return folder
    looked = ", ".join(str(folder / "<object>" / "eval_0") for folder in candidates)
    raise DataError(f"{root}: no object of the test set here (looked for {looked})\n{INSTRUCTIONS}")


def find_input(name: str, root: Path, videos: Path | None = None) -> Path | None:
    """Find an object's folder of input frames, up to two levels below `videos` or `root`; None without one.

    Raises:
        DataError: there is more than one.
    """
    base = videos_folder(root, videos)
    found = [
        folder
        for pattern in (name, f"*/{name}", f"*/*/{name}")
        for folder in sorted(base.glob(pattern))
        if folder.is_dir() and any(entry.stem.isdecimal() for entry in folder.glob("*.png"))
    ]
    if len(found) > 1:
        raise DataError(
            f"{base}: the input video of {name} is there {len(found)} times ({', '.join(map(str, found))}); "
            f"set {VIDEOS_VARIABLE} to the folder of one"
        )
    return found[0] if found else None


def videos_folder(root: Path, videos: Path | None = None) -> Path:
    """Return the folder of input videos: given, `$MVTF_CONSISTENT4D_VIDEOS`, or beside the test set.

    Raises:
        DataError: it is not there.
    """
    base = given_folder(videos, VIDEOS_VARIABLE)
    if base is None:
        base = root.resolve()
        while base.name in ("test_dataset", "eval_gt"):  # the videos are unpacked beside the test set
            base = base.parent
    if not base.is_dir():
        raise DataError(f"{base}: no such folder of input videos; set {VIDEOS_VARIABLE} to the right one")
    return base


def verify(root: Path, videos: Path | None = None) -> list[Finding]:
    """List every fault in a copy of the test set and its input videos; empty if it is complete.

    Checks layout, counts, names, decodability, kind (8-bit RGBA), sizes, alpha, pictures that are the same
    where they cannot be, and whether the silhouettes fit the order of the views. Decodes every picture.
    """
    try:
        references = find_references(root)
    except DataError:
        return [Finding(path=root, problem="holds no object of the test set", fix=INSTRUCTIONS)]
    findings = list(_strangers(references, OBJECTS)) if references.name == "eval_gt" else []
    for name in OBJECTS:
        findings += _verify_object(references / name, root, videos)
    return findings + list(_copies([references / name / view for name in OBJECTS for view in AZIMUTHS_DEG]))


def _verify_object(folder: Path, root: Path, videos: Path | None) -> list[Finding]:
    findings = list(_object_layout(folder))
    wrong = {finding.path for finding in findings}
    findings += _strangers(folder, tuple(AZIMUTHS_DEG))
    views = [path for view in AZIMUTHS_DEG if (path := folder / view) not in wrong and folder not in wrong]
    masks: dict[Path, Masks] = {}
    findings += _pictures(views, masks)
    found = None
    try:
        found = find_input(folder.name, root, videos)
    except DataError as error:
        findings.append(_finding(error))
    else:
        if found is None:
            problem = f"no folder {folder.name}/ with the input video below it"
            findings.append(Finding(path=videos or root, problem=problem, fix=INSTRUCTIONS))
        else:
            findings += list(_frames_layout(found)) or _pictures([found], masks)
    if len(masks) == len(AZIMUTHS_DEG) + (found is not None):
        findings += _order(folder, [masks[path] for path in views], masks[found] if found else None)
    return findings


def given_folder(path: Path | None, variable: str) -> Path | None:
    """Return `path`, or the folder in the environment variable, or None."""
    named = os.environ.get(variable)
    if path is not None:
        return expanded(path, "--root")
    return expanded(named, variable) if named else None


def _no_clip(name: str, looked: Path) -> Clip:
    raise DataError(f"{looked}: no folder {name}/ with the input video below it\n{INSTRUCTIONS}")


def _object_layout(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        yield Finding(path=folder, problem="the object is missing", fix=_REPLACE)
        return
    for view in AZIMUTHS_DEG:
        if not (folder / view).is_dir():
            yield Finding(path=folder / view, problem="the view is missing", fix=_REPLACE)
        else:
            yield from _frames_layout(folder / view)


def _frames_layout(folder: Path) -> Iterator[Finding]:
    try:
        indices = set(frame_numbers(frame_files(folder)))
    except DataError as error:
        yield Finding(path=folder, problem=_finding(error).problem, fix=_finding(error).fix)
        return
    missing, extra = sorted(set(range(FRAMES)) - indices), sorted(indices - set(range(FRAMES)))
    if missing or extra:
        lists = [
            f"{word} {', '.join(map(str, some[:5]))}"
            for word, some in (("lacks", missing), ("adds", extra))
            if some
        ]
        problem = f"{len(indices)} frames instead of 0 to {FRAMES - 1}: {' and '.join(lists)}"
        yield Finding(path=folder, problem=problem, fix=_REPLACE)


def _strangers(folder: Path, expected: Sequence[str]) -> Iterator[Finding]:
    """List other entries of a folder, hidden ones included, since Consistent4D's scripts count every entry."""
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if entry.name not in expected:
            yield Finding(path=entry, problem="does not belong here", fix="move it out of the folder")


def _pictures(folders: Sequence[Path], masks: dict[Path, Masks]) -> Iterator[Finding]:
    """Check single pictures of folders whose layout is right; all must have one size.

    Adds the silhouettes of folders without a fault to `masks`.
    """
    first: tuple[Path, tuple[int, ...]] | None = None
    for folder in folders:
        silhouettes = []
        for path in frame_files(folder):
            try:
                picture = read_rgba(path)
            except DataError as error:
                yield _finding(error)
                continue
            first = first or (path, picture.shape)
            alpha = picture[..., 3]
            if picture.shape != first[1]:
                sizes = [f"{shape[1]}x{shape[0]}" for shape in (picture.shape, first[1])]
                yield Finding(path=path, problem=f"{sizes[0]} pixels, {first[0]} has {sizes[1]}", fix=_REPLACE)
            elif alpha.min() == 255 or alpha.max() == 0:
                found = "opaque, the background was filled" if alpha.max() else "empty, there is no object"
                yield Finding(path=path, problem=found, fix=_REPLACE)
            else:
                silhouettes.append(_thumbnail(alpha))
        if len(silhouettes) == FRAMES:
            masks[folder] = np.stack(silhouettes)


def _thumbnail(alpha: NDArray[np.uint8]) -> Masks:
    """Return a silhouette of (64, 64), so that pictures of any size compare."""
    rows, columns = (((np.arange(64) + 0.5) * side / 64).astype(int) for side in alpha.shape)
    return np.asarray(alpha[rows][:, columns] > 127)


def _order(folder: Path, views: Sequence[Masks], seen: Masks | None) -> Iterator[Finding]:
    """List views whose silhouettes contradict the order of the views.

    Views 180 degrees apart show mirrored silhouettes (nearly so, with perspective), which pairs eval_0 with
    eval_2 and eval_1 with eval_3. Of the first three, eval_1 is the one close to the input view.
    """
    names = list(AZIMUTHS_DEG)
    for one, opposite in ((0, 2), (1, 3)):
        mirrored = [_overlap(views[one], views[other][..., ::-1]) for other in range(4)]
        best = max((other for other in range(4) if other != one), key=mirrored.__getitem__)
        if mirrored[best] > mirrored[opposite] + _CLEARLY:
            yield Finding(
                path=folder / names[one],
                problem=f"its silhouettes mirror {names[best]} (IoU {mirrored[best]:.2f}), not the opposite "
                f"view {names[opposite]} ({mirrored[opposite]:.2f}), so the views seem to be out of order",
                fix="look at the views and " + _REPLACE,
            )
    if seen is not None:
        close = [_overlap(seen, view) for view in views[:3]]
        best = int(np.argmax(close))
        if close[best] > close[1] + _CLEARLY:
            yield Finding(
                path=folder / names[best],
                problem=f"its silhouettes are closer to the input (IoU {close[best]:.2f}) than those of "
                f"{names[1]} at 15 degrees ({close[1]:.2f}), so the views seem to be out of order",
                fix="look at the views and " + _REPLACE,
            )


def _overlap(one: Masks, other: Masks) -> float:
    """Return the intersection over union, averaged over frames."""
    return float(((one & other).sum((1, 2)) / np.maximum((one | other).sum((1, 2)), 1)).mean())


def _copies(folders: Sequence[Path]) -> Iterator[Finding]:
    """List views that share pictures with another view, and views that do not move."""
    owner: dict[str, Path] = {}
    for folder in folders:
        shared: dict[Path, int] = defaultdict(int)
        own = set()
        files = [path for path in sorted(folder.glob("*.png")) if path.is_file()]
        for path in files:
            sha = sha256_file(path)
            own.add(sha)
            if owner.setdefault(sha, folder) != folder:
                shared[owner[sha]] += 1
        for other, count in shared.items():
            yield Finding(path=folder, problem=f"{count} pictures are copies of {other}", fix=_REPLACE)
        if len(files) > 1 and len(own) == 1:
            yield Finding(path=folder, problem=f"all {len(files)} frames are the same picture", fix=_REPLACE)


def _finding(error: DataError) -> Finding:
    """Split a reader's message, `path: problem; fix`, into a finding."""
    path, _, rest = str(error).partition(": ")
    problem, _, fix = rest.rpartition("; ")
    return Finding(path=Path(path), problem=problem, fix=fix)
