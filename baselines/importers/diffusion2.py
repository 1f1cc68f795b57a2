"""Diffusion²'s results: 21 views of 25 frames around the object, beside the tensors they were made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines.importers.contract import Found, Given, Lacks, Opened, Wanted
from mvtokenflow.baselines.importers.shots import Shot, open_shots

VIEWS, FRAMES = 21, 25
WHITE = 0.95  # least mean of the border; less is noise that a run on other than eight GPUs leaves
_SIGNATURE = "ref_multiview.pth"


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
        for view in opened.views:
            _refuse_noise(found.root / str(opened.views[view]["from"]), opened, view)
        stated = "as stated" if given.azimuths else "even, the direction of rotation is assumed"
        return opened.with_facts({"azimuths": stated}, (f"azimuths {stated}",))


def _folders() -> list[str]:
    return [f"view_{k:02d}" for k in range(VIEWS)]


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
