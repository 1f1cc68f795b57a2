"""Fréchet video distance, and the number Consistent4D's script prints under that name.

Both start from I3D logits (`mvtokenflow.eval.metrics.i3d`). Three layers: features (N, D) of clips, their
Gaussian `Statistics`, and the distance; a set's statistics can be made once and compared many times.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvtokenflow.base.errors import DataError


def fvd_c4d(prediction: ArrayLike, reference: ArrayLike) -> float:
    """What Consistent4D's `compute_fvd.py` gives for one clip against one clip; lower is better.

    One clip has one logit vector, whose "covariance" NumPy before 2.2 returned as the variance over the
    classes, so the Fréchet formula collapses to |p − r|² + (σ_p − σ_r)² with σ the standard deviation over
    the 400 logits (ddof 1). It measures how far apart two clips are, not how two sets are distributed.

    Args:
        prediction, reference: logits (D,) of one clip each, head pooling 1, frames by `prepare_c4d`.

    Raises:
        DataError: not two finite vectors of one length of at least 2.
    """
    p, r = (np.asarray(vector, np.float64) for vector in (prediction, reference))
    if p.ndim != 1 or p.shape != r.shape or len(p) < 2:
        raise DataError(f"two logit vectors of one length are needed, not {p.shape} and {r.shape}")
    if not (np.isfinite(p).all() and np.isfinite(r).all()):
        raise DataError("the logits are not finite")
    return float(np.sum((p - r) ** 2) + (p.std(ddof=1) - r.std(ddof=1)) ** 2)


@dataclass(frozen=True)
class Statistics:
    """A Gaussian fitted to features.

    Attributes:
        mean: (D,) float64.
        factor: (N, D) float64 with covariance = factorᵀ factor. It has one row per clip, so that nothing of
            size D x D is formed and no rank is lost when N < D.
    """

    mean: NDArray[np.float64]
    factor: NDArray[np.float64]


def statistics(features: ArrayLike, unbiased: bool = True) -> Statistics:
    """The Gaussian of a set of clips.

    Args:
        features: (N, D), one row per clip, N at least 2.
        unbiased: covariance over N−1 (StyleGAN-V, VideoGPT, DisCo); over N if False (cd-fvd).

    Raises:
        DataError: fewer than 2 clips, not a matrix, or not finite.
    """
    matrix = np.asarray(features, np.float64)
    if matrix.ndim != 2:
        raise DataError(f"features are (clips, dimensions), not of shape {matrix.shape}")
    count = len(matrix)
    if count < 2:
        raise DataError(
            f"the Fréchet distance needs the spread of a set: at least 2 clips on each side, not {count}"
        )
    if not np.isfinite(matrix).all():
        raise DataError("the features hold values that are not finite")
    mean = matrix.mean(0)
    return Statistics(mean, (matrix - mean) / np.sqrt(count - 1 if unbiased else count))


@dataclass(frozen=True)
class FrechetTerms:
    """The two parts of a squared Fréchet distance; with few clips `covariance` is mostly sampling noise."""

    mean: float
    covariance: float

    @property
    def distance(self) -> float:
        return self.mean + self.covariance


def frechet_terms(first: Statistics, second: Statistics) -> FrechetTerms:
    """|μ₁ − μ₂|² and Tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½).

    With Σ₁ = AᵀA and Σ₂ = BᵀB the trace of the root is the nuclear norm of ABᵀ, an N₁ x N₂ matrix: exact for
    any number of clips, without the matrix square root that returns garbage for rank-deficient products in
    SciPy before 1.13, and without regularisation.

    Raises:
        DataError: the two have different dimensions.
    """
    if first.mean.shape != second.mean.shape:
        raise DataError(f"features of {len(first.mean)} and of {len(second.mean)} dimensions do not compare")
    root = np.linalg.svd(first.factor @ second.factor.T, compute_uv=False).sum()
    spread = np.sum(first.factor**2) + np.sum(second.factor**2) - 2 * root
    # Never negative in exact arithmetic; equal sets may come out as −1e-13 of the traces.
    return FrechetTerms(float(np.sum((first.mean - second.mean) ** 2)), float(max(spread, 0.0)))


def frechet_distance(first: ArrayLike, second: ArrayLike, unbiased: bool = True) -> float:
    """Squared Fréchet distance between Gaussians fitted to two sets of features; lower is better.

    FVD where the features are I3D logits. Only sets of equal size and clip length compare with each other.

    Args:
        first, second: (N₁, D) and (N₂, D); symmetric.
        unbiased: covariance over N−1, or over N if False.

    Raises:
        DataError: as `statistics` and `frechet_terms`.
    """
    return frechet_terms(statistics(first, unbiased), statistics(second, unbiased)).distance
