"""Space-time slices: one column of a clip's pixels over time. Motion draws lines, flicker draws stripes."""

from collections.abc import Sequence

import numpy as np

from mvtokenflow.media.pictures import Pixels

CAPTION = (
    "Space-time slices: one column of pixels over all frames, from left to right. Motion draws smooth lines; "
    "flicker draws vertical stripes."
)
_GAP = 128  # grey of a frame that is not there


def busiest_column(clip: Sequence[Pixels | None]) -> float | None:
    """Find where the pictures (H, W, 3) change most over time, as a share of the width.

    None with fewer than two pictures, or pictures of several sizes.
    """
    pictures = [picture for picture in clip if picture is not None]
    if len(pictures) < 2 or len({picture.shape for picture in pictures}) > 1:
        return None
    grey = np.stack([picture.mean(axis=-1, dtype=np.float32) for picture in pictures])
    spread = grey.std(axis=0).sum(axis=0)
    return (int(spread.argmax()) + 0.5) / len(spread)


def time_slice(clip: Sequence[Pixels | None], column: float) -> Pixels | None:
    """Return (H, T, 3): time to the right, the pixels at `column` (a share of the width) downwards.

    A missing frame, or one of another height than the first, is grey. None if no frame is there.
    """
    height = next((picture.shape[0] for picture in clip if picture is not None), None)
    if height is None:
        return None
    strips = [
        np.full((height, 3), _GAP, np.uint8)
        if picture is None or picture.shape[0] != height
        else picture[:, int(column * picture.shape[1])]
        for picture in clip
    ]
    return np.stack(strips, axis=1)
