"""The number that Consistent4D's script prints as FVD: one clip against one clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.spec import Better, ClipPair, Floats, MetricSpec, Needs, Networks, Pixels

if TYPE_CHECKING:
    from mvtokenflow.eval.metrics.compute.i3d import VideoLogits


@dataclass(frozen=True, kw_only=True)
class VideoDistance(MetricSpec):
    """Base of metrics on I3D's logits."""

    resized: ClassVar[bool] = False  # the network's own resizing starts from the pictures as they are
    better: ClassVar[Better] = "lower"
    digits: ClassVar[int] = 1
    floor: ClassVar[float | None] = 5e-2  # float32 I3D moves by 1e-5 relative between processors
    weights: str | None = "i3d-kinetics400"

    def network(self, networks: Networks) -> "VideoLogits":
        """Return I3D, which is loaded once per process."""
        return networks.get("i3d", lambda: self._load(networks))

    def _load(self, networks: Networks) -> "VideoLogits":
        from mvtokenflow.eval.metrics.compute import i3d

        return i3d.load(networks.weights.get("i3d-kinetics400"), networks.device)


@dataclass(frozen=True, kw_only=True)
class FvdC4d(VideoDistance):
    """What Consistent4D's script computes on one clip against one clip: squared logit distance plus a
    difference of standard deviations. No Fréchet distance between sets."""

    needs: ClassVar[Needs] = "clip"
    key: str = "fvd_c4d"
    pool: Literal[1, 2] = 1
    resize: Literal["pil-bicubic"] = "pil-bicubic"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return [None]

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        theirs = clip.shared(self, lambda: self.logits(clip.reference, networks))
        return [fvd_c4d(self.logits(clip.rendered, networks), theirs)]

    def logits(self, pictures: Sequence[Pixels], networks: Networks) -> Floats:
        """Compute I3D's logits (400,) of one clip."""
        return self.network(networks).of(pictures, self.pool, self.resize)


def fvd_c4d(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Compute the number of Consistent4D's `compute_fvd.py` for one clip and one clip; lower is better.

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
