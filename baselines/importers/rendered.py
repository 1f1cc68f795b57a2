"""Rendering moving results at the dataset's views: their cameras are converted, never the results."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines.importers.contract import Given, Opened, Wanted, World
from mvtokenflow.media.pictures import Pixels, to_uint8
from mvtokenflow.splat.field import render_gaussians
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.views.cameras import (
    Cameras,
    from_blender,
    orbit,
    to_dreamgaussian,
    to_threestudio,
)

FOV_DEG = 49.1  # of all the methods
Draw = Callable[[int, Cameras], Pixels]  # position of a frame and one camera, in the method's world


def camera_at(view: Wanted, radius: float, fov_deg: float) -> Cameras:
    """Return the pinhole camera (1,) at a view's angles that looks at the origin."""
    made = orbit(
        (view.azimuth_deg,),
        view.elevation_deg,
        size=view.height,
        kind="pinhole",
        radius=radius,
        fov_deg=fov_deg,
    )
    intrinsics = made.intrinsics.clone()
    intrinsics[:, 0, 2] = view.width / 2
    return replace(made, intrinsics=intrinsics, width=view.width)


def in_world(cameras: Cameras, world: World) -> Cameras:
    """Return the same cameras in the coordinates of another world, with the axes of this project's cameras."""
    if world == "here":
        return cameras
    leave = to_dreamgaussian if world == "dreamgaussian" else to_threestudio
    return replace(cameras, world_to_camera=from_blender(leave(cameras.world_to_camera)))


def frames_fitted(given: Given, wanted: Sequence[Wanted], default: int, where: Path) -> int:
    """Return the number of frames that a method was fitted to, where its files do not hold it.

    Raises:
        ConfigError: the dataset's clip is not as long as the method takes by default, and nobody states it.
    """
    if given.frames is not None:
        return given.frames
    known = next((view.numbers for view in wanted if view.numbers is not None), None)
    if known is not None and len(known) != default:
        raise ConfigError(
            f"{where}: fitted to {default} frames by default, the dataset has {len(known)}; say how many it "
            f"was with `mvtf-eval import --frames {len(known)}`"
        )
    return default


def frame_numbers_of(count: int, wanted: Sequence[Wanted]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the dataset's frame numbers of a field with `count` frames, as many as both have, and remarks."""
    known = next((view.numbers for view in wanted if view.numbers is not None), None)
    if known is None:
        return tuple(range(count)), ()
    short = (f"{count} of {len(known)} frames",) if count < len(known) else ()
    return known[:count], short


def open_rendered(
    draw: Draw,
    *,
    files: Sequence[Path],
    numbers: tuple[int, ...],
    wanted: Sequence[Wanted],
    cameras: dict[str, Cameras],
    facts: dict[str, Any],
    remarks: tuple[str, ...],
) -> Opened:
    """Results that are drawn at every wanted view.

    Args:
        draw: picture of a frame, by its position, through a camera of `cameras`.
        cameras: by view, in the world of the results.
        facts: entries of the record besides those that all have.
    """
    return Opened(
        files=files,
        views={
            view.name: {"from": "rendered", "azimuth_deg": view.azimuth_deg, "degrees_off": 0.0}
            for view in wanted
        },
        numbers=numbers,
        facts={
            "codec": ["rendered"],
            "background": "white",
            "size": [wanted[0].width, wanted[0].height],
            **facts,
        },
        remarks=remarks,
        draw=lambda view, index: draw(index, cameras[view]),
    )


def method_cameras(
    wanted: Sequence[Wanted], given: Given, world: World, radius: float
) -> tuple[dict[str, Cameras], dict[str, Any], tuple[str, ...]]:
    """Return the cameras through which a method saw the clip, turned to each view, with facts and remarks.

    The distance and the field of view are the method's: it was fitted to the clip as seen by them. At another
    distance its object is smaller or larger alike. A dataset whose cameras differ in their field of view has
    another perspective, which is remarked.

    Args:
        radius: the kind's own, unless `given` has one.
    """
    radius = radius if given.radius is None else given.radius
    fov = FOV_DEG if given.fov_deg is None else given.fov_deg
    placed = {view.name: in_world(camera_at(view, radius, fov), world) for view in wanted}
    facts = {"radius": radius, "fov_deg": fov, "world": world}
    remarks = tuple(dict.fromkeys(lens for view in wanted if (lens := _other_lens(view, fov)) is not None))
    return placed, facts, remarks


def _other_lens(view: Wanted, fov_deg: float) -> str | None:
    if view.cameras is None:
        return None
    if view.cameras.kind == "ortho":
        lens = f"the method's pinhole camera of {fov_deg:g} degrees"
        return f"rendered through {lens}, the dataset's has no perspective"
    focal = float(view.cameras.intrinsics[0, 1, 1])
    stated = 2 * torch.rad2deg(torch.atan(torch.tensor(view.cameras.height / (2 * focal)))).item()
    if abs(stated - fov_deg) < 0.05:
        return None
    return f"rendered with a field of view of {fov_deg:g} degrees, the dataset's is {stated:.1f}"


def gaussians_drawn(at: Callable[[int], Gaussians], where: Path) -> Draw:
    """Draw Gaussians that stand elsewhere at each frame; those of the last frame are kept.

    Args:
        at: Gaussians at the position of a frame. where: for messages.

    Raises:
        DataError: `draw` met Gaussians that are not finite.
    """

    @lru_cache(maxsize=1)
    def placed(index: int) -> Gaussians:
        with torch.no_grad():
            found = at(index)
        for name in ("means", "scales", "quats", "opacities", "colors"):
            if not bool(getattr(found, name).isfinite().all()):
                raise DataError(f"{where}: its {name} are not finite at frame {index}; train it again")
        return found

    def draw(index: int, cameras: Cameras) -> Pixels:
        with torch.no_grad():
            rgb = render_gaussians(placed(index), cameras).rgb[0]
        return to_uint8(rgb.clamp(0, 1).cpu().numpy())

    return draw
