"""Export of a dynamic field as video, picture sequence or .ply sequence.

FOLDER/run.json             settings of the export; another export into the same folder is refused
FOLDER/frames/<n>.png       RGBA with straight alpha, or RGB on white
FOLDER/<name of FOLDER>.mp4 the same frames on white
FOLDER/<n>.ply              written by `export_gaussians`: 3DGS files, one per frame, or .splat, .spz, .glb

Every file is written atomically and existing files are kept, so an interrupted export resumes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import digest_json
from mvtokenflow.base.progress import Progress
from mvtokenflow.media.video import (
    Pixels,
    composite_white,
    read_rgb,
    read_rgba,
    to_uint8,
    write_png,
    write_video,
)
from mvtokenflow.splat.formats import USUAL, Axes, Format, write_gaussians
from mvtokenflow.splat.timed import WHITE, MovingGaussians, TimedField
from mvtokenflow.views.cameras import CameraKind, Cameras, orbit
from mvtokenflow.workdir.folder import claim

RADIUS = 3.0  # distance of the camera in world units; the object lies within 1
MAX_SIZE = 8192
_INVISIBLE = 0.5 / 255  # smaller alphas round to 0


@dataclass(frozen=True, kw_only=True)
class ExportView:
    """Picture size, elevation and camera model of an export; the azimuth belongs to the shot.

    Attributes:
        size: width and height in pixels. elevation_deg: strictly within ±90.
        kind: "ortho" sees world coordinates −1 to 1, as Era3D; "pinhole" stands `RADIUS` away.

    Raises:
        ConfigError: a value out of range.
    """

    size: int = 512
    elevation_deg: float = 0.0
    kind: CameraKind = "ortho"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_SIZE:
            raise ConfigError(f"size is {self.size}; choose 1 to {MAX_SIZE} pixels")
        if not -90 < self.elevation_deg < 90:
            raise ConfigError(
                f"elevation is {self.elevation_deg} degrees; choose one strictly within -90 and 90"
            )
        if self.kind not in ("ortho", "pinhole"):
            raise ConfigError(f"camera is {self.kind!r}; choose ortho or pinhole")

    def cameras(self, azimuths_deg: Sequence[float]) -> Cameras:
        """Build one camera per azimuth."""
        return orbit(azimuths_deg, self.elevation_deg, size=self.size, kind=self.kind, radius=RADIUS)


@dataclass(frozen=True)
class Shot:
    """One picture to render: the camera's azimuth and the time in [0, 1].

    Raises:
        ConfigError: the time is outside [0, 1] or the azimuth is not finite.
    """

    azimuth_deg: float
    time: float

    def __post_init__(self) -> None:
        if not 0 <= self.time <= 1:
            raise ConfigError(f"time is {self.time}; choose 0 (first frame) to 1 (last frame)")
        if not np.isfinite(self.azimuth_deg):
            raise ConfigError(f"azimuth is {self.azimuth_deg}; choose a finite angle in degrees")


def azimuth_name(azimuth_deg: float) -> str:
    """Return the folder name `azimuth_<a>` of an azimuth; different floats give different names."""
    return f"azimuth_{azimuth_deg!r}".removesuffix(".0")


def frame_times(frames: int | Sequence[float]) -> list[float]:
    """Return the given times, or n / (frames − 1) for every frame n; a single frame is at time 0.

    Raises:
        ConfigError: fewer than one frame.
    """
    if not isinstance(frames, int):
        return list(frames)
    if frames < 1:
        raise ConfigError(f"{frames} frames were asked for; choose one or more")
    return [n / max(frames - 1, 1) for n in range(frames)]


def turntable(frames: int) -> list[Shot]:
    """Return shots of a camera that circles once while time runs once from 0 to 1.

    The last frame is one step short of the first one's azimuth.
    """
    return [Shot(360 * n / frames, time) for n, time in enumerate(frame_times(frames))]


def fixed_view(azimuth_deg: float, frames: int | Sequence[float]) -> list[Shot]:
    """Return shots of a fixed camera over `frames` evenly spaced times, or at the given times."""
    return [Shot(azimuth_deg, time) for time in frame_times(frames)]


@torch.no_grad()
def picture(field: TimedField, shot: Shot, view: ExportView, *, opaque: bool = False) -> Pixels:
    """Render one shot as uint8 RGBA (size, size, 4) with straight alpha, white where nothing is.

    With `opaque` it is RGB (size, size, 3) on white.

    Raises:
        DataError: the field renders NaN.
    """
    name = f"picture at azimuth {shot.azimuth_deg:g}, time {shot.time:g}"
    background = WHITE if opaque else (0.0, 0.0, 0.0)
    seen = field.render(view.cameras([shot.azimuth_deg]), shot.time, background=background)
    rgb, alpha = seen.rgb[0], seen.alpha[0].clamp(0, 1)
    if not opaque:
        straight = torch.where(alpha < _INVISIBLE, 1.0, rgb / alpha.clamp_min(_INVISIBLE))
        rgb = torch.cat([straight, alpha], dim=-1)
    return to_uint8(rgb.clamp(0, 1).cpu().numpy(), name)


def write_frames(
    field: TimedField,
    shots: Sequence[Shot],
    view: ExportView,
    folder: Path,
    *,
    opaque: bool = False,
    label: str = "frames",
    progress: Progress | None = None,
) -> list[Path]:
    """Write the shots as `folder`/<n>.png and keep existing frames.

    The caller has checked that existing frames belong to the same export.
    """
    paths = [folder / f"{n:04d}.png" for n in range(len(shots))]
    for done, (path, shot) in enumerate(zip(paths, shots, strict=True), 1):
        if not path.exists():
            write_png(path, picture(field, shot, view, opaque=opaque))
        if progress is not None:
            progress(label, done, len(paths))
    return paths


def check_video(view: ExportView, fps: float | Fraction) -> None:
    """Check settings before rendering that the video encoder would refuse afterwards.

    Raises:
        ConfigError: an odd size (yuv420p halves it), or a rate out of range.
    """
    if view.size % 2:
        raise ConfigError(f"size is {view.size}; H.264 needs an even one, choose {view.size + 1}")
    if not 0 < fps <= 1000:
        raise ConfigError(f"fps is {fps}; choose a rate above 0 and up to 1000")


def export_video(
    field: TimedField,
    shots: Sequence[Shot],
    view: ExportView,
    folder: Path,
    *,
    fps: float | Fraction,
    source: Mapping[str, Any],
    opaque: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write frames and an H.264 MP4 of them on white into `folder`.

    Args:
        shots: one per frame. fps: frames per second.
        source: JSON-able identity of the field, such as the digest of its file.
        opaque: frames as RGB on white instead of RGBA.

    Returns:
        The MP4.

    Raises:
        ConfigError: as `check_video`, or a folder of another export.
        DataError: the folder holds other things, a kept frame is damaged, or the field renders NaN.
    """
    check_video(view, fps)
    claim(
        folder,
        {
            "field": dict(source),
            "view": asdict(view),
            "frames": len(shots),
            "shots": digest_json([asdict(shot) for shot in shots]),
            "fps": float(fps),
            "opaque": opaque,
        },
    )
    paths = write_frames(
        field, shots, view, folder / "frames", opaque=opaque, label=folder.name, progress=progress
    )
    video = folder / f"{folder.name}.mp4"
    if not video.exists():
        read = read_rgb if opaque else _read_on_white
        write_video(video, np.stack([read(path) for path in paths]), fps)
    return video


def _read_on_white(path: Path) -> Pixels:
    return composite_white(read_rgba(path))


def export_ply(
    field: MovingGaussians,
    frames: int | Sequence[float],
    folder: Path,
    *,
    source: Mapping[str, Any],
    progress: Progress | None = None,
) -> list[Path]:
    """Write the Gaussians of every frame as standard 3DGS .ply files; see `export_gaussians`."""
    return export_gaussians(field, frames, folder, "ply", source=source, progress=progress)


@torch.no_grad()
def export_gaussians(
    field: MovingGaussians,
    frames: int | Sequence[float],
    folder: Path,
    kind: Format,
    *,
    source: Mapping[str, Any],
    axes: Axes | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the Gaussians of every frame as `folder`/<n>.<kind>; existing files are kept.

    Args:
        frames: number of evenly spaced frames, or their times in [0, 1].
        kind, axes: as of `formats.write_gaussians`.

    Further arguments and Raises: as `export_video`.
    """
    times = frame_times(frames)
    turn = {} if axes in (None, USUAL[kind]) else {"axes": axes}
    claim(folder, {"field": dict(source), "frames": frames if isinstance(frames, int) else times, **turn})
    paths = [folder / f"{n:04d}.{kind}" for n in range(len(times))]
    for done, (path, time) in enumerate(zip(paths, times, strict=True), 1):
        if not path.exists():
            write_gaussians(path, field.at(time), kind, axes)
        if progress is not None:
            progress(folder.name, done, len(paths))
    return paths
