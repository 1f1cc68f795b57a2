"""Deformation of Gaussians read from planes: random heads (STAG4D, 4DGS) or residual ones (DreamGaussian4D).

Residual heads are zero at the start, so that the field at any time is exactly the static one; random heads make
it jump when the deformation is switched on. Opacities do not move in either.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.layers import fill_xavier, zero_linear
from mvtokenflow.radiance.planes import PlaneLevels, multires

HeadKind = Literal["plain", "residual"]
HEADS = ("plain", "residual")
BOUNDS = 1.6  # half side of the box in world units


class PlaneMotion(NamedTuple):
    """What planes add to raw parameters of N Gaussians at T times.

    Attributes:
        means: (T, N, 3) world units. log_scales: (T, N, 3). quats: (T, N, 4), added before normalising.
    """

    means: Tensor
    log_scales: Tensor
    quats: Tensor


class ResidualLayer(nn.Module):
    """Linear layer with a skip: `u + L u` for `u = relu(x)`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.main_stream = zero_linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., width) to the same shape."""
        active = torch.relu(hidden)
        summed: Tensor = active + self.main_stream(active)
        return summed


class ResidualHead(nn.Module):
    """Head of DreamGaussian4D, whose layers both start at zero: at first only the last one gets a gradient."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.feature_out = nn.Sequential(ResidualLayer(width), zero_linear(width, outputs))

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., width) to (..., outputs)."""
        moved: Tensor = self.feature_out(hidden)
        return moved


def _plain_head(width: int, outputs: int) -> nn.Sequential:
    """Build the head of STAG4D: relu, linear, relu, linear."""
    return nn.Sequential(nn.ReLU(), zero_linear(width, width), nn.ReLU(), zero_linear(width, outputs))


class PlaneDeformation(nn.Module):
    """Deformation read from planes by a small network; parameters are named as in the originals.

    Args:
        resolution: entries along x, y, z, t of the coarsest level.
        factors: of each level's space resolution. channels: of a plane. width: hidden units. depth: linear
            layers before the heads. heads: "plain" or "residual".
        bounds: half side of the box in world units.
        mirrored: True reads space at -x / bounds, as the originals do (their box is stored as [max, min]);
            it matters to their checkpoints alone.
    """

    def __init__(
        self,
        resolution: Sequence[int],
        factors: Sequence[int],
        channels: int,
        width: int,
        *,
        heads: HeadKind,
        depth: int = 1,
        bounds: float = BOUNDS,
        mirrored: bool = True,
    ) -> None:
        super().__init__()
        if heads not in HEADS:
            raise ConfigError(f"heads are {heads!r}; expected one of {', '.join(HEADS)}")
        if depth < 1:
            raise ConfigError(f"depth is {depth}; give 1 or more")
        self.kind, self.bounds, self.mirrored = heads, bounds, mirrored
        self.grid = PlaneLevels(multires(resolution, factors), channels)
        layers: list[nn.Module] = [zero_linear(channels * len(factors), width)]
        for _ in range(depth - 1):
            layers += [nn.ReLU(), zero_linear(width, width)]
        self.feature_out = nn.Sequential(*layers)
        build = _plain_head if heads == "plain" else ResidualHead
        self.pos_deform = build(width, 3)
        self.scales_deform = build(width, 3)
        self.rotations_deform = build(width, 4)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the initial values: planes, then layers Xavier-uniform; residual heads are zero."""
        self.grid.initialise(generator)
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Linear):
                if self.kind == "plain" or name.startswith("feature_out"):
                    fill_xavier(layer, generator)
                else:
                    nn.init.zeros_(layer.weight)
                    nn.init.zeros_(layer.bias)

    def coordinates(self, means: Tensor, times: Sequence[float] | Tensor) -> Tensor:
        """Place N points (N, 3) at T times into the box, (T, N, 4)."""
        at = torch.as_tensor(times, dtype=means.dtype, device=means.device)
        space = means / (-self.bounds if self.mirrored else self.bounds)
        shape = (len(at), len(means))
        return torch.cat([space.expand(*shape, 3), at[:, None, None].expand(*shape, 1)], dim=-1)

    def forward(self, means: Tensor, times: Sequence[float] | Tensor) -> PlaneMotion:
        """Compute the motion of points (N, 3), world units, at T times in the planes' range, (T, N, ·)."""
        coordinates = self.coordinates(means, times)
        features = self.grid(coordinates.flatten(0, 1))
        hidden = self.feature_out(features)
        heads = (self.pos_deform, self.scales_deform, self.rotations_deform)
        return PlaneMotion(*(head(hidden).unflatten(0, coordinates.shape[:2]) for head in heads))


def moved(
    means: Tensor, log_scales: Tensor, quats: Tensor, motion: PlaneMotion
) -> tuple[Tensor, Tensor, Tensor]:
    """Add a motion to raw parameters (N, ·), giving (T, N, ·): centres, log scales, raw quaternions."""
    return means + motion.means, log_scales + motion.log_scales, quats + motion.quats


def from_checkpoint(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the parameters of `PlaneDeformation` from an original `deformation.pth`.

    STAG4D's head of opacities is left out: it exists, and nothing uses it. So are buffers that hold the box and
    the bands of an unused encoding.
    """
    prefix = "deformation_net."
    used = ("grid.grids.", "feature_out.", "pos_deform.", "scales_deform.", "rotations_deform.")
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return {key: value for key, value in inside.items() if key.startswith(used)}
