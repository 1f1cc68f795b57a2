"""Consistent4D's results: the radiance field of `ckpts/last.ckpt`, rendered along rays."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mvtokenflow.base.damaged import bounded_bytes, damage
from mvtokenflow.base.errors import DataError
from mvtokenflow.baselines.importers.checkpoints import read_state
from mvtokenflow.baselines.importers.contract import Found, Given, Lacks, Opened, Wanted
from mvtokenflow.baselines.importers.rendered import (
    frame_numbers_of,
    frames_fitted,
    method_cameras,
    open_rendered,
)
from mvtokenflow.media.pictures import Pixels, to_uint8
from mvtokenflow.radiance.cascade import CascadeField, CascadeLevel
from mvtokenflow.radiance.occupancy import Occupancy
from mvtokenflow.radiance.planes import signed_time
from mvtokenflow.radiance.quadrature import Rays, box_span, composite, pixel_rays, points_on
from mvtokenflow.views.cameras import Cameras

FRAMES = 32
RADIUS = 2.0
SAMPLES = 256  # along the diagonal of the box, which fixes the step
_CHECKPOINT = Path("ckpts") / "last.ckpt"
_SYSTEM = b"consistent4d-system"
_CHUNK = 4096  # rays
_GRID = re.compile(r"grids\.(\d+)\.0\Z")


@dataclass(frozen=True)
class Field:
    """A field with the cells in which its program looks; None is everywhere."""

    radiance: CascadeField
    occupied: Occupancy | None


@dataclass(frozen=True)
class Consistent4D:
    """The last checkpoint of Consistent4D."""

    name: str = "consistent4d"
    repository: str | None = "yanqinJiang/Consistent4D"
    options: tuple[str, ...] = ("frames", "radius", "fov_deg")

    def probe(self, folder: Path) -> Found | Lacks:
        """Recognise a trial with its settings and its last checkpoint."""
        if not is_trial(folder):
            return Lacks(f"configs/parsed.yaml with {_SYSTEM.decode()}")
        if not (folder / _CHECKPOINT).is_file():
            return Lacks(str(_CHECKPOINT))
        return Found(root=folder)

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """Open the frames at the times 2 n / N - 1, of the finest level, in the original's steps along rays."""
        path = found.root / _CHECKPOINT
        field = read_field(path)
        count = frames_fitted(given, wanted, FRAMES, found.root)
        cameras, facts, assumed = method_cameras(wanted, given, "threestudio", RADIUS)
        numbers, short = frame_numbers_of(count, wanted)

        def draw(index: int, camera: Cameras) -> Pixels:
            return to_uint8(render(field, camera, signed_time(index, count)).clamp(0, 1).numpy())

        everywhere = () if field.occupied is not None else ("without the grid of occupied cells",)
        return open_rendered(
            draw,
            files=[path],
            numbers=numbers,
            wanted=wanted,
            cameras=cameras,
            facts={"time": f"2 n / {count} - 1", "samples": SAMPLES, **facts},
            remarks=(*everywhere, *short, *assumed),
        )


def is_trial(folder: Path) -> bool:
    """Return whether a folder has the settings of a trial of Consistent4D."""
    settings = [folder / "configs" / name for name in ("parsed.yaml", "raw.yaml")]
    return any(path.is_file() and _SYSTEM in bounded_bytes(path) for path in settings)


def read_field(path: Path) -> Field:
    """Return the field of a Lightning checkpoint, of the sizes in the file.

    Raises:
        DataError: no such file, not such a field, or NaN.
    """
    state = read_state(path, "state_dict")
    inside = {
        name.removeprefix("geometry."): value for name, value in state.items() if name.startswith("geometry.")
    }
    box = inside.pop("bbox", None)
    used = {name: value for name, value in inside.items() if name.startswith(_PARTS)}
    with damage(path, "not a field of Consistent4D", "copy it again"):
        count = sum(_GRID.match(name) is not None for name in used)
        radius = 1.0 if box is None else float(box.abs().max())
        field = CascadeField([_level(used, level) for level in range(count)], radius=radius)
        field.load_state_dict(used)
        occupied = _occupied(state, radius)
    if unknown := sorted(set(inside) - set(used)):
        raise DataError(f"{path}: has geometry.{unknown[0]}, which is no part of the fields that are read")
    return Field(field.requires_grad_(False), occupied)


_PARTS = ("grids.", "density_network.", "feature_network.")


def _level(state: Mapping[str, Tensor], level: int) -> CascadeLevel:
    xy, xz, xt = (state[f"grids.{level}.{index}"] for index in range(3))
    width = state[f"density_network.{level}.layers.0.weight"].shape[0]
    return CascadeLevel(
        resolution=(xy.shape[3], xy.shape[2], xz.shape[2], xt.shape[2]), channels=xy.shape[1], width=width
    )


def _occupied(state: Mapping[str, Tensor], radius: float) -> Occupancy | None:
    cells = state.get("renderer.estimator.binaries")
    if cells is None or not bool(cells.any()):
        return None
    return Occupancy(cells.reshape(cells.shape[-3:]).float(), radius)


@torch.no_grad()
def render(field: Field, camera: Cameras, time: float) -> Tensor:
    """Return the picture (H, W, 3) of a field on white through one camera, at a time of -1 to 1."""
    origins, directions = (part[0].flatten(0, 1) for part in pixel_rays(camera))
    rows = [
        _colours(field, Rays(origins[start : start + _CHUNK], directions[start : start + _CHUNK]), time)
        for start in range(0, len(origins), _CHUNK)
    ]
    return torch.cat(rows).reshape(camera.height, camera.width, 3)


def _colours(field: Field, rays: Rays, time: float) -> Tensor:
    """Return the colours (R, 3) of rays, in steps of one length from where each enters the box."""
    radiance = field.radiance
    step = 2 * radiance.radius * 3**0.5 / SAMPLES
    near, far = box_span(rays, radiance.radius)
    count = max(1, int(torch.ceil((far - near).max() / step)))
    starts = near[:, None] + step * torch.arange(count)
    middles = starts + step / 2
    points = points_on(rays, middles)
    used = middles < far[:, None]
    if field.occupied is not None:
        used &= field.occupied.contains(points, 0.5)
    density, colours = torch.zeros(starts.shape), torch.zeros(*starts.shape, 3)
    if bool(used.any()):
        inside = points[used]
        found = radiance(inside, torch.full((len(inside), 1), time))
        density[used], colours[used] = found.density[-1, :, 0], found.colours[-1]
    return composite(density, colours, starts, starts + step).colour


CONSISTENT4D = Consistent4D()
