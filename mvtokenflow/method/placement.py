"""Maps cameras between the video's world and the field's world, which is the world of the prior's crop.

The prior sees a crop of the video, so a field lives in the crop's world: its front camera is orthographic and
spans [-1, 1] over the square picture. `cameras_in_field` lets the cameras of the video's own world see it, such
that the front view lies over the input. Nothing is fitted: the crop is known. The video's world must face its
input camera as the field does the prior's, or else normals would mean other directions in both.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from mvtokenflow.multiview.preprocess import Crop
from mvtokenflow.views.cameras import Cameras, orbit

_RADIUS = 3.0  # of assumed cameras; orthographic, so that it does not matter


def faces_front(camera: Cameras) -> bool:
    """Return whether one camera looks along the prior's front camera: level, from azimuth 0."""
    pose = camera.world_to_camera[:, :3, :3]
    front = orbit((0.0,), size=1, kind="ortho", radius=1.0).world_to_camera[:, :3, :3]
    return len(camera) == 1 and torch.allclose(pose, front.to(pose), atol=1e-5)


def assumed_camera(height: int, width: int, azimuth_deg: float = 0.0, elevation_deg: float = 0.0) -> Cameras:
    """Return the camera assumed where none is known: orthographic, 2 units along the longer side."""
    cameras = orbit((azimuth_deg,), (elevation_deg,), size=max(height, width), kind="ortho", radius=_RADIUS)
    lenses = cameras.intrinsics.clone()
    lenses[:, 0, 2], lenses[:, 1, 2] = width / 2, height / 2
    return replace(cameras, intrinsics=lenses, width=width, height=height)


def square_window(crop: Crop, height: int, width: int) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of the frame's pixels that the square picture shows, edges included.

    The part of the square beyond the frame is left out, since nothing is known there.
    """
    corners = crop.to_frame(torch.tensor([[0.0, 0.0], [crop.size, crop.size]], dtype=torch.float64))
    (left, top), (right, bottom) = corners.tolist()
    sides = (math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
    return max(sides[0], 0), max(sides[1], 0), min(sides[2], width), min(sides[3], height)


def cut(cameras: Cameras, window: tuple[int, int, int, int]) -> Cameras:
    """Return the cameras of a window (left, top, right, bottom) of the cameras' pictures."""
    left, top, right, bottom = window
    lenses = cameras.intrinsics.clone()
    lenses[:, 0, 2] -= left
    lenses[:, 1, 2] -= top
    return replace(cameras, intrinsics=lenses, width=right - left, height=bottom - top)


def squared(cameras: Cameras, crop: Crop) -> Cameras:
    """Return the cameras of the square pictures that `crop` cuts from the cameras' pictures."""
    lenses = cameras.intrinsics.clone()
    scale = lenses.new_tensor((crop.scaled_width / crop.width, crop.scaled_height / crop.height))
    lenses[:, :2, 2] = crop.to_square(lenses[:, :2, 2])
    lenses[:, :2, :2] *= scale[:, None]
    return replace(cameras, intrinsics=lenses, width=crop.size, height=crop.size)


def cameras_in_field(cameras: Cameras, front: Cameras, crop: Crop) -> Cameras:
    """Map cameras from the video's world into the field's world.

    A point X of the video's world lies at s X + t in the field's, so that a point seen at a pixel of the front
    camera is seen at the matching pixel of the square picture. t has no component along the viewing direction
    of the front camera, which a picture does not show; s is the mean of the crop's two scales, which differ by
    rounding only.

    Args:
        cameras: (n,) of the video's world, any kind and picture size.
        front: (1,) camera that took the video, level and at azimuth 0 (`faces_front`). Of a pinhole camera the
            scale holds at the distance of the world's origin.
        crop: where the prior's square picture lies in the frames of `front`.

    Raises:
        ValueError: `front` is not one camera, or looks in another direction.
    """
    return _moved(cameras, *_similarity(front, crop))


def cameras_in_video(cameras: Cameras, front: Cameras, crop: Crop) -> Cameras:
    """Map cameras from the field's world into the video's world; the inverse of `cameras_in_field`.

    Args and errors as there. In the video's world they see what `cameras` see of the field.
    """
    scale, offset = _similarity(front, crop)
    return _moved(cameras, 1 / scale, -offset / scale)


def _similarity(front: Cameras, crop: Crop) -> tuple[float, Tensor]:
    """Return s and t of `cameras_in_field`."""
    if not faces_front(front):
        raise ValueError("front must be one camera, level and at azimuth 0")
    pose, lens = front.world_to_camera[0], front.intrinsics[0]
    depth = 1.0 if front.kind == "ortho" else float(pose[2, 3])
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)  # of the camera plane, world units
    pixels = corners * (lens[[0, 1], [0, 1]].double() / depth) + lens[:2, 2].double()
    half = crop.size / 2
    placed = (crop.to_square(pixels) - half) / half
    scale = float((placed[1] - placed[0]).mean())
    shift = torch.zeros(3, dtype=pose.dtype)
    shift[:2] = placed[0].to(pose.dtype)
    shift[:2] += scale * pose[:2, 3]
    return scale, pose[:3, :3].T @ shift  # t: the front camera's axes are the same in both worlds


def _moved(cameras: Cameras, scale: float, offset: Tensor) -> Cameras:
    """Return cameras that see scale X + offset where `cameras` see X."""
    turned = cameras.world_to_camera[:, :3, :3]
    moved = cameras.world_to_camera.clone()
    moved[:, :3, 3] = scale * cameras.world_to_camera[:, :3, 3] - turned @ offset
    lenses = cameras.intrinsics.clone()
    if cameras.kind == "ortho":
        lenses[:, :2, :2] /= scale
    return replace(cameras, world_to_camera=moved, intrinsics=lenses)
