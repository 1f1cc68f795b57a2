"""Joint sampling of views and frames by two denoisers (Diffusion², Yang et al., ICLR 2025).

A matrix of V views and T frames is denoised as a whole. One denoiser is a model of the views of a frame, the
other of the frames of a view; at each level their predictions of the clean matrix are mixed with weights that
depend on the view: `D = w_mv D_mv + w_video D_video`. In the first levels the step is taken twice with noise
added in between, so that what one denoiser sees reaches the other.

Samples here have the variance-exploding form of EDM (Karras et al. 2022): `clean + sigma noise`. A DDIM
schedule with alphabar `ab` is the same with sigma = sqrt((1 - ab) / ab) and x = latents / sqrt(ab);
`multiview.sampler.ddim_step` without noise is then `edm_step`.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError

Renoise = Literal["exact", "upstream"]
Mixing = Literal["constant", "linear", "cosine", "logistic"]
Denoiser = Callable[[Tensor, Tensor, int], Tensor]
SIDE_SHARE = 0.75  # of the video weight that a view at a right angle to the input loses
LOGISTIC_SLOPE = 15.0


def view_weights(azimuths_deg: Sequence[float]) -> Tensor:
    """Weight (V,) of the video denoiser by azimuth, float64: 1 at 0 and 180 degrees, 0.25 at 90 and 270.

    `1 - 0.375 (1 - cos 2a)`. The original has the cosines as literals of eight digits for 21 even azimuths.
    """
    turned = torch.deg2rad(torch.tensor(list(azimuths_deg), dtype=torch.float64))
    return weights_of_cosines(0.5 * (1 + torch.cos(2 * turned)))


def weights_of_cosines(cosines: Tensor) -> Tensor:
    """View weights (V,) from `0.5 (1 + cos 2a)`: `1 - 0.75 (1 - c)`."""
    return 1 - SIDE_SHARE * (1 - cosines)


def even_azimuths(views: int) -> list[float]:
    """Azimuths in degrees of V views on a circle whose last one is the input: 360 / V, ..., 360."""
    return [(index + 1) * 360 / views for index in range(views)]


def mixing_share(kind: Mixing, step: int, steps: int, share: float = 0.6, least: float = 0.0) -> float:
    """Share s of the multiview denoiser at a step; 1 leaves the video denoiser out.

    Args:
        kind: "constant" is `share` at every step. "linear" and "cosine" fall from 1 to `least`. "logistic"
            falls around `share` of the way.
        step: counted from 0 to steps - 1. steps: 1 or more.
        least: what the linear and the cosine fall end at; the original's is 0.

    Raises:
        ConfigError: an unknown kind.
    """
    if kind == "constant":
        return share
    progress = step / max(steps - 1, 1)
    if kind == "linear":
        return least + (1 - least) * (1 - progress)
    if kind == "cosine":
        return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * progress))
    if kind == "logistic":
        return 1 / (1 + math.exp(LOGISTIC_SLOPE * (progress - share)))
    raise ConfigError(f"mixing is {kind!r}; expected constant, linear, cosine or logistic")


def composition_weights(views: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Weights (V,) of the multiview and the video denoiser: `1 - v + v s` and `v (1 - s)`; they sum to 1.

    Args:
        views: (V,), see `view_weights`. share: s, see `mixing_share`.
    """
    return 1 - views + views * share, views * (1 - share)


def compose(multiview: Tensor, video: Tensor, views: Tensor, share: float) -> Tensor:
    """Mix two predictions of the clean matrix, (V, ...) each, by view.

    Raises:
        ValueError: shapes that do not fit.
    """
    if multiview.shape != video.shape or len(views) != len(multiview):
        raise ValueError(
            f"predictions {tuple(multiview.shape)} and {tuple(video.shape)} with {len(views)} weights; "
            "expected equal shapes and a weight for each view"
        )
    across, along = (
        weight.to(multiview).view(-1, *[1] * (multiview.ndim - 1))
        for weight in composition_weights(views, share)
    )
    return across * multiview + along * video


def shared_unconditional(multiview: Tensor, video: Tensor) -> Tensor:
    """Mean of both denoisers' unconditional predictions, that each is guided away from (optional there)."""
    return (multiview + video) / 2


def frame_guidance(first: float, last: float, frames: int) -> Tensor:
    """Guidance scales (T,), float64, linear over the frames: 1.5 to 3 for the video denoiser."""
    return torch.linspace(first, last, frames, dtype=torch.float64)


def edm_sigmas(steps: int, largest: float = 700.0, smallest: float = 0.002, rho: float = 7.0) -> Tensor:
    """Noise levels (steps + 1,) of EDM, falling, then 0; float32, as the original computes them."""
    progress = torch.linspace(0, 1, steps, dtype=torch.float32)
    low, high = smallest ** (1 / rho), largest ** (1 / rho)
    return torch.cat([(high + progress * (low - high)) ** rho, torch.zeros(1)])


def sigma_of(alphabar: Tensor) -> Tensor:
    """Noise level `sqrt((1 - ab) / ab)` of alphabars; infinite where there is no signal."""
    return ((1 - alphabar) / alphabar).sqrt()


def alphabar_of(sigma: Tensor) -> Tensor:
    """Alphabar `1 / (1 + sigma²)` of noise levels."""
    return 1 / (1 + sigma.square())


def edm_step(sample: Tensor, clean: Tensor, sigma: Tensor | float, sigma_next: Tensor | float) -> Tensor:
    """Take one Euler step from a positive noise level to the next: `x + (s' - s) (x - D) / s`."""
    return sample + (sigma_next - sigma) * (sample - clean) / sigma


def renoise(
    sample: Tensor, noise: Tensor, sigma: Tensor | float, sigma_from: Tensor | float, kind: Renoise
) -> Tensor:
    """Add noise to go back from a level to a noisier one.

    Args:
        sample: at the level `sigma_from`. noise: standard normal, of its shape. sigma: noisier, finite.
        kind: "exact" adds `sqrt(s² - s'²)`, which gives the level s; "upstream" adds `s - s'`, which is less.

    Raises:
        ConfigError: an unknown kind, or an infinite level.
    """
    high, low = (torch.as_tensor(level, dtype=sample.dtype) for level in (sigma, sigma_from))
    if not bool(high.isfinite()):
        raise ConfigError("noise cannot be added up to an infinite level; use `renoise_latents`")
    if kind == "exact":
        return sample + (high.square() - low.square()).clamp_min(0).sqrt().to(sample) * noise
    if kind == "upstream":
        return sample + (high - low).abs().to(sample) * noise
    raise ConfigError(f"re-noising is {kind!r}; expected exact or upstream")


def renoise_latents(
    latents: Tensor, noise: Tensor, alphabar: float, alphabar_from: float, kind: Renoise = "upstream"
) -> Tensor:
    """Add noise to latents in the form of DDIM, from one alphabar back to a smaller one.

    "upstream" is exact where there is no signal left (alphabar 0), since its formula has no value there.

    Args:
        latents: of signal power `alphabar_from`. noise: standard normal. alphabar: smaller, 0 or more.

    Raises:
        ConfigError: alphabar is the larger one, or an unknown kind.
    """
    if not 0 <= alphabar <= alphabar_from:
        raise ConfigError(f"noise is added from alphabar {alphabar_from} to {alphabar}; expected a smaller one")
    if kind == "exact" or alphabar == 0:
        kept = alphabar / alphabar_from
        return math.sqrt(kept) * latents + math.sqrt(1 - kept) * noise
    high, low = (
        float(sigma_of(torch.tensor(level, dtype=torch.float64))) for level in (alphabar, alphabar_from)
    )
    return math.sqrt(alphabar) * renoise(latents / math.sqrt(alphabar_from), noise, high, low, kind)


def sample_jointly(
    start: Tensor,
    sigmas: Tensor,
    denoiser: Denoiser,
    noise: Sequence[Tensor],
    *,
    kind: Renoise = "upstream",
    watch: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Sample a matrix, taking the first levels twice with noise added in between.

    Args:
        start: (V, T, ...) at the first level, e.g. normal noise times `sqrt(1 + sigma²)`.
        sigmas: (n + 1,), falling to 0.
        denoiser: maps (x, sigma, level) to the clean matrix, e.g. by `compose`.
        noise: standard normal, one tensor for each level that is taken twice; the original takes 10.
        watch: called with the level and the sample after it.

    Returns:
        (V, T, ...) at the last level.
    """
    sample = start
    for level, (sigma, following) in enumerate(pairwise(sigmas)):
        if level < len(noise):
            once = edm_step(sample, denoiser(sample, sigma, level), sigma, following)
            sample = renoise(once, noise[level], sigma, following, kind)
        sample = edm_step(sample, denoiser(sample, sigma, level), sigma, following)
        if watch is not None:
            watch(level, sample)
    return sample
