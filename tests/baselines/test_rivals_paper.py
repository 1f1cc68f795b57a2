"""The preset `paper` of the rivals at full size, with random weights: every part is entered and fits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from oracle import Truth, toy_truth
from rivals import job_of
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mvtokenflow.baselines import job as jobs
from mvtokenflow.baselines.consistent4d import pipeline as consistent4d
from mvtokenflow.baselines.consistent4d.settings import paper as consistent4d_paper
from mvtokenflow.baselines.dg4d import pipeline as dg4d
from mvtokenflow.baselines.dg4d.settings import paper as dg4d_paper
from mvtokenflow.baselines.sc4d import pipeline as sc4d
from mvtokenflow.baselines.sc4d.settings import paper as sc4d_paper
from mvtokenflow.baselines.stag4d import pipeline as stag4d
from mvtokenflow.baselines.stag4d.settings import paper as stag4d_paper
from mvtokenflow.distill.training import SdsTraining
from mvtokenflow.distill.zero123 import Zero123
from mvtokenflow.guidance.levels import scaled_linear_alphabars
from mvtokenflow.weights import ledger

pytestmark = pytest.mark.slow  # five gigabytes, a minute each

NETWORK: Any = UNet2DConditionModel  # diffusers has no types
AUTOENCODER: Any = AutoencoderKL
PARAMETERS = 859_532_484  # of the denoiser: Stable Diffusion 1's, and 4 more channels of the input


@pytest.fixture(scope="module")
def networks() -> Zero123:
    """Networks of Zero123's sizes: those of Stable Diffusion 1 and of CLIP ViT-L/14."""
    torch.manual_seed(0)
    unet = NETWORK(sample_size=32, in_channels=8, out_channels=4, cross_attention_dim=768)
    vae = AUTOENCODER(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=224,
            patch_size=14,
            projection_dim=768,
        )
    )
    for network in (unet, vae, encoder):
        network.eval().requires_grad_(False)
    return Zero123(
        unet=unet,
        vae=vae,
        image_encoder=encoder,
        projection=nn.Linear(772, 768).requires_grad_(False),
        alphabars=scaled_linear_alphabars(),
        absolute_pose=False,
    )


@pytest.fixture(scope="module")
def truth() -> Truth:
    return toy_truth(frames=2, size=64)


def few_views(settings: Any) -> Any:
    return replace(settings, distill=replace(settings.distill, views=replace(settings.distill.views, count=1)))


def begun_sc4d(job: jobs.Job) -> SdsTraining:
    return sc4d.PointTraining(job, few_views(sc4d_paper()))


def begun_stag4d(job: jobs.Job) -> SdsTraining:
    return stag4d.Stag4dTraining(job, few_views(stag4d_paper()), [])


def begun_dg4d(job: jobs.Job) -> SdsTraining:
    settings = replace(few_views(dg4d_paper()), start="random")
    return dg4d.Dg4dTraining(job, settings, dg4d._random_start(job, settings))


def begun_consistent4d(job: jobs.Job) -> SdsTraining:
    return consistent4d.CascadeTraining(job, replace(few_views(consistent4d_paper()), samples=64))


@pytest.mark.parametrize("begin", [begun_sc4d, begun_stag4d, begun_dg4d, begun_consistent4d])
def test_a_step_of_the_preset_at_full_size(
    begin: Callable[[jobs.Job], SdsTraining],
    networks: Zero123,
    truth: Truth,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert sum(p.numel() for p in networks.unet.parameters()) == PARAMETERS
    monkeypatch.setattr(ledger, "obtain", lambda name: tmp_path)
    monkeypatch.setattr(jobs, "load_zero123", lambda folder, **settings: networks)
    training = begin(job_of(truth, tmp_path))
    before = {name: dict(part.state_dict()) for name, part in training.parts.items()}
    before = {name: {key: value.clone() for key, value in state.items()} for name, state in before.items()}
    terms = [training.step(number) for number in range(2)]
    assert any("sds" in found for found in terms)
    assert all(bool(value.isfinite()) for found in terms for value in found.values())
    assert any(
        not torch.equal(value, before[name][key])
        for name, part in training.parts.items()
        for key, value in part.state_dict().items()
    )
