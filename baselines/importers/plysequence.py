"""A folder of numbered .ply files, one static set of Gaussians for each frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvtokenflow.base.files import frame_files, frame_numbers
from mvtokenflow.baselines.importers.contract import Found, Given, Lacks, Opened, Wanted, World, numbered
from mvtokenflow.baselines.importers.plies import is_gaussians, read_gaussians
from mvtokenflow.baselines.importers.rendered import gaussians_drawn, method_cameras, open_rendered
from mvtokenflow.views.cameras import Cameras

RADIUS = 2.0


@dataclass(frozen=True)
class PlySequence:
    """Gaussians of anybody's, a .ply for each frame, in this project's world unless the user names another."""

    name: str = "ply"
    repository: str | None = None
    options: tuple[str, ...] = ("first", "radius", "fov_deg", "world")

    def probe(self, folder: Path) -> Found | Lacks:
        """Numbered .ply files of 3D Gaussian Splatting, and no other .ply."""
        paths = sorted(folder.glob("*.ply"))
        if len(paths) > 1 and is_gaussians(paths[0]):
            return Found(root=folder)
        return Lacks("numbered .ply files of 3D Gaussians")

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """Read every file; cameras are the dataset's own where it has some and the world is this project's."""
        paths = frame_files(found.root, ("ply",))
        known = next((view.numbers for view in wanted if view.numbers is not None), None)
        numbers, remarks = numbered(frame_numbers(paths), known, given.first, found.root)
        for path in paths:
            read_gaussians(path)
        cameras, facts, assumed = _cameras(wanted, given, given.world or "here")
        return open_rendered(
            gaussians_drawn(lambda index: read_gaussians(paths[index]), found.root),
            files=paths,
            numbers=numbers,
            wanted=wanted,
            cameras=cameras,
            facts={"time": "a file for each frame", **facts},
            remarks=(*remarks, *assumed),
        )


def _cameras(
    wanted: Sequence[Wanted], given: Given, world: World
) -> tuple[dict[str, Cameras], dict[str, Any], tuple[str, ...]]:
    own = {view.name: view.cameras for view in wanted if view.cameras is not None}
    stated = given.radius is not None or given.fov_deg is not None
    if world != "here" or stated or len(own) < len(wanted):
        return method_cameras(wanted, given, world, RADIUS)
    sized = {view.name: own[view.name] for view in wanted if own[view.name].width == view.width}
    if len(sized) < len(wanted):
        return method_cameras(wanted, given, world, RADIUS)
    return sized, {"radius": None, "fov_deg": None, "world": world, "cameras": "the dataset's"}, ()


PLY_SEQUENCE = PlySequence()
