"""Score distillation sampling: its gradient and losses, for networks that predict noise or clean samples.

A rendered picture, encoded to z, is noised to level t with alphabar `ab`, and a pretrained network is asked for
the noise. `w (eps_hat - eps)` with w = 1 - ab is used as the gradient by z (Poole et al. 2022, DreamFusion; the
weight of Zero123's guidance in threestudio and DreamGaussian). For a network that predicts the clean sample x0,
`eps_hat - eps = sqrt(ab / (1 - ab)) (z - x0_hat)`; the same gradient is then `sqrt(ab (1 - ab)) (z - x0_hat)`.

Reductions of the published methods: Consistent4D and SC4D divide by the batch, STAG4D by nothing,
DreamGaussian4D by frames times views. All of them are the argument `divisor`.
"""

import torch
from torch import Tensor


def guided(unconditional: Tensor, conditional: Tensor, scale: float | Tensor) -> Tensor:
    """Combine two predictions of any shape by classifier-free guidance: `u + scale (c - u)`."""
    return unconditional + scale * (conditional - unconditional)


def add_noise(clean: Tensor, noise: Tensor, alphabar: Tensor | float) -> Tensor:
    """Noise samples to a level: `sqrt(ab) clean + sqrt(1 - ab) noise`.

    Args:
        clean, noise: (B, ...). alphabar: (B,) or one number in [0, 1].
    """
    ab = _per_sample(alphabar, clean)
    return ab.sqrt() * clean + (1 - ab).sqrt() * noise


def clean_from_noise(noisy: Tensor, predicted_noise: Tensor, alphabar: Tensor | float) -> Tensor:
    """Convert a prediction of the noise (B, ...) to one of the clean sample; alphabar in (0, 1]."""
    ab = _per_sample(alphabar, noisy)
    return (noisy - (1 - ab).sqrt() * predicted_noise) / ab.sqrt()


def noise_from_clean(noisy: Tensor, predicted_clean: Tensor, alphabar: Tensor | float) -> Tensor:
    """Convert a prediction of the clean sample (B, ...) to one of the noise; alphabar in [0, 1)."""
    ab = _per_sample(alphabar, noisy)
    return (noisy - ab.sqrt() * predicted_clean) / (1 - ab).sqrt()


def gradient_eps(predicted_noise: Tensor, noise: Tensor, alphabar: Tensor | float) -> Tensor:
    """Compute the distillation gradient (B, ...) from a prediction of the noise: `(1 - ab) (eps_hat - eps)`."""
    return (1 - _per_sample(alphabar, noise)) * (predicted_noise - noise)


def gradient_x0(latents: Tensor, predicted_clean: Tensor, alphabar: Tensor | float) -> Tensor:
    """Compute the distillation gradient (B, ...) from a clean prediction: `sqrt(ab (1 - ab)) (z - x0)`."""
    return level_weight(_per_sample(alphabar, latents)) * (latents - predicted_clean)


def level_weight(alphabar: Tensor) -> Tensor:
    """Weight `sqrt(ab (1 - ab))` of the x0 form, in [0, 0.5]: 0 without signal, 0.5 at ab = 0.5."""
    return (alphabar * (1 - alphabar)).sqrt()


def distillation_loss(latents: Tensor, gradient: Tensor, divisor: float = 1.0) -> Tensor:
    """Loss `0.5 Σ (z - sg(z - g))² / divisor`, whose gradient by the latents z is `g / divisor`.

    Its value is `0.5 Σ g² / divisor`, the value that the published methods log.

    Args:
        latents, gradient: (B, ...), see `gradient_eps` and `gradient_x0`. divisor: positive.

    Raises:
        ValueError: the shapes differ (they would broadcast).
    """
    _check_shapes(latents, gradient)
    target = (latents - gradient).detach()
    return 0.5 * (latents - target).square().sum() / divisor


def distillation_loss_eps(
    latents: Tensor,
    predicted_noise: Tensor,
    noise: Tensor,
    alphabar: Tensor | float,
    divisor: float = 1.0,
) -> Tensor:
    """Score distillation from a network that predicts noise; tensors (B, ...), alphabar (B,) or one number."""
    return distillation_loss(latents, gradient_eps(predicted_noise, noise, alphabar), divisor)


def distillation_loss_x0(
    latents: Tensor, predicted_clean: Tensor, alphabar: Tensor | float, divisor: float = 1.0
) -> Tensor:
    """Score distillation from a network that predicts clean samples: a weighted squared distance to them.

    `0.5 Σ sqrt(ab (1 - ab)) (z - sg(x0_hat))² / divisor`. The gradient is that of `distillation_loss_eps` for
    the equivalent noise; the value is not, since the weight enters once, not squared.

    Args:
        latents, predicted_clean: (B, ...). alphabar: (B,) or one number in [0, 1].

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(latents, predicted_clean)
    weight = level_weight(_per_sample(alphabar, latents))
    return 0.5 * (weight * (latents - predicted_clean.detach()).square()).sum() / divisor


def _per_sample(values: Tensor | float, like: Tensor) -> Tensor:
    """Reshape numbers (B,), or one number, so that they broadcast over samples (B, ...)."""
    given = torch.as_tensor(values, dtype=like.dtype, device=like.device)
    return given if given.ndim == 0 else given.view(-1, *[1] * (like.ndim - 1))


def _check_shapes(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise ValueError(f"shapes {tuple(one.shape)} and {tuple(other.shape)} differ; they must be equal")
