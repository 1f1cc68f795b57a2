"""A scene: the clip a method sees, and the views it is judged on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.media.video import Clip
from mvtokenflow.views.cameras import Cameras

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """Exact geometry of one view over time, where the dataset has it. Arrays are float32.

    Attributes:
        flow: (T−1, H, W, 2) pixels (dx, dy) from frame t to t+1 on the grid of frame t.
        visible: (T−1, H, W) bool, the surface point of frame t is seen in frame t+1 as well.
        normal: (T, H, W, 3) unit world normals, 0 outside the object.
        depth: (T, H, W) camera z in world units, 0 outside the object.
    """

    flow: Array
    visible: NDArray[np.bool_]
    normal: Array
    depth: Array


@dataclass(frozen=True, kw_only=True)
class View:
    """One viewpoint on which renderings are scored.

    Attributes:
        name: folder name in the Consistent4D layout, "eval_0" and so on; "input" is the input view.
        azimuth_deg, elevation_deg: relative to the input camera.
        cameras: a batch of one camera, stated or assumed (`Scene.assumed`); None where it is neither.
        frames: the reference pictures `<n>.png`, in frame order; empty where there is no reference.
        truth: loads exact geometry on demand, or None.
    """

    name: str
    azimuth_deg: float
    elevation_deg: float
    cameras: Cameras | None
    frames: Sequence[Path]
    truth: Callable[[], GroundTruth] | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One object of a dataset.

    Attributes:
        name: unique within the dataset, safe as a folder name.
        clip: loads the input clip (RGBA frames of the input view).
        input: the input view; its frames are the reference pictures of protocols on the input view.
        views: the held-out evaluation views.
        root: folder holding `eval_<i>/<n>.png` (and `input/<n>.png`), the ground truth for scoring.
        tags: facts a table may group by, e.g. "held-out-plan".
        content: digest of all pictures, where the dataset has one that is the same on every machine; where it
            is None, the bytes of the views' frames tell one content from another.
        assumed: what the dataset leaves open and how it was read, one clause each; printed with every table.
    """

    name: str
    clip: Callable[[], Clip]
    input: View
    views: Sequence[View]
    root: Path
    tags: frozenset[str] = field(default_factory=frozenset)
    content: str | None = None
    assumed: tuple[str, ...] = ()


class Dataset(Protocol):
    """What a dataset offers to the harness."""

    name: str

    def scene_names(self) -> Sequence[str]:
        """Names in the order tables list them; cheap, reads no pictures."""
        ...

    def scene(self, name: str) -> Scene:
        """The scene; generates or checks its files where needed.

        Raises:
            DataError: the files are missing or broken; says what to download and where to put it.
            ConfigError: no such scene.
        """
        ...
