"""Conversion of frame time stamps or frame numbers to times in [0, 1]."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError


def clock(name: str, stamps: Sequence[Fraction | int], tick: Fraction = Fraction(0)) -> Tensor | None:
    """Compute float32 times (T,) from 0 to 1 of two or more frames; None if the frames are evenly spaced.

    Args:
        name: name of the clip in messages.
        stamps: one per frame, in any unit.
        tick: unit that stamps are rounded to. Stamps are even if none is farther than this from
            where even spacing puts it; with ticks as coarse as half a frame, only if they are so exactly.

    Raises:
        DataError: stamps that do not increase, or steps too unequal to stay distinct as float32.
    """
    stuck = next((n for n, (before, after) in enumerate(pairwise(stamps), 1) if after <= before), None)
    if stuck is not None:
        raise DataError(
            f"{name}: the time of frame {stuck} is not after that of frame {stuck - 1}; encode it again, e.g. "
            "`ffmpeg -i IN -vf setpts=N/FRAME_RATE/TB OUT`"
        )
    first, length = Fraction(stamps[0]), Fraction(stamps[-1] - stamps[0])
    step = length / (len(stamps) - 1)
    slack = tick if 2 * tick < step else 0
    if all(abs(stamp - first - n * step) <= slack for n, stamp in enumerate(stamps)):
        return None
    times = torch.tensor([float((stamp - first) / length) for stamp in stamps], dtype=torch.float32)
    if not bool((times.diff() > 0).all()):
        raise DataError(
            f"{name}: {float(length):.6g} s with steps down to a ten-millionth of that; cut it where time jumps"
        )
    return times


def unevenness(stamps: Sequence[Fraction | int], unit: str) -> str:
    """Describe how far apart neighbouring frames are, as the end of a sentence."""
    steps = [float(after - before) for before, after in pairwise(stamps)]
    return f"{min(steps):.3g} to {max(steps):.3g} {unit} apart"
