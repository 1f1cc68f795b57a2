"""Somebody's renderings in the Consistent4D layout as a row: `<root>/<scene>/<view>/<n>.png`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvtokenflow.baselines.method import Progress, Rendering, Source
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.errors import DataError
from mvtokenflow.files import digest, frame_files, sha256_file
from mvtokenflow.video import read_rgb


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
        pictures = sorted(self.root.rglob("*.png"))
        files = ((str(path.relative_to(self.root)), sha256_file(path).encode()) for path in pictures)
        return {"imported": digest(files)}

    def weights(self) -> Sequence[str]:
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        folder = self.root / scene.name
        views = [view.name for view in (scene.input, *scene.views) if (folder / view.name).is_dir()]
        if not views:
            raise DataError(
                f"{folder}: no view folders; {self.name} needs {scene.views[0].name} and the others there"
            )
        renderings = {}
        for done, view in enumerate(views):
            progress("import", done, len(views))
            renderings[view] = Rendering(rgb=np.stack([read_rgb(path) for path in frame_files(folder / view)]))
        return renderings
