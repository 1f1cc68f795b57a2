"""A field fitted to a video with perspective: through its own camera, and read as an orthographic one."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvtokenflow.datasets.toy4d.scenes import render_scene
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.previews import psnr
from mvtokenflow.splat.trainer import reconstruct
from mvtokenflow.splat.training_config import StageConfig, mini
from mvtokenflow.views.cameras import Cameras, orbit
from mvtokenflow.views.video import FrontVideo, MultiviewVideo

SCENE, SIZE, DISTANCE = "quadruped-01", 32, 2.0
HELD_OUT = orbit((-25.0, 0.0, 25.0), size=SIZE, kind="ortho", radius=3.0)

pytestmark = pytest.mark.usefixtures("one_thread")


def seen(cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
    """Straight colours and alpha (1, V, H, W, C) of the scene at its beginning."""
    picture = render_scene(SCENE, cameras, [0.0])
    return torch.from_numpy(picture.rgb).clamp(0, 1), torch.from_numpy(picture.alpha)


def fitted(video: MultiviewVideo, folder: Path) -> DynamicField:
    """The static stage alone."""
    config = replace(
        mini(), static=StageConfig(iterations=150), coarse=StageConfig(iterations=0), points=1500, sh_every=1000
    )
    return reconstruct(video, config, folder, torch.Generator().manual_seed(0))


@torch.no_grad()
def agreement(field: DynamicField) -> float:
    """Mean PSNR with the scene around the front, in dB."""
    rgb, alpha = seen(HELD_OUT)
    truth = (rgb * alpha + 1 - alpha)[0]
    pictures = field.render(HELD_OUT, 0.0).rgb
    return sum(psnr(one, other) for one, other in zip(pictures, truth, strict=True)) / len(truth)


def test_a_perspective_input_fits_better_through_its_own_camera(tmp_path: Path) -> None:
    fov = 2 * math.degrees(math.atan(1 / DISTANCE))  # as wide as the orthographic views at the origin
    camera = orbit((0.0,), size=SIZE, kind="pinhole", radius=DISTANCE, fov_deg=fov)
    rgb, alpha = seen(six_views(SIZE))
    taken = seen(camera)
    # the prior gives the input back as its orthographic front view
    rgb[:, 0], alpha[:, 0] = taken[0][:, 0], taken[1][:, 0]
    read = MultiviewVideo(rgb=rgb, alpha=alpha, cameras=six_views(SIZE))
    front = FrontVideo(view=0, rgb=taken[0][:, 0], alpha=taken[1][:, 0], camera=camera, times=torch.zeros(1))
    baked = agreement(fitted(read, tmp_path / "read"))
    right = agreement(fitted(replace(read, front=front), tmp_path / "right"))
    assert right > baked + 1.5, (right, baked)  # measured 29.1 and 26.2; from a true orthographic front 29.3
