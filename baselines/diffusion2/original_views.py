"""The matrix of the original's models, from input frames to views: encoding, orbit, joint sampling, decoding.

An orbit of one input frame is drawn by SV3D alone; its views condition SVD. Then the matrix of views and frames
is sampled by both. Pictures are 576 px on white; a segmenter separates the object, as there is no other source
of a mask. SV3D's cameras have 33.8 degrees of view; they stand where 2 units of the plane through the
origin fill the picture, as with the small prior's.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPVisionModelWithProjection

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.progress import Progress
from mvtokenflow.baselines.diffusion2.original import (
    SV3D_UNET,
    SVD_UNET,
    Condition,
    camera_vectors,
    clean_sequence,
    matrix_denoiser,
    motion_vectors,
    read_unet,
)
from mvtokenflow.baselines.diffusion2.settings import Diffusion2Settings, EdmSampling
from mvtokenflow.media.segment import Segmenter
from mvtokenflow.method.generated import straight_colours
from mvtokenflow.multiview.composition import edm_sigmas, even_azimuths, sample_jointly
from mvtokenflow.views.cameras import Cameras, orbit
from mvtokenflow.views.video import MultiviewVideo

FOV_DEG = 33.8
_SCALE = 0.18215  # of the autoencoder's latents, for unit variance
_DECODED = 5  # frames that the decoder sees at once
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def orbit_cameras(views: int, size: int) -> Cameras:
    """Return level cameras at V even azimuths, the input's first: it is the last of SV3D's orbit."""
    azimuths = np.roll(even_azimuths(views), 1) % 360
    radius = 1 / math.tan(math.radians(FOV_DEG / 2))
    return orbit(tuple(azimuths.tolist()), size=size, kind="pinhole", radius=radius, fov_deg=FOV_DEG)


@dataclass(frozen=True, kw_only=True)
class OriginalModels:
    """SV3D, SVD, and what they share, of one device and type.

    Attributes:
        views_unet, frames_unet: see `original`. autoencoder, encoder: SVD's, of diffusers and transformers.
        segmenter: gives masks of generated pictures.
        names: what identifies the weights, by "prior" and "video".
        views: V.
        picture: side that the image encoder takes.
    """

    views_unet: Any
    frames_unet: Any
    autoencoder: Any
    encoder: Any
    segmenter: Segmenter
    names: Mapping[str, str]
    views: int = 21
    picture: int = 224

    @torch.no_grad()
    def sample(
        self,
        front: Tensor,
        times: Tensor,
        settings: Diffusion2Settings,
        generator: torch.Generator,
        progress: Progress | None = None,
    ) -> MultiviewVideo:
        """Sample the views (T, V, S, S, 3) of input frames (T, S, S, 3) on white.

        Raises:
            ConfigError: more frames than the video model was trained with.
        """
        edm = settings.edm
        if len(front) > edm.frames:
            raise ConfigError(
                f"{len(front)} frames, but SVD-XT was trained with {edm.frames}; raise stride to use fewer"
            )
        frames = front.movedim(-1, 1).to(self._reference())
        anchor = 0 if edm.anchor == "first" else len(front) - 1
        cameras = camera_vectors(torch.tensor(even_azimuths(edm.views)), 0.0, edm)
        of_frames = [self._condition(one, cameras, edm.augmentation, generator) for one in frames]
        shown = self._decoded(self._orbit(of_frames[anchor], edm, generator))
        motion = motion_vectors(len(front), edm)
        of_views = [self._condition(one, motion, edm.video_augmentation, generator) for one in shown]
        matrix = self._matrix(of_frames, of_views, edm, generator, progress)
        pictures = torch.stack([self._decoded(view) for view in matrix]).movedim(2, -1)  # (V, T, S, S, 3)
        rgb = pictures.roll(1, dims=0).transpose(0, 1).float().cpu()
        alpha = torch.stack([torch.stack([self._mask(one) for one in frame]) for frame in rgb])
        return MultiviewVideo(
            rgb=straight_colours(rgb, alpha), alpha=alpha, cameras=orbit_cameras(edm.views, front.shape[1])
        )

    def _reference(self) -> Tensor:
        """Return a tensor of the models' device and type."""
        found: Tensor = next(self.autoencoder.parameters())
        return found

    def _condition(
        self, picture: Tensor, vectors: Tensor, augmentation: float, generator: torch.Generator
    ) -> Condition:
        """Encode a picture (3, S, S) in [0, 1]; the autoencoder gets it with noise, the other without."""
        noise = torch.randn(picture.shape, generator=generator, device=generator.device).to(picture)
        latents = self.autoencoder.encode((2 * picture - 1 + augmentation * noise)[None]).latent_dist.mode()
        small = F.interpolate(
            picture[None].float(), (self.picture, self.picture), mode="bicubic", antialias=True
        )
        mean, std = (small.new_tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        context = self.encoder(((small.clamp(0, 1) - mean) / std).to(picture)).image_embeds
        return Condition(latents=latents[0], context=context, vectors=vectors)

    def _orbit(self, condition: Condition, edm: EdmSampling, generator: torch.Generator) -> Tensor:
        """Sample the views (V, 4, h, w) of one frame by SV3D alone."""
        scale = torch.tensor(edm.guidance)

        def denoise(sample: Tensor, sigma: Tensor, level: int) -> Tensor:
            return clean_sequence(self.views_unet, sample, sigma, condition, scale)

        sigmas = self._sigmas(edm)
        return sample_jointly(self._start((edm.views,), condition, sigmas, generator), sigmas, denoise, [])

    def _matrix(
        self,
        of_frames: list[Condition],
        of_views: list[Condition],
        edm: EdmSampling,
        generator: torch.Generator,
        progress: Progress | None,
    ) -> Tensor:
        """Sample the matrix (V, T, 4, h, w)."""
        sigmas = self._sigmas(edm)
        start = self._start((edm.views, len(of_frames)), of_frames[0], sigmas, generator)
        extra = [self._noise(start.shape, start, generator) for _ in range(edm.renoised)]
        sized = replace(edm, frames=len(of_frames))
        denoiser = matrix_denoiser(self.views_unet, self.frames_unet, of_frames, of_views, sized)

        def watch(level: int, sample: Tensor) -> None:
            if progress is not None:
                progress("denoise", level + 1, edm.steps)

        return sample_jointly(start, sigmas, denoiser, extra, kind=edm.renoise, watch=watch)

    def _sigmas(self, edm: EdmSampling) -> Tensor:
        return edm_sigmas(edm.steps, edm.largest, edm.smallest, edm.rho).to(self._reference().device)

    def _start(
        self, lead: tuple[int, ...], like: Condition, sigmas: Tensor, generator: torch.Generator
    ) -> Tensor:
        noise = self._noise((*lead, *like.latents.shape), like.latents, generator)
        return noise * (1 + sigmas[0].square()).sqrt().to(noise)

    def _noise(self, shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal draws in float32, whatever the type of the models."""
        return torch.randn(shape, generator=generator, device=generator.device).to(like.device)

    def _decoded(self, latents: Tensor) -> Tensor:
        """Decode a sequence (N, 4, h, w) to pictures (N, 3, S, S) in [0, 1]."""
        parts = [
            self.autoencoder.decode(part / _SCALE, num_frames=len(part)).sample
            for part in torch.split(latents.to(self._reference()), _DECODED)
        ]
        return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)

    def _mask(self, picture: Tensor) -> Tensor:
        """Alpha (S, S, 1) of a picture (S, S, 3) in [0, 1]."""
        pixels = (picture.numpy() * 255).round().astype(np.uint8)
        (mask,) = self.segmenter(pixels[None], [0])
        return torch.from_numpy(mask.astype(np.float32) / 255)[..., None]


def load_original(
    sv3d: Path,
    svd: Path,
    segmenter: Callable[[], Segmenter],
    names: Mapping[str, str],
    device: str,
    dtype: torch.dtype = torch.float16,
) -> OriginalModels:
    """Load the models from folders of diffusers' layout; in half precision, which only a GPU computes well.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `read_unet`, and as the segmenter.
    """
    autoencoder: Any = AutoencoderKLTemporalDecoder
    encoder: Any = CLIPVisionModelWithProjection
    return OriginalModels(
        views_unet=read_unet(sv3d, SV3D_UNET, dtype).to(device),
        frames_unet=read_unet(svd, SVD_UNET, dtype).to(device),
        autoencoder=autoencoder.from_pretrained(svd / "vae", torch_dtype=dtype).to(device).eval(),
        encoder=encoder.from_pretrained(svd / "image_encoder", torch_dtype=dtype).to(device).eval(),
        segmenter=segmenter(),
        names=names,
    )
