"""The small prior's latents: picture patches as channels, as residuals to a picture known without a network.

Three choices make 64-pixel diffusion trainable in hours on a CPU. Patches of 4 x 4 pixels become channels
(no autoencoder to train or to wait for). Latents are residuals to a base picture: the input itself for the
front colour, the mirrored input for the back colour (under orthographic cameras at elevation 0 the back
silhouette is exactly the mirrored front one), the training set's mean picture elsewhere. Residuals are
divided by their standard deviation per (domain, view), so that the noise schedule sees unit variance.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.multiview.prior import COLOUR
from mvtokenflow.views.cameras import Cameras

FRONT, BACK = 0, 3  # among Era3D's six views
PLANES = 6  # condition channels of position: pixel x and y, viewing direction (3), domain


@dataclass(frozen=True, kw_only=True)
class PatchCodec:
    """A `Codec` by pixel unshuffling; F frames, V views, S pixels, patches of p x p.

    Attributes:
        means: (2, V, 3, S, S) mean picture of each domain and view in [0, 1]; those of the front and back
            colours are unused.
        scales: (2, V) standard deviation of picture minus base. 0 means that the base is the picture: such
            a view is encoded as zeros and decoded to its base, as for the front colour.
        places: (2, V, 6, S / p, S / p) positions of patches (`place_planes`).
        patch: p.
    """

    means: Tensor
    scales: Tensor
    places: Tensor
    patch: int

    def __post_init__(self) -> None:
        domains, views, channels, height, width = self.means.shape
        if domains != 2 or channels != 3 or height != width or height % self.patch:
            raise ValueError(f"means must be (2, V, 3, S, S), S a multiple of {self.patch}: {self.means.shape}")
        grid = height // self.patch
        if self.scales.shape != (2, views) or self.places.shape != (2, views, PLANES, grid, grid):
            raise ValueError(
                f"scales {tuple(self.scales.shape)} or places {tuple(self.places.shape)} do not fit"
            )

    @property
    def channels(self) -> int:
        """Return the number of latent channels."""
        return 3 * self.patch**2

    @property
    def condition_channels(self) -> int:
        """Return the number of channels of `condition`."""
        return self.channels + PLANES

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "PatchCodec":
        """Return the codec on another device or in another floating-point type."""
        return replace(
            self,
            means=self.means.to(device, dtype),
            scales=self.scales.to(device, dtype),
            places=self.places.to(device, dtype),
        )

    def condition(self, front: Tensor) -> Tensor:
        """Compute the condition (2, F, V, c', h, w): input in [-1, 1], mirrored at the back, and positions."""
        views = self.means.shape[1]
        seen = front[:, None].expand(-1, views, -1, -1, -1).clone()
        seen[:, BACK] = front.flip(-1)
        patches = F.pixel_unshuffle(2 * seen - 1, self.patch)
        frames = len(front)
        return torch.cat(
            (
                patches[None].expand(2, -1, -1, -1, -1, -1),
                self.places[:, None].expand(-1, frames, -1, -1, -1, -1),
            ),
            dim=3,
        )

    def encode(self, pictures: Tensor, front: Tensor) -> Tensor:
        """Encode pictures (2, F, V, 3, S, S) in [0, 1] to latents (2, F, V, c, h, w)."""
        scales = self.scales[:, None, :, None, None, None]
        safe = torch.where(scales > 0, scales, torch.ones_like(scales))
        return F.pixel_unshuffle((pictures - self.base(front)) / safe * (scales > 0), self.patch)

    def decode(self, latents: Tensor, front: Tensor) -> Tensor:
        """Decode latents of any range to pictures (2, F, V, 3, S, S) in [0, 1]."""
        residual = F.pixel_shuffle(latents, self.patch) * self.scales[:, None, :, None, None, None]
        return (self.base(front) + residual).clamp(0, 1)

    def base(self, front: Tensor) -> Tensor:
        """Return the base pictures (2, F, V, 3, S, S), to which zero latents decode."""
        base = self.means[:, None].expand(-1, len(front), -1, -1, -1, -1).clone()
        base[COLOUR, :, FRONT] = front
        base[COLOUR, :, BACK] = front.flip(-1)
        return base


def place_planes(cameras: Cameras, patch: int) -> Tensor:
    """Compute position planes (2, V, 6, h, w): patch centre x, y in [-1, 1], viewing direction, domain.

    The network has no other information about a patch's position: attention layers and prompts have none.
    """
    views, grid = len(cameras), cameras.width // patch
    axis = (torch.arange(grid) + 0.5) * 2 / grid - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    planes = torch.empty(2, views, PLANES, grid, grid)
    planes[:, :, 0], planes[:, :, 1] = x, y
    planes[:, :, 2:5] = cameras.world_to_camera[:, 2, :3][None, :, :, None, None]
    planes[:, :, 5] = torch.tensor([-1.0, 1.0])[:, None, None, None]
    return planes


def measure_codec(batches: Iterable[Tensor], cameras: Cameras, patch: int) -> PatchCodec:
    """Build the codec of a training set from its mean pictures and its residuals' standard deviations.

    Args:
        batches: pictures (2, B, V, 3, S, S) in [0, 1], all of the sample; held in memory as bytes.
    """
    held = [(255 * pictures).round().to(torch.uint8) for pictures in batches]
    count = sum(pictures.shape[1] for pictures in held)
    total = torch.stack([pictures.double().sum(dim=1) for pictures in held]).sum(dim=0)
    means = (total / (255 * count)).float()
    views = means.shape[1]
    codec = PatchCodec(
        means=means, scales=torch.ones(2, views), places=place_planes(cameras, patch), patch=patch
    )
    squares = torch.zeros(2, views, dtype=torch.float64)
    for pictures in held:
        exact = pictures.float() / 255
        residual = exact - codec.base(exact[COLOUR, :, FRONT])
        squares += residual.double().square().mean(dim=(3, 4, 5)).sum(dim=1)
    scales = (squares / count).sqrt().float()
    scales[COLOUR, FRONT] = 0.0
    return replace(codec, scales=scales)
