"""Diffusion²'s results: 21 views of 25 frames around the object, beside the tensors they were made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines.importers.contract import Found, Given, Lacks, Opened, Wanted
from mvtokenflow.baselines.importers.shots import Shot, open_shots
from mvtokenflow.media.pictures import read_rgb

VIEWS, FRAMES = 21, 25
WHITE = 0.95  # least mean of the border; less is noise that a run on other than eight GPUs leaves
_SIGNATURE = "ref_multiview.pth"
_INPUT = VIEWS - 1  # view that shows the input's frames
_OBJECT = 230  # of 255: a pixel with a channel below is the object's


@dataclass(frozen=True)
class DiffusionSquare:
    """The image matrix of Diffusion², sampled at even azimuths; the last view is the input's."""

    name: str = "diffusion2"
    repository: str | None = "fudan-zvg/diffusion-square"
    options: tuple[str, ...] = ("azimuths", "views", "nearest_deg")

    def probe(self, folder: Path) -> Found | Lacks:
        """Recognise `ref_multiview.pth` beside the views' folders, here or in the only `default_seed_*`."""
        below = sorted(path for path in folder.glob("default_seed_*") if path.is_dir())
        root = below[0] if len(below) == 1 else folder
        if not (root / _SIGNATURE).is_file():
            return Lacks(_SIGNATURE)
        missing = [name for name in _folders() if not (root / name).is_dir()]
        return Lacks(f"{missing[0]}/ beside {_SIGNATURE}") if missing else Found(root=root)

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """View k stands at 360 (k + 1) / 21 degrees, or at `given.azimuths`; views need a white border."""
        azimuths = given.azimuths or tuple(360 * (k + 1) / VIEWS for k in range(VIEWS))
        if len(azimuths) != VIEWS:
            raise ConfigError(f"{found.root}: {len(azimuths)} azimuths are stated for {VIEWS} views")
        shots = [
            Shot(
                label=name,
                path=found.root / name,
                azimuth_deg=azimuth,
                files=tuple(found.root / name / f"frame_{n:02d}.png" for n in range(FRAMES)),
            )
            for name, azimuth in zip(_folders(), azimuths, strict=True)
        ]
        opened = open_shots(shots, wanted, given, found.root, FRAMES)
        _refuse_reframed(shots[_INPUT].path, shots[_INPUT].files or ())
        for view in opened.views:
            _refuse_noise(found.root / str(opened.views[view]["from"]), opened, view)
        stated = "as stated" if given.azimuths else "even, the direction of rotation is assumed"
        return opened.with_facts({"azimuths": stated}, (f"azimuths {stated}",))


def _folders() -> list[str]:
    return [f"view_{k:02d}" for k in range(VIEWS)]


def _refuse_reframed(folder: Path, files: Sequence[Path]) -> None:
    """Refuse frames that were each scaled and centred on their own, as `--image_frame_ratio` does.

    The object's larger side and its middle are then those of the picture in all frames, while its other side
    changes. Such views show no motion in depth or across the picture and match no camera of a dataset.

    Raises:
        DataError: they are.
    """
    boxes = []
    for file in files:
        picture = read_rgb(file)
        shown = picture.min(-1) < _OBJECT
        rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
        if not len(rows):
            return
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1, *picture.shape[1::-1]))
    left, top, right, bottom, width, height = np.array(boxes, float).T
    slack = np.maximum(1, width / 200)
    sides = np.sort([right - left, bottom - top], axis=0)
    middle = np.stack([left + right - width, top + bottom - height])
    centred = abs(middle) <= 2 * slack
    alike = (abs(sides[1] - sides[1, 0]) <= slack).all()
    if centred.all() and alike and np.ptp(sides[0]) > 2 * slack[0]:
        raise DataError(
            f"{folder}: the object is as large and as centred in every frame, while its shape changes; the "
            "frames were scaled one by one and match no camera. Run it again without --image_frame_ratio"
        )


def _refuse_noise(folder: Path, opened: Opened, view: str) -> None:
    for index in range(len(opened.numbers)):
        picture = opened.draw(view, index)
        border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        level = float(border.mean()) / 255
        if level < WHITE:
            raise DataError(
                f"{folder}: frame {index} has a border of mean {level:.2f}, not white; run it on eight GPUs"
            )


DIFFUSION2 = DiffusionSquare()
