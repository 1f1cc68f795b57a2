"""Pictures between two others, along the optical flow between them."""

from torch import Tensor

from mvtokenflow.flow.estimate import FlowEstimator
from mvtokenflow.flow.ops import warp


class FlowInterpolator:
    """Interpolation along optical flow: both pictures are moved to the time between them and blended.

    Args:
        estimator: of the flow from the first to the last picture. It is estimated once for a pair.
    """

    def __init__(self, estimator: FlowEstimator) -> None:
        self._estimator = estimator
        self._pair: tuple[Tensor, Tensor] | None = None
        self._flow: Tensor | None = None

    def __call__(self, first: Tensor, last: Tensor, share: float) -> Tensor:
        """Return the picture (H, W, 3) at a share of the way from `first` to `last`, in [0, 1]."""
        if self._flow is None or self._pair is None or self._pair[0] is not first or self._pair[1] is not last:
            clipped = first.clamp(0, 1)[None], last.clamp(0, 1)[None]
            self._pair, self._flow = (first, last), self._estimator.estimate(*clipped)[0]
        return interpolated(first, last, self._flow, share)


def interpolated(first: Tensor, last: Tensor, flow: Tensor, share: float) -> Tensor:
    """Blend two pictures at a share of the way between them, each moved along the flow.

    Motion is taken as linear and the same at the place it leads to, which is right where flow varies slowly.

    Args:
        first, last: (H, W, C). flow: (H, W, 2) pixels from first to last, on the grid of the first.
        share: in [0, 1]; 0 gives `first`.
    """
    ahead, behind = warp(first, -share * flow), warp(last, (1 - share) * flow)
    return (1 - share) * ahead + share * behind
