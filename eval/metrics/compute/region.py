"""The flat background of a picture, which SSIM and LPIPS may skip without changing their values."""

import numpy as np
import numpy.typing as npt

from mvtokenflow.base.errors import DataError

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Colour = tuple[int, int, int]

# Below this share of flat pixels the bookkeeping of a background costs more than it saves.
_LEAST_SHARE = 0.25


def check_image(image: Image, name: str = "picture") -> None:
    """Refuse anything but a non-empty uint8 (H, W, 3) array.

    Raises:
        DataError: naming the dtype and shape found.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DataError(
            f"{name}: expected RGB uint8 (H, W, 3), got {image.dtype} {tuple(image.shape)}; "
            "composite alpha and convert palettes first"
        )


def check_pair(pred: Image, gt: Image) -> None:
    """Refuse two pictures that are not uint8 (H, W, 3) of one size.

    Raises:
        DataError: naming both shapes.
    """
    check_image(pred, "prediction")
    check_image(gt, "ground truth")
    if pred.shape != gt.shape:
        raise DataError(
            f"prediction is {pred.shape[1]}x{pred.shape[0]} and ground truth {gt.shape[1]}x{gt.shape[0]} "
            "pixels; resize both to the size of the protocol first"
        )


def flat_background(image: Image) -> tuple[Colour, Mask] | None:
    """Return the most frequent edge colour, and the mask (H, W) of the pixels that differ from it.

    None if that colour covers less than a quarter of the picture. The comparison is exact, so whatever
    is computed from "all other pixels have this colour" is exact as well.
    """
    packed = image[..., 0].astype(np.uint32) << 16
    packed |= image[..., 1].astype(np.uint32) << 8
    packed |= image[..., 2]
    edge = np.concatenate([packed[0], packed[-1], packed[:, 0], packed[:, -1]])
    colours, counts = np.unique(edge, return_counts=True)
    colour = int(colours[counts.argmax()])
    differs: Mask = packed != colour
    if np.count_nonzero(differs) > (1 - _LEAST_SHARE) * differs.size:
        return None
    return (colour >> 16, colour >> 8 & 255, colour & 255), differs


def bounding_window(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Return rows and columns of the true pixels, grown by `margin` and clipped; empty for an empty mask."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return (
        slice(max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, height)),
        slice(max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, width)),
    )
