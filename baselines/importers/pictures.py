"""Anybody's pictures: a folder of frames or a video for each view, whatever its name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import title
from mvtokenflow.baselines.importers.contract import Found, Given, Lacks, Opened, Wanted
from mvtokenflow.baselines.importers.shots import NoViewError, Shot, is_video, open_shots
from mvtokenflow.datasets.layout import entries_of
from mvtokenflow.media.pictures import PICTURES

# az_285, azimuth-75, azi15.5, a_105, 285deg
_DEGREES = r"(-?\d+(?:\.\d+)?)"
_AZIMUTH = re.compile(rf"(?:az?|azim?|azimuth)_?{_DEGREES}(?:_?deg)?\Z|{_DEGREES}_?deg\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Pictures:
    """Pictures of views in folders or videos."""

    name: str = "pictures"
    repository: str | None = None
    options: tuple[str, ...] = ("first", "views", "nearest_deg")

    def probe(self, folder: Path) -> Found | Lacks:
        """Recognise a folder of folders of pictures, or of videos, as one scene."""
        return (
            Found(root=folder) if _sources(folder) else Lacks("a folder of pictures or a video for each view")
        )

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """Match names with views, by `--views`, by the name itself or by an azimuth in it, and read them."""
        names = {view.name for view in wanted}
        shots = [_shot(path, names) for path in _sources(found.root)]
        try:
            return open_shots(shots, wanted, given, found.root)
        except NoViewError as error:
            hint = "if a program wrote them, `mvtf-eval import --kind` with its name lists what is missing"
            raise DataError(f"{error}; {hint}") from error


def azimuth_in(label: str) -> float | None:
    """Return the azimuth in degrees that a name states, such as `az_285`; None if it states none."""
    match = _AZIMUTH.match(label)
    return float(match.group(1) or match.group(2)) if match else None


def _shot(path: Path, names: set[str]) -> Shot:
    label = title(path)
    return Shot(
        label=label,
        path=path,
        view=label if label in names else None,
        azimuth_deg=azimuth_in(label),
    )


def _sources(folder: Path) -> list[Path]:
    return [entry for entry in entries_of(folder) if is_video(entry) or _holds_pictures(entry)]


def _holds_pictures(entry: Path) -> bool:
    endings = tuple(f".{kind}" for kind in PICTURES)
    return entry.is_dir() and any(one.name.lower().endswith(endings) for one in entries_of(entry))


PICTURES_KIND = Pictures()
