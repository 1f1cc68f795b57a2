"""Acceptance test of a video model: may it be composed with the multiview model, on toys that neither saw?

The composed prediction of clean latents beats the multiview model's alone at three noise levels, and the matrix
sampled with both moves more steadily than the one sampled without the video model, at equal PSNR. A video model
that fails adds errors, however plausible its frames look.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvtokenflow.base.progress import Progress
from mvtokenflow.baselines.diffusion2.sampler import sample_matrix, views_denoiser
from mvtokenflow.baselines.diffusion2.settings import MatrixSampling
from mvtokenflow.datasets.toy4d.render import render, render_flow
from mvtokenflow.datasets.toy4d.stream import ToyStream, six_views
from mvtokenflow.datasets.toy4d.toys import make_toy
from mvtokenflow.flow.ops import warp
from mvtokenflow.multiview.composition import compose, mixing_share, view_weights
from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.prior import COLOUR, MultiviewPrior, encode_normals
from mvtokenflow.multiview.sampler import noise_levels
from mvtokenflow.small.codec import FRONT
from mvtokenflow.small.video import AnchoredClip, VideoModel, mean_pictures
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG

LEVELS = (600, 400, 200)
EQUAL_DB = 0.05  # of the mean PSNR: less than the prior gains from a step more
LEAST_CLIPS = 24
_GAP = 1 / 16  # between frames, of a clip
_SEED = 3  # of the stream of validation toys; training and moments have others of other toys


@dataclass(frozen=True)
class TrueClip:
    """A toy's F frames in six views.

    Attributes:
        pictures: (2, F, V, 3, S, S) in [0, 1], normal maps on mid grey and colours on white.
        times: (F,) from 0.
        flow, visible: (F - 1, V, S, S, 2), (F - 1, V, S, S) to the next frame, exact.
    """

    pictures: Tensor
    times: Tensor
    flow: Tensor
    visible: Tensor


def validation_clips(count: int, frames: int, size: int) -> Iterator[TrueClip]:
    """Render the first clips of the validation toys, of the trained plans in turn at random times."""
    toys, cameras = ToyStream(seed=_SEED, batch_size=1, split="validation"), six_views(size)
    for number in range(count):
        plan, seed, phase = toys.item(number)
        toy, times = make_toy(plan, seed), phase[0] + _GAP * np.arange(frames)
        shot = render(toy, cameras, times % 1)
        motion = render_flow(toy, cameras, times[:-1] % 1, times[1:] % 1)
        rgb, alpha, normal = (torch.from_numpy(part) for part in (shot.rgb, shot.alpha, shot.normal))
        pictures = torch.stack([encode_normals(normal, alpha, 0.5), rgb * alpha + 1 - alpha])
        yield TrueClip(
            pictures=pictures.movedim(-1, 3),
            times=torch.from_numpy(times - times[0]).float(),
            flow=torch.from_numpy(motion.flow),
            visible=torch.from_numpy(motion.visible),
        )


def share_at(timestep: int, settings: MatrixSampling) -> float:
    """Share of the multiview model at any noise level, between those of the settings' levels."""
    levels = settings.timesteps
    shares = [
        mixing_share(settings.mixing, index, len(levels), settings.share, settings.least)
        for index in range(len(levels))
    ]
    return float(np.interp(timestep, levels[::-1], shares[::-1]))


@torch.no_grad()
def denoising_errors(
    prior: MultiviewPrior,
    video: VideoModel,
    clip: TrueClip,
    settings: MatrixSampling,
    generator: torch.Generator,
) -> dict[int, tuple[float, float, float]]:
    """Squared errors of clean latents by level: of the multiview model, the video model, and both composed.

    The front colour is left out: the codec has it already.
    """
    front = clip.pictures[COLOUR, :, FRONT]
    clean = prior.codec.encode(clip.pictures, front)
    anchor = mean_pictures(prior, front[:1], generator)[:, 0]
    along = video.of_clip(prior, AnchoredClip(fronts=front, times=clip.times, anchor=0, pictures=anchor))
    config = SamplingConfig(steps=len(LEVELS), timesteps=LEVELS, eta=0.0, guidance=1.0, share_noise=False)
    across = views_denoiser(prior, front, config, generator)
    counted = torch.ones(2, len(prior.cameras))
    counted[COLOUR, FRONT] = 0

    def error(found: Tensor) -> float:
        squared = (found - clean).square().mean(dim=(1, 3, 4, 5))
        return float((squared * counted).sum() / counted.sum())

    errors = {}
    for timestep, power, _ in noise_levels(prior, config):
        noise = torch.randn(clean.shape, generator=generator)
        noisy = power**0.5 * clean + (1 - power) ** 0.5 * noise
        views, frames = across(noisy, timestep, power), along(noisy, timestep, power)
        weights, share = view_weights(ERA3D_AZIMUTHS_DEG), share_at(timestep, settings)
        both = compose(views.movedim(2, 0), frames.movedim(2, 0), weights, share).movedim(0, 2)
        errors[timestep] = (error(views), error(frames), error(both))
    return errors


def sampled_scores(
    prior: MultiviewPrior, video: VideoModel, clip: TrueClip, settings: MatrixSampling, seed: int
) -> tuple[float, float]:
    """Return the PSNR in dB and warp error in grey levels of a sampled matrix, means of the generated views."""
    front = clip.pictures[COLOUR, :, FRONT].movedim(1, -1)
    draws = torch.Generator().manual_seed(seed)
    made = sample_matrix(prior, video, front, clip.times, settings, draws)
    rgb, true = made.rgb[:, 1:], clip.pictures[COLOUR, :, 1:].movedim(2, -1)
    squared = (rgb - true).double().square().mean(dim=(2, 3, 4)).clamp_min(1e-10)
    return float(-10 * squared.log10().mean()), warp_error(rgb, clip.flow[:, 1:], clip.visible[:, 1:])


def warp_error(rgb: Tensor, flow: Tensor, visible: Tensor) -> float:
    """Mean |frame - next frame along the flow| of pictures (F, V, S, S, 3), visible pixels, 0 to 255."""
    later = warp(rgb[1:], flow)
    seen = visible[..., None].expand_as(later)
    return float(255 * (later - rgb[:-1]).abs()[seen].mean())


def evaluate(
    prior: MultiviewPrior,
    video: VideoModel,
    settings: MatrixSampling,
    clips: int = LEAST_CLIPS,
    frames: int = 6,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a video model and decide the test.

    Matrices are sampled, which takes most of the time, only if the errors pass.

    Args:
        progress: called with ("errors" or "matrices", clips done, all).

    Returns:
        A JSON-able record: `clips`, `frames`, `sampling`, `errors` by level (means of the multiview model, the
        video model, both), `sampled` (means of PSNR and warp error without and with the video model, or None),
        `checks` (each with the paired margin, its standard error and whether it passed), `passed`.
    """
    errors: list[dict[int, tuple[float, float, float]]] = []
    for number, clip in enumerate(validation_clips(clips, frames, prior.size)):
        draws = torch.Generator().manual_seed(number)
        errors.append(denoising_errors(prior, video, clip, settings, draws))
        if progress is not None:
            progress("errors", number + 1, clips)
    table = {level: np.array([one[level] for one in errors]) for level in LEVELS}
    means = {str(level): [round(float(value), 5) for value in found.mean(0)] for level, found in table.items()}
    record = {"clips": clips, "frames": frames, "sampling": asdict(settings), "errors": means}
    if not all(check["passed"] for check in decide(table, None)["checks"].values()):
        return {**record, "sampled": None, **decide(table, None)}
    alone = replace(settings, mixing="constant", share=1.0)
    scores: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for number, clip in enumerate(validation_clips(clips, frames, prior.size)):
        without, both = (sampled_scores(prior, video, clip, one, number) for one in (alone, settings))
        scores.append((without, both))
        if progress is not None:
            progress("matrices", number + 1, clips)
    sampled = np.array(scores)
    names = ("psnr", "warp")
    record["sampled"] = {
        name: [round(float(value), 4) for value in sampled[:, :, place].mean(0)]
        for place, name in enumerate(names)
    }
    return {**record, **decide(table, sampled)}


def decide(errors: dict[int, NDArray[np.float64]], sampled: NDArray[np.float64] | None) -> dict[str, Any]:
    """Compute `checks` and `passed`; without matrices it cannot pass.

    Args:
        errors: by level (N, 3): of the multiview model, the video model, both.
        sampled: (N, 2, 2): without and with the video model, PSNR and warp error; or None.
    """
    gains = {f"squared error at {level}": (found[:, 0] - found[:, 2], 0.0) for level, found in errors.items()}
    if sampled is not None:
        gains["warp error"] = (sampled[:, 0, 1] - sampled[:, 1, 1], 0.0)
        gains["psnr"] = (sampled[:, 1, 0] - sampled[:, 0, 0], -EQUAL_DB)
    checks = {
        name: {
            "margin": round(float(gain.mean()), 6),
            "standard_error": round(float(gain.std(ddof=1) / len(gain) ** 0.5), 6) if len(gain) > 1 else None,
            "passed": bool(gain.mean() > least),
        }
        for name, (gain, least) in gains.items()
    }
    enough = sampled is not None and len(sampled) >= LEAST_CLIPS
    return {"checks": checks, "passed": enough and all(check["passed"] for check in checks.values())}
