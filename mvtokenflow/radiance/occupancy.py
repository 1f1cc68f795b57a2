"""A grid of cells that may hold something, so that empty space is not sampled (NerfAcc, Li et al. 2023)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

DECAY = 0.95
THRESHOLD = 0.01


@dataclass(frozen=True)
class Occupancy:
    """Largest recent optical thickness of the cells of a cube around the origin.

    Attributes:
        values: (R, R, R) by x, y, z, 0 or more. half_side: of the cube, world units.
    """

    values: Tensor
    half_side: float

    @classmethod
    def full(cls, resolution: int, half_side: float) -> "Occupancy":
        """Start with every cell occupied."""
        return cls(torch.ones(resolution, resolution, resolution), half_side)

    def places(self, generator: torch.Generator | None = None) -> Tensor:
        """Points (R³, 3) of all cells: centres, or random places within from a generator of the CPU."""
        side = len(self.values)
        axis = torch.arange(side, dtype=self.values.dtype)
        corners = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
        share = (
            torch.full_like(corners, 0.5)
            if generator is None
            else torch.rand(corners.shape, generator=generator)
        )
        return ((corners + share) * (2 / side) - 1).to(self.values) * self.half_side

    def updated(self, thickness: Tensor, decay: float = DECAY) -> "Occupancy":
        """Return the grid after new values (R³,): density times the length of a step, at `places`."""
        fresh = thickness.detach().reshape(self.values.shape)
        return replace(self, values=torch.maximum(self.values * decay, fresh))

    def occupied(self, threshold: float = THRESHOLD) -> Tensor:
        """Return the cells (R, R, R) above the threshold, or above the mean where that is lower."""
        return self.values > min(float(self.values.mean()), threshold)

    def contains(self, points: Tensor, threshold: float = THRESHOLD) -> Tensor:
        """Return whether points (..., 3) lie in occupied cells; outside the cube they do not."""
        side = len(self.values)
        cells = ((points / self.half_side + 1) * (side / 2)).floor().long()
        inside = ((cells >= 0) & (cells < side)).all(-1)
        x, y, z = cells.clamp(0, side - 1).unbind(-1)
        return inside & self.occupied(threshold)[x, y, z]
