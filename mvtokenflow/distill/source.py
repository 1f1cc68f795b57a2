"""The clip as a method that distils fits it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.views.cameras import Cameras


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a field is compared with: pictures (T, H, W, 3) on white, alpha (T, H, W, 1), their camera (1,)."""

    rgb: Tensor
    alpha: Tensor
    camera: Cameras

    def __post_init__(self) -> None:
        grid = tuple(self.alpha.shape[:-1])
        if self.rgb.shape != (*grid, 3) or (self.camera.height, self.camera.width) != grid[1:]:
            raise ValueError(
                f"pictures {tuple(self.rgb.shape)}, alpha {tuple(self.alpha.shape)} and a camera of "
                f"{self.camera.width}x{self.camera.height} do not fit together"
            )


@dataclass(frozen=True, kw_only=True)
class Source:
    """Square pictures of the clip, the camera that sees them in the field's world, and their times.

    Attributes:
        front: (T, S, S, 3) in [0, 1] on white. alpha: (T, S, S, 1) in [0, 1].
        camera: (1,) of pictures of S pixels.
        times: (T,) increasing, in [0, 1] of the whole clip.
        own: the same frames at the clip's own resolution, that a field is compared with; None compares it with
            the square pictures.

    Raises:
        ValueError: shapes that do not fit together.
    """

    front: Tensor
    alpha: Tensor
    camera: Cameras
    times: Tensor
    own: Shown | None = None

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

    def sized(self, side: int) -> Shown:
        """Return the square pictures with another side, means over the pixels' areas where it is smaller."""
        camera = self.camera if side == self.size else sized_cameras(self.camera, side)
        return Shown(rgb=resized(self.front, side), alpha=resized(self.alpha, side), camera=camera)

    def compared(self, side: int) -> Shown:
        """Return what a field is compared with in steps whose views have a side: the clip's own resolution.

        In steps with smaller views than the square pictures, these are compared, as small as the views.
        """
        return self.own if self.own is not None and side >= self.size else self.sized(side)

    def to(self, device: torch.device | str) -> "Source":
        """Return the clip on another device."""
        own = self.own
        if own is not None:
            own = Shown(rgb=own.rgb.to(device), alpha=own.alpha.to(device), camera=own.camera.to(device))
        return replace(
            self,
            front=self.front.to(device),
            alpha=self.alpha.to(device),
            camera=self.camera.to(device),
            own=own,
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
