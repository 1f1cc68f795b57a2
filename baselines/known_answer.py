"""Rows whose place in a table is known beforehand; they calibrate the reader and expose broken metrics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mvtokenflow.base.damaged import read_arrays
from mvtokenflow.baselines.method import Progress, Rendering, Source
from mvtokenflow.datasets.scene import SURFACE_FORMS, Scene, View
from mvtokenflow.media.pictures import read_all_on_white

Frames = NDArray[np.uint8]
Distortion = Callable[[Frames, np.random.Generator], Frames]


@dataclass(frozen=True)
class KnownAnswer:
    """The reference pictures of every view, distorted in a known way.

    Attributes:
        name: row label.
        distort: maps (T, H, W, 3) uint8 and a generator to the same shape.
        geometry: also return the exact geometry, where the scene has it.
    """

    name: str
    distort: Distortion
    geometry: bool = False
    source: Source = "oracle"
    uses_truth: bool = True

    def config(self) -> Mapping[str, Any]:
        return {"known_answer": self.name, "version": 1}

    def weights(self) -> Sequence[str]:
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        views = [view for view in scene.all_views() if view.frames]
        renderings = {}
        for done, view in enumerate(views):
            progress("render", done, len(views))
            generator = np.random.default_rng([seed, *view.name.encode(), *scene.name.encode()])
            frames = read_all_on_white(view.frames)
            geometry = self._geometry(scene, view) if self.geometry else {}
            renderings[view.name] = Rendering(rgb=self.distort(frames, generator), **geometry)
        return renderings

    def _geometry(self, scene: Scene, view: View) -> dict[str, NDArray[np.float32]]:
        if view.truth is None:
            return {}
        truth = view.truth()
        found = {"normal": truth.normal, "flow": truth.flow, "depth": truth.depth}
        if scene.surface is not None and view.name == "input":
            solid = read_arrays(scene.surface(), SURFACE_FORMS, "delete it", "cannot be read")
            found["points"] = solid["points"][:, solid["outside"][0].astype(bool)]
        return found


@dataclass(frozen=True)
class CopyInput:
    """The input clip shown at every view, which any method must beat. Uses no ground truth."""

    name: str = "copy-input"
    source: Source = "oracle"  # known to be wrong on the other views, so no pre-flight may refuse it
    uses_truth: bool = False

    def config(self) -> Mapping[str, Any]:
        return {"copy_input": 1}

    def weights(self) -> Sequence[str]:
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        if scene.clock is None:
            clip = (scene.clip().on_background(1.0).numpy() * 255).round().astype(np.uint8)
        else:  # the views' frames are not the clip's
            clip = read_all_on_white(scene.input.frames)
        progress("render", 1, 1)
        return {view.name: Rendering(rgb=clip) for view in scene.all_views()}


def _same(frames: Frames, generator: np.random.Generator) -> Frames:
    return frames


def _first(frames: Frames, generator: np.random.Generator) -> Frames:
    return np.repeat(frames[:1], len(frames), axis=0)


def _lag(frames: Frames, generator: np.random.Generator) -> Frames:
    return np.concatenate((frames[:1], frames[:-1]))


def _shuffle(frames: Frames, generator: np.random.Generator) -> Frames:
    return frames[generator.permutation(len(frames))]


def _blur(frames: Frames, generator: np.random.Generator) -> Frames:
    radius = frames.shape[2] / 64  # 2 px at 128
    blur = ImageFilter.GaussianBlur(radius)
    return np.stack([np.asarray(Image.fromarray(frame).filter(blur)) for frame in frames])


def _mirror(frames: Frames, generator: np.random.Generator) -> Frames:
    return np.ascontiguousarray(frames[:, :, ::-1])


def _white(frames: Frames, generator: np.random.Generator) -> Frames:
    return np.full_like(frames, 255)


GROUND_TRUTH = KnownAnswer("ground-truth", _same, geometry=True)
FIRST_FRAME = KnownAnswer("first-frame", _first)
ONE_FRAME_LAG = KnownAnswer("one-frame-lag", _lag)
SHUFFLED_FRAMES = KnownAnswer("shuffled-frames", _shuffle)
BLURRED = KnownAnswer("blurred", _blur)
MIRRORED = KnownAnswer("mirrored", _mirror)
WHITE = KnownAnswer("white", _white)
COPY_INPUT = CopyInput()
