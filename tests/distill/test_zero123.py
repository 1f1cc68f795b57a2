"""Zero123 as a teacher: its files, its pose, guidance, and the gradient of its loss."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from oracle import Truth, toy_truth
from rivals import job_of, small_sc4d
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mvtokenflow.base.errors import ConfigError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.baselines.rival_settings import DistillSettings
from mvtokenflow.baselines.sc4d import pipeline as sc4d
from mvtokenflow.distill.teacher import Reference
from mvtokenflow.distill.zero123 import DISTANCE, Zero123, Zero123Teacher, load_zero123
from mvtokenflow.guidance.views import RandomViews
from mvtokenflow.splat.field import Render
from mvtokenflow.views.cameras import Cameras
from mvtokenflow.weights import ledger

Network: Any = UNet2DConditionModel  # diffusers has no types
Autoencoder: Any = AutoencoderKL
Scheduler: Any = DDIMScheduler
CURE = "run `mvtf-eval weights fetch zero123-xl`"
WIDTH = 8


def write_folder(folder: Path) -> Path:
    """A folder of tiny networks in the layout of the release."""
    torch.manual_seed(0)
    unet = Network(
        sample_size=32,
        in_channels=8,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = Autoencoder(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        layers_per_block=1,
    )
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=224,
            patch_size=56,
            projection_dim=WIDTH,
        )
    )
    scheduler = Scheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    encoder.save_pretrained(folder / "image_encoder")
    scheduler.save_pretrained(folder / "scheduler")
    place = folder / "clip_camera_projection"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"embedding_dim": WIDTH, "additional_embeddings": 4}))
    tensors = {"proj.weight": torch.randn(WIDTH, WIDTH + 4), "proj.bias": torch.randn(WIDTH)}
    save_file(tensors, place / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("zero123"))


@pytest.fixture(scope="module")
def truth() -> Truth:
    return toy_truth(frames=2)


def loaded(folder: Path, *, stable: bool = False) -> Zero123:
    return load_zero123(folder, absolute_pose=stable, cure=CURE, dtype=torch.float32, device="cpu")


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seen(cameras: Cameras) -> Render:
    side = cameras.width
    rgb = torch.rand(len(cameras), side, side, 3, generator=draws(9)).requires_grad_()
    return Render(
        rgb=rgb, alpha=torch.ones_like(rgb[..., :1]), depth=rgb[..., :1].detach(), cameras=cameras, meta={}
    )


# ---- files ----


@pytest.mark.parametrize("component", ["unet", "vae", "image_encoder", "clip_camera_projection", "scheduler"])
def test_a_missing_component_is_named_with_the_command(component: str, tmp_path: Path) -> None:
    here = write_folder(tmp_path / "weights")
    for path in (here / component).iterdir():
        path.unlink()
    with pytest.raises(WeightsMissingError, match=rf"{component}.*weights fetch zero123-xl"):
        loaded(here)


def test_a_projection_of_another_network_is_refused(tmp_path: Path) -> None:
    here = write_folder(tmp_path / "weights")
    path = here / "clip_camera_projection" / "diffusion_pytorch_model.safetensors"
    save_file({"proj.weight": torch.zeros(8, 8), "proj.bias": torch.zeros(8)}, path)
    with pytest.raises(WeightsCorruptError, match=r"projection is \(8, 8\)"):
        loaded(here)
    save_file({"proj.weight": torch.zeros(8, 12), "other": torch.zeros(8)}, path)
    with pytest.raises(WeightsCorruptError, match=r"proj\.bias"):
        loaded(here)


def test_both_are_in_the_ledger_at_a_commit() -> None:
    for name in ("zero123-xl", "stable-zero123"):
        snapshot = ledger.entry(name).snapshot
        assert snapshot is not None
        assert snapshot.revision is not None
        assert len(snapshot.revision) == 40


# ---- views and poses ----


def test_views_are_drawn_around_the_object_and_see_what_the_square_pictures_see(
    folder: Path, truth: Truth
) -> None:
    views = RandomViews(count=200, elevation=(-10.0, 60.0))
    teacher = Zero123Teacher(loaded(folder), truth.at(0), views)
    look = teacher.look(1, draws())
    assert look.elevation is not None
    assert look.azimuth is not None
    assert -10 <= float(look.elevation.min()) < -5 < 55 < float(look.elevation.max()) <= 60
    assert -180 <= float(look.azimuth.min()) < -170 < 170 < float(look.azimuth.max()) <= 180
    assert torch.allclose(look.cameras.centres.norm(dim=-1), torch.tensor(DISTANCE))
    assert torch.allclose(look.cameras.centres[:, 2] > 0, look.elevation > 0)
    edge = look.cameras[:1]
    right = edge.world_to_camera[0, 0, :3]  # a unit to the right of the object, at its distance
    pixel, _ = edge.project(right[None])
    assert float(pixel[..., 0].squeeze()) == pytest.approx(256, abs=0.01)


@pytest.mark.parametrize("stable", [False, True])
def test_the_pose_has_the_sign_and_the_last_number_of_the_original(folder: Path, stable: bool) -> None:
    pose = loaded(folder, stable=stable).poses(torch.tensor([30.0]), torch.tensor([90.0]))[0, 0]
    assert torch.allclose(pose[:3], torch.tensor([-torch.pi / 6, 1.0, 0.0]), atol=1e-6)
    assert float(pose[3]) == pytest.approx(torch.pi / 2 if stable else 0.0)


# ---- distillation ----


class _Stub(nn.Module):
    """Predicts a constant noise, another one where there is a condition; remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> SimpleNamespace:
        self.given = [sample, encoder_hidden_states]
        half = len(sample) // 2
        constant = torch.full_like(sample[:, :4], 0.25)
        constant[half:] = 1.0
        return SimpleNamespace(sample=constant)


def test_the_unconditional_half_has_neither_picture_nor_pose(folder: Path, truth: Truth) -> None:
    networks = replace(loaded(folder), unet=_Stub())
    teacher = Zero123Teacher(networks, truth.at(0), RandomViews(count=2))
    look = teacher.look(0, draws())
    teacher.loss(look, seen(look.cameras), 500, draws())
    sample, states = networks.unet.given
    assert sample.shape == (4, 8, 32, 32)
    assert not sample[:2, 4:].any()
    assert sample[2:, 4:].any()
    assert not states[:2].any()
    assert torch.equal(sample[:2, :4], sample[2:, :4])


def test_the_gradient_is_that_of_guided_noise(folder: Path, truth: Truth) -> None:
    """With u = 0.25 and c = 1, guidance 5 predicts 4; by the latents it is (1 - ab) (4 - noise) / n."""
    networks = replace(loaded(folder), unet=_Stub())
    teacher = Zero123Teacher(networks, truth.at(0), RandomViews(count=2, guidance=5.0))
    look, level = teacher.look(0, draws()), 600
    at = seen(look.cameras)
    latents = networks.encoded(at.rgb)
    torch.autograd.backward(teacher.loss(look, at, level, draws(3)))
    noise = torch.randn(latents.shape, generator=draws(3))
    wanted = (1 - networks.alphabars[level]) * (4 - noise) / 2
    (expected,) = torch.autograd.grad(latents, at.rgb, wanted)
    assert at.rgb.grad is not None
    assert torch.allclose(at.rgb.grad, expected, rtol=1e-4, atol=1e-7)


def test_references_condition_views_near_them(folder: Path, truth: Truth) -> None:
    references = [Reference(90.0, truth.at(90)), Reference(270.0, truth.at(270))]
    teacher = Zero123Teacher(loaded(folder), truth.at(0), RandomViews(count=1), references=references)
    looks = [teacher.look(0, draws(seed)) for seed in range(200)]
    chosen = {look.reference for look in looks}
    assert chosen == {0, 1, 2}
    for look in looks:
        assert look.azimuth is not None
        if look.reference == 1:
            assert 45 <= float(look.azimuth) <= 180


def test_clean_pictures_are_pictures(folder: Path, truth: Truth) -> None:
    teacher = Zero123Teacher(loaded(folder), truth.at(0), RandomViews(count=2))
    look = teacher.look(0, draws())
    made = teacher.clean(look, seen(look.cameras), 500, draws())
    assert made.shape == (2, 256, 256, 3)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


def test_views_out_of_range_are_refused() -> None:
    for bad in ({"count": 0}, {"elevation": (10.0, -10.0)}, {"elevation": (-90.0, 0.0)}, {"guidance": -1.0}):
        with pytest.raises(ConfigError):
            RandomViews(**bad)


def test_a_rival_is_trained_with_it(
    folder: Path, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of the paper presets: settings name the teacher, the ledger finds its folder."""
    monkeypatch.setattr(ledger, "obtain", lambda name: folder)
    small = small_sc4d()
    settings = replace(
        small,
        distill=DistillSettings(teacher="zero123", stride=1, sds_weight=1.0, views=RandomViews(count=1)),
        first=replace(small.first, steps=2, start_points=30, reduce_at=1, densify=(9, 9, 1)),
        second=replace(small.second, steps=2, each=3),
        control_points=24,
    )
    field = sc4d.fit(job_of(truth, tmp_path), settings)
    assert all(bool(value.isfinite().all()) for value in field.state_dict().values())
