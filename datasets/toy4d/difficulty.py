"""Measured properties that make a toy hard for a method: motion, what the input never shows, and asymmetry."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.files import choose
from mvtokenflow.datasets.toy4d.render import render, render_flow, seen
from mvtokenflow.datasets.toy4d.scenes import FRAMES, SIZE, WORLDS, frame_times, scene_toy, view_cameras
from mvtokenflow.datasets.toy4d.stream import RADIUS
from mvtokenflow.datasets.toy4d.surface import on_outside, sample_surface
from mvtokenflow.datasets.toy4d.toys import Toy
from mvtokenflow.views.cameras import orbit

TOKEN = SIZE / 16  # pixels of the benchmark on a side of a token of the small prior, whose grid is 16 x 16
KEYFRAME_GAP = 8  # frames between two keyframes of `mini`: every fourth of the generated frames, every second
POINTS = 4000


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """What a toy demands.

    Attributes:
        motion_px: mean way of the visible surface from a frame to the next in the input view, pixels.
        keyframe_tokens: mean way from a keyframe to the next one, in tokens of the small prior.
        unseen: share of the surface (at the first frame) that the input view shows in no frame, in [0, 1].
        asymmetry: mean difference between the toy seen from its left and, mirrored, from its right, and from 45
            degrees before and behind, over the toy, grey levels; 0 for a body that is its own mirror image.
    """

    motion_px: float
    keyframe_tokens: float
    unseen: float
    asymmetry: float


def measure_difficulty(toy: Toy) -> Difficulty:
    """Measure a toy in the benchmark's input view and at its frames; a few seconds."""
    times = frame_times()
    keys = np.array(sorted({*range(0, FRAMES - 1, KEYFRAME_GAP), FRAMES - 1}))
    return Difficulty(
        motion_px=_motion(toy, times[:-1], times[1:]),
        keyframe_tokens=_motion(toy, times[keys[:-1]], times[keys[1:]]) / TOKEN,
        unseen=_unseen(toy),
        asymmetry=_asymmetry(toy),
    )


def difficulty_of_world(name: str, report: Callable[[str, int, int], None]) -> dict[str, Difficulty]:
    """Measure all scenes of a world by its name; `report` is called with (stage, done, total).

    Raises:
        ConfigError: no such world.
    """
    world = choose("dataset of toys", name, {world.name: world for world in WORLDS})
    found = {}
    for done, scene in enumerate(world.scenes, 1):
        found[scene] = measure_difficulty(scene_toy(scene))
        report("scenes", done, len(world.scenes))
    return found


def _motion(toy: Toy, start: NDArray[np.float64], end: NDArray[np.float64]) -> float:
    front = view_cameras()[:1]
    there = render(toy, front, start, samples=1).part >= 0
    way = np.linalg.norm(render_flow(toy, front, start, end).flow, axis=-1)
    return float(way[there].mean())


def _unseen(toy: Toy) -> float:
    times, surface = frame_times(), sample_surface(toy, POINTS)
    shown = np.any(seen(toy, view_cameras()[:1], times, surface.positions(toy, times))[:, 0], axis=0)
    outside = on_outside(toy, surface, times[:1])[0]
    return float(1 - shown[outside].mean())


def _asymmetry(toy: Toy) -> float:
    # A camera at azimuth α looks at the toy's own front for α = yaw.
    own = np.array([45.0, 90.0, 135.0])
    azimuths = toy.yaw_deg + np.concatenate((own, -own))
    cameras = orbit(tuple(azimuths), size=SIZE, kind="ortho", radius=RADIUS)
    picture = render(toy, cameras, frame_times()[:1], samples=2)
    white = picture.rgb * picture.alpha + 1 - picture.alpha
    one, other = white[0, :3], white[0, 3:, :, ::-1]
    either = np.maximum(picture.alpha[0, :3], picture.alpha[0, 3:, :, ::-1])[..., 0] > 0
    return float(np.abs(one - other).mean(-1)[either].mean() * 255)
