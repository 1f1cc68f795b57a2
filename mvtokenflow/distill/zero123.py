"""Zero123-XL and Stable-Zero123 as teachers: random pinhole views, distilled by prediction of the noise.

Zero123 (Liu et al. 2023) sees one picture and a relative pose, and predicts the noise of one view. Its weights
are read from a folder in the layout of diffusers, with a linear layer for the pose beside the usual components.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvtokenflow.base.errors import WeightsCorruptError
from mvtokenflow.distill.source import resized
from mvtokenflow.distill.teacher import Levels, Look, Reference, choose_reference
from mvtokenflow.guidance.conditions import pose_embedding, stable_zero123_last
from mvtokenflow.guidance.levels import LEVELS
from mvtokenflow.guidance.sds import add_noise, clean_from_noise, distillation_loss_eps, guided
from mvtokenflow.guidance.views import RandomViews
from mvtokenflow.splat.field import Render
from mvtokenflow.views.cameras import orbit
from mvtokenflow.weights.components import (
    check_keys,
    check_whole,
    component_settings,
    component_tensors,
    component_weights,
    pretrained,
)

SIDE = 256  # of pictures, pixels
CLIP_SIDE = 224
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
FOV_DEG = 49.1
# At this distance the picture spans the world's -1 to 1 at the origin, as the square pictures do.
DISTANCE = 1 / math.tan(math.radians(FOV_DEG / 2))
_CONFIGS = {
    "unet": "config.json",
    "vae": "config.json",
    "image_encoder": "config.json",
    "clip_camera_projection": "config.json",
    "scheduler": "scheduler_config.json",
}
_WITH_WEIGHTS = ("unet", "vae", "image_encoder", "clip_camera_projection")
_PROJECTION = {"weight": "proj.weight", "bias": "proj.bias"}


@dataclass(frozen=True, kw_only=True)
class Zero123:
    """The networks of one of the two.

    Attributes:
        unet: takes 8 channels, a view's noisy latents and the latents of the condition.
        vae, image_encoder: of Stable Diffusion 1 and CLIP ViT-L/14.
        projection: (embedding and 4 numbers of the pose) to the embedding's size.
        alphabars: (1000,) of its schedule.
        absolute_pose: the fourth number of the pose is the condition's polar angle, as for Stable-Zero123.
    """

    unet: Any
    vae: Any
    image_encoder: Any
    projection: nn.Linear
    alphabars: Tensor
    absolute_pose: bool

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return self.projection.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the networks."""
        return self.projection.weight.dtype

    @torch.no_grad()
    def embedded(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return CLIP embeddings (n, 1, E) and unscaled latents (n, 4, h, w) of pictures (n, S, S, 3)."""
        first = pictures.movedim(-1, 1).to(self.device, torch.float32)
        seen = F.interpolate(first, (CLIP_SIDE, CLIP_SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (first.new_tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
        embeds = self.image_encoder(((seen - mean) / std).to(self.dtype)).image_embeds[:, None]
        return embeds, self.encoded(pictures) / float(self.vae.config.scaling_factor)

    def encoded(self, pictures: Tensor) -> Tensor:
        """Scaled latents (n, 4, h, w) of pictures (n, S, S, 3) in [0, 1]; the gradient flows."""
        sized = resized(pictures, SIDE).movedim(-1, 1).to(self.device, self.dtype)
        mode: Tensor = self.vae.encode(2 * sized - 1).latent_dist.mode()
        return mode * float(self.vae.config.scaling_factor)

    def poses(self, elevation: Tensor, azimuth: Tensor) -> Tensor:
        """Embed relative poses (n,) in degrees, elevation positive above, to (n, 1, 4)."""
        last: Tensor | float = 0.0
        if self.absolute_pose:
            last = stable_zero123_last(torch.zeros_like(elevation))  # conditions are level
        return pose_embedding(-elevation, azimuth, last)[:, None]

    @torch.no_grad()
    def noise(
        self, noisy: Tensor, embeds: Tensor, latents: Tensor, poses: Tensor, level: int, scale: float
    ) -> Tensor:
        """Predict the noise (n, 4, h, w) with guidance; the unconditional half has neither picture nor pose."""
        joined = torch.cat([embeds, poses.to(embeds)], dim=-1)
        states = self.projection(joined)
        states = torch.cat([torch.zeros_like(states), states])
        given = torch.cat([torch.zeros_like(latents), latents])
        sample = torch.cat([torch.cat([noisy, noisy]), given], dim=1)
        timestep = torch.tensor(level, device=noisy.device)
        without, conditioned = self.unet(sample, timestep, encoder_hidden_states=states).sample.chunk(2)
        return guided(without, conditioned, scale)


class Zero123Teacher:
    """Zero123 as a teacher (`distill.teacher.Teacher`).

    Args:
        front: (T, S, S, 3) the input on white. references: level pictures from other azimuths that may
            condition it too. views: how views are drawn. floor: lowest noise level used.
    """

    def __init__(
        self,
        networks: Zero123,
        front: Tensor,
        views: RandomViews,
        *,
        references: Sequence[Reference] = (),
        floor: int = 0,
    ) -> None:
        self.networks, self.views = networks, views
        self._levels = Levels(tuple(range(LEVELS)), floor)
        self.azimuths = (0.0, *(reference.azimuth for reference in references))
        every = [front, *(reference.pictures for reference in references)]
        self._given = [self._embedded(pictures) for pictures in every]

    @property
    def levels(self) -> Levels:
        """Return the levels, those of the published schedules themselves."""
        return self._levels

    def look(self, frame: int, draws: torch.Generator) -> Look:
        """Draw views around the object, and the picture that conditions them; see `Teacher`."""
        count, (low, high) = self.views.count, self.views.elevation
        drawn = torch.rand(2, count, generator=draws)
        elevation, azimuth = low + (high - low) * drawn[0], 360 * drawn[1] - 180
        reference = choose_reference(float(azimuth[0]), self.azimuths, draws)
        cameras = orbit(
            azimuth.tolist(), elevation.tolist(), size=SIDE, kind="pinhole", radius=DISTANCE, fov_deg=FOV_DEG
        )
        return Look(frame, cameras.to(self.networks.device), reference, elevation, azimuth)

    def loss(self, look: Look, seen: Render, level: int, draws: torch.Generator) -> Tensor:
        """Compute the distillation loss, a mean over views; see `Teacher`."""
        latents = self.networks.encoded(seen.rgb.clamp(0, 1))
        noise = torch.randn(latents.shape, generator=draws).to(latents)
        predicted = self._predicted(look, latents.detach(), noise, level)
        alphabar = float(self.networks.alphabars[level])
        return distillation_loss_eps(latents.float(), predicted.float(), noise.float(), alphabar, len(latents))

    @torch.no_grad()
    def clean(self, look: Look, seen: Render, level: int, draws: torch.Generator) -> Tensor:
        """Predict clean pictures; see `Teacher`."""
        latents = self.networks.encoded(seen.rgb.clamp(0, 1))
        noise = torch.randn(latents.shape, generator=draws).to(latents)
        alphabar = float(self.networks.alphabars[level])
        noisy = add_noise(latents, noise, alphabar)
        found = clean_from_noise(noisy, self._predicted(look, latents, noise, level), alphabar)
        vae = self.networks.vae
        decoded: Tensor = vae.decode(found / float(vae.config.scaling_factor)).sample
        return (decoded.float() / 2 + 0.5).clamp(0, 1).movedim(1, -1)

    def _embedded(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Embed one frame at a time: a clip of them would not fit beside the networks."""
        found = [self.networks.embedded(one[None]) for one in pictures]
        return torch.cat([embeds for embeds, _ in found]), torch.cat([latents for _, latents in found])

    def _predicted(self, look: Look, latents: Tensor, noise: Tensor, level: int) -> Tensor:
        embeds, given = self._given[look.reference]
        count = len(latents)
        if look.elevation is None or look.azimuth is None:
            raise ValueError("a look of another teacher: it states no angles")
        relative = look.azimuth - self.azimuths[look.reference]
        poses = self.networks.poses(look.elevation, relative).to(latents)
        noisy = add_noise(latents, noise, float(self.networks.alphabars[level]))
        frame = slice(look.frame, look.frame + 1)
        return self.networks.noise(
            noisy,
            embeds[frame].expand(count, -1, -1),
            given[frame].expand(count, -1, -1, -1),
            poses,
            level,
            self.views.guidance,
        )


def load_zero123(
    folder: Path, *, absolute_pose: bool, cure: str, dtype: torch.dtype, device: torch.device | str
) -> Zero123:
    """Load the networks from a folder in the layout of diffusers.

    Raises:
        WeightsMissingError: a file is missing; `cure` is the sentence on how to get it.
        WeightsCorruptError: a file is damaged, or its tensors are those of another network.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPVisionModelWithProjection

    for component, name in _CONFIGS.items():
        component_settings(folder / component, name, cure)
    for component in _WITH_WEIGHTS:
        check_whole(component_weights(folder / component, cure))
    path = component_weights(folder / "clip_camera_projection", cure)
    tensors = component_tensors(path, dtype, device)
    wanted = set(_PROJECTION.values())
    check_keys(path, missing=wanted - set(tensors), unexpected=set(tensors) - wanted)
    weight = tensors["proj.weight"]
    if weight.ndim != 2 or weight.shape[1] != weight.shape[0] + 4:
        raise WeightsCorruptError(f"{path}: the projection is {tuple(weight.shape)}, not n + 4 to n numbers")
    projection = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    projection.load_state_dict({name: tensors[key] for name, key in _PROJECTION.items()}, assign=True)
    scheduler: Any = DDIMScheduler
    return Zero123(
        unet=pretrained(UNet2DConditionModel, folder / "unet", dtype, device, cure),
        vae=pretrained(AutoencoderKL, folder / "vae", dtype, device, cure),
        image_encoder=pretrained(CLIPVisionModelWithProjection, folder / "image_encoder", dtype, device, cure),
        projection=projection.requires_grad_(False),
        alphabars=scheduler.from_pretrained(str(folder / "scheduler")).alphas_cumprod,
        absolute_pose=absolute_pose,
    )
