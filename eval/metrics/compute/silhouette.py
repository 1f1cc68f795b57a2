"""Silhouettes, for checks that a prediction shows the right view on the right background.

Predictions arrive as pictures on a constant background without alpha. Their silhouettes, compared with
those of every ground-truth view, show swapped or rotated views before any score is computed; the
Consistent4D views are numbered, not named by angle, so the order is an assumption to be checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.evenly import evenly

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

WHITE = (255, 255, 255)


def foreground(rgb: Bytes, background: tuple[int, int, int] = WHITE, tolerance: int = 8) -> Mask:
    """Return the pixels that differ from a constant background.

    Args:
        rgb: (..., H, W, 3) uint8.
        background: colour in 0..255.
        tolerance: largest difference of any channel, in levels, that still counts as background; 8
            passes the ringing of resampled and JPEG- or video-coded renderings.

    Returns:
        (..., H, W) bool. Parts of the object that have the background's colour are lost.
    """
    _check_bytes(rgb)
    difference = np.abs(rgb.astype(np.int16) - np.array(background, dtype=np.int16))
    return np.asarray(difference.max(axis=-1) > tolerance, dtype=np.bool_)


def silhouettes(rgb: Bytes, tolerance: int = 8) -> Mask:
    """Return object masks of a clip on a constant background of any colour.

    The background is the per-channel median of the pictures' one-pixel rim over all frames, so a grey or
    black background is recognised as one (`background` reports it), and an object that touches the rim
    does no harm while it covers less than half of it.

    Args:
        rgb: (T, H, W, 3) uint8.
        tolerance: as in `foreground`.

    Returns:
        (T, H, W) bool.
    """
    _check_bytes(rgb)
    if rgb.ndim != 4:
        raise ValueError(f"a clip must be (T, H, W, 3), got {rgb.shape}")
    sides = (rgb[:, 0], rgb[:, -1], rgb[:, 1:-1, 0], rgb[:, 1:-1, -1])
    rim = _median(np.concatenate([side.reshape(-1, 3) for side in sides]))
    return foreground(rgb, rim, tolerance)


def iou(a: NDArray[np.generic], b: NDArray[np.generic]) -> Floats:
    """Compute intersection over union of masks or of coverages in [0, 1] (sum of minima / sum of maxima).

    Args:
        a, b: (..., H, W); leading sizes broadcast.

    Returns:
        (...) in [0, 1]; two empty masks agree: 1.
    """
    if a.shape[-2:] != b.shape[-2:] or min(a.ndim, b.ndim) < 2:
        raise ValueError(f"masks must share one picture size, got {a.shape} and {b.shape}")
    first, second = a.astype(np.float64), b.astype(np.float64)
    intersection = np.minimum(first, second).sum(axis=(-2, -1))
    union = np.maximum(first, second).sum(axis=(-2, -1))
    ratio = np.ones(np.shape(union))
    np.divide(intersection, union, out=ratio, where=union > 0)
    return ratio


def view_confusion(
    predicted: Sequence[Bytes | Mask],
    truth: Sequence[Bytes | Mask],
    *,
    frames: int | None = 8,
    size: int = 128,
    tolerance: int = 8,
) -> Floats:
    """Compute the silhouette IoU of each predicted view with all true views, averaged over frames.

    Args:
        predicted: V clips, each (T, H, W, 3) uint8 on a constant background or (T, H, W) bool masks;
            sizes and backgrounds may differ from view to view and from the truth's.
        truth: W clips likewise, with as many frames, paired by position.
        frames: at most this many frames, evenly spread, first and last included; None takes all.
        size: masks are area-averaged to squares of this side, or of the shortest side met if that is
            smaller, so that unequal sizes are compared as the protocols compare them (squashed).
        tolerance: of `silhouettes`.

    Returns:
        (V, W) in [0, 1]; row i is predicted view i. See `misplaced_views`.

    Raises:
        DataError: clips of different frame counts; the message names the view.
    """
    clips = [*predicted, *truth]
    if not len(predicted) or not len(truth):
        raise ValueError("view_confusion needs at least one predicted and one true view")
    for index, clip in enumerate(clips):
        if len(clip) != len(clips[0]) or not len(clip):
            whose, number = ("predicted", index) if index < len(predicted) else ("true", index - len(predicted))
            raise DataError(
                f"{whose} view {number} has {len(clip)} frames, predicted view 0 has {len(clips[0])}; "
                "views are compared frame by frame"
            )
    chosen = evenly(len(clips[0]), len(clips[0]) if frames is None else frames)
    side = min([size, *(length for clip in clips for length in clip.shape[1:3])])
    coverage = [_coverage(clip[chosen], side, tolerance) for clip in clips]
    rows, columns = coverage[: len(predicted)], coverage[len(predicted) :]
    return np.array([[iou(row, column).mean() for column in columns] for row in rows])


@dataclass(frozen=True, kw_only=True)
class Misplaced:
    """A predicted view that looks more like another ground-truth view than like its own."""

    view: int
    looks_like: int
    own_iou: float
    other_iou: float


def misplaced_views(confusion: Floats, margin: float = 0.02) -> list[Misplaced]:
    """Return predicted views whose own ground truth does not fit best; empty if the order is right.

    Args:
        confusion: (V, V) from `view_confusion`.
        margin: another view must win by more than this. Opposite views of an object have mirrored, often
            nearly equal silhouettes; a loss within the margin does not contradict the order.
    """
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise ValueError(f"confusion must be square, got {confusion.shape}")
    best = confusion.argmax(axis=1)
    return [
        Misplaced(view=i, looks_like=int(j), own_iou=float(confusion[i, i]), other_iou=float(confusion[i, j]))
        for i, j in enumerate(best)
        if confusion[i, j] > confusion[i, i] + margin
    ]


@dataclass(frozen=True, kw_only=True)
class Background:
    """The background of one clip.

    Attributes:
        colour: per-channel median in 0..255 of the pixels outside the dilated mask, over all frames.
        constant: share of those pixels, over all frames, that have exactly `colour`.
        white: share that is exactly (255, 255, 255); a clip as the protocols ask for it has 1.0.
        worst_frame: frame with the smallest share of white.
        worst_level: smallest channel value met out there.
        pixels: how many pixels were looked at; 0 if the object fills every frame (all else is then 0).
    """

    colour: tuple[int, int, int]
    constant: float
    white: float
    worst_frame: int
    worst_level: int
    pixels: int


def background(rgb: Bytes, mask: Mask | None = None, dilation: int = 3, tolerance: int = 8) -> Background:
    """Measure colour and purity of the background.

    Args:
        rgb: (T, H, W, 3) uint8.
        mask: (T, H, W) bool object masks if known, else those of `silhouettes`.
        dilation: pixels by which the mask grows in all eight directions; anti-aliased outlines are not
            background.
        tolerance: as in `foreground`.
    """
    _check_bytes(rgb)
    if rgb.ndim != 4 or (mask is not None and mask.shape != rgb.shape[:3]):
        masks = "no mask" if mask is None else mask.shape
        raise ValueError(f"rgb must be (T, H, W, 3) and mask (T, H, W), got {rgb.shape} and {masks}")
    if mask is None:
        mask = silhouettes(rgb, tolerance)
    kernel = np.ones((2 * dilation + 1, 2 * dilation + 1), dtype=np.uint8)
    outside = np.stack([cv2.dilate(frame.astype(np.uint8), kernel) == 0 for frame in mask])
    pixels = rgb[outside]
    if not len(pixels):
        return Background(colour=(0, 0, 0), constant=0.0, white=0.0, worst_frame=0, worst_level=0, pixels=0)
    colour = _median(pixels)
    is_white = (rgb == 255).all(axis=-1)
    stray = (outside & ~is_white).sum(axis=(1, 2))
    share = stray / np.maximum(outside.sum(axis=(1, 2)), 1)
    return Background(
        colour=colour,
        constant=float((pixels == np.array(colour)).all(axis=-1).mean()),
        white=float((pixels == 255).all(axis=-1).mean()),
        worst_frame=int(share.argmax()),
        worst_level=int(pixels.min()),
        pixels=len(pixels),
    )


def resize_coverage(masks: Mask, side: int) -> NDArray[np.float32]:
    """Compute the share of each cell of a side x side grid that the mask covers.

    Args:
        masks: (T, H, W) bool with H, W >= side.

    Returns:
        (T, side, side) in [0, 1]; exactly the mask where the size does not change.
    """
    if masks.ndim != 3 or masks.dtype != np.bool_ or min(masks.shape[1:]) < side:
        raise ValueError(
            f"masks must be boolean (T, H, W) of at least {side}x{side}, got {masks.dtype} {masks.shape}"
        )
    resized = [cv2.resize(m.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) for m in masks]
    return np.asarray(np.stack(resized), dtype=np.float32)


def _coverage(clip: Bytes | Mask, side: int, tolerance: int) -> NDArray[np.float32]:
    masks = clip if clip.dtype == np.bool_ else silhouettes(cast(Bytes, clip), tolerance)
    return resize_coverage(np.asarray(masks, dtype=np.bool_), side)


def _median(pixels: Bytes) -> tuple[int, int, int]:
    """Compute the per-channel lower median of (N, 3), always a level that occurs."""
    half = (len(pixels) + 1) // 2
    red, green, blue = (
        int(np.searchsorted(np.cumsum(np.bincount(channel, minlength=256)), half)) for channel in pixels.T
    )
    return red, green, blue


def _check_bytes(rgb: Bytes) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim < 3 or rgb.shape[-1] != 3:
        raise ValueError(f"pictures must be uint8 (..., H, W, 3), got {rgb.dtype} {rgb.shape}")
