"""Features of a 4-D box as products over six planes (K-planes, Fridovich-Keil et al. 2023; HexPlane).

Each plane has two of the axes x, y, z, t, in the order xy, xz, xt, yz, yt, zt. A plane of the axes
a and b is (1, C, R_b, R_a). Coordinates lie in [-1, 1]: corners are the outermost entries, points outside read
the border.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.layers import fill_uniform

PAIRS = tuple(combinations(range(4), 2))
SPACE_PLANES = tuple(index for index, pair in enumerate(PAIRS) if 3 not in pair)
TIME_PLANES = tuple(index for index, pair in enumerate(PAIRS) if 3 in pair)
SPACE_INITIAL = (0.1, 0.5)  # range of the initial values; planes with time start at 1, which changes nothing


def sample_planes(planes: Sequence[Tensor], coordinates: Tensor) -> Tensor:
    """Multiply the bilinear samples of six planes at points of the box.

    Args:
        planes: six (1, C, R_b, R_a). coordinates: (N, 4) as x, y, z, t in [-1, 1].

    Returns:
        (N, C).
    """
    product: Tensor | None = None
    for plane, (first, second) in zip(planes, PAIRS, strict=True):
        grid = torch.stack([coordinates[:, first], coordinates[:, second]], dim=-1)[None, None]
        sampled = F.grid_sample(plane, grid, mode="bilinear", padding_mode="border", align_corners=True)
        product = sampled if product is None else product * sampled
    assert product is not None
    return product[0, :, 0].T


def second_difference(plane: Tensor) -> Tensor:
    """Mean square of the second differences of a plane (1, C, h, w) along its rows' axis, h >= 3."""
    step = plane[:, :, 1:] - plane[:, :, :-1]
    return (step[:, :, 1:] - step[:, :, :-1]).square().mean()


def space_smoothness(levels: Iterable[Sequence[Tensor]]) -> Tensor:
    """Sum over levels of the second differences of the planes xy, xz, yz.

    Along the second of their axes alone, as in 4DGS and the methods that took it over.
    """
    return _sum(second_difference(planes[index]) for planes in levels for index in SPACE_PLANES)


def time_smoothness(levels: Iterable[Sequence[Tensor]]) -> Tensor:
    """Sum over levels of the second differences of the planes xt, yt, zt along time."""
    return _sum(second_difference(planes[index]) for planes in levels for index in TIME_PLANES)


def time_l1(levels: Iterable[Sequence[Tensor]]) -> Tensor:
    """Sum over levels of the mean distance from 1 of the planes xt, yt, zt; 0 is a static field."""
    return _sum((1 - planes[index]).abs().mean() for planes in levels for index in TIME_PLANES)


def plane_regularisation(
    levels: Iterable[Sequence[Tensor]], *, space: float = 0.05, time: float = 5.0, l1: float = 0.05
) -> Tensor:
    """Weighted sum of the three terms; the weights are STAG4D's."""
    kept = list(levels)
    return space * space_smoothness(kept) + time * time_smoothness(kept) + l1 * time_l1(kept)


def signed_time(frame: float, count: int) -> float:
    """Time of a frame, or of a fraction between two, in [-1, 1 - 2 / T] (Consistent4D, DreamGaussian4D)."""
    return (frame / count - 0.5) * 2


def upper_time(frame: float, count: int) -> float:
    """Time of a frame in [0, 1), which uses the upper half of the planes alone (STAG4D)."""
    return frame / count


def zero_planes(resolutions: Sequence[Sequence[int]], channels: Sequence[int]) -> nn.ModuleList:
    """Build levels of six planes of zeros each.

    Args:
        resolutions: entries along x, y, z, t of each level, 2 or more. channels: C of each level.

    Raises:
        ConfigError: no level, or an axis with fewer than two entries.
    """
    if not resolutions or any(len(sides) != 4 or min(sides) < 2 for sides in resolutions):
        raise ConfigError(f"planes of the resolutions {resolutions}; expected four of 2 or more per level")
    return nn.ModuleList(
        nn.ParameterList(
            nn.Parameter(torch.zeros(1, width, sides[second], sides[first])) for first, second in PAIRS
        )
        for sides, width in zip(resolutions, channels, strict=True)
    )


@torch.no_grad()
def fill_planes(levels: Iterable[Sequence[Tensor]], generator: torch.Generator) -> None:
    """Draw planes of space in 0.1 to 0.5 and set those with time to 1."""
    low, high = SPACE_INITIAL
    for planes in levels:
        for index, plane in enumerate(planes):
            if index in TIME_PLANES:
                plane.fill_(1.0)
            else:
                fill_uniform(plane, (high - low) / 2, generator)
                plane.add_((high + low) / 2)


def planes_of(grids: nn.ModuleList) -> list[list[Tensor]]:
    """List the six planes of each level of `zero_planes`."""
    return [list(level.parameters()) for level in grids]


class PlaneLevels(nn.Module):
    """Planes of one or more resolutions over one box; parameters are named as in the originals.

    Zero until `initialise` or `load_state_dict`.

    Args:
        resolutions: entries along x, y, z, t of each level, 2 or more. channels: C of each plane.

    Attributes:
        grids: levels, each a list of six planes.
    """

    def __init__(self, resolutions: Sequence[Sequence[int]], channels: int) -> None:
        super().__init__()
        self.grids = zero_planes(resolutions, [channels] * len(resolutions))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the initial values, see `fill_planes`."""
        fill_planes(self.levels(), generator)

    def levels(self) -> list[list[Tensor]]:
        """List the six planes of each level."""
        return planes_of(self.grids)

    def features(self, coordinates: Tensor) -> list[Tensor]:
        """Sample each level at coordinates (N, 4), giving a list of (N, C)."""
        return [sample_planes(planes, coordinates) for planes in self.levels()]

    def forward(self, coordinates: Tensor) -> Tensor:
        """Sample all levels at coordinates (N, 4) and concatenate them, (N, levels * C)."""
        return torch.cat(self.features(coordinates), dim=-1)


def multires(resolution: Sequence[int], factors: Sequence[int]) -> list[list[int]]:
    """List the resolutions of levels whose space is finer by the factors and whose time is not."""
    *space, time = resolution
    return [[*(side * factor for side in space), time] for factor in factors]


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum()
