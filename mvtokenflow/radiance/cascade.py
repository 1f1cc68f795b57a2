"""Consistent4D's radiance field: a residual cascade of planes, each level of which is rendered by itself.

Level k has its own planes and networks; its density and colour before the activations are the sums of what
levels 0 to k give. Density has a bias that starts the field as a blob. Every level is rendered and supervised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.layers import fill_default, zero_linear
from mvtokenflow.radiance.planes import fill_planes, planes_of, sample_planes, zero_planes

NORMAL_STEP = 1e-3  # of the finite differences, world units


@dataclass(frozen=True, kw_only=True)
class CascadeLevel:
    """Size of one level; the published ones are 16 channels and 32 units.

    Attributes:
        resolution: entries along x, y, z, t. channels: of a plane. width: hidden units of its networks.
    """

    resolution: tuple[int, int, int, int]
    channels: int = 16
    width: int = 32


PUBLISHED = (CascadeLevel(resolution=(50, 50, 50, 8)), CascadeLevel(resolution=(100, 100, 100, 16)))


class Radiance(NamedTuple):
    """Values of all L levels at N points.

    Attributes:
        density: (L, N, 1), per world unit, 0 or more. features: (L, N, 3) colours before the sigmoid.
    """

    density: Tensor
    features: Tensor

    @property
    def colours(self) -> Tensor:
        """Return the colours (L, N, 3) in [0, 1]."""
        return self.features.sigmoid()


class PlainNetwork(nn.Module):
    """Two linear layers without biases and a ReLU between them."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        first, last = zero_linear(inputs, width, bias=False), zero_linear(width, outputs, bias=False)
        self.layers = nn.Sequential(first, nn.ReLU(), last)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs)."""
        found: Tensor = self.layers(features)
        return found


class CascadeField(nn.Module):
    """Radiance field over a box and time; parameters are named as in the original.

    Zero until `initialise` or `load_state_dict`.

    Args:
        levels: from coarse to fine, one or more. radius: half side of the box, world units.
        blob_scale, blob_std: density gets `blob_scale (1 - |x| / blob_std)` before the softplus.
    """

    def __init__(
        self,
        levels: Sequence[CascadeLevel] = PUBLISHED,
        *,
        radius: float = 1.0,
        blob_scale: float = 10.0,
        blob_std: float = 0.5,
    ) -> None:
        super().__init__()
        if not levels:
            raise ConfigError("a cascade needs one level or more")
        self.radius, self.blob_scale, self.blob_std = radius, blob_scale, blob_std
        self.grids = zero_planes([level.resolution for level in levels], [level.channels for level in levels])
        self.density_network = nn.ModuleList(PlainNetwork(level.channels, level.width, 1) for level in levels)
        self.feature_network = nn.ModuleList(PlainNetwork(level.channels, level.width, 3) for level in levels)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the initial planes, and layers as torch does."""
        fill_planes(planes_of(self.grids), generator)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                fill_default(layer, generator)

    def forward(self, points: Tensor, times: Tensor) -> Radiance:
        """Compute all levels at points (N, 3), world units, and times (N, 1) in [-1, 1]."""
        sampled = self._features(points, times)
        features = [network(part) for network, part in zip(self.feature_network, sampled, strict=True)]
        return Radiance(self._activated(points, sampled), torch.stack(features).cumsum(0))

    def density(self, points: Tensor, times: Tensor, levels: int | None = None) -> Tensor:
        """Compute the densities (levels, N, 1) of the first levels alone; None is all, 1 fills occupancy."""
        return self._activated(points, self._features(points, times)[:levels])

    def normals(self, points: Tensor, times: Tensor, step: float = NORMAL_STEP) -> Tensor:
        """Unit normals (L, N, 3) by central differences of the density, clipped to the box: six densities."""
        offsets = step * torch.eye(3, dtype=points.dtype, device=points.device)
        places = torch.stack([points + sign * offset for offset in offsets for sign in (1.0, -1.0)])
        inside = places.clamp(-self.radius, self.radius)
        found = self.density(inside.flatten(0, 1), times.repeat(len(places), 1))
        ahead, behind = found.view(len(found), 3, 2, len(points)).unbind(2)
        return F.normalize((-0.5 * (ahead - behind) / step).transpose(1, 2), dim=-1)

    def _features(self, points: Tensor, times: Tensor) -> list[Tensor]:
        coordinates = torch.cat([points / self.radius, times], dim=-1)
        return [sample_planes(planes, coordinates) for planes in planes_of(self.grids)]

    def _activated(self, points: Tensor, sampled: Sequence[Tensor]) -> Tensor:
        networks = list(self.density_network)[: len(sampled)]
        raw = torch.stack([network(part) for network, part in zip(networks, sampled, strict=True)]).cumsum(0)
        squared = points.square().sum(-1, keepdim=True)  # not `norm`: the original's digits in float32
        distance = squared.clamp_min(torch.finfo(points.dtype).tiny).sqrt()  # with a gradient at 0
        return F.softplus(raw + self.blob_scale * (1 - distance / self.blob_std))
