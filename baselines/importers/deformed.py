"""Gaussians moved by planes, as STAG4D and 4DGen store them: a .ply and a `deformation.pth`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines.importers.checkpoints import read_state
from mvtokenflow.baselines.importers.contract import Given, Opened, Wanted
from mvtokenflow.baselines.importers.plies import read_raw
from mvtokenflow.baselines.importers.rendered import (
    frame_numbers_of,
    gaussians_drawn,
    method_cameras,
    open_rendered,
)
from mvtokenflow.radiance.heads import BOUNDS, HeadKind, PlaneDeformation, from_checkpoint, moved
from mvtokenflow.splat.gaussians import Gaussians

NETWORK = "deformation.pth"
PARTS = (NETWORK, "deformation_table.pth", "deformation_accum.pth")
RADIUS = 2.0
CLIP = 32  # frames of the benchmark's clips
_GRID = re.compile(r"grid\.grids\.(\d+)\.(\d+)\Z")
# Parameters that pictures do not depend on: the head of opacities, an encoding of time, and bands of encodings.
_UNUSED = re.compile(r"timenet\.|deformation_net\.(opacity_deform\.|grid\.aabb\Z)|\w+_poc\Z")


@dataclass(frozen=True)
class Fitted:
    """How many frames a result has, and how that is known."""

    frames: int
    why: str


def fitted(given: Given, wanted: Sequence[Wanted], default: int, where: Path) -> Fitted:
    """Return the number of frames: as stated, or that of the published settings for clips of `CLIP` frames.

    Raises:
        ConfigError: the dataset's clip has another length, and nobody states it.
    """
    if given.frames is not None:
        return Fitted(given.frames, "as stated")
    known = next((view.numbers for view in wanted if view.numbers is not None), None)
    if known is not None and len(known) not in (CLIP, default):
        raise ConfigError(
            f"{where}: fitted to {default} frames by default, the dataset has {len(known)}; say how many it "
            "was with `mvtf-eval import --frames N`"
        )
    return Fitted(default, "the published settings")


def open_deformed(
    model: Path, wanted: Sequence[Wanted], given: Given, fit: Fitted, remarks: tuple[str, ...] = ()
) -> Opened:
    """Render Gaussians at the times n / N.

    Args:
        model: the .ply, beside its `deformation.pth`.

    Raises:
        DataError, ConfigError: as `contract.Kind.open`.
    """
    raw, network = read_raw(model), read_deformation(model.with_name(NETWORK))

    def at(index: int) -> Gaussians:
        motion = network(raw.rest.means, [index / fit.frames])
        means, log_scales, quats = moved(raw.rest.means, raw.log_scales, raw.quats, motion)
        return raw.moved(means[0], log_scales[0], quats[0])

    cameras, facts, assumed = method_cameras(wanted, given, "dreamgaussian", RADIUS)
    numbers, short = frame_numbers_of(fit.frames, wanted)
    return open_rendered(
        gaussians_drawn(at, model.parent),
        files=[model, model.with_name(NETWORK)],
        numbers=numbers,
        wanted=wanted,
        cameras=cameras,
        facts={"time": f"n / {fit.frames}", "frames from": fit.why, **facts},
        remarks=(*remarks, *short, *assumed),
    )


def lacking_parts(folder: Path) -> list[str]:
    """Return which files of a deformation are not in a folder."""
    return [name for name in PARTS if not (folder / name).is_file()]


def read_deformation(path: Path) -> PlaneDeformation:
    """Return the network of a `deformation.pth`, of the sizes in the file.

    Raises:
        DataError: no such file, not such a network, or one with parts that are not known here.
    """
    state = read_state(path)
    unknown = sorted(name for name in state if not _UNUSED.match(name) and not _is_read(name))
    if unknown:
        raise DataError(f"{path}: has {unknown[0]}, which is no part of the networks that are read")
    with damage(path, "not a deformation by planes", "copy it again"):
        chosen = from_checkpoint(state)
        network = _sized(chosen, state.get("deformation_net.grid.aabb"))
        network.load_state_dict(chosen)
    return network.requires_grad_(False)


def _is_read(name: str) -> bool:
    inside = name.removeprefix("deformation_net.")
    return inside != name and bool(from_checkpoint({name: torch.empty(0)}))


def _sized(chosen: Mapping[str, Tensor], box: Tensor | None) -> PlaneDeformation:
    """Return an empty network of the shapes of stored parameters; of the box that they state."""
    planes = {(int(m[1]), int(m[2])): value for name, value in chosen.items() if (m := _GRID.match(name))}
    levels = 1 + max(level for level, _ in planes)
    sides = [_resolution(planes, level) for level in range(levels)]
    factors = [side[0] // sides[0][0] for side in sides]
    heads: HeadKind = "residual" if "pos_deform.feature_out.0.main_stream.weight" in chosen else "plain"
    layers = [name for name in chosen if re.match(r"feature_out\.\d+\.weight\Z", name)]
    bounds, mirrored = BOUNDS, True
    if box is not None:
        bounds, mirrored = float(box.abs().max()), bool(box[0, 0] > box[1, 0])
        if not torch.allclose(box.abs(), torch.full_like(box, bounds)):
            raise ValueError(f"a box that is no cube around the origin, {box.tolist()}")
    return PlaneDeformation(
        sides[0],
        factors,
        planes[0, 0].shape[1],
        chosen["feature_out.0.weight"].shape[0],
        heads=heads,
        depth=len(layers),
        bounds=bounds,
        mirrored=mirrored,
    )


def _resolution(planes: Mapping[tuple[int, int], Tensor], level: int) -> list[int]:
    """Entries along x, y, z, t, from the planes xy, xz and xt, whose first axis is the last of a picture."""
    xy, xz, xt = (planes[level, index] for index in range(3))
    return [xy.shape[3], xy.shape[2], xz.shape[2], xt.shape[2]]
