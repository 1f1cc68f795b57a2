"""SC4D's motion: a network that moves control points, and Gaussians that follow four of them each.

Unlike SC-GS's (`deform`, `control`), the network encodes time without another network and gives quaternions,
control points have no weights, and the distances that weigh them pass no gradient to positions: they train the
radii alone. In the first stage every Gaussian is moved by the network at its own place; all share one radius.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.layers import fill_xavier, zero_linear
from mvtokenflow.splat.control import Skinning, blend, quaternion_product, skinning
from mvtokenflow.splat.deform import NodeMotion

POINT_BANDS = 10
TIME_BANDS = 6
NEIGHBOURS = 4


class PointMotion(NamedTuple):
    """Motion of M points at some times.

    Attributes:
        translation: (..., M, 3) world units. quaternion: (..., M, 4) wxyz, of any length.
    """

    translation: Tensor
    quaternion: Tensor


def encode_waves(values: Tensor, bands: int) -> Tensor:
    """Encode values as sines and cosines of 2^k times them, (..., D) to (..., 2 · bands · D)."""
    return torch.cat([wave(values * 2.0**k) for k in range(bands) for wave in (torch.sin, torch.cos)], dim=-1)


class TimeNet(nn.Module):
    """Multilayer perceptron that maps a point and a time to a translation and a quaternion.

    Parameters carry SC4D's names and shapes, so its checkpoints load. All are zero until `initialise` or
    `load_state_dict`.

    Args:
        width: hidden units. depth: hidden layers. skip_after: index of the layer after which the encoding is
            concatenated again, 0 to depth - 2.
    """

    def __init__(self, width: int = 256, depth: int = 8, skip_after: int = 4) -> None:
        super().__init__()
        if not 0 <= skip_after <= depth - 2:
            raise ConfigError(
                f"skip_after is {skip_after} in a network of {depth} layers; expected 0 to depth - 2"
            )
        self.skip_after = skip_after
        inputs = 2 * (3 * POINT_BANDS + TIME_BANDS)
        self.deformnet = nn.ModuleList(
            zero_linear(inputs if index == 0 else width + inputs * (index == skip_after + 1), width)
            for index in range(depth)
        )
        self.pts_layers = nn.Sequential(zero_linear(width, width), nn.ReLU(), zero_linear(width, 3))
        self.rot_layers = nn.Sequential(zero_linear(width, width), nn.ReLU(), zero_linear(width, 4))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw Xavier-uniform weights; the last layers give no motion at first."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                fill_xavier(layer, generator)
        for layer, rest in ((self.pts_layers[-1], (0.0, 0, 0)), (self.rot_layers[-1], (1.0, 0, 0, 0))):
            assert isinstance(layer, nn.Linear)
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor(rest))

    def encode(self, points: Tensor, times: Tensor) -> Tensor:
        """Encode points (..., 3) and times (..., 1), whose leading sizes broadcast, to (..., 72)."""
        parts = [encode_waves(points, POINT_BANDS), encode_waves(times, TIME_BANDS)]
        lead = (points[..., :1] + times).shape[:-1]
        return torch.cat([part.expand(*lead, part.shape[-1]) for part in parts], dim=-1)

    def forward(self, points: Tensor, times: Tensor) -> PointMotion:
        """Compute the motion of points at times t / T in [0, 1).

        Args:
            points: (..., 3). times: (..., 1); points (M, 3) and times (T, 1, 1) give (T, M, ·).
        """
        inputs = self.encode(points, times)
        hidden = inputs
        for index, layer in enumerate(self.deformnet):
            hidden = torch.relu(layer(hidden))
            if index == self.skip_after:
                hidden = torch.cat([inputs, hidden], dim=-1)
        return PointMotion(self.pts_layers(hidden), self.rot_layers(hidden))


def radial_skinning(points: Tensor, nodes: Tensor, log_radii: Tensor, count: int = NEIGHBOURS) -> Skinning:
    """Find the nearest control points and their weights `exp(-d² / 2r²) + 1e-7`, rows summing to 1.

    Args:
        points: (N, 3). nodes: (M, 3). log_radii: (M,), the only ones to get a gradient. count: K.

    Raises:
        DataError: fewer than `count` control points.
    """
    return skinning(points, nodes, log_radii, None, count=count, detach_positions=True)


def follow(
    points: Tensor, raw_quats: Tensor, nodes: Tensor, motion: PointMotion, weighting: Skinning
) -> tuple[Tensor, Tensor]:
    """Move Gaussians by their control points: `x' = Σ_k w_k (R_k (x - c_k) + c_k + d_k)`.

    Rotations are `normalize((Σ_k w_k q_k) q)`. Scales and colours do not change.

    Args:
        points: (N, 3). raw_quats: (N, 4) wxyz, of any length. nodes: (M, 3), at rest.
        motion: of the control points, (M, ·), or (T, M, ·) for several times.

    Returns:
        centres (..., N, 3) and unit quaternions (..., N, 4).
    """
    rest = motion.quaternion.new_tensor([1.0, 0.0, 0.0, 0.0])
    turn = motion.quaternion - rest  # `blend` adds it again
    moved = blend(
        points,
        nodes,
        NodeMotion(motion.translation, turn, torch.zeros_like(motion.translation), turn),
        weighting,
        rotation_as_residual=False,
    )
    return points + moved.translation, F.normalize(quaternion_product(moved.rotation, raw_quats), dim=-1)


def shared_scales(log_radius: Tensor, count: int) -> Tensor:
    """Scales (count, 3) of the first stage, whose Gaussians are spheres of one trained radius."""
    return log_radius.exp().reshape(1, 1).expand(count, 3)
