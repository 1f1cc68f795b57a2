"""Structural similarity (Wang et al. 2004) in float64.

The published scripts compute it in float32 on values up to 255, where E[x²] - E[x]² cancels: a frame's
value is off by up to 8e-4 and depends on the convolution backend. Here it is the same formula in float64.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.eval.metrics.compute.region import Image, bounding_window, check_pair, flat_background
from mvtokenflow.eval.metrics.spec import Better, MetricSpec, Networks, Picture

SsimRange = float | Literal["max-minmax"]
SsimBorder = Literal["crop5", "full"]
Map = npt.NDArray[np.float64]

_RADIUS = 5  # of the window: 11 x 11 pixels
_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True, kw_only=True)
class Ssim(MetricSpec):
    """SSIM, Gaussian 11x11 σ 1.5, float64; `border` is the part of the map that is averaged."""

    better: ClassVar[Better] = "higher"
    digits: ClassVar[int] = 4
    floor: ClassVar[float | None] = 1e-5
    key: str = "ssim"
    range: Literal["max-minmax", "255"] = "255"
    border: Literal["crop5", "full"] = "full"

    def measure_frame(self, rendering: Picture, reference: Picture, networks: Networks) -> float:
        if self.range != "max-minmax":
            return ssim(rendering.pixels, reference.pixels, 255.0, self.border)
        try:
            return ssim(rendering.pixels, reference.pixels, "max-minmax", self.border)
        except DataError as error:
            raise DataError(f"{error}; score it under c4d-fixed-v1, whose range is 255") from error


def _similarity(pred: Image, gt: Image, c1: float, c2: float) -> Map:
    from mvtokenflow.eval.metrics.compute.ssim import filtered

    height, width = pred.shape[:2]
    x, y = (image.reshape(height, 3 * width).astype(np.float64) for image in (pred, gt))
    return filtered(x, y, c1, c2).reshape(height, width, 3)


def _constants(pred: Image, gt: Image, data_range: SsimRange) -> tuple[float, float]:
    check_pair(pred, gt)
    if min(pred.shape[:2]) <= 2 * _RADIUS:
        raise DataError(
            f"SSIM needs more than {2 * _RADIUS} pixels a side, got {pred.shape[1]}x{pred.shape[0]}"
        )
    if data_range == "max-minmax":
        data_range = float(max(np.ptp(pred), np.ptp(gt)))
        if data_range == 0:
            raise DataError(
                "SSIM with range max-minmax is 0/0 for two pictures of one grey each; take a fixed range"
            )
    if not data_range > 0:
        raise ConfigError(f"the data range of SSIM must be positive, got {data_range}")
    return (_K1 * data_range) ** 2, (_K2 * data_range) ** 2


def ssim_map(pred: Image, gt: Image, data_range: SsimRange = 255.0) -> Map:
    """Compute SSIM (H, W, 3) per pixel and channel, float64, of two uint8 (H, W, 3) pictures.

    Gaussian window of sigma 1.5 on 11x11 pixels, reflected borders, K1 = .01, K2 = .03.

    Args:
        data_range: in grey levels, or "max-minmax": the larger of both pictures' max - min (torchmetrics'
            choice when no range is passed, used by the published Consistent4D numbers).

    Raises:
        DataError: not RGB uint8, different sizes, a side of 10 pixels or less, or two pictures of one grey
            each under "max-minmax" (0/0 upstream).
        ConfigError: a range that is not positive.
    """
    return _similarity(pred, gt, *_constants(pred, gt, data_range))


def ssim(pred: Image, gt: Image, data_range: SsimRange = 255.0, border: SsimBorder = "full") -> float:
    """Compute the mean SSIM of two uint8 (H, W, 3) pictures: the mean of `ssim_map`.

    Where both pictures show their flat background within the window's reach, both variances vanish and the
    map is (2ab + C1) / (a² + b² + C1) for colours a, b; only the rest is filtered. The value is that of the
    dense map up to float64 rounding.

    Args:
        data_range: as in `ssim_map`.
        border: "crop5" leaves out the outermost 5 pixels (torchmetrics up to 1.4.1), "full" does not.

    Raises:
        DataError, ConfigError: as `ssim_map`.
    """
    c1, c2 = _constants(pred, gt, data_range)
    margin = {"crop5": _RADIUS, "full": 0}[border]
    height, width = pred.shape[0] - 2 * margin, pred.shape[1] - 2 * margin
    flat_pred, flat_gt = flat_background(pred), flat_background(gt)
    if flat_pred is None or flat_gt is None:
        whole = _similarity(pred, gt, c1, c2)
        return float(whole[margin : margin + height, margin : margin + width].mean())
    (colour_pred, mask_pred), (colour_gt, mask_gt) = flat_pred, flat_gt
    differs = mask_pred | mask_gt
    # outputs within one radius of the content can differ; they need inputs one radius further out
    inner, outer = bounding_window(differs, _RADIUS), bounding_window(differs, 2 * _RADIUS)
    a, b = np.array(colour_pred, np.float64), np.array(colour_gt, np.float64)
    background = (2 * a * b + c1) / (a * a + b * b + c1)
    total, counted = 0.0, 0
    if differs.any():
        window = _similarity(pred[outer], gt[outer], c1, c2)
        kept = tuple(
            slice(max(i.start, margin) - o.start, min(i.stop, size - margin) - o.start)
            for i, o, size in zip(inner, outer, differs.shape, strict=True)
        )
        part = window[kept]
        total, counted = float(part.sum()), part.shape[0] * part.shape[1]
    total += float(background.sum()) * (height * width - counted)
    return float(total / (3 * height * width))
