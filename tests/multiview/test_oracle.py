"""The oracle that other tests take for a prior predicts the truth."""

import pytest
import torch
from oracle import Truth, oracle_prior, toy_truth

from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.sampler import generate
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
    cast, far = sampled("colour cast"), sampled("far views are means")
    assert torch.equal(cast[:, 0], whole[:, 0])
    assert (cast[:, 1:] - whole[:, 1:]).abs().mean() > 0.01
    assert torch.equal(far[:, (0, 1, 2, 4, 5)], whole[:, (0, 1, 2, 4, 5)])
    assert (far[:, 3] - whole[:, 3]).abs().mean() > 0.01
