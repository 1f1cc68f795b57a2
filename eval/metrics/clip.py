"""Cosines of CLIP image embeddings: with the reference, between views of one result, and over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.spec import (
    BOTH,
    Better,
    ClipPair,
    Floats,
    MetricSpec,
    Needs,
    Networks,
    Picture,
    ViewRole,
)

if TYPE_CHECKING:
    from mvtokenflow.eval.metrics.compute.clip import ImageEncoder, ToyEncoder


@dataclass(frozen=True, kw_only=True)
class ClipCosine(MetricSpec):
    """Base of the cosines of CLIP embeddings.

    `model` is OpenAI's ViT-B/32, or the small network trained on toy4d alone; cosines of one do not predict
    the other's, so metrics of the small one have keys of their own (`clip_toy`, never `clip`).
    """

    better: ClassVar[Better] = "higher"
    digits: ClassVar[int] = 3
    floor: ClassVar[float | None] = 1e-4
    weights: str | None = "clip-vit-b32-openai"
    model: Literal["ViT-B-32", "toy4d-small"] = "ViT-B-32"
    pair: Literal["gt", "views", "time"] = "gt"

    def encoder(self, networks: Networks) -> "ImageEncoder | ToyEncoder":
        """Return the network, which is loaded once per process."""
        return networks.get(("clip", self.weights), lambda: self._load(networks))

    def _load(self, networks: Networks) -> "ImageEncoder | ToyEncoder":
        from mvtokenflow.eval.metrics.compute import clip as towers

        name = str(self.weights)
        load = towers.load_toy if name == towers.TOY_WEIGHTS_NAME else towers.load
        return load(networks.weights[name], networks.device)


@dataclass(frozen=True, kw_only=True)
class Clip(ClipCosine):
    """Cosine of a rendering with the reference picture of the same time."""

    key: str = "clip"

    def measure_frame(self, rendering: Picture, reference: Picture, networks: Networks) -> float:
        encoder = self.encoder(networks)
        ours, theirs = (
            picture.kept(self.weights, lambda pixels: encoder.embed([pixels]))
            for picture in (rendering, reference)
        )
        return float(cosine(ours, theirs)[0])


@dataclass(frozen=True, kw_only=True)
class ClipViews(ClipCosine):
    """Mean cosine of the rendered input view with every rendered novel view of the same time; no reference."""

    needs: ClassVar[Needs] = "views"
    key: str = "clip_views"
    views: tuple[ViewRole, ...] = BOTH
    pair: Literal["gt", "views", "time"] = "views"

    def why_missing(self) -> str:
        return "not all views of the protocol were rendered, or no frame in all of them"

    def measure_views(self, clips: Sequence[ClipPair], networks: Networks) -> Sequence[float]:
        encoder = self.encoder(networks)
        front, *others = (encoder.embed(clip.sized(clip.rendered)) for clip in clips)
        means = np.mean([cosine(front, other) for other in others], axis=0)
        return [float(value) for value in means]


@dataclass(frozen=True, kw_only=True)
class ClipTime(ClipCosine):
    """Cosine of consecutive rendered frames of a view; no reference."""

    needs: ClassVar[Needs] = "clip"
    key: str = "clip_t"
    pair: Literal["gt", "views", "time"] = "time"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return frames[:-1]

    def can_measure(self, clip: ClipPair) -> bool:
        return len(clip.names) > 1

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        embeddings = self.encoder(networks).embed(clip.sized(clip.rendered))
        return [float(value) for value in clip_t(embeddings.numpy())]


def cosine(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Compute cosine similarity (N,) of the rows of two (N, D) sets of embeddings, in float64; in [-1, 1].

    Raises:
        DataError: shapes differ, values are not finite, or an embedding is zero.
    """
    a, b = (np.asarray(rows, np.float64) for rows in (first, second))
    if a.ndim != 2 or a.shape != b.shape:
        raise DataError(f"embeddings (N, D) of one shape are needed, not {a.shape} and {b.shape}")
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise DataError("an embedding is zero or not finite")
    similarity: NDArray[np.float64] = np.clip((a * b).sum(1) / norms, -1, 1)
    return similarity


def clip_t(embeddings: NDArray[np.floating]) -> Floats:
    """Compute the cosine between embeddings of neighbouring frames ("CLIP-T"; higher is steadier).

    4DGen's score of the same name is a spherical distance (lower is better): not comparable.

    Args:
        embeddings: (T, D), T >= 2, of any length.

    Returns:
        (T-1,) in [-1, 1].

    Raises:
        DataError: an embedding is 0 or not finite; names the frame.
    """
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise ValueError(f"embeddings must be (T, D) of at least two frames, got {embeddings.shape}")
    vectors = embeddings.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1)
    bad = ~(np.isfinite(length) & (length > 0))
    if bad.any():
        raise DataError(f"frame {int(np.argmax(bad))}: its embedding is 0 or not finite")
    unit = vectors / length[:, None]
    similarity: Floats = np.clip((unit[1:] * unit[:-1]).sum(axis=1), -1.0, 1.0)
    return similarity
