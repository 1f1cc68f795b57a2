"""A multiview prior without weights that predicts the truth, rendered from a toy, or a truth with a fault.

It is a `MultiviewPrior` as any other. Its latents are the pictures themselves, 2 x - 1. The condition decides
which frame, and from which azimuth, a call is about: the nearest of the pictures it has. So a generated picture
conditions it as well as the input.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.toys import SEEDS, make_toy
from mvtokenflow.media.video import Clip
from mvtokenflow.multiview.prior import COLOUR, MultiviewPrior, encode_normals
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small.prior import six_cameras
from mvtokenflow.small.schedule import noise_schedule
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, orbit

Fault = Literal["none", "colour cast", "far views are unknown", "late", "constant"]
CONDITIONS_DEG = tuple(float(angle) for angle in range(0, 360, 45))  # of the six views around any of them
AZIMUTHS_DEG = (*CONDITIONS_DEG, 15.0, 105.0, 195.0, 285.0)  # and of the evaluated views
BACKGROUND = 0.5
CAST = 0.35  # of a frame's own colour cast
DISTILLED = range(500, 998)  # levels at which it is unknown; views that are sampled pass others
FAR = [3]  # views more than 90 degrees from the condition, of which a prior may know nothing


@dataclass(frozen=True)
class Truth:
    """A toy in motion, as the oracle and a test see it.

    Attributes:
        clip: its front view, T frames.
        pictures: (T, A, S, S, 3) on white. alpha: (T, A, S, S, 1). normals: (T, A, S, S, 3) in the world.
        azimuths: A of them, `AZIMUTHS_DEG`.
    """

    clip: Clip
    pictures: Tensor
    alpha: Tensor
    normals: Tensor
    azimuths: tuple[float, ...]

    def at(self, azimuth: float) -> Tensor:
        """Pictures (T, S, S, 3) on white at an azimuth."""
        return self.pictures[:, self.azimuths.index(azimuth % 360)]


def toy_truth(
    frames: int = 4, size: int = 32, *, plan: str = "quadruped", seed: int = SEEDS["validation"][7]
) -> Truth:
    """Render a toy at T times and all azimuths; its motion is a quarter of its loop."""
    cameras, finer = (orbit(AZIMUTHS_DEG, size=side, kind="ortho", radius=3.0) for side in (size, 2 * size))
    toy, times = make_toy(plan, seed), (np.arange(frames) / frames / 2).tolist()
    shot = render(toy, cameras, times, samples=2)
    normal = _halved(torch.from_numpy(render(toy, finer, times).normal))
    rgb, alpha = torch.from_numpy(shot.rgb), torch.from_numpy(shot.alpha)
    return Truth(
        clip=Clip(rgb=rgb[:, 0], alpha=alpha[:, 0], name="toy"),
        pictures=rgb * alpha + 1 - alpha,
        alpha=alpha,
        normals=normal,
        azimuths=AZIMUTHS_DEG,
    )


def _halved(normals: Tensor) -> Tensor:
    """Mean directions (..., S, S, 3) of normals (..., 2S, 2S, 3): every pixel with an alpha has one."""
    *lead, height, width, _ = normals.shape
    blocks = normals.reshape(*lead, height // 2, 2, width // 2, 2, 3)
    return torch.nn.functional.normalize(blocks.sum(dim=(-2, -4)), dim=-1)


def _turned(normals: Tensor, angle_deg: float) -> Tensor:
    """Turn vectors (..., 3) about the vertical axis."""
    angle = torch.deg2rad(torch.tensor(angle_deg))
    cosine, sine = angle.cos(), angle.sin()
    x, y, z = normals.unbind(-1)
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y, z], dim=-1)


class _Codec:
    """Pictures as latents; the condition is the input picture, for every view."""

    def condition(self, front: Tensor) -> Tensor:
        seen = (2 * front - 1)[None, :, None]
        return seen.expand(2, -1, len(ERA3D_AZIMUTHS_DEG), -1, -1, -1)

    def encode(self, pictures: Tensor, front: Tensor) -> Tensor:
        return 2 * pictures - 1

    def decode(self, latents: Tensor, front: Tensor) -> Tensor:
        return ((latents + 1) / 2).clamp(0, 1)


class _Encoder:
    """No labels."""

    def class_labels(self, front: Tensor, generator: torch.Generator) -> Tensor:
        return torch.zeros(len(front), 1)


class _Network(nn.Module):
    """Looks the truth up; its one parameter gives its type and device."""

    def __init__(self, truth: Truth, fault: Fault) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            num_views=len(ERA3D_AZIMUTHS_DEG), out_channels=3, regress_pose=False, in_channels=6
        )
        self.anchor = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.truth, self.fault = truth, fault

    def forward(
        self, sample: Tensor, timestep: Tensor, prompts: Tensor, labels: Tensor, parts: Any = None
    ) -> SimpleNamespace:
        """Predict clean latents for (2 halves f V) pictures, domains outermost and views innermost."""
        views = len(ERA3D_AZIMUTHS_DEG)
        batched = sample.reshape(2, -1, views, *sample.shape[1:])
        given = batched[COLOUR, :, 0, 3:].movedim(1, -1)
        found = torch.empty_like(batched[:, :, :, :3])
        # What a prior without an idea predicts: on average the latents that were noised.
        alphabar = noise_schedule().alphas_cumprod[int(timestep)]
        unknown = batched[:, :, :, :3] / alphabar.sqrt().clamp_min(1e-3)
        for group, picture in enumerate(given):
            frame, azimuth = self._nearest((picture + 1) / 2)
            found[:, group] = 2 * self._views(frame, azimuth).movedim(-1, 2) - 1
            if self.fault == "far views are unknown" and int(timestep) in DISTILLED:
                found[:, group, FAR] = unknown[:, group, FAR]
        return SimpleNamespace(sample=found.flatten(0, 2), pose=None)

    def _nearest(self, picture: Tensor) -> tuple[int, int]:
        """Frame and index of the azimuth of the picture that is nearest to one."""
        errors = (self.truth.pictures[:, : len(CONDITIONS_DEG)] - picture).square().mean((2, 3, 4))
        return divmod(int(errors.argmin()), len(CONDITIONS_DEG))

    def _views(self, frame: int, azimuth: int) -> Tensor:
        """Normal maps and colours (2, V, S, S, 3) of the views around an azimuth, in its camera's frame."""
        truth = self.truth
        if self.fault == "late":
            frame = max(frame - 1, 0)
        if self.fault == "constant":
            frame = 0
        front = truth.azimuths[azimuth]
        places = [truth.azimuths.index((front + angle) % 360) for angle in ERA3D_AZIMUTHS_DEG]
        colours = truth.pictures[frame, places].clone()
        turned = _turned(truth.normals[frame, places], -front)
        normals = encode_normals(turned, truth.alpha[frame, places], BACKGROUND)
        if self.fault == "colour cast":
            tint = colours.new_tensor([CAST * (-1) ** frame, 0.0, -CAST * (-1) ** frame])
            inside = truth.alpha[frame, places]
            colours[1:] = (colours[1:] + tint * inside[1:]).clamp(0, 1)
        return torch.stack([normals, colours])


def oracle_prior(truth: Truth, fault: Fault = "none") -> MultiviewPrior:
    """Build a prior that predicts the truth at every noise level."""
    size = truth.pictures.shape[2]
    return MultiviewPrior(
        unet=cast(MultiviewUNet, _Network(truth, fault)),
        scheduler=noise_schedule(),
        codec=_Codec(),
        image_encoder=_Encoder(),
        prompts=torch.zeros(2, len(ERA3D_AZIMUTHS_DEG), 1, 1),
        cameras=six_cameras(size),
        size=size,
        background=BACKGROUND,
    )
