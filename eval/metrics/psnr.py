"""Peak signal-to-noise ratio."""

import math
from typing import Literal

import numpy as np

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.eval.metrics.region import Image, check_pair

PsnrRange = float | Literal["gt-minmax"]


def mse(pred: Image, gt: Image) -> float:
    """Mean squared difference over all pixels and channels of two uint8 (H, W, 3) pictures, in grey levels².

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
    """PSNR in dB, 10 log10(R² / MSE), of two uint8 (H, W, 3) pictures.

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
