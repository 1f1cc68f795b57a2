"""The small prior's trainer: loss on known answers, schedules, exact resume, and that it learns."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, WeightsCorruptError
from mvtokenflow.multiview.prior import COLOUR, NORMAL
from mvtokenflow.small.codec import PatchCodec, place_planes
from mvtokenflow.small.config import NOISE_LEVELS, small_unet_config
from mvtokenflow.small.prior import six_cameras
from mvtokenflow.small.schedule import noise_schedule
from mvtokenflow.small.training import state as training_state
from mvtokenflow.small.training.attention import softmax_attention
from mvtokenflow.small.training.config import PriorTraining
from mvtokenflow.small.training.data import Views, batches, training_pictures
from mvtokenflow.small.training.lesson import ViewLesson
from mvtokenflow.small.training.loop import PriorTrainer, clean_loss, draw_levels, rate_factor

SIZE, PATCH, VIEWS = 16, 4, 6


class Blobs:
    """Batches of bright discs, all views alike; batch i depends on i alone."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def __call__(self, index: int) -> Views:
        draw = np.random.default_rng(index)
        y, x = np.mgrid[:SIZE, :SIZE]
        inside = np.stack(
            [(x - draw.uniform(5, 11)) ** 2 + (y - draw.uniform(5, 11)) ** 2 < 16 for _ in range(self.batch)]
        )
        alpha = np.repeat(inside[:, None, ..., None], VIEWS, 1).astype(np.uint8) * 255
        rgb = np.where(alpha > 0, np.array([200, 60, 30], np.uint8), np.uint8(255)).astype(np.uint8)
        normal = np.where(alpha > 0, np.array([0, -127, 0], np.int8), np.int8(0)).astype(np.int8)
        return Views(rgb=rgb, alpha=alpha, normal=normal)


class Pooled:
    """A picture's mean colour, repeated: stands in for the image encoder."""

    def class_labels(self, front: Tensor, generator: torch.Generator) -> Tensor:
        return front.mean(dim=(2, 3)).repeat(1, 4)


def trainer(**settings: Any) -> PriorTrainer:
    config = PriorTraining(**{"batch": 2, "snap": 2, "warmup": 0, "rate": 2e-3, **settings})
    unet = small_unet_config((8, 16), (1, 2)) | {
        "cross_attention_dim": 8,
        "projection_class_embeddings_input_dim": 12,
    }
    codec = PatchCodec(
        means=torch.full((2, VIEWS, 3, SIZE, SIZE), 0.5),
        scales=torch.full((2, VIEWS), 0.4),
        places=place_planes(six_cameras(SIZE), PATCH),
        patch=PATCH,
    )
    prompts = torch.randn(2, VIEWS, 3, 8, generator=torch.Generator().manual_seed(1))
    return PriorTrainer(
        config=config,
        unet_config=unet,
        codec=codec,
        lesson=ViewLesson(codec=codec, encoder=Pooled(), prompts=prompts, front_weight=config.front_weight),
        source=Blobs(config.batch),
        device=torch.device("cpu"),
    )


def everything(state: training_state.TrainingState) -> dict[str, Tensor]:
    tensors = {f"weight.{name}": value.detach() for name, value in state.unet.named_parameters()}
    return tensors | {name: memory for name, (memory, _) in state.memories().items()}


def test_normal_maps_are_in_the_front_frame_and_grey_outside() -> None:
    normal = np.zeros((1, VIEWS, 2, 2, 3), np.int8)
    normal[0, 0, 0, 0], normal[0, 0, 0, 1], normal[0, 0, 1, 0] = (0, -127, 0), (127, 0, 0), (0, 0, 127)
    alpha = np.full((1, VIEWS, 2, 2, 1), 255, np.uint8)
    alpha[0, 0, 1, 1] = 0
    rgb = np.zeros((1, VIEWS, 2, 2, 3), np.uint8)
    pictures = training_pictures(Views(rgb=rgb, alpha=alpha, normal=normal))
    assert pictures.shape == (2, 1, VIEWS, 3, 2, 2)
    shown = pictures[NORMAL, 0, 0]
    # Era3D's check colours: towards the viewer is blue, right is red, up is green.
    assert shown[:, 0, 0].tolist() == [128, 128, 255]
    assert shown[:, 0, 1].tolist() == [255, 128, 128]
    assert shown[:, 1, 0].tolist() == [128, 255, 128]
    assert shown[:, 1, 1].tolist() == [128, 128, 128]
    assert pictures[COLOUR, 0, 0, :, 1, 1].tolist() == [255, 255, 255]
    assert pictures[COLOUR, 0, 0, :, 0, 0].tolist() == [0, 0, 0]


def test_processes_share_the_sequence_of_batches_without_repeats() -> None:
    source = Blobs(1)
    first, second = (list(batches(source, 4 + rank, 2, 0, limit=2)) for rank in (0, 1))
    for got, index in zip((*first, *second), (4, 6, 5, 7), strict=True):
        assert torch.equal(got, training_pictures(source(index)))


def test_schedule_ends_in_pure_noise() -> None:
    powers = noise_schedule().alphas_cumprod
    assert powers[-1] == 0
    assert powers[0] > 0.999
    assert (powers.diff() < 0).all()


def test_loss_is_zero_for_the_clean_latents_and_weighted_by_capped_snr() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(2, 3, VIEWS, 4, 2, 2, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    powers, levels = torch.tensor([0.96, 0.5, 0.0]), torch.tensor([0, 1, 2])
    off = 0.5

    def loss(shift: float) -> Tensor:
        def network(sample: Tensor, timestep: Tensor, context: Tensor, labels: Tensor) -> SimpleNamespace:
            assert torch.equal(timestep.view(2, 3, VIEWS)[0, :, 0], levels)
            assert context.shape == (36, 5, 7)
            assert labels.shape == (36, 9)
            return SimpleNamespace(sample=(clean + shift).flatten(0, 2))

        condition, labels = torch.zeros(2, 3, VIEWS, 1, 2, 2), torch.zeros(3, 9)
        prompts = torch.zeros(2, 3, VIEWS, 5, 7)
        return clean_loss(network, clean, condition, labels, prompts, powers, levels, noise, 5.0)

    torch.testing.assert_close(loss(0), torch.zeros(2, 3, VIEWS), atol=1e-12, rtol=0)
    expected = off**2 * torch.tensor([5.0, 2.0, 1.0])  # min(1 / sigma^2, 5)
    expected = expected.view(1, 3, 1).expand(2, 3, VIEWS)
    torch.testing.assert_close(loss(off), expected)


def test_levels_are_uniform_with_a_share_at_the_last() -> None:
    levels = draw_levels(20_000, 0.2, torch.Generator().manual_seed(0))
    assert float((levels == NOISE_LEVELS - 1).double().mean()) == pytest.approx(0.2, abs=0.01)
    others = levels[levels < NOISE_LEVELS - 1].double()
    assert float(others.mean()) == pytest.approx(NOISE_LEVELS / 2, abs=10)
    assert int(others.min()) == 0


def test_rate_rises_stays_and_falls() -> None:
    assert [rate_factor(n, 4, None) for n in (0, 1, 3, 4, 9999)] == [0.25, 0.5, 1, 1, 1]
    assert [rate_factor(n, 4, (100, 50)) for n in (100, 125, 149, 150, 151)] == pytest.approx(
        [1, 0.5, 0.02, 0, 0]
    )
    assert rate_factor(0, 0, None) == 1


def test_attention_and_its_gradients_are_those_of_softmax() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(3, length, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        for length in (5, 7, 7)
    )
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(softmax_attention(query, key, value), expected)
    assert torch.autograd.gradcheck(softmax_attention, (query, key, value))


def test_first_prediction_is_the_base_picture() -> None:
    state = trainer().state
    sample = torch.randn(12, 102, 4, 4, generator=torch.Generator().manual_seed(0))
    output = state.unet(sample, 999, torch.zeros(12, 3, 8), torch.zeros(12, 12)).sample
    bias = state.unet.conv_out.bias
    assert bias is not None
    assert (output - bias.view(1, -1, 1, 1) == 0).all()


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = trainer()
    assert whole.run(16)
    stopped = trainer()
    assert not stopped.run(16, at_snap=lambda: stopped.state.step >= 2)
    assert stopped.state.samples == 4
    stopped.save(tmp_path / "c.safetensors")
    resumed = trainer()
    resumed.resume(tmp_path / "c.safetensors")
    assert resumed.run(16)
    expected, found = everything(whole.state), everything(resumed.state)
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name
    strip = [{k: v for k, v in point.items() if k != "seconds"} for point in whole.state.curve]
    assert strip == [{k: v for k, v in point.items() if k != "seconds"} for point in resumed.state.curve]
    assert [point["samples"] for point in strip] == [4, 8, 12, 16]


def test_cooldown_ends_where_it_should_and_survives_a_checkpoint(tmp_path: Path) -> None:
    run = trainer()
    run.run(4)
    run.state.cooldown = (4, 8)
    run.save(tmp_path / "c.safetensors")
    other = trainer()
    other.resume(tmp_path / "c.safetensors")
    assert other.state.cooldown == (4, 8)
    other.run(12)
    before = {name: value.detach().clone() for name, value in other.state.unet.named_parameters()}
    other.step(next(batches(other.source, 6, 1, 0)))  # at rate 0 nothing moves
    for name, value in other.state.unet.named_parameters():
        assert torch.equal(before[name], value), name


def test_training_learns() -> None:
    run = trainer(batch=4, rate=4e-3, terminal=1.0)  # of the mean only: its loss is not noisy
    run.run(160)
    points = run.state.curve
    first, last = (sum(p["normal"] + p["colour"] for p in part) for part in (points[:3], points[-3:]))
    assert last < 0.85 * first  # measured 0.76


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    run = trainer()
    run.save(tmp_path / "c.safetensors")
    other = trainer()
    other = replace(other, unet_config={**other.unet_config, "block_out_channels": [8, 24]})
    with pytest.raises(WeightsCorruptError, match="another network"):
        other.resume(tmp_path / "c.safetensors")
    (tmp_path / "c.safetensors").write_bytes(b"not a checkpoint at all")
    with pytest.raises(WeightsCorruptError, match="not a checkpoint"):
        run.resume(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "batch"),
        ({"rate": 0.0}, "rate"),
        ({"terminal": 1.5}, "terminal"),
        ({"warmup": -1}, "warmup"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PriorTraining(**settings)
