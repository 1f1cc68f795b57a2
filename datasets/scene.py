"""A scene: the clip that a method receives, and the views on which it is scored. Nothing else describes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.damaged import Form, read_arrays
from mvtokenflow.base.files import frame_numbers
from mvtokenflow.media.video import Clip
from mvtokenflow.views.cameras import Cameras

Array = NDArray[np.float32]

TRUTH_FORMS = {
    "flow": Form("f", (None, None, None, 2)),
    "visible": Form("biu", (None, None, None)),
    "normal": Form("f", (None, None, None, 3)),
    "depth": Form("f", (None, None, None)),
}
SURFACE_FORMS = {
    "points": Form("f", (None, None, 3)),
    "outside": Form("biu", (None, None)),
}


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


@dataclass(frozen=True)
class TruthFile:
    """Exact geometry of one view in a file: an .npz with the arrays of `GroundTruth`.

    Attributes:
        path: the file; metrics read it as well.
        cure: what to do where it is damaged, the end of a sentence.
        forms: of the arrays, by name.
    """

    path: Path
    cure: str = "write it again"
    forms: Mapping[str, Form] = field(default_factory=lambda: TRUTH_FORMS)

    def __call__(self) -> GroundTruth:
        """Load the arrays.

        Raises:
            DataError: the file cannot be read or holds other arrays.
        """
        found = read_arrays(self.path, self.forms, self.cure, "cannot be read")
        flow, normal, depth = (found[name].astype(np.float32) for name in ("flow", "normal", "depth"))
        return GroundTruth(flow=flow, visible=found["visible"].astype(bool), normal=normal, depth=depth)


@dataclass(frozen=True, kw_only=True)
class View:
    """One viewpoint from which renderings are scored.

    Attributes:
        name: one plain name, such as "eval_0"; "input" is the input view and no other. Renderings lie in a
            folder of this name.
        azimuth_deg, elevation_deg: relative to the input camera.
        cameras: a batch of one camera, stated or assumed (`Scene.assumed`); None where it is neither.
        frames: the reference pictures in temporal order, RGB on white or RGBA; empty where there are none.
        numbers: of the frames, which renderings have as well; None for those in the names of the pictures.
        truth: exact geometry, or None.
    """

    name: str
    azimuth_deg: float
    elevation_deg: float
    cameras: Cameras | None
    frames: Sequence[Path]
    numbers: Sequence[int] | None = None
    truth: TruthFile | None = None

    def frame_numbers(self) -> list[int]:
        """Return the number of each frame.

        Raises:
            DataError: `numbers` is None and the pictures' names have no plain numbers.
        """
        return frame_numbers(self.frames) if self.numbers is None else list(self.numbers)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One object of a dataset.

    Attributes:
        name: unique within the dataset, safe as a folder name.
        clip: loads the input clip (RGBA frames of the input view).
        input: the input view; its frames are the reference pictures of protocols on the input view.
        views: the held-out evaluation views, any number of them.
        root: the folder that messages and manifests name as the scene's reference.
        tags: facts a table may group by, e.g. "held-out-plan".
        content: digest of all pictures, where the dataset has one that is the same on every machine; where it
            is None, the bytes of the views' frames identify the content.
        clock: times of the views' frames in the clip, 0 at its first and 1 at its last; None: the clip's own.
        surface: returns the file of points on the exact surface at the times of the views' frames, which it
            may write on first use: `points` (T, N, 3) in world units, which follow the surface, and `outside`
            (T, N), those inside no other part; None without a known surface.
        filmed: camera of the clip, where the input view's pictures have another size than the clip's.
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
    clock: tuple[float, ...] | None = None
    filmed: Cameras | None = None
    surface: Callable[[], Path] | None = None

    @property
    def clip_view(self) -> View:
        """Return the input view with the camera that filmed the clip."""
        return self.input if self.filmed is None else replace(self.input, cameras=self.filmed)

    def all_views(self) -> list[View]:
        """Return the input view, then the held-out ones."""
        return [self.input, *self.views]


class Dataset(Protocol):
    """The interface of a dataset."""

    name: str

    def scene_names(self) -> Sequence[str]:
        """Return names in the order in which tables list them; reads no pictures."""
        ...

    def scene(self, name: str) -> Scene:
        """Return the scene; its files are generated or checked where needed.

        Raises:
            DataError: the files are missing or broken; the message names what to download and where to put it.
            ConfigError: no such scene.
        """
        ...
