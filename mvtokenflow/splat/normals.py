"""Normal maps from rendered depth, compared by the normal loss (paper section 3.2)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.views.cameras import Cameras

MIN_ALPHA = 0.9


def normals_from_depth(
    depth: Tensor, alpha: Tensor, cameras: Cameras, *, min_alpha: float = MIN_ALPHA
) -> tuple[Tensor, Tensor]:
    """Compute world normals of the surface in a depth map by central differences of its points.

    Expected depth mixes the object with whatever lies behind its outline, so a pixel counts only if it and its
    four neighbours are at least `min_alpha` opaque; the outermost pixels of the picture never count. The error
    is second order in the pixel's size on smooth surfaces; across an inner outline, where depth jumps, the
    normal is that of the jump. Agrees with gsplat's depth normals (pinhole), and is the same for ortho.

    Args:
        depth: (C, H, W, 1) expected depth, the camera z in world units; the gradient flows to it.
        alpha: (C, H, W, 1) in [0, 1]. cameras: C cameras of H x W pixels.

    Returns:
        normal (C, H, W, 3), unit, world frame, towards the camera, 0 where not valid; valid (C, H, W) bool.

    Raises:
        ValueError: shapes that do not fit together.
    """
    expected = (len(cameras), cameras.height, cameras.width, 1)
    if tuple(depth.shape) != expected or depth.shape != alpha.shape:
        raise ValueError(
            f"depth {tuple(depth.shape)} and alpha {tuple(alpha.shape)} must both be {expected} here"
        )
    points = _points(depth, cameras)
    across = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    opaque = alpha[..., 0] >= min_alpha
    valid = opaque[:, 1:-1, 1:-1] & opaque[:, 1:-1, 2:] & opaque[:, 1:-1, :-2]
    valid = valid & opaque[:, 2:, 1:-1] & opaque[:, :-2, 1:-1]
    # A vector of any length but 0 where nothing is seen: the gradient of its length would be NaN there.
    normal = F.normalize(torch.where(valid[..., None], torch.linalg.cross(down, across), 1.0), dim=-1)
    normal = torch.where(valid[..., None], normal, 0.0)
    normal = torch.einsum("chwi,cij->chwj", normal, cameras.world_to_camera[:, :3, :3].to(normal))
    return F.pad(normal, (0, 0, 1, 1, 1, 1)), F.pad(valid, (1, 1, 1, 1))


def _points(depth: Tensor, cameras: Cameras) -> Tensor:
    """Unproject depth to points (C, H, W, 3) in camera axes, through the pixels' centres."""
    intrinsics = cameras.intrinsics.to(depth)
    fx, fy, cx, cy = (intrinsics[:, i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    z = depth[..., 0]
    x = (torch.arange(cameras.width, device=z.device, dtype=z.dtype) + 0.5 - cx) / fx
    y = (torch.arange(cameras.height, device=z.device, dtype=z.dtype)[:, None] + 0.5 - cy) / fy
    x, y = x.expand_as(z), y.expand_as(z)
    return torch.stack((x, y, z) if cameras.kind == "ortho" else (x * z, y * z, z), -1)
