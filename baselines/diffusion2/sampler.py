"""The matrix of views and frames, denoised jointly by a multiview and a video model."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.progress import Progress
from mvtokenflow.baselines.diffusion2.settings import MatrixSampling
from mvtokenflow.multiview.composition import (
    compose,
    composition_weights,
    mixing_share,
    renoise_latents,
    view_weights,
)
from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.prior import COLOUR, NORMAL, MultiviewPrior, decode_normals
from mvtokenflow.multiview.sampler import MultiviewFrames, ddim_step, level_steps, noise_levels, predict_clean
from mvtokenflow.small.video import AnchoredClip, VideoModel, mean_pictures
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG

Denoiser = Callable[[Tensor, int, float], Tensor]
Levels = Sequence[tuple[int, float, float]]


def sample_matrix(
    prior: MultiviewPrior,
    video: VideoModel,
    front: Tensor,
    times: Tensor,
    settings: MatrixSampling,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> MultiviewFrames:
    """Sample all views of all frames; noise is independent between frames.

    Args:
        front: (F, S, S, 3) input frames in [0, 1] on white, S the prior's.
        times: (F,) in [0, 1].
        generator: draws the anchor's noise, the matrix's, and that of the levels taken twice.
        progress: called with ("denoise", evaluations done, all).

    Raises:
        ConfigError: levels that the prior does not have, or one that overflows.
    """
    pictures = front.permute(0, 3, 1, 2).to(prior.prompts.device)
    config = SamplingConfig(
        steps=len(settings.timesteps), timesteps=settings.timesteps, eta=0.0, guidance=1.0, share_noise=False
    )
    with torch.no_grad():
        anchor = 0 if settings.anchor == "first" else len(front) - 1
        shown = mean_pictures(prior, pictures[anchor : anchor + 1], generator)[:, 0]
        clip = AnchoredClip(fronts=pictures, times=times.to(pictures), anchor=anchor, pictures=shown)
        draw = noise_of(prior, len(front), generator)
        latents = denoise_matrix(
            next(draw),
            noise_levels(prior, config),
            views_denoiser(prior, pictures, config, generator),
            video.of_clip(prior, clip),
            view_weights(ERA3D_AZIMUTHS_DEG),
            settings,
            draw,
            progress,
        )
        decoded = prior.codec.decode(latents.to(pictures), pictures).movedim(3, -1)
    if not latents.isfinite().all():
        raise ConfigError("the matrix overflowed; run the models in bfloat16 or float32")
    normal, alpha = decode_normals(decoded[NORMAL], prior.background)
    return MultiviewFrames(rgb=decoded[COLOUR], normal=normal, alpha=alpha, cameras=prior.cameras, pose=None)


def noise_of(prior: MultiviewPrior, frames: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield standard normal draws (2, F, V, c, h, w), on the prior's device."""
    device = prior.prompts.device
    blank = torch.zeros(1, 3, prior.size, prior.size, device=device)
    height, width = prior.codec.condition(blank).shape[-2:]
    shape = (2, frames, len(prior.cameras), prior.unet.config.out_channels, height, width)
    while True:
        yield torch.randn(shape, generator=generator, device=generator.device).to(device)


def views_denoiser(
    prior: MultiviewPrior, pictures: Tensor, config: SamplingConfig, generator: torch.Generator
) -> Denoiser:
    """Return the multiview model, frame by frame, for the input frames (F, 3, S, S)."""
    labels, condition = prior.image_encoder.class_labels(pictures, generator), prior.codec.condition(pictures)
    steps = {step.timestep: step for step, _, _ in level_steps(prior, config, *condition.shape[1:3])}

    def denoise(latents: Tensor, timestep: int, alphabar: float) -> Tensor:
        return predict_clean(prior, latents, condition, labels, steps[timestep], alphabar)

    return denoise


def denoise_matrix(
    start: Tensor,
    levels: Levels,
    across: Denoiser,
    along: Denoiser,
    views: Tensor,
    settings: MatrixSampling,
    noise: Iterator[Tensor],
    progress: Progress | None = None,
) -> Tensor:
    """Denoise a matrix (2, F, V, c, h, w) by the composition of two denoisers, DDIM without noise.

    Args:
        start: of the first level's signal power.
        levels: (timestep, signal power before, after), see `sampler.noise_levels`.
        across, along: the multiview and the video model: clean latents from (latents, timestep, power).
        views: (V,) weights of the video model by view, `composition.view_weights`.
        noise: of the levels that are taken twice.
    """
    latents, total, done = start, len(levels) + settings.renoised, 0
    for index, (timestep, power, after) in enumerate(levels):
        share = mixing_share(settings.mixing, index, len(levels), settings.share, settings.least)
        alone = float(composition_weights(views, share)[1].max()) < settings.least_weight
        for repeat in range(2 if index < settings.renoised else 1):
            if repeat:
                latents = renoise_latents(latents, next(noise), power, after, settings.renoise)
            clean = across(latents, timestep, power)
            if not alone:
                along_view = along(latents, timestep, power).movedim(2, 0)
                clean = compose(clean.movedim(2, 0), along_view, views, share).movedim(0, 2)
            latents = ddim_step(latents, clean, power, after, kind="sample")
            done += 1
            if progress is not None:
                progress("denoise", done, total)
    return latents
