"""A method of your own as a row of tables: the input clip on a card that stands in the middle of the scene.

    PYTHONPATH=examples mvtf-eval table2 --methods own_method:METHOD,copy-input --scenes quadruped-01

From the side the card is narrow, from behind it is mirrored. It knows nothing of the object's depth, so a
method that reconstructs one has to beat it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mvtokenflow.baselines.method import Progress, Rendering, Source
from mvtokenflow.datasets.scene import Scene


def card(frames: NDArray[np.uint8], azimuth_deg: float) -> NDArray[np.uint8]:
    """The frames (T, H, W, 3) on a card that is seen from `azimuth_deg` degrees to the right of its front."""
    height, width = frames.shape[1:3]
    turn = float(np.cos(np.radians(azimuth_deg)))  # negative from behind
    squeeze = turn if abs(turn) * width >= 1 else 1 / width
    middle = (width - 1) / 2
    matrix = np.array([[squeeze, 0.0, middle * (1 - squeeze)], [0.0, 1.0, 0.0]])
    white = (255, 255, 255)
    drawn = [cv2.warpAffine(frame, matrix, (width, height), borderValue=white) for frame in frames]
    return np.stack(drawn).astype(np.uint8)


@dataclass(frozen=True)
class Card:
    """The row `card`."""

    name: str = "card"  # row label and folder name
    source: Source = "native"  # computed here
    uses_truth: bool = False

    def config(self) -> Mapping[str, Any]:
        """Everything that changes pixels; its hash names the run's folder."""
        return {"card": 1}

    def weights(self) -> Sequence[str]:
        """Names in the weights ledger that must be on the machine: none."""
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        """The input view and every evaluation view of the scene."""
        clip = (scene.clip().on_background(1.0) * 255).round().numpy().astype(np.uint8)
        views = (scene.input, *scene.views)
        rendered = {}
        for done, view in enumerate(views, 1):
            rendered[view.name] = Rendering(rgb=card(clip, view.azimuth_deg - scene.input.azimuth_deg))
            progress("render", done, len(views))
        return rendered


METHOD = Card()
