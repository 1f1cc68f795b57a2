"""Cuts an object out of pictures that show it in front of one plain colour; pure functions on arrays.

The background is a smooth surface of colour, fitted to the border of each picture, so that uneven light is no
object. A pixel's distance is the CIE76 difference of its colour, averaged with neighbours, from this surface.
Background is what lies within a threshold and is connected to the border; the threshold follows from the
distances along the border, which are noise and compression. A lossy codec keeps lightness better than colour,
which it spreads over blocks: differences of colour near strong colours count less. Masks are voted on by
neighbouring frames along optical flow, and their edges feathered by where a pixel's colour lies between
background and object.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab

from mvtokenflow.media.pictures import Pixels

Colours = NDArray[np.floating]  # (H, W, 3), sRGB in [0, 1]
Distances = NDArray[np.floating]  # (H, W), CIE76
Mask = NDArray[np.bool_]  # (H, W)
Flow = Callable[[int, int], NDArray[np.float32]]
"""Gives optical flow (H, W, 2) in pixels from a frame to another, on the grid of the first."""

FLOOR = 2.5  # least threshold, in CIE76; about the least difference that is noticed
MOST_SPREAD = 4.0  # median distance along a border of one colour, in CIE76
LEAST_SHARE = 0.8  # of the border that is of the colour; the object may cover the rest
REACH = 20.0  # uneven light may change the colour by this, in CIE76
MOST_DRIFT = 8.0  # of the border's colour between frames, in CIE76

_BORDER = 0.02  # width of the border, as a share of the shorter side
_SMOOTHED = 1.0  # pixels; noise is averaged with a Gaussian of this standard deviation
_SAMPLES = 4000  # pixels that a surface is fitted to
_NOISES = 4.0  # the threshold in medians of the distances along the border
_RINGING = 2.0  # the threshold in ninth deciles of the distances around the object
_MOST_RINGING = 3.5  # the threshold around the object in thresholds along the border
_AROUND = (3, 11)  # pixels from the object
_GRAIN = 1.5  # most averaged distance of background, in medians of the averaged distances of background
_BLEEDING = 0.15  # share of an object's chroma that a lossy codec spreads
_BLOCK = 16  # pixels that it may reach; a block of halved chroma
_SPECK = 0.01  # of the largest part's area; smaller parts are dust and compression
_HOLE = 2e-4  # of the picture's area
_EDGE = 3  # pixels of the mask's rim whose colour mixes object and background
_LOST = 1.5  # pixels; flow that misses its start by more on the way back has no vote


@dataclass(frozen=True, kw_only=True)
class Background:
    """The plain colour behind an object.

    Attributes:
        colour: sRGB, the median along the borders of all frames.
        spread: median distance from each frame's own surface along its border, in CIE76; the worst frame's.
        share: of the border that is of this colour, 0 to 1; the worst frame's.
        drift: farthest distance of a frame's median colour from `colour`, in CIE76.
    """

    colour: tuple[int, int, int]
    spread: float
    share: float
    drift: float

    @property
    def code(self) -> str:
        """The colour as #rrggbb."""
        return "#{:02x}{:02x}{:02x}".format(*self.colour)

    def fault(self) -> str | None:
        """Say why this is not one colour, as a clause; None if it is."""
        if self.share < LEAST_SHARE:
            return f"only {self.share:.0%} of the border is of one colour ({self.code})"
        if self.spread > MOST_SPREAD:
            return f"the border varies by {self.spread:.1f} CIE76 around {self.code}, more than {MOST_SPREAD:g}"
        if self.drift > MOST_DRIFT:
            return f"the border's colour changes by {self.drift:.0f} CIE76 between frames"
        return None


def parsed_colour(word: str) -> tuple[int, int, int]:
    """Read "white" or "#rrggbb".

    Raises:
        ValueError: anything else.
    """
    code = "ffffff" if word == "white" else word.removeprefix("#")
    if len(code) != 6 or not all(digit in "0123456789abcdefABCDEF" for digit in code):
        raise ValueError(f"'{word}' is no colour")
    red, green, blue = bytes.fromhex(code)
    return red, green, blue


def measure_background(frames: Pixels, colour: tuple[int, int, int] | None = None) -> Background:
    """Measure the colour along the borders of frames (T, H, W, 3).

    Args:
        colour: sRGB of the background, if it is known; the border is measured against it.
    """
    border = border_of(frames.shape[1:3])
    middles = np.stack([np.median(frame[border], axis=0) for frame in frames])
    whole = np.median(middles, axis=0) if colour is None else np.array(colour, float)
    spreads, shares = [], []
    for frame, middle in zip(frames, middles, strict=True):
        smooth = _smoothed(frame)
        away = _distances(smooth, (whole if colour else middle)[None, None] / 255)
        near = border & (away <= REACH)
        if near.sum() < _SAMPLES // 40:
            spreads.append(float(np.median(away[border])))
            shares.append(float(near.sum() / border.sum()))
            continue
        off = _distances(smooth, surface(smooth, near, 2))[near]
        spread = float(np.median(off))
        spreads.append(spread)
        shares.append(float((off <= max(2 * FLOOR, _NOISES * spread)).sum() / border.sum()))
    steps = _distances(middles[None] / 255, whole[None, None] / 255)
    red, green, blue = (round(float(level)) for level in whole)
    return Background(
        colour=(red, green, blue), spread=max(spreads), share=min(shares), drift=float(steps.max())
    )


def cut_out(
    frames: Pixels, background: Background, *, lossy: bool = False, flow: Flow | None = None
) -> Iterator[Pixels]:
    """Yield the alpha (H, W) uint8 of each of the frames (T, H, W, 3), 255 on the object.

    Args:
        background: of `measure_background`, without fault.
        lossy: the frames went through JPEG or a video codec, which spreads colour over blocks.
        flow: of the frames; None leaves out the vote of neighbouring frames.
    """
    masks = [object_of(frame, background, lossy=lossy) for frame in frames]
    if flow is not None:
        masks = voted(masks, flow)
    for frame, mask in zip(frames, masks, strict=True):
        yield feathered(frame, mask)


def object_of(frame: Pixels, background: Background, *, lossy: bool = False) -> Mask:
    """Find the object (H, W) in a frame (H, W, 3), its edge up to some pixels too wide; see `cut_out`."""
    smooth = _smoothed(frame)
    border = border_of(frame.shape[:2])
    where = border & (_distances(smooth, np.array(background.colour)[None, None] / 255) <= REACH)
    away: Distances = np.zeros(frame.shape[:2])
    threshold = FLOOR
    for order, slack in ((2, 1.5), (3, 1.0), (3, 1.0)):  # first from the border alone, which says little inside
        away = _distances(smooth, surface(smooth, where, order))
        threshold = max(FLOOR, _NOISES * float(np.median(away[where])))
        behind = _connected(away <= slack * threshold, border)
        shrunk = ndimage.binary_erosion(behind, iterations=_EDGE, border_value=1)
        where = shrunk if shrunk.any() else where
    fitted = surface(smooth, where, 3)
    if lossy:
        away = grain = _without_bleeding(smooth, fitted)
    else:  # where two colours of the object mix to the background's, the mean distance is not small
        grain = _blurred(_distances(frame.astype(np.float32) / 255, fitted))
    finest = _GRAIN * float(np.median(grain[where]))
    most = _MOST_RINGING * threshold
    while True:
        low = (away <= threshold) & (grain <= max(threshold, finest))
        found = _parts(~_connected(low, border), away, threshold)
        outside = ndimage.distance_transform_edt(~found)
        around = away[(outside > _AROUND[0]) & (outside <= _AROUND[1])]
        ringing = _RINGING * float(np.quantile(around, 0.9)) if around.size else 0.0
        if min(ringing, most) <= 1.02 * threshold:
            break
        threshold = min(ringing, most)
    return found & ~_holes(found & low, away, threshold)


def voted(masks: list[Mask], flow: Flow) -> list[Mask]:
    """Replace each pixel by the majority of itself and its places in the frames before and after.

    A neighbour has a vote where flow to it and back ends where it began.
    """
    changed = []
    for n, mask in enumerate(masks):
        votes = np.where(mask, 1, -1)
        for other in (n - 1, n + 1):
            if 0 <= other < len(masks):
                there, sure = _followed(flow(n, other), flow(other, n))
                votes += np.where(sure, np.where(masks[other][there], 1, -1), 0)
        changed.append(np.where(votes == 0, mask, votes > 0))
    return changed


def feathered(frame: Pixels, mask: Mask) -> Pixels:
    """Compute alpha (H, W) uint8 of an object whose mask is up to some pixels too wide.

    Alpha of the mask's rim is the pixel's share of the difference between object and background, the object's
    colour being that of the nearest pixel behind the rim, or, of thin parts, the most different one near by.
    """
    if not mask.any() or mask.all():
        return np.where(mask, 255, 0).astype(np.uint8)
    rgb = frame.astype(np.float32) / 255
    behind = _behind(rgb, mask)
    own = np.linalg.norm(rgb - behind, axis=-1)
    smooth = np.linalg.norm(_smoothed(frame) - behind, axis=-1)
    core = ndimage.binary_erosion(mask, iterations=_EDGE, border_value=1)
    most = ndimage.maximum_filter(np.where(mask, own, 0), size=2 * _EDGE - 1)
    if core.any():
        far, (rows, columns) = ndimage.distance_transform_edt(~core, return_indices=True)
        most = np.where(far <= 2 * _EDGE, smooth[rows, columns], most)
    share = np.clip(own / np.maximum(most, 1e-3), 0, 1)
    alpha = np.where(core, 1, np.where(mask, share, 0))
    return np.asarray(np.rint(alpha * 255), np.uint8)


def straight_colours(frame: Pixels, alpha: Pixels) -> Pixels:
    """Remove the background's colour from the edge pixels of a frame (H, W, 3) with alpha (H, W)."""
    edge = (alpha > 0) & (alpha < 255)
    if not edge.any() or not (alpha == 0).any():
        return frame
    rgb, share = frame.astype(np.float32) / 255, alpha[..., None].astype(np.float32) / 255
    pure = (rgb - (1 - share) * _behind(rgb, alpha > 0)) / np.maximum(share, 1 / 255)
    kept = np.rint(np.clip(pure, 0, 1) * 255).astype(np.uint8)
    return np.asarray(np.where(edge[..., None], kept, frame))


def border_of(shape: tuple[int, ...]) -> Mask:
    """Return the border (H, W) of pictures of a shape (H, W)."""
    width = max(2, round(_BORDER * min(shape)))
    border = np.ones(shape, bool)
    border[width:-width, width:-width] = False
    return border


def surface(rgb: Colours, where: Mask, order: int) -> Colours:
    """Fit a polynomial of an order in x and y to the colours of the pixels `where`, outliers left out."""
    height, width = rgb.shape[:2]
    rows, columns = np.nonzero(where)
    step = max(1, len(rows) // _SAMPLES)
    rows, columns = rows[::step], columns[::step]
    unit = 2 / max(height, width)
    terms = _monomials((rows - height / 2) * unit, (columns - width / 2) * unit, order)
    values = rgb[rows, columns].astype(np.float64)
    kept = np.ones(len(values), bool)
    weights: Colours = np.zeros((terms.shape[1], 3))
    for _ in range(3):
        weights = np.linalg.lstsq(terms[kept], values[kept], rcond=None)[0]
        off = np.linalg.norm(values - terms @ weights, axis=-1)
        kept = off <= max(0.01, 3 * float(np.median(off[kept])))
    y, x = np.mgrid[:height, :width]
    fitted: Colours = _monomials((y - height / 2) * unit, (x - width / 2) * unit, order) @ weights
    return np.asarray(np.clip(fitted, 0, 1), np.float32)


def _monomials(y: NDArray[np.float64], x: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Return the terms (..., k) of a polynomial of two coordinates."""
    return np.stack([x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)], axis=-1)


def _behind(rgb: Colours, mask: Mask) -> Colours:
    """Return the background's surface, fitted to the pixels around an object's mask."""
    around = ndimage.binary_erosion(~mask, iterations=_EDGE, border_value=1)
    return surface(rgb, around if around.any() else ~mask, 3)


def _smoothed(frame: Pixels) -> Colours:
    return np.asarray(_blurred(frame.astype(np.float32) / 255))


def _blurred(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), _SMOOTHED, borderType=cv2.BORDER_REFLECT))


def _distances(one: Colours, other: Colours) -> Distances:
    """Return CIE76 differences; one colour may be (1, 1, 3)."""
    first, second = (rgb2lab(np.asarray(colours, np.float32)) for colours in (one, other))
    return np.asarray(np.linalg.norm(first - second, axis=-1))


def _without_bleeding(one: Colours, other: Colours) -> Distances:
    """Return CIE76 differences less what a lossy codec spreads: colour over its blocks, lightness not."""
    apart = rgb2lab(one) - rgb2lab(other)
    colour = np.linalg.norm(apart[..., 1:], axis=-1)
    bled = _BLEEDING * ndimage.maximum_filter(colour, size=2 * _BLOCK + 1)
    return np.asarray(np.hypot(apart[..., 0], np.maximum(colour - bled, 0)))


def _labelled(mask: Mask, connectivity: int) -> NDArray[np.int64]:
    """Number the parts (H, W) of a mask from 1; connected by 1: sides, 2: corners too."""
    return np.asarray(ndimage.label(mask, ndimage.generate_binary_structure(2, connectivity))[0])


def _connected(low: Mask, border: Mask) -> Mask:
    """Return the pixels of `low` that are connected to the border within it."""
    parts = _labelled(low, 1)
    reached = np.zeros(int(parts.max()) + 1, bool)
    reached[np.unique(parts[border])] = True
    reached[0] = False
    return np.asarray(reached[parts])


def _parts(mask: Mask, away: Distances, threshold: float) -> Mask:
    """Return the parts of a mask that are large, and somewhere clearly different from the background."""
    parts = _labelled(mask, 2)
    count = int(parts.max()) + 1
    if count == 1:
        return mask
    area = np.bincount(parts.ravel(), minlength=count)
    area[0] = 0
    peak = np.asarray(ndimage.maximum(away, parts, np.arange(count)))
    kept = (area >= _SPECK * area.max()) & (peak >= 2 * threshold)
    kept[0] = False
    return np.asarray(kept[parts])


def _holes(low: Mask, away: Distances, threshold: float) -> Mask:
    """Return parts of the background's colour within an object: large, and as close to it as the border."""
    parts = _labelled(low, 1)
    count = int(parts.max()) + 1
    area = np.bincount(parts.ravel(), minlength=count)
    middle = np.asarray(ndimage.median(away, parts, np.arange(count)))
    kept = (area >= max(16, _HOLE * low.size)) & (middle <= threshold / 2)
    kept[0] = False
    return np.asarray(kept[parts])


def _followed(
    ahead: NDArray[np.float32], back: NDArray[np.float32]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Mask]:
    """Return the nearest pixels (rows, columns) that flow leads to, and where the flow back confirms it."""
    height, width = ahead.shape[:2]
    y, x = np.mgrid[:height, :width]
    columns, rows = np.rint(x + ahead[..., 0]).astype(int), np.rint(y + ahead[..., 1]).astype(int)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    columns, rows = columns.clip(0, width - 1), rows.clip(0, height - 1)
    missed = np.linalg.norm(ahead + back[rows, columns], axis=-1)
    return (rows, columns), inside & (missed <= _LOST)
