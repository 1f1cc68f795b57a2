"""A picture on which masks are checked by eye: frames with what was cut away faded to chequers."""

import cv2
import numpy as np

from mvtokenflow.media.pictures import Pixels

SHOWN = 12
_SIDE = 240  # longest side of a frame, in pixels
_COLUMNS = 4
_CHEQUERS = (205, 235)  # levels
_SQUARE = 12


def contact_sheet(frames: Pixels, alpha: Pixels) -> Pixels:
    """Lay out up to `SHOWN` evenly chosen frames (T, H, W, 3) with their alpha (T, H, W) on chequers."""
    count, height, width = alpha.shape
    chosen = np.unique(np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int))
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    y, x = np.mgrid[: size[1], : size[0]] // _SQUARE
    ground = np.where((y + x) % 2, *_CHEQUERS)[..., None].astype(np.float32)
    columns = min(_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    sheet = np.full((rows * size[1], columns * size[0], 3), 255, np.uint8)
    for place, n in enumerate(chosen):
        picture = cv2.resize(frames[n], size, interpolation=cv2.INTER_AREA).astype(np.float32)
        share = cv2.resize(alpha[n], size, interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] / 255
        top, left = place // columns * size[1], place % columns * size[0]
        cell = np.rint(picture * share + ground * (1 - share)).astype(np.uint8)
        sheet[top : top + size[1], left : left + size[0]] = cell
    return sheet
