"""Motion of an object from frame to frame, beside which a warp error must be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.eval.metrics.compute.flow import Mask, check_clip, check_flow, estimate_clip_flow
from mvtokenflow.eval.metrics.compute.masked import masked_mean
from mvtokenflow.eval.metrics.spec import Better, ClipPair, Floats, MetricSpec, Needs, Networks, unit_range


@dataclass(frozen=True, kw_only=True)
class MotionMagnitude(MetricSpec):
    """Mean length in pixels of the flow on the object; near 0 for a result without motion.

    The flow is estimated (DIS) on the rendering, so that methods without flow are measured too.
    """

    needs: ClassVar[Needs] = "clip"
    digits: ClassVar[int] = 2
    unit: ClassVar[str] = " px"
    floor: ClassVar[float | None] = 1e-3
    key: str = "motion"
    of: Literal["prediction", "reference"] = "prediction"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return frames[:-1]

    def can_measure(self, clip: ClipPair) -> bool:
        return len(clip.names) > 1

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        from mvtokenflow.eval.metrics.compute.silhouette import silhouettes

        chosen = clip.rendered if self.of == "prediction" else clip.reference
        pictures = clip.sized(chosen[: len(clip.names)])
        flow, visible = estimate_clip_flow(unit_range(pictures), silhouettes(np.stack(pictures)))
        motion = np.nan_to_num(motion_magnitude(flow, visible))  # an empty picture does not move
        return [float(value) for value in motion]


@dataclass(frozen=True, kw_only=True)
class Flicker(MetricSpec):
    """Mean absolute difference of neighbouring frames, whole picture, in 0..255: motion and flicker together.

    What it is of the reference (`of="reference"`) is motion alone; a frozen clip has less than that, which is
    no better.
    """

    needs: ClassVar[Needs] = "clip"
    digits: ClassVar[int] = 2
    floor: ClassVar[float | None] = 1e-3
    of: Literal["prediction", "reference"] = "prediction"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return frames[:-1]

    def can_measure(self, clip: ClipPair) -> bool:
        return len(clip.names) > 1

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        chosen = clip.rendered if self.of == "prediction" else clip.reference
        frames = unit_range(clip.sized(chosen[: len(clip.names)]))
        return [float(value) for value in 255 * (1 - temporal_flickering(frames))]


@dataclass(frozen=True, kw_only=True)
class FlickerOf(Flicker):
    """The flicker of a rendering."""

    column: ClassVar[str | None] = "Flicker"
    better: ClassVar[Better] = "lower"
    key: str = "flicker"


@dataclass(frozen=True, kw_only=True)
class FlickerFloor(Flicker):
    """The flicker of the reference: the motion that a perfect result shows too."""

    column: ClassVar[str | None] = "Flicker floor"
    key: str = "flicker_floor"
    of: Literal["prediction", "reference"] = "reference"


def motion_magnitude(flow: NDArray[np.floating], mask: Mask) -> Floats:
    """Compute the mean length of the flow on the object, in pixels per pair.

    Args:
        flow: (P, H, W, 2) pixels; mask: (P, H, W) bool, the object's visible pixels.

    Returns:
        (P,); NaN where the mask is empty.

    Raises:
        DataError: the flow is NaN or infinite on the mask.
    """
    check_flow(flow, mask)
    known = np.where(mask[..., None], flow, 0.0)
    return masked_mean(np.hypot(known[..., 0], known[..., 1]), mask)


def motion_normalised(error: Floats, motion: Floats, minimum_px: float = 0.05) -> Floats:
    """Compute the error per pixel of motion, so that slow clips do not pass as consistent.

    Args:
        error, motion: (P,) from `warp_error` and `motion_magnitude`.
        minimum_px: pairs that move less have no value: the quotient would be noise, and a clip that
            stands still must not win (0/0).

    Returns:
        (P,) in [0, 1] per pixel; NaN where there is no value.
    """
    if error.shape != motion.shape:
        raise ValueError(f"error {error.shape} and motion {motion.shape} differ in shape")
    moves = motion >= minimum_px
    quotient = np.full(error.shape, np.nan)
    np.divide(error, motion, out=quotient, where=moves)
    return quotient


def temporal_flickering(frames: NDArray[np.floating]) -> Floats:
    """Compute 1 - mean absolute difference of neighbouring frames (VBench's; higher is better).

    Knows nothing of motion: a frozen clip scores a perfect 1. Print it beside the motion magnitude.

    Args:
        frames: (T, H, W, C) in [0, 1], T >= 2.

    Returns:
        (T-1,) in [0, 1].
    """
    check_clip(frames)
    change = [np.abs(frames[t + 1].astype(np.float64) - frames[t]).mean() for t in range(len(frames) - 1)]
    return 1 - np.array(change)
