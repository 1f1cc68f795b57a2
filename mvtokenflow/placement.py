"""The field in the place the object has in the video.

The prior sees a crop of the video, so a field lives in the crop's world: its front camera is orthographic and
spans [-1, 1] over the square picture. `cameras_in_field` lets the cameras of the video's own world see it, such
that the front view lies over the input. Nothing is fitted: the crop is known. The video's world must face its
input camera as the field does the prior's, or else normals would mean other directions in both.
"""

from dataclasses import replace

import torch

from mvtokenflow.cameras import Cameras, orbit
from mvtokenflow.multiview.preprocess import Crop


def faces_front(camera: Cameras) -> bool:
    """Whether one camera looks along the prior's front camera: level, from azimuth 0."""
    pose = camera.world_to_camera[:, :3, :3]
    front = orbit((0.0,), size=1, kind="ortho", radius=1.0).world_to_camera[:, :3, :3]
    return len(camera) == 1 and torch.allclose(pose, front.to(pose), atol=1e-5)


def cameras_in_field(cameras: Cameras, front: Cameras, crop: Crop) -> Cameras:
    """`cameras` of the video's world, moved into the field's world.

    A point X of the video's world lies at s X + t in the field's, so that a point seen at a pixel of the front
    camera is seen at the matching pixel of the square picture. t has no component along the viewing direction
    of the front camera, which a picture does not tell; s is the mean of the crop's two scales, which differ by
    rounding only.

    Args:
        cameras: (n,) of the video's world, any kind and picture size.
        front: (1,) camera that took the video, level and at azimuth 0 (`faces_front`). Of a pinhole camera the
            scale holds at the distance of the world's origin.
        crop: where the prior's square picture lies in the frames of `front`.

    Raises:
        ValueError: `front` is not one camera, or looks in another direction.
    """
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
    offset = pose[:3, :3].T @ shift  # t: the front camera's axes are the same in both worlds
    turned = cameras.world_to_camera[:, :3, :3]
    moved = cameras.world_to_camera.clone()
    moved[:, :3, 3] = scale * cameras.world_to_camera[:, :3, 3] - turned @ offset
    lenses = cameras.intrinsics.clone()
    if cameras.kind == "ortho":
        lenses[:, :2, :2] /= scale
    return replace(cameras, world_to_camera=moved, intrinsics=lenses)
