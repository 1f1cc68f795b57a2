"""A dataset small enough to render and score many times: a patterned block that slides over white.

The block moves by exactly one pixel a frame in every view, so flow, visibility and normals are known. Imported
by name ("tinyscenes:Tiny"), as a third party's dataset would be; its files go below `root`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import choose
from mvtokenflow.baselines.method import Progress, Rendering
from mvtokenflow.datasets.scene import GroundTruth, Scene, TruthFile, View
from mvtokenflow.media.video import Clip

SIZE = 32
VIEWS = {"input": 0.0, "eval_0": -75.0, "eval_1": 15.0, "eval_2": 105.0, "eval_3": 195.0}
# top, bottom, left, right at frame 0; no two views share a silhouette
BLOCKS = {
    "input": (8, 24, 8, 20),
    "eval_0": (4, 10, 2, 20),
    "eval_1": (12, 30, 4, 10),
    "eval_2": (20, 26, 6, 24),
    "eval_3": (6, 28, 12, 18),
}
SCENES = ("ant", "bee", "cow")


def frame_count() -> int:
    return int(os.environ.get("TINY_FRAMES", "4"))


def masks(view: str) -> NDArray[np.bool_]:
    """(T, SIZE, SIZE) where the block is."""
    top, bottom, left, right = BLOCKS[view]
    found = np.zeros((frame_count(), SIZE, SIZE), np.bool_)
    for t in range(frame_count()):
        found[t, top:bottom, left + t : right + t] = True
    return found


def pictures(scene: str, view: str) -> NDArray[np.uint8]:
    """(T, SIZE, SIZE, 3); the pattern is nailed to the block."""
    rng = np.random.default_rng([*scene.encode(), *view.encode()])
    pattern = rng.integers(0, 200, (SIZE, SIZE, 3), dtype=np.uint8)
    frames = np.full((frame_count(), SIZE, SIZE, 3), 255, np.uint8)
    for t, mask in enumerate(masks(view)):
        frames[t][mask] = np.roll(pattern, t, axis=1)[mask]
    return frames


def truth(view: str) -> GroundTruth:
    inside = masks(view)
    flow = np.zeros((frame_count() - 1, SIZE, SIZE, 2), np.float32)
    flow[..., 0] = inside[:-1]
    normal = np.zeros((frame_count(), SIZE, SIZE, 3), np.float32)
    normal[inside] = (0, -1, 0)
    return GroundTruth(flow=flow, visible=inside[:-1], normal=normal, depth=inside.astype(np.float32))


def _clip(scene: str) -> Clip:
    rgb = torch.from_numpy(pictures(scene, "input").astype(np.float32) / 255)
    alpha = torch.from_numpy(masks("input").astype(np.float32))[..., None]
    return Clip(rgb=rgb * alpha, alpha=alpha, name=scene)


class Tiny:
    """Three scenes of four frames, or of `TINY_FRAMES` frames."""

    name = "tiny"

    def __init__(self, root: Path) -> None:
        self.root = root

    def scene_names(self) -> Sequence[str]:
        return SCENES

    def scene(self, name: str) -> Scene:
        choose("scene", name, dict.fromkeys(SCENES))
        folder = self.root / name
        views = []
        for view, azimuth in VIEWS.items():
            if not (folder / "truth" / f"{view}.npz").is_file():
                _write(folder, name, view)
            views.append(
                View(
                    name=view,
                    azimuth_deg=azimuth,
                    elevation_deg=0.0,
                    cameras=None,
                    frames=[folder / view / f"{n}.png" for n in range(frame_count())],
                    truth=TruthFile(folder / "truth" / f"{view}.npz"),
                )
            )
        return Scene(name=name, clip=partial(_clip, name), input=views[0], views=views[1:], root=folder)


def _write(folder: Path, name: str, view: str) -> None:
    for n, frame in enumerate(pictures(name, view)):
        (folder / view).mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(folder / view / f"{n}.png")
    known = truth(view)
    (folder / "truth").mkdir(exist_ok=True)
    np.savez_compressed(
        folder / "truth" / f"{view}.npz",
        flow=known.flow,
        visible=known.visible,
        normal=known.normal,
        depth=known.depth,
    )


@dataclass(frozen=True)
class Native:
    """A method that sees the reference slightly darkened; `fault` makes it break its contract.

    `fails_on` names a scene it gives up on, as a method that diverges would.
    """

    name: str = "native"
    step: int = 4
    fault: str = ""
    fails_on: str = ""
    source: str = "native"
    uses_truth: bool = False

    def config(self) -> Mapping[str, Any]:
        return {"step": self.step, "fault": self.fault, "fails_on": self.fails_on}

    def weights(self) -> Sequence[str]:
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        if scene.name == self.fails_on:
            raise DataError(f"{scene.name}: diverged at step 7; use a smaller step")
        return {view: self._view(scene.name, view, seed) for view in VIEWS}

    def _view(self, scene: str, view: str, seed: int) -> Rendering:
        rgb = pictures(scene, view)
        rgb[masks(view)] += np.uint8(self.step + seed)
        normal, flow = None, None
        if self.fault == "flow-shape":
            return Rendering(rgb=rgb, flow=np.zeros((frame_count(), SIZE, SIZE, 2), np.float32))
        if self.fault == "normal-shape":
            return Rendering(rgb=rgb, normal=np.zeros((frame_count(), SIZE // 2, SIZE // 2, 3), np.float32))
        if self.fault == "float":
            return Rendering(rgb=rgb.astype(np.float32) / 255)  # type: ignore[arg-type]  # the fault
        if self.fault == "rgba":
            return Rendering(rgb=np.concatenate((rgb, rgb[..., :1]), -1))
        if self.fault in ("nan-normal", "inf-flow"):
            normal, flow = truth(view).normal.copy(), truth(view).flow.copy()
            normal[0, 0, 0] = np.nan if self.fault == "nan-normal" else 0
            flow[0, 0, 0] = np.inf if self.fault == "inf-flow" else 0
        return Rendering(rgb=rgb, normal=normal, flow=flow)


NATIVE = Native()
DARKER = Native(name="darker", step=20)
FLOAT = Native(name="float", fault="float")
FICKLE = Native(name="fickle", step=8, fails_on="bee")
