"""Writes the videos, .ply files and viewer of an asset; other export settings write them again, and no more.

export.json         settings that these were written with; not part of the run's identity
turntable/, azimuth_<a>/, ply/, comparison.mp4, viewer.html
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.files import frame_files, sha256_file, write_json
from mvtokenflow.base.progress import Progress
from mvtokenflow.media.video import Clip, composite_white, read_rgba, to_uint8, write_video
from mvtokenflow.multiview.config import SquareConfig
from mvtokenflow.multiview.preprocess import square_clip
from mvtokenflow.splat.export import (
    ExportView,
    Shot,
    azimuth_name,
    check_video,
    export_ply,
    export_video,
    fixed_view,
    frame_times,
    turntable,
)
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.viewer.fields import pack_dynamic
from mvtokenflow.viewer.packing import Timing
from mvtokenflow.viewer.page import write_viewer
from mvtokenflow.workdir.folder import RUN_FILE

EXPORT_FILE = "export.json"
COMPARISON = "comparison.mp4"
VIEWER = "viewer.html"
PLY = "ply"
TURNTABLE = "turntable"
FIXED_VIEWS = (0.0, 90.0, 180.0, 270.0)  # azimuths in degrees; the first is the input's
TURNTABLE_FRAMES = 48  # at least: a clip of few frames would go round in jumps
RATE = 8.0  # frames per second where the source has none
_CURE = "delete it and run the same command again"


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How results are written: size and camera of videos, frames per second, .ply files or none."""

    view: ExportView
    fps: float
    ply: bool = True

    def __post_init__(self) -> None:
        check_video(self.view, self.fps)

    def to_dict(self) -> dict[str, Any]:
        """Return what the files depend on, as JSON values; a level orthographic view is left out."""
        view = self.view
        usual = (view.elevation_deg, view.kind) == (0.0, "ortho")
        extra = {} if usual else {"elevation_deg": view.elevation_deg, "camera": view.kind}
        return {"size": view.size, "fps": self.fps, **extra}


def shots_of(clip: Clip) -> dict[str, list[Shot]]:
    """Return the shots of each video by the name of its folder."""
    frames = _frames(clip)
    shots = {azimuth_name(azimuth): fixed_view(azimuth, frames) for azimuth in FIXED_VIEWS}
    return shots | {TURNTABLE: turntable(max(len(clip), TURNTABLE_FRAMES))}


def _frames(clip: Clip) -> int | Sequence[float]:
    return len(clip) if clip.clock is None else clip.clock.tolist()


def read_settings(out: Path) -> dict[str, Any] | None:
    """Return the settings of the files in `out`; None if nothing was exported.

    Raises:
        DataError: export.json is damaged.
    """
    path = out / EXPORT_FILE
    return read_json(path, dict, _CURE) if path.is_file() else None


def is_written(out: Path, clip: Clip, settings: ExportSettings) -> bool:
    """Return whether all files are there as these settings make them."""
    videos = [out / name / f"{name}.mp4" for name in shots_of(clip)]
    wanted = [*videos, out / COMPARISON, out / VIEWER]
    points = len(list((out / PLY).glob("*.ply"))) == len(clip) or not settings.ply
    return read_settings(out) == settings.to_dict() and points and all(path.is_file() for path in wanted)


def renew(out: Path, clip: Clip, settings: ExportSettings) -> str | None:
    """Remove files of other settings, and note these; a sentence if there were any.

    Frames stay where only the frames per second differ. A run that is killed here does the rest next time.
    """
    before, now = read_settings(out), settings.to_dict()
    if before == now:
        return None
    if before is not None:
        same_pictures = {**before, "fps": 0} == {**now, "fps": 0}
        for name in shots_of(clip):
            _renew_video(out / name, settings.fps if same_pictures else None)
        for name in (COMPARISON, VIEWER):
            (out / name).unlink(missing_ok=True)
    write_json(out / EXPORT_FILE, now)
    if before is None:
        return None
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    changed = [f"{name} {before.get(name, 'usual')} -> {now.get(name, 'usual')}" for name in names]
    return f"videos are written again ({', '.join(changed)}); nothing else is computed"


def _renew_video(folder: Path, fps: float | None) -> None:
    """Remove a video: with its frames, or, given the new frames per second, alone."""
    record = folder / RUN_FILE
    if fps is None or not record.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        return
    (folder / f"{folder.name}.mp4").unlink(missing_ok=True)
    write_json(record, read_json(record, dict, _CURE) | {"fps": fps})


def export(
    field: DynamicField, file: Path, clip: Clip, settings: ExportSettings, out: Path, progress: Progress
) -> dict[str, Path]:
    """Write the videos and .ply files that are missing; return the videos by the name of their folder.

    Args:
        file: of the field, by whose content the exports are identified.
    """
    source: dict[str, Any] = {"sha256": sha256_file(file)}
    videos = {
        name: export_video(
            field, shots, settings.view, out / name, fps=settings.fps, source=source, progress=progress
        )
        for name, shots in shots_of(clip).items()
    }
    if settings.ply:
        export_ply(field, _frames(clip), out / PLY, source=source, progress=progress)
    return videos


def compare(clip: Clip, square: SquareConfig, settings: ExportSettings, out: Path) -> Path:
    """Write a video of the input, framed as the prior sees it, beside the field's front view."""
    path = out / COMPARISON
    if path.exists():
        return path
    size = settings.view.size
    crop = square.crop_size if square.crop_size == -1 else round(square.crop_size * size / square.size)
    given = square_clip(clip, replace(square, size=size, crop_size=crop)).front
    front = frame_files(out / azimuth_name(FIXED_VIEWS[0]) / "frames")
    rendered = np.stack([composite_white(read_rgba(frame)) for frame in front])
    write_video(path, np.concatenate([to_uint8(given.numpy(), clip.name), rendered], axis=2), settings.fps)
    return path


def view(field: DynamicField, clip: Clip, fps: float, out: Path, turntable: Path) -> Path:
    """Write the page in which the field can be turned; the turntable is for browsers that cannot draw."""
    times = tuple(frame_times(_frames(clip)))
    packed = pack_dynamic(field, out.resolve().name, Timing(times=times, fps=fps))
    return write_viewer(out / VIEWER, [packed], title=packed.label, turntable=turntable, back="index.html")
