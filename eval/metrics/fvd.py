"""The Fréchet video distance between two sets of clips.

It starts from I3D logits (`compute/i3d.py`). Three layers: features (N, D) of clips, their Gaussian
`Statistics`, and the distance; a set's statistics can be made once and compared many times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.fvd_c4d import VideoDistance
from mvtokenflow.eval.metrics.spec import ClipPair, Feature, Floats, Needs, Networks, Pixels


@dataclass(frozen=True, kw_only=True)
class FvdSet(VideoDistance):
    """The Fréchet video distance between sets of clips of all objects and views (unbiased covariance).

    Recorded per clip as I3D logits; the number exists for a table, not for one object.
    """

    needs: ClassVar[Needs] = "set"
    key: str = "fvd"
    frames: int = 16
    pool: Literal[1, 2] = 2
    resize: Literal["bilinear"] = "bilinear"

    def why_missing(self) -> str:
        return f"no clip of {self.frames} frames"

    def can_measure(self, clip: ClipPair) -> bool:
        return len(clip.names) >= self.frames

    def clips_of(self, frames: int) -> int:
        return frames // self.frames

    def measure_set(self, clip: ClipPair, networks: Networks) -> Sequence[tuple[Feature, Feature]]:
        count = self.clips_of(len(clip.names))
        spans = [slice(index * self.frames, (index + 1) * self.frames) for index in range(count)]
        theirs = clip.shared(self, lambda: [self._logits(clip.reference[span], networks) for span in spans])
        return [
            (self._logits(clip.rendered[span], networks).tolist(), other.tolist())
            for span, other in zip(spans, theirs, strict=True)
        ]

    def total(self, rendered: Floats, reference: Floats) -> float:
        return frechet_distance(rendered, reference)

    def _logits(self, pictures: Sequence[Pixels], networks: Networks) -> Floats:
        return self.network(networks).of(pictures, self.pool, self.resize)


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
    """Fit a Gaussian to a set of clips.

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
    """Compute |μ₁ − μ₂|² and Tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½).

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
    """Compute the squared Fréchet distance of Gaussians fitted to two feature sets; lower is better.

    FVD where the features are I3D logits. Only sets of equal size and clip length compare with each other.

    Args:
        first, second: (N₁, D) and (N₂, D); symmetric.
        unbiased: covariance over N−1, or over N if False.

    Raises:
        DataError: as `statistics` and `frechet_terms`.
    """
    return frechet_terms(statistics(first, unbiased), statistics(second, unbiased)).distance
