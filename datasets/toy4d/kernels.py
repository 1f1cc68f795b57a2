"""Numba kernels of toy4d's geometry: ray/primitive intersection, screen boxes, normals, exact flow.

Primitives are convex solids around their local origin; `size` holds three lengths:

* ELLIPSOID  semi-axes (a, b, c)
* BOX        half extents (a, b, c)
* CAPSULE    radius a, half length c of the cylindrical piece along local z (b unused)
* FRUSTUM    radii a at z = −c and b at z = +c: cylinder (a = b) and cone (b = 0)

A camera is packed as `rays` (6, 3) from `camera_rays`: the ray of image position (x, y) starts at
`rays[0] + x rays[1] + y rays[2]` with direction `rays[3] + x rays[4] + y rays[5]`, scaled so that the
ray parameter is the camera depth z, for pinhole and ortho alike.

Only IEEE additions, multiplications, divisions, square roots and comparisons in float64 are used, without
fastmath and without libm, so that all conforming machines produce the same bits. All kernels that call
each other live in this file, because numba's disk cache notices changes of a caller's own file only.
"""

from math import ceil, floor, inf, sqrt

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.compiled import compiled

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Parts = NDArray[np.int16]
Triple = tuple[float, float, float]

ELLIPSOID, BOX, CAPSULE, FRUSTUM = 0, 1, 2, 3

# Slack of the visibility test in world units (0.0006 pixel at 128 px): a point on its own silhouette is
# found again only up to the square root of the float64 rounding error.
OCCLUSION_SLACK = 1e-5

_jit = compiled(nogil=True, error_model="numpy")


@_jit
def camera_rays(world_to_camera: Array, intrinsics: Array, ortho: bool) -> Array:
    """Compute ray coefficients (6, 3) of one camera from (4, 4), (3, 3) float64 and its kind."""
    m = world_to_camera
    # Inverse by cofactors: exact for matrices that are rotations only up to float32 rounding.
    inverse = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            a, b, c, d = (j + 1) % 3, (j + 2) % 3, (i + 1) % 3, (i + 2) % 3
            inverse[i, j] = m[a, c] * m[b, d] - m[a, d] * m[b, c]
    det = m[0, 0] * inverse[0, 0] + m[0, 1] * inverse[1, 0] + m[0, 2] * inverse[2, 0]
    rays = np.zeros((6, 3))
    first = 1 if ortho else 4  # row that varies with the pixel: origin or direction
    for k in range(3):
        right, down, forward = inverse[k, 0] / det, inverse[k, 1] / det, inverse[k, 2] / det
        rays[0, k] = -(right * m[0, 3] + down * m[1, 3] + forward * m[2, 3])
        rays[3, k] = forward
        rays[first, k] = right / intrinsics[0, 0]
        rays[first + 1, k] = down / intrinsics[1, 1]
        rays[first - 1, k] -= rays[first, k] * intrinsics[0, 2] + rays[first + 1, k] * intrinsics[1, 2]
    return rays


@_jit
def _hit(
    kind: int, a: float, b: float, c: float, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float
) -> float:
    """Return the ray parameter where the ray enters the primitive in its local frame; inf if it misses."""
    if kind == ELLIPSOID:
        ox, oy, oz, dx, dy, dz = ox / a, oy / b, oz / c, dx / a, dy / b, dz / c
        qa = dx * dx + dy * dy + dz * dz
        qb = ox * dx + oy * dy + oz * dz
        disc = qb * qb - qa * (ox * ox + oy * oy + oz * oz - 1.0)
        return (-qb - sqrt(disc)) / qa if disc >= 0.0 else inf
    if kind == BOX:
        near, far = -inf, inf
        for o, d, h in ((ox, dx, a), (oy, dy, b), (oz, dz, c)):
            if d == 0.0:
                if abs(o) > h:
                    return inf
                continue
            enter, leave = (-h - o) / d, (h - o) / d
            if enter > leave:
                enter, leave = leave, enter
            near, far = max(near, enter), min(far, leave)
        return near if near <= far else inf
    if kind == CAPSULE:
        qa = dx * dx + dy * dy
        end = -c if dz > 0.0 else c
        if qa > 1e-18:
            qb = ox * dx + oy * dy
            disc = qb * qb - qa * (ox * ox + oy * oy - a * a)
            if disc < 0.0:
                return inf
            t = (-qb - sqrt(disc)) / qa
            z = oz + t * dz
            if abs(z) <= c:
                return t
            end = c if z > 0.0 else -c
        # The ray enters the infinite cylinder beyond one end, so only that end's sphere can be met first.
        oz -= end
        qa += dz * dz
        qb = ox * dx + oy * dy + oz * dz
        disc = qb * qb - qa * (ox * ox + oy * oy + oz * oz - a * a)
        return (-qb - sqrt(disc)) / qa if disc >= 0.0 else inf
    mid, slope = 0.5 * (a + b), (b - a) / (2.0 * c)
    best = inf
    if dz != 0.0:
        t = ((-c if dz > 0.0 else c) - oz) / dz
        x, y, r = ox + t * dx, oy + t * dy, a if dz > 0.0 else b
        if x * x + y * y <= r * r:
            return t  # a convex solid entered through its cap is not entered anywhere else
    r = mid + slope * oz
    qa = dx * dx + dy * dy - slope * slope * dz * dz
    qb = ox * dx + oy * dy - slope * dz * r
    disc = qb * qb - qa * (ox * ox + oy * oy - r * r)
    if disc >= 0.0 and qa != 0.0:
        root = sqrt(disc)
        for t in ((-qb - root) / qa, (-qb + root) / qa):
            if abs(oz + t * dz) <= c and t < best:
                best = t
    return best


@_jit
def local_normal(kind: int, a: float, b: float, c: float, x: float, y: float, z: float) -> Triple:
    """Return the outward unit normal at a surface point, local frame."""
    if kind == BOX:
        u, v, w = abs(x) / a, abs(y) / b, abs(z) / c
        if u >= v and u >= w:
            return np.sign(x), 0.0, 0.0
        if v >= w:
            return 0.0, np.sign(y), 0.0
        return 0.0, 0.0, np.sign(z)
    if kind == ELLIPSOID:
        nx, ny, nz = x / (a * a), y / (b * b), z / (c * c)
    elif kind == CAPSULE:
        nx, ny, nz = x, y, z - min(max(z, -c), c)
    else:
        slope = (b - a) / (2.0 * c)
        radius = sqrt(x * x + y * y)
        if c - abs(z) < abs(radius - (0.5 * (a + b) + slope * z)):
            return 0.0, 0.0, np.sign(z)
        nx, ny, nz = x, y, -slope * radius
    length = sqrt(nx * nx + ny * ny + nz * nz)
    return nx / length, ny / length, nz / length


@_jit
def half_extents(kind: int, a: float, b: float, c: float) -> Triple:
    if kind == CAPSULE:
        return a, a, c + a
    if kind == FRUSTUM:
        return max(a, b), max(a, b), c
    return a, b, c


@_jit
def _support(kind: int, a: float, b: float, c: float, x: float, y: float, z: float) -> float:
    """Return the maximum of (x, y, z)·p over the primitive's points p, local frame."""
    if kind == ELLIPSOID:
        return sqrt(a * a * x * x + b * b * y * y + c * c * z * z)
    if kind == BOX:
        return a * abs(x) + b * abs(y) + c * abs(z)
    if kind == CAPSULE:
        return c * abs(z) + a * sqrt(x * x + y * y + z * z)
    radial = sqrt(x * x + y * y)
    return max(b * radial + c * z, a * radial - c * z)


@_jit
def supports(kinds: Ints, sizes: Array, poses: Array, directions: Array) -> Array:
    """Compute exact extents (P, K) of the whole toy: max of direction·point, for poses (P, n, 3, 4)."""
    out = np.full((poses.shape[0], directions.shape[0]), -inf)
    for p in range(poses.shape[0]):
        for i in range(kinds.size):
            m = poses[p, i]
            a, b, c = sizes[i]
            for k in range(directions.shape[0]):
                dx, dy, dz = directions[k]
                x = dx * m[0, 0] + dy * m[1, 0] + dz * m[2, 0]
                y = dx * m[0, 1] + dy * m[1, 1] + dz * m[2, 1]
                z = dx * m[0, 2] + dy * m[1, 2] + dz * m[2, 2]
                reach = dx * m[0, 3] + dy * m[1, 3] + dz * m[2, 3] + _support(kinds[i], a, b, c, x, y, z)
                out[p, k] = max(out[p, k], reach)
    return out


@_jit
def _project(w2c: Array, intrinsics: Array, ortho: bool, x: float, y: float, z: float) -> Triple:
    """Project a world point to image position (x, y) and depth."""
    cx = w2c[0, 0] * x + w2c[0, 1] * y + w2c[0, 2] * z + w2c[0, 3]
    cy = w2c[1, 0] * x + w2c[1, 1] * y + w2c[1, 2] * z + w2c[1, 3]
    cz = w2c[2, 0] * x + w2c[2, 1] * y + w2c[2, 2] * z + w2c[2, 3]
    scale = 1.0 if ortho else 1.0 / cz
    return (
        cx * scale * intrinsics[0, 0] + intrinsics[0, 2],
        cy * scale * intrinsics[1, 1] + intrinsics[1, 2],
        cz,
    )


@_jit
def screen_boxes(
    kinds: Ints, sizes: Array, pose: Array, w2c: Array, intrinsics: Array, ortho: bool, width: int, height: int
) -> Array:
    """Compute pixel bounds (n, 4) x0, y0, x1, y1 of each primitive, clipped (empty: x1 <= x0)."""
    out = np.empty((kinds.size, 4))
    for i in range(kinds.size):
        a, b, c = sizes[i]
        m = pose[i]
        x0, y0, x1, y1 = inf, inf, -inf, -inf
        if ortho:
            x, y, _ = _project(w2c, intrinsics, ortho, m[0, 3], m[1, 3], m[2, 3])
            reach = np.empty(2)
            for k in range(2):
                d = w2c[k]
                u = d[0] * m[0, 0] + d[1] * m[1, 0] + d[2] * m[2, 0]
                v = d[0] * m[0, 1] + d[1] * m[1, 1] + d[2] * m[2, 1]
                w = d[0] * m[0, 2] + d[1] * m[1, 2] + d[2] * m[2, 2]
                both = max(_support(kinds[i], a, b, c, u, v, w), _support(kinds[i], a, b, c, -u, -v, -w))
                reach[k] = both * intrinsics[k, k]
            x0, y0, x1, y1 = x - reach[0], y - reach[1], x + reach[0], y + reach[1]
        else:
            ex, ey, ez = half_extents(kinds[i], a, b, c)
            for corner in range(8):
                u = ex if corner & 1 else -ex
                v = ey if corner & 2 else -ey
                w = ez if corner & 4 else -ez
                wx = m[0, 0] * u + m[0, 1] * v + m[0, 2] * w + m[0, 3]
                wy = m[1, 0] * u + m[1, 1] * v + m[1, 2] * w + m[1, 3]
                wz = m[2, 0] * u + m[2, 1] * v + m[2, 2] * w + m[2, 3]
                x, y, depth = _project(w2c, intrinsics, ortho, wx, wy, wz)
                if depth <= 1e-6:  # reaches behind the camera: no bound from the corners
                    x0, y0, x1, y1 = 0.0, 0.0, float(width), float(height)
                    break
                x0, y0, x1, y1 = min(x0, x), min(y0, y), max(x1, x), max(y1, y)
        # A thousandth of a pixel outwards, so that rounding never cuts a sample off.
        out[i, 0], out[i, 1] = max(x0 - 1e-3, 0.0), max(y0 - 1e-3, 0.0)
        out[i, 2], out[i, 3] = min(x1 + 1e-3, float(width)), min(y1 + 1e-3, float(height))
    return out


@_jit
def _into_part(m: Array, rays: Array) -> Array:
    """Transform ray coefficients (6, 3) to the local frame of a part at pose m (3, 4)."""
    local = np.empty((6, 3))
    for r in range(6):
        x, y, z = rays[r, 0], rays[r, 1], rays[r, 2]
        if r == 0:
            x, y, z = x - m[0, 3], y - m[1, 3], z - m[2, 3]
        for k in range(3):
            local[r, k] = m[0, k] * x + m[1, k] * y + m[2, k] * z
    return local


@_jit
def trace(
    kinds: Ints, sizes: Array, pose: Array, rays: Array, boxes: Array, width: int, height: int, samples: int
) -> tuple[Array, Parts]:
    """Find the nearest surface on a grid of samples x samples rays per pixel (1: the pixel centre).

    Returns depth (H s, W s), inf where nothing is hit, and part index (H s, W s), −1 where nothing is hit.
    """
    depth = np.full((height * samples, width * samples), inf)
    part = np.full((height * samples, width * samples), -1, np.int16)
    for i in range(kinds.size):
        x0, y0, x1, y1 = boxes[i]
        if x1 <= x0 or y1 <= y0:
            continue
        a, b, c = sizes[i]
        r = _into_part(pose[i], rays)
        left, right = ceil(x0 * samples - 0.5), floor(x1 * samples - 0.5) + 1
        top, bottom = ceil(y0 * samples - 0.5), floor(y1 * samples - 0.5) + 1
        for row in range(top, bottom):
            y = (row + 0.5) / samples
            ox, oy, oz = r[0, 0] + y * r[2, 0], r[0, 1] + y * r[2, 1], r[0, 2] + y * r[2, 2]
            dx, dy, dz = r[3, 0] + y * r[5, 0], r[3, 1] + y * r[5, 1], r[3, 2] + y * r[5, 2]
            for column in range(left, right):
                x = (column + 0.5) / samples
                px, py, pz = ox + x * r[1, 0], oy + x * r[1, 1], oz + x * r[1, 2]
                qx, qy, qz = dx + x * r[4, 0], dy + x * r[4, 1], dz + x * r[4, 2]
                t = _hit(kinds[i], a, b, c, px, py, pz, qx, qy, qz)
                if 0.0 < t < depth[row, column]:
                    depth[row, column] = t
                    part[row, column] = i
    return depth, part


@_jit
def _local_ray(m: Array, rays: Array, x: float, y: float) -> tuple[float, float, float, float, float, float]:
    """Return origin and direction of the ray of image position (x, y) in a part's frame at pose m (3, 4)."""
    ox = rays[0, 0] + x * rays[1, 0] + y * rays[2, 0] - m[0, 3]
    oy = rays[0, 1] + x * rays[1, 1] + y * rays[2, 1] - m[1, 3]
    oz = rays[0, 2] + x * rays[1, 2] + y * rays[2, 2] - m[2, 3]
    dx = rays[3, 0] + x * rays[4, 0] + y * rays[5, 0]
    dy = rays[3, 1] + x * rays[4, 1] + y * rays[5, 1]
    dz = rays[3, 2] + x * rays[4, 2] + y * rays[5, 2]
    return (
        m[0, 0] * ox + m[1, 0] * oy + m[2, 0] * oz,
        m[0, 1] * ox + m[1, 1] * oy + m[2, 1] * oz,
        m[0, 2] * ox + m[1, 2] * oy + m[2, 2] * oz,
        m[0, 0] * dx + m[1, 0] * dy + m[2, 0] * dz,
        m[0, 1] * dx + m[1, 1] * dy + m[2, 1] * dz,
        m[0, 2] * dx + m[1, 2] * dy + m[2, 2] * dz,
    )


@_jit
def surface_point(m: Array, rays: Array, x: float, y: float, t: float) -> Triple:
    """Return the local hit point at image position (x, y) and depth t."""
    ox, oy, oz, dx, dy, dz = _local_ray(m, rays, x, y)
    return ox + t * dx, oy + t * dy, oz + t * dz


@_jit
def world_normals(kinds: Ints, sizes: Array, pose: Array, rays: Array, depth: Array, part: Parts) -> Array:
    """Compute unit outward normals (H, W, 3) of the pixel-centre hits, 0 where nothing is hit."""
    out = np.zeros((*depth.shape, 3))
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            k = part[row, column]
            if k >= 0:
                m = pose[k]
                x, y, z = surface_point(m, rays, column + 0.5, row + 0.5, depth[row, column])
                n = local_normal(kinds[k], sizes[k, 0], sizes[k, 1], sizes[k, 2], x, y, z)
                for axis in range(3):
                    out[row, column, axis] = m[axis, 0] * n[0] + m[axis, 1] * n[1] + m[axis, 2] * n[2]
    return out


@_jit
def _occluded(
    kinds: Ints, sizes: Array, pose: Array, rays: Array, boxes: Array, x: float, y: float, depth: float
) -> bool:
    """Return whether a primitive is hit nearer than `depth` on the ray of image position (x, y)."""
    for i in range(kinds.size):
        if boxes[i, 0] <= x <= boxes[i, 2] and boxes[i, 1] <= y <= boxes[i, 3]:
            ray = _local_ray(pose[i], rays, x, y)
            t = _hit(kinds[i], sizes[i, 0], sizes[i, 1], sizes[i, 2], *ray)
            if 0.0 < t < depth - OCCLUSION_SLACK:
                return True
    return False


@_jit
def hidden(
    kinds: Ints,
    sizes: Array,
    pose: Array,
    w2c: Array,
    intrinsics: Array,
    ortho: bool,
    rays: Array,
    boxes: Array,
    points: Array,
) -> NDArray[np.bool_]:
    """Return for world points (N, 3) whether a primitive at a pose (n, 3, 4) hides them from the camera."""
    out = np.zeros(points.shape[0], np.bool_)
    for i in range(points.shape[0]):
        x, y, z = _project(w2c, intrinsics, ortho, points[i, 0], points[i, 1], points[i, 2])
        out[i] = _occluded(kinds, sizes, pose, rays, boxes, x, y, z)
    return out


@_jit
def flow(
    kinds: Ints,
    sizes: Array,
    pose: Array,
    target: Array,
    w2c: Array,
    intrinsics: Array,
    ortho: bool,
    rays: Array,
    boxes: Array,
    depth: Array,
    part: Parts,
) -> tuple[Array, NDArray[np.bool_]]:
    """Compute flow and visibility of pixel-centre surface points as parts move from `pose` to `target`.

    `boxes` are the screen boxes of the target pose. Returns flow (H, W, 2) in pixels and visible (H, W):
    inside the target picture and not hidden there, by intersection with the target pose itself.
    """
    height, width = depth.shape
    out = np.zeros((height, width, 2))
    visible = np.zeros((height, width), np.bool_)
    for row in range(height):
        for column in range(width):
            k = part[row, column]
            if k < 0:
                continue
            x, y = column + 0.5, row + 0.5
            px, py, pz = surface_point(pose[k], rays, x, y, depth[row, column])
            m = target[k]
            wx = m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + m[0, 3]
            wy = m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + m[1, 3]
            wz = m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + m[2, 3]
            tx, ty, tz = _project(w2c, intrinsics, ortho, wx, wy, wz)
            out[row, column, 0], out[row, column, 1] = tx - x, ty - y
            if tz > 0.0 and 0.0 <= tx < width and 0.0 <= ty < height:
                visible[row, column] = not _occluded(kinds, sizes, target, rays, boxes, tx, ty, tz)
    return out, visible
