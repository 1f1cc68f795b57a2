"""A decoded frame as pixels: upright and in sRGB, whatever the file says about turns, mirrors and colours."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.errors import DataError
from mvtokenflow.pictures import Pixels

# Code points of ISO/IEC 23091-2, as FFmpeg has them.
_HDR = {16: "smpte2084", 18: "arib-std-b67"}
_ODD_TRANSFERS = {8: "linear", 9: "log100", 10: "log316", 12: "bt1361e", 17: "smpte428"}
_LAST_TRANSFER = 18
_WIDE = {4: "bt470m", 8: "film", 9: "bt2020", 10: "smpte428", 11: "smpte431", 12: "smpte432"}
_UNSPECIFIED, _BT709, _SRGB, _BT2020 = 2, 1, 13, 9

_STRAIGHT = 0.02  # of the larger entries of a display matrix; more is a turn by another angle or a shear


def frame_pixels(path: Path, frame: Any, matrix: NDArray[np.int32] | None, *, masks: bool) -> Pixels:
    """(H, W, 4) uint8 where the frame has alpha, else (H, W, 3); (H, W) of brightness for `masks`.

    Args:
        matrix: the display matrix, see `display_matrix`.

    Raises:
        DataError: turned by other than quarter turns, stretched, or of colours that cannot be converted.
    """
    has_alpha = any(component.is_alpha for component in frame.format.components)
    wanted = "gray" if masks else "rgba" if has_alpha else "rgb24"
    converted = _converted(path, frame, "rgba" if has_alpha else "rgb24")
    return upright(path, (frame if converted is None else converted).to_ndarray(format=wanted), matrix)


def colour_note(frame: Any) -> str | None:
    """What `frame_pixels` does to the colours of such a frame; None if it takes them as they are."""
    if frame.color_trc in _HDR:
        return f"HDR ({_HDR[frame.color_trc]}) mapped to sRGB, diffuse white at 203 nits"
    if frame.color_primaries in _WIDE:
        return f"colours of {_WIDE[frame.color_primaries]} mapped to sRGB"
    return None


def _converted(path: Path, frame: Any, pixel_format: str) -> Any:
    """The frame in BT.709's primaries by FFmpeg's colour management; None where it is so already."""
    transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
    if transfer in _ODD_TRANSFERS or transfer > _LAST_TRANSFER:
        name = _ODD_TRANSFERS.get(transfer, f"number {transfer}")
        raise DataError(
            f"{path}: its transfer characteristic is {name}, which is not read; convert it to BT.709, e.g. "
            "`ffmpeg -i IN -vf zscale=t=bt709:p=bt709:m=bt709,format=yuv420p OUT`"
        )
    hdr = transfer in _HDR
    if not hdr and primaries not in _WIDE:
        return None
    # What is left open is what such files mean by it.
    if hdr and primaries == _UNSPECIFIED:
        frame.color_primaries = _BT2020
    if frame.colorspace == _UNSPECIFIED and int(frame.color_primaries) == _BT2020:
        frame.colorspace = _BT2020
    if transfer == _UNSPECIFIED:
        frame.color_trc = _BT709
    same = int(frame.color_trc)  # SDR keeps its transfer, so that greys stay as they are
    return frame.reformat(format=pixel_format, dst_color_trc=_SRGB if hdr else same, dst_color_primaries=_BT709)


def display_matrix(frame: Any) -> NDArray[np.int32] | None:
    """(3, 3) of the file, row vectors (x, y, 1) from the left; None if it says nothing."""
    held = frame.side_data.get("DISPLAYMATRIX")
    return None if held is None else np.frombuffer(bytes(held), np.int32).reshape(3, 3)


def upright(path: Path, pixels: Pixels, matrix: NDArray[np.int32] | None) -> Pixels:
    """(H, W[, C]) pixels as the display matrix shows them: quarter turns and mirrors.

    Raises:
        DataError: the matrix does anything else, e.g. turns by 45 degrees.
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
