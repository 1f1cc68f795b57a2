"""Compiled projection of Gaussians into pictures with its exact gradient, float64 inside.

With M = R·diag(s) (rotation, scales), W the camera's rotation and J the derivative of the pixel by the camera
point, the 2-D covariance is t·tᵀ + eps2d·I, t = J·W·M (2 x 3). The gradient passes through t. Matrices are
tuples of rows; the four entries of J that are not 0 are (J00, J02, J11, J12).
"""

from typing import Any, NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mvtokenflow.splat.kernels.constants import ALPHA_MIN, EXTENT_SIGMAS, FOV_MARGIN
from mvtokenflow.splat.kernels.simd import kernel

Array = NDArray[Any]
_ZERO = (0.0, 0.0, 0.0)
_BLOCK = 256  # Gaussians handled by one call
_RADIUS_MAX = 1e9  # pixels; keeps int32 from wrapping


class Gaussians(NamedTuple):
    """Arrays of N Gaussians: means (N, 3), quats (N, 4), scales (N, 3), opacities (N,)."""

    means: Array
    quats: Array
    scales: Array
    opacities: Array


class Lens(NamedTuple):
    """Projection settings, the scalar arguments of `reference.project`."""

    width: int
    height: int
    ortho: bool
    near: float
    far: float
    eps2d: float
    antialiased: bool


class Projected(NamedTuple):
    """Projected Gaussians as in `Projection`, or gradients by them (the radii are then unused)."""

    radii: Array
    means2d: Array
    depths: Array
    conics: Array
    opacities: Array


@kernel()
def _dot(a: Any, b: Any) -> Any:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel()
def _combine(u: float, a: Any, v: float, b: Any, w: float, c: Any) -> Any:
    """Linear combination u·a + v·b + w·c of three rows."""
    return (
        u * a[0] + v * b[0] + w * c[0],
        u * a[1] + v * b[1] + w * c[1],
        u * a[2] + v * b[2] + w * c[2],
    )


@kernel()
def _row(matrix: Any, index: int) -> Any:
    return np.float64(matrix[index, 0]), np.float64(matrix[index, 1]), np.float64(matrix[index, 2])


@kernel()
def _row_of(matrices: Any, which: int, index: int) -> Any:
    # Two indices instead of a view of one matrix: a view costs a reference count each time.
    return (
        np.float64(matrices[which, index, 0]),
        np.float64(matrices[which, index, 1]),
        np.float64(matrices[which, index, 2]),
    )


@kernel()
def _columns_scaled(row: Any, scale: Any) -> Any:
    return row[0] * scale[0], row[1] * scale[1], row[2] * scale[2]


@kernel()
def _unit(quats: Any, i: int) -> Any:
    """Normalise one quaternion; return w, x, y, z and its former length."""
    w, x, y, z = (
        np.float64(quats[i, 0]),
        np.float64(quats[i, 1]),
        np.float64(quats[i, 2]),
        np.float64(quats[i, 3]),
    )
    length = max(np.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    return w / length, x / length, y / length, z / length, length


@kernel()
def _rotation(quat: Any) -> Any:
    w, x, y, z = quat[0], quat[1], quat[2], quat[3]
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )


@kernel()
def _spread(rotation: Any, scale: Any) -> Any:
    """Return the matrix M = R·diag(s) of one Gaussian."""
    return (
        _columns_scaled(rotation[0], scale),
        _columns_scaled(rotation[1], scale),
        _columns_scaled(rotation[2], scale),
    )


@kernel()
def _camera_axes(viewmats: Any, n: int) -> Any:
    """Return the rotation W of one camera."""
    return _row_of(viewmats, n, 0), _row_of(viewmats, n, 1), _row_of(viewmats, n, 2)


@kernel()
def _camera_point(viewmats: Any, n: int, axes: Any, mean: Any) -> Any:
    return (
        _dot(axes[0], mean) + np.float64(viewmats[n, 0, 3]),
        _dot(axes[1], mean) + np.float64(viewmats[n, 1, 3]),
        _dot(axes[2], mean) + np.float64(viewmats[n, 2, 3]),
    )


@kernel()
def _focals(intrinsics: Any, n: int) -> Any:
    """Intrinsics fx, fy, cx, cy of one camera."""
    first, second = _row_of(intrinsics, n, 0), _row_of(intrinsics, n, 1)
    return first[0], second[1], first[2], second[2]


@kernel()
def _bounded(slope: float, focal: float, centre: float, size: int) -> Any:
    """Return the slope x / z, clamped to the border of the widened field of view."""
    margin = FOV_MARGIN * 0.5 * size / focal
    return min(max(slope, -(centre / focal + margin)), (size - centre) / focal + margin)


@kernel()
def _jacobian(point: Any, focals: Any, lens: Lens) -> Any:
    """Return the non-zero entries J00, J02, J11, J12 of the Jacobian."""
    fx, fy, cx, cy = focals
    if lens.ortho:
        return fx, 0.0, fy, 0.0
    x, y, z = point
    slope_x = _bounded(x / z, fx, cx, lens.width)
    slope_y = _bounded(y / z, fy, cy, lens.height)
    return fx / z, -fx * slope_x / z, fy / z, -fy * slope_y / z


@kernel()
def _flattened(jacobian: Any, axes: Any, spread: Any) -> Any:
    """Two rows of J·W and two rows of t = J·W·M."""
    first = _combine(jacobian[0], axes[0], jacobian[1], axes[2], 0.0, _ZERO)
    second = _combine(jacobian[2], axes[1], jacobian[3], axes[2], 0.0, _ZERO)
    flat_x = _combine(first[0], spread[0], first[1], spread[1], first[2], spread[2])
    flat_y = _combine(second[0], spread[0], second[1], spread[1], second[2], spread[2])
    return first, second, flat_x, flat_y


@kernel()
def _footprint(point: Any, focals: Any, axes: Any, spread: Any, opacity: float, lens: Lens) -> Any:
    """Return radii, pixel, conic and opacity of one Gaussian in one camera; radii are 0 if culled or NaN."""
    culled = (0.0, 0.0), (0.0, 0.0), _ZERO, 0.0
    if not (lens.near <= point[2] <= lens.far):
        return culled
    eps2d = lens.eps2d
    _, _, flat_x, flat_y = _flattened(_jacobian(point, focals, lens), axes, spread)
    xx, yy, xy = _dot(flat_x, flat_x) + eps2d, _dot(flat_y, flat_y) + eps2d, _dot(flat_x, flat_y)
    det = xx * yy - xy * xy
    if lens.antialiased:
        opacity *= np.sqrt(max(0.0, ((xx - eps2d) * (yy - eps2d) - xy * xy) / det))
    if not (det > 0.0 and opacity >= ALPHA_MIN):
        return culled
    reach = min(EXTENT_SIGMAS, np.sqrt(2.0 * np.log(opacity / ALPHA_MIN)))
    radius_x = min(np.ceil(reach * np.sqrt(xx)), _RADIUS_MAX)
    radius_y = min(np.ceil(reach * np.sqrt(yy)), _RADIUS_MAX)
    depth = 1.0 if lens.ortho else point[2]
    x, y = point[0] / depth * focals[0] + focals[2], point[1] / depth * focals[1] + focals[3]
    inside_x = x + radius_x > 0 and x - radius_x < lens.width
    if not (inside_x and y + radius_y > 0 and y - radius_y < lens.height):
        return culled
    return (radius_x, radius_y), (x, y), (yy / det, -xy / det, xx / det), opacity


# The loops over a block lie in functions of their own: each call counts references of every array it is given,
# and Numba's analysis of parallel loops fails on tuples of tuples inside them.
@kernel()
def _forward_block(
    start: int, end: int, gaussians: Gaussians, viewmats: Any, intrinsics: Any, lens: Lens, out: Projected
) -> None:
    means, quats, scales, opacities = gaussians
    radii, means2d, depths, conics, seen = out
    for n in range(viewmats.shape[0]):
        axes, focals = _camera_axes(viewmats, n), _focals(intrinsics, n)
        for i in range(start, end):
            spread = _spread(_rotation(_unit(quats, i)), _row(scales, i))
            point = _camera_point(viewmats, n, axes, _row(means, i))
            box, pixel, conic, opacity = _footprint(point, focals, axes, spread, np.float64(opacities[i]), lens)
            if box[0] > 0:
                radii[n, i, 0], radii[n, i, 1] = box
                means2d[n, i, 0], means2d[n, i, 1] = pixel
                conics[n, i, 0], conics[n, i, 1], conics[n, i, 2] = conic
                depths[n, i], seen[n, i] = point[2], opacity


@kernel(parallel=True)
def forward(gaussians: Gaussians, viewmats: Any, intrinsics: Any, lens: Lens, out: Projected) -> None:
    """Project all Gaussians into all cameras, written into `out`, which starts as zeros."""
    count = gaussians.means.shape[0]
    for block in prange((count + _BLOCK - 1) // _BLOCK):
        start = block * _BLOCK
        _forward_block(start, min(start + _BLOCK, count), gaussians, viewmats, intrinsics, lens, out)


@kernel()
def _covariance_gradient(conic: Any, given: Any, by_area: float, area: float, eps2d: float) -> Any:
    """Gradient by the 2-D covariance (xx, xy, yy) from those by conic and area factor.

    The conic's is −P·Q·P with Q its gradient as a symmetric matrix. The area factor ρ = √(det Σ0 / det Σ)
    adds ½ρ'/ρ·[(1−ρ²)·P − eps2d·det P·I].
    """
    a, b, c = conic
    qa, qb, qc = given[0], 0.5 * given[1], given[2]
    top_left, top_right = a * qa + b * qb, a * qb + b * qc
    low_left, low_right = b * qa + c * qb, b * qb + c * qc
    xx = -(top_left * a + top_right * b)
    xy = -(top_left * b + top_right * c)
    yy = -(low_left * b + low_right * c)
    if area > 0.0:
        pull = 0.5 * by_area / area
        keep, drop = pull * (1.0 - area * area), pull * eps2d * (a * c - b * b)
        xx, xy, yy = xx + keep * a - drop, xy + keep * b, yy + keep * c - drop
    return xx, xy, yy


@kernel()
def _point_gradient(point: Any, focals: Any, lens: Lens, pixel: Any, depth: float, slopes: Any) -> Any:
    """Gradient by the camera point from those by the pixel, the depth and (J00, J02, J11, J12)."""
    fx, fy, cx, cy = focals
    if lens.ortho:
        return fx * pixel[0], fy * pixel[1], depth
    x, y, z = point
    slope_x = _bounded(x / z, fx, cx, lens.width)
    slope_y = _bounded(y / z, fy, cy, lens.height)
    by_x, by_y = fx / z * pixel[0], fy / z * pixel[1]
    by_z = depth - (x * by_x + y * by_y) / z - (fx * slopes[0] + fy * slopes[2]) / (z * z)
    # J02 = −fx·slope/z. Inside the bounds slope = x/z; outside it does not move with the point.
    pull_x, pull_y = fx / (z * z) * slopes[1], fy / (z * z) * slopes[3]
    by_z += slope_x * pull_x + slope_y * pull_y
    if slope_x == x / z:
        by_x -= pull_x
        by_z += slope_x * pull_x
    if slope_y == y / z:
        by_y -= pull_y
        by_z += slope_y * pull_y
    return by_x, by_y, by_z


@kernel()
def _quat_gradient(quat: Any, row_x: Any, row_y: Any, row_z: Any) -> Any:
    """Gradient by the raw quaternion from the rows of the gradient by the rotation matrix."""
    w, x, y, z, length = quat
    skew_x, skew_y, skew_z = row_z[1] - row_y[2], row_x[2] - row_z[0], row_y[0] - row_x[1]
    sum_xy, sum_xz, sum_yz = row_y[0] + row_x[1], row_z[0] + row_x[2], row_z[1] + row_y[2]
    by_w = 2 * (x * skew_x + y * skew_y + z * skew_z)
    by_x = 2 * (-2 * x * (row_y[1] + row_z[2]) + y * sum_xy + z * sum_xz + w * skew_x)
    by_y = 2 * (x * sum_xy - 2 * y * (row_x[0] + row_z[2]) + z * sum_yz + w * skew_y)
    by_z = 2 * (x * sum_xz + y * sum_yz - 2 * z * (row_x[0] + row_y[1]) + w * skew_z)
    along = by_w * w + by_x * x + by_y * y + by_z * z  # normalising removes the part along the quaternion
    return (
        (by_w - along * w) / length,
        (by_x - along * x) / length,
        (by_y - along * y) / length,
        (by_z - along * z) / length,
    )


@kernel()
def _backward_one(
    point: Any,
    focals: Any,
    axes: Any,
    spread: Any,
    opacity: float,
    seen_opacity: float,
    conic: Any,
    by_pixel: Any,
    by_depth: float,
    by_conic: Any,
    by_seen: float,
    lens: Lens,
) -> Any:
    """Contribution of one camera to the gradients by the mean, the three rows of M, and the opacity."""
    first, second, flat_x, flat_y = _flattened(_jacobian(point, focals, lens), axes, spread)
    area = seen_opacity / opacity if lens.antialiased else 0.0
    by_opacity = by_seen * area if lens.antialiased else by_seen
    xx, xy, yy = _covariance_gradient(conic, by_conic, by_seen * opacity, area, lens.eps2d)
    by_flat_x = _combine(2 * xx, flat_x, 2 * xy, flat_y, 0.0, _ZERO)
    by_flat_y = _combine(2 * xy, flat_x, 2 * yy, flat_y, 0.0, _ZERO)
    row_x = _combine(first[0], by_flat_x, second[0], by_flat_y, 0.0, _ZERO)
    row_y = _combine(first[1], by_flat_x, second[1], by_flat_y, 0.0, _ZERO)
    row_z = _combine(first[2], by_flat_x, second[2], by_flat_y, 0.0, _ZERO)
    by_first = (_dot(by_flat_x, spread[0]), _dot(by_flat_x, spread[1]), _dot(by_flat_x, spread[2]))
    by_second = (_dot(by_flat_y, spread[0]), _dot(by_flat_y, spread[1]), _dot(by_flat_y, spread[2]))
    across, down, ahead = axes
    slopes = (_dot(by_first, across), _dot(by_first, ahead), _dot(by_second, down), _dot(by_second, ahead))
    by_point = _point_gradient(point, focals, lens, by_pixel, by_depth, slopes)
    by_mean = _combine(by_point[0], across, by_point[1], down, by_point[2], ahead)
    return by_mean, row_x, row_y, row_z, by_opacity


@kernel()
def _backward_block(
    start: int,
    end: int,
    gaussians: Gaussians,
    viewmats: Any,
    intrinsics: Any,
    lens: Lens,
    seen: Projected,
    given: Projected,
    out: Gaussians,
) -> None:
    means, quats, scales, opacities = gaussians
    radii, _, _, conics, seen_opacities = seen
    _, by_means2d, by_depths, by_conics, by_seen = given
    by_means, by_quats, by_scales, by_opacities = out
    for i in range(start, end):
        scale, quat = _row(scales, i), _unit(quats, i)
        rotation = _rotation(quat)
        spread = _spread(rotation, scale)
        by_mean, row_x, row_y, row_z, by_opacity = _ZERO, _ZERO, _ZERO, _ZERO, 0.0
        for n in range(viewmats.shape[0]):
            if radii[n, i, 0] <= 0:
                continue
            axes = _camera_axes(viewmats, n)
            mean, more_x, more_y, more_z, opacity = _backward_one(
                _camera_point(viewmats, n, axes, _row(means, i)),
                _focals(intrinsics, n),
                axes,
                spread,
                np.float64(opacities[i]),
                np.float64(seen_opacities[n, i]),
                _row_of(conics, n, i),
                (np.float64(by_means2d[n, i, 0]), np.float64(by_means2d[n, i, 1])),
                np.float64(by_depths[n, i]),
                _row_of(by_conics, n, i),
                np.float64(by_seen[n, i]),
                lens,
            )
            by_mean = _combine(1.0, by_mean, 1.0, mean, 0.0, _ZERO)
            row_x = _combine(1.0, row_x, 1.0, more_x, 0.0, _ZERO)
            row_y = _combine(1.0, row_y, 1.0, more_y, 0.0, _ZERO)
            row_z = _combine(1.0, row_z, 1.0, more_z, 0.0, _ZERO)
            by_opacity += opacity
        by_means[i, 0], by_means[i, 1], by_means[i, 2] = by_mean
        for k in range(3):
            by_scales[i, k] = rotation[0][k] * row_x[k] + rotation[1][k] * row_y[k] + rotation[2][k] * row_z[k]
        turned = _quat_gradient(
            quat, _columns_scaled(row_x, scale), _columns_scaled(row_y, scale), _columns_scaled(row_z, scale)
        )
        by_quats[i, 0], by_quats[i, 1], by_quats[i, 2], by_quats[i, 3] = turned
        by_opacities[i] = by_opacity


@kernel(parallel=True)
def backward(
    gaussians: Gaussians,
    viewmats: Any,
    intrinsics: Any,
    lens: Lens,
    seen: Projected,
    given: Projected,
    out: Gaussians,
) -> None:
    """Write gradients by the Gaussians into `out`, summed over the cameras in their order."""
    count = gaussians.means.shape[0]
    for block in prange((count + _BLOCK - 1) // _BLOCK):
        start = block * _BLOCK
        end = min(start + _BLOCK, count)
        _backward_block(start, end, gaussians, viewmats, intrinsics, lens, seen, given, out)
