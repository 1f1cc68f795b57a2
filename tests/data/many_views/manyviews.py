"""Datasets of other layouts and with other views than the benchmark's: a class each, and nothing elsewhere."""

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.files import choose
from mvtokenflow.datasets.scene import Scene, TruthFile, View
from mvtokenflow.media.video import Clip

SIZE = 24
MATRIX = 21  # views, and frames of each
FLOW = ("mat-a",)  # scenes of the matrix with exact geometry


def ball(azimuth_deg: float, elevation_deg: float, time: float) -> NDArray[np.uint8]:
    """(SIZE, SIZE, 4) straight RGBA of a rising ball with a spot, seen from a side; `time` in [0, 1]."""
    y, x = (np.mgrid[0:SIZE, 0:SIZE] + 0.5) / SIZE * 2 - 1
    y = y + 0.3 * time + 0.2 * np.sin(np.radians(elevation_deg))
    around = np.radians(azimuth_deg)
    inside = (x / (0.5 + 0.2 * np.cos(around))) ** 2 + (y / 0.5) ** 2 < 1
    spot = (x - 0.3 * np.sin(around)) ** 2 + y**2 < 0.05
    rgba = np.zeros((SIZE, SIZE, 4), np.uint8)
    rgba[inside] = (200, 60 + int(100 * time), 60, 255)
    rgba[inside & spot] = (40, 60, 200, 255)
    return rgba


def clip(name: str, frames: int) -> Clip:
    pictures = np.stack([ball(0.0, 0.0, t / (frames - 1)) for t in range(frames)]).astype(np.float32) / 255
    return Clip(rgb=torch.from_numpy(pictures[..., :3]), alpha=torch.from_numpy(pictures[..., 3:]), name=name)


def write(path: Path, rgba: NDArray[np.uint8], *, opaque: bool) -> Path:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(rgba)
        if opaque:
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture).convert("RGB")
        picture.save(path)
    return path


class Matrix:
    """21 views x 21 frames, stored by time: `<scene>/time_<t>/cam-<letter>.png`. Views have words for names."""

    name = "matrix"

    def __init__(self, root: Path) -> None:
        self.root = root

    def scene_names(self) -> Sequence[str]:
        return ("mat-a", "mat-b")

    def scene(self, name: str) -> Scene:
        choose("scene", name, dict.fromkeys(self.scene_names()))
        folder = self.root / name
        views = []
        for k in range(MATRIX + 1):
            azimuth, elevation = (0.0, 0.0) if k == 0 else (360 * k / MATRIX, 10.0 * (k % 3))
            camera = "cam-front" if k == 0 else f"cam-{chr(96 + k)}"
            frames = [
                write(
                    folder / f"time_{t:02}" / f"{camera}.png",
                    ball(azimuth, elevation, t / (MATRIX - 1)),
                    opaque=True,
                )
                for t in range(MATRIX)
            ]
            views.append(
                View(
                    name="input" if k == 0 else f"side {camera[4:]}",
                    azimuth_deg=azimuth,
                    elevation_deg=elevation,
                    cameras=None,
                    frames=frames,
                    numbers=range(MATRIX),
                    truth=self._truth(folder / f"{camera}.geometry.npz") if name in FLOW else None,
                )
            )
        return Scene(
            name=name, clip=partial(clip, name, MATRIX), input=views[0], views=views[1:], root=self.root
        )

    def _truth(self, path: Path) -> TruthFile:
        """The motion of a ball that is near enough to a plane: straight up."""
        if not path.is_file():
            flow = np.zeros((MATRIX - 1, SIZE, SIZE, 2), np.float32)
            flow[..., 1] = -0.15 * SIZE / (MATRIX - 1)
            visible = np.ones(flow.shape[:3], bool)
            normal = np.zeros((MATRIX, SIZE, SIZE, 3), np.float32)
            np.savez_compressed(path, flow=flow, visible=visible, normal=normal, depth=normal[..., 0])
        return TruthFile(path)


class EightViews:
    """The layout of MV4DBench: `<uid>/rgba_8views/view_<NN>_az<DDD>/frame_<n>.png` and `<uid>/meta.json`.

    Eight azimuths at elevation 15, transparent pictures, frames counted from 1.
    """

    name = "eight-views"
    frames = 5

    def __init__(self, root: Path) -> None:
        self.root = root

    def scene_names(self) -> Sequence[str]:
        return ("3f9a",)

    def scene(self, name: str) -> Scene:
        folder = self.root / choose("uid", name, {uid: uid for uid in self.scene_names()})
        if not (folder / "meta.json").is_file():
            self._write(folder)
        meta = json.loads((folder / "meta.json").read_text())
        views = []
        for place in sorted((folder / "rgba_8views").iterdir()):
            match = re.fullmatch(r"view_\d\d_az(\d\d\d)", place.name)
            assert match
            views.append(
                View(
                    name=place.name,
                    azimuth_deg=float(match[1]),
                    elevation_deg=meta["elevation_deg"],
                    cameras=None,
                    frames=sorted(place.iterdir()),
                )
            )
        front = View(
            name="input",
            azimuth_deg=0.0,
            elevation_deg=0.0,
            cameras=None,
            frames=sorted((folder / "video").iterdir()),
        )
        return Scene(name=name, clip=partial(clip, name, self.frames), input=front, views=views, root=folder)

    def _write(self, folder: Path) -> None:
        for n in range(self.frames):
            time, file = n / (self.frames - 1), f"frame_{n + 1:04}.png"
            write(folder / "video" / file, ball(0.0, 0.0, time), opaque=False)
            for k in range(8):
                place = folder / "rgba_8views" / f"view_{k:02}_az{45 * k:03}"
                write(place / file, ball(45.0 * k, 15.0, time), opaque=False)
        (folder / "meta.json").write_text(json.dumps({"elevation_deg": 15.0}))
