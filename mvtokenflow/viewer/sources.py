"""What a viewer's page is made from: a field's file, of the method or of a rival, or a folder of .ply files."""

from pathlib import Path

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import frame_numbers
from mvtokenflow.distill.stored import load_gaussian_field, stored_kind
from mvtokenflow.splat.export import frame_times
from mvtokenflow.splat.io import load_field, read_ply
from mvtokenflow.viewer.fields import pack_dynamic, pack_gaussian_field
from mvtokenflow.viewer.packing import Packed, Timing, pack_moments

FRAMES = 32  # of a field that does not store its frames


def pack_source(
    path: Path, label: str, *, frames: int | None = None, fps: float = 8.0, pixel: float | None = None
) -> Packed:
    """Pack what lies at a path.

    Args:
        path: field.safetensors of `mvtf run`, `mvtf reconstruct` or a row of a table, or a folder of .ply files
            of 3D Gaussians, numbered, one per frame.
        label: name on the page.
        frames: of a field of the method, evenly spaced, default 32; of a folder, how many of the files are
            taken, evenly, default all. Fields of rivals store the frames of their clip.
        fps: frames per second of playing.
        pixel: as of `load_field`, for files of version 1.

    Raises:
        DataError: nothing of the kind, a damaged file, a radiance field, or too large for a page.
        ConfigError: fewer than one frame.
    """
    if path.is_dir():
        return _pack_folder(path, label, frames, fps)
    if path.suffix.lower() == ".ply":
        return pack_moments([read_ply(path)], label, Timing(times=(0.0,), fps=fps))
    if stored_kind(path) is not None:
        return pack_gaussian_field(load_gaussian_field(path), label, fps)
    times = frame_times(FRAMES if frames is None else frames)
    return pack_dynamic(load_field(path, pixel=pixel), label, Timing(times=tuple(times), fps=fps))


def _pack_folder(folder: Path, label: str, frames: int | None, fps: float) -> Packed:
    paths = list(folder.glob("*.ply"))
    if not paths:
        raise DataError(
            f"{folder}: holds no .ply; give a field.safetensors, or a folder of numbered .ply files"
        )
    numbers = dict(zip(paths, frame_numbers(paths), strict=True))
    ordered = sorted(paths, key=numbers.__getitem__)
    if frames is not None:
        last = len(ordered) - 1
        ordered = [ordered[place] for place in sorted({round(last * time) for time in frame_times(frames)})]
    moments = [read_ply(path) for path in ordered]
    return pack_moments(moments, label, Timing(times=tuple(frame_times(len(moments))), fps=fps))
