"""The compiled filter of SSIM: means, variances and covariance under a Gaussian window, row by row."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mvtokenflow.base.compiled import compiled

Map = npt.NDArray[np.float64]

_RADIUS = 5
_SIGMA = 1.5


# no fused multiply-adds: they would round a² + b² differently from b² + a², and SSIM is symmetric
_compile: Any = compiled(nogil=True, error_model="numpy")


def _window() -> Map:
    taps = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    return np.asarray(taps / taps.sum())


def _reflected_rows(height: int) -> npt.NDArray[np.int64]:
    """Return the row at each position from -radius to height + radius; the edge row is not repeated."""
    rows = np.abs(np.arange(-_RADIUS, height + _RADIUS))
    return np.asarray(np.minimum(rows, 2 * (height - 1) - rows))


@_compile
def _blur_columns(x: Map, y: Map, rows: npt.NDArray[np.int64], taps: Map, top: int, out: Map) -> None:
    """Write a row of vertically filtered x, y, x² + y², xy to the middle of `out (4, 3(W + 10))`."""
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
    """Compute the SSIM map of x and y (H, 3W), row by row, so that all intermediate values fit the cache."""
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


def filtered(x: Map, y: Map, c1: float, c2: float) -> Map:
    """Compute the SSIM map (H, 3W) of two pictures (H, 3W) in grey levels, channels side by side.

    Gaussian window of sigma 1.5 on 11x11 pixels, reflected borders.
    """
    result = np.empty(x.shape)
    _filter(x, y, _reflected_rows(len(x)), _window(), c1, c2, result)
    return result
