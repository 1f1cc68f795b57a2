"""Alignment of a whole prediction folder, for `mvtf-eval align`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError, ProtocolError
from mvtokenflow.base.evenly import evenly
from mvtokenflow.base.files import frame_files, frame_numbers
from mvtokenflow.datasets.folder import FolderDataset
from mvtokenflow.datasets.layout import AZIMUTHS_DEG, objects_of
from mvtokenflow.datasets.scene import View
from mvtokenflow.datasets.toy4d import scenes as toy4d
from mvtokenflow.datasets.toy4d.stream import RADIUS
from mvtokenflow.eval.metrics.compute.silhouette import silhouettes
from mvtokenflow.eval.score.align import Alignment, align, dense_orbit
from mvtokenflow.media.pictures import read_all_on_white
from mvtokenflow.views.cameras import orbit

Mask = NDArray[np.bool_]
FRAMES = 4  # spread over the clip; few frames of a moving object suffice


def align_folder(prediction: Path, reference: Path, only: Sequence[str] | None) -> dict[str, Alignment]:
    """Compare each object's views with the reference views of the same names.

    Raises:
        DataError, ProtocolError: views or objects are missing, or pictures cannot be read.
    """
    found = {}
    dataset = FolderDataset(reference, option="--gt")
    theirs = dataset.reference_folders()
    wanted = _wanted(prediction, only)
    if list(theirs.values()) == [dataset.path] and list(wanted.values()) == [prediction]:
        wanted = dict.fromkeys(theirs, prediction)  # one object each, whatever the folders are called
    for name, folder in wanted.items():
        if name not in theirs:
            raise ProtocolError(f"{reference}: no object {name}; it has {', '.join(theirs)}")
        views = dataset.reference(name).views
        ours = [_numbered(folder / view.name) for view in views]
        references = [_reference(theirs[name], view) for view in views]
        numbers = _spread(folder, [*ours, *references])
        shown, true = ([_masks(view, numbers) for view in side] for side in (ours, references))
        azimuths = [view.azimuth_deg for view in views]
        found[name] = align(shown, azimuths, true, azimuths)
    return found


def align_toy4d(
    prediction: Path, only: Sequence[str] | None, report: Callable[[str, int, int], None]
) -> dict[str, Alignment]:
    """Compare each toy4d scene's views with its exact silhouettes at every degree.

    Raises:
        DataError, ProtocolError: as `align_folder`; also, a frame has a number that toy4d does not have.
    """
    found = {}
    wanted = _wanted(prediction, only)
    for done, (name, folder) in enumerate(wanted.items(), 1):
        frames = [_numbered(folder / view) for view in AZIMUTHS_DEG]
        last = max(number for view in frames for number in view)
        if last >= toy4d.FRAMES:
            raise DataError(
                f"{folder}: holds a frame {last}, toy4d has 0 to {toy4d.FRAMES - 1}; number them as its frames"
            )
        numbers = _spread(folder, frames)
        views = [_masks(view, numbers) for view in frames]
        times = toy4d.frame_times()[numbers]

        def silhouettes(azimuth: float, name: str = name, times: NDArray[np.float64] = times) -> Mask:
            camera = orbit([azimuth], size=toy4d.SIZE // 2, kind="ortho", radius=RADIUS)
            picture = toy4d.render_scene(name, camera, times, samples=1)
            return np.asarray(picture.alpha[:, 0, :, :, 0] > 0.5)

        azimuths, masks = dense_orbit(silhouettes)
        found[name] = align(views, tuple(AZIMUTHS_DEG.values()), masks, azimuths)
        report("align", done, len(wanted))
    return found


def _wanted(prediction: Path, only: Sequence[str] | None) -> Mapping[str, Path]:
    ours = objects_of(prediction)
    if list(ours.values()) == [prediction] and only is not None and len(only) == 1:
        return {only[0]: prediction}
    lacking = [name for name in only or () if name not in ours]
    if lacking:
        raise ProtocolError(f"{prediction}: no object {', '.join(lacking)}; it has {', '.join(ours)}")
    return {name: folder for name, folder in ours.items() if only is None or name in only}


def _numbered(folder: Path) -> Mapping[int, Path]:
    """Return the frames of a view by number."""
    paths = frame_files(folder)
    return dict(zip(frame_numbers(paths), paths, strict=True))


def _reference(folder: Path, view: View) -> Mapping[int, Path]:
    if not view.frames:
        raise DataError(f"{folder / view.name}: no such folder; put the reference pictures of the view there")
    return dict(zip(view.frame_numbers(), view.frames, strict=True))


def _spread(folder: Path, views: Iterable[Mapping[int, Path]]) -> list[int]:
    """Return up to FRAMES frame numbers, spread over those that all `views` have.

    Raises:
        DataError: there is none; `folder` is named.
    """
    common = sorted(set.intersection(*map(set, views)))
    if not common:
        raise DataError(f"{folder}: no frame number is in all views of both sides; rename the frames")
    return [common[index] for index in evenly(len(common), FRAMES)]


def _masks(frames: Mapping[int, Path], numbers: Sequence[int]) -> Mask:
    return silhouettes(read_all_on_white([frames[number] for number in numbers]))


def sentence(found: Alignment) -> str:
    """Return the finding as a sentence, for people."""
    before, after = float(found.iou_before.mean()), float(found.iou_after.mean())
    if found.aligned:
        text = f"aligned (silhouette IoU {before:.3f})"
    else:
        text = f"NOT aligned: {found.best.signature} raises silhouette IoU from {before:.3f} to {after:.3f}"
    if found.rivals:
        text += "; silhouettes alone do not decide against " + ", ".join(
            rival.signature or "no change" for rival in found.rivals[:3]
        )
    return text


def to_json(found: Alignment) -> dict[str, Any]:
    """Return the finding as plain data."""
    return {
        "aligned": found.aligned,
        "signature": found.best.signature,
        "yaw_deg": found.best.yaw_deg,
        "mirror": found.best.mirror,
        "reverse": found.best.reverse,
        "iou_before": [float(value) for value in found.iou_before],
        "iou_after": [float(value) for value in found.iou_after],
        "rivals": [rival.signature for rival in found.rivals],
    }
