"""End-point error of a method's own flow against the exact flow.

The measure of Baker et al., "A Database and Evaluation Methodology for Optical Flow" (IJCV 2011).
It exists only where a dataset has ground truth (toy4d); no published table of video-to-4D has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.eval.metrics.compute.masked import masked_mean
from mvtokenflow.eval.metrics.spec import Better, ClipPair, Floats, MetricSpec, Needs, Networks, present


@dataclass(frozen=True, kw_only=True)
class FlowError(MetricSpec):
    """End-point error in pixels of the method's own flow against the exact one, on visible pixels."""

    needs: ClassVar[Needs] = "clip"
    better: ClassVar[Better] = "lower"
    digits: ClassVar[int] = 2
    unit: ClassVar[str] = " px"
    floor: ClassVar[float | None] = 1e-3
    key: str = "flow_epe"

    def why_missing(self) -> str:
        return "the method offers no flow, the dataset has no exact one, or frames are missing in between"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return frames[:-1]

    def can_measure(self, clip: ClipPair) -> bool:
        return clip.has_truth and clip.offers("flow")

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        gaps = len(clip.names) - 1
        flow, visible = clip.truth(gaps, "flow", "visible")
        error = end_point_error(clip.offered(gaps, "flow"), flow)
        visible = visible.astype(bool)
        return present(np.asarray(visible.any(axis=(1, 2))), masked_mean(error, visible))


def end_point_error(flow: NDArray[np.floating], truth: NDArray[np.floating]) -> Floats:
    """Compute the length of the difference of two flows, unreduced.

    Args:
        flow, truth: (P, H, W, 2) pixels (dx, dy) on the grid of the source frame, at equal size.

    Returns:
        (P, H, W) pixels. Reduce with `masked_mean(error, visible)`: a surface point that is hidden in
        the target frame has no defined flow.
    """
    if flow.shape != truth.shape or flow.ndim != 4 or flow.shape[-1] != 2:
        raise ValueError(f"flow and truth must both be (P, H, W, 2), got {flow.shape} and {truth.shape}")
    difference = flow.astype(np.float64) - truth
    return np.hypot(difference[..., 0], difference[..., 1])
