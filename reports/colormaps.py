"""Colour maps: differences, normals, and flow in the colours of the Middlebury wheel.

The pictures are for display; nothing is measured on them. Pictures are (H, W, 3) uint8.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mvtokenflow.media.pictures import Pixels

Floats = NDArray[np.floating]

# Differences from this share of the range on have the last colour: of a rendering to the truth, and of a frame
# to the next one, which is finer.
FULL_HEAT, FULL_CHANGE = 0.5, 0.1
_RAMP = (160, 8)  # of a legend, pixels
_WHEEL = 65
_LEAST_FLOW_PX = 0.5  # of the rim of a wheel: noise of a still clip must not fill it
_RIM_QUANTILE = 0.95  # a few fast pixels must not make all others pale
_UNIT_FLOOR = 0.5  # shorter normals are "no surface"


def heat(values: Floats, full: float = FULL_HEAT) -> Pixels:
    """Map values (H, W) to colours from black (0) over red to pale yellow (`full` and above)."""
    levels = np.rint(np.clip(values / full, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1])


def heat_ramp() -> Pixels:
    """Draw the legend of `heat`, 0 on the left."""
    width, height = _RAMP
    return heat(np.broadcast_to(np.linspace(0, FULL_HEAT, width), (height, width)))


def difference(picture: Pixels, truth: Pixels) -> NDArray[np.float32]:
    """Return |picture − truth| (H, W) in [0, 1], the mean over the colours, on the grid of `truth`."""
    height, width = truth.shape[:2]
    if picture.shape != truth.shape:
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    apart: NDArray[np.float32] = np.abs(picture.astype(np.float32) - truth.astype(np.float32)).mean(axis=-1)
    return apart / np.float32(255)


def normal_picture(normal: Floats) -> Pixels:
    """Map unit normals (H, W, 3) to colours (n + 1) / 2, white where there is no surface."""
    solid = np.linalg.norm(normal, axis=-1, keepdims=True) > _UNIT_FLOOR
    levels = np.rint(np.clip((normal + 1) / 2, 0, 1) * 255).astype(np.uint8)
    return np.where(solid, levels, np.uint8(255))


def flow_rim(flows: Sequence[Floats]) -> float:
    """Return the flow length in pixels for the wheel's rim: near the maximum of `flows`, each (..., 2)."""
    lengths = np.concatenate([np.linalg.norm(flow, axis=-1).ravel() for flow in flows] or [np.zeros(1)])
    moving = lengths[lengths > 0]
    return max(_LEAST_FLOW_PX, float(np.quantile(moving, _RIM_QUANTILE)) if len(moving) else 0.0)


def flow_picture(flow: Floats, rim: float) -> Pixels:
    """Map flow (H, W, 2) in pixels (dx, dy) to the colours of the Middlebury wheel (Baker et al., IJCV 2011):
    white is no motion, full colour is `rim` pixels or more.
    """
    import torch  # after everything else: only pages with flow pay for it
    from torchvision.utils import flow_to_image

    length = np.linalg.norm(flow, axis=-1, keepdims=True)
    bounded = flow / np.maximum(length, rim)
    # torchvision divides by the longest vector of what it is given: a row of the rim's length is added.
    padded = np.concatenate([bounded, np.broadcast_to(np.array([1.0, 0.0]), (1, *flow.shape[1:]))])
    tensor = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1), np.float32))
    pixels: Pixels = flow_to_image(tensor).permute(1, 2, 0).numpy()[:-1]
    return np.ascontiguousarray(pixels)


def flow_wheel() -> Pixels:
    """Draw the legend of `flow_picture`: a disc with the colour of each direction."""
    axis = np.linspace(-1, 1, _WHEEL)
    x, y = np.meshgrid(axis, axis)
    disc = flow_picture(np.stack([x, y], axis=-1), 1.0)
    return np.where((x**2 + y**2 <= 1)[..., None], disc, np.uint8(255))
