"""Structural dissimilarity with its exact gradient: compiled in one sweep on CPU, convolutions elsewhere.

The mean of SSIM needs four blurred maps of the pictures x and y: x, y, x² + y² and xy, because the two
variances enter only as a sum. The gradient by x is then three more blurs, of the derivatives by these maps;
blurring with zero padding is its own adjoint. Both run together: a backward pass is one multiplication.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mvtokenflow.splat.kernels.cpu import ONE_AT_A_TIME
from mvtokenflow.splat.kernels.simd import LANES, fill, kernel, load, store, total

_RADIUS, _SIGMA = 5, 1.5
_TAPS = 2 * _RADIUS + 1
_C1, _C2 = 0.01**2, 0.03**2


def d_ssim(image: Tensor, target: Tensor) -> Tensor:
    """Structural dissimilarity 1 − SSIM, the mean over all pixels, channels and pictures; not halved.

    As in 3DGS and SC-GS: Gaussian window of 11 x 11 and sigma 1.5, zero padding of 5 (so borders are biased),
    C1 = 0.01², C2 = 0.03², variances as E[x²] − E[x]². float64 agrees with their code to 1e-13, float32 to 1e-6
    (constant pictures to 1e-4).

    Args:
        image, target: (..., H, W, C) in [0, 1]. Half precision is computed in float32. The gradient flows to
            `image` only, and only once.

    Returns:
        A scalar in [0, 2].

    Raises:
        ValueError: shapes or types differ, or `target` requires a gradient.
    """
    if image.shape != target.shape or image.ndim < 3 or image.dtype != target.dtype:
        raise ValueError(
            f"image {tuple(image.shape)} {image.dtype} and target {tuple(target.shape)} {target.dtype} must be "
            "equal (..., H, W, C) of one type"
        )
    if target.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "d_ssim gives no gradient by its target: detach it, or swap the two (SSIM is symmetric)"
        )
    if image.dtype not in (torch.float32, torch.float64):
        image, target = image.float(), target.float()
    shape = (-1, *image.shape[-3:])
    ssim: Tensor = _Ssim.apply(image.reshape(shape), target.reshape(shape))
    return 1 - ssim


class _Ssim(torch.autograd.Function):
    """Autograd function: mean SSIM of pictures (B, H, W, C)."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor) -> Tensor:
        run = _compiled if image.device.type == "cpu" else _convolved
        ssim, gradient = run(image, target, ctx.needs_input_grad[0])
        ctx.save_for_backward(gradient)
        return ssim

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * given, None


@cache
def _window(double: bool) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """Return the SSIM window as a sum Σ f v vᵀ of separable ones: (R, 11) vectors v and (R,) factors f.

    The reference rounds the two-dimensional window to float32, after which it is not separable: that shows in
    the seventh digit of SSIM. In float64 it is therefore split exactly (R = 6: it is symmetric twice); in
    float32 only the leading term matters.
    """
    offsets = torch.arange(_TAPS) - _RADIUS
    taps = torch.exp(-(offsets.double() ** 2) / (2 * _SIGMA**2)).float()
    taps = taps / taps.sum()
    if not double:
        return taps[None].numpy(), np.ones(1, np.float32)
    factors, vectors = np.linalg.eigh(torch.outer(taps, taps).double().numpy())
    keep = np.argsort(-np.abs(factors))[: _RADIUS + 1]
    return np.ascontiguousarray(vectors[:, keep].T), factors[keep]


# ---- convolutions: any device ----


def _blur(maps: Tensor) -> Tensor:
    """Blur maps (B, M, H, W), M >= 2, with zero padding; depth-wise, so that CUDA does not round to TF32."""
    count = maps.shape[1]
    blurred = torch.zeros_like(maps)
    for vector, factor in zip(*_window(maps.dtype == torch.float64), strict=True):
        taps = torch.from_numpy(vector).to(maps)
        down = F.conv2d(
            maps, taps.view(1, 1, -1, 1).expand(count, 1, -1, 1), padding=(_RADIUS, 0), groups=count
        )
        across = taps.view(1, 1, 1, -1).expand(count, 1, 1, -1)
        blurred += float(factor) * F.conv2d(down, across, padding=(0, _RADIUS), groups=count)
    return blurred


def _convolved(image: Tensor, target: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor]:
    """Compute mean SSIM of (B, H, W, C) by convolutions, and its gradient by `image` (else empty)."""
    with torch.autocast(image.device.type, enabled=False):
        x, y = (picture.permute(0, 3, 1, 2).flatten(0, 1) for picture in (image, target))
        mean_x, mean_y, squares, product = _blur(torch.stack([x, y, x * x + y * y, x * y], 1)).unbind(1)
        light_x, light_y = 2 * mean_x * mean_y + _C1, mean_x**2 + mean_y**2 + _C1
        form_x, form_y = 2 * (product - mean_x * mean_y) + _C2, squares - mean_x**2 - mean_y**2 + _C2
        inverse = 1 / (light_y * form_y)
        ssim = light_x * form_x * inverse
        if not with_gradient:
            return ssim.mean(), image.new_empty(0)
        by_squares = -ssim / form_y
        by_product = 2 * light_x * inverse
        by_mean = 2 * mean_y * (form_x - light_x) * inverse + 2 * mean_x * ssim * (1 / form_y - 1 / light_y)
        a, b, c = _blur(torch.stack([by_mean, by_squares, by_product], 1)).unbind(1)
        gradient = (a + 2 * x * b + y * c) / x.numel()
        batch, height, width, channels = image.shape
        return ssim.mean(), gradient.view(batch, channels, height, width).permute(0, 2, 3, 1)


# ---- compiled: CPU ----


def _compiled(image: Tensor, target: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor]:
    """Compute the same as `_convolved` with compiled kernels.

    A row of W pixels of C channels is one row of W·C numbers, neighbours C apart.
    """
    batch, height, width, channels = image.shape
    x, y = (p.detach().contiguous().view(batch, height, width * channels).numpy() for p in (image, target))
    vectors, factors = _window(image.dtype == torch.float64)
    gradient = np.empty_like(x) if with_gradient else np.empty((0, 0, 0), x.dtype)
    sums = np.zeros(batch)
    with ONE_AT_A_TIME:
        _sweep_all(x, y, channels, vectors, factors, gradient, sums)
    ssim = torch.tensor(sums.sum() / image.numel(), dtype=image.dtype)
    return ssim, torch.from_numpy(gradient).view(image.shape if with_gradient else (0,))


@kernel()
def _blur_row(source: Any, starts: Any, taps: Any, factor: Any, out: Any, at: int, count: int) -> None:
    """Add `factor` Σ_k taps[k] source[starts[k] + j] to out[at + j] for j < count, a multiple of LANES."""
    t0, t1, t2 = factor * taps[0], factor * taps[1], factor * taps[2]
    t3, t4, t5 = factor * taps[3], factor * taps[4], factor * taps[5]
    s0, s1, s2, s3, s4, s5 = starts[0], starts[1], starts[2], starts[3], starts[4], starts[5]
    s6, s7, s8, s9, s10 = starts[6], starts[7], starts[8], starts[9], starts[10]
    for j in range(0, count, LANES):
        value = load(out, at + j) + t5 * load(source, s5 + j)
        value = value + t0 * (load(source, s0 + j) + load(source, s10 + j))
        value = value + t1 * (load(source, s1 + j) + load(source, s9 + j))
        value = value + t2 * (load(source, s2 + j) + load(source, s8 + j))
        value = value + t3 * (load(source, s3 + j) + load(source, s7 + j))
        value = value + t4 * (load(source, s4 + j) + load(source, s6 + j))
        store(out, at + j, value)


@kernel()
def _blur_across(rows: Any, maps: int, span: int, channels: int, window: Any, ring: Any, slot: int) -> None:
    """Blur padded `rows` along the row into one slot of the ring (slot, term, map, span)."""
    vectors, factors = window
    terms = factors.size
    one = ring.dtype.type(1)
    padded = rows.size // maps
    starts = np.empty(_TAPS, np.int64)
    first = slot * terms * maps * span
    ring[first : first + terms * maps * span] = 0
    for m in range(maps):
        for k in range(_TAPS):
            starts[k] = m * padded + k * channels
        for r in range(terms):
            _blur_row(rows, starts, vectors[r], one, ring, first + (r * maps + m) * span, span)


@kernel()
def _blur_down(ring: Any, maps: int, span: int, row: int, window: Any, out: Any) -> None:
    """Blur the ring's rows `row` − 5 to `row` + 5 into `out` (map, span)."""
    vectors, factors = window
    terms = factors.size
    starts = np.empty(_TAPS, np.int64)
    out[:] = 0
    for m in range(maps):
        for r in range(terms):
            for k in range(_TAPS):
                slot = (row - _RADIUS + k) % _TAPS
                starts[k] = ((slot * terms + r) * maps + m) * span
            _blur_row(ring, starts, vectors[r], factors[r], out, m * span, span)


@kernel()
def _compare(
    means: Any, span: int, count: int, padded: int, margin: int, derivatives: Any, scratch: Any
) -> float:
    """Sum SSIM over one row of four blurred maps; write its derivatives into three padded rows."""
    real = means.dtype.type
    one, two, c1, c2 = real(1), real(2), real(_C1), real(_C2)
    for j in range(0, span, LANES):
        x, y = load(means, j), load(means, span + j)
        squares, product = load(means, 2 * span + j), load(means, 3 * span + j)
        xy, xx_yy = x * y, x * x + y * y
        light_x, light_y = two * xy + c1, xx_yy + c1
        form_x, form_y = two * (product - xy) + c2, squares - xx_yy + c2
        inverse = one / (light_y * form_y)
        ssim = light_x * form_x * inverse
        by_form = ssim * light_y * inverse
        by_light = ssim * form_y * inverse
        store(scratch, j, ssim)
        by_mean = two * (y * (form_x - light_x) * inverse + x * (by_form - by_light))
        store(derivatives, margin + j, by_mean)
        store(derivatives, padded + margin + j, by_form * real(-1))
        store(derivatives, 2 * padded + margin + j, two * light_x * inverse)
    scratch[count:span] = 0
    for m in range(3):  # what lies outside the picture has no influence
        derivatives[m * padded + margin + count : (m + 1) * padded] = 0
    found = fill(real(0))
    for j in range(0, span, LANES):
        found = found + load(scratch, j)
    return float(total(found))


@kernel()
def _moments(x: Any, y: Any, means_x: Any, means_y: Any, squares: Any, products: Any) -> None:
    """Compute the four maps of one row before the blur: x, y, x² + y² and xy."""
    for j in range(x.size):
        a, b = x[j], y[j]
        means_x[j] = a
        means_y[j] = b
        squares[j] = a * a + b * b
        products[j] = a * b


@kernel()
def _gradient(x: Any, y: Any, by_mean: Any, by_squares: Any, by_product: Any, scale: Any, out: Any) -> None:
    """Apply the chain rule of `_moments` to one row."""
    two = out.dtype.type(2)
    for j in range(x.size):
        out[j] = scale * (by_mean[j] + two * x[j] * by_squares[j] + y[j] * by_product[j])


@kernel()
def _sweep(x: Any, y: Any, channels: int, window: Any, gradient: Any, scale: Any) -> float:
    """Sum SSIM over one picture (H, W·C) in one sweep; rings hold the 11 rows in reach.

    Writes `scale` times the gradient by `x` unless `gradient` is empty.
    """
    height, count = x.shape
    terms = window[1].size
    margin = _RADIUS * channels
    span = -(-count // LANES) * LANES
    padded = margin + span + margin
    rows = np.zeros(4 * padded, x.dtype)
    means = np.zeros(4 * span, x.dtype)
    moments = np.zeros(_TAPS * terms * 4 * span, x.dtype)
    derivatives = np.zeros(3 * padded, x.dtype)
    slopes = np.zeros(_TAPS * terms * 3 * span, x.dtype)
    scratch = np.zeros(span, x.dtype)
    found = 0.0
    for i in range(height + 2 * _RADIUS):
        if i < height:
            _moments(
                x[i],
                y[i],
                rows[margin:],
                rows[padded + margin :],
                rows[2 * padded + margin :],
                rows[3 * padded + margin :],
            )
        else:
            rows[:] = 0
        _blur_across(rows, 4, span, channels, window, moments, i % _TAPS)
        middle = i - _RADIUS
        if middle < 0:
            continue
        if middle < height:
            _blur_down(moments, 4, span, middle, window, means)
            found += _compare(means, span, count, padded, margin, derivatives, scratch)
        else:
            derivatives[:] = 0
        if gradient.size == 0:
            continue
        _blur_across(derivatives, 3, span, channels, window, slopes, middle % _TAPS)
        last = middle - _RADIUS
        if last < 0:
            continue
        _blur_down(slopes, 3, span, last, window, means)
        _gradient(x[last], y[last], means, means[span:], means[2 * span :], scale, gradient[last])
    return found


@kernel(parallel=True)
def _sweep_all(x: Any, y: Any, channels: int, vectors: Any, factors: Any, gradient: Any, sums: Any) -> None:
    """Sweep every picture of (B, H, W·C) separately: the result does not depend on the number of threads."""
    scale = x.dtype.type(1 / x.size)
    for n in prange(x.shape[0]):
        mine = gradient[n] if gradient.shape[0] else gradient[:0, 0]
        sums[n] = _sweep(x[n], y[n], channels, (vectors, factors), mine, scale)
