"""Peak signal-to-noise ratio."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.eval.metrics.compute.region import Image, check_pair
from mvtokenflow.eval.metrics.spec import Better, MetricSpec, Networks, Picture

PsnrRange = float | Literal["gt-minmax"]


@dataclass(frozen=True, kw_only=True)
class Psnr(MetricSpec):
    """PSNR in dB; `range` is R of 10 log10(R²/MSE).

    `cap` is the value of equal pictures and the most any picture gets: without it one equal frame makes a
    whole average infinite, as it does in the published scripts.
    """

    better: ClassVar[Better] = "higher"
    digits: ClassVar[int] = 2
    unit: ClassVar[str] = " dB"
    floor: ClassVar[float | None] = 1e-3
    key: str = "psnr"
    range: Literal["gt-minmax", "255"] = "255"
    cap: float | None = 100.0

    def measure_frame(self, rendering: Picture, reference: Picture, networks: Networks) -> float:
        span: PsnrRange = "gt-minmax" if self.range == "gt-minmax" else 255.0
        value = psnr(rendering.pixels, reference.pixels, span)
        return value if self.cap is None else min(value, self.cap)


def mse(pred: Image, gt: Image) -> float:
    """Compute the mean squared difference of two uint8 (H, W, 3) pictures, in grey levels².

    The sum is taken in integers, so the value is the float64 nearest to the exact one.

    Raises:
        DataError: not RGB uint8, or of different sizes.
    """
    check_pair(pred, gt)
    # |a-b| of uint8 without leaving uint8: the larger minus the smaller
    difference = (np.maximum(pred, gt) - np.minimum(pred, gt)).ravel()
    counts = np.bincount(difference, minlength=256)  # a histogram cannot overflow, whatever the size
    return int((counts * np.arange(256, dtype=np.int64) ** 2).sum()) / difference.size


def psnr(pred: Image, gt: Image, data_range: PsnrRange = 255.0) -> float:
    """Compute the PSNR in dB, 10 log10(R² / MSE), of two uint8 (H, W, 3) pictures.

    Args:
        data_range: R in grey levels, or "gt-minmax": the largest minus the smallest value of this ground
            truth, which is what torchmetrics below 1.8 did when no range was passed (the published
            Consistent4D numbers). That one is not symmetric in its arguments.

    Returns:
        +inf for identical pictures under every range; -inf under "gt-minmax" if the ground truth is one
        flat grey (R = 0) and the prediction is not the same.

    Raises:
        ConfigError: a range that is not positive.
        DataError: not RGB uint8, or of different sizes.
    """
    if data_range != "gt-minmax" and not data_range > 0:
        raise ConfigError(f"the data range of PSNR must be positive, got {data_range}")
    error = mse(pred, gt)
    if error == 0:
        return math.inf
    span = float(gt.max()) - float(gt.min()) if data_range == "gt-minmax" else data_range
    return 10 * math.log10(span * span / error) if span > 0 else -math.inf
