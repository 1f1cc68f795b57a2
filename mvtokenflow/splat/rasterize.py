"""Differentiable Gaussian rasterization: one interface to gsplat on CUDA and to compiled kernels on the CPU.

Conventions are gsplat's: activated values, wxyz quaternions, world-to-camera OpenCV poses, pixel centres at
+0.5, an ortho camera has fx, fy in pixels per world unit. Results of the backends agree to rounding.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.splat.kernels import cpu, reference
from mvtokenflow.splat.kernels.constants import MAX_DEGREE
from mvtokenflow.splat.kernels.sh import sh_colors
from mvtokenflow.views.cameras import CameraKind

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
RasterizeMode = Literal["classic", "antialiased"]
Backend = Literal["auto", "cpu", "gsplat", "reference"]

_ALPHA_FLOOR = 1e-10  # lower bound of the divisor in expected depth: pixels nothing reaches have depth 0
_CHOICES: dict[str, tuple[str, ...]] = {
    "camera_model": ("pinhole", "ortho"),
    "render_mode": ("RGB", "D", "ED", "RGB+D", "RGB+ED"),
    "rasterize_mode": ("classic", "antialiased"),
    "backend": ("auto", "cpu", "gsplat", "reference"),
}


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,  # noqa: N803 - the field's name for intrinsics
    width: int,
    height: int,
    *,
    camera_model: CameraKind = "pinhole",
    render_mode: RenderMode = "RGB",
    backgrounds: Tensor | None = None,
    rasterize_mode: RasterizeMode = "classic",
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Render N Gaussians into C cameras.

    Args:
        means: (N, 3) centres in the world.
        quats: (N, 4) wxyz, any non-zero length.
        scales: (N, 3) standard deviations in world units.
        opacities: (N,) in [0, 1].
        colors: any D features, (N, D) or per view (C, N, D); with `sh_degree`, spherical-harmonic
            coefficients (N, K, 3) or (C, N, K, 3).
        viewmats: (C, 4, 4) world to camera. Ks: (C, 3, 3). Both without gradient on the CPU backend.
        width, height: picture size in pixels.
        camera_model: pinhole, or ortho with fx, fy in pixels per world unit (z only orders and culls).
        render_mode: colours (RGB), accumulated depth Σ w z (D), expected depth Σ w z / alpha (ED), or
            colours with a depth as last channel.
        backgrounds: (C, D); none is zero. Depth never has a background.
        rasterize_mode: antialiased scales opacities by the area that `eps2d` added.
        near_plane, far_plane: Gaussians whose camera z is outside are culled; near_plane is 0 or more.
        eps2d: added to the diagonal of the projected covariance, pixels².
        sh_degree: 0 to 3, the highest band used; None takes `colors` as they are.
        backend: auto is gsplat for CUDA tensors and the compiled kernels for CPU tensors; reference is
            the readable dense one, for tests.

    Returns:
        render (C, H, W, D'), alpha (C, H, W, 1) and meta: radii (C, N, 2) int32 with 0 where culled, means2d
        (C, N, 2), depths (C, N), conics (C, N, 3), opacities (C, N), width, height, n_cameras. A
        backward pass sets `meta["means2d"].grad` and, except with the reference,
        `meta["means2d"].absgrad`, the sum over pixels of absolute gradients.

    Raises:
        DataError: shapes, types or devices do not fit together, or there is no camera.
        ConfigError: an unknown option, one out of range, or a backend this machine or input cannot run.
    """
    options = {
        "camera_model": camera_model,
        "render_mode": render_mode,
        "rasterize_mode": rasterize_mode,
        "backend": backend,
    }
    _check_options(options, sh_degree, width, height, near_plane)
    _check_shapes(means, quats, scales, opacities, colors, viewmats, Ks, backgrounds, sh_degree, render_mode)
    if backend == "auto":
        backend = "gsplat" if means.is_cuda else "cpu"
    if backend == "gsplat" and not means.is_cuda:
        raise ConfigError("backend 'gsplat' runs on CUDA tensors only; move them to a GPU or use backend 'cpu'")
    if backend == "gsplat":
        return _with_gsplat(
            means,
            quats,
            scales,
            opacities,
            colors,
            viewmats,
            Ks,
            width,
            height,
            camera_model=camera_model,
            render_mode=render_mode,
            backgrounds=backgrounds,
            rasterize_mode=rasterize_mode,
            near_plane=near_plane,
            far_plane=far_plane,
            eps2d=eps2d,
            sh_degree=sh_degree,
        )
    if backend == "cpu" and means.is_cuda:
        raise ConfigError("backend 'cpu' was asked for with CUDA tensors; move them to the CPU or use 'auto'")
    engine = cpu if backend == "cpu" else reference
    seen = engine.project(
        means,
        quats,
        scales,
        opacities,
        viewmats,
        Ks,
        width,
        height,
        kind=camera_model,
        near=near_plane,
        far=far_plane,
        eps2d=eps2d,
        antialiased=rasterize_mode == "antialiased",
    )
    if seen.means2d.requires_grad:
        seen.means2d.retain_grad()
    features = _features(means, colors, viewmats, seen.depths, sh_degree, render_mode)
    render, alpha = engine.composite(seen, features, _padded(backgrounds, render_mode), width, height)
    if render_mode.endswith("ED"):
        depth = render[..., -1:] / alpha.clamp_min(_ALPHA_FLOOR)
        render = torch.cat([render[..., :-1], depth], dim=-1)
    meta: dict[str, Any] = seen._asdict()
    meta |= {"width": width, "height": height, "n_cameras": viewmats.shape[0], "n_batches": 1}
    meta |= {"batch_ids": None, "camera_ids": None, "gaussian_ids": None}  # gsplat's keys: nothing is packed
    return render, alpha, meta


def _features(
    means: Tensor, colors: Tensor, viewmats: Tensor, depths: Tensor, sh_degree: int | None, render_mode: str
) -> Tensor:
    """Assemble the channels (C, N, D') that each camera blends: colours, depth, or both."""
    if render_mode in ("D", "ED"):
        return depths[..., None]
    if sh_degree is not None:
        centres = -(viewmats[:, :3, :3].transpose(1, 2) @ viewmats[:, :3, 3:])[..., 0]
        colors = sh_colors(sh_degree, means - centres[:, None], colors)
    colors = colors.expand(*depths.shape, colors.shape[-1])
    return colors if render_mode == "RGB" else torch.cat([colors, depths[..., None]], dim=-1)


def _padded(backgrounds: Tensor | None, render_mode: str) -> Tensor | None:
    """Extend backgrounds to all blended channels; depth gets 0."""
    if backgrounds is None or render_mode in ("D", "ED"):
        return None
    if render_mode == "RGB":
        return backgrounds
    return torch.nn.functional.pad(backgrounds, (0, 1))


def _with_gsplat(
    *tensors: Any, near_plane: float, far_plane: float, **options: Any
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    if importlib.util.find_spec("gsplat") is None:
        raise ConfigError("backend 'gsplat' needs the package gsplat: pip install 'gsplat>=1.5,<2'")
    from gsplat import rasterization  # loads CUDA code: only where it is used

    render, alpha, meta = rasterization(
        *tensors, packed=False, absgrad=True, near_plane=near_plane, far_plane=far_plane, **options
    )
    if meta["means2d"].requires_grad:
        meta["means2d"].retain_grad()
    return render, alpha, meta


def _check_options(
    options: Mapping[str, str], sh_degree: int | None, width: int, height: int, near_plane: float
) -> None:
    for name, value in options.items():
        if value not in _CHOICES[name]:
            raise ConfigError(f"{name} is {value!r}; expected one of {', '.join(_CHOICES[name])}")
    if sh_degree is not None and not 0 <= sh_degree <= MAX_DEGREE:
        raise ConfigError(f"sh_degree is {sh_degree}; expected 0 to {MAX_DEGREE}, or None for plain colours")
    if width < 1 or height < 1:
        raise ConfigError(f"the picture is {width} x {height} pixels; expected at least one")
    if not near_plane >= 0:  # depths are sorted by their bits, which order non-negative numbers only
        raise ConfigError(f"near_plane is {near_plane}; expected 0 or more: move the camera back instead")


def _check_shapes(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    intrinsics: Tensor,
    backgrounds: Tensor | None,
    sh_degree: int | None,
    render_mode: str,
) -> None:
    count, views = means.shape[0], viewmats.shape[0]
    if not views:
        raise DataError("viewmats holds no camera; give one or more")
    named = {
        "means": (means, (count, 3)),
        "quats": (quats, (count, 4)),
        "scales": (scales, (count, 3)),
        "opacities": (opacities, (count,)),
        "viewmats": (viewmats, (views, 4, 4)),
        "Ks": (intrinsics, (views, 3, 3)),
    }
    tail = 1 if sh_degree is None else 2
    lead = (count,) if colors.dim() == 1 + tail else (views, count)
    named["colors"] = (colors, (*lead, *colors.shape[-tail:]))
    channels = colors.shape[-1]
    if backgrounds is not None:
        width = backgrounds.shape[-1] if render_mode in ("D", "ED") else channels
        named["backgrounds"] = (backgrounds, (views, width))
    for name, (tensor, shape) in named.items():
        if tuple(tensor.shape) != shape:
            raise DataError(f"{name} has the shape {tuple(tensor.shape)}; expected {shape}")
        if tensor.dtype != means.dtype or tensor.device != means.device:
            raise DataError(
                f"{name} is {tensor.dtype} on {tensor.device}, means is {means.dtype} on {means.device}; "
                "give all of one type on one device"
            )
    if means.dtype not in (torch.float32, torch.float64):
        raise DataError(f"means is {means.dtype}; expected float32 or float64")
    if sh_degree is not None and (channels != 3 or colors.shape[-2] < (sh_degree + 1) ** 2):
        raise DataError(
            f"colors has the shape {tuple(colors.shape)}; degree {sh_degree} needs (..., K, 3) with "
            f"K at least {(sh_degree + 1) ** 2}"
        )
