"""Reference Gaussian rasterizer, written for reading: every pixel meets every Gaussian, gradients by autograd.

Slow and memory-hungry; it defines what the fast backends must compute, in any floating type. The rules are
those of gsplat 1.5 (Ye et al. 2024): projection with an `eps2d` dilation, opacity-aware cull, alpha capped at
0.999, contributions below 1/255 skipped, a pixel closed before its transmittance would fall to 1e-4.
"""

import torch
from torch import Tensor

from mvtokenflow.splat.kernels.constants import (
    ALPHA_MAX,
    ALPHA_MIN,
    EXTENT_SIGMAS,
    FOV_MARGIN,
    TRANSMITTANCE_MIN,
)
from mvtokenflow.splat.kernels.projection import Projection
from mvtokenflow.splat.kernels.rotations import rotation_matrices
from mvtokenflow.views.cameras import CameraKind


def _jacobians(camera: Tensor, z: Tensor, intrinsics: Tensor, width: int, height: int) -> Tensor:
    """Derivative (C, N, 2, 3) of the pinhole pixel by the camera point, kept bounded outside the picture."""
    fx, fy = intrinsics[:, 0, 0, None], intrinsics[:, 1, 1, None]
    cx, cy = intrinsics[:, 0, 2, None], intrinsics[:, 1, 2, None]
    margin_x, margin_y = FOV_MARGIN * 0.5 * width / fx, FOV_MARGIN * 0.5 * height / fy
    slope_x = torch.clamp(camera[..., 0] / z, -(cx / fx + margin_x), (width - cx) / fx + margin_x)
    slope_y = torch.clamp(camera[..., 1] / z, -(cy / fy + margin_y), (height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    first = torch.stack([fx / z, zero, -fx * (z * slope_x) / z**2], dim=-1)
    second = torch.stack([zero, fy / z, -fy * (z * slope_y) / z**2], dim=-1)
    return torch.stack([first, second], dim=-2)


def _screen(
    means: Tensor,
    viewmats: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
    kind: CameraKind,
    planes: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute pixels (C, N, 2), camera z (C, N), Jacobians (C, N, 2, 3), and which are between the planes."""
    camera = means @ viewmats[:, :3, :3].transpose(1, 2) + viewmats[:, None, :3, 3]
    depths = camera[..., 2]
    visible = (depths >= planes[0]) & (depths <= planes[1])
    focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], dim=-1)[:, None]
    centre = intrinsics[:, None, :2, 2]
    if kind == "ortho":
        jacobians = torch.diag_embed(focal)[..., :2, :]
        jacobians = torch.cat([jacobians, torch.zeros_like(jacobians[..., :1])], dim=-1)
        return camera[..., :2] * focal + centre, depths, jacobians.expand(*depths.shape, 2, 3), visible
    z = torch.where(visible, depths, torch.ones_like(depths))  # no division by zero in culled entries
    jacobians = _jacobians(camera, z, intrinsics, width, height)
    return camera[..., :2] / z[..., None] * focal + centre, depths, jacobians, visible


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
    *,
    kind: CameraKind,
    near: float,
    far: float,
    eps2d: float,
    antialiased: bool,
) -> Projection:
    """Project N Gaussians into C cameras; differentiable in everything but the radii.

    Args:
        means, quats, scales, opacities: (N, 3), (N, 4) wxyz, (N, 3), (N,); activated values.
        viewmats: (C, 4, 4) world to camera, OpenCV axes. intrinsics: (C, 3, 3).
        width, height: picture size in pixels.
        kind: pinhole, or ortho with fx, fy in pixels per world unit.
        near, far: Gaussians with a camera z outside are culled.
        eps2d: added to the diagonal of the 2-D covariance, pixels².
        antialiased: scale opacities by the area that `eps2d` added.
    """
    planes = means.new_tensor([near, far])
    means2d, depths, jacobians, visible = _screen(means, viewmats, intrinsics, width, height, kind, planes)
    spread = rotation_matrices(quats) * scales[:, None, :]
    turned = jacobians @ viewmats[:, None, :3, :3] @ spread
    sharp = turned @ turned.transpose(-1, -2)
    cov_x, cov_y, cov_xy = sharp[..., 0, 0] + eps2d, sharp[..., 1, 1] + eps2d, sharp[..., 0, 1]
    det = cov_x * cov_y - cov_xy**2
    visible = visible & (det > 0)
    det = torch.where(visible, det, torch.ones_like(det))
    conics = torch.stack([cov_y, -cov_xy, cov_x], dim=-1) / det[..., None]
    view_opacities = opacities.expand(depths.shape)
    if antialiased:
        ratio = torch.det(sharp) / det
        positive = ratio > 0
        factor = torch.where(positive, torch.where(positive, ratio, torch.ones_like(ratio)).sqrt(), 0.0)
        view_opacities = view_opacities * factor
    with torch.no_grad():
        visible = visible & (view_opacities >= ALPHA_MIN)
        reach = torch.sqrt(2 * torch.log((view_opacities / ALPHA_MIN).clamp_min(1.0))).clamp_max(EXTENT_SIGMAS)
        box = torch.ceil(reach[..., None] * torch.stack([cov_x, cov_y], dim=-1).clamp_min(0).sqrt())
        size = means.new_tensor([width, height])
        visible = visible & ((means2d + box > 0) & (means2d - box < size)).all(-1)
        radii = torch.where(visible[..., None], box, torch.zeros_like(box)).to(torch.int32)
    shown = visible[..., None]
    return Projection(
        radii=radii,
        means2d=torch.where(shown, means2d, 0.0),
        depths=torch.where(visible, depths, 0.0),
        conics=torch.where(shown, conics, 0.0),
        opacities=torch.where(visible, view_opacities, 0.0),
    )


def composite_pixels(
    pixels: Tensor, means2d: Tensor, conics: Tensor, opacities: Tensor, colors: Tensor
) -> tuple[Tensor, Tensor]:
    """Blend Gaussians front to back at given points of one camera.

    Args:
        pixels: (P, 2) positions (x, y) in pixels.
        means2d, conics, opacities, colors: (N, 2), (N, 3), (N,), (N, D), nearest first.

    Returns:
        Colour (P, D) without background and final transmittance (P,).
    """
    dx = means2d[None, :, 0] - pixels[:, None, 0]
    dy = means2d[None, :, 1] - pixels[:, None, 1]
    power = 0.5 * (conics[:, 0] * dx * dx + conics[:, 2] * dy * dy) + conics[:, 1] * dx * dy
    alphas = (opacities * torch.exp(-power)).clamp_max(ALPHA_MAX)
    alphas = torch.where((power >= 0) & (alphas >= ALPHA_MIN), alphas, 0.0)
    behind = torch.cumprod(1 - alphas, dim=1)
    alphas = torch.where(
        behind > TRANSMITTANCE_MIN, alphas, 0.0
    )  # transmittance only falls: a closed pixel stays closed
    behind = torch.cumprod(1 - alphas, dim=1)
    ahead = torch.cat([behind.new_ones(len(behind), 1), behind], dim=1)
    return (alphas * ahead[:, :-1]) @ colors, ahead[:, -1]


def depth_order(depths: Tensor) -> Tensor:
    """Sort Gaussians from nearest to farthest; float32 depths, ties by index, as gsplat sorts."""
    return torch.argsort(depths.detach().to(torch.float32), dim=-1, stable=True)


def composite(
    projection: Projection, colors: Tensor, backgrounds: Tensor | None, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Blend projected Gaussians into pictures.

    Args:
        projection: N Gaussians in C cameras.
        colors: (C, N, D). backgrounds: (C, D), or None for zero.

    Returns:
        Colour (C, H, W, D) and alpha (C, H, W, 1).
    """
    x = torch.arange(width, device=colors.device, dtype=colors.dtype) + 0.5
    y = torch.arange(height, device=colors.device, dtype=colors.dtype) + 0.5
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
    pictures, clear = [], []
    for view in range(colors.shape[0]):
        seen = torch.nonzero((projection.radii[view] > 0).all(-1))[:, 0]
        order = seen[depth_order(projection.depths[view, seen])]
        blended, rest = composite_pixels(
            pixels,
            projection.means2d[view, order],
            projection.conics[view, order],
            projection.opacities[view, order],
            colors[view, order],
        )
        if backgrounds is not None:
            blended = blended + rest[:, None] * backgrounds[view]
        pictures.append(blended.reshape(height, width, -1))
        clear.append(rest.reshape(height, width, 1))
    return torch.stack(pictures), 1 - torch.stack(clear)
