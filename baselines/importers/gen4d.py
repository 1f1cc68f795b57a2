"""4DGen's results: `point_cloud/iteration_<k>/` of a run of 4DGaussians."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvtokenflow.baselines.importers.contract import Found, Given, Lacks, Opened, Wanted
from mvtokenflow.baselines.importers.deformed import fitted, lacking_parts, open_deformed
from mvtokenflow.baselines.importers.plies import is_gaussians

FRAMES = 16
_MODEL = "point_cloud.ply"
_ITERATION = re.compile(r"iteration_(\d+)\Z")


@dataclass(frozen=True)
class FourDGen:
    """The last iteration of a run of 4DGen."""

    name: str = "4dgen"
    repository: str | None = "VITA-Group/4DGen"
    options: tuple[str, ...] = ("frames", "radius", "fov_deg")

    def probe(self, folder: Path) -> Found | Lacks:
        """Recognise a run with `point_cloud/iteration_<k>`, or one such iteration."""
        found = {
            int(match[1]): path
            for path in folder.glob("point_cloud/*")
            if (match := _ITERATION.match(path.name))
        }
        root = found[max(found)] if found else folder
        lacking = [*([] if is_gaussians(root / _MODEL) else [_MODEL]), *lacking_parts(root)]
        if lacking:
            inside = "" if found else " in point_cloud/iteration_<k>"
            return Lacks(f"{', '.join(lacking)}{inside}")
        return Found(root=root)

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """Open the frames at the times n / N, by default of 16."""
        fit = fitted(given, wanted, FRAMES, found.root)
        remarks = (f"iteration {match[1]}",) if (match := _ITERATION.match(found.root.name)) else ()
        return open_deformed(found.root / _MODEL, wanted, given, fit, remarks)


GEN4D = FourDGen()
