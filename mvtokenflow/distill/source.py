"""The clip as a method that distils fits it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.views.cameras import Cameras


@dataclass(frozen=True, kw_only=True)
class Source:
    """Square pictures of the clip, the camera that sees them in the field's world, and their times.

    Attributes:
        front: (T, S, S, 3) in [0, 1] on white. alpha: (T, S, S, 1) in [0, 1].
        camera: (1,) of pictures of S pixels.
        times: (T,) increasing, in [0, 1] of the whole clip.

    Raises:
        ValueError: shapes that do not fit together.
    """

    front: Tensor
    alpha: Tensor
    camera: Cameras
    times: Tensor

    def __post_init__(self) -> None:
        frames, side = self.front.shape[0], self.front.shape[1]
        expected = ((frames, side, side, 3), (frames, side, side, 1), (frames,))
        if (tuple(self.front.shape), tuple(self.alpha.shape), tuple(self.times.shape)) != expected:
            raise ValueError(
                f"front {tuple(self.front.shape)}, alpha {tuple(self.alpha.shape)} and times "
                f"{tuple(self.times.shape)} do not fit together"
            )
        if len(self.camera) != 1 or (self.camera.width, self.camera.height) != (side, side):
            raise ValueError(f"the camera must be one of pictures of {side} pixels")

    def __len__(self) -> int:
        return int(self.front.shape[0])

    @property
    def size(self) -> int:
        """Side S of the pictures in pixels."""
        return int(self.front.shape[1])

    def sized(self, side: int) -> "Source":
        """Return the clip with pictures of another side, means over the pixels' areas where it is smaller."""
        if side == self.size:
            return self
        return replace(
            self,
            front=resized(self.front, side),
            alpha=resized(self.alpha, side),
            camera=sized_cameras(self.camera, side),
        )

    def to(self, device: torch.device | str) -> "Source":
        """Return the clip on another device."""
        return replace(
            self, front=self.front.to(device), alpha=self.alpha.to(device), camera=self.camera.to(device)
        )


def resized(pictures: Tensor, side: int) -> Tensor:
    """Resize square pictures (n, S, S, C): area means to a smaller side, bilinear to a larger one."""
    if pictures.shape[1] == side:
        return pictures
    first = pictures.movedim(-1, 1)
    if side < pictures.shape[1]:
        return F.interpolate(first, (side, side), mode="area").movedim(1, -1)
    return F.interpolate(first, (side, side), mode="bilinear", align_corners=False).movedim(1, -1)


def sized_cameras(cameras: Cameras, side: int) -> Cameras:
    """Return cameras of square pictures of another side that see the same."""
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., :2, :] *= side / cameras.width
    return replace(cameras, intrinsics=intrinsics, width=side, height=side)
