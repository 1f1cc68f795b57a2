"""Fields that the rivals fit: Gaussians moved by control points or by planes, as functions of a clip's time.

Their networks take frames at t / T. Between frames, a time in [0, 1] of the clip is a fraction of a frame.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mvtokenflow.base.damaged import damage, parse_json
from mvtokenflow.base.tensor_files import read_tensors, write_tensors
from mvtokenflow.radiance.heads import HeadKind, PlaneDeformation, moved
from mvtokenflow.radiance.planes import signed_time, upper_time
from mvtokenflow.splat.field import Render, render_gaussians
from mvtokenflow.splat.gaussians import GaussianModel, Gaussians
from mvtokenflow.splat.timed import WHITE
from mvtokenflow.splat.timenet import TimeNet, follow, radial_skinning
from mvtokenflow.views.cameras import Cameras

FORMAT = "mvtokenflow-rival-field"
_CURE = "delete it to fit the stage anew"


def frame_at(clock: Sequence[float], t: float) -> float:
    """Return the fractional frame of time t in [0, 1], for frames at the times `clock`."""
    return float(np.interp(t, clock, np.arange(len(clock))))


class GaussianField(nn.Module, ABC):
    """Gaussians that move with the frames of a clip.

    Args:
        clock: times of the frames, increasing, in [0, 1].
        pixel: side in world units of the pixels that the field was fitted to.
    """

    def __init__(self, clock: Sequence[float], pixel: float) -> None:
        super().__init__()
        self.clock, self.pixel = tuple(clock), pixel

    @abstractmethod
    def at_frames(self, frames: Sequence[float]) -> list[Gaussians]:
        """Return the Gaussians at fractional frames, drawn as plain 3DGS."""

    def at(self, t: float) -> Gaussians:
        """Return the Gaussians at time t in [0, 1], with the low-pass of the fit."""
        return self._fitted(self.at_frames([frame_at(self.clock, t)]))[0]

    def render(
        self,
        cameras: Cameras,
        t: float,
        *,
        background: Sequence[float] = WHITE,
        flow_to: float | None = None,
    ) -> Render:
        """Render pictures at time t; see `splat.timed.TimedField`."""
        times = [t] if flow_to is None else [t, flow_to]
        moments = self._fitted(self.at_frames([frame_at(self.clock, time) for time in times]))
        target = None if flow_to is None else moments[1].means
        return render_gaussians(moments[0], cameras, background=background, flow_to=target)

    def _fitted(self, moments: Sequence[Gaussians]) -> list[Gaussians]:
        return [replace(moment, pixel=self.pixel) for moment in moments]


class PlaneField(GaussianField):
    """Canonical Gaussians plus what planes add to them (STAG4D, DreamGaussian4D).

    Args:
        gaussians: canonical. deformation: see `radiance.heads`; plain heads take times in [0, 1), residual
            ones in [-1, 1), as published.
    """

    def __init__(
        self, gaussians: GaussianModel, deformation: PlaneDeformation, clock: Sequence[float], pixel: float
    ) -> None:
        super().__init__(clock, pixel)
        self.gaussians, self.deformation = gaussians, deformation

    def at_frames(self, frames: Sequence[float], *, still: bool = False) -> list[Gaussians]:
        """Return the Gaussians at fractional frames; `still` leaves the deformation out."""
        model = self.gaussians
        canonical = model.activated()
        if still:
            return [canonical] * len(frames)
        place = upper_time if self.deformation.kind == "plain" else signed_time
        times = [place(frame, len(self.clock)) for frame in frames]
        motion = self.deformation(model.means, times)
        means, scales, quats = moved(model.means, model.log_scales, model.quats, motion)
        return [
            replace(canonical, means=mean, scales=scale.exp(), quats=nn.functional.normalize(quat, dim=-1))
            for mean, scale, quat in zip(means, scales, quats, strict=True)
        ]


class PointField(GaussianField):
    """SC4D's first stage: spheres of one radius, each moved by the network at its own place."""

    def __init__(
        self,
        gaussians: GaussianModel,
        log_radius: Tensor,
        network: TimeNet,
        clock: Sequence[float],
        pixel: float,
    ) -> None:
        super().__init__(clock, pixel)
        self.gaussians, self.network = gaussians, network
        self.log_radius = nn.Parameter(log_radius.detach().clone())

    def positions(self, times: Sequence[float]) -> Tensor:
        """Compute centres (n, N, 3) at n times t / T in [0, 1)."""
        means = self.gaussians.means
        at = torch.as_tensor(times, dtype=means.dtype, device=means.device)
        found: Tensor = means + self.network(means, at[:, None, None]).translation
        return found

    def at_frames(self, frames: Sequence[float]) -> list[Gaussians]:
        """Return the Gaussians at fractional frames."""
        still = self.gaussians.activated()
        scales = self.log_radius.exp().reshape(1, 1).expand(len(still), 3)
        means = self.positions([upper_time(frame, len(self.clock)) for frame in frames])
        return [replace(still, means=mean, scales=scales) for mean in means]


class ControlField(GaussianField):
    """SC4D's second stage: fine Gaussians that follow four control points each."""

    def __init__(
        self,
        gaussians: GaussianModel,
        nodes: Tensor,
        log_radii: Tensor,
        network: TimeNet,
        neighbours: int,
        clock: Sequence[float],
        pixel: float,
    ) -> None:
        super().__init__(clock, pixel)
        self.gaussians, self.network, self.neighbours = gaussians, network, neighbours
        self.nodes = nn.Parameter(nodes.detach().clone())
        self.log_radii = nn.Parameter(log_radii.detach().clone())

    def positions(self, times: Sequence[float]) -> Tensor:
        """Compute control points (n, M, 3) at n times t / T in [0, 1)."""
        at = torch.as_tensor(times, dtype=self.nodes.dtype, device=self.nodes.device)
        found: Tensor = self.nodes + self.network(self.nodes, at[:, None, None]).translation
        return found

    def at_frames(self, frames: Sequence[float]) -> list[Gaussians]:
        """Return the Gaussians at fractional frames."""
        still, model = self.gaussians.activated(), self.gaussians
        times = [upper_time(frame, len(self.clock)) for frame in frames]
        at = torch.as_tensor(times, dtype=self.nodes.dtype, device=self.nodes.device)
        motion = self.network(self.nodes, at[:, None, None])
        weighting = radial_skinning(model.means, self.nodes, self.log_radii, self.neighbours)
        means, quats = follow(model.means, model.quats, self.nodes, motion, weighting)
        return [replace(still, means=mean, quats=quat) for mean, quat in zip(means, quats, strict=True)]


def empty_gaussians(count: int) -> GaussianModel:
    """Build `count` Gaussians of zeros with one colour each, for a state to be loaded into."""
    return GaussianModel(
        means=torch.zeros(count, 3),
        log_scales=torch.zeros(count, 3),
        quats=torch.zeros(count, 4),
        logit_opacities=torch.zeros(count),
        features_dc=torch.zeros(count, 1, 3),
        features_rest=torch.zeros(count, 0, 3),
        hyper=torch.zeros(count, 0),
    )


def plane_deformation(
    resolution: Sequence[int], factors: Sequence[int], channels: int, width: int, heads: HeadKind
) -> PlaneDeformation:
    """Build a deformation over the cube that the prior's cameras see."""
    return PlaneDeformation(resolution, factors, channels, width, heads=heads)


def save_rival_field(path: Path, field: nn.Module, kind: str, facts: Mapping[str, Any]) -> None:
    """Write a field's parameters atomically, with what it takes to build it again."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in field.state_dict().items()}
    write_tensors(path, tensors, {FORMAT: json.dumps({"kind": kind, **facts}, sort_keys=True)})


def load_rival_field(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the facts and parameters of a field of `save_rival_field`.

    Raises:
        DataError: no such field in the file, or a damaged one.
    """
    metadata, tensors = read_tensors(path, "cannot be read as safetensors", _CURE)
    with damage(path, "the field is damaged", _CURE):
        facts = parse_json(metadata[FORMAT])
        if not isinstance(facts, dict) or facts.get("kind") != kind:
            raise ValueError(f"it is no field of the kind {kind}")
        for name, value in tensors.items():
            if not value.isfinite().all():
                raise ValueError(f"{name} holds NaN or infinite values")
    return facts, tensors
