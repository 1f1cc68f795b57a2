"""3x3 convolutions of selected 4x4 tiles by Winograd's minimal filtering F(4x4, 3x3), on the CPU.

A tile of 4x4 outputs needs 36 multiplications per pair of channels instead of 144, and they are 36 matrix
products over all tiles at once (Lavin & Gray 2016). Interpolation points 0, ±1/√2, ±√2, ∞ keep the float32
error near 5e-7 of the signal (half that of the usual 0, ±1, ±2, ∞).

Pictures are lists of tiles: `data (n, 16, C)` holds the pixels of tile k row by row, `index (rows, columns)`
gives the position of each tile of the picture, −1 for tiles that are not stored since they show the
background. A background is a small `table (K, K, C)`; the pixel (y, x) reads `table[rows[y], columns[x]]`.
The kernels run on the calling thread alone and release the GIL.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mvtokenflow.base.compiled import compiled

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int32]

TILE = 4
_PATCH = TILE + 2

# Evaluation points ±p, ±q with p² = 1/2, q² = 2
_P, _Q = float(np.sqrt(0.5)), float(np.sqrt(2.0))
_p, _q = np.float32(_P), np.float32(_Q)
_p3, _q3 = np.float32(_P / 2), np.float32(_Q * 2)  # their cubes
_two, _half, _five_halves = np.float32(2.0), np.float32(0.5), np.float32(2.5)
_zero = np.float32(0.0)

_compile: Any = compiled(nogil=True, fastmath={"contract"}, error_model="numpy")
# Sums may be taken in any order, but without fused multiply-adds: they would round a·s - b·t differently from
# b·t - a·s and from zero for equal pictures.
_compile_sum: Any = compiled(nogil=True, fastmath={"reassoc", "nsz"}, error_model="numpy")


def transform_weight(weight: torch.Tensor) -> torch.Tensor:
    """Compute G w Gᵀ of a (O, I, 3, 3) kernel: float32 (36, I, O), computed in float64."""
    points = torch.tensor([0.0, _P, -_P, _Q, -_Q], dtype=torch.float64)
    # N_k = Π over the other points of (p_k - p): 1, -3/2 twice, 6 twice
    norm = torch.tensor([1.0, -1.5, -1.5, 6.0, 6.0], dtype=torch.float64)
    rows = torch.stack([torch.ones_like(points), points, points**2], dim=1) / norm[:, None]
    g = torch.cat([rows, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)])
    outer = torch.einsum("ai,bj->abij", g, g).reshape(_PATCH * _PATCH, 9)
    out_channels, in_channels = weight.shape[:2]
    flat = weight.double().permute(2, 3, 1, 0).reshape(9, in_channels * out_channels)
    return (outer @ flat).float().reshape(_PATCH * _PATCH, in_channels, out_channels)


@_compile
def _read_patch(
    data: Float, index: Int, table: Float, rows: Int, columns: Int, top: int, left: int, patch: Float
) -> None:
    """Copy the 6x6 pixels from (top, left) into `patch (36, C)`; zeros outside the picture."""
    channels = patch.shape[1]
    for i in range(_PATCH):
        y = top + i
        for j in range(_PATCH):
            x = left + j
            k = i * _PATCH + j
            if y < 0 or x < 0 or y >= rows.shape[0] or x >= columns.shape[0]:
                for c in range(channels):
                    patch[k, c] = _zero
                continue
            slot = index[y >> 2, x >> 2]
            if slot >= 0:
                pixel = ((y & 3) << 2) + (x & 3)
                for c in range(channels):
                    patch[k, c] = data[slot, pixel, c]
            else:
                row, column = rows[y], columns[x]
                for c in range(channels):
                    patch[k, c] = table[row, column, c]


@_compile
def transform_input(
    data: Float, index: Int, table: Float, rows: Int, columns: Int, tiles: Int, out: Float
) -> None:
    """Compute Bᵀ d B of the 6x6 surroundings of each tile (row, column) in `tiles`: `out (36, n, C)`."""
    channels = data.shape[2]
    patch = np.empty((_PATCH * _PATCH, channels), np.float32)
    half = np.empty((_PATCH * _PATCH, channels), np.float32)
    for t in range(tiles.shape[0]):
        _read_patch(data, index, table, rows, columns, tiles[t, 0] * TILE - 1, tiles[t, 1] * TILE - 1, patch)
        for i in range(_PATCH):
            k = i * _PATCH
            for c in range(channels):
                d0, d1, d2 = patch[k, c], patch[k + 1, c], patch[k + 2, c]
                d3, d4, d5 = patch[k + 3, c], patch[k + 4, c], patch[k + 5, c]
                even_p, odd_p = d4 - _two * d2, _p * (d3 - _two * d1)
                even_q, odd_q = d4 - _half * d2, _q * (d3 - _half * d1)
                half[k, c] = d0 - _five_halves * d2 + d4
                half[k + 1, c] = even_p + odd_p
                half[k + 2, c] = even_p - odd_p
                half[k + 3, c] = even_q + odd_q
                half[k + 4, c] = even_q - odd_q
                half[k + 5, c] = d1 - _five_halves * d3 + d5
        for j in range(_PATCH):
            for c in range(channels):
                d0, d1, d2 = half[j, c], half[6 + j, c], half[12 + j, c]
                d3, d4, d5 = half[18 + j, c], half[24 + j, c], half[30 + j, c]
                even_p, odd_p = d4 - _two * d2, _p * (d3 - _two * d1)
                even_q, odd_q = d4 - _half * d2, _q * (d3 - _half * d1)
                out[j, t, c] = d0 - _five_halves * d2 + d4
                out[6 + j, t, c] = even_p + odd_p
                out[12 + j, t, c] = even_p - odd_p
                out[18 + j, t, c] = even_q + odd_q
                out[24 + j, t, c] = even_q - odd_q
                out[30 + j, t, c] = d1 - _five_halves * d3 + d5


@_compile
def transform_output(products: Float, bias: Float, out: Float) -> None:
    """Compute relu(Aᵀ m A + bias) of `products (36, n, C)`: `out (n, 16, C)`."""
    channels = bias.shape[0]
    half = np.empty((TILE * _PATCH, channels), np.float32)
    for t in range(products.shape[1]):
        for j in range(_PATCH):
            for c in range(channels):
                m1, m2 = products[6 + j, t, c], products[12 + j, t, c]
                m3, m4 = products[18 + j, t, c], products[24 + j, t, c]
                sum_p, difference_p, sum_q, difference_q = m1 + m2, m1 - m2, m3 + m4, m3 - m4
                half[j, c] = products[j, t, c] + sum_p + sum_q
                half[6 + j, c] = _p * difference_p + _q * difference_q
                half[12 + j, c] = _half * sum_p + _two * sum_q
                half[18 + j, c] = _p3 * difference_p + _q3 * difference_q + products[30 + j, t, c]
        for i in range(TILE):
            k = i * _PATCH
            for c in range(channels):
                m0, m1, m2 = half[k, c] + bias[c], half[k + 1, c], half[k + 2, c]
                m3, m4, m5 = half[k + 3, c], half[k + 4, c], half[k + 5, c] + bias[c]
                sum_p, difference_p, sum_q, difference_q = m1 + m2, m1 - m2, m3 + m4, m3 - m4
                out[t, i * TILE, c] = max(m0 + sum_p + sum_q, _zero)
                out[t, i * TILE + 1, c] = max(_p * difference_p + _q * difference_q + bias[c], _zero)
                out[t, i * TILE + 2, c] = max(_half * sum_p + _two * sum_q + bias[c], _zero)
                out[t, i * TILE + 3, c] = max(_p3 * difference_p + _q3 * difference_q + m5, _zero)


@_compile
def max_pool(data: Float, index: Int, table: Float, rows: Int, columns: Int, tiles: Int, out: Float) -> None:
    """Max-pool 2x2 with stride 2: `out (n, 16, C)` for the tiles (row, column) of the halved picture.

    `table`, `rows`, `columns` are the background of the halved picture: its pixels come from one source
    tile each, so one that is not stored is background after pooling as well.
    """
    channels = data.shape[2]
    for t in range(tiles.shape[0]):
        for k in range(TILE * TILE):
            y, x = tiles[t, 0] * TILE + (k >> 2), tiles[t, 1] * TILE + (k & 3)
            if y >= rows.shape[0] or x >= columns.shape[0]:
                for c in range(channels):
                    out[t, k, c] = _zero
                continue
            slot = index[y >> 1, x >> 1]
            if slot >= 0:
                pixel = ((y & 1) << 3) + ((x & 1) << 1)
                for c in range(channels):
                    upper = max(data[slot, pixel, c], data[slot, pixel + 1, c])
                    lower = max(data[slot, pixel + 4, c], data[slot, pixel + 5, c])
                    out[t, k, c] = max(upper, lower)
            else:
                row, column = rows[y], columns[x]
                for c in range(channels):
                    out[t, k, c] = table[row, column, c]


@_compile
def unfold_image(image: Float, tiles: Int, out: Float) -> None:
    """Copy the zero-padded 3x3 surroundings of each pixel: `image (H, W, 3)` to `out (n, 16, 27)`."""
    height, width = image.shape[:2]
    for t in range(tiles.shape[0]):
        for k in range(TILE * TILE):
            top, left = tiles[t, 0] * TILE + (k >> 2) - 1, tiles[t, 1] * TILE + (k & 3) - 1
            for i in range(3):
                for j in range(3):
                    y, x = top + i, left + j
                    inside = 0 <= y < height and 0 <= x < width
                    for c in range(3):
                        out[t, k, (i * 3 + j) * 3 + c] = image[y, x, c] if inside else _zero


@_compile_sum
def _squared_norm(values: Float) -> np.float32:
    total = _zero
    for c in range(values.shape[0]):
        total += values[c] * values[c]
    return total


@_compile_sum
def _weighted_distance(
    a: Float, b: Float, weight: Float, scale_a: np.float32, scale_b: np.float32
) -> np.float32:
    total = _zero
    for c in range(weight.shape[0]):
        difference = a[c] * scale_a - b[c] * scale_b
        total += weight[c] * difference * difference
    return total


@_compile
def _inverse_norm(values: Float, eps_inside: np.float32, eps_outside: np.float32) -> np.float32:
    inverse: np.float32 = np.float32(1.0) / (np.sqrt(_squared_norm(values) + eps_inside) + eps_outside)
    return inverse


@_compile
def tile_distance(
    data_a: Float,
    index_a: Int,
    table_a: Float,
    data_b: Float,
    index_b: Int,
    table_b: Float,
    rows: Int,
    columns: Int,
    tiles: Int,
    weight: Float,
    eps_inside: np.float32,
    eps_outside: np.float32,
) -> float:
    """Compute Σ over the pixels of `tiles` of Σ_c w_c (a_c/|a| - b_c/|b|)².

    |v| is sqrt(Σ v² + eps_inside) + eps_outside. Both pictures have one size and thus one background
    layout `rows`, `columns`.
    """
    total = 0.0
    for t in range(tiles.shape[0]):
        slot_a, slot_b = index_a[tiles[t, 0], tiles[t, 1]], index_b[tiles[t, 0], tiles[t, 1]]
        for k in range(TILE * TILE):
            y, x = tiles[t, 0] * TILE + (k >> 2), tiles[t, 1] * TILE + (k & 3)
            if y >= rows.shape[0] or x >= columns.shape[0]:
                continue
            a = data_a[slot_a, k] if slot_a >= 0 else table_a[rows[y], columns[x]]
            b = data_b[slot_b, k] if slot_b >= 0 else table_b[rows[y], columns[x]]
            scale_a = _inverse_norm(a, eps_inside, eps_outside)
            scale_b = _inverse_norm(b, eps_inside, eps_outside)
            total += _weighted_distance(a, b, weight, scale_a, scale_b)
    return total
