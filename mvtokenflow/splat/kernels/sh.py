"""Colours from spherical harmonics, in the basis and signs of 3D Gaussian Splatting."""

import torch
from torch import Tensor

_C0 = 0.28209479177387814
_C1 = 0.4886025119029199
_C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
_C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)


def sh_basis(degree: int, directions: Tensor) -> Tensor:
    """Evaluate real spherical harmonics of unit directions.

    Args:
        degree: 0 to 3.
        directions: (..., 3), unit length.

    Returns:
        (..., (degree + 1)²), bands in the order of 3D Gaussian Splatting.
    """
    x, y, z = directions.unbind(-1)
    bands = [torch.full_like(x, _C0)]
    if degree >= 1:
        bands += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree >= 2:
        bands += [
            _C2[0] * x * y,
            -_C2[0] * y * z,
            _C2[1] * (2 * z * z - x * x - y * y),
            -_C2[0] * x * z,
            _C2[2] * (x * x - y * y),
        ]
    if degree >= 3:
        bands += [
            -_C3[0] * y * (3 * x * x - y * y),
            _C3[1] * x * y * z,
            -_C3[2] * y * (4 * z * z - x * x - y * y),
            _C3[3] * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -_C3[2] * x * (4 * z * z - x * x - y * y),
            _C3[4] * z * (x * x - y * y),
            -_C3[0] * x * (x * x - 3 * y * y),
        ]
    return torch.stack(bands, dim=-1)


def sh_colors(degree: int, directions: Tensor, coefficients: Tensor) -> Tensor:
    """Compute the colour seen along a direction: `max(0, Σ basis · coefficient + 0.5)`.

    Args:
        degree: highest band used, 0 to 3; coefficients beyond it are ignored.
        directions: (..., 3) from the camera to the Gaussian, any length.
        coefficients: (..., K, 3), K ≥ (degree + 1)²; broadcasts against `directions`.

    Returns:
        (..., 3), not negative. Differentiable in directions and coefficients.
    """
    basis = sh_basis(degree, torch.nn.functional.normalize(directions, dim=-1))
    used = coefficients[..., : basis.shape[-1], :]
    return ((basis[..., None, :] @ used).squeeze(-2) + 0.5).clamp_min(0.0)
