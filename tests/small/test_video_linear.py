"""The linear-Gaussian video denoiser against the posterior of a Gaussian, computed another way in float64."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.tensor_files import write_tensors
from mvtokenflow.small.video_linear import (
    STATISTICS,
    Moments,
    load_moments,
    posterior_matrix,
    save_moments,
)

FRAMES = 5


def covariance(size: int, seed: int = 0) -> Tensor:
    """A well-conditioned covariance (2, 3, size, size)."""
    draws = torch.Generator().manual_seed(seed)
    root = torch.randn(2, 3, size, size, generator=draws, dtype=torch.float64)
    return root @ root.mT + 0.3 * torch.eye(size, dtype=torch.float64)


def smooth_moments(lags: int = 9) -> Moments:
    """Of an exponential process whose anchor is its value plus noise."""
    at = torch.linspace(0, 1, lags, dtype=torch.float64)
    decay = (-3 * at).exp().expand(2, 3, -1)
    return Moments(
        lags=at,
        frames=decay.clone(),
        anchor=decay.clone(),
        anchor_square=torch.full((2, 3), 1.2, dtype=torch.float64),
    )


@pytest.mark.parametrize("alphabar", [0.9999, 0.6, 0.05])
def test_posterior_mean_is_that_of_the_precisions(alphabar: float) -> None:
    """Condition the joint density on the anchor and multiply by the likelihood, all by precisions."""
    joint, draws = covariance(FRAMES + 1), torch.Generator().manual_seed(1)
    seen = torch.randn(2, 3, FRAMES + 1, 1, generator=draws, dtype=torch.float64)
    precision = torch.linalg.inv(joint)
    own = precision[..., :-1, :-1] + alphabar / (1 - alphabar) * torch.eye(FRAMES, dtype=torch.float64)
    pull = alphabar**0.5 / (1 - alphabar) * seen[..., :-1, :] - precision[..., :-1, -1:] * seen[..., -1:, :]
    expected = torch.linalg.solve(own, pull)
    torch.testing.assert_close(posterior_matrix(joint, alphabar) @ seen, expected, rtol=1e-9, atol=1e-11)


def test_the_posterior_mean_has_the_least_error_of_all_linear_guesses() -> None:
    """Its error in many draws is the posterior's variance, and any other matrix has a larger one."""
    joint, alphabar = covariance(FRAMES + 1)[0, 0], 0.4
    draws = torch.Generator().manual_seed(2)
    values = torch.linalg.cholesky(joint) @ torch.randn(
        FRAMES + 1, 40_000, generator=draws, dtype=torch.float64
    )
    noisy = values.clone()
    noise = torch.randn(FRAMES, 40_000, generator=draws, dtype=torch.float64)
    noisy[:-1] = alphabar**0.5 * values[:-1] + (1 - alphabar) ** 0.5 * noise
    best = posterior_matrix(joint, alphabar)

    def error(matrix: Tensor) -> float:
        return float((matrix @ noisy - values[:-1]).square().mean())

    for entry in range(0, best.numel(), 7):
        other = best.clone()
        other.view(-1)[entry] += 0.2
        assert error(best) < error(other)


def test_without_signal_only_the_anchor_counts_and_without_noise_only_the_frames() -> None:
    joint = covariance(FRAMES + 1)
    blind = posterior_matrix(joint, 0.0)
    torch.testing.assert_close(blind[..., :-1], torch.zeros_like(blind[..., :-1]), rtol=0, atol=1e-12)
    torch.testing.assert_close(blind[..., -1], joint[..., :-1, -1] / joint[..., -1:, -1])
    clear = posterior_matrix(joint, 1.0)
    expected = torch.eye(FRAMES, FRAMES + 1, dtype=torch.float64).expand_as(clear)
    torch.testing.assert_close(clear, expected, rtol=0, atol=1e-9)


def test_a_view_without_variance_stays_zero() -> None:
    assert torch.equal(
        posterior_matrix(torch.zeros(FRAMES + 1, FRAMES + 1, dtype=torch.float64), 0.5),
        torch.zeros(FRAMES, FRAMES + 1, dtype=torch.float64),
    )


def test_joint_covariance_is_that_of_the_lags_and_the_anchor() -> None:
    times = torch.tensor([0.0, 0.25, 0.625])
    joint = smooth_moments().joint(times, anchor_time=0.25)
    decay = (-3 * (times[:, None] - times).abs()).exp().double()
    torch.testing.assert_close(joint[1, 2, :3, :3], decay)
    torch.testing.assert_close(joint[0, 0, :3, 3], (-3 * (times - 0.25).abs()).exp().double())
    assert float(joint[0, 1, 3, 3]) == pytest.approx(1.2)


def test_moments_that_no_process_has_are_cut_to_some_that_one_has() -> None:
    broken = replace(smooth_moments(), frames=torch.ones(2, 3, 9, dtype=torch.float64))
    values = torch.linalg.eigvalsh(broken.joint(torch.linspace(0, 1, 7), anchor_time=0.5))
    assert float(values.min()) > -1e-9


def test_moments_are_read_as_they_were_written(tmp_path: Path) -> None:
    moments = smooth_moments()
    save_moments(tmp_path / "m.safetensors", moments, {"clips": "3"})
    found = load_moments(tmp_path / "m.safetensors")
    torch.testing.assert_close(found.frames, moments.frames, rtol=1e-6, atol=0)
    with pytest.raises(WeightsMissingError, match="measure-video"):
        load_moments(tmp_path / "none.safetensors")
    write_tensors(tmp_path / "other.safetensors", {"lags": torch.zeros(2)}, {"format": "x"})
    with pytest.raises(WeightsCorruptError, match="format"):
        load_moments(tmp_path / "other.safetensors")


def test_shipped_moments_are_small_and_of_unit_variance_where_the_codec_scales() -> None:
    assert STATISTICS.stat().st_size < 20_000
    moments = load_moments()
    assert moments.frames.shape == (2, 6, 17)
    first = moments.frames[..., 0].flatten().tolist()
    assert first.pop(6) == 0, "the front colour is the input"
    assert all(0.5 < value < 2 for value in first), first
    # A frame has more in common with the next than with one half a clip later, and toys close their motion.
    assert bool((moments.frames[0, :, 1] > moments.frames[0, :, 8]).all())
    assert bool((moments.frames[0, :, 16] > moments.frames[0, :, 8]).all())
