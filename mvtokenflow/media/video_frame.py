"""Conversion of a decoded frame to upright sRGB pixels, by the file's display matrix and colour tags."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.media.pictures import Pixels
from mvtokenflow.media.video_colours import (
    BT709,
    BT2020,
    DIFFUSE_WHITE_NITS,
    HDR,
    LAST_TRANSFER,
    ODD_PRIMARIES,
    ODD_TRANSFERS,
    UNSPECIFIED,
    WIDE,
    to_srgb,
)

_LUMA = np.array([0.2126, 0.7152, 0.0722])  # BT.709

_STRAIGHT = 0.02  # share of a display matrix's larger entries; more is a turn by another angle or a shear


def frame_pixels(path: Path, frame: Any, matrix: NDArray[np.int32] | None, *, masks: bool) -> Pixels:
    """Convert a frame to uint8: (H, W, 4) with alpha, (H, W, 3) without, (H, W) of brightness for `masks`.

    Args:
        matrix: the display matrix, see `display_matrix`.

    Raises:
        DataError: turned by anything but quarter turns, stretched, or colours that cannot be converted.
    """
    has_alpha = any(component.is_alpha for component in frame.format.components)
    transfer, primaries = _colours(path, frame)
    if transfer not in HDR and primaries not in WIDE:
        wanted = "gray" if masks else "rgba" if has_alpha else "rgb24"
        return upright(path, frame.to_ndarray(format=wanted), matrix)
    if frame.colorspace == UNSPECIFIED and primaries == BT2020:
        frame.colorspace = BT2020  # the meaning of such files in practice
    coded = frame.to_ndarray(format="rgba64le" if has_alpha else "rgb48le")
    pixels = to_srgb(coded[..., :3], transfer, primaries)
    if masks:
        pixels = np.rint(pixels @ _LUMA).astype(np.uint8)
    elif has_alpha:
        pixels = np.concatenate((pixels, (coded[..., 3:] >> 8).astype(np.uint8)), axis=-1)
    return upright(path, pixels, matrix)


def colour_note(frame: Any) -> str | None:
    """Describe how `frame_pixels` converts the colours of such a frame; None if it does not."""
    if frame.color_trc in HDR:
        return f"HDR ({HDR[frame.color_trc]}) mapped to sRGB, white at {DIFFUSE_WHITE_NITS:.0f} nits"
    if frame.color_primaries in WIDE:
        return f"colours of {WIDE[frame.color_primaries]} mapped to those of sRGB"
    return None


def _colours(path: Path, frame: Any) -> tuple[int, int]:
    """Transfer and primaries of a frame; HDR defaults to BT.2020, everything else to BT.709."""
    transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
    odd = ODD_TRANSFERS.get(transfer, f"number {transfer}" if transfer > LAST_TRANSFER else None)
    odd = odd or ODD_PRIMARIES.get(primaries)
    if odd is not None:
        raise DataError(
            f"{path}: its colours are {odd}, which is not read; convert it to BT.709, e.g. "
            "`ffmpeg -i IN -vf zscale=t=bt709:p=bt709:m=bt709,format=yuv420p OUT`"
        )
    if primaries not in WIDE:
        primaries = BT2020 if transfer in HDR and primaries == UNSPECIFIED else BT709
    return transfer, primaries


def display_matrix(frame: Any) -> NDArray[np.int32] | None:
    """Read the frame's display matrix (3, 3), row vectors (x, y, 1) from the left; None if there is none."""
    held = frame.side_data.get("DISPLAYMATRIX")
    return None if held is None else np.frombuffer(bytes(held), np.int32).reshape(3, 3)


def upright(path: Path, pixels: Pixels, matrix: NDArray[np.int32] | None) -> Pixels:
    """Turn and mirror pixels (H, W[, C]) by the display matrix.

    Raises:
        DataError: the matrix is no quarter turn or mirror, e.g. a turn by 45 degrees.
    """
    if matrix is None:
        return pixels
    # A pixel at (x, y), x to the right and y down, is shown at (a x + c y, b x + d y).
    (a, b), (c, d) = matrix[:2, :2].astype(np.float64)
    large = max(abs(a), abs(b), abs(c), abs(d))
    turned = abs(b) > abs(a)
    kept, lost = ((b, c), (a, d)) if turned else ((a, d), (b, c))
    if large == 0 or max(map(abs, lost)) > _STRAIGHT * large or min(map(abs, kept)) < (1 - _STRAIGHT) * large:
        degrees = np.degrees(np.arctan2(b, a))
        raise DataError(f"{path}: turned by {degrees:.0f} degrees or stretched; re-encode it upright")
    if turned:
        pixels, across, down = pixels.swapaxes(0, 1), c, b
    else:
        across, down = a, d
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
