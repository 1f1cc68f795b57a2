"""Checks of an object's mask or alpha: white on the object, black around it.

Levels within `FAINT` of 0 and 255 count as 0 and 255 where they went through a lossy codec or a network.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mvtokenflow.base.errors import DataError
from mvtokenflow.media.pictures import Pixels

Mask = NDArray[np.bool_]

OBJECT_ALPHA = 0.5  # alpha in [0, 1] from which a pixel counts as the object

# libvpx and x264 leave up to 10 levels of noise beside edges, which would be a grey veil on white.
FAINT = 15

_FLAT = 5  # pixels; a block of one grey this wide is no soft edge
_VEIL = 0.03  # share of the longer side that faint edges of an object reach
_RIM = 0.5  # share of the picture's rim; a mask that covers more in every frame is inverted

CUT_OUT = "give frames with alpha (RGBA), which `mvtf cut-out` makes of a video, or masks"


def cleaned(levels: Pixels) -> Pixels:
    """Set levels within `FAINT` of 0 and 255 to these."""
    kept = np.where(levels <= FAINT, 0, levels)
    return np.where(kept >= 255 - FAINT, 255, kept).astype(np.uint8)


def check_mask_levels(name: str, masks: Pixels) -> None:
    """Check that masks (T, H, W) hold no numbers of objects and no other levels that are not soft edges.

    Raises:
        DataError: no level near 255, or areas of a level in between.
    """
    highest = int(masks.max(initial=0))
    if highest == 0:
        return  # the caller reports which frames are empty
    if highest < 255 - FAINT:
        found = "0 and 1" if highest == 1 else f"levels up to {highest}"
        fix = "multiply them by 255" if highest == 1 else "set the object's level to 255 and all others to 0"
        raise DataError(f"{name}: the masks hold {found}, expected 0 and 255; {fix}")
    for mask in masks:
        grey = (mask > 0) & (mask < 255)
        if grey.any():
            between = (mask > FAINT) & (mask < 255 - FAINT)
            # Networks leave areas that are nearly black or white, beside soft edges.
            level = between if between.any() else grey & (mask <= FAINT)
            flat = level & (ndimage.minimum_filter(mask, _FLAT) == ndimage.maximum_filter(mask, _FLAT))
            if flat.any():
                raise DataError(
                    f"{name}: areas of the masks have level {int(mask[flat][0])}, expected 0 and 255 (object "
                    "numbers?); set the object's level to 255 and all others to 0"
                )


def without_veil(name: str, alpha: Pixels) -> tuple[Pixels, str | None]:
    """Remove nearly transparent pixels far from the object from alpha (T, H, W); a note if there were some.

    Segmentation networks leave them, and the object's box would be the whole picture. Nearly transparent pixels
    at the object's own edge stay, unless there is such a veil.
    """
    if not alpha.any() or (alpha > FAINT).all() or not (alpha > FAINT).any():
        return alpha, None
    whole, solid = _box(alpha > 0), _box(alpha > FAINT)
    reach = max(8.0, _VEIL * max(alpha.shape[1:]))
    if np.abs(whole - solid).max() <= reach:
        return alpha, None
    note = f"{name}: alpha up to {FAINT} of 255 far from the object is taken for 0"
    return np.where(alpha <= FAINT, 0, alpha).astype(np.uint8), note


def _box(
    covered: Mask,
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Bounding box (top, bottom, left, right) over all frames."""
    rows, columns = (np.flatnonzero(covered.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    return np.array([rows[0], rows[-1], columns[0], columns[-1]])


def check_cut_out(name: str, labels: Sequence[str], alpha: Pixels, *, fix: str = CUT_OUT) -> list[str]:
    """Check that alpha (T, H, W) separates an object from its background; return notes on oddities.

    Args:
        name: name of the clip in messages. labels: names of its frames.

    Raises:
        DataError: opaque or nearly so everywhere, never transparent, inverted, or no object in a frame.
    """
    low = int(alpha.min())
    if low >= 255 - FAINT:
        least = "" if low == 255 else f" (at least {low} of 255)"
        raise DataError(f"{name}: opaque everywhere{least}, the object is not cut out; {fix}")
    if low > FAINT:
        raise DataError(f"{name}: alpha is never 0 (at least {low} of 255), the object is not cut out; {fix}")
    _refuse_frames(labels, alpha.max((1, 2)) <= FAINT, "alpha is 0 everywhere, no object")
    if int(alpha.max()) <= 127:
        raise DataError(f"{name}: alpha is at most {int(alpha.max())} of 255; make it 255 on the object")
    _refuse_frames(labels, alpha.min((1, 2)) > FAINT, "alpha is 0 nowhere, no background")
    return _inverted(name, alpha > 127)


def odd_alpha(name: str, alpha: Pixels) -> list[str]:
    """Return notes on alpha (T, H, W) that is kept as it is: a veil, an object on all four sides.

    Raises:
        DataError: inverted.
    """
    veil = without_veil(name, alpha)[1]
    notes = [f"{name}: alpha up to {FAINT} of 255 far from the object; pass --binary-alpha"] if veil else []
    return notes + _inverted(name, alpha > 127)


def _refuse_frames(labels: Sequence[str], wrong: Mask, found: str) -> None:
    bad = [label for label, is_wrong in zip(labels, wrong, strict=True) if is_wrong]
    if bad:
        shown = ", ".join(bad[:3]) + (" ..." if len(bad) > 3 else "")
        raise DataError(
            f"{shown}: {found} in {len(bad)} of {len(labels)} frames; mend the mask or remove these frames"
        )


def _inverted(name: str, solid: Mask) -> list[str]:
    """Return notes on an object (T, H, W) that reaches the rim on all sides; refuse an inverted mask."""
    sides = np.stack([solid[:, 0].mean(1), solid[:, -1].mean(1), solid[..., 0].mean(1), solid[..., -1].mean(1)])
    share = float(solid.mean())
    if sides.mean(0).min() > _RIM and share > _RIM:
        raise DataError(
            f"{name}: the object covers {share:.0%} of the picture and most of its rim in every frame; is it "
            "inverted? The object is 255, the background 0: invert it"
        )
    if (sides > 0).all():
        return [f"{name}: the object touches all four sides of every frame; is the mask inverted?"]
    return []
