"""Change of a method's normals from frame to frame along the exact flow: turning of the object, and flicker.

Only where a dataset has exact flow (toy4d) and a method offers normals. The reference's own value is not 0,
since parts turn: `of="reference"` gives that floor, below which lower is not better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.eval.metrics.compute.flow import Mask, check_flow, sample, targets, within
from mvtokenflow.eval.metrics.normal_error import normal_angle
from mvtokenflow.eval.metrics.spec import Better, ClipPair, Floats, MetricSpec, Needs, Networks, present

_SURFACE = 0.5  # of the interpolated vector's length; at the rim it mixes surface and background


@dataclass(frozen=True, kw_only=True)
class NormalWarp(MetricSpec):
    """What the normal warp error and its floor share: mean angle in degrees between the normals of frame t and
    those of frame t+1 warped back by the reference's flow, over visible pixels where both have a surface."""

    needs: ClassVar[Needs] = "clip"
    digits: ClassVar[int] = 1
    unit: ClassVar[str] = "°"
    floor: ClassVar[float | None] = 1e-2
    of: Literal["prediction", "reference"] = "prediction"

    def why_missing(self) -> str:
        return "the method offers no normals, the dataset has no exact flow, or frames are missing"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return frames[:-1]

    def can_measure(self, clip: ClipPair) -> bool:
        offered = self.of == "reference" or clip.offers("normal")
        return len(clip.names) > 1 and clip.has_truth and offered

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        count = len(clip.names)
        flow, visible = clip.truth(count - 1, "flow", "visible")
        normals = clip.offered(count, "normal") if self.of == "prediction" else clip.truth(count, "normal")[0]
        angles, pixels = normal_warp(np.asarray(normals, np.float32), flow, visible.astype(bool))
        return present(pixels, angles)


@dataclass(frozen=True, kw_only=True)
class NormalWarpError(NormalWarp):
    """The normal warp error of a method's normals."""

    column: ClassVar[str | None] = "Normal warp °"
    better: ClassVar[Better] = "lower"
    key: str = "normal_warp"


@dataclass(frozen=True, kw_only=True)
class NormalWarpFloor(NormalWarp):
    """The normal warp error of the exact normals, which a perfect result has too."""

    column: ClassVar[str | None] = "Normal floor °"
    key: str = "normal_warp_floor"
    of: Literal["prediction", "reference"] = "reference"


def normal_warp(
    normals: NDArray[np.floating], flow: NDArray[np.floating], visible: Mask
) -> tuple[Floats, NDArray[np.int64]]:
    """Compute the mean angle between each frame's normals and the next frame's warped back to it.

    Args:
        normals: (T, H, W, 3) unit or 0. flow: (T-1, H, W, 2) pixels. visible: (T-1, H, W).

    Returns:
        (T-1,) degrees, NaN where no pixel is compared, and the number of pixels compared.

    Raises:
        DataError: the flow is NaN on a visible pixel, or a normal is neither 0 nor of unit length.
    """
    check_flow(flow, visible)
    angles, counts = np.full(len(flow), np.nan), np.zeros(len(flow), np.int64)
    for t in range(len(flow)):
        rows, columns = np.nonzero(visible[t] & normals[t].any(-1))
        x, y = targets(flow[t], rows, columns)
        inside = within(x, y, *flow.shape[1:3])
        rows, columns = rows[inside], columns[inside]
        later = sample(normals[t + 1], x[inside], y[inside])
        length = np.linalg.norm(later, axis=-1, keepdims=True)
        solid = length[:, 0] > _SURFACE
        here, there = normals[t][rows, columns][solid], (later / np.maximum(length, _SURFACE))[solid]
        counts[t] = solid.sum()
        if counts[t]:
            angles[t] = normal_angle(here[None, None], there[None, None]).mean()
    return angles, counts
