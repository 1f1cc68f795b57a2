"""SV4D's and SV4D 2.0's results: a video of 21 frames for each view, `000000_v001.mp4` and so on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.baselines.importers.contract import Found, Given, Lacks, Opened, Wanted
from mvtokenflow.baselines.importers.shots import Shot, open_shots

FRAMES = 21
SV4D_DEG = tuple(360 * k / 21 for k in (2, 5, 7, 9, 12, 14, 16, 19))  # of the 21 views of SV3D
SV4D2_DEG = {4: (60.0, 120.0, 180.0, 240.0), 8: (30.0, 75.0, 120.0, 165.0, 210.0, 255.0, 300.0, 330.0)}
_FILE = re.compile(r"(\d{6})_(v\d{3}|t000|diag|process_input)\.mp4\Z")


@dataclass(frozen=True)
class Sv4d:
    """One run of SV4D: eight views, their slices `_t000` and `_diag`, and the input as it was cropped."""

    name: str = "sv4d"
    repository: str | None = "Stability-AI/generative-models"
    options: tuple[str, ...] = ("azimuths", "views", "nearest_deg")

    def probe(self, folder: Path) -> Found | Lacks:
        """Recognise the eight videos and `_diag.mp4` of one run."""
        run = _run(folder)
        if isinstance(run, Lacks):
            return run
        missing = [part for part in (*_views(8), "diag") if part not in run]
        return Lacks(f"<run>_{missing[0]}.mp4") if missing else Found(root=folder)

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """The views stand at the azimuths of SV3D that SV4D chooses, unless `given.azimuths` has others."""
        return _open(found, wanted, given, SV4D_DEG)


@dataclass(frozen=True)
class Sv4d2:
    """One run of SV4D 2.0: four or eight views and the input as it was cropped."""

    name: str = "sv4d2"
    repository: str | None = "Stability-AI/generative-models"
    options: tuple[str, ...] = ("azimuths", "views", "nearest_deg")

    def probe(self, folder: Path) -> Found | Lacks:
        """Recognise the four or eight videos of one run, without `_diag.mp4`."""
        run = _run(folder)
        if isinstance(run, Lacks):
            return run
        if "diag" in run:
            return Lacks("a run without <run>_diag.mp4, which is one of SV4D")
        missing = [part for part in _views(8 if "v005" in run else 4) if part not in run]
        return Lacks(f"<run>_{missing[0]}.mp4") if missing else Found(root=folder)

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """The views stand at `given.azimuths`, or at the program's default azimuths."""
        run = _run(found.root)
        count = 8 if not isinstance(run, Lacks) and "v005" in run else 4
        return _open(found, wanted, given, SV4D2_DEG[count])


def _views(count: int) -> list[str]:
    return [f"v{k:03d}" for k in range(1, count + 1)]


def _run(folder: Path) -> dict[str, Path] | Lacks:
    """Return the files of the only run in a folder, by the ends of their names."""
    found = [
        (match[1], match[2], path) for path in sorted(folder.iterdir()) if (match := _FILE.match(path.name))
    ]
    runs = sorted({run for run, _, _ in found})
    if len(runs) > 1:
        return Lacks(f"one run; it has {', '.join(runs[:3])}, so move each into a folder")
    return {part: path for _, part, path in found} or Lacks("<run>_v001.mp4")


def _open(found: Found, wanted: Sequence[Wanted], given: Given, default: Sequence[float]) -> Opened:
    run = _run(found.root)
    assert not isinstance(run, Lacks)  # `probe` has looked
    azimuths = given.azimuths or tuple(default)
    if len(azimuths) != len(default):
        raise ConfigError(f"{found.root}: {len(azimuths)} azimuths are stated for {len(default)} views")
    shots = [
        Shot(label=part, path=run[part], azimuth_deg=azimuth)
        for part, azimuth in zip(_views(len(default)), azimuths, strict=True)
    ]
    stated = (
        "azimuths as stated" if given.azimuths else "azimuths the program's default, which it does not store"
    )
    opened = open_shots(shots, wanted, given, found.root, FRAMES)
    return opened.with_facts({"azimuths": stated}, (stated, "the input was cropped, so the framing differs"))


SV4D, SV4D2 = Sv4d(), Sv4d2()
