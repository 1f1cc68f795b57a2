"""The gate of a video model: a known answer passes, a useless model fails, and few clips never pass."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mvtokenflow.baselines.diffusion2 import gate
from mvtokenflow.baselines.diffusion2.gate import (
    LEAST_CLIPS,
    LEVELS,
    decide,
    denoising_errors,
    evaluate,
    share_at,
    validation_clips,
    warp_error,
)
from mvtokenflow.baselines.diffusion2.settings import MatrixSampling
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.small.prior import load_small_prior
from mvtokenflow.small.video import AnchoredClip, VideoDenoiser
from mvtokenflow.small.video_linear import LinearVideo, load_moments


class Knowing:
    """A video model that has the truth, or that plus a constant."""

    def __init__(self, off: float = 0.0) -> None:
        self.off = off
        self.truth: Tensor | None = None

    def of_clip(self, prior: MultiviewPrior, clip: AnchoredClip) -> VideoDenoiser:
        def denoise(latents: Tensor, timestep: int, alphabar: float) -> Tensor:
            assert self.truth is not None
            return self.truth + self.off

        return denoise


@pytest.fixture(scope="module")
def prior(prior_file: Path) -> MultiviewPrior:
    return load_small_prior(prior_file)


def test_errors_are_those_of_the_truth_and_of_the_composition(prior: MultiviewPrior) -> None:
    (clip,) = validation_clips(1, 3, prior.size)
    video, settings = Knowing(off=2.0), MatrixSampling(mixing="constant", share=0.0)
    video.truth = prior.codec.encode(clip.pictures, clip.pictures[1, :, 0])
    found = denoising_errors(prior, video, clip, settings, torch.Generator().manual_seed(0))
    assert set(found) == set(LEVELS)
    for views, frames, both in found.values():
        assert frames == pytest.approx(4.0, rel=1e-5)
        assert min(views, frames) < both < max(views, frames), "at the sides the multiview model still counts"


def test_shares_between_the_levels_are_between_theirs() -> None:
    settings = MatrixSampling()
    assert share_at(999, settings) == 1
    assert share_at(40, settings) == pytest.approx(0.6)
    assert share_at(20, settings) == pytest.approx(0.6)
    assert share_at(381, settings) < share_at(400, settings) < share_at(500, settings)


def test_warp_error_of_a_picture_that_moves_as_its_flow_is_nothing() -> None:
    pictures = torch.rand(1, 2, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    video = torch.cat((pictures, pictures.roll(1, dims=3)))
    flow, seen = torch.zeros(1, 2, 8, 8, 2), torch.zeros(1, 2, 8, 8, dtype=torch.bool)
    flow[..., 0], seen[..., 1:7] = 1.0, True
    assert warp_error(video, flow, seen) < 1e-3
    assert warp_error(video, torch.zeros_like(flow), seen) > 10


def table(both: float) -> dict[int, "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"]:
    return {level: np.tile([1.0, 3.0, both], (LEAST_CLIPS, 1)) for level in LEVELS}


def scores(
    psnr: float, warp: float, clips: int = LEAST_CLIPS
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    return np.tile([[20.0, 5.0], [psnr, warp]], (clips, 1, 1))


def test_every_condition_decides_alone() -> None:
    assert decide(table(0.9), scores(20.0, 4.9))["passed"]
    assert not decide(table(1.1), scores(20.0, 4.9))["passed"]
    assert not decide({**table(0.9), 400: table(1.1)[400]}, scores(20.0, 4.9))["passed"]
    assert not decide(table(0.9), scores(20.0, 5.1))["passed"]
    assert not decide(table(0.9), scores(19.9, 4.9))["passed"]
    assert not decide(table(0.9), scores(20.0, 4.9, LEAST_CLIPS - 1))["passed"], "too few clips"
    assert not decide(table(0.9), None)["passed"], "no matrix was sampled"


@pytest.mark.parametrize("useful", [True, False])
def test_matrices_are_sampled_only_if_the_errors_pass(
    useful: bool, prior: MultiviewPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(MatrixSampling(), timesteps=(999, 400, 40), renoised=1)
    monkeypatch.setattr(
        gate, "denoising_errors", lambda *given: dict.fromkeys(LEVELS, (2.0, 1.0, 3.0 - 2 * useful))
    )
    record = evaluate(prior, LinearVideo(load_moments()), settings, clips=2, frames=2)
    assert (record["clips"], record["passed"]) == (2, False)
    assert set(record["errors"]) == {"600", "400", "200"}
    if useful:
        assert len(record["sampled"]["psnr"]) == len(record["sampled"]["warp"]) == 2
        assert {"warp error", "psnr"} < set(record["checks"])
    else:
        assert record["sampled"] is None
