"""The matrix of Diffusion²: two denoisers composed, levels taken twice, windows of frames."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.baselines.diffusion2.sampler import denoise_matrix
from mvtokenflow.baselines.diffusion2.settings import EdmSampling, MatrixSampling, mini, paper
from mvtokenflow.multiview.composition import composition_weights, view_weights
from mvtokenflow.small.schedule import noise_schedule
from mvtokenflow.small.video import window_frames
from mvtokenflow.splat.training_config import mini as mini_fit
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG

VIEWS, FRAMES = 6, 8
SHAPE = (2, FRAMES, VIEWS, 1, 1, 1)
Denoiser = Callable[[Tensor, int, float], Tensor]


def draws(seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def levels(timesteps: tuple[int, ...]) -> list[tuple[int, float, float]]:
    powers = noise_schedule().alphas_cumprod.double()
    signal = [*(float(powers[timestep]) for timestep in timesteps), 1.0]
    return [(timestep, *pair) for timestep, pair in zip(timesteps, pairwise(signal), strict=True)]


def gaussian(mean: Tensor | float, variance: float) -> Denoiser:
    """Exact denoiser of independent Gaussians."""

    def denoise(latents: Tensor, timestep: int, alphabar: float) -> Tensor:
        gain = variance * alphabar**0.5 / (variance * alphabar + 1 - alphabar)
        clean: Tensor = mean + gain * (latents - alphabar**0.5 * mean)
        return clean

    return denoise


def coupled(dim: int, length: float, variance: float = 1.0) -> Denoiser:
    """Exact denoiser of a Gaussian process of mean 0 along an axis, whose neighbours are alike."""

    def denoise(latents: Tensor, timestep: int, alphabar: float) -> Tensor:
        count = latents.shape[dim]
        at = torch.arange(count, dtype=torch.float64)
        covariance = variance * (-((at[:, None] - at).square()) / (2 * length**2)).exp()
        seen = alphabar * covariance + (1 - alphabar) * torch.eye(count, dtype=torch.float64)
        gain: Tensor = alphabar**0.5 * covariance @ torch.linalg.inv(seen)
        return (latents.movedim(dim, -1) @ gain.T).movedim(-1, dim)

    return denoise


def sampled(across: Denoiser, along: Denoiser, settings: MatrixSampling, seed: int = 0) -> Tensor:
    noise = draws(seed)
    views = view_weights(ERA3D_AZIMUTHS_DEG)
    return denoise_matrix(next(noise), levels(settings.timesteps), across, along, views, settings, noise)


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("renoise", ["exact", "upstream"])
def test_models_that_agree_give_what_each_of_them_gives(share: float, renoise: str) -> None:
    mean = next(draws(9))
    settings = MatrixSampling(mixing="constant", share=share, renoise=renoise, renoised=3)  # type: ignore[arg-type]
    found = sampled(gaussian(mean, 1e-6), gaussian(mean, 1e-6), settings)
    torch.testing.assert_close(found, mean, rtol=0, atol=0.01)


def test_models_that_disagree_meet_at_the_precision_weighted_mean() -> None:
    """At ever smaller levels the sample goes to where the weighted pulls of the two balance, view by view."""
    means, variances = (1.0, -1.0), (0.25, 0.0625)
    settings = MatrixSampling(mixing="constant", share=0.6, renoised=0, timesteps=(0,))
    views = view_weights(ERA3D_AZIMUTHS_DEG)
    power = 1 - 1e-6
    sample = torch.zeros(SHAPE, dtype=torch.float64)
    for _ in range(400):  # the level is held, and each prediction is followed far beyond: a fixed point remains
        clean = denoise_matrix(
            sample,
            [(0, power, 1.0)],
            gaussian(means[0], variances[0]),
            gaussian(means[1], variances[1]),
            views,
            settings,
            draws(0),
        )
        sample = power**0.5 * (sample / power**0.5 + 3e4 * (clean - sample / power**0.5))
    across, along = composition_weights(views, 0.6)
    pulls = across / variances[0], along / variances[1]
    expected = (pulls[0] - pulls[1]) / (pulls[0] + pulls[1])
    torch.testing.assert_close(sample, expected.view(1, 1, -1, 1, 1, 1).expand(SHAPE), rtol=1e-3, atol=1e-3)


def seams(matrix: Tensor) -> float:
    """Mean squared difference of neighbouring frames."""
    return float(matrix.diff(dim=1).square().mean())


def test_noise_between_levels_lowers_the_seams_between_frames() -> None:
    """The multiview model couples views alone, the video model frames alone; both are exact."""
    plain = MatrixSampling(mixing="constant", share=0.6, renoised=0)
    settings = {renoised: replace(plain, renoised=renoised) for renoised in (0, 4, 8)}
    found = {
        renoised: sum(seams(sampled(coupled(2, 1.5), coupled(1, 3.0), one, seed)) for seed in range(20))
        for renoised, one in settings.items()
    }
    assert found[4] < found[0]
    assert found[8] < found[4]


def test_the_video_model_steadies_what_the_multiview_model_leaves_independent() -> None:
    both = MatrixSampling(mixing="constant", share=0.6, renoised=2)
    alone = replace(both, share=1.0)
    noisy, steady = (seams(sampled(coupled(2, 1.5), coupled(1, 3.0), one)) for one in (alone, both))
    assert steady < 0.9 * noisy


def test_an_error_of_the_video_model_matters_less_at_the_sides() -> None:
    """The same error in one view, at 180 degrees and at 90: it is the views' places that weigh it."""
    right, settings = gaussian(0.0, 1e-6), MatrixSampling(mixing="constant", share=0.6)

    def wrong_at(view: int) -> Denoiser:
        mean = torch.zeros(SHAPE, dtype=torch.float64)
        mean[:, :, view] = 1.0
        return gaussian(mean, 1e-6)

    errors = {angle: sampled(right, wrong_at(ERA3D_AZIMUTHS_DEG.index(angle)), settings) for angle in (90, 180)}
    side, back = (float(found.square().mean()) for found in (errors[90], errors[180]))
    assert side < 0.2 * back


def test_the_video_model_is_left_out_where_it_weighs_nothing() -> None:
    called: list[int] = []

    def along(latents: Tensor, timestep: int, alphabar: float) -> Tensor:
        called.append(timestep)
        return torch.zeros_like(latents)

    settings = MatrixSampling()
    sampled(gaussian(0.0, 1.0), along, settings)
    assert 999 not in called
    assert called[-1] == 40
    called.clear()
    sampled(gaussian(0.0, 1.0), along, replace(settings, mixing="constant", share=1.0))
    assert not called


def test_windows_cover_every_frame_and_overlap() -> None:
    assert window_frames(17, 2) == [
        [0, 1, 2, 3, 4, 5],
        [4, 5, 6, 7, 8, 9],
        [8, 9, 10, 11, 12, 13],
        [*range(11, 17)],
    ]
    assert window_frames(6, 2) == [[*range(6)]]
    assert window_frames(4, 2) == [[0, 1, 2, 3, 3, 3]]
    assert window_frames(1, 0) == [[0] * 6]
    for frames in range(1, 40):
        for overlap in range(6):
            windows = window_frames(frames, overlap)
            assert {frame for window in windows for frame in window} == set(range(frames))
            assert all(len(window) == 6 for window in windows)


def test_settings_out_of_range_are_refused() -> None:
    for wrong in (
        {"timesteps": (999, 999)},
        {"timesteps": (1000,)},
        {"timesteps": ()},
        {"renoised": 11},
        {"renoise": "none"},
        {"mixing": "square"},
        {"anchor": "middle"},
        {"share": 1.5},
        {"overlap": 6},
    ):
        with pytest.raises(ConfigError):
            MatrixSampling(**wrong)
    for wrong in ({"steps": 0}, {"smallest": 800.0}, {"renoised": 51}, {"share": -0.1}):
        with pytest.raises(ConfigError):
            EdmSampling(**wrong)
    with pytest.raises(ConfigError, match="no such losses"):
        replace(mini(), reconstruction=mini_fit())
    with pytest.raises(ConfigError, match="models is"):
        replace(mini(), models="none")  # type: ignore[arg-type]


def test_presets_record_what_they_use() -> None:
    small, large = mini().to_dict(), paper().to_dict()
    assert "edm" not in small
    assert "sampling" not in large
    assert small["reconstruction"]["weights"]["normal"] == small["reconstruction"]["weights"]["flow"] == 0
    assert (large["edm"]["views"], large["edm"]["frames"], large["edm"]["steps"]) == (21, 25, 50)
