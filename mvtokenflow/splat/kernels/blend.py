"""Alpha blending of tiles and its exact gradient, one vector per row of a tile.

A tile is blended Gaussian by Gaussian, so that parameters are read once and rows are clipped to where it
reaches 1/255. The gradient walks back from the last Gaussian that each pixel took, recovers the transmittance
by division and writes one row of sums per slot: no two tiles write to the same place, hence the result does not
depend on the number of threads.
"""

from typing import Any

import numpy as np
from numba import prange

from mvtokenflow.splat.kernels.constants import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN
from mvtokenflow.splat.kernels.simd import (
    LANES,
    both,
    exp_minus,
    fill,
    kernel,
    load,
    magnitude,
    ramp,
    select,
    store,
    total,
)
from mvtokenflow.splat.kernels.tiles import TILE_HEIGHT, Splats, Tiles

_PIXELS = LANES * TILE_HEIGHT
_OPEN_CHECK = 16  # Gaussians between checks whether any pixel of a tile is still open
_POWER_MAX = 80.0  # e^-80 is a normal float32; alpha is far below 1/255 there
GRADIENTS = 8  # sums per slot before the channels: mean (2), conic (3), opacity, absolute mean (2)


@kernel()
def _corner(tile: int, tiles: Tiles) -> Any:
    """Return the view of a tile and its upper left pixel (row, column)."""
    place = tile % (tiles.across * tiles.down)
    view = tile // (tiles.across * tiles.down)
    return view, place // tiles.across * TILE_HEIGHT, place % tiles.across * LANES


@kernel()
def _any_lane(values: Any) -> Any:
    """Return whether any of a tile's non-negative values is positive."""
    found = load(values, 0)
    for at in range(LANES, _PIXELS, LANES):
        found = found + load(values, at)
    return total(found) > 0


@kernel()
def _blend_tile(tile: int, tiles: Tiles, splats: Splats, clear: Any, taken: Any, blended: Any) -> None:
    """Blend the Gaussians of one tile; pixels outside the picture behave as any other.

    Writes `clear` (pixels,), the transmittance, `taken` (pixels,), 1 + the list position of the last Gaussian
    blended, and adds to `blended` (channels·pixels,).
    """
    _, above, left = _corner(tile, tiles)
    means2d, conics, opacities, colors = splats.means2d, splats.conics, splats.opacities, splats.colors
    order, owners, tops, bottoms = tiles.order, tiles.owners, tiles.tops, tiles.bottoms
    real = means2d.dtype.type
    one, half, zero = real(1), real(0.5), real(0)
    alpha_max, alpha_min, power_max = real(ALPHA_MAX), real(ALPHA_MIN), real(_POWER_MAX)
    closing = real(TRANSMITTANCE_MIN)
    opened = np.ones(_PIXELS, means2d.dtype)
    lanes = ramp(one)
    first = tiles.starts[tile]
    for position in range(tiles.starts[tile + 1] - first):
        if position % _OPEN_CHECK == 0 and not _any_lane(opened):
            break
        slot = order[first + position]
        g = owners[slot]
        b, c, opacity = conics[g, 1], conics[g, 2], opacities[g]
        dx = (means2d[g, 0] - real(left + 0.5)) - lanes
        power_x = dx * dx * (half * conics[g, 0])
        slope = dx * b
        rank = real(position + 1)
        for row in range(tops[slot], bottoms[slot]):
            at = row * LANES
            dy = means2d[g, 1] - real(above + row + 0.5)
            power = power_x + (slope + half * c * dy) * dy
            alpha = exp_minus(select(power <= power_max, power, power_max)) * opacity
            alpha = select(alpha <= alpha_max, alpha, alpha_max)
            is_open, before = load(opened, at), load(clear, at)
            met = both(both(alpha >= alpha_min, power >= zero), is_open > zero)
            after = before * (one - alpha)
            blends = both(met, after > closing)
            weight = select(blends, alpha * before, zero)
            store(clear, at, select(blends, after, before))
            store(taken, at, select(blends, rank, load(taken, at)))
            store(opened, at, select(both(met, after <= closing), zero, is_open))
            for k in range(colors.shape[1]):
                store(blended, k * _PIXELS + at, load(blended, k * _PIXELS + at) + weight * colors[g, k])


@kernel(parallel=True)
def blend(tiles: Tiles, schedule: Any, splats: Splats, backgrounds: Any) -> Any:
    """Blend the pictures of C views.

    Args:
        schedule: all tiles in processing order.
        backgrounds: (C, D).

    Returns:
        render (C, H, W, D), alpha (C, H, W), and per tile the transmittance and the rank of the last
        Gaussian blended, both (tiles, pixels).
    """
    views, channels = backgrounds.shape
    render = np.empty((views, tiles.height, tiles.width, channels), backgrounds.dtype)
    alpha = np.empty((views, tiles.height, tiles.width), backgrounds.dtype)
    clears = np.ones((schedule.size, _PIXELS), backgrounds.dtype)
    takens = np.zeros((schedule.size, _PIXELS), backgrounds.dtype)
    for turn in prange(schedule.size):
        tile = schedule[turn]
        view, above, left = _corner(tile, tiles)
        blended = np.zeros(channels * _PIXELS, backgrounds.dtype)
        _blend_tile(tile, tiles, splats, clears[tile], takens[tile], blended)
        for y in range(min(TILE_HEIGHT, tiles.height - above)):
            for x in range(min(LANES, tiles.width - left)):
                at = y * LANES + x
                rest = clears[tile, at]
                alpha[view, above + y, left + x] = 1 - rest
                for k in range(channels):
                    color = blended[k * _PIXELS + at] + rest * backgrounds[view, k]
                    render[view, above + y, left + x, k] = color
    return render, alpha, clears, takens


@kernel()
def _geometry_sums(
    a: float, b: float, c: float, opacity: float, dx: Any, flat: Any, tilt: Any, bend: Any
) -> Any:
    """Compute gradients by mean, conic and opacity from Σv, Σv·dy, Σv·dy² per column, v = dLoss/dpower."""
    along = flat * dx
    sum_x, sum_y = total(along), total(tilt)
    by_mean = a * sum_x + b * sum_y, b * sum_x + c * sum_y
    by_conic = total(along * dx) / 2, total(tilt * dx), total(bend) / 2
    return by_mean, by_conic, -total(flat) / opacity


@kernel()
def _unblend_tile(
    tile: int, tiles: Tiles, splats: Splats, clear: Any, taken: Any, given: Any, behind: Any, sums: Any
) -> None:
    """Add the gradient sums of a tile's slots to their rows of `sums`.

    `clear`: transmittance behind the last Gaussian, changed in place. `given`: gradient of the channels.
    `behind`: Σ_k gradient_k · (what lies behind the current Gaussian)_k, one number for any channels.
    """
    _, above, left = _corner(tile, tiles)
    means2d, conics, opacities, colors = splats.means2d, splats.conics, splats.opacities, splats.colors
    order, owners, tops, bottoms = tiles.order, tiles.owners, tiles.tops, tiles.bottoms
    real = means2d.dtype.type
    one, half, zero = real(1), real(0.5), real(0)
    alpha_max, alpha_min, power_max = real(ALPHA_MAX), real(ALPHA_MIN), real(_POWER_MAX)
    channels = colors.shape[1]
    lanes = ramp(one)
    color_sums = np.empty(channels * LANES, means2d.dtype)
    first = tiles.starts[tile]
    deepest = np.int64(taken.max())
    for position in range(deepest, tiles.starts[tile + 1] - first):
        sums[order[first + position], :] = 0
    for position in range(deepest - 1, -1, -1):
        slot = order[first + position]
        g = owners[slot]
        a, b, c, opacity = conics[g, 0], conics[g, 1], conics[g, 2], opacities[g]
        dx = (means2d[g, 0] - real(left + 0.5)) - lanes
        power_x = dx * dx * (half * a)
        slope = dx * b
        rank = real(position + 1)
        flat, tilt, bend = fill(zero), fill(zero), fill(zero)
        absolute_x, absolute_y = fill(zero), fill(zero)
        color_sums[:] = 0
        for row in range(tops[slot], bottoms[slot]):
            at = row * LANES
            dy = means2d[g, 1] - real(above + row + 0.5)
            power = power_x + (slope + half * c * dy) * dy
            raw = exp_minus(select(power <= power_max, power, power_max)) * opacity
            alpha = select(raw <= alpha_max, raw, alpha_max)
            blends = both(both(alpha >= alpha_min, power >= zero), load(taken, at) >= rank)
            dot = fill(zero)
            for k in range(channels):
                dot = dot + load(given, k * _PIXELS + at) * colors[g, k]
            after, rest = load(clear, at), load(behind, at)
            gain = one / (one - alpha)
            before = after * gain
            by_alpha = before * dot - rest * gain
            weight = select(blends, alpha * before, zero)
            store(clear, at, select(blends, before, after))
            store(behind, at, rest + weight * dot)
            v = select(both(blends, raw <= alpha_max), raw * by_alpha * -one, zero)
            flat = flat + v
            tilt = tilt + v * dy
            bend = bend + v * (dy * dy)
            absolute_x = absolute_x + magnitude(v * (dx * a + b * dy))
            absolute_y = absolute_y + magnitude(v * (slope + c * dy))
            for k in range(channels):
                sum_k = load(color_sums, k * LANES) + weight * load(given, k * _PIXELS + at)
                store(color_sums, k * LANES, sum_k)
        by_mean, by_conic, by_opacity = _geometry_sums(a, b, c, opacity, dx, flat, tilt, bend)
        sums[slot, 0], sums[slot, 1] = by_mean
        sums[slot, 2], sums[slot, 3], sums[slot, 4] = by_conic
        sums[slot, 5] = by_opacity
        sums[slot, 6], sums[slot, 7] = total(absolute_x), total(absolute_y)
        for k in range(channels):
            sums[slot, GRADIENTS + k] = total(load(color_sums, k * LANES))


@kernel(parallel=True)
def unblend(
    tiles: Tiles,
    schedule: Any,
    splats: Splats,
    backgrounds: Any,
    clears: Any,
    takens: Any,
    given_render: Any,
    given_alpha: Any,
) -> Any:
    """Compute gradient sums of every slot (S, GRADIENTS + D); rows of slots without a tile are left unset.

    Args:
        given_render, given_alpha: gradients of the loss by the outputs, (C, H, W, D) and (C, H, W).
        Other arguments: as in `blend` and as it returned them.
    """
    channels = backgrounds.shape[1]
    sums = np.empty((tiles.owners.size, GRADIENTS + channels), backgrounds.dtype)
    for turn in prange(schedule.size):
        tile = schedule[turn]
        view, above, left = _corner(tile, tiles)
        given = np.zeros(channels * _PIXELS, backgrounds.dtype)
        behind = np.zeros(_PIXELS, backgrounds.dtype)
        clear, taken = clears[tile].copy(), takens[tile].copy()
        for y in range(TILE_HEIGHT):
            for x in range(LANES):
                at = y * LANES + x
                if above + y >= tiles.height or left + x >= tiles.width:
                    taken[at] = 0
                    continue
                through = -given_alpha[view, above + y, left + x]  # gradient by the final transmittance
                for k in range(channels):
                    value = given_render[view, above + y, left + x, k]
                    given[k * _PIXELS + at] = value
                    through += backgrounds[view, k] * value
                behind[at] = clear[at] * through
        _unblend_tile(tile, tiles, splats, clear, taken, given, behind, sums)
    return sums


@kernel(parallel=True)
def gather(tiles: Tiles, sums: Any) -> Any:
    """Sum the rows of `sums` over the slots of each Gaussian: (C·N, GRADIENTS + D)."""
    count = tiles.firsts.size - 1
    result = np.zeros((count, sums.shape[1]), sums.dtype)
    for g in prange(count):
        for slot in range(tiles.firsts[g], tiles.firsts[g + 1]):
            if tiles.places[slot] >= 0:
                for k in range(sums.shape[1]):
                    result[g, k] += sums[slot, k]
    return result
