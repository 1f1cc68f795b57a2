"""STAG4D's results: `logs/<X>8000/` with the Gaussians and the network that moves them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvtokenflow.baselines.importers.contract import Found, Given, Lacks, Opened, Wanted
from mvtokenflow.baselines.importers.deformed import fitted, lacking_parts, open_deformed
from mvtokenflow.baselines.importers.plies import is_gaussians

FRAMES = 30  # of the configuration, of clips with 32
_MODEL = "model.ply"


@dataclass(frozen=True)
class Stag4d:
    """The last checkpoint of STAG4D."""

    name: str = "stag4d"
    repository: str | None = "zeng-yifei/STAG4D"
    options: tuple[str, ...] = ("frames", "radius", "fov_deg")

    def probe(self, folder: Path) -> Found | Lacks:
        """Recognise a folder with `model.ply` and the three files of the deformation."""
        lacking = [*([] if is_gaussians(folder / _MODEL) else [_MODEL]), *lacking_parts(folder)]
        if lacking:
            return Lacks(", ".join(lacking))
        return Found(root=folder, scene=re.sub(r"(?<=.)\d{4,5}\Z", "", folder.resolve().name))

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """Open the frames 0 to N - 1 at the times n / N; the files do not hold N."""
        fit = fitted(given, wanted, FRAMES, found.root)
        return open_deformed(found.root / _MODEL, wanted, given, fit)


STAG4D = Stag4d()
