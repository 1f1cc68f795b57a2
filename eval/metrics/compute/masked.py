"""Means over the pixels of an object."""

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def masked_mean(values: NDArray[np.floating], mask: Mask) -> Floats:
    """Compute the mean over the masked pixels of each frame, in float64.

    Args:
        values: (N, H, W); what lies outside the mask is never read, NaN included.
        mask: (N, H, W) bool.

    Returns:
        (N,); NaN for a frame whose mask is empty: it has no value, and a caller must not record one.

    Raises:
        DataError: a kept pixel is NaN or infinite; names the frame.
    """
    if values.shape != mask.shape or values.ndim != 3:
        raise ValueError(f"values and mask must both be (N, H, W), got {values.shape} and {mask.shape}")
    kept = np.where(mask, values, 0.0).astype(np.float64)
    bad = ~np.isfinite(kept).all(axis=(1, 2))
    if bad.any():
        raise DataError(f"frame {int(np.argmax(bad))}: holds NaN or infinite values on the object")
    count = mask.sum(axis=(1, 2))
    total = kept.sum(axis=(1, 2))
    mean = np.full(len(count), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
