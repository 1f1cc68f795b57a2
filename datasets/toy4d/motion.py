"""Joint trees of toys and their periodic motion.

A bone hangs from its parent at `offset`, turns about a fixed unit `axis` and slides along `slide`:

    angle(t) = bias + swing · sin(2π (cycles t + phase)) + spin t        (angles in turns)
    shift(t) = slide · sin(2π (cycles t + slide_phase))

With whole numbers of cycles and turns the motion is smooth and closes after one clip, t in [0, 1].
Sine and cosine are own polynomials, because libm differs between machines in the last bit.
"""

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.compiled import compiled

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Columns of the (m, BONE_COLUMNS) float64 bone table; the parent's index is a separate integer array.
OFFSET, AXIS, SLIDE = slice(0, 3), slice(3, 6), slice(6, 9)
BIAS, SWING, PHASE, CYCLES, SPIN, SLIDE_PHASE = range(9, 15)
BONE_COLUMNS = 15

_jit = compiled(nogil=True, error_model="numpy")


def sincos(turns: float) -> tuple[float, float]:
    """Return (sin, cos) of 2π·turns, within 3e-16, from IEEE basic operations only."""
    quarter = np.floor(4.0 * turns + 0.5)
    x = 6.283185307179586 * (turns - 0.25 * quarter)  # within ±π/4
    y = x * x
    s = 1.0 - y / 272.0
    for n in (15, 13, 11, 9, 7, 5, 3):
        s = 1.0 - y / (n * (n - 1)) * s
    s *= x
    c = 1.0 - y / 240.0
    for n in (14, 12, 10, 8, 6, 4, 2):
        c = 1.0 - y / (n * (n - 1)) * c
    turn = int(quarter) % 4
    if turn == 0:
        return s, c
    if turn == 1:
        return c, -s
    if turn == 2:
        return -s, -c
    return -c, s


_sincos = _jit(sincos)


@_jit
def poses(parents: Ints, bones: Array, part_bones: Ints, part_frames: Array, times: Array) -> Array:
    """Compute local-to-world transforms of all parts.

    Args:
        parents: (m,) int64, parents before children, −1 for the root.
        bones: (m, BONE_COLUMNS).
        part_bones: (n,) int64, bone of each part.
        part_frames: (n, 3, 4) rigid transform from part to bone frame.
        times: (P,) in [0, 1].

    Returns:
        (P, n, 3, 4).
    """
    world = np.empty((parents.size, 3, 4))
    local = np.empty((3, 4))
    out = np.empty((times.size, part_bones.size, 3, 4))
    for p in range(times.size):
        t = times[p]
        for i in range(parents.size):
            bone = bones[i]
            wave, _ = _sincos(bone[12] * t + bone[11])
            s, c = _sincos(bone[9] + bone[10] * wave + bone[13] * t)
            slide, _ = _sincos(bone[12] * t + bone[14])
            x, y, z = bone[3], bone[4], bone[5]
            k = 1.0 - c
            local[0, 0], local[0, 1], local[0, 2] = c + x * x * k, x * y * k - z * s, x * z * k + y * s
            local[1, 0], local[1, 1], local[1, 2] = y * x * k + z * s, c + y * y * k, y * z * k - x * s
            local[2, 0], local[2, 1], local[2, 2] = z * x * k - y * s, z * y * k + x * s, c + z * z * k
            for a in range(3):
                local[a, 3] = bone[a] + bone[6 + a] * slide
            if parents[i] < 0:
                world[i] = local
            else:
                _compose(world[parents[i]], local, world[i])
        for n in range(part_bones.size):
            _compose(world[part_bones[n]], part_frames[n], out[p, n])
    return out


@_jit
def _compose(outer: Array, inner: Array, out: Array) -> None:
    """Compose rigid transforms (3, 4): out = outer ∘ inner."""
    for a in range(3):
        for b in range(4):
            value = outer[a, 0] * inner[0, b] + outer[a, 1] * inner[1, b] + outer[a, 2] * inner[2, b]
            out[a, b] = value + outer[a, 3] if b == 3 else value
