"""Cameras in one convention, and conversions from and to other projects' conventions.

OpenCV camera axes (x right, y down, z forward), `world_to_camera` maps world points to camera
points, pixel centres lie at +0.5. The world has Z up; the front camera stands on −Y looking along +Y.
Azimuth grows counter-clockwise seen from above, so that the camera moves towards image right;
elevation is positive above the horizon.

| convention             | pose            | camera axes | world                    | elevation above |
| ---                    | ---             | ---         | ---                      | ---             |
| here                   | world-to-camera | OpenCV      | Z up, azimuth 0 at −Y    | positive        |
| Era3D `fixed_poses`    | world-to-camera | OpenGL      | as here                  | positive        |
| Blender, NeRF          | camera-to-world | OpenGL      | as here                  | positive        |
| threestudio            | camera-to-world | OpenGL      | Z up, azimuth 0 at +X    | positive        |
| DreamGaussian, LGM     | camera-to-world | OpenGL      | Y up, azimuth 0 at +Z    | negative        |

OpenGL camera axes are x right, y up, z backward. In all conventions a growing azimuth moves the camera to its
own right. The functions `from_*` and `to_*` convert poses; intrinsics do not depend on the convention.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError

CameraKind = Literal["pinhole", "ortho"]

# Views that published models generate, in the order of their outputs.
ERA3D_AZIMUTHS_DEG = (0.0, 45.0, 90.0, 180.0, 270.0, 315.0)  # ortho, elevation 0, half-width 1
ZERO123PLUS_AZIMUTHS_DEG = (30.0, 90.0, 150.0, 210.0, 270.0, 330.0)
ZERO123PLUS_ELEVATIONS_DEG = (30.0, -20.0, 30.0, -20.0, 30.0, -20.0)  # v1.1; absolute: 0 is level

# Rotations from other worlds to this one, world points as columns.
_THREESTUDIO_WORLD = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
_DREAMGAUSSIAN_WORLD = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
_BLENDER_WORLD = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


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
        if self.world_to_camera.ndim == 2:
            raise TypeError("one camera without a batch has no length; give its matrices a leading size of 1")
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

    @property
    def centres(self) -> Tensor:
        """Camera positions (..., 3) in the world."""
        rotation, translation = self.world_to_camera[..., :3, :3], self.world_to_camera[..., :3, 3]
        return -(rotation.transpose(-1, -2) @ translation[..., None])[..., 0]

    def pixel_size(self) -> Tensor:
        """World units (...,) per pixel; for a pinhole camera at the distance of the world's origin."""
        focal = (self.intrinsics[..., 0, 0] + self.intrinsics[..., 1, 1]) / 2
        return (1.0 if self.kind == "ortho" else self.world_to_camera[..., :3, 3].norm(dim=-1)) / focal

    def to(self, device: torch.device | str) -> "Cameras":
        """Return the cameras on another device."""
        poses, lenses = self.world_to_camera.to(device), self.intrinsics.to(device)
        return replace(self, world_to_camera=poses, intrinsics=lenses)

    def enlarged(self, factor: int) -> "Cameras":
        """Return the cameras with `factor` x `factor` pixels in place of each pixel."""
        intrinsics = self.intrinsics.clone()
        intrinsics[..., :2, :] *= factor
        return replace(self, intrinsics=intrinsics, width=self.width * factor, height=self.height * factor)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able fields of a batch (n,); `from_dict` restores equal cameras."""
        return {
            "kind": self.kind,
            "width": self.width,
            "height": self.height,
            "world_to_camera": self.world_to_camera.tolist(),
            "intrinsics": self.intrinsics.tolist(),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], name: str = "cameras") -> "Cameras":
        """Build float32 cameras from the fields of `to_dict`; `name` names them in messages.

        Raises:
            DataError: a missing or unknown field, a wrong shape or type, poses that are not rigid,
                sizes or focal lengths that are not positive.
        """
        known = {"kind", "width", "height", "world_to_camera", "intrinsics"}
        if set(fields) != known:
            raise DataError(f"{name}: has the fields {sorted(fields)}; expected exactly {sorted(known)}")
        if fields["kind"] not in ("pinhole", "ortho"):
            raise DataError(f"{name}: kind is {fields['kind']!r}; expected 'pinhole' or 'ortho'")
        for side in ("width", "height"):
            if not isinstance(fields[side], int) or fields[side] < 1:
                raise DataError(f"{name}: {side} is {fields[side]!r}; expected a whole number of pixels")
        poses = _matrices(fields["world_to_camera"], 4, f"{name}: world_to_camera")
        intrinsics = _matrices(fields["intrinsics"], 3, f"{name}: intrinsics")
        if len(poses) != len(intrinsics):
            raise DataError(f"{name}: {len(poses)} poses and {len(intrinsics)} intrinsics; give one each")
        if not _is_rigid(poses):
            raise DataError(f"{name}: world_to_camera is not a rotation and a translation; remove any scale")
        if (intrinsics[:, (0, 1), (0, 1)] <= 0).any():
            raise DataError(f"{name}: a focal length is not positive; expected OpenCV axes, y down")
        return cls(
            world_to_camera=poses,
            intrinsics=intrinsics,
            width=fields["width"],
            height=fields["height"],
            kind=fields["kind"],
        )

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Project world points to pixels and depths.

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
    """Place square cameras on a sphere around the origin, looking at it with Z up.

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


def from_era3d(world_to_camera: Tensor) -> Tensor:
    """Convert Era3D's poses (..., 3, 4), as in its `fixed_poses/*.txt`, to ours (..., 4, 4)."""
    bottom = world_to_camera.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*world_to_camera.shape[:-2], 1, 4)
    return _flip_axes(torch.cat((world_to_camera[..., :3, :], bottom), -2))


def to_era3d(world_to_camera: Tensor) -> Tensor:
    """Convert our poses (..., 4, 4) to Era3D's (..., 3, 4)."""
    return _flip_axes(world_to_camera)[..., :3, :]


def from_blender(camera_to_world: Tensor) -> Tensor:
    """Convert Blender's `matrix_world` or NeRF's `transform_matrix`, unscaled, to our poses (..., 4, 4)."""
    return _from_opengl(camera_to_world, _BLENDER_WORLD)


def to_blender(world_to_camera: Tensor) -> Tensor:
    """Convert our poses to Blender's and NeRF's camera-to-world (..., 4, 4)."""
    return _to_opengl(world_to_camera, _BLENDER_WORLD)


def from_threestudio(camera_to_world: Tensor) -> Tensor:
    """Convert threestudio's `c2w` to our poses (..., 4, 4); azimuth and elevation are equal in both."""
    return _from_opengl(camera_to_world, _THREESTUDIO_WORLD)


def to_threestudio(world_to_camera: Tensor) -> Tensor:
    """Convert our poses to threestudio's camera-to-world (..., 4, 4)."""
    return _to_opengl(world_to_camera, _THREESTUDIO_WORLD)


def from_dreamgaussian(camera_to_world: Tensor) -> Tensor:
    """Convert poses of DreamGaussian's `orbit_camera(elevation, azimuth)` to ours (..., 4, 4).

    LGM, SC4D, STAG4D and DG4D use the same function. Their elevation is negative above the horizon:
    `orbit_camera(e, a)` is `orbit([a], -e)` here.
    """
    return _from_opengl(camera_to_world, _DREAMGAUSSIAN_WORLD)


def to_dreamgaussian(world_to_camera: Tensor) -> Tensor:
    """Convert our poses to DreamGaussian's camera-to-world (..., 4, 4)."""
    return _to_opengl(world_to_camera, _DREAMGAUSSIAN_WORLD)


def _from_opengl(camera_to_world: Tensor, world: Sequence[Sequence[float]]) -> Tensor:
    """Convert OpenGL camera-to-world to our world-to-camera; `world` rotates points of theirs into ours."""
    if not _is_rigid(camera_to_world):
        raise ValueError("camera_to_world must be (..., 4, 4), a rotation and a translation without scale")
    rotation = camera_to_world.new_tensor(world)
    turned = camera_to_world.clone()
    turned[..., :3, :] = rotation @ camera_to_world[..., :3, :]
    return _flip_axes(_inverse(turned))


def _to_opengl(world_to_camera: Tensor, world: Sequence[Sequence[float]]) -> Tensor:
    theirs = _inverse(_flip_axes(world_to_camera))
    theirs[..., :3, :] = theirs.new_tensor(world).T @ theirs[..., :3, :]
    return theirs


def _flip_axes(world_to_camera: Tensor) -> Tensor:
    """Convert OpenCV camera axes to OpenGL's or back: y and z change sign."""
    return world_to_camera * world_to_camera.new_tensor([1.0, -1.0, -1.0, 1.0])[:, None]


def _inverse(rigid: Tensor) -> Tensor:
    inverse = rigid.clone()
    inverse[..., :3, :3] = rigid[..., :3, :3].transpose(-1, -2)
    inverse[..., :3, 3] = -(inverse[..., :3, :3] @ rigid[..., :3, 3:])[..., 0]
    return inverse


def _is_rigid(matrices: Tensor) -> bool:
    """Return whether matrices (..., 4, 4) are rotations and translations, to the four digits of pose files."""
    if matrices.shape[-2:] != (4, 4):
        return False
    rotation = matrices[..., :3, :3].double()
    gram = rotation @ rotation.transpose(-1, -2) - torch.eye(3, dtype=torch.float64, device=matrices.device)
    bottom = matrices[..., 3, :] == matrices.new_tensor([0.0, 0.0, 0.0, 1.0])
    return bool((gram.abs() < 1e-3).all() and (torch.linalg.det(rotation) > 0).all() and bottom.all())


def _matrices(value: Any, size: int, name: str) -> Tensor:
    try:
        matrices = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise DataError(
            f"{name}: not numbers in equal rows ({error}); give n matrices {size}x{size}"
        ) from error
    if matrices.ndim != 3 or matrices.shape[1:] != (size, size) or not len(matrices):
        raise DataError(f"{name}: has shape {tuple(matrices.shape)}; give n matrices {size}x{size}")
    if not matrices.isfinite().all():
        raise DataError(f"{name}: holds NaN or infinite values; write the poses again")
    return matrices
