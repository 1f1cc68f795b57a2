"""Warp error, a measure of temporal consistency, with the floor and the trap it must be read beside.

"Warp error" has no agreed definition in the literature (pixel scale, flow, resizing and normalisation all
differ), so this is our own definition:

* frames in [0, 1] at the size given, nothing is resized;
* the flow belongs to the *reference* clip: exact where the dataset has it, else DIS on the reference
  clip with a forward-backward check (`estimate_clip_flow`). A prediction is judged on the motion it ought
  to show, so a static prediction does not score 0;
* frame t+span is sampled bilinearly at x + flow(x) and compared with frame t on the visible pixels, all
  colour channels alike; the mean absolute and the root mean squared difference are both kept;
* one value per frame pair; nothing is averaged over time here.

Bilinear sampling blurs, and shading changes: the reference clip itself does not score 0 either. That
floor, and the value of a clip that never moves, must be read with every warp error
(`warp_error_in_context`).
A score *below* the floor is no better than one at the floor: smooth pictures warp well, so a blurred result
has a lower value. Read warp error together with a sharpness-aware metric such as LPIPS.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.eval.metrics.compute.flow import (
    Mask,
    chain_flow,
    check_clip,
    check_flow,
    estimate_clip_flow,
    sample,
    targets,
    within,
)
from mvtokenflow.eval.metrics.spec import (
    Better,
    ClipPair,
    Floats,
    MetricSpec,
    Needs,
    Networks,
    present,
    unit_range,
)


@dataclass(frozen=True, kw_only=True)
class Warp(MetricSpec):
    """What the warp error and its floor share: mean absolute difference, in 0..255, between frame t and frame
    t+gap warped back by the reference's flow, over visible pixels of the object."""

    needs: ClassVar[Needs] = "clip"
    digits: ClassVar[int] = 2
    floor: ClassVar[float | None] = 1e-3
    flow: Literal["exact", "dis"] = "exact"
    gap: int = 1
    of: Literal["prediction", "reference"] = "prediction"

    def why_missing(self) -> str:
        return "the dataset has no exact flow, or too few frames in a row were rendered"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return frames[: -self.gap]

    def can_measure(self, clip: ClipPair) -> bool:
        return len(clip.names) > self.gap and (self.flow == "dis" or clip.has_truth)

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        reference = unit_range(clip.sized(clip.reference[: len(clip.names)]))
        flow, visible = clip.shared(
            ("flow", self.flow, self.gap), lambda: self._reference_flow(clip, reference)
        )
        frames = reference if self.of == "reference" else unit_range(clip.sized(clip.rendered))
        error = warp_error(frames, flow, visible)
        return present(error.pixels, 255 * error.mae)

    def _reference_flow(
        self, clip: ClipPair, reference: NDArray[np.float32]
    ) -> tuple[NDArray[np.floating], Mask]:
        flow: NDArray[Any]
        if self.flow == "exact":
            flow, visible = clip.truth(len(reference) - 1, "flow", "visible")
            visible = visible.astype(bool)
        else:
            from mvtokenflow.eval.metrics.compute.silhouette import silhouettes

            objects = silhouettes(np.stack(clip.sized(clip.reference[: len(reference)])))
            flow, visible = estimate_clip_flow(reference, objects)
        return (flow, visible) if self.gap == 1 else chain_flow(flow, visible, self.gap)


@dataclass(frozen=True, kw_only=True)
class WarpError(Warp):
    """The warp error of a rendering. `of="reference"` gives the floor as `WarpFloor` does."""

    better: ClassVar[Better] = "lower"
    key: str = "warp"


@dataclass(frozen=True, kw_only=True)
class WarpFloor(Warp):
    """The warp error of the reference itself, which a perfect result has too."""

    key: str = "warp_floor"
    of: Literal["prediction", "reference"] = "reference"


@dataclass(frozen=True, kw_only=True)
class WarpErrors:
    """Warp error of each pair (t, t+span). All arrays are (P,).

    Attributes:
        mae: mean absolute difference in [0, 1]; NaN where `pixels` is 0 (no value, do not record one).
        rmse: root mean squared difference in [0, 1]; NaN likewise.
        pixels: pixels compared.
    """

    mae: Floats
    rmse: Floats
    pixels: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class WarpContext:
    """A warp error with the two numbers it must be read against, on the same flow and pixels.

    Attributes:
        prediction: the clip judged.
        floor: the reference clip itself; the value of a perfect result, which is not 0.
        static: the reference's first frame repeated; the value of a clip without motion.
    """

    prediction: WarpErrors
    floor: WarpErrors
    static: WarpErrors


def warp_error(frames: NDArray[np.floating], flow: NDArray[np.floating], visible: Mask) -> WarpErrors:
    """Compute the difference between each frame and the later frame warped back to it.

    Args:
        frames: (T, H, W, C) in [0, 1].
        flow: (P, H, W, 2) pixels (dx, dy) from frame t to t+span on the grid of t, where span = T - P.
            May hold anything (NaN too) where not visible.
        visible: (P, H, W) bool, the surface point of frame t is seen in frame t+span as well.

    Raises:
        DataError: a frame value is NaN or outside [0, 1], or the flow is NaN on a visible pixel.
    """
    check_clip(frames)
    check_flow(flow, visible)
    pairs = len(flow)
    span = len(frames) - pairs
    if span < 1 or flow.shape[1:3] != frames.shape[1:3]:
        raise ValueError(
            f"{len(frames)} frames of {frames.shape[1:3]} do not fit {pairs} flows of {flow.shape[1:3]}"
        )
    mae, rmse = np.full(pairs, np.nan), np.full(pairs, np.nan)
    pixels = np.zeros(pairs, dtype=np.int64)
    for t in range(pairs):
        rows, columns = np.nonzero(visible[t])
        x, y = targets(flow[t], rows, columns)
        inside = within(x, y, *flow.shape[1:3])
        warped = sample(frames[t + span], x[inside], y[inside])
        difference = warped - frames[t][rows[inside], columns[inside]]
        pixels[t] = inside.sum()
        if pixels[t]:
            mae[t] = np.abs(difference).mean()
            rmse[t] = np.sqrt(np.square(difference).mean())
    return WarpErrors(mae=mae, rmse=rmse, pixels=pixels)


def warp_error_in_context(
    frames: NDArray[np.floating],
    reference: NDArray[np.floating],
    flow: NDArray[np.floating],
    visible: Mask,
) -> WarpContext:
    """Compute the warp error of a prediction, of its reference (floor) and of a frozen clip (trap).

    Args:
        frames, reference: (T, H, W, C) in [0, 1], at equal size.
        flow, visible: of the reference, as in `warp_error`.
    """
    if frames.shape != reference.shape:
        raise ValueError(f"prediction {frames.shape} and reference {reference.shape} differ in shape")
    frozen = np.broadcast_to(reference[:1], reference.shape)
    return WarpContext(
        prediction=warp_error(frames, flow, visible),
        floor=warp_error(reference, flow, visible),
        static=warp_error(frozen, flow, visible),
    )
