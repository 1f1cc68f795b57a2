"""L4GM's results: a video with four views side by side, `wo_interp_<name>_fixed.mp4`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines.importers.contract import Found, Given, Lacks, Opened, Wanted
from mvtokenflow.baselines.importers.shots import Shot, open_shots
from mvtokenflow.media.video import read_opaque

AZIMUTHS_DEG = (0.0, 90.0, 180.0, 270.0)
_FIXED = re.compile(r"wo_interp_(.+)_fixed\.mp4\Z")


@dataclass(frozen=True)
class L4gm:
    """The fixed views of L4GM, without its interpolated frames; it writes no Gaussians."""

    name: str = "l4gm"
    repository: str | None = "nv-tlabs/L4GM-official"
    options: tuple[str, ...] = ("azimuths", "views", "nearest_deg")

    def probe(self, folder: Path) -> Found | Lacks:
        """Recognise one video `wo_interp_<name>_fixed.mp4`, with `<name>_orig.png` beside it."""
        found = {match[1]: path for path in sorted(folder.iterdir()) if (match := _FIXED.match(path.name))}
        if len(found) != 1:
            return Lacks(f"one video wo_interp_<name>_fixed.mp4; it has {len(found)}")
        name = next(iter(found))
        if not (folder / f"{name}_orig.png").is_file():
            return Lacks(f"{name}_orig.png")
        return Found(root=folder, scene=name)

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """Cut the four views apart; they stand at 0, 90, 180 and 270 degrees unless stated otherwise."""
        path = found.root / f"wo_interp_{found.scene}_fixed.mp4"
        height, width = read_opaque(path).pictures.shape[1:3]
        azimuths = given.azimuths or AZIMUTHS_DEG
        if len(azimuths) != len(AZIMUTHS_DEG):
            raise ConfigError(
                f"{found.root}: {len(azimuths)} azimuths are stated for {len(AZIMUTHS_DEG)} views"
            )
        if width != len(AZIMUTHS_DEG) * height:
            raise DataError(
                f"{path}: {width}x{height} pixels are no four square views side by side; copy it again"
            )
        shots = [
            Shot(
                label=f"az_{azimuth:g}", path=path, azimuth_deg=azimuth, columns=(k * height, (k + 1) * height)
            )
            for k, azimuth in enumerate(azimuths)
        ]
        return open_shots(shots, wanted, given, found.root)


L4GM = L4gm()
