"""Renderings made elsewhere, in the Consistent4D layout `<root>/<scene>/<view>/<n>.png`, as a row.

A scene that `importers` wrote has an `import.json` beside its views, which states what it was made from and
what was assumed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import digest, frame_files, frame_numbers, sha256_file, utf8_name
from mvtokenflow.base.names import name_fault
from mvtokenflow.baselines.method import Progress, Rendering, Source
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.media.video import read_rgb

RECORD = "import.json"


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
        """Return a digest over every file, so that different renderings are different runs."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; expected <scene>/eval_<i>/<n>.png in it")
        return {"imported": _digest_of(self.root)}

    def weights(self) -> Sequence[str]:
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        return renderings_in(self.root / scene.name, self.name, scene, progress)


@dataclass(frozen=True)
class ImportedRun:
    """Results that `importers` turned into pictures, each scene with its own record.

    Attributes:
        name: row label.
        root: folder that messages name.
        folders: by scene the folder with its views and its `import.json`.
    """

    name: str
    root: Path
    folders: Mapping[str, Path]
    source: Source = "upstream-run"
    uses_truth: bool = False

    def config(self) -> Mapping[str, Any]:
        """Return the settings of all scenes."""
        return {scene: self.scene_config(scene) for scene in sorted(self.folders)}

    def scene_config(self, scene: str) -> Mapping[str, Any]:
        """Return a scene's record and the digest of its pictures: another assumption is another run."""
        folder = self.folders.get(scene)
        if folder is None:
            return {"import": None}
        return {"import": read_record(folder), "imported": _digest_of(folder)}

    def weights(self) -> Sequence[str]:
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        if scene.name not in self.folders:
            raise DataError(f"{self.root}: holds no results of {scene.name}; import them")
        folder = self.folders[scene.name]
        if missing := unfinished(folder, read_record(folder)):
            raise DataError(f"{missing}: not written yet; give the command of the import again, it goes on")
        return renderings_in(folder, self.name, scene, progress)


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a scene's import, `<folder>/import.json`.

    Raises:
        DataError: no readable file, or not such a record.
    """
    return read_json(folder / RECORD, dict, "import the scene again, into an empty folder", check=_check_record)


def _check_record(record: dict[str, Any]) -> None:
    if not isinstance(record["kind"], str) or not record["views"] or not record["numbers"]:
        raise ValueError("it states no kind, views or numbers")
    for view in record["views"]:
        if fault := name_fault(view):
            raise ValueError(f"a view's name {fault}")
    if not all(isinstance(number, int) and number >= 0 for number in record["numbers"]):
        raise TypeError("its numbers are no whole numbers")
    if not all(isinstance(remark, str) for remark in record["remarks"]):
        raise TypeError("its remarks are no texts")


def unfinished(folder: Path, record: Mapping[str, Any]) -> Path | None:
    """Return the first picture of an import that is not there; None if all are."""
    paths = (folder / view / f"{number}.png" for view in record["views"] for number in record["numbers"])
    return next((path for path in paths if not path.is_file()), None)


def is_imported(root: Path) -> bool:
    """Return whether a folder holds scenes that `importers` wrote."""
    return next(root.glob(f"*/{RECORD}"), None) is not None


def imported_run(name: str, root: Path) -> ImportedRun:
    """Return the row of a folder that `importers` wrote."""
    folders = {path.parent.name: path.parent for path in sorted(root.glob(f"*/{RECORD}"))}
    return ImportedRun(name=name, root=root, folders=folders)


def _digest_of(folder: Path) -> str:
    """Digest over the names and bytes of all pictures below a folder, links to folders followed."""
    found = (path for pattern in ("*", "*/*", "*/*/*") for path in folder.glob(pattern))
    pictures = sorted(utf8_name(path) for path in found if path.suffix.lower() == ".png" and path.is_file())
    return digest((str(path.relative_to(folder)), sha256_file(path).encode()) for path in pictures)


def renderings_in(folder: Path, name: str, scene: Scene, progress: Progress) -> Mapping[str, Rendering]:
    """Read the pictures of a scene, `<folder>/<view>/<n>.png`.

    Args:
        name: of the row, for messages.

    Raises:
        DataError: no view is there, a frame is missing or not in the reference, or a picture cannot be used.
    """
    views = [view for view in scene.all_views() if (folder / view.name).is_dir()]
    if not views:
        raise DataError(f"{folder}: no view folders; {name} needs {scene.views[0].name} and the others there")
    renderings = {}
    for done, view in enumerate(views):
        progress("import", done, len(views))
        renderings[view.name] = Rendering(rgb=_frames(folder / view.name, view))
    return renderings


def _frames(folder: Path, view: View) -> NDArray[np.uint8]:
    """Return the frames (T, H, W, 3) of a view; they must be the reference's from its first one on."""
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
