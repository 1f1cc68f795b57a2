"""Terms of the reconstruction loss: pure functions of tensors, each a mean, so independent of sizes.

The paper weighs them in appendix A.1 (`LossWeights`) and leaves several norms open; each function states its
choice and the reason.
"""

from typing import Literal

import torch
from torch import Tensor

from mvtokenflow.splat.kernels.ssim import d_ssim
from mvtokenflow.splat.normals import normals_from_depth

_RATIO_FLOOR = 1e-8  # added to the shortest axis, world units, as in PhysGaussian's term
_LEAST_WEIGHT = 1e-6  # where no pixel counts, a mean is 0 and not 0 / 0

__all__ = [
    "alignment_loss",
    "arap",
    "arap_edges",
    "axis_ratio_loss",
    "common_edges",
    "d_ssim",
    "flow_loss",
    "l1",
    "mask_loss",
    "normal_loss",
    "normals_from_depth",
]


def l1(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of pictures (..., H, W, C) in [0, 1] over all pixels and channels.

    Raises:
        ValueError: the shapes differ (they would broadcast).
    """
    _check_shapes(image, target)
    return (image - target).abs().mean()


def mask_loss(alpha: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of two alpha maps (..., H, W, 1) in [0, 1].

    The paper does not state which difference; DreamGaussian4D and SC4D use squares. They tolerate errors on the
    half-transparent rim, where a generated mask is least exact.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(alpha, target)
    return (alpha - target).square().mean()


def normal_loss(rendered: Tensor, target: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of 1 − cosine between rendered and target unit normals over the valid pixels; 0 where none is valid.

    The paper states "difference" only. The cosine does not depend on the world's axes, as L1 would; it is
    quadratic in small angles, so the noise of generated maps averages out, and its slope falls again beyond a
    right angle, so a few flipped normals do not dominate.

    Args:
        rendered, target: (..., H, W, 3) unit, one frame of reference. valid: (..., H, W) bool; elsewhere
            the target may be anything, NaN too.
        weights: weights of the pixels in the mean, broadcast against `valid`, 0 or more; None is equal weights.

    Raises:
        ValueError: the shapes do not fit.
    """
    _check_shapes(rendered, target)
    _check_shapes(rendered[..., 0], valid)
    target = torch.where(valid[..., None], target, 0.0)  # a NaN there would reach the gradient as 0 · NaN
    errors = 1 - (rendered * target).sum(-1)
    if weights is None:
        return _mean_where(valid, errors)
    weighed = torch.where(valid, weights, 0.0)
    return (weighed * torch.where(valid, errors, 0.0)).sum() / weighed.sum().clamp_min(_LEAST_WEIGHT)


def flow_loss(flow: Tensor, target: Tensor, visible: Tensor, width: int) -> Tensor:
    """Mean absolute difference of two flows over visible pixels, in picture widths; 0 if none is visible.

    Paper section 3.2: L1, occluded pixels skipped. Its units are not given; divided by the width, a weight of 1
    is on the scale of the colours' L1 and means the same at every picture size.

    Args:
        flow, target: (..., H, W, 2) (dx, dy) in pixels on the same grid. visible: (..., H, W) bool, where the
            target is known. width: width of the pictures in pixels.

    Raises:
        ValueError: the shapes do not fit, or the width is not positive.
    """
    _check_shapes(flow, target)
    _check_shapes(flow[..., 0], visible)
    if width < 1:
        raise ValueError(f"width is {width}; expected the pictures' width in pixels")
    return _mean_where(visible, (flow - target).abs().mean(-1)) / width


def arap_edges(points: Tensor, neighbours: int = 10, always: int = 3, radius: float = 0.1) -> Tensor:
    """Connect every point to its nearest ones, as SC-GS connects control points.

    Args:
        points: (M, 3) at the first time, world units. neighbours: maximum per point. always: number of nearest
            ones kept at any distance. radius: others are kept below this distance, world units.

    Returns:
        (2, E) int64: row 0 the point, ascending, row 1 its neighbour, near to far. No gradient.
    """
    count = points.shape[0]
    with torch.no_grad():
        squares = (points[:, None] - points[None]).square().sum(-1)
        squares.fill_diagonal_(torch.inf)
        nearest, index = squares.topk(min(neighbours, count - 1), dim=1, largest=False)
        rank = torch.arange(nearest.shape[1], device=points.device)
        keep = (rank < always) | (nearest < radius**2)
        owner = torch.arange(count, device=points.device)[:, None].expand_as(index)
        return torch.stack([owner[keep], index[keep]])


def arap(sequence: Tensor, edges: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Return the as-rigid-as-possible energy: how far edges deviate from a rotation of those at the first time.

    Σ ‖ê_ij − R_i e_ij‖² with e = p_i − p_j at time 0, ê at a later time and R_i the best rotation of point i's
    edges (no gradient through it, which changes nothing to first order; reflections are excluded).

    SC-GS sums over the M · (3 to 10) edges, with weights of 1e-2 to 1e-5. The paper's weight is 1: as a mean
    over edges and later times, that is about 2e-4 to 6e-4 of the sum for 512 points, hence `mean` by default.

    Args:
        sequence: (T, M, 3) positions of the points, T >= 2, world units. The gradient flows to all times.
        edges: (2, E), see `arap_edges`. reduction: "mean" over E (T − 1) edges, or "sum".

    Raises:
        ValueError: fewer than two times, no edges, or an unknown reduction.
    """
    if sequence.ndim != 3 or sequence.shape[0] < 2 or sequence.shape[2] != 3:
        raise ValueError(f"sequence is {tuple(sequence.shape)}; expected (T, M, 3) with two times or more")
    if edges.ndim != 2 or edges.shape[0] != 2 or not edges.shape[1]:
        raise ValueError(f"edges is {tuple(edges.shape)}; expected (2, E) with one edge or more")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}; expected 'mean' or 'sum'")
    owner, other = edges.long()
    vectors = sequence[:, owner] - sequence[:, other]
    rotations = _best_rotations(vectors.detach(), owner, sequence.shape[1])
    turned = (rotations[:, owner] @ vectors[0, :, :, None])[..., 0]
    error = (vectors[1:] - turned).square().sum(-1)
    return error.mean() if reduction == "mean" else error.sum()


def common_edges(sequence: Tensor, neighbours: int = 10, radius: float = 0.1) -> Tensor:
    """Connect points that stay near one another at all times, as SC4D does for its rigidity term.

    At each time a point has the first `neighbours` + 1 points, in the order of their indices and not by
    distance, that lie within the radius; the first of them is dropped, whether it is the point itself or not.
    Edges are what all times have in common.

    Args:
        sequence: (T, M, 3) world units. neighbours: of each point at most. radius: world units.

    Returns:
        (2, E) int64, row 0 ascending; E may be 0. Row 1 may name the point itself: such an edge adds nothing to
        `arap`. No gradient.
    """
    with torch.no_grad():
        common: Tensor | None = None
        for points in sequence:
            near = (points[:, None] - points[None]).square().sum(-1) < radius**2
            place = near.cumsum(1)
            kept = near & (place > 1) & (place <= neighbours + 1)
            common = kept if common is None else common & kept
        if common is None:
            raise ValueError("the sequence has no time; give one or more")
        return common.nonzero().T


def alignment_loss(points: Tensor, anchors: Tensor) -> Tensor:
    """Sum of squared distances from each point (M, 3) to the nearest of the anchors (K, 3), world units.

    SC4D's Gaussian alignment, with weight 10: control points now, and those of the same frame at the end of the
    first stage. One-sided, and a sum, as in the original.
    """
    anchors = anchors.detach()
    with torch.no_grad():
        nearest = torch.cdist(points, anchors, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    return (points - anchors[nearest]).square().sum()


def axis_ratio_loss(log_scales: Tensor, ratio: float = 7.5, *, upstream: bool = False) -> Tensor:
    """Penalty `Σ (max(longest / shortest axis, ratio) - ratio)` of Gaussians more elongated than a ratio.

    PhysGaussian's term, by the number of Gaussians.

    Args:
        log_scales: (N, 3). ratio: above which it grows.
        upstream: True takes the ratio of the log scales as STAG4D does, which is at most 1 for all Gaussians
            smaller than a world unit: the term is then 0.
    """
    sides = log_scales if upstream else log_scales.exp()
    ratios = sides.amax(-1) / (sides.amin(-1) + _RATIO_FLOOR)
    return (ratios.clamp_min(ratio).mean() - ratio) * len(log_scales)


def _best_rotations(vectors: Tensor, owner: Tensor, points: int) -> Tensor:
    """Fit rotations (T − 1, M, 3, 3) of each point's edges (T, E, 3) at time 0 onto those of later times."""
    outer = vectors[0, :, :, None] * vectors[1:, :, None, :]
    moments = outer.new_zeros(outer.shape[0], points, 3, 3).index_add_(1, owner, outer)
    left, _, right = torch.linalg.svd(moments)
    mirrored = torch.linalg.det(left) * torch.linalg.det(right) < 0
    left[..., 2] = torch.where(mirrored[..., None], -left[..., 2], left[..., 2])  # of the least singular value
    rotations: Tensor = (left @ right).transpose(-1, -2)
    return rotations


def _mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    """Mean of the chosen values; 0, with a graph, where none is chosen. Never waits for the device."""
    return torch.where(chosen, values, 0).sum() / chosen.sum().clamp_min(1)


def _check_shapes(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise ValueError(f"shapes {tuple(one.shape)} and {tuple(other.shape)} differ; they must be equal")
