"""Somebody's renderings in the Consistent4D layout as a row: `<root>/<scene>/<view>/<n>.png`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import digest, frame_files, frame_numbers, sha256_file, utf8_name
from mvtokenflow.baselines.method import Progress, Rendering, Source
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.media.video import read_rgb


@dataclass(frozen=True)
class ImportedRenderings:
    """Renderings made elsewhere.

    Attributes:
        name: row label.
        root: folder with one folder per scene.
        source: "upstream-run" (their code, run by you) or "released-renderings" (their files).
    """

    name: str
    root: Path
    source: Source = "released-renderings"
    uses_truth: bool = False

    def config(self) -> Mapping[str, Any]:
        """The digest of every file: other renderings are another run."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; expected <scene>/eval_<i>/<n>.png in it")
        pictures = sorted(utf8_name(path) for path in self.root.rglob("*.png"))
        files = ((str(path.relative_to(self.root)), sha256_file(path).encode()) for path in pictures)
        return {"imported": digest(files)}

    def weights(self) -> Sequence[str]:
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        folder = self.root / scene.name
        views = [view for view in scene.all_views() if (folder / view.name).is_dir()]
        if not views:
            raise DataError(
                f"{folder}: no view folders; {self.name} needs {scene.views[0].name} and the others there"
            )
        renderings = {}
        for done, view in enumerate(views):
            progress("import", done, len(views))
            renderings[view.name] = Rendering(rgb=self._frames(folder / view.name, view))
        return renderings

    def _frames(self, folder: Path, view: View) -> NDArray[np.uint8]:
        """(T, H, W, 3) the frames of a view; they must be the reference's from its first one on."""
        paths = frame_files(folder)
        ours = frame_numbers(paths)
        wanted = view.frame_numbers() or list(range(ours[0], ours[0] + len(ours)))
        lacking, spare = sorted(set(wanted[: len(ours)]) - set(ours)), sorted(set(ours) - set(wanted))
        if spare and view.frames:
            raise DataError(f"{folder}: frame {spare[0]} is not in the reference; number frames as it does")
        if lacking:
            raise DataError(f"{folder}: frame {lacking[0]} is missing; render all frames from {wanted[0]} on")
        frames = [read_rgb(path) for path in paths]
        if sizes := {frame.shape for frame in frames if frame.shape != frames[0].shape}:
            (height, width, _), (other_height, other_width, _) = frames[0].shape, sizes.pop()
            raise DataError(
                f"{folder}: pictures of {width}x{height} and {other_width}x{other_height}; write one size"
            )
        return np.stack(frames)
