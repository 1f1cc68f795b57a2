"""Interface of a multiview prior to the sampler: network, schedule, codec and conditioning.

Era3D and the small prior of this package are both a `MultiviewPrior`; the sampler depends on neither. Pictures
are channels-first here; F frames, V views, two domains: 0 is the normal map, 1 is the colour picture.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.views.cameras import Cameras

NORMAL, COLOUR = 0, 1  # index of the domain axis


class Codec(Protocol):
    """Deterministic mapping between pictures and the space in which the network denoises."""

    def condition(self, front: Tensor) -> Tensor:
        """Encode the input (F, 3, S, S) in [0, 1] to (2, F, V, c', h, w), concatenated to the noisy latents."""
        ...

    def encode(self, pictures: Tensor, front: Tensor) -> Tensor:
        """Encode pictures (2, F, V, 3, S, S) in [0, 1] to latents (2, F, V, c, h, w).

        Normal maps are 0.5 n + 0.5 with n in the front camera's frame (x right, y up, z to the viewer).
        """
        ...

    def decode(self, latents: Tensor, front: Tensor) -> Tensor:
        """Decode latents to pictures (2, F, V, 3, S, S) in [0, 1]; the inverse of `encode`."""
        ...


class ImageEncoder(Protocol):
    """Encoder of the input picture to the network's class labels."""

    def class_labels(self, front: Tensor, generator: torch.Generator) -> Tensor:
        """Compute labels (F, E) of the input (F, 3, S, S) in [0, 1]; all frames share the generator's draws."""
        ...


@dataclass(frozen=True, kw_only=True)
class MultiviewPrior:
    """A trained multiview diffusion model, ready to sample.

    Attributes:
        unet: the denoiser. Where it was trained with guidance, its unconditional input is zero class labels
            and a zero condition with the same prompts.
        scheduler: a diffusers scheduler; the sampler takes its configuration, never its state.
        codec, image_encoder: see the protocols; on the device and of the type of `unet`. They receive
            pictures in float32 at least, and convert.
        prompts: (2, V, L, D) text or learned embedding of each domain and view.
        cameras: the V views, picture size S.
        size: S, the side of the pictures in pixels.
        background: value of all three channels of an encoded normal map where there is no object: 1.0 is
            white (Era3D), 0.5 is the zero vector. Colour pictures are on white.
    """

    unet: MultiviewUNet
    scheduler: Any
    codec: Codec
    image_encoder: ImageEncoder
    prompts: Tensor
    cameras: Cameras
    size: int
    background: float

    def __post_init__(self) -> None:
        views = len(self.cameras)
        if self.prompts.ndim != 4 or self.prompts.shape[:2] != (2, views):
            raise ValueError(f"prompts must be (2, {views}, L, D), got {tuple(self.prompts.shape)}")
        if self.unet.config.num_views != views:
            raise ValueError(f"the network has {self.unet.config.num_views} views, there are {views} cameras")
        if (self.cameras.width, self.cameras.height) != (self.size, self.size):
            raise ValueError(
                f"cameras of {self.cameras.width} x {self.cameras.height} px, pictures of {self.size} px"
            )
        if self.background not in (0.0, 0.5, 1.0):
            raise ValueError(f"background is {self.background}; expected 0.0, 0.5 or 1.0")


def encode_normals(normal: Tensor, alpha: Tensor, background: float) -> Tensor:
    """Encode unit world normals (..., 3) and alpha (..., 1) as a prior's normal maps (..., 3) in [0, 1].

    Encoded is 0.5 n + 0.5 with n in the front camera's axes: x right, y up, z to the viewer, which is the
    frame of *all* views of Era3D.
    """
    x, y, z = normal.unbind(-1)
    encoded = 0.5 * torch.stack((x, z, -y), dim=-1)
    return background + alpha * (encoded + (0.5 - background))  # exact where the background is 0.5


def decode_normals(pictures: Tensor, background: float) -> tuple[Tensor, Tensor]:
    """Decode normal maps (..., 3) to unit world normals (..., 3), zero outside the object, and alpha (..., 1).

    A normal lies on the unit sphere and the background off it, at the origin (0.5) or at a corner of the cube
    (0, 1). A pixel between them lies on a ray from the background; alpha is its distance over that of the
    sphere along the ray, with a tenth cut off at both ends against noise. An edge pixel thus gets its coverage;
    but a ray from a corner hits the sphere twice, and the nearer hit is taken, which never opens holes:
    where the normal points away from the corner, edges are up to a pixel wider.
    """
    outside = pictures.new_full((3,), 2 * background - 1)
    offset = 2 * pictures - 1 - outside
    distance, ray = offset.norm(dim=-1, keepdim=True), F.normalize(offset, dim=-1)
    reach = torch.ones_like(distance)
    if background != 0.5:
        # |outside + reach * ray| = 1 with |outside|^2 = 3. Rays that miss count as tangents, of length sqrt(2).
        towards = -(ray * outside).sum(-1, keepdim=True).clamp_max(-sqrt(2))
        reach = towards - (towards**2 - 2).clamp_min(0).sqrt()
    alpha = ((distance / reach - 0.1) / 0.8).clamp(0, 1)
    x, y, z = F.normalize(outside + torch.maximum(distance, reach) * ray, dim=-1).unbind(-1)
    return torch.stack((x, -z, y), dim=-1) * (alpha > 0), alpha
