"""Training of the small CLIP: losses by hand, batches, exact resume, the command."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_clip_config
from torch.nn import functional as F

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.seeds import MAX_SEED
from mvtokenflow.datasets.toy4d.toys import make_toy
from mvtokenflow.small.clip import SmallClipConfig, load_small_clip
from mvtokenflow.small.toys.captions import ClipBatches, picture, vocabulary
from mvtokenflow.small.training.clip import (
    UNSTATED,
    PictureTextBatch,
    SmallClipTrainer,
    SmallClipTraining,
    augment,
    image_loss,
    nearest_share,
    text_loss,
)


def _config() -> SmallClipConfig:
    return tiny_clip_config(vocabulary())


def _quiet(stage: str, done: int, total: int) -> None:
    assert stage == "train small CLIP"
    assert 0 < done <= total


def test_a_text_is_true_of_every_picture_that_shows_what_it_states() -> None:
    batch = PictureTextBatch(
        pictures=torch.zeros(3, 3, 8, 8, dtype=torch.uint8),
        texts=("a red car toy", "a car toy, back view", "a blue car toy"),
        facts=torch.tensor([[0, 5, 1], [1, 5, 3], [1, 5, 1]]),
        claims=torch.tensor([[0, 5, UNSTATED], [UNSTATED, 5, 3], [1, 5, UNSTATED]]),
    )
    expected = [[True, False, False], [False, True, True], [False, False, True]]
    assert batch.truth().tolist() == expected


def test_text_loss_is_clips_where_texts_are_distinct() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(6, 4, generator=generator), dim=1) for _ in range(2))
    logits = 7 * images @ texts.T
    number = torch.arange(6)
    clip = 0.5 * (F.cross_entropy(logits, number) + F.cross_entropy(logits.T, number))
    mine = text_loss(images, texts, torch.eye(6, dtype=torch.bool), torch.tensor(7.0))
    torch.testing.assert_close(mine, clip)


def test_text_loss_of_a_repeated_caption_does_not_push_it_away() -> None:
    images = torch.eye(2)[[0, 0, 1]]
    truth = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    # Two toys of one caption: at a large scale the loss reaches its floor, the entropy log 2 of two rows.
    loss = text_loss(images, images, truth, torch.tensor(50.0))
    assert float(loss) == pytest.approx(2 / 3 * np.log(2), abs=1e-6)
    hard = text_loss(images, images, torch.eye(3, dtype=torch.bool), torch.tensor(50.0))
    assert float(hard) == pytest.approx(float(loss), abs=1e-6)
    apart = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    assert text_loss(apart, apart, truth, torch.tensor(50.0)) > loss


def test_image_loss_by_hand() -> None:
    images = torch.eye(2)[[0, 0, 1, 1]]
    # Per row: partner at cosine 1, two others at 0, itself left out.
    expected = -np.log(np.exp(2) / (np.exp(2) + 2))
    assert float(image_loss(images, 0.5)) == pytest.approx(expected, abs=1e-6)
    assert image_loss(images[[0, 2, 1, 3]], 0.5) > image_loss(images, 0.5)


def test_batches_depend_on_seed_and_step_alone() -> None:
    batches = ClipBatches(seed=5, toys=6, size=32)
    first, again, other = batches(2), batches(2), batches(3)
    assert torch.equal(first.pictures, again.pictures)
    assert first.texts == again.texts
    assert not torch.equal(first.pictures, other.pictures)
    assert first.pictures.shape == (12, 3, 32, 32)
    assert bool(first.truth().diagonal().all())


def test_texts_state_only_what_their_picture_shows() -> None:
    batch = ClipBatches(seed=1, toys=120, size=8)(0)
    colors = {"red", "blue", "green", "striped", "spotted", "checkered"}
    for text, fact, claim in zip(batch.texts, batch.facts.tolist(), batch.claims.tolist(), strict=True):
        stated = [(a, b) for a, b in zip(fact, claim, strict=True) if b != UNSTATED]
        assert all(a == b for a, b in stated)
        if fact[3] == 0:
            assert text.rstrip(".").endswith("normal map")
            assert not colors & set(text.split())
        assert ("view" in text) == (claim[2] != UNSTATED)
    assert any(text.startswith("a rendering image of 3D models") for text in batch.texts)
    assert any("color map" in text for text in batch.texts)


def test_pictures_follow_the_conventions_of_the_prior() -> None:
    toy = make_toy("robot", 4)
    color = picture(toy, 0.0, 0.0, 64, False)
    normal = picture(toy, 0.0, 0.0, 64, True)
    assert (color[:, 0, 0] == 255).all()  # white
    assert (normal[:, 0, 0] == 128).all()  # no surface
    centre = normal[:, 24:40, 24:40].reshape(3, -1).mean(1)
    assert centre[2] > 160  # what the front camera sees faces it: z of Era3D's front frame
    behind = picture(toy, 180.0, 0.0, 64, True)[:, 24:40, 24:40].reshape(3, -1).mean(1)
    assert behind[2] < 96  # one frame for all views


def test_augmentation_is_seeded_small_and_stays_in_range() -> None:
    shots = ClipBatches(seed=0, toys=3, size=32)(0).pictures.float() / 255
    settings = SmallClipTraining()
    first, again = (augment(shots, settings, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.min() >= 0
    assert first.max() <= 1
    assert 0 < (first - shots).abs().mean() < 0.15
    off = SmallClipTraining(crop=0, jitter=0)
    torch.testing.assert_close(augment(shots, off, torch.Generator()), shots, atol=1e-5, rtol=0)


def test_a_stopped_run_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, batches = SmallClipTraining(steps=4, warmup=1), ClipBatches(seed=0, toys=4, size=32)
    whole = SmallClipTrainer(_config(), settings, batches, tmp_path / "whole")
    whole.run(None, _quiet)

    def impatient(stage: str, done: int, total: int) -> None:
        if done == 2:
            clock.append(1e9)

    clock = [0.0]
    monkeypatch.setattr("mvtokenflow.small.training.clip.time.monotonic", lambda: clock[-1])
    first = SmallClipTrainer(_config(), settings, batches, tmp_path / "parts")
    first.run(60, impatient)
    rest = SmallClipTrainer(_config(), settings, batches, tmp_path / "parts")
    assert rest.step == 2
    rest.run(None, _quiet)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(rest.model.state_dict()[name], value), name
    assert rest.curve == whole.curve


def test_a_time_limit_stops_between_steps(tmp_path: Path) -> None:
    settings, batches = SmallClipTraining(steps=3, warmup=0), ClipBatches(seed=0, toys=2, size=32)
    trainer = SmallClipTrainer(_config(), settings, batches, tmp_path)
    trainer.run(0.0, _quiet)
    assert (trainer.step, trainer.finished) == (0, False)
    trainer.run(None, _quiet)
    assert trainer.finished


def test_checkpoints_of_other_settings_or_damaged_ones_are_refused(tmp_path: Path) -> None:
    batches = ClipBatches(seed=0, toys=2, size=32)
    SmallClipTrainer(_config(), SmallClipTraining(steps=2, warmup=0), batches, tmp_path).run(None, _quiet)
    with pytest.raises(DataError, match="other settings"):
        SmallClipTrainer(_config(), SmallClipTraining(steps=3, warmup=0), batches, tmp_path)
    with pytest.raises(DataError, match="other settings"):
        SmallClipTrainer(
            _config(), SmallClipTraining(steps=2, warmup=0), ClipBatches(seed=1, toys=2, size=32), tmp_path
        )
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged checkpoint"):
        SmallClipTrainer(_config(), SmallClipTraining(steps=2, warmup=0), batches, tmp_path)


def test_training_learns_a_batch(tmp_path: Path) -> None:
    batch = ClipBatches(seed=0, toys=8, size=32)(0)
    settings = SmallClipTraining(steps=50, warmup=5)
    trainer = SmallClipTrainer(_config(), settings, lambda step: batch, tmp_path)
    before = trainer._advance()
    trainer.run(None, _quiet)
    after = trainer._advance()
    assert after[0] < 0.7 * before[0]
    assert after[1] < 0.3 * before[1]
    assert [row[0] for row in trainer.curve] == [50]


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"warmup": 900}, {"learning_rate": 0.0}, {"weight_decay": -1.0}, {"crop": 0.5}],
)
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        SmallClipTraining(**change)  # type: ignore[arg-type] # one bad field at a time


def test_rate_warms_up_and_falls_to_nothing() -> None:
    settings = SmallClipTraining(steps=100, warmup=10, learning_rate=1.0)
    rates = [settings.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[-1] < 1e-3


def test_every_seed_that_is_taken_can_be_trained_with(tmp_path: Path) -> None:
    batch = ClipBatches(seed=0, toys=2, size=32)(0)
    weights = []
    for seed in (0, MAX_SEED - 1, MAX_SEED):
        settings = SmallClipTraining(seed=seed, steps=1, warmup=0)
        trainer = SmallClipTrainer(_config(), settings, lambda step: batch, tmp_path / str(seed))
        trainer.run(None, _quiet)
        weights.append(torch.cat([value.flatten() for value in trainer.model.parameters()]))
    assert all(value.isfinite().all() for value in weights)
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2]), "the largest seeds are told apart"


def test_nearest_share_counts_own_rows() -> None:
    rows = np.eye(4)
    assert nearest_share(rows, rows) == 1
    assert nearest_share(rows, rows[[1, 0, 2, 3]]) == 0.5


def test_command_trains_scores_and_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mvtokenflow.cli.mvtf import main

    monkeypatch.setattr("mvtokenflow.small.toys.retrieval.GALLERY", 4)
    monkeypatch.setattr("mvtokenflow.small.toys.retrieval.GALLERIES", 2)
    monkeypatch.setattr("mvtokenflow.small.toys.captions.FRONTS", 8)

    def run(*more: str) -> int:
        options = ["-o", str(tmp_path / "clip"), "--steps", "2", "--toys", "2", *more]
        monkeypatch.setattr(sys, "argv", ["mvtf", "train-clip", *options])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    assert run("--json", "--minutes", "1e-9") == 0
    assert json.loads(capsys.readouterr().out) == {"step": 0, "steps": 2}
    assert run("--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert 0 <= scores["unseen_seeds"]["color"]["clip"] <= 1
    assert set(scores["unseen_seeds"]["zero_shot"]) == {"plan", "main_color", "view", "map"}
    assert "zero_shot" not in scores["held_out_plan"]
    file = tmp_path / "clip" / "clip.safetensors"
    assert load_small_clip(file).class_std.min() > 0
    written = file.stat().st_mtime_ns
    assert run() == 0
    assert file.stat().st_mtime_ns == written
    for minutes in ("-1", "nan"):
        assert run("--minutes", minutes) == 2
        assert "must be positive" in capsys.readouterr().err
    assert run("--seed", "3") == 2
    assert "other settings" in capsys.readouterr().err
