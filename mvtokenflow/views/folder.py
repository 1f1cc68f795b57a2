"""Reading and writing of multiview videos as folders of pictures.

A multiview folder:

    DIR/view_<k>/<n>.png           frame n of view k; or DIR/frame_<n>/<k>.png
    DIR/masks/view_<k>/<n>.png     optional, for RGB pictures: 255 on the object
    DIR/normals/view_<k>/<n>.png   optional, (n + 1) / 2 of the unit world normal as 8-bit RGB
    DIR/flow.npz                   optional, optical flow of one view between pairs of frames:
                                   view (), pairs (P, 2) of source and target, flow (P, H, W, 2) pixels on the
                                   grid of the source, visible (P, H, W) bool; without pairs there are T-1
                                   flows, from each frame to the next
    DIR/cameras.json               optional, the fields of `Cameras.to_dict`
    DIR/times.json                 optional, a list of the frames' times, increasing, in [0, 1]; without it
                                   times are proportional to the frame numbers

Pictures are 8-bit RGBA with straight alpha, or RGB with masks, or RGB on white (alpha is then 0 exactly where
a picture is white and connected to its border). Plain integers as folder names are views or frames, whichever
fits the number of cameras; names that fit both are refused. Numbers may start anywhere; masks and normals have
the numbers of their pictures, and views have no gap.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from mvtokenflow.base.damaged import Form, damage, read_arrays, read_json
from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import atomic_path, frame_files, frame_numbers, write_json
from mvtokenflow.media.frame_times import clock
from mvtokenflow.media.masks import check_mask_levels
from mvtokenflow.media.pictures import Pixels, check_file, read_mask, read_png, write_png
from mvtokenflow.views.cameras import (
    ERA3D_AZIMUTHS_DEG,
    ZERO123PLUS_AZIMUTHS_DEG,
    ZERO123PLUS_ELEVATIONS_DEG,
    Cameras,
    orbit,
)
from mvtokenflow.views.video import MultiviewVideo, ViewFlow

__all__ = ["MultiviewVideo", "ViewFlow", "named_cameras", "read_multiview", "write_multiview"]

CAMERAS_FILE = "cameras.json"
FLOW_FILE = "flow.npz"
TIMES_FILE = "times.json"
_EXTRAS = ("masks", "normals")
_ENTRY = re.compile(r"(view_|frame_)?(\d+)\Z")
_UNIT_FLOOR = 0.5  # decoded normals shorter than this are "no surface"; rounding moves one by at most 0.007


def named_cameras(name: str, size: int) -> Cameras:
    """Build the cameras of a published model for square pictures of `size` pixels, or those of a JSON file.

    Args:
        name: `era3d` (six ortho views, half-width 1, elevation 0), `zero123plus` (six pinhole views of
            version 1.1, at radius 2 with a field of view of 49.1 degrees, as STAG4D assumes) or the path
            of a `.json` file with the fields of `Cameras.to_dict`.

    Raises:
        ConfigError: another name.
        DataError: the file does not hold cameras.
    """
    if name == "era3d":
        return orbit(ERA3D_AZIMUTHS_DEG, size=size, kind="ortho", radius=3.0)
    if name == "zero123plus":
        return orbit(
            ZERO123PLUS_AZIMUTHS_DEG,
            ZERO123PLUS_ELEVATIONS_DEG,
            size=size,
            kind="pinhole",
            radius=2.0,
            fov_deg=49.1,
        )
    path = Path(name)
    if path.suffix != ".json":
        raise ConfigError(f"no cameras '{name}'; choose era3d, zero123plus or a file ending in .json")
    check_file(path)
    fields: dict[str, Any] = read_json(path, dict, "write it from Cameras.to_dict()", "not a file of cameras")
    return Cameras.from_dict(fields, str(path))


def read_multiview(folder: Path, cameras: str | None = None, *, binary_alpha: bool = False) -> MultiviewVideo:
    """Read a multiview folder (see the module) strictly.

    Args:
        cameras: see `named_cameras`; by default the folder's `cameras.json`.
        binary_alpha: alpha above 127 is the object, the rest is not; for files whose background is not 0.

    Raises:
        DataError: no or ambiguous views, a view without a frame that others have, unequal sizes or kinds of
            pictures, damaged files, masks, normals, flow or times that do not fit, no object in a picture.
        ConfigError: unknown cameras.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder of views, see `mvtf reconstruct --help`")
    if cameras is None:
        if not (folder / CAMERAS_FILE).is_file():
            raise DataError(
                f"{folder}: holds no {CAMERAS_FILE}; name the cameras (`mvtf reconstruct --cameras era3d`, ...)"
            )
        cameras = str(folder / CAMERAS_FILE)
    count = len(named_cameras(cameras, 1))
    layout = _layout(folder, count)
    pictures = _read_grid(layout.grid, lambda path: read_png(path, ("8-bit RGBA", "8-bit RGB")))
    rgb, alpha = pictures[..., :3], _read_alpha(folder, pictures, layout)
    if binary_alpha:
        alpha = np.where(alpha > 127, 255, 0).astype(np.uint8)
    _check_alpha(alpha, layout.grid)
    height, width = alpha.shape[2:]
    found = named_cameras(cameras, width)
    if (found.width, found.height) != (width, height):
        raise DataError(
            f"{folder}: pictures of {width}x{height} for cameras of {found.width}x{found.height} ({cameras}); "
            "make them equal"
        )
    solid = alpha[..., None] > 0
    return MultiviewVideo(
        rgb=torch.from_numpy(np.where(solid, rgb, 255)).float().div_(255),
        alpha=torch.from_numpy(alpha[..., None]).float().div_(255),
        cameras=found,
        normals=_read_normals(folder, layout, pictures.shape, solid),
        flow=_read_flow(folder / FLOW_FILE, pictures.shape),
        clock=_read_times(folder, layout.frames),
        name=folder.name,
    )


def write_multiview(folder: Path, video: MultiviewVideo) -> None:
    """Write `video` as a multiview folder, to 8 bits (flow and times exactly).

    `read_multiview` reads it back. Every file is written atomically and `cameras.json` last, so that a folder
    with it is complete.

    Raises:
        DataError: the folder is not empty.
        ValueError: the video has a front video, which such a folder does not hold.
    """
    if video.front is not None:
        raise ValueError(f"{video.name}: a multiview folder holds no front video")
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: not empty; give a new folder")
    rgba = torch.cat([video.rgb, video.alpha], -1).cpu().numpy()
    normals = None if video.normals is None else ((video.normals + 1) / 2).clamp(0, 1).cpu().numpy()
    for view in range(video.views):
        for frame in range(len(video)):
            name = Path(f"view_{view}") / f"{frame}.png"
            write_png(folder / name, rgba[frame, view])
            if normals is not None:
                write_png(folder / "normals" / name, normals[frame, view])
    if video.flow is not None:
        with atomic_path(folder / FLOW_FILE) as temporary:
            np.savez_compressed(
                temporary,
                view=np.array(video.flow.view),
                pairs=np.array(video.flow.pairs),
                flow=video.flow.flow.cpu().numpy(),
                visible=video.flow.visible.cpu().numpy(),
            )
    if video.clock is not None:
        write_json(folder / TIMES_FILE, video.clock.tolist())
    write_json(folder / CAMERAS_FILE, video.cameras.to_dict())


# ---- reading ----

Grid = list[list[Path]]  # [frame][view]


@dataclass(frozen=True)
class _Layout:
    """Complete picture paths [frame][view] of a folder, and the numbers of frames and views in their names."""

    grid: Grid
    frames: list[int]
    views: list[int]


def _layout(folder: Path, views: int) -> _Layout:
    """Find the layout of the pictures in `folder`; refuse missing pictures and gaps between views."""
    outer: dict[int, Path] = {}
    kinds: set[str] = set()
    known = (CAMERAS_FILE, FLOW_FILE, TIMES_FILE, *_EXTRAS)
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name in known:
            continue
        match = _ENTRY.match(entry.name)
        if match is None or not entry.is_dir():
            raise DataError(f"{entry}: not a folder view_<k> or frame_<n>; move it out of {folder}")
        kinds.add(match.group(1) or "")
        number = int(match.group(2))
        if number in outer:
            raise DataError(f"{folder}: {outer[number].name} and {entry.name} have one number; remove one")
        outer[number] = entry
    if not outer:
        raise DataError(f"{folder}: holds no folders view_<k> or frame_<n> with pictures")
    if len(kinds) > 1:
        raise DataError(f"{folder}: mixes names of {' and '.join(sorted(kinds))}folders; name all alike")
    rows = {number: frame_files(entry) for number, entry in sorted(outer.items())}
    _check_rows(folder, rows)
    table = list(rows.values())
    columns = len(table[0])
    by_view = _are_views(folder, kinds.pop(), len(table), columns, views)
    if (len(table) if by_view else columns) != views:
        found = f"{len(table)} folders of {columns} pictures"
        raise DataError(
            f"{folder}: {found} do not fit {views} cameras; a view is missing or the cameras are others"
        )
    inner = frame_numbers(table[0])
    if by_view:
        layout = _Layout([list(column) for column in zip(*table, strict=True)], inner, list(rows))
    else:
        layout = _Layout(table, list(rows), inner)
    gap = next((n for n in range(layout.views[0], layout.views[-1]) if n not in layout.views), None)
    if gap is not None:
        raise DataError(f"{folder}: there is no view {gap}, but one after it; number views as the cameras are")
    return layout


def _are_views(folder: Path, kind: str, rows: int, columns: int, views: int) -> bool:
    """Return whether the folders are views (else frames)."""
    if kind:
        return kind == "view_"
    if rows == columns == views:
        raise DataError(
            f"{folder}: {rows} folders of {columns} pictures could be views or frames; "
            "name the folders view_<k> or frame_<n>"
        )
    return rows == views or columns != views


def _check_rows(folder: Path, rows: dict[int, list[Path]]) -> None:
    numbers = {key: frame_numbers(row) for key, row in rows.items()}
    wanted = {number for row in numbers.values() for number in row}
    for key, row in rows.items():
        missing = sorted(wanted - set(numbers[key]))
        if missing:
            raise DataError(
                f"{row[0].parent / str(missing[0])}.png: missing, other folders of {folder} have this number "
                f"({len(missing)} missing here); add it or remove it everywhere"
            )


def _read_grid(grid: Grid, read: Callable[[Path], Pixels]) -> Pixels:
    """Read pictures (T, V, H, W[, C]) of one size and kind."""
    first = read(grid[0][0])
    out = np.empty((len(grid), len(grid[0]), *first.shape), np.uint8)
    for n, row in enumerate(grid):
        for k, path in enumerate(row):
            picture = read(path)
            if picture.shape != first.shape:
                shapes = [_shape(picture), _shape(first)]
                raise DataError(
                    f"{path}: {shapes[0]}, but {grid[0][0]} is {shapes[1]}; make all pictures alike"
                )
            out[n, k] = picture
    return out


def _shape(picture: Pixels) -> str:
    channels = picture.shape[2] if picture.ndim == 3 else 1
    return f"{picture.shape[1]}x{picture.shape[0]} with {channels} channels"


def _extra(
    folder: Path, pictures: _Layout, shape: Sequence[int], read: Callable[[Path], Pixels], what: str
) -> Pixels:
    """Read masks or normals (T, V, H, W[, C]) with the numbers of the pictures."""
    layout = _layout(folder, shape[1])
    for kind, ours, theirs in (
        ("frame", layout.frames, pictures.frames),
        ("view", layout.views, pictures.views),
    ):
        odd = sorted(set(ours) ^ set(theirs))
        if odd:
            where = "is only here" if odd[0] in ours else "is missing"
            raise DataError(
                f"{folder}: {len(ours)} {kind}s of {what} for {len(theirs)} {kind}s, {kind} {odd[0]} {where}; "
                "give one each under the number of its picture"
            )
    found = _read_grid(layout.grid, read)
    if found.shape[2:4] != tuple(shape[2:4]):
        raise DataError(f"{folder}: {what} of {_shape(found[0, 0])} do not fit the pictures; make them equal")
    return found


def _read_alpha(folder: Path, pictures: Pixels, layout: _Layout) -> Pixels:
    """Read alpha (T, V, H, W) uint8 from the pictures, the masks, or the white background."""
    masks = folder / "masks"
    if pictures.shape[-1] == 4:
        if masks.exists():
            raise DataError(f"{masks}: the pictures have alpha of their own; remove one of the two")
        return pictures[..., 3]
    if masks.exists():
        found = _extra(masks, layout, pictures.shape, read_mask, "masks")
        check_mask_levels(str(masks), found.reshape(-1, *found.shape[2:]))
        return found
    alpha = np.full(pictures.shape[:-1], 255, np.uint8)
    for n, row in enumerate(layout.grid):
        for k, path in enumerate(row):
            outside = _white_outside(pictures[n, k])
            if not outside.any():
                raise DataError(
                    f"{path}: RGB without masks and not on white; give RGBA, masks or white pictures"
                )
            alpha[n, k][outside] = 0
    return alpha


def _white_outside(picture: Pixels) -> NDArray[np.bool_]:
    """Mark white pixels (H, W) connected to the border: white patches inside the object stay."""
    labels, _ = ndimage.label((picture == 255).all(-1))
    border = np.concatenate((labels[0], labels[-1], labels[:, 0], labels[:, -1]))
    outside: NDArray[np.bool_] = np.isin(labels, np.unique(border[border > 0]))
    return outside


def _check_alpha(alpha: Pixels, grid: Grid) -> None:
    for n, row in enumerate(grid):
        for k, path in enumerate(row):
            if not alpha[n, k].any():
                raise DataError(f"{path}: alpha is 0 everywhere, no object; mend it or leave the frame out")
            if alpha[n, k].min() > 0:
                raise DataError(
                    f"{path}: alpha is never 0 (at least {alpha[n, k].min()}), the object is not cut out; "
                    "segment it, or `mvtf reconstruct --binary-alpha` if the background is merely not exactly 0"
                )


def _read_normals(
    folder: Path, layout: _Layout, shape: Sequence[int], solid: NDArray[np.bool_]
) -> Tensor | None:
    if not (folder / "normals").exists():
        return None
    pixels = _extra(folder / "normals", layout, shape, lambda path: read_png(path, ("8-bit RGB",)), "normals")
    normals = pixels.astype(np.float32) / np.float32(127.5) - 1
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    unit = np.where((length > _UNIT_FLOOR) & solid, normals / np.maximum(length, _UNIT_FLOOR), 0)
    if not unit.any():
        raise DataError(f"{folder / 'normals'}: no normal has a length near 1; encode them as (n + 1) / 2")
    return torch.from_numpy(unit.astype(np.float32))


def _read_flow(path: Path, shape: Sequence[int]) -> ViewFlow | None:
    if not path.exists():
        return None
    check_file(path)
    what, cure = "not a flow file", "it needs view, flow and visible of these pictures"
    most = shape[0] * (shape[0] - 1) + 1  # one more than there can be
    found = read_arrays(path, {"pairs": Form("iu", (None, 2))}, cure, what, first=most, optional=True)
    # files of earlier versions, and of other programs, hold flow from each frame to the next
    forward = np.stack([np.arange(shape[0] - 1), np.arange(1, shape[0])], axis=1)
    pairs = found.get("pairs", forward)
    _check_pairs(pairs, shape[0], path)
    grid = (len(pairs), *shape[2:4])
    forms = {"view": Form("iu", ()), "flow": Form("f", (*grid, 2)), "visible": Form("biuf", grid)}
    held = read_arrays(path, forms, cure, what)
    if not 0 <= int(held["view"]) < shape[1]:
        raise DataError(f"{path}: flow of view {held['view']}; expected one below {shape[1]}")
    flow = torch.from_numpy(held["flow"].astype(np.float32))
    if not flow.isfinite().all():
        raise DataError(f"{path}: flow holds NaN or infinite values; estimate it again")
    if not len(pairs):
        return None
    return ViewFlow(
        view=int(held["view"]),
        pairs=tuple((int(source), int(target)) for source, target in pairs),
        flow=flow,
        visible=torch.from_numpy(held["visible"].astype(np.bool_)),
    )


def _check_pairs(pairs: NDArray[Any], frames: int, path: Path) -> None:
    """Check that these are different pairs of different frames; raise a DataError if not."""
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise DataError(f"{path}: pairs has the shape {pairs.shape}; expected (P, 2), source and target")
    wrong = (pairs < 0).any() or (pairs >= frames).any() or (pairs[:, 0] == pairs[:, 1]).any()
    if wrong or len(np.unique(pairs, axis=0)) != len(pairs):
        raise DataError(
            f"{path}: pairs are not different pairs of different frames of 0 to {frames - 1}; estimate it again"
        )


def _read_times(folder: Path, numbers: list[int]) -> Tensor | None:
    """Read the folder's times, or derive them from frame numbers; None if these are even."""
    path, frames = folder / TIMES_FILE, len(numbers)
    if not path.exists():
        return clock(str(folder), numbers) if frames > 1 else None
    check_file(path)
    what, cure = "not a list of numbers", "write a time for each frame"
    held = read_json(path, list, cure, what)
    with damage(path, what, cure):
        times = torch.tensor(held, dtype=torch.float32)
    inside = bool(((times >= 0) & (times <= 1)).all())
    if times.shape != (frames,) or not inside or not bool((times.diff() > 0).all()):
        raise DataError(f"{path}: not {frames} increasing times in [0, 1]; write one for each frame")
    return times
