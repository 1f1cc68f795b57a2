"""MV4DBench: animated meshes seen from eight azimuths at elevation 15, with points of their moving surface.

The dataset card (31 objects, CC-BY-4.0; 1024 px, distance 2.2) names this layout:

    <uid>/rgba_8views/view_NN_azDDD/frame_<n>.png   transparent pictures
    <uid>/meta.json                                 cameras
    <uid>/gt_surfaces.npy                           (16, N, 6) positions, normals, evenly in time

`meta.json` is read as bpy-renderer writes it (the renderer that the card names): `locations`, a list in the
order of the views, each with `projection_type`, `camera_angle_x` in radians, `elevation` and `azimuth` in
degrees and `transform_matrix`, camera to world with the camera looking along its −Z, Y up. The files themselves
were not at hand when this was written; a copy of another form is refused with what was expected.

A clip has 11 to 757 frames; scored are the frames at which the surface is given, at most 16. The first view is
the input. Its camera is not level, so the method's own rows refuse it; renderings of others are scored.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mvtokenflow.base.damaged import damage, read_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import atomic_path, cache_root, choose, digest, expanded, frame_files
from mvtokenflow.base.names import name_fault
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.media.pictures import picture_size
from mvtokenflow.media.video import Clip, read_rgba
from mvtokenflow.views.cameras import Cameras

ROOT_VARIABLE = "MVTF_MV4DBENCH"
MOMENTS = 16  # of the surface
POINTS = 8192  # of the surface that are kept, evenly by index

_VIEW = re.compile(r"view_(\d+)_az(\d+)\Z")
_PICTURES = "rgba_8views"
_ADVICE = "get the object again from the dataset's page"
_LOCATION = ("projection_type", "camera_angle_x", "elevation", "azimuth", "transform_matrix")


class MV4DBench:
    """The dataset `mv4dbench`.

    Args:
        root: the folder of objects; default `$MVTF_MV4DBENCH`.
    """

    name = "mv4dbench"

    def __init__(self, root: Path | None = None) -> None:
        self._root = root

    def scene_names(self) -> Sequence[str]:
        """Return the objects found, sorted.

        Raises:
            DataError: no folder given, or no object in it.
        """
        return sorted(self._found())

    def scene(self, name: str) -> Scene:
        """Return an object; the pictures are checked when they are read.

        Raises:
            DataError: as `scene_names`; also views, cameras or surface of another form than the card's.
            ConfigError: no such object here.
        """
        folder = choose("object", name, self._found())
        views = _view_folders(folder)
        frames = {view: frame_files(place) for view, (place, _) in views.items()}
        total = len(next(iter(frames.values())))
        if total < 2 or any(len(paths) != total for paths in frames.values()):
            raise DataError(f"{folder / _PICTURES}: its views differ in their number of frames; {_ADVICE}")
        kept = _moments(total)
        size = picture_size(next(iter(frames.values()))[0])
        cameras, turn = read_cameras(folder / "meta.json", len(views), size)
        first = next(iter(views.values()))[1]
        seen = [
            View(
                name="input" if n == 0 else f"view_{n}",
                azimuth_deg=float((azimuth - first + 180) % 360 - 180),
                elevation_deg=0.0,  # all stand as high as the input camera
                cameras=cameras[n],
                frames=[frames[view][k] for k in kept],
                numbers=kept,
            )
            for n, (view, (_, azimuth)) in enumerate(views.items())
        ]
        return Scene(
            name=name,
            clip=partial(_clip, seen[0].frames, kept, name),
            input=seen[0],
            views=seen[1:],
            root=folder,
            assumed=(f"of {total} frames those {len(kept)} at which MV4DBench gives the surface",),
            surface=_surface(folder, name, turn, kept, total),
        )

    def _found(self) -> Mapping[str, Path]:
        root = self._root or _root_of_environment()
        if root is None:
            raise DataError(
                f"mv4dbench: no folder given and {ROOT_VARIABLE} is not set; download MV4DBench and name the "
                "folder of its objects with --root"
            )
        if not root.is_dir():
            raise DataError(f"{root}: no such folder; expected <uid>/{_PICTURES}/ in it")
        found = {e.name: e for e in sorted(root.iterdir()) if (e / _PICTURES).is_dir()}
        if not found:
            raise DataError(f"{root}: holds no <uid>/{_PICTURES}/ folders; is this the right folder?")
        for name, folder in found.items():
            if fault := name_fault(name):
                raise DataError(f"{folder}: its name is the object's in records, but it {fault}; rename it")
        return found


def _root_of_environment() -> Path | None:
    """Return the folder that the environment names, or None."""
    named = os.environ.get(ROOT_VARIABLE)
    return expanded(named, ROOT_VARIABLE) if named else None


def _view_folders(folder: Path) -> dict[str, tuple[Path, int]]:
    """Return the folders of views and their azimuths in degrees, in the order of their numbers."""
    named = {entry: match for entry in (folder / _PICTURES).iterdir() if (match := _VIEW.match(entry.name))}
    ordered = sorted(named, key=lambda entry: int(named[entry][1]))
    if len(ordered) < 2:
        raise DataError(f"{folder / _PICTURES}: holds no view_NN_azDDD folders; {_ADVICE}")
    return {entry.name: (entry, int(named[entry][2])) for entry in ordered}


def _moments(frames: int) -> list[int]:
    """Return the frames at which the surface is given: `MOMENTS` evenly spaced ones, each once."""
    return sorted({int(k) for k in np.linspace(0, frames - 1, MOMENTS).round()})


def read_cameras(path: Path, views: int, size: tuple[int, int]) -> tuple[Cameras, NDArray[np.float64]]:
    """Read the cameras of all views into the world in which the first one stands at azimuth 0.

    Args:
        views: how many. size: width and height of the pictures.

    Returns:
        the cameras, and the rotation (3, 3) about Z from the file's world into theirs.

    Raises:
        DataError: not a file of bpy-renderer's form, or of other cameras.
    """
    expected = f"expected 'locations' with {', '.join(_LOCATION)} of {views} views, as bpy-renderer writes them"
    meta = read_json(path, dict, f"{expected}; {_ADVICE}", "cannot be read")
    found = meta.get("locations")
    if not isinstance(found, list) or len(found) != views or any(set(_LOCATION) - set(one) for one in found):
        raise DataError(f"{path}: {expected}; {_ADVICE}")
    width, height = size
    poses, lenses = [], []
    with damage(path, "damaged", f"{expected}; {_ADVICE}"):
        for one in found:
            if one["projection_type"] != "PERSP":
                raise ValueError(f"a camera is {one['projection_type']}, not PERSP")
            pose = np.array(one["transform_matrix"], np.float64)
            if pose.shape != (4, 4) or not np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-4):
                raise ValueError("a transform_matrix is not rigid")
            pose[:3, 1:3] *= -1  # from Y up, looking along −Z, to Y down, looking along +Z
            poses.append(np.linalg.inv(pose))
            focal = width / 2 / np.tan(float(one["camera_angle_x"]) / 2)
            lenses.append([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    stated = Cameras(
        world_to_camera=torch.tensor(np.stack(poses), dtype=torch.float32),
        intrinsics=torch.tensor(lenses, dtype=torch.float32),
        width=width,
        height=height,
        kind="pinhole",
    )
    turn, back = _turn(stated), torch.eye(4)
    back[:3, :3] = torch.from_numpy(turn.T).float()
    return replace(stated, world_to_camera=stated.world_to_camera @ back), turn


def _turn(cameras: Cameras) -> NDArray[np.float64]:
    """Return the rotation (3, 3) about Z that takes the first camera to azimuth 0, on −Y."""
    x, y, _ = cameras.centres[0].double().tolist()
    length = float(np.hypot(x, y))
    s, c = -x / length, -y / length  # the camera's direction (x, y) goes to (0, −1)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _clip(frames: Sequence[Path], kept: Sequence[int], name: str) -> Clip:
    rgba = torch.from_numpy(np.stack([read_rgba(path) for path in frames]).astype(np.float32) / 255)
    clock = torch.tensor([(k - kept[0]) / (kept[-1] - kept[0]) for k in kept])
    return Clip(rgb=rgba[..., :3], alpha=rgba[..., 3:], name=name, clock=clock)


def _surface(
    folder: Path, name: str, turn: NDArray[np.float64], kept: Sequence[int], total: int
) -> Callable[[], Path] | None:
    """Return what makes the file of surface points at the frames that are kept; None without a surface."""
    path = folder / "gt_surfaces.npy"
    if not path.is_file():
        return None
    _read_surface(path)
    return partial(_surface_file, path, name, turn, kept, total)


def _read_surface(path: Path) -> NDArray[np.floating[Any]]:
    with damage(path, "not a surface (16, N, 6)", _ADVICE):
        given: NDArray[np.floating[Any]] = np.load(path, mmap_mode="r", allow_pickle=False)
        if given.ndim != 3 or given.shape[0] != MOMENTS or given.shape[2] < 3 or given.dtype.kind != "f":
            raise ValueError(f"it is {given.shape} {given.dtype}")
    return given


def _surface_file(path: Path, name: str, turn: NDArray[np.float64], kept: Sequence[int], total: int) -> Path:
    """Return the file of surface points at the frames that are kept, written to the cache on first use."""
    given = _read_surface(path)
    stated: list[Any] = np.linspace(0, total - 1, MOMENTS).round().astype(int).tolist()
    stamp = digest([(name, f"{path.stat().st_size} {path.stat().st_mtime_ns} {turn.tolist()}".encode())])[:12]
    out = cache_root() / "mv4dbench-surfaces" / f"{name}-{stamp}.npz"
    if not out.exists():
        some = np.linspace(0, given.shape[1] - 1, min(POINTS, given.shape[1])).round().astype(int)
        points = np.stack([given[stated.index(k)][some, :3] for k in kept]) @ turn.T
        with atomic_path(out) as temporary:
            np.savez_compressed(
                temporary, points=points.astype("<f4"), outside=np.ones(points.shape[:2], np.bool_)
            )
    return out
