"""Rows that are wrong in one known way across views and times; they calibrate the distances of `matrix-v1`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.baselines.method import Progress, Rendering, Source
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.media.pictures import read_all_on_white

Matrix = NDArray[np.uint8]  # (V, T, H, W, 3), the input view first
LAG = 3  # frames by which the lagging view is late


@dataclass(frozen=True)
class KnownMatrix:
    """The reference pictures of all views, in another order of views or times.

    Attributes:
        name: row label.
        distort: maps the matrix of pictures and a generator to one of the same shape.
    """

    name: str
    distort: Callable[[Matrix, np.random.Generator], Matrix]
    source: Source = "oracle"
    uses_truth: bool = True

    def config(self) -> Mapping[str, Any]:
        return {"known_matrix": self.name, "version": 1}

    def weights(self) -> Sequence[str]:
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        views = [view for view in scene.all_views() if view.frames]
        frames = [read_all_on_white(view.frames) for view in views]
        if len({clip.shape for clip in frames}) != 1:
            raise DataError(f"{self.name} on {scene.name}: its views differ in size or number of frames")
        generator = np.random.default_rng([seed, *scene.name.encode()])
        made = self.distort(np.stack(frames), generator)
        progress("render", 1, 1)
        return {view.name: Rendering(rgb=clip) for view, clip in zip(views, made, strict=True)}


def shuffled_times(matrix: Matrix, generator: np.random.Generator) -> Matrix:
    """Show the times in another order, the same in all views: every moment is right by itself."""
    return matrix[:, generator.permutation(matrix.shape[1])]


def shuffled_views(matrix: Matrix, generator: np.random.Generator) -> Matrix:
    """Show the views in another order, the same at all times: every clip is right by itself."""
    return matrix[generator.permutation(len(matrix))]


def swapped_views(matrix: Matrix, generator: np.random.Generator) -> Matrix:
    """Exchange views with those opposite, in the second half of the clip."""
    out, half = matrix.copy(), matrix.shape[1] // 2
    out[:, half:] = np.roll(matrix, len(matrix) // 2, axis=0)[:, half:]
    return out


def lagging_view(matrix: Matrix, generator: np.random.Generator) -> Matrix:
    """Let one view, neither the input's nor its neighbour, be late by `LAG` frames."""
    out, late = matrix.copy(), int(generator.integers(2, len(matrix) - 1))
    out[late, LAG:] = matrix[late, :-LAG]
    out[late, :LAG] = matrix[late, 0]
    return out


SHUFFLED_TIMES = KnownMatrix("shuffled-times", shuffled_times)
SHUFFLED_VIEWS = KnownMatrix("shuffled-views", shuffled_views)
SWAPPED_VIEWS = KnownMatrix("swapped-views", swapped_views)
LAGGING_VIEW = KnownMatrix("lagging-view", lagging_view)
