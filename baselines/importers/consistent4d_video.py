"""Consistent4D's validation video `save/it<k>-val.mp4`: four views one after another, by `--validate`.

Asked by name only: a trial that has its checkpoint is better rendered from it, at any size.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvtokenflow.base.errors import DataError
from mvtokenflow.baselines.importers.consistent4d import FRAMES, is_trial
from mvtokenflow.baselines.importers.contract import Found, Given, Lacks, Opened, Wanted
from mvtokenflow.baselines.importers.rendered import frames_fitted
from mvtokenflow.baselines.importers.shots import Shot, open_shots
from mvtokenflow.media.video import read_opaque

# Poses 19, 1, 7 and 13 of 24 on the orbit, in this order.
AZIMUTHS_DEG = (-75.0, 15.0, 105.0, 195.0)
_VIDEO = re.compile(r"it(\d+)-val\.mp4\Z")


@dataclass(frozen=True)
class Consistent4DVideo:
    """The pictures of four held-out views that Consistent4D's `--validate` writes."""

    name: str = "consistent4d-video"
    repository: str | None = "yanqinJiang/Consistent4D"
    options: tuple[str, ...] = ("frames",)

    def probe(self, folder: Path) -> Found | Lacks:
        """Recognise a trial with its settings and `save/it<k>-val.mp4`."""
        if not is_trial(folder):
            return Lacks("configs/parsed.yaml of consistent4d-system")
        return Found(root=folder) if _videos(folder) else Lacks("save/it<k>-val.mp4")

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """Cut the last video apart; each picture is colours, normals and depth side by side.

        Raises:
            DataError: it is not four views of the clip, as of a training, whose video has other poses.
        """
        videos = _videos(found.root)
        path = videos[max(videos)]
        count = frames_fitted(given, wanted, FRAMES, found.root)
        pictures, height, width = read_opaque(path).pictures.shape[:3]
        if width != 3 * height:
            raise DataError(f"{path}: {width}x{height} pixels are no three squares side by side; copy it again")
        if pictures != len(AZIMUTHS_DEG) * count:
            raise DataError(
                f"{path}: {pictures} pictures are not four views of {count} frames; a training's video has "
                "other poses: let the program validate, or import its checkpoint"
            )
        shots = [
            Shot(
                label=f"az_{azimuth:g}",
                path=path,
                azimuth_deg=azimuth,
                columns=(0, height),
                span=(k * count, (k + 1) * count),
            )
            for k, azimuth in enumerate(AZIMUTHS_DEG)
        ]
        return open_shots(shots, wanted, given, found.root, count)


def _videos(folder: Path) -> dict[int, Path]:
    return {int(m[1]): path for path in folder.glob("save/*.mp4") if (m := _VIDEO.match(path.name))}


CONSISTENT4D_VIDEO = Consistent4DVideo()
