"""Codec, image encoder and prompts of Era3D: VAE latents, a noised CLIP embedding, text embeddings.

The pictures take the path of the released pipeline, including the truncation to 8 bits that the input goes
through before both the autoencoder and CLIP.
"""

from math import sqrt
from typing import Any

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

VIEW_NAMES = ("front", "front_right", "right", "back", "left", "front_left")
DOMAIN_NAMES = ("normal", "color")


def prompt_texts() -> list[str]:
    """Return the 12 prompts of Era3D's training: all views of the normal maps, then of the colour pictures."""
    return [
        f"a rendering image of 3D models, {view} view, {domain} map."
        for domain in DOMAIN_NAMES
        for view in VIEW_NAMES
    ]


def to_levels(pictures: Tensor) -> Tensor:
    """Convert pictures in [0, 1] to uint8 levels, truncated as torchvision's `to_pil_image` does."""
    return (pictures.float() * 255).to(torch.uint8)


class VaeCodec:
    """`Codec` of Era3D: scaled mode of the autoencoder's posterior."""

    def __init__(self, vae: Any, views: int) -> None:
        self.vae = vae
        self.views = views

    def condition(self, front: Tensor) -> Tensor:
        """Encode the input to latents (2, F, V, c, h, w), equal for every domain and view."""
        levels = to_levels(front).to(self.vae.dtype) / 255
        return self._encode(levels)[None, :, None].expand(2, -1, self.views, -1, -1, -1)

    def encode(self, pictures: Tensor, front: Tensor) -> Tensor:
        """Encode pictures (2, F, V, 3, S, S) in [0, 1] to latents (2, F, V, c, h, w)."""
        latents = self._encode(pictures.flatten(0, 2).to(self.vae.dtype))
        return latents.view(*pictures.shape[:3], *latents.shape[1:])

    def decode(self, latents: Tensor, front: Tensor) -> Tensor:
        """Decode latents to pictures (2, F, V, 3, S, S) in [0, 1]."""
        scaled = latents.flatten(0, 2).to(self.vae.dtype) / self.vae.config.scaling_factor
        # One at a time: a 512 px picture needs about 2.5 GB of activations in float32.
        decoded = torch.cat([self.vae.decode(one[None]).sample for one in scaled])
        return (decoded / 2 + 0.5).clamp(0, 1).view(*latents.shape[:3], *decoded.shape[1:])

    def _encode(self, pictures: Tensor) -> Tensor:
        modes = torch.cat([self.vae.encode(2 * one[None] - 1).latent_dist.mode() for one in pictures])
        return modes * float(self.vae.config.scaling_factor)


class UnclipEncoder:
    """`ImageEncoder` of Era3D: a CLIP embedding with the noise of level 0, and the embedding of that level."""

    def __init__(self, extractor: Any, encoder: Any, normalizer: Any, noising: Any) -> None:
        self.extractor = extractor
        self.encoder = encoder
        self.normalizer = normalizer
        self.noising = noising

    def embed(self, front: Tensor) -> Tensor:
        """Compute CLIP embeddings (F, D) of the input (F, 3, S, S) in [0, 1]."""
        # On the host: `extractor` uses Pillow, as the original does, and takes no GPU tensors.
        seen = self.extractor(images=list(to_levels(front).cpu()), return_tensors="pt").pixel_values
        weight = self.normalizer.mean
        return torch.cat([self.encoder(one[None]).image_embeds for one in seen.to(weight.device, weight.dtype)])

    def labelled(self, embeds: Tensor, noise: Tensor) -> Tensor:
        """Build labels (..., 2 D) from embeddings (..., D) and normal draws that broadcast against them."""
        mean, std = self.normalizer.mean[0], self.normalizer.std[0]
        power = float(self.noising.alphas_cumprod[0])  # 0.99996, which would be 1 in half precision
        noised = sqrt(power) * (embeds - mean) / std + sqrt(1 - power) * noise
        level = get_timestep_embedding(
            torch.zeros(1, device=embeds.device), embeds.shape[-1], flip_sin_to_cos=True, downscale_freq_shift=0
        )
        labels = noised * std + mean
        return torch.cat((labels, level[0].to(labels.dtype).expand_as(labels)), dim=-1)

    def class_labels(self, front: Tensor, generator: torch.Generator) -> Tensor:
        """Compute class labels (F, 2 D) of the input.

        One noise draw for all frames; the original, for one frame, draws for every picture.
        """
        embeds = self.embed(front)
        noise = torch.randn(embeds.shape[-1], generator=generator, device=generator.device)
        return self.labelled(embeds, noise.to(embeds))


def encode_prompts(tokenizer: Any, text_encoder: Any) -> Tensor:
    """Encode `prompt_texts` to last hidden states (2, V, L, D)."""
    tokens = tokenizer(
        prompt_texts(),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        hidden: Tensor = text_encoder(tokens.input_ids.to(text_encoder.device)).last_hidden_state
    return hidden.view(len(DOMAIN_NAMES), len(VIEW_NAMES), *hidden.shape[1:])
