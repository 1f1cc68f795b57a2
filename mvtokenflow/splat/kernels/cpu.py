"""The CPU backend of the rasterizer: compiled projection and blending under torch's autograd.

Deterministic, float32 or float64, all cameras of a call in one parallel loop; the result does not depend on the
number of threads.
"""

import threading
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.splat.kernels import blend as cpu_blend
from mvtokenflow.splat.kernels import project as compiled
from mvtokenflow.splat.kernels import tiles as cpu_tiles
from mvtokenflow.splat.kernels.projection import Projection
from mvtokenflow.views.cameras import CameraKind

# Numba's simplest threading layer aborts the process when two Python threads enter it at once.
ONE_AT_A_TIME = threading.Lock()


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().contiguous().numpy()
    return array


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        cameras: tuple[NDArray[Any], NDArray[Any], compiled.Lens],
    ) -> tuple[Tensor, ...]:
        gaussians = compiled.Gaussians(*map(_array, (means, quats, scales, opacities)))
        pairs = (cameras[0].shape[0], means.shape[0])
        out = compiled.Projected(
            radii=np.zeros((*pairs, 2), np.int32),
            means2d=np.zeros((*pairs, 2), gaussians.means.dtype),
            depths=np.zeros(pairs, gaussians.means.dtype),
            conics=np.zeros((*pairs, 3), gaussians.means.dtype),
            opacities=np.zeros(pairs, gaussians.means.dtype),
        )
        with ONE_AT_A_TIME:
            compiled.forward(gaussians, *cameras, out)
        results = tuple(torch.from_numpy(array) for array in out)
        ctx.mark_non_differentiable(results[0])
        ctx.save_for_backward(means, quats, scales, opacities, *results)
        ctx.cameras = cameras
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        arrays = [_array(tensor) for tensor in ctx.saved_tensors]
        gaussians, seen = compiled.Gaussians(*arrays[:4]), compiled.Projected(*arrays[4:])
        gradients = compiled.Projected(seen.radii, *map(_array, given[1:]))
        out = compiled.Gaussians(*(np.empty_like(array) for array in gaussians))
        with ONE_AT_A_TIME:
            compiled.backward(gaussians, *ctx.cameras, seen, gradients, out)
        return *(torch.from_numpy(array) for array in out), None


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
    """Project Gaussians as `reference.project` does, but without gradients by the cameras.

    Raises:
        ConfigError: a camera requires a gradient.
    """
    if torch.is_grad_enabled() and (viewmats.requires_grad or intrinsics.requires_grad):
        raise ConfigError(
            "the CPU kernels give no gradient by the cameras: detach them, or use backend 'reference'"
        )
    lens = compiled.Lens(
        width=width,
        height=height,
        ortho=kind == "ortho",
        near=float(near),  # always floats: another type would be compiled anew
        far=float(far),
        eps2d=float(eps2d),
        antialiased=antialiased,
    )
    # Copies: the backward pass needs the cameras unchanged.
    cameras = (_array(viewmats).copy(), _array(intrinsics).copy(), lens)
    return Projection(*_Project.apply(means, quats, scales, opacities, cameras))


def _schedule(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order tiles so that the contiguous share of every thread has about equal work."""
    longest_first = np.argsort(starts[:-1] - starts[1:], kind="stable")
    threads = numba.get_num_threads()
    return np.concatenate([longest_first[thread::threads] for thread in range(threads)])


def _splats(*tensors: Tensor) -> cpu_tiles.Splats:
    return cpu_tiles.Splats(*(_array(tensor.detach().flatten(0, 1)) for tensor in tensors))


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        opacities: Tensor,
        colors: Tensor,
        backgrounds: Tensor,
        radii: Tensor,
        depths: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        splats = _splats(means2d, conics, opacities, colors)
        boxes, order = _array(radii.flatten(0, 1)), _array(depths.flatten())
        with ONE_AT_A_TIME:
            ctx.tiles = cpu_tiles.bin_gaussians(splats, boxes, order, radii.shape[0], *size)
            ctx.schedule = _schedule(ctx.tiles.starts)
            render, alpha, ctx.clears, ctx.takens = cpu_blend.blend(
                ctx.tiles, ctx.schedule, splats, _array(backgrounds)
            )
        alphas = torch.from_numpy(alpha)[..., None]
        ctx.save_for_backward(means2d, conics, opacities, colors, backgrounds, alphas)
        return torch.from_numpy(render), alphas

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        given_render, given_alpha = given
        means2d, conics, opacities, colors, backgrounds, alphas = ctx.saved_tensors
        with ONE_AT_A_TIME:
            slot_sums = cpu_blend.unblend(
                ctx.tiles,
                ctx.schedule,
                _splats(means2d, conics, opacities, colors),
                _array(backgrounds),
                ctx.clears,
                ctx.takens,
                _array(given_render),
                _array(given_alpha[..., 0]),
            )
            sums = cpu_blend.gather(ctx.tiles, slot_sums)
        by = torch.from_numpy(sums).reshape(*opacities.shape, sums.shape[1])
        means2d.absgrad = by[..., 6:8]
        by_backgrounds = None
        if ctx.needs_input_grad[4]:
            by_backgrounds = ((1 - alphas) * given_render).sum((1, 2))
        by_colors = by[..., cpu_blend.GRADIENTS :]
        return by[..., :2], by[..., 2:5], by[..., 5], by_colors, by_backgrounds, None, None, None


def composite(
    projection: Projection, colors: Tensor, backgrounds: Tensor | None, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Blend as `reference.composite` does; a backward pass also sets `projection.means2d.absgrad` (C, N, 2)."""
    if backgrounds is None:
        backgrounds = colors.new_zeros(colors.shape[0], colors.shape[2])
    render, alpha = _Composite.apply(
        projection.means2d,
        projection.conics,
        projection.opacities,
        colors,
        backgrounds,
        projection.radii,
        projection.depths.detach(),
        (width, height),
    )
    return render, alpha
