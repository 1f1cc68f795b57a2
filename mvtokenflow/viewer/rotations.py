"""Unit quaternions in 32 bits: which component is largest, and the three others in 10 bits each."""

import numpy as np
from numpy.typing import NDArray

_LEVELS = 1023
_LARGEST_OTHER = np.sqrt(0.5)  # no component but the largest is longer


def pack_quaternions(quats: NDArray[np.floating]) -> NDArray[np.uint32]:
    """Pack quaternions (N, 4) wxyz of any length but 0 into (N,) numbers.

    Bits 30 and 31 are the index of the component of largest magnitude, which is taken positive; the others
    follow in order in bits 20 to 29, 10 to 19 and 0 to 9, from −√½ to √½ in 1023 steps.
    """
    unit = quats.astype(np.float64) / np.linalg.norm(quats, axis=1, keepdims=True)
    largest = np.abs(unit).argmax(axis=1)
    rows = np.arange(len(unit))
    unit *= np.where(unit[rows, largest] < 0, -1.0, 1.0)[:, None]
    others = unit[np.arange(4)[None] != largest[:, None]].reshape(-1, 3)
    steps = np.rint((others / _LARGEST_OTHER + 1) / 2 * _LEVELS).clip(0, _LEVELS).astype(np.uint32)
    packed: NDArray[np.uint32] = largest.astype(np.uint32) << np.uint32(30)
    packed |= steps[:, 0] << np.uint32(20) | steps[:, 1] << np.uint32(10) | steps[:, 2]
    return packed


def unpack_quaternions(packed: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Unpack (N,) numbers of `pack_quaternions` to unit quaternions (N, 4) wxyz."""
    largest = (packed >> np.uint32(30)).astype(np.int64)
    steps = np.stack([packed >> np.uint32(shift) & np.uint32(_LEVELS) for shift in (20, 10, 0)], axis=1)
    others = (steps.astype(np.float64) / _LEVELS * 2 - 1) * _LARGEST_OTHER
    quats = np.empty((len(packed), 4))
    quats[np.arange(4)[None] != largest[:, None]] = others.ravel()
    rest = np.sqrt(np.maximum(0.0, 1 - (others**2).sum(axis=1)))
    quats[np.arange(len(packed)), largest] = rest
    return quats
