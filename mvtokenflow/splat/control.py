"""Control points that steer Gaussians by linear blend skinning (Huang et al. 2024, SC-GS)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.splat.deform import DeformNetwork, NodeMotion
from mvtokenflow.splat.gaussians import HYPER_OFFSET
from mvtokenflow.splat.kernels.rotations import rotation_matrices

_WEIGHT_FLOOR = 1e-7  # keeps the weights of a Gaussian far from every control point summing to 1


class Skinning(NamedTuple):
    """Indices and weights of the K control points that move each of N Gaussians.

    Attributes:
        indices: (N, K) int64, nearest first. weights: (N, K), non-negative, rows sum to 1.
    """

    indices: Tensor
    weights: Tensor


class Deformation(NamedTuple):
    """Offsets of N Gaussians that skinning computes.

    Attributes:
        translation: (..., N, 3) added to the centres.
        rotation: (..., N, 4) wxyz, added to the raw quaternion, or multiplied onto it from the left.
        scaling: (..., N, 3) added to the activated scales.
    """

    translation: Tensor
    rotation: Tensor
    scaling: Tensor


def farthest_points(points: Tensor, count: int, start: int = 0, *, upstream: bool = False) -> Tensor:
    """Choose `count` points by farthest point sampling and return their indices (count,).

    Each next point is the farthest from all chosen ones, by squared Euclidean distance; ties go to the first.

    Args:
        points: (N, D). count: 1 to N. start: index of the first chosen point.
        upstream: True gives N - 1 - i for every chosen i: which points SC4D's code keeps, as it reads the
            indices as a mask, so that they are not far from one another.

    Raises:
        DataError: `count` is outside 1 to N.
    """
    if not 1 <= count <= points.shape[0]:
        raise DataError(f"{count} points were asked for of {points.shape[0]}; ask for 1 to all of them")
    points = points.detach()
    chosen = torch.empty(count, dtype=torch.long, device=points.device)
    chosen[0] = start
    gap = (points - points[start]).square().sum(-1)
    for number in range(1, count):
        farthest = gap.argmax()
        chosen[number] = farthest
        gap = torch.minimum(gap, (points - points[farthest]).square().sum(-1))
    return mirrored_indices(chosen, len(points)) if upstream else chosen


def mirrored_indices(chosen: Tensor, count: int) -> Tensor:
    """Return indices counted from the end, N - 1 - i, for indices (n,) of N points."""
    return count - 1 - chosen


def neighbours(queries: Tensor, keys: Tensor, count: int) -> Tensor:
    """Return indices (N, count) of the keys (M, D) nearest to each query (N, D), nearest first; no gradient."""
    if not 1 <= count <= keys.shape[0]:
        raise DataError(
            f"{count} neighbours were asked for of {keys.shape[0]} control points; lower `neighbours`"
        )
    with torch.no_grad():
        # |q|² is the same for all keys of a query; centred, so that the difference of squares keeps its digits
        centre = keys.mean(0)
        q, k = queries - centre, keys - centre
        scores = torch.addmm(k.square().sum(-1), q, k.T, alpha=-2.0)
        return scores.topk(count, dim=1, largest=False, sorted=True).indices


def skinning(
    points: Tensor,
    nodes: Tensor,
    log_radii: Tensor,
    weight_logits: Tensor | None,
    *,
    hyper: Tensor | None = None,
    count: int = 3,
    detach_positions: bool = False,
) -> Skinning:
    """Find the nearest control points in position and hyper coordinates and weight them by radial functions.

    `w_k ∝ sigmoid(logit_k) · exp(-d_k² / (2 r_k²)) + 1e-7`. Arguments as for `skin`; without logits the factor
    is 1, as in SC4D.
    """
    if hyper is None:
        nodes = nodes[:, :3]
    query = points.detach() if detach_positions else points
    keys = torch.cat([nodes[:, :3].detach(), nodes[:, 3:]], -1) if detach_positions else nodes
    if hyper is not None:
        query = torch.cat([query, hyper], dim=-1)
    indices = neighbours(query, keys, count)
    free = torch.zeros_like(log_radii) if weight_logits is None else weight_logits
    per_node = torch.cat([log_radii[:, None], free.reshape(-1, 1), keys], dim=-1)
    gathered = F.embedding(indices, per_node)  # one gather: its gradient is the costly part on CPU
    squared = (query[:, None] - gathered[..., 2:]).square().sum(-1)
    falloff = torch.exp(-0.5 * squared * torch.exp(-2 * gathered[..., 0]))
    if weight_logits is not None:
        falloff = gathered[..., 1].sigmoid() * falloff
    raw = falloff + _WEIGHT_FLOOR
    return Skinning(indices, raw / raw.sum(-1, keepdim=True))


def blend(
    points: Tensor,
    positions: Tensor,
    motion: NodeMotion,
    weighting: Skinning,
    *,
    local_frame: bool = True,
    rotation_as_residual: bool = True,
    motion_mask: Tensor | None = None,
    detach_positions: bool = False,
) -> Deformation:
    """Compute the deformation of Gaussians from known control points and weights; arguments as for `skin`.

    Motions at T times (T, M, ·) give (T, N, ·); the weights do not depend on time.
    """
    if detach_positions:
        points, positions = points.detach(), positions.detach()
    parts = [motion.rotation, motion.scaling]
    if local_frame:
        # R (x - n) + n + t - x = (R - 1) x + t - (R - 1) n: linear in what is blended
        turn = rotation_matrices(_plus_one(motion.local_rotation))
        turn = turn - torch.eye(3, dtype=turn.dtype, device=turn.device)
        shift = motion.translation - (turn @ positions[:, :, None])[..., 0]
        parts += [shift, turn.flatten(-2)]
    else:
        parts.append(motion.translation)
    blended = _weighted_sum(torch.cat(parts, dim=-1), weighting)
    rotation, scaling, translation = blended[..., :4], blended[..., 4:7], blended[..., 7:10]
    if local_frame:
        turned = blended[..., 10:].reshape(*blended.shape[:-1], 3, 3) @ points[:, :, None]
        translation = translation + turned[..., 0]
    if motion_mask is not None:
        translation, rotation, scaling = (part * motion_mask for part in (translation, rotation, scaling))
    if not rotation_as_residual:
        rotation = _plus_one(rotation)
    return Deformation(translation, rotation, scaling)


def skin(
    points: Tensor,
    nodes: Tensor,
    log_radii: Tensor,
    weight_logits: Tensor,
    motion: NodeMotion,
    *,
    hyper: Tensor | None = None,
    count: int = 3,
    local_frame: bool = True,
    rotation_as_residual: bool = True,
    motion_mask: Tensor | None = None,
    detach_positions: bool = False,
) -> Deformation:
    """Deform Gaussians by linear blend skinning over nearby control points, as SC-GS does.

    `x' = Σ_k w_k [R_k (x - n_k) + n_k + t_k]`; rotations and scalings are weighted sums.

    Args:
        points: (N, 3) canonical centres.
        nodes: (M, 3 + h) canonical control points and their hyper coordinates.
        log_radii: (M,) logarithm of the radial functions' standard deviation, world units.
        weight_logits: (M,) or (M, 1); `sigmoid` is a control point's weight.
        motion: motion of the M control points, (M, ·), or (T, M, ·) for several times.
        hyper: (N, h) hyper coordinates of the Gaussians; None measures distance in space alone.
        count: K, the control points per Gaussian.
        local_frame: False leaves the rotations R out: `x' = x + Σ_k w_k t_k`.
        rotation_as_residual: True gives the weighted sum of `motion.rotation`, to be added to the raw
            quaternion; False adds (1, 0, 0, 0), giving a quaternion to multiply from the left.
        motion_mask: (N, 1), scales every output.
        detach_positions: True is SC-GS: no gradient to the canonical positions of Gaussians and control
            points, so that a Gaussian's position moves as if its surroundings did not rotate. False is
            the exact derivative: where an object has rotated by half a turn, SC-GS's has the wrong sign.

    Returns:
        (..., N, ·) translation, rotation and scaling.

    Raises:
        DataError: fewer than `count` control points.
    """
    weighting = skinning(
        points,
        nodes,
        log_radii,
        weight_logits,
        hyper=hyper,
        count=count,
        detach_positions=detach_positions,
    )
    return blend(
        points,
        nodes[:, :3],
        motion,
        weighting,
        local_frame=local_frame,
        rotation_as_residual=rotation_as_residual,
        motion_mask=motion_mask,
        detach_positions=detach_positions,
    )


def quaternion_product(left: Tensor, right: Tensor) -> Tensor:
    """Return the Hamilton product (..., 4) of wxyz quaternions: the right rotation, then the left."""
    w1, x1, y1, z1 = left.unbind(-1)
    w2, x2, y2, z2 = right.unbind(-1)
    parts = (
        w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
        w1 * y2 + y1 * w2 + z1 * x2 - x1 * z2,
        w1 * z2 + z1 * w2 + x1 * y2 - y1 * x2,
    )
    return torch.stack(parts, dim=-1)


def deform(
    means: Tensor,
    raw_quats: Tensor,
    scales: Tensor,
    deformation: Deformation,
    *,
    rotation_as_residual: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply a deformation to Gaussians; return centres, quaternions and scales, each (..., N, ·).

    Args:
        means: (N, 3). raw_quats: (N, 4) wxyz before normalising. scales: (N, 3) activated.
        rotation_as_residual: the value given to `skin`.

    Quaternions are unit with `rotation_as_residual`, and as long as the blended rotation without.
    Scales are sums and may be negative, as in SC-GS; a covariance only has their squares.
    """
    if rotation_as_residual:
        quats = F.normalize(raw_quats + deformation.rotation, dim=-1)
    else:
        quats = quaternion_product(deformation.rotation, F.normalize(raw_quats, dim=-1))
    return means + deformation.translation, quats, scales + deformation.scaling


class ControlPoints(nn.Module):
    """M control points: positions, radii, weights and the network that moves them.

    Attributes:
        positions: (M, 3) canonical, a buffer: fixed once chosen, as in SC-GS's main stage.
        hyper: (M, h). log_radii: (M,). weight_logits: (M, 1).
        network: the `DeformNetwork`.
    """

    positions: Tensor

    def __init__(self, positions: Tensor, network: DeformNetwork, *, hyper_dim: int, neighbours: int) -> None:
        super().__init__()
        count = positions.shape[0]
        if not 1 <= neighbours <= count:
            raise ConfigError(f"{neighbours} neighbours of {count} control points; give 1 to {count}")
        self.neighbours = neighbours
        self.network = network
        self.register_buffer("positions", positions.detach().clone())
        self.hyper = nn.Parameter(positions.new_full((count, hyper_dim), HYPER_OFFSET))
        self.log_radii = nn.Parameter(spacing(positions, neighbours).log())
        self.weight_logits = nn.Parameter(positions.new_zeros(count, 1))

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    def motion(self, times: Sequence[float] | Tensor) -> NodeMotion:
        """Compute the motion of the control points at T times in [0, 1], (T, M, ·)."""
        at = torch.as_tensor(times, dtype=self.positions.dtype, device=self.positions.device)
        moved: NodeMotion = self.network(self.positions, at[:, None, None])
        return moved

    def trajectories(self, times: Sequence[float] | Tensor) -> Tensor:
        """Compute positions (T, M, 3) of the control points at T times."""
        return self.positions + self.motion(times).translation

    def skinning(self, points: Tensor, hyper: Tensor) -> Skinning:
        """Find control points and weights for Gaussians at points (N, 3) with hyper coordinates (N, h)."""
        return skinning(
            points,
            torch.cat([self.positions, self.hyper], dim=-1),
            self.log_radii,
            self.weight_logits,
            hyper=hyper,
            count=self.neighbours,
        )


def spacing(positions: Tensor, count: int) -> Tensor:
    """Compute the mean distance (M,) of each control point to its `count` nearest others, the initial radii.

    SC-GS starts at a tenth of the scene's extent for any number of control points. Tied to the spacing,
    the functions of neighbours overlap alike for 30 and for 1000 control points and in any scene unit.
    """
    found = min(count, positions.shape[0] - 1)
    if found == 0:
        return torch.ones_like(positions[:, 0])  # a single point steers everything whatever its radius
    nearest = neighbours(positions, positions, found + 1)
    gaps: Tensor = torch.linalg.vector_norm(positions[:, None] - positions[nearest], dim=-1).sum(-1) / found
    return gaps.clamp_min(torch.finfo(gaps.dtype).eps ** 0.5)


def _plus_one(quats: Tensor) -> Tensor:
    return quats + quats.new_tensor([1.0, 0.0, 0.0, 0.0])


def _weighted_sum(table: Tensor, weighting: Skinning) -> Tensor:
    """Compute Σ_k weights[n, k] · table[indices[n, k]]: (..., M, F) to (..., N, F), in one pass."""
    lead, features = table.shape[:-2], table.shape[-1]
    flat = table.reshape(-1, *table.shape[-2:]).movedim(0, 1).flatten(1)
    summed: Tensor = F.embedding_bag(weighting.indices, flat, per_sample_weights=weighting.weights, mode="sum")
    return summed.reshape(len(summed), -1, features).movedim(1, 0).reshape(*lead, -1, features)
