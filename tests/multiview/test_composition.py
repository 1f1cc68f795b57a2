"""Joint sampling by two denoisers: numbers of Diffusion² (`data/rival_diffusion2`, `conftest.rival`)."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.guidance.sds import guided
from mvtokenflow.multiview.composition import (
    Mixing,
    alphabar_of,
    compose,
    composition_weights,
    edm_sigmas,
    edm_step,
    even_azimuths,
    frame_guidance,
    mixing_share,
    renoise,
    renoise_latents,
    sample_jointly,
    shared_unconditional,
    sigma_of,
    view_weights,
    weights_of_cosines,
)
from mvtokenflow.multiview.sampler import ddim_step

Numbers = Callable[[str, str], tuple[dict[str, Tensor], dict[str, Any]]]
KINDS: tuple[Mixing, ...] = ("constant", "linear", "cosine", "logistic")


def gaussian(sample: Tensor, sigma: Tensor, mean: Tensor, variance: Tensor | float) -> Tensor:
    """Exact denoiser of a Gaussian."""
    return (variance * sample + sigma.square() * mean) / (variance + sigma.square())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("exact", [False, True], ids=["literals", "exact"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("case", ["sampler", "sampler_cosine", "sampler_mean_uncond"])
def test_sampler_of_diffusion2(rival: Numbers, case: str, dtype: torch.dtype, exact: bool) -> None:
    stored, says = rival("diffusion2", case)
    given = {name: value.to(dtype) for name, value in stored.items() if name.startswith("in/")}
    config = says["config"]
    literals = torch.tensor(config["cosines_8_digits"], dtype=torch.float64)
    views = view_weights(even_azimuths(config["views"])) if exact else weights_of_cosines(literals)
    scales = frame_guidance(1.5, 3.0, config["frames"]).to(dtype).view(1, -1, 1, 1, 1)
    calls: list[tuple[Tensor, Tensor]] = []
    after: list[Tensor] = []

    def predict(sample: Tensor, sigma: Tensor, level: int) -> Tensor:
        def of(name: str, half: str) -> Tensor:
            return gaussian(sample, sigma, given[f"in/mean_{name}_{half}"], given[f"in/var_{name}"])

        bases = [of("mv", "uncond"), of("vid", "uncond")]
        if config.get("uc") == "mean":
            bases = [shared_unconditional(*bases)] * 2
        across = guided(bases[0], of("mv", "cond"), config["guidance_mv"])
        along = guided(bases[1], of("vid", "cond"), scales)
        share = mixing_share(config.get("schedule", "constant"), level, config["steps"])
        calls.append((sample, compose(across, along, views, share)))
        return calls[-1][1]

    start = given["in/x0"] * (1 + given["in/sigmas"][0].square()).sqrt()
    result = sample_jointly(
        start,
        given["in/sigmas"],
        predict,
        list(given["in/noise"]),
        watch=lambda _, sample: after.append(sample),
    )
    found = {
        "result": result,
        "denoised_first": calls[0][1],
        "x_after_first_level": after[0],
        "x_before_second_half_of_first_level": calls[1][0],
    }
    assert len(calls) == int(stored["out/evaluations"])
    for name, value in found.items():
        tolerance = (1e-7 if exact else 1e-10) if dtype == torch.float64 else 1e-4
        expected = stored[f"out/{name}"]
        assert float((value.double() - expected).abs().max()) <= tolerance * float(expected.abs().max()), name


def test_weights_of_diffusion2(rival: Numbers) -> None:
    _, says = rival("diffusion2", "weights")
    views = view_weights(even_azimuths(21))
    assert views.tolist() == pytest.approx(says["view_weight"], abs=1e-14)
    for kind in KINDS:
        found = [mixing_share(kind, step, 50, says["s_default"]) for step in says["schedules_at"]]
        assert found == pytest.approx(says["schedules"][kind], abs=1e-14)
    across, along = composition_weights(views, 0.6)
    torch.testing.assert_close(across + along, torch.ones_like(views))
    assert float(along[-1]) == pytest.approx(0.4)
    assert edm_sigmas(50).tolist() == pytest.approx(says["sigmas_50"], rel=5e-7)
    assert frame_guidance(1.5, 3.0, 25).tolist() == says["guidance_video_25"]


def test_weights_of_the_six_views() -> None:
    found = view_weights((0, 45, 90, 180, 270, 315)).tolist()
    assert found == pytest.approx([1, 0.625, 0.25, 1, 0.25, 0.625])
    assert [mixing_share("cosine", step, 5, least=0.6) for step in (0, 4)] == pytest.approx([1, 0.6])
    assert mixing_share("linear", 0, 1) == 1
    with pytest.raises(ConfigError, match="expected constant"):
        mixing_share("square", 1, 3)  # type: ignore[arg-type]


def test_ddim_is_an_euler_step() -> None:
    latents, clean = noise(2, 3), noise(2, 3, seed=1)
    before, after = 0.2, 0.7
    sigmas = sigma_of(torch.tensor([before, after], dtype=torch.float64))
    torch.testing.assert_close(alphabar_of(sigmas), torch.tensor([before, after], dtype=torch.float64))
    stepped = edm_step(latents / math.sqrt(before), clean, *sigmas) * math.sqrt(after)
    torch.testing.assert_close(
        ddim_step(latents, clean, before, after, kind="sample"), stepped, rtol=1e-12, atol=0
    )


def test_exact_noise_keeps_the_level_and_upstreams_does_not() -> None:
    many = noise(40000)
    at = 2.0 * many
    added = {
        kind: float(renoise(at, noise(40000, seed=1), 5.0, 2.0, kind).std()) for kind in ("exact", "upstream")
    }
    assert added["exact"] == pytest.approx(5, rel=0.02)
    assert added["upstream"] == pytest.approx(math.hypot(2, 3), rel=0.02)
    with pytest.raises(ConfigError, match="exact or upstream"):
        renoise(at, at, 5.0, 2.0, "none")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="infinite level"):
        renoise(at, at, math.inf, 2.0, "exact")


@pytest.mark.parametrize("kind", ["exact", "upstream"])
def test_noise_of_latents_is_that_of_samples(kind: Any) -> None:
    latents, extra = noise(5), noise(5, seed=1)
    low, high = (float(sigma_of(torch.tensor(level, dtype=torch.float64))) for level in (0.7, 0.2))
    expected = renoise(latents / math.sqrt(0.7), extra, high, low, kind) * math.sqrt(0.2)
    torch.testing.assert_close(
        renoise_latents(latents, extra, 0.2, 0.7, kind), expected, rtol=1e-12, atol=1e-14
    )
    assert torch.equal(renoise_latents(latents, extra, 0.0, 0.7, kind), extra)
    with pytest.raises(ConfigError, match="expected a smaller one"):
        renoise_latents(latents, extra, 0.8, 0.7, kind)


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_denoisers_that_agree_give_their_mean(share: float) -> None:
    mean = noise(4, 3)
    views = view_weights(even_azimuths(4))

    def predict(sample: Tensor, sigma: Tensor, level: int) -> Tensor:
        same = gaussian(sample, sigma, mean, 1e-4)
        return compose(same, same, views, share)

    found = sample_jointly(700 * noise(4, 3, seed=1), edm_sigmas(40).double(), predict, [])
    torch.testing.assert_close(found, mean, rtol=0, atol=0.05)


def test_denoisers_that_disagree_meet_at_the_weighted_precision_mean() -> None:
    """The stationary point of the last levels, where a denoiser's pull is its weight over its variance."""
    means, variances = (torch.tensor([1.0, 1.0]).double(), torch.tensor([-1.0, -1.0]).double()), (0.25, 0.0625)
    views, share, sigma = torch.tensor([1.0, 0.25]).double(), 0.6, torch.tensor(1e-3).double()
    sample = torch.zeros(2).double()
    for _ in range(1200):
        parts = [
            gaussian(sample, sigma, mean, variance) for mean, variance in zip(means, variances, strict=True)
        ]
        sample = sample + 3e4 * (compose(parts[0], parts[1], views, share) - sample)
    across, along = composition_weights(views, share)
    pulls = across / variances[0], along / variances[1]
    torch.testing.assert_close(sample, (pulls[0] - pulls[1]) / (pulls[0] + pulls[1]), rtol=1e-4, atol=1e-4)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="a weight for each view"):
        compose(torch.zeros(3, 2), torch.zeros(3, 2), torch.ones(2), 0.5)
