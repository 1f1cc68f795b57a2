"""The oracle that other tests take for a prior predicts the truth."""

import pytest
import torch
from oracle import Truth, oracle_prior, toy_truth

from mvtokenflow.guidance.sds import add_noise
from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.passes import Step
from mvtokenflow.multiview.sampler import generate, predict_clean
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG

SAMPLING = SamplingConfig(steps=2, eta=0.0, guidance=1.0, timesteps=(999, 400), chunk=4)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return toy_truth()


def test_samples_are_the_truth(truth: Truth) -> None:
    made = generate(oracle_prior(truth), truth.at(0), SAMPLING, torch.Generator().manual_seed(0))
    for view, azimuth in enumerate(ERA3D_AZIMUTHS_DEG):
        assert torch.allclose(made.rgb[:, view], truth.at(azimuth), atol=1e-5)
        place = truth.azimuths.index(azimuth)
        solid = truth.alpha[:, place, ..., 0] == 1
        assert torch.allclose(made.normal[:, view][solid], truth.normals[:, place][solid], atol=1e-4)


def test_a_turned_picture_conditions_turned_views(truth: Truth) -> None:
    turned = generate(oracle_prior(truth), truth.at(45), SAMPLING, torch.Generator().manual_seed(0))
    for view, azimuth in enumerate(ERA3D_AZIMUTHS_DEG):
        assert torch.allclose(turned.rgb[:, view], truth.at(azimuth + 45), atol=1e-5)
    # normals are those of a world that was turned so that the condition is in front
    straight = generate(oracle_prior(truth), truth.at(0), SAMPLING, torch.Generator().manual_seed(0))
    seen, same = turned.normal[:, 0], straight.normal[:, 1]  # both from 45 degrees
    back = torch.stack([seen[..., 0], seen[..., 1]], -1) @ rotation(45).T
    solid = truth.alpha[:, truth.azimuths.index(45), ..., 0] == 1
    assert torch.allclose(back[solid], same[solid][:, :2], atol=1e-4)


def rotation(angle_deg: float) -> torch.Tensor:
    angle = torch.deg2rad(torch.tensor(angle_deg))
    return torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])


def test_faults_are_faults(truth: Truth) -> None:
    def sampled(fault: str) -> torch.Tensor:
        prior = oracle_prior(truth, fault)  # type: ignore[arg-type]
        return generate(prior, truth.at(0), SAMPLING, torch.Generator().manual_seed(0)).rgb

    whole = sampled("none")
    assert torch.equal(sampled("late")[1:], whole[:-1])
    assert torch.equal(sampled("constant"), whole[:1].expand_as(whole))
    cast = sampled("colour cast")
    assert torch.equal(cast[:, 0], whole[:, 0])
    assert (cast[:, 1:] - whole[:, 1:]).abs().mean() > 0.01


def test_an_oracle_that_knows_nothing_of_the_back_pulls_nowhere_on_average(truth: Truth) -> None:
    prior = oracle_prior(truth, "far views are unknown")
    front = truth.at(0)[:1].movedim(-1, 1)
    condition = prior.codec.condition(front)
    clean = torch.full((2, 1, 6, 3, 32, 32), 0.25)
    step = Step(index=0, count=1, timestep=700, frames=1, views=6, halves=1, chunk=1)
    alphabar = float(prior.scheduler.alphas_cumprod[700])
    found = []
    for seed in range(40):
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
        noisy = add_noise(clean, noise, alphabar)
        found.append(predict_clean(prior, noisy, condition, torch.zeros(1, 1), step, alphabar))
    mean = torch.stack(found).mean(0)
    assert float((mean[:, :, 3] - 0.25).mean()) == pytest.approx(0, abs=0.01)
    assert torch.allclose(mean[1, 0, 2].movedim(0, -1), 2 * truth.at(90)[0] - 1, atol=1e-5)
