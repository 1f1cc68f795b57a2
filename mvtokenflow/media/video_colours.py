"""Conversion of HDR and wide-gamut colours to sRGB (ITU-R BT.2100, BT.2020, SMPTE EG 432-1, IEC 61966-2-1).

Light is relative to diffuse white: 203 nits in HDR (ITU-R BT.2408), full scale in SDR. Brighter light is
clipped to white, and colours outside sRGB are clipped per primary.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.media.pictures import Pixels

Light = NDArray[np.float32]

# Code points of ISO/IEC 23091-2, by the names that FFmpeg prints.
UNSPECIFIED, BT709, SRGB, BT2020 = 2, 1, 13, 9
HDR = {16: "smpte2084", 18: "arib-std-b67"}
ODD_TRANSFERS = {8: "linear", 9: "log100", 10: "log316", 12: "bt1361e", 17: "smpte428"}
ODD_PRIMARIES = {4: "bt470m", 8: "film", 10: "smpte428"}
WIDE = {9: "bt2020", 11: "smpte431", 12: "smpte432"}
LAST_TRANSFER = 18

DIFFUSE_WHITE_NITS = 203.0
_HLG_PEAK_NITS = 1000.0
_LEVELS = 2**16

_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_CHROMATICITIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: _P3,
    12: _P3,
}
_D65 = (0.3127, 0.3290)


def to_srgb(coded: NDArray[np.uint16], transfer: int, primaries: int) -> Pixels:
    """Convert R'G'B' (H, W, 3) in 16 bits to sRGB uint8 (H, W, 3).

    Args:
        transfer: code point of HDR; any other is SDR, whose transfer is kept, so that greys stay as they are.
        primaries: code point in WIDE, or BT.709's.
    """
    light = _decoded(transfer)[coded]
    if transfer == 18:  # HLG is what the camera saw; the display's gamma of 1.2 works on luminance
        luminance = light @ _to_xyz(BT2020)[1].astype(np.float32)
        light = light * (luminance[..., None] ** np.float32(0.2)) * (_HLG_PEAK_NITS / DIFFUSE_WHITE_NITS)
    matrix = np.linalg.inv(_to_xyz(BT709)) @ _to_xyz(primaries)
    light = np.clip(light @ matrix.T.astype(np.float32), 0, 1)
    steps: Light = light * (_LEVELS - 1) + 0.5
    coded_again: Pixels = _encoded(transfer)[steps.astype(np.uint16)]
    return coded_again


@lru_cache(maxsize=8)
def _decoded(transfer: int) -> Light:
    """Table of light by code value, (65536,)."""
    code = np.linspace(0, 1, _LEVELS)
    if transfer == 16:
        power = code ** (32 / 2523)
        ratio = np.maximum(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)
        light = 10000 / DIFFUSE_WHITE_NITS * ratio ** (16384 / 2610)
    elif transfer == 18:
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    elif transfer == SRGB:
        light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    else:
        light = np.where(code < 0.081, code / 4.5, ((code + 0.099) / 1.099) ** (1 / 0.45))
    return light.astype(np.float32)


@lru_cache(maxsize=8)
def _encoded(transfer: int) -> Pixels:
    """Table of 8-bit levels by light, (65536,): by BT.709's own transfer if the source has it, else sRGB's."""
    light = np.linspace(0, 1, _LEVELS)
    if transfer in HDR or transfer == SRGB:
        code = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    else:
        code = np.where(light < 0.018, light * 4.5, 1.099 * light**0.45 - 0.099)
    levels: Pixels = np.rint(code * 255).astype(np.uint8)
    return levels


@lru_cache(maxsize=8)
def _to_xyz(primaries: int) -> NDArray[np.float64]:
    """Matrix (3, 3) from light to CIE XYZ; white is D65 for all, (1, 1, 1) has luminance 1."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in _CHROMATICITIES[primaries]]).T
    x, y = _D65
    weights: NDArray[np.float64] = np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y]))
    return columns * weights
