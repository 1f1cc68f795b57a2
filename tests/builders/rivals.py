"""Rivals on four frames of 32 pixels with the oracle for a prior: settings, runs, and how near they come."""

from dataclasses import replace
from pathlib import Path

import torch
from oracle import Fault, Truth, oracle_prior

from mvtokenflow.baselines.consistent4d import settings as consistent4d
from mvtokenflow.baselines.dg4d import settings as dg4d
from mvtokenflow.baselines.job import Job
from mvtokenflow.baselines.sc4d import settings as sc4d
from mvtokenflow.baselines.stag4d import settings as stag4d
from mvtokenflow.distill.source import Source
from mvtokenflow.small.prior import six_cameras
from mvtokenflow.splat.previews import psnr
from mvtokenflow.splat.timed import TimedField
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, orbit

HELD_OUT_DEG = (15.0, 105.0, 195.0, 285.0)
STRONG = 16.0  # weight of distillation: a faultless oracle may pull harder than a prior


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
        prior=oracle_prior(truth, fault),
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
        steps=900,
        resolutions=((16, 16, 16, 4), (48, 48, 48, 4)),
        channels=16,
        width=32,
        distill=replace(mini.distill, sds_weight=STRONG),
    )


def small_sc4d() -> sc4d.Sc4dSettings:
    """SC4D for the oracle's scene."""
    mini = sc4d.mini()
    return replace(
        mini,
        sides=(32,),
        before=(),
        distill=replace(mini.distill, sds_weight=STRONG),
        second=replace(mini.second, each=20, steps=480),
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
        distill=replace(mini.distill, sds_weight=STRONG),
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
        distill=replace(mini.distill, sds_weight=STRONG),
    )


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
