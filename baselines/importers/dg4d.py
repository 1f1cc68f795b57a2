"""DreamGaussian4D's results: `<X>_frames/000.ply ...`, deformed already, beside `<X>_model.ply`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import frame_files, frame_numbers
from mvtokenflow.baselines.importers.contract import Found, Given, Lacks, Opened, Wanted
from mvtokenflow.baselines.importers.plies import columns_of, is_gaussians, read_gaussians
from mvtokenflow.baselines.importers.rendered import (
    frame_numbers_of,
    frames_fitted,
    gaussians_drawn,
    method_cameras,
    open_rendered,
)
from mvtokenflow.datasets.layout import entries_of

FRAMES = 32  # the configuration 4d_c4d.yaml
BETWEEN = 4  # files for each frame, three of which are interpolated
RADIUS_LGM, RADIUS_DREAMGAUSSIAN = 1.5, 2.0
_FOLDER = re.compile(r"(.+)_frames\Z")
_FILE = re.compile(r"\d{3}\.ply\Z")


@dataclass(frozen=True)
class DreamGaussian4D:
    """Frames that DreamGaussian4D exports."""

    name: str = "dg4d"
    repository: str | None = "jiawei-ren/dreamgaussian4d"
    options: tuple[str, ...] = ("frames", "radius", "fov_deg")

    def probe(self, folder: Path) -> Found | Lacks:
        """Recognise `<X>_frames` with `<X>_model.ply` beside it, or the folder that holds both."""
        inside = [entry for entry in entries_of(folder) if _FOLDER.match(entry.name) and entry.is_dir()]
        frames = inside[0] if len(inside) == 1 else folder
        match = _FOLDER.match(frames.name)
        if match is None or not is_gaussians(frames / "000.ply"):
            return Lacks("one folder <X>_frames with 000.ply of 3D Gaussians")
        model = frames.parent / f"{match.group(1)}_model.ply"
        if not model.is_file():
            return Lacks(f"{model.name} beside {frames.name}")
        return Found(root=frames, scene=match.group(1))

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """Take file 4 n as frame n; with as many files as frames, file n."""
        paths = frame_files(found.root, ("ply",))
        _refuse_gaps(found.root, paths)
        count = frames_fitted(given, wanted, FRAMES, found.root)
        if len(paths) not in (count, BETWEEN * count):
            raise DataError(
                f"{found.root}: {len(paths)} files for {count} frames, expected {BETWEEN * count} or {count}; "
                "copy them all, or say the number of frames with `mvtf-eval import --frames N`"
            )
        step = len(paths) // count
        chosen = paths[::step]
        model = found.root.parent / f"{found.scene}_model.ply"
        for path in (model, *chosen):
            read_gaussians(path)
        radius, why = _radius(model, given)
        cameras, facts, assumed = method_cameras(wanted, given, "dreamgaussian", radius)
        numbers, short = frame_numbers_of(count, wanted)
        return open_rendered(
            gaussians_drawn(lambda index: read_gaussians(chosen[index]), found.root),
            files=(model, *chosen[: len(numbers)]),
            numbers=numbers,
            wanted=wanted,
            cameras=cameras,
            facts={"time": f"frame n is file {step} n of {len(paths)}", "radius from": why, **facts},
            remarks=(*short, f"radius {facts['radius']:g}, {why}", *assumed),
        )


def _refuse_gaps(folder: Path, paths: Sequence[Path]) -> None:
    stray = next((path.name for path in paths if not _FILE.match(path.name)), None)
    if stray is not None:
        raise DataError(f"{folder}: {stray} is no frame of three digits; move it out of the folder")
    lacking = sorted(set(range(len(paths))) - set(frame_numbers(paths)))
    if lacking:
        raise DataError(f"{folder}: {lacking[0]:03d}.ply is missing; copy it again")


def _radius(model: Path, given: Given) -> tuple[float, str]:
    """Return the distance of the cameras, which depends on the static model's origin, and how it was found out.

    LGM writes no normals; DreamGaussian, which stands farther away, writes them.
    """
    if given.radius is not None:
        return given.radius, "as stated"
    if "nx" in columns_of(model):
        return RADIUS_DREAMGAUSSIAN, f"as {model.name} has normals, of DreamGaussian"
    return RADIUS_LGM, f"as {model.name} has no normals, of LGM"


DG4D = DreamGaussian4D()
