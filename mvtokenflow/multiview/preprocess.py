"""Preprocessing of a clip to the square pictures on white that a multiview prior takes, and its inverse.

Era3D crops every picture by its own bounding box. On a video this makes the object jump and change size from
frame to frame, so one box is used for all frames unless the settings choose the original's behaviour.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.base.errors import DataError
from mvtokenflow.media.pictures import Pixels, to_uint8
from mvtokenflow.media.video import Clip
from mvtokenflow.multiview.config import SquareConfig


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Position of a square picture in its frame, in pixels; boxes may reach beyond the frame.

    Attributes:
        left, top, width, height: box in the frame.
        x, y, scaled_width, scaled_height: the box in the square picture.
        size: side of the square picture.
    """

    left: int
    top: int
    width: int
    height: int
    x: int
    y: int
    scaled_width: int
    scaled_height: int
    size: int

    def to_square(self, points: Tensor) -> Tensor:
        """Map points (..., 2) of the frame to the square picture; pixel centres at +0.5."""
        start, scale, corner = self._numbers(points)
        return (points - start) * scale + corner

    def to_frame(self, points: Tensor) -> Tensor:
        """Map points (..., 2) of the square picture to the frame; inverse of `to_square`."""
        start, scale, corner = self._numbers(points)
        return (points - corner) / scale + start

    def place(self, pictures: Tensor, height: int, width: int) -> Tensor:
        """Place square pictures (..., S, S, C) into frames (..., height, width, C); zero outside the box."""
        lead, channels = pictures.shape[:-3], pictures.shape[-1]
        inside = pictures[..., self.y : self.y + self.scaled_height, self.x : self.x + self.scaled_width, :]
        flat = inside.reshape(-1, *inside.shape[-3:]).permute(0, 3, 1, 2)
        flat = F.interpolate(flat, (self.height, self.width), mode="bilinear", antialias=True)
        # Negative padding cuts off what lies beyond the frame.
        right, bottom = width - self.left - self.width, height - self.top - self.height
        flat = F.pad(flat, (self.left, right, self.top, bottom))
        return flat.permute(0, 2, 3, 1).reshape(*lead, height, width, channels)

    def _numbers(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scale = (self.scaled_width / self.width, self.scaled_height / self.height)
        return (
            points.new_tensor((self.left, self.top)),
            points.new_tensor(scale),
            points.new_tensor((self.x, self.y)),
        )


@dataclass(frozen=True, kw_only=True)
class SquareClip:
    """T square pictures of a clip.

    Attributes:
        front: (T, S, S, 3) float32 in [0, 1], on white.
        alpha: (T, S, S, 1) float32 in [0, 1].
        crops: position of each in its frame; all equal unless cropped per frame.
    """

    front: Tensor
    alpha: Tensor
    crops: tuple[Crop, ...]


def square_clip(clip: Clip, config: SquareConfig) -> SquareClip:
    """Crop, scale (bicubic, premultiplied), centre and composite a clip over white.

    Raises:
        DataError: no pixel of the object in the clip, or in a frame if each is cropped by itself.
    """
    frames = to_uint8(torch.cat((clip.rgb, clip.alpha), dim=-1).numpy(), clip.name)
    crops = _crops(frames, clip.name, config)
    squares = np.stack([_square(frame, crop) for frame, crop in zip(frames, crops, strict=True)])
    rgb, alpha = squares[..., :3], squares[..., 3:]
    front = rgb * alpha + (1 - alpha)
    return SquareClip(front=torch.from_numpy(front), alpha=torch.from_numpy(alpha), crops=tuple(crops))


def _crops(frames: Pixels, name: str, config: SquareConfig) -> Sequence[Crop]:
    count, height, width = frames.shape[:3]
    if config.crop_size == -1:
        return [_whole(height, width, config.size)] * count
    covered = np.asarray(frames[..., 3] > 0)
    if not config.per_frame:
        return [_fitted(_box(np.asarray(covered.any(axis=0)), name), config.crop_size, config.size)] * count
    crops = []
    for index, mask in enumerate(covered):
        left, top, box_width, box_height = _box(mask, f"{name} frame {index}")
        if min(box_width, box_height) < 2:
            raise DataError(f"{name} frame {index}: the object is one pixel wide; crop all frames by one box")
        crops.append(_fitted((left, top, box_width - 1, box_height - 1), config.crop_size, config.size))
    return crops


def _box(mask: NDArray[np.bool_], name: str) -> tuple[int, int, int, int]:
    """Bounding box (left, top, width, height) of the set pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise DataError(f"{name}: alpha is 0 everywhere, no object to crop; mend the mask or leave it out")
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def _whole(height: int, width: int, size: int) -> Crop:
    """Crop that pads a frame to a square, an odd pixel to the right or below, and scales all of it."""
    side = max(height, width)
    return Crop(
        left=-((side - width) // 2),
        top=-((side - height) // 2),
        width=side,
        height=side,
        x=0,
        y=0,
        scaled_width=size,
        scaled_height=size,
        size=size,
    )


def _fitted(box: tuple[int, int, int, int], longer: int, size: int) -> Crop:
    """Crop that scales the longer side of a box to `longer` and centres it."""
    left, top, width, height = box
    scale = longer / max(width, height)
    scaled = max(int(scale * width), 1), max(int(scale * height), 1)
    return Crop(
        left=left,
        top=top,
        width=width,
        height=height,
        x=(size - scaled[0]) // 2,
        y=(size - scaled[1]) // 2,
        scaled_width=scaled[0],
        scaled_height=scaled[1],
        size=size,
    )


def _square(frame: Pixels, crop: Crop) -> NDArray[np.float32]:
    """Cut and scale one frame to (S, S, 4) in [0, 1], straight alpha.

    Pillow resizes RGBA premultiplied and pads crops transparently.
    """
    box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
    cut = (
        Image.fromarray(frame)
        .crop(box)
        .resize((crop.scaled_width, crop.scaled_height), Image.Resampling.BICUBIC)
    )
    canvas = Image.new("RGBA", (crop.size, crop.size))
    canvas.paste(cut, (crop.x, crop.y))
    return np.asarray(canvas, np.float32) / np.float32(255)
