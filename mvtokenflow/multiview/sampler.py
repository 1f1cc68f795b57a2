"""Sampling of multiview diffusion: from every frame of a video to V views of colour and normals.

DDIM over whole frames, with the schedule of the prior (Era3D: v-prediction, 40 steps, eta 1, guidance 3).
The reference samples one picture; here frames share their noise, because eta 1 draws fresh noise at every
step and independent draws would make every frame another object.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.progress import Progress
from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.kept_steps import KeptSteps
from mvtokenflow.multiview.passes import Controller, Pass, Step, check_passes, plain_passes
from mvtokenflow.multiview.prior import COLOUR, NORMAL, MultiviewPrior, decode_normals
from mvtokenflow.views.cameras import Cameras


@dataclass(frozen=True, kw_only=True)
class MultiviewFrames:
    """Generated colours, normals and alpha of V views of F frames.

    Attributes:
        rgb: (F, V, S, S, 3) in [0, 1], on white.
        normal: (F, V, S, S, 3) unit, world frame; zero where `alpha` is 0.
        alpha: (F, V, S, S, 1) in [0, 1], from the background of the normal maps (`decode_normals`).
        cameras: the V views.
        pose: (F, 2) pose of the input, estimated at the last step: elevation in radians, and 24 mm over
            the focal length of a 32 mm wide sensor (0 is orthographic); None for a prior without this head.
    """

    rgb: Tensor
    normal: Tensor
    alpha: Tensor
    cameras: Cameras
    pose: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Random draws of a sampling run: initial noise (2, 1 or F, V, c, h, w), and the same shape per step.

    `steps` may draw as it is read; with eta 0 it is not read.
    """

    initial: Tensor
    steps: Iterable[Tensor]


def generate(
    prior: MultiviewPrior,
    front: Tensor,
    config: SamplingConfig,
    generator: torch.Generator,
    controller: Controller | None = None,
    progress: Progress | None = None,
    kept: KeptSteps | None = None,
) -> MultiviewFrames:
    """Sample all views of all frames.

    Args:
        front: (F, S, S, 3) input frames in [0, 1] on white, see `mvtokenflow.multiview.preprocess`.
        generator: on any device. It draws for the image encoder, then the initial noise, then once per step.
        controller: couples the frames; None treats them independently.
        progress: called with (stage, done, total), stages "denoise" (steps) and "decode" (frames).
        kept: state of an interrupted run, which is gone on with and ends with the same frames.

    Raises:
        DataError: `front` is not F pictures of the prior's size in [0, 1].
        ConfigError: settings that do not fit the prior's schedule; a controller that leaves out frames;
            a network that overflows in its floating-point type.
    """
    _check_front(front, prior.size)
    network = next(prior.unet.parameters())
    # At least as exact as the input: half precision would shift 8-bit levels by one. Codec and encoder convert.
    exact = torch.promote_types(front.dtype, network.dtype)
    pictures = front.permute(0, 3, 1, 2).to(network.device, exact)
    with torch.no_grad():
        labels = prior.image_encoder.class_labels(pictures, generator)
        starts = range(0, len(pictures), config.chunk)
        condition = torch.cat(
            [prior.codec.condition(pictures[start : start + config.chunk]) for start in starts], dim=1
        )
        noise = draw_noise(prior, config, condition, generator)
        latents, pose = denoise(prior, condition, labels, noise, config, controller, progress, kept)
        decoded = _decode(prior, latents, pictures, config.chunk, progress)
    normal, alpha = decode_normals(decoded[NORMAL], prior.background)
    return MultiviewFrames(rgb=decoded[COLOUR], normal=normal, alpha=alpha, cameras=prior.cameras, pose=pose)


def draw_noise(
    prior: MultiviewPrior, config: SamplingConfig, condition: Tensor, generator: torch.Generator
) -> Noise:
    """Draw Gaussian noise in the shapes of `condition` (2, F, V, c', h, w), on the generator's device."""
    _, frames, views, _, height, width = condition.shape
    shape = (2, 1 if config.share_noise else frames, views, prior.unet.config.out_channels, height, width)
    kind = torch.promote_types(condition.dtype, torch.float32)

    def draw() -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device, dtype=kind).to(condition.device)

    def endless() -> Iterator[Tensor]:
        while True:
            yield draw()

    return Noise(initial=draw(), steps=endless())


@torch.no_grad()
def denoise(
    prior: MultiviewPrior,
    condition: Tensor,
    labels: Tensor,
    noise: Noise,
    config: SamplingConfig,
    controller: Controller | None = None,
    progress: Progress | None = None,
    kept: KeptSteps | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Denoise to latents (2, F, V, c, h, w) and poses (F, 2).

    Args:
        condition: (2, F, V, c', h, w), see `Codec.condition`.
        labels: (F, E), or (2, F, V, E) if they differ between the pictures of a frame.
    """
    _, frames, views, _, height, width = condition.shape
    if labels.ndim == 2:
        labels = labels[None, :, None].expand(2, frames, views, -1)
    steps = level_steps(prior, config, frames, views)
    latents = noise.initial.expand(2, frames, views, -1, height, width)
    extra = iter(noise.steps)
    pose: Tensor | None = None
    state = None if kept is None else kept.read()
    levels = 0 if state is None else state[0]
    if state is not None:
        latents = state[1].to(latents)
        pose = None if state[2] is None else state[2].to(latents.device)
        for _ in range(levels if config.eta > 0 else 0):
            next(extra)  # as drawn by the levels that are done
    for step, alpha, alpha_after in steps[levels:]:
        prediction, pose = _predict(prior, latents, condition, labels, step, config.guidance, controller)
        latents = ddim_step(
            latents,
            prediction,
            alpha,
            alpha_after,
            kind=prior.scheduler.config.prediction_type,
            clip=prior.scheduler.config.clip_sample_range if prior.scheduler.config.clip_sample else None,
            eta=config.eta,
            noise=next(extra) if config.eta > 0 else None,
        )
        if kept is not None:
            kept.keep(step.index + 1, latents, pose)
        if progress is not None:
            progress("denoise", step.index + 1, step.count)
    if not latents.isfinite().all():
        raise ConfigError(
            f"the multiview network overflowed in {next(prior.unet.parameters()).dtype}; "
            "run it in bfloat16 or float32"
        )
    return latents, pose


def noise_levels(prior: MultiviewPrior, config: SamplingConfig) -> list[tuple[int, float, float]]:
    """List (timestep, signal power before, signal power after) of every step; the power is alpha-bar.

    Raises:
        ConfigError: the schedule has no such timesteps, or is not one that DDIM can use.
    """
    scheduler = prior.scheduler
    if not hasattr(scheduler, "final_alpha_cumprod") or scheduler.config.get("thresholding", False):
        raise ConfigError(
            f"the prior's scheduler is {type(scheduler).__name__}; expected a DDIMScheduler, "
            "without thresholding"
        )
    total = scheduler.config.num_train_timesteps
    timesteps = config.timesteps
    if timesteps is None:
        if config.steps > total:
            raise ConfigError(f"steps is {config.steps}, the prior was trained with {total} noise levels")
        spaced = type(scheduler).from_config(scheduler.config)
        spaced.set_timesteps(config.steps)
        timesteps = tuple(int(timestep) for timestep in spaced.timesteps)
    if timesteps[0] >= total:
        raise ConfigError(f"timestep {timesteps[0]} is required, the prior's schedule ends at {total - 1}")
    powers = [float(scheduler.alphas_cumprod[timestep]) for timestep in timesteps]
    powers.append(float(scheduler.final_alpha_cumprod))
    if powers[0] == 0 and scheduler.config.prediction_type == "epsilon":
        raise ConfigError("a network that predicts noise cannot start from pure noise (zero terminal SNR)")
    return list(zip(timesteps, powers, powers[1:], strict=False))


def level_steps(
    prior: MultiviewPrior, config: SamplingConfig, frames: int, views: int
) -> list[tuple[Step, float, float]]:
    """List the levels of a run, noisiest first: step, signal power before and after; see `noise_levels`."""
    levels = noise_levels(prior, config)
    halves = 1 if config.guidance == 1 else 2
    shared = {"frames": frames, "views": views, "halves": halves, "chunk": config.chunk}
    return [
        (Step(index=index, count=len(levels), timestep=timestep, **shared), alpha, alpha_after)
        for index, (timestep, alpha, alpha_after) in enumerate(levels)
    ]


def predict_clean(
    prior: MultiviewPrior,
    latents: Tensor,
    condition: Tensor,
    labels: Tensor,
    step: Step,
    alpha: float,
    guidance: float = 1.0,
    controller: Controller | None = None,
) -> Tensor:
    """Predict the clean latents (2, F, V, c, h, w) of noisy ones at one level.

    It is what score distillation pulls to, and what is composed with another denoiser's prediction before
    `ddim_step` of the kind "sample".

    Args:
        latents: (2, F, V, c, h, w) of signal power `alpha`. condition, labels: as for `denoise`.
        step: with as many `halves` as the guidance needs: 1 for a guidance of 1.
    """
    _, frames, views, *_ = condition.shape
    if labels.ndim == 2:
        labels = labels[None, :, None].expand(2, frames, views, -1)
    prediction, _ = _predict(prior, latents, condition, labels, step, guidance, controller)
    scheduler = prior.scheduler.config
    clean, _ = _clean_and_direction(latents, prediction, alpha, scheduler.prediction_type)
    clip = scheduler.clip_sample_range if scheduler.clip_sample else None
    return clean if clip is None else clean.clamp(-clip, clip)


def ddim_step(
    latents: Tensor,
    prediction: Tensor,
    alpha: float,
    alpha_after: float,
    *,
    kind: str,
    clip: float | None = None,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """Take one step of DDIM (Song et al. 2021, equations 12 and 16) between any two noise levels.

    diffusers' own step supports only evenly spaced levels; where both apply they agree.

    Args:
        latents: x of signal power `alpha`; the result has `alpha_after`.
        prediction: output of the network, of `kind` epsilon, sample or v_prediction.
        clip: bound of the clean latents, if the prior's schedule has one.
        eta: scale of the noise added, 0 none; `noise` is standard normal and broadcasts against latents.
    """
    clean, direction = _clean_and_direction(latents, prediction, alpha, kind)
    if clip is not None:
        clean = clean.clamp(-clip, clip)
    sigma = eta * sqrt((1 - alpha_after) / (1 - alpha) * (1 - alpha / alpha_after))
    remaining = max(1 - alpha_after - sigma**2, 0.0)  # rounding may leave -1e-17
    after = sqrt(alpha_after) * clean + sqrt(remaining) * direction
    return after if noise is None else after + sigma * noise


def _clean_and_direction(latents: Tensor, prediction: Tensor, alpha: float, kind: str) -> tuple[Tensor, Tensor]:
    """Convert a prediction of a kind to the clean latents and the noise in latents of signal power `alpha`."""
    signal, level = sqrt(alpha), sqrt(1 - alpha)
    if kind == "v_prediction":
        return signal * latents - level * prediction, signal * prediction + level * latents
    if kind == "epsilon":
        return (latents - level * prediction) / signal, prediction
    if kind == "sample":
        return prediction, (latents - signal * prediction) / level
    raise ConfigError(f"prediction_type is {kind!r}; expected v_prediction, epsilon or sample")


def _predict(
    prior: MultiviewPrior,
    latents: Tensor,
    condition: Tensor,
    labels: Tensor,
    step: Step,
    guidance: float,
    controller: Controller | None,
) -> tuple[Tensor, Tensor | None]:
    """Compute the guided prediction (2, F, V, c, h, w) and poses (F, 2), pass by pass."""
    passes = plain_passes(step) if controller is None else list(controller.passes(step))
    check_passes(passes, step)
    prediction = torch.empty_like(latents)
    poses: list[Tensor] = [torch.empty(0)] * step.frames
    for current in passes:
        chosen = list(current.frames)
        sample = _halves(latents[:, chosen], latents[:, chosen], step.halves)
        given = _halves(torch.zeros_like(condition[:, chosen]), condition[:, chosen], step.halves)
        label = _halves(torch.zeros_like(labels[:, chosen]), labels[:, chosen], step.halves)
        with _running(controller, step, current):
            output, pose = _call(prior, sample, given, label, step, current)
        guided = output[:, -1]
        if step.halves == 2:
            guided = output[:, 0] + guidance * (guided - output[:, 0])
        prediction[:, chosen] = guided.to(prediction.dtype)
        if pose is not None:
            for frame, value in zip(chosen, pose, strict=True):
                poses[frame] = value
    return prediction, None if prior.unet.config.regress_pose is False else torch.stack(poses)


def _running(controller: Controller | None, step: Step, current: Pass) -> AbstractContextManager[object]:
    return nullcontext() if controller is None else controller.running(step, current)


def _halves(unconditional: Tensor, conditional: Tensor, halves: int) -> Tensor:
    """Stack the guidance halves: (2, f, ...) to (2, halves, f, ...)."""
    return conditional[:, None] if halves == 1 else torch.stack((unconditional, conditional), dim=1)


def _call(
    prior: MultiviewPrior, sample: Tensor, given: Tensor, labels: Tensor, step: Step, current: Pass
) -> tuple[Tensor, Tensor | None]:
    """Run the network on (2, halves, f, V, ...); the pose is that of the conditional half, (f, 2)."""
    kind = next(prior.unet.parameters()).dtype
    lead = sample.shape[:4]
    prompts = prior.prompts.to(sample.device, kind)[:, None, None].expand(*lead, -1, -1)
    output = prior.unet(
        torch.cat((sample.to(kind), given.to(kind)), dim=4).flatten(0, 3),
        torch.tensor(step.timestep, device=sample.device),
        prompts.flatten(0, 3),
        labels.to(kind).flatten(0, 3),
        parts=current.groups(step.halves),
    )
    pose = None if output.pose is None else output.pose.view(lead[1], lead[2], 2)[-1]
    return output.sample.view(*lead, *output.sample.shape[1:]), pose


def _decode(
    prior: MultiviewPrior, latents: Tensor, pictures: Tensor, chunk: int, progress: Progress | None
) -> Tensor:
    """Decode latents to pictures (2, F, V, S, S, 3) in [0, 1], float32."""
    decoded = []
    for start in range(0, len(pictures), chunk):
        some = slice(start, start + chunk)
        part = prior.codec.decode(latents[:, some].to(pictures.dtype), pictures[some])
        decoded.append(part.movedim(3, -1).to(torch.promote_types(part.dtype, torch.float32)))
        if progress is not None:
            progress("decode", min(start + chunk, len(pictures)), len(pictures))
    return torch.cat(decoded, dim=1)


def _check_front(front: Tensor, size: int) -> None:
    if front.ndim != 4 or front.shape[1:] != (size, size, 3) or not len(front):
        raise DataError(f"front: has the shape {tuple(front.shape)}, this prior needs (F, {size}, {size}, 3)")
    if not front.is_floating_point() or not bool(((front >= 0) & (front <= 1)).all()):
        raise DataError("front: values are not floats in [0, 1]; scale or clip them")
