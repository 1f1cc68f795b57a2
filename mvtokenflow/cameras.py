"""Cameras in one convention, and the conversions from everybody else's.

OpenCV camera axes (x right, y down, z forward), `world_to_camera` maps world points to camera
points, pixel centres lie at +0.5. The world has Z up; the front camera stands on −Y looking along +Y.
Azimuth grows counter-clockwise seen from above, so that the camera moves towards image right;
elevation is positive above the horizon.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

CameraKind = Literal["pinhole", "ortho"]


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """A batch of cameras of one kind and one picture size.

    Attributes:
        world_to_camera: (..., 4, 4) rigid transforms, OpenCV camera axes.
        intrinsics: (..., 3, 3). Pinhole: focal lengths in pixels. Ortho: fx, fy in pixels per world
            unit. cx, cy in pixels.
        width, height: picture size in pixels.
        kind: "pinhole" or "ortho".
    """

    world_to_camera: Tensor
    intrinsics: Tensor
    width: int
    height: int
    kind: CameraKind

    def __post_init__(self) -> None:
        batch = self.world_to_camera.shape[:-2]
        if self.world_to_camera.shape[-2:] != (4, 4) or self.intrinsics.shape != (*batch, 3, 3):
            raise ValueError(
                "world_to_camera must be (..., 4, 4) and intrinsics (..., 3, 3) with equal leading sizes, got "
                f"{tuple(self.world_to_camera.shape)} and {tuple(self.intrinsics.shape)}"
            )
        if self.kind not in ("pinhole", "ortho"):
            raise ValueError(f"camera kind is pinhole or ortho, got {self.kind!r}")

    def __len__(self) -> int:
        return int(self.world_to_camera.shape[0])

    def __getitem__(self, index: int | slice | Sequence[int]) -> "Cameras":
        keep = [index] if isinstance(index, int) else index
        return Cameras(
            world_to_camera=self.world_to_camera[keep],
            intrinsics=self.intrinsics[keep],
            width=self.width,
            height=self.height,
            kind=self.kind,
        )

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Project world points.

        Args:
            points: (..., n, 3) world points; leading sizes broadcast against the camera batch.

        Returns:
            pixels (..., n, 2) as (x, y) with pixel centres at +0.5, and depth (..., n), the camera z.
        """
        rotation, translation = self.world_to_camera[..., :3, :3], self.world_to_camera[..., :3, 3]
        camera = points @ rotation.transpose(-1, -2) + translation[..., None, :]
        depth = camera[..., 2]
        plane = camera[..., :2] if self.kind == "ortho" else camera[..., :2] / depth[..., None]
        focal = torch.stack((self.intrinsics[..., 0, 0], self.intrinsics[..., 1, 1]), -1)
        centre = self.intrinsics[..., :2, 2]
        return plane * focal[..., None, :] + centre[..., None, :], depth


def orbit(
    azimuth_deg: Sequence[float],
    elevation_deg: float | Sequence[float] = 0.0,
    *,
    size: int,
    kind: CameraKind,
    radius: float,
    half_width: float = 1.0,
    fov_deg: float = 49.1,
    dtype: torch.dtype = torch.float32,
) -> Cameras:
    """Square cameras on a sphere around the origin, looking at it with Z up.

    Args:
        azimuth_deg: n azimuths; 0 is the front camera on −Y.
        elevation_deg: one elevation or n of them, strictly within ±90.
        size: width and height in pixels.
        radius: distance from the origin in world units.
        half_width: ortho only, the world half-width that fills the picture.
        fov_deg: pinhole only, the full vertical field of view.
    """
    elevations = [elevation_deg] * len(azimuth_deg) if isinstance(elevation_deg, int | float) else elevation_deg
    azimuth = torch.deg2rad(torch.tensor(list(azimuth_deg), dtype=torch.float64))
    elevation = torch.deg2rad(torch.tensor(list(elevations), dtype=torch.float64))
    sin_a, cos_a, sin_e, cos_e = azimuth.sin(), azimuth.cos(), elevation.sin(), elevation.cos()
    zero = torch.zeros_like(azimuth)
    backward = torch.stack((sin_a * cos_e, -cos_a * cos_e, sin_e), -1)  # from the origin to the camera
    right = torch.stack((cos_a, sin_a, zero), -1)
    down = torch.cross(-backward, right, dim=-1)
    world_to_camera = torch.eye(4, dtype=torch.float64).repeat(len(azimuth_deg), 1, 1)
    world_to_camera[:, :3, :3] = torch.stack((right, down, -backward), -2)
    world_to_camera[:, 2, 3] = radius
    if kind == "ortho":
        focal = size / (2 * half_width)
    else:
        focal = size / (2 * float(torch.tan(torch.deg2rad(torch.tensor(fov_deg, dtype=torch.float64)) / 2)))
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=torch.float64)
    return Cameras(
        world_to_camera=world_to_camera.to(dtype),
        intrinsics=intrinsics.repeat(len(azimuth_deg), 1, 1).to(dtype),
        width=size,
        height=size,
        kind=kind,
    )
