"""Assignment of Gaussians to picture tiles, in depth order.

A tile is `LANES` pixels wide and `TILE_HEIGHT` high, so that one vector is one of its rows. Each pair of a
Gaussian and a tile owns a *slot*; the slots of one Gaussian are consecutive. Each tile lists its slots from
near to far.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mvtokenflow.splat.kernels.constants import ALPHA_MIN
from mvtokenflow.splat.kernels.simd import LANES, kernel

TILE_HEIGHT = 16
# The 1/255 contour is widened by this much in ln(alpha): rounding of the exact test per pixel stays inside.
_CONTOUR_MARGIN = 0.01
_DIGIT_BITS = 11  # digit width of the radix sort: three passes over 32 bits

Array = NDArray[np.floating[Any]]


class Splats(NamedTuple):
    """Projected Gaussians of C views in flat arrays; entry view·N + index; opacity and radii 0 where culled.

    Attributes:
        means2d: (C·N, 2). conics: (C·N, 3). opacities: (C·N,). colors: (C·N, D).
    """

    means2d: Array
    conics: Array
    opacities: Array
    colors: Array


class Tiles(NamedTuple):
    """Tile lists of C views: slots of Gaussians in `across` x `down` tiles.

    Attributes:
        firsts: (C·N + 1,) first slot of each Gaussian of each view.
        owners: (S,) Gaussian of a slot as view·N + index.
        places: (S,) tile of a slot as view·tiles + row·across + column; −1: the ellipse misses the tile.
        tops, bottoms: (S,) rows of the tile the ellipse may touch, first and one past the last.
        order: slots by tile, near to far. starts: (C·tiles + 1,) where each tile's slots begin.
        across, down: tiles of a view. width, height: of the picture in pixels.
    """

    firsts: NDArray[np.int64]
    owners: NDArray[np.int32]
    places: NDArray[np.int32]
    tops: NDArray[np.int32]
    bottoms: NDArray[np.int32]
    order: NDArray[np.int32]
    starts: NDArray[np.int64]
    across: int
    down: int
    width: int
    height: int


@kernel(parallel=True)
def _boxes(radii: Any, means2d: Any, across: int, down: int) -> Any:
    """Tile columns and rows (G, 4) under each bounding box, and their number (G,)."""
    boxes = np.zeros((radii.shape[0], 4), np.int32)
    counts = np.zeros(radii.shape[0], np.int64)
    for g in prange(radii.shape[0]):
        if radii[g, 0] > 0 and radii[g, 1] > 0:
            x, y = np.float64(means2d[g, 0]), np.float64(means2d[g, 1])
            boxes[g, 0] = max(0, np.floor((x - radii[g, 0]) / LANES))
            boxes[g, 1] = min(across, np.ceil((x + radii[g, 0]) / LANES))
            boxes[g, 2] = max(0, np.floor((y - radii[g, 1]) / TILE_HEIGHT))
            boxes[g, 3] = min(down, np.ceil((y + radii[g, 1]) / TILE_HEIGHT))
            counts[g] = max(0, boxes[g, 1] - boxes[g, 0]) * max(0, boxes[g, 3] - boxes[g, 2])
    return boxes, counts


@kernel()
def _rows_of_ellipse(a: float, b: float, c: float, level: float, start: float, end: float) -> Any:
    """Span of dy in which `½(a dx² + c dy²) + b dx dy ≤ level` holds for some dx in [start, end].

    Returns low, high; low > high where there is none.
    """
    det = a * c - b * b
    if det <= 0.0:  # rounding of a needle: take all rows of the box
        return -np.inf, np.inf
    reach = np.sqrt(2.0 * level * c / det)
    if start > reach or end < -reach:
        return np.inf, -np.inf
    # The ellipse's highest and lowest points have dx = ±crest; outside the strip they move to its border.
    crest = -b * np.sqrt(2.0 * level / (a * det))
    high_x, low_x = min(max(crest, start), end), min(max(-crest, start), end)
    high = (-b * high_x + np.sqrt(max(0.0, 2.0 * level * c - high_x * high_x * det))) / c
    low = (-b * low_x - np.sqrt(max(0.0, 2.0 * level * c - low_x * low_x * det))) / c
    return low, high


@kernel(parallel=True)
def _slots(firsts: Any, boxes: Any, splats: Splats, count: int, across: int, down: int, height: int) -> Any:
    """Compute owners, places, tops and bottoms of `Tiles` for `count` Gaussians per view."""
    slots = firsts[-1]
    owners, places = np.empty(slots, np.int32), np.full(slots, -1, np.int32)
    tops, bottoms = np.empty(slots, np.int32), np.empty(slots, np.int32)
    means2d, conics, opacities = splats.means2d, splats.conics, splats.opacities
    for g in prange(boxes.shape[0]):
        slot = firsts[g]
        if firsts[g + 1] == slot:
            continue
        a, b, c = np.float64(conics[g, 0]), np.float64(conics[g, 1]), np.float64(conics[g, 2])
        x, y = np.float64(means2d[g, 0]), np.float64(means2d[g, 1])
        level = np.log(np.float64(opacities[g]) / ALPHA_MIN) + _CONTOUR_MARGIN
        base = (g // count) * across * down
        for column in range(boxes[g, 0], boxes[g, 1]):
            start = column * LANES + 0.5 - x
            low, high = _rows_of_ellipse(a, b, c, level, start, start + LANES - 1)
            for row in range(boxes[g, 2], boxes[g, 3]):
                first_centre = row * TILE_HEIGHT + 0.5
                rows = min(TILE_HEIGHT, height - row * TILE_HEIGHT)
                top = max(0.0, np.ceil(y + low - first_centre))
                bottom = min(rows - 1.0, np.floor(y + high - first_centre))
                owners[slot] = g
                if top <= bottom:
                    places[slot] = base + row * across + column
                    tops[slot], bottoms[slot] = np.int32(top), np.int32(bottom) + 1
                slot += 1
    return owners, places, tops, bottoms


@kernel()
def _sorted_by_key(keys: Any, members: Any) -> Any:
    """Radix-sort `members` by ascending `keys[member]` (uint32); equal keys keep their order."""
    other = np.empty_like(members)
    digits = 1 << _DIGIT_BITS
    for shift in range(0, 32, _DIGIT_BITS):
        counts = np.zeros(digits + 1, np.int64)
        for i in range(members.size):
            counts[((keys[members[i]] >> np.uint32(shift)) & np.uint32(digits - 1)) + 1] += 1
        for digit in range(digits):
            counts[digit + 1] += counts[digit]
        for i in range(members.size):
            digit = (keys[members[i]] >> np.uint32(shift)) & np.uint32(digits - 1)
            other[counts[digit]] = members[i]
            counts[digit] += 1
        members, other = other, members
    return members


@kernel(parallel=True)
def _order(keys: Any, firsts: Any, places: Any, views: int, count: int, tiles: int) -> Any:
    """Order the slots of each tile from near to far; also return where each tile's slots begin."""
    starts = np.zeros(views * tiles + 1, np.int64)
    for view in prange(views):
        for slot in range(firsts[view * count], firsts[(view + 1) * count]):
            if places[slot] >= 0:
                starts[places[slot] + 1] += 1
    for tile in range(views * tiles):
        starts[tile + 1] += starts[tile]
    order = np.empty(starts[-1], np.int32)
    for view in prange(views):
        seen = np.empty(count, np.int32)
        visible = 0
        for g in range(view * count, (view + 1) * count):
            if firsts[g + 1] > firsts[g]:
                seen[visible] = g
                visible += 1
        ends = starts[view * tiles : (view + 1) * tiles].copy()
        for g in _sorted_by_key(keys, seen[:visible]):
            for slot in range(firsts[g], firsts[g + 1]):
                if places[slot] >= 0:
                    tile = places[slot] - view * tiles
                    order[ends[tile]] = slot
                    ends[tile] += 1
    return order, starts


def bin_gaussians(
    splats: Splats, radii: NDArray[np.int32], depths: Array, views: int, width: int, height: int
) -> Tiles:
    """Build slots and tile lists of projected Gaussians.

    Args:
        splats: N Gaussians of each of `views` cameras. radii, depths: (C·N, 2), (C·N,).
        width, height: picture size in pixels.

    Returns:
        The tiles; each list is ordered by float32 depth, then by index, as in gsplat.
    """
    count = depths.size // views
    across, down = -(-width // LANES), -(-height // TILE_HEIGHT)
    boxes, counts = _boxes(radii, splats.means2d, across, down)
    firsts = np.zeros(depths.size + 1, np.int64)
    np.cumsum(counts, out=firsts[1:])
    owners, places, tops, bottoms = _slots(firsts, boxes, splats, count, across, down, height)
    # The bits of non-negative floats grow with their value; gsplat sorts the same bits.
    keys = depths.astype(np.float32).view(np.uint32)
    order, starts = _order(keys, firsts, places, views, count, across * down)
    return Tiles(firsts, owners, places, tops, bottoms, order, starts, across, down, width, height)
