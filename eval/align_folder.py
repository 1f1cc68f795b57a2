"""Alignment of a whole prediction folder, for `mvtf-eval align`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.cameras import orbit
from mvtokenflow.datasets.folder import AZIMUTHS_DEG
from mvtokenflow.datasets.toy4d import dataset as toy4d
from mvtokenflow.datasets.toy4d.stream import RADIUS
from mvtokenflow.errors import ProtocolError
from mvtokenflow.eval.align import Alignment, align, dense_orbit
from mvtokenflow.eval.metrics.silhouette import silhouettes
from mvtokenflow.eval.preflight import objects_of
from mvtokenflow.eval.protocols import NOVEL_VIEWS
from mvtokenflow.files import frame_files
from mvtokenflow.pictures import read_all_on_white

Mask = NDArray[np.bool_]
FRAMES = 4  # spread over the clip; silhouettes of a moving object tell more than more of them
AZIMUTHS = tuple(AZIMUTHS_DEG.values())


def align_folder(prediction: Path, reference: Path, only: Sequence[str] | None) -> dict[str, Alignment]:
    """Compare each object's views with the four reference views.

    Raises:
        DataError, ProtocolError: views or objects are missing, or pictures cannot be read.
    """
    found = {}
    theirs = objects_of(reference)
    wanted = _wanted(prediction, only)
    if list(theirs.values()) == [reference] and list(wanted.values()) == [prediction]:
        wanted = dict.fromkeys(theirs, prediction)  # one object each, whatever the folders are called
    for name, folder in wanted.items():
        if name not in theirs:
            raise ProtocolError(f"{reference}: no object {name}; it has {', '.join(theirs)}")
        masks = [_masks(theirs[name] / view) for view in NOVEL_VIEWS]
        found[name] = align([_masks(folder / view) for view in NOVEL_VIEWS], AZIMUTHS, masks, AZIMUTHS)
    return found


def align_toy4d(
    prediction: Path, only: Sequence[str] | None, report: Callable[[str, int, int], None]
) -> dict[str, Alignment]:
    """Compare each toy4d scene's views with its exact silhouettes at every degree."""
    found = {}
    wanted = _wanted(prediction, only)
    for done, (name, folder) in enumerate(wanted.items(), 1):
        views = [_masks(folder / view) for view in NOVEL_VIEWS]
        count = len(frame_files(folder / NOVEL_VIEWS[0]))
        times = toy4d.frame_times()[_spread(count)]

        def silhouettes(azimuth: float, name: str = name, times: NDArray[np.float64] = times) -> Mask:
            camera = orbit([azimuth], size=toy4d.SIZE // 2, kind="ortho", radius=RADIUS)
            picture = toy4d.render_scene(name, camera, times, samples=1)
            return np.asarray(picture.alpha[:, 0, :, :, 0] > 0.5)

        azimuths, masks = dense_orbit(silhouettes)
        found[name] = align(views, AZIMUTHS, masks, azimuths)
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


def _spread(count: int) -> list[int]:
    return sorted({round(k * (count - 1) / (FRAMES - 1)) for k in range(FRAMES)})


def _masks(folder: Path) -> Mask:
    frames = frame_files(folder)
    return silhouettes(read_all_on_white([frames[i] for i in _spread(len(frames))]))


def sentence(found: Alignment) -> str:
    """What was found, for people."""
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
    """The finding as plain data."""
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
