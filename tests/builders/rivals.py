"""Rivals on four frames of 32 pixels with the oracle for a prior: settings, runs, and how near they come."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from oracle import Fault, Truth, oracle_prior

from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.baselines.consistent4d import settings as consistent4d
from mvtokenflow.baselines.dg4d import settings as dg4d
from mvtokenflow.baselines.job import Job
from mvtokenflow.baselines.rival import Rival
from mvtokenflow.baselines.sc4d import settings as sc4d
from mvtokenflow.baselines.stag4d import settings as stag4d
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.distill.source import Source
from mvtokenflow.media.pictures import write_png
from mvtokenflow.small.prior import six_cameras
from mvtokenflow.splat.previews import psnr
from mvtokenflow.splat.timed import TimedField
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, orbit

HELD_OUT_DEG = (15.0, 105.0, 195.0, 285.0)
STRONG = 16.0  # weight of distillation: a faultless oracle may pull harder than a prior
FLOOR = 644  # lowest noise level; the oracle is as right at any


def source_of(truth: Truth) -> Source:
    """The front view of a toy as a clip."""
    size = truth.pictures.shape[2]
    return Source(
        front=truth.at(0), alpha=truth.alpha[:, 0], camera=six_cameras(size)[:1], times=truth.clip.times
    )


def job_of(truth: Truth, workdir: Path, fault: Fault = "none", seed: int = 0, every: int = 50) -> Job:
    """A run on the clip of a toy with the oracle as its prior."""
    return Job(
        source=source_of(truth),
        make_prior=lambda: oracle_prior(truth, fault),
        workdir=workdir,
        seed=seed,
        checkpoint_every=every,
    )


def small_consistent4d() -> consistent4d.Consistent4dSettings:
    """Consistent4D for the oracle's scene."""
    mini = consistent4d.mini()
    return replace(
        mini,
        sides=(32,),
        before=(),
        steps=600,
        rate=0.02,
        resolutions=((16, 16, 16, 4), (48, 48, 48, 4)),
        channels=16,
        width=32,
        smoothness=0.0,  # they smooth a scene of 32 pixels too much
        orientation=(0.0, 0.0),
        interpolation_share=0.1,
        occupancy_decay=0.5,
        distill=replace(mini.distill, sds_weight=40.0, level_floor=FLOOR),  # on top of the method's own 0.1
    )


def small_sc4d() -> sc4d.Sc4dSettings:
    """SC4D for the oracle's scene."""
    mini = sc4d.mini()
    return replace(
        mini,
        sides=(32,),
        before=(),
        distill=replace(mini.distill, sds_weight=STRONG, level_floor=FLOOR),
        second=replace(mini.second, each=20, steps=600),
    )


def small_stag4d() -> stag4d.Stag4dSettings:
    """STAG4D for the oracle's scene; the oracle has no attention to anchor."""
    mini = stag4d.mini()
    return replace(
        mini,
        anchor=False,
        sides=(32,),
        before=(),
        points=1000,
        steps=480,
        rate_steps=480,
        distill=replace(mini.distill, sds_weight=STRONG, level_floor=FLOOR),
        densify=stag4d.Densify(start=72, stop=360, every=40, prune_scales=(0.0, 1.0)),
    )


def small_dg4d() -> dg4d.Dg4dSettings:
    """DreamGaussian4D for the oracle's scene."""
    mini = dg4d.mini()
    return replace(
        mini,
        sides=(32,),
        before=(),
        points=1500,
        steps=160,
        distill=replace(mini.distill, sds_weight=STRONG, level_floor=FLOOR),
    )


def few_sc4d() -> sc4d.Sc4dSettings:
    """SC4D in next to no steps."""
    small = small_sc4d()
    first = replace(small.first, steps=8, densify=(2, 4, 2), reduce_at=5, start_points=40, grow_gradient=1e-9)
    second = replace(small.second, steps=6, each=5, prune_every=4, rigid_until=4)
    return replace(small, first=first, second=second, control_points=24)


def few_stag4d() -> stag4d.Stag4dSettings:
    """STAG4D in next to no steps."""
    densify = stag4d.Densify(start=4, stop=8, every=2, prune_scales=(0.0, 1.0))
    return replace(small_stag4d(), points=100, steps=10, static_steps=2, densify=densify)


def few_dg4d() -> dg4d.Dg4dSettings:
    """DreamGaussian4D in next to no steps."""
    return replace(small_dg4d(), points=200, steps=5, static_steps=6)


def few_consistent4d() -> consistent4d.Consistent4dSettings:
    """Consistent4D in next to no steps."""
    return replace(
        small_consistent4d(),
        steps=10,
        samples=12,
        resolutions=((6, 6, 6, 3), (10, 10, 10, 4)),
        channels=4,
        smoothness=2.0,
        orientation=(1.0, 20.0),
        regularised=64,
    )


def silent(stage: str, done: int, total: int, /) -> None:
    """Progress that nobody sees."""


def scene_of(truth: Truth, root: Path, name: str = "toy") -> Scene:
    """A toy as a scene with two held-out views; its pictures are written below `root`."""
    size = truth.pictures.shape[2]

    def view(label: str, azimuth: float) -> View:
        frames = [root / label / f"{n}.png" for n in range(len(truth.clip))]
        for path, picture in zip(frames, truth.at(azimuth), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(path, (picture * 255).round().to(torch.uint8).numpy())
        cameras = orbit((azimuth,), size=size, kind="ortho", radius=3.0)
        return View(name=label, azimuth_deg=azimuth, elevation_deg=0.0, cameras=cameras, frames=frames)

    return Scene(
        name=name,
        clip=lambda: truth.clip,
        input=view("input", 0.0),
        views=(view("eval_0", 285.0), view("eval_1", 15.0)),
        root=root,
    )


@dataclass
class OneToy:
    """A dataset of one scene."""

    toy: Scene
    name: str = "toys"

    def scene_names(self) -> list[str]:
        """The one scene."""
        return [self.toy.name]

    def scene(self, name: str) -> Scene:
        """The scene."""
        return self.toy


def small_row(name: str, settings: Any) -> Rival:
    """A rival as a row with other settings, for frames of 32 pixels of which it takes all."""
    row = method_named(name)
    assert isinstance(row, Rival)
    square = replace(settings.distill.square, size=32, crop_size=28)
    return replace(row, base=replace(settings, distill=replace(settings.distill, stride=1, square=square)))


@torch.no_grad()
def nearness(field: TimedField, truth: Truth, azimuths: tuple[float, ...] = ERA3D_AZIMUTHS_DEG) -> torch.Tensor:
    """PSNR in dB (T, A) of a field's views at azimuths against the truth."""
    size, clock = truth.pictures.shape[2], truth.clip.times.tolist()
    cameras = orbit(azimuths, size=size, kind="ortho", radius=3.0)
    rows = []
    for frame, time in enumerate(clock):
        seen = field.render(cameras, time).rgb
        rows.append([psnr(one, truth.at(angle)[frame]) for one, angle in zip(seen, azimuths, strict=True)])
    return torch.tensor(rows)
