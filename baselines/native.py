"""The method itself and its ablations as rows of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mvtokenflow.baselines.method import Progress, Rendering, Source
from mvtokenflow.cameras import Cameras, orbit
from mvtokenflow.config import MethodConfig, preset, without
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.pipeline import load_prior, prior_name, run
from mvtokenflow.placement import cameras_in_field
from mvtokenflow.splat.field import DynamicField

_RADIUS = 3.0  # of cameras a dataset does not publish; orthographic, so that it does not matter


@dataclass(frozen=True, kw_only=True)
class Native:
    """The method of this repository.

    Attributes:
        name: row label.
        settings: everything the result depends on, but for the prior's weights.
        device: torch device of the networks.
    """

    name: str
    settings: MethodConfig
    device: str = "cpu"
    source: Source = "native"
    uses_truth: bool = False

    def config(self) -> Mapping[str, Any]:
        return {"mvtokenflow": self.settings.to_dict(), "prior": prior_name(self.settings)}

    def weights(self) -> Sequence[str]:
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        clip = scene.clip()
        prior = _loaded(self.settings, self.device)
        result = run(clip, self.settings, workdir, seed, prior=prior, device=self.device, progress=progress)
        height, width = clip.rgb.shape[1:3]
        front = _cameras(scene.input, (height, width))
        views = (scene.input, *scene.views)
        renderings = {}
        for done, view in enumerate(views):
            cameras = cameras_in_field(_cameras(view, (height, width)), front, result.crop)
            renderings[view.name] = rendering(result.field, cameras, len(clip))
            progress("render views", done + 1, len(views))
        return renderings


@torch.no_grad()
def rendering(field: DynamicField, cameras: Cameras, frames: int) -> Rendering:
    """One camera's pictures, normals and flow at `frames` evenly spaced times."""
    times = np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)
    rgb, normal, flow = [], [], []
    for n, time in enumerate(times):
        later = float(times[n + 1]) if n + 1 < frames else None
        picture = field.render(cameras, float(time), flow_to=later)
        rgb.append(_numpy(picture.rgb.clamp(0, 1)))
        normal.append(_numpy(picture.normal))
        if picture.flow is not None:
            flow.append(_numpy(torch.where(picture.alpha > 0.5, picture.flow, 0.0)))
    pixels = (np.stack(rgb) * 255 + 0.5).astype(np.uint8)
    moved = np.stack(flow) if flow else np.zeros((0, *pixels.shape[1:3], 2), np.float32)
    return Rendering(rgb=pixels, normal=np.stack(normal), flow=moved)


def _numpy(picture: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = picture[0].float().cpu().numpy()
    return array


def _cameras(view: View, size: tuple[int, int]) -> Cameras:
    """The view's camera; where the dataset has none, an orthographic one that sees as much as the input."""
    if view.cameras is not None:
        return view.cameras
    height, width = size
    cameras = orbit((view.azimuth_deg,), (view.elevation_deg,), size=max(size), kind="ortho", radius=_RADIUS)
    lenses = cameras.intrinsics.clone()
    lenses[:, 0, 2], lenses[:, 1, 2] = width / 2, height / 2
    return replace(cameras, intrinsics=lenses, width=width, height=height)


@cache
def _loaded(settings: MethodConfig, device: str) -> Any:
    """A prior is loaded once per process."""
    return load_prior(settings, device)


def variant(name: str, preset_name: str, *left_out: str) -> Native:
    """The row of a preset without some parts."""
    return Native(name=name, settings=without(preset(preset_name), *left_out))
