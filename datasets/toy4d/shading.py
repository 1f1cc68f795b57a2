"""Numba kernels that colour toy4d: patterns of skins and the light.

As in `kernels`, only IEEE additions, multiplications, divisions, square roots and comparisons in float64, and
integer arithmetic, are used, so that all conforming machines produce the same bits.
"""

from math import floor, sqrt

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.compiled import compiled
from mvtokenflow.datasets.toy4d.kernels import half_extents, local_normal, surface_point

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Parts = NDArray[np.int16]

PLAIN, STRIPES, CHECKS, SPOTS, GRADIENT, SPLIT, BAND, EYE, WHEEL, PANEL, PATCHES, MARKS = range(12)

# World-fixed key light from above, in front and left of the input camera; unit length up to 1e-3.
LIGHT_X, LIGHT_Y, LIGHT_Z = -0.36, -0.56, 0.746

_jit = compiled(with_package=True, nogil=True, error_model="numpy")


@_jit
def _fraction(x: float) -> float:
    return x - floor(x)


@_jit
def _cell(x: float) -> int:
    return int(floor(x))  # noqa: RUF046 - compiled, `floor` gives a float


@_jit
def _scatter(a: int, b: int, c: int, seed: int) -> float:
    """Return a number in [0, 1) that depends on four integers and looks random; equal on every machine."""
    bits = (a * 73856093) ^ (b * 19349663) ^ (c * 83492791) ^ (seed * 50331653)
    bits &= 0x7FFFFFFF
    for _ in range(3):
        bits = (bits * 1103515245 + 12345) & 0x7FFFFFFF
        bits ^= bits >> 15
    return bits / 2147483648.0


@_jit
def _nearest_cell(x: float, y: float, z: float, seed: int) -> float:
    """Return the number in [0, 1) of the irregular cell (Voronoi, one centre in each unit cube) of a point."""
    best, found = 99.0, 0.0
    for n in range(27):
        i, j, k = _cell(x) + n // 9 - 1, _cell(y) + n // 3 % 3 - 1, _cell(z) + n % 3 - 1
        dx = i + _scatter(i, j, k, seed) - x
        dy = j + _scatter(i, j, k, seed + 1) - y
        dz = k + _scatter(i, j, k, seed + 2) - z
        distance = dx * dx + dy * dy + dz * dz
        if distance < best:
            best, found = distance, _scatter(i, j, k, seed + 3)
    return found


@_jit
def _is_ink(column: int, line: int, seed: int) -> bool:
    """Return whether a cell of a written page is ink: signs of 3 x 4 cells with a gap of one cell around."""
    if column % 4 == 3 or line % 5 == 4:
        return False
    return bool(_scatter(column, line, 0, seed) < 0.55)


@_jit
def _mix(
    kind: int, size: Array, pattern: int, args: Array, x: float, y: float, z: float
) -> tuple[float, float]:
    """Compute weights of the part's second and third colour at a local surface point."""
    ex, ey, ez = half_extents(kind, size[0], size[1], size[2])
    u = (x / ex, y / ey, z / ez)
    widest = max(ex, ey, ez)
    q = (x / widest, y / widest, z / widest)
    if pattern == STRIPES:  # axis, stripes per half extent, phase, share of the second colour
        return (1.0 if _fraction(u[int(args[0])] * args[1] + args[2]) < args[3] else 0.0), 0.0
    if pattern == CHECKS:  # checks per half extent, phase
        cell = 0.0
        for v in q:
            cell += floor(v * args[0] + args[1])
        return (1.0 if _fraction(0.5 * cell) > 0.25 else 0.0), 0.0
    if pattern == SPOTS:  # cells per half extent, radius in cells, phase: a body-centred lattice of balls
        best = 9.0
        for shift in (0.0, 0.5):
            total = 0.0
            for v in q:
                w = _fraction(v * args[0] + args[2] + shift) - 0.5
                total += w * w
            best = min(best, total)
        return (1.0 if best < args[1] * args[1] else 0.0), 0.0
    if pattern == GRADIENT:  # axis, from, to
        s = min(max((u[int(args[0])] - args[1]) / (args[2] - args[1]), 0.0), 1.0)
        return s * s * (3.0 - 2.0 * s), 0.0
    if pattern == SPLIT:  # direction, threshold
        return (1.0 if u[0] * args[0] + u[1] * args[1] + u[2] * args[2] > args[3] else 0.0), 0.0
    if pattern == BAND:  # axis, centre, half width
        return (1.0 if abs(u[int(args[0])] - args[1]) < args[2] else 0.0), 0.0
    if pattern == EYE:  # gaze direction, cosine at the pupil's rim; the glint sits up and left of the pupil
        length = sqrt(u[0] * u[0] + u[1] * u[1] + u[2] * u[2])
        cosine = (u[0] * args[0] + u[1] * args[1] + u[2] * args[2]) / length
        gx, gy, gz = args[0] - 0.22, args[1], args[2] + 0.3
        glint = (u[0] * gx + u[1] * gy + u[2] * gz) / (length * sqrt(gx * gx + gy * gy + gz * gz))
        if glint > 1.0 - 0.22 * (1.0 - args[3]):
            return 0.0, 1.0
        return (1.0 if cosine > args[3] else 0.0), 0.0
    if pattern == WHEEL:  # radius of the hub, half width of the spokes, in wheel radii
        radius = sqrt(u[0] * u[0] + u[1] * u[1])
        if radius > args[0]:
            return 0.0, 0.0
        return (0.0, 1.0) if min(abs(u[0]), abs(u[1])) < args[1] and radius > 0.3 * args[0] else (1.0, 0.0)
    if pattern == PANEL:  # normal axis of the two faces, their sign (0: both), half sizes of the panel
        axis = int(args[0])
        if abs(u[axis]) > 0.98 and u[axis] * args[1] >= 0.0:
            inside = abs(u[(axis + 1) % 3]) < args[2] and abs(u[(axis + 2) % 3]) < args[3]
            return (1.0 if inside else 0.0), 0.0
    if pattern == PATCHES:  # cells per half extent, seed, shares of the second and third colour
        drawn = _nearest_cell(q[0] * args[0], q[1] * args[0], q[2] * args[0], int(args[1]))
        if drawn < args[2]:
            return 1.0, 0.0
        return (0.0, 1.0) if drawn < args[2] + args[3] else (0.0, 0.0)
    if pattern == MARKS:  # axis of the written side, its sign, cells per half extent, seed
        axis = int(args[0])
        if u[axis] * args[1] <= 0.0:
            return 0.0, 1.0  # the back has the third colour
        column, line = _cell(q[(axis + 1) % 3] * args[2]), _cell(q[(axis + 2) % 3] * args[2])
        return (1.0 if _is_ink(column, line, int(args[3])) else 0.0), 0.0
    return 0.0, 0.0


@_jit
def shade(
    kinds: Ints,
    sizes: Array,
    pose: Array,
    patterns: Ints,
    args: Array,
    colors: Array,
    rays: Array,
    depth: Array,
    part: Parts,
    samples: int,
) -> Array:
    """Shade to RGBA (H, W, 4) float64: mean colour over covered samples (else white), and coverage."""
    height, width = depth.shape[0] // samples, depth.shape[1] // samples
    out = np.ones((height, width, 4))
    for row in range(height):
        for column in range(width):
            red, green, blue, covered = 0.0, 0.0, 0.0, 0
            for s in range(samples * samples):
                j, i = row * samples + s // samples, column * samples + s % samples
                k = part[j, i]
                if k < 0:
                    continue
                m = pose[k]
                x, y = (i + 0.5) / samples, (j + 0.5) / samples
                px, py, pz = surface_point(m, rays, x, y, depth[j, i])
                nx, ny, nz = local_normal(kinds[k], sizes[k, 0], sizes[k, 1], sizes[k, 2], px, py, pz)
                second, third = _mix(kinds[k], sizes[k], patterns[k], args[k], px, py, pz)
                # Transforming the light into the part's frame saves rotating the normal.
                lx = m[0, 0] * LIGHT_X + m[1, 0] * LIGHT_Y + m[2, 0] * LIGHT_Z
                ly = m[0, 1] * LIGHT_X + m[1, 1] * LIGHT_Y + m[2, 1] * LIGHT_Z
                lz = m[0, 2] * LIGHT_X + m[1, 2] * LIGHT_Y + m[2, 2] * LIGHT_Z
                half = 0.5 + 0.5 * (nx * lx + ny * ly + nz * lz)
                half = half * (0.45 + 0.55 * half)
                first = 1.0 - second - third
                color = colors[k]
                # Shadows keep most of the colour and lean to blue, like skylight.
                red += (color[0, 0] * first + color[1, 0] * second + color[2, 0] * third) * (0.60 + 0.42 * half)
                green += (color[0, 1] * first + color[1, 1] * second + color[2, 1] * third) * (
                    0.62 + 0.40 * half
                )
                blue += (color[0, 2] * first + color[1, 2] * second + color[2, 2] * third) * (
                    0.67 + 0.34 * half
                )
                covered += 1
            out[row, column, 3] = covered / (samples * samples)
            if covered:
                out[row, column, 0] = red / covered
                out[row, column, 1] = green / covered
                out[row, column, 2] = blue / covered
    return out
