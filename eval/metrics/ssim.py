"""Structural similarity (Wang et al. 2004) in float64.

The published scripts compute it in float32 on values up to 255, where E[x²] - E[x]² cancels: a frame's
value is off by up to 8e-4 and depends on the convolution backend. Here it is the same formula in float64.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mvtokenflow.base.compiled import compiled
from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.eval.metrics.region import Image, bounding_window, check_pair, flat_background

SsimRange = float | Literal["max-minmax"]
SsimBorder = Literal["crop5", "full"]
Map = npt.NDArray[np.float64]

_RADIUS = 5
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


# no fused multiply-adds: they would round a² + b² differently from b² + a², and SSIM is symmetric
_compile: Any = compiled(nogil=True, error_model="numpy")


def _window() -> Map:
    taps = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    return np.asarray(taps / taps.sum())


def _reflected_rows(height: int) -> npt.NDArray[np.int64]:
    """The row read at each position from -radius to height + radius; the edge row itself is not repeated."""
    rows = np.abs(np.arange(-_RADIUS, height + _RADIUS))
    return np.asarray(np.minimum(rows, 2 * (height - 1) - rows))


@_compile
def _blur_columns(x: Map, y: Map, rows: npt.NDArray[np.int64], taps: Map, top: int, out: Map) -> None:
    """One row of the vertically filtered x, y, x² + y², xy into the middle of `out (4, 3(W + 10))`."""
    width = x.shape[1]
    first = 3 * _RADIUS
    out[:] = 0.0
    for k in range(_RADIUS + 1):  # the window is symmetric: rows k and 10 - k share a tap
        upper, lower = rows[top + k], rows[top + 2 * _RADIUS - k]
        tap = taps[k] if k < _RADIUS else 0.5 * taps[k]
        for j in range(width):
            x0, x1, y0, y1 = x[upper, j], x[lower, j], y[upper, j], y[lower, j]
            out[0, first + j] += tap * (x0 + x1)
            out[1, first + j] += tap * (y0 + y1)
            out[2, first + j] += tap * ((x0 * x0 + y0 * y0) + (x1 * x1 + y1 * y1))
            out[3, first + j] += tap * (x0 * y0 + x1 * y1)


@_compile
def _filter(x: Map, y: Map, rows: npt.NDArray[np.int64], taps: Map, c1: float, c2: float, result: Map) -> None:
    """The SSIM map of x and y (H, 3W), row by row so that everything in flight fits the cache."""
    height, width = x.shape
    lines = np.empty((4, width + 6 * _RADIUS))
    for top in range(height):
        _blur_columns(x, y, rows, taps, top, lines)
        for q in range(4):
            for j in range(_RADIUS):  # reflect the line's ends
                for c in range(3):
                    lines[q, 3 * j + c] = lines[q, 3 * (2 * _RADIUS - j) + c]
                    lines[q, width + 3 * (_RADIUS + j) + c] = lines[q, width + 3 * (_RADIUS - 2 - j) + c]
        for j in range(width):
            mean_x = mean_y = squares = product = 0.0
            for k in range(2 * _RADIUS + 1):
                mean_x += taps[k] * lines[0, j + 3 * k]
                mean_y += taps[k] * lines[1, j + 3 * k]
                squares += taps[k] * lines[2, j + 3 * k]
                product += taps[k] * lines[3, j + 3 * k]
            power, cross = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
            result[top, j] = ((2 * cross + c1) * (2 * (product - cross) + c2)) / (
                (power + c1) * (squares - power + c2)
            )


def _similarity(pred: Image, gt: Image, c1: float, c2: float) -> Map:
    height, width = pred.shape[:2]
    x, y = (image.reshape(height, 3 * width).astype(np.float64) for image in (pred, gt))
    result = np.empty((height, 3 * width))
    _filter(x, y, _reflected_rows(height), _window(), c1, c2, result)
    return result.reshape(height, width, 3)


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
    """Per-pixel, per-channel SSIM (H, W, 3), float64, of two uint8 (H, W, 3) pictures.

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
    """Mean SSIM of two uint8 (H, W, 3) pictures: `ssim_map` averaged over pixels and channels.

    Where both pictures show their flat background within the window's reach, both variances vanish and the
    map is (2ab + C1) / (a² + b² + C1) for colours a, b; only the rest is filtered. The value is that of the
    dense map up to float64 rounding.

    Args:
        data_range: as in `ssim_map`.
        border: "crop5" leaves out the outermost 5 pixels (torchmetrics up to 1.4.1), "full" does not.

    Raises:
        as `ssim_map`.
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
