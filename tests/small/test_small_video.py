"""The learned video denoiser: its windows and condition, what it is trained on, and its weights file."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import WeightsCorruptError, WeightsMissingError
from mvtokenflow.multiview.prior import COLOUR, NORMAL, MultiviewPrior
from mvtokenflow.small.codec import FRONT, PatchCodec
from mvtokenflow.small.prior import load_small_prior
from mvtokenflow.small.toys.video import VIEWS_OF_CLIP, ClipSource, ToyVideo, network_of
from mvtokenflow.small.training import sittings
from mvtokenflow.small.training.config import PriorTraining
from mvtokenflow.small.training.windows import WindowLesson
from mvtokenflow.small.video import (
    WINDOW,
    AnchoredClip,
    LearnedVideo,
    load_small_video,
    mean_pictures,
    window_condition,
)

SIZE = 64


@pytest.fixture(scope="module")
def prior(prior_file: Path) -> MultiviewPrior:
    return load_small_prior(prior_file)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def a_clip(prior: MultiviewPrior, frames: int) -> AnchoredClip:
    return AnchoredClip(
        fronts=noise(frames, 3, SIZE, SIZE).sigmoid(),
        times=torch.linspace(0, 1, frames),
        anchor=0,
        pictures=noise(2, 6, 3, SIZE, SIZE, seed=1).sigmoid(),
    )


def test_the_condition_is_the_anchor_its_view_and_the_time_from_it(prior: MultiviewPrior) -> None:
    codec = prior.codec
    assert isinstance(codec, PatchCodec)
    anchors = noise(2, 2, 3, SIZE, SIZE).sigmoid()
    views, times = torch.tensor([1, 3]), torch.stack([torch.arange(6) / 16, torch.arange(6) / 8])
    found = window_condition(codec, anchors, views, times)
    assert found.shape == (2, 2, WINDOW, codec.condition_channels, 16, 16)
    shown = torch.nn.functional.pixel_shuffle(found[:, :, :, : codec.channels], codec.patch)
    torch.testing.assert_close(shown, (2 * anchors - 1)[:, :, None].expand_as(shown))
    planes = found[:, :, :, codec.channels :]
    torch.testing.assert_close(planes[:, :, :, 4], times[None, :, :, None, None].expand(2, -1, -1, 16, 16))
    kept = [0, 1, 2, 3, 5]
    assert torch.equal(planes[:, 1, 2, kept], codec.places[:, 3][:, kept])
    assert not bool(codec.places[:, :, 4].any()), "level cameras leave this plane free"


def test_where_windows_overlap_their_mean_is_taken(prior: MultiviewPrior) -> None:
    clip, video = a_clip(prior, 8), LearnedVideo(unet=prior.unet, overlap=4)
    latents = noise(2, 8, 6, 48, 16, 16, seed=2)
    whole = video.of_clip(prior, clip)(latents, 300, 0.7)

    def part(start: int) -> Tensor:
        """The window from one frame on, as a clip of its own with the same anchor."""
        shifted = replace(clip, fronts=clip.fronts[start : start + 6], times=clip.times[start : start + 6])
        moved = replace(shifted, times=shifted.times - clip.times[0])
        views = torch.arange(6)
        condition = window_condition(
            prior.codec,  # type: ignore[arg-type]  # the small prior's
            clip.pictures,
            views,
            moved.times.expand(6, -1),
        )
        labels = prior.image_encoder.class_labels(clip.pictures[COLOUR], torch.Generator())
        sample = latents[:, start : start + 6].transpose(1, 2)
        output = prior.unet(
            torch.cat((sample, condition), dim=3).flatten(0, 2),
            300,
            prior.prompts[:, :, None].expand(-1, -1, 6, -1, -1).flatten(0, 2),
            labels[None, :, None].expand(2, -1, 6, -1).flatten(0, 2),
        ).sample
        clean: Tensor = output.view_as(sample).transpose(1, 2)
        return clean

    first, second = part(0), part(2)
    torch.testing.assert_close(whole[:, :2], first[:, :2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole[:, 6:], second[:, 4:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole[:, 2:6], (first[:, 2:] + second[:, :4]) / 2, rtol=1e-4, atol=1e-5)


def test_clips_shorter_than_a_window_are_denoised(prior: MultiviewPrior) -> None:
    latents = noise(2, 2, 6, 48, 16, 16)
    found = LearnedVideo(unet=prior.unet).of_clip(prior, a_clip(prior, 2))(latents, 300, 0.7)
    assert found.shape == latents.shape
    assert bool(found.isfinite().all())


def test_frames_of_a_view_see_each_other_and_no_other_view(prior_file: Path) -> None:
    prior = load_small_prior(prior_file)
    for name, value in prior.unet.named_parameters():
        if name.endswith("attn_mv.to_out.0.weight"):  # 0 before training
            torch.nn.init.normal_(value, std=0.2)
    denoise = LearnedVideo(unet=prior.unet).of_clip(prior, a_clip(prior, 6))
    latents = noise(2, 6, 6, 48, 16, 16)
    other = latents.clone()
    other[:, 5, 2] += 1
    moved = (denoise(other, 300, 0.7) - denoise(latents, 300, 0.7)).abs().amax(dim=(0, 3, 4, 5))
    assert float(moved[:5, 2].min()) > 1e-4, "earlier frames of the view change"
    assert float(moved[:, [0, 1, 3, 4, 5]].max()) < 1e-5, "other views do not"


# ---- what it is trained on ----


def test_batches_are_clips_in_a_fixed_order() -> None:
    source = ClipSource(0, 2 * VIEWS_OF_CLIP, 16)
    first, again, later = source(3).tensors(), source(3).tensors(), source(4).tensors()
    assert first.pictures.shape == (2, 2, 1 + WINDOW, 6, 3, 16, 16)
    assert torch.equal(first.pictures, again.pictures)
    assert not torch.equal(first.pictures, later.pictures)
    unseen = ClipSource(0, 2 * VIEWS_OF_CLIP, 16, "validation")(3).tensors()
    assert not torch.equal(first.pictures, unseen.pictures)


def test_windows_lie_behind_their_anchor_within_a_clip() -> None:
    source = ClipSource(0, VIEWS_OF_CLIP, 16)
    starts = set()
    for number in range(200):
        anchor, *window = source.times(number).tolist()
        gaps = [later - earlier for earlier, later in pairwise(window)]
        assert max(gaps) - min(gaps) < 1e-9
        assert 1 / 24 <= gaps[0] <= 1 / 11
        assert window[0] >= anchor
        assert window[-1] - anchor < 1.1
        starts.add(round((window[0] - anchor) / gaps[0]))
    assert starts >= set(range(6))


def test_a_lesson_is_a_view_given_what_the_prior_draws_of_it(prior: MultiviewPrior) -> None:
    codec = prior.codec
    assert isinstance(codec, PatchCodec)
    held = ClipSource(0, 2 * VIEWS_OF_CLIP, SIZE)(0).tensors()
    example = WindowLesson(prior=prior, views=6)(held, torch.Generator().manual_seed(0))
    assert example.clean.shape == (2, 12, WINDOW, 48, 16, 16)
    exact = held.pictures.float() / 255
    front = exact[COLOUR, 1, 1:, FRONT]
    latents = codec.encode(exact[:, 1, 1:], front)
    free = (example.weights[COLOUR] == 0).all(1).nonzero().flatten().tolist()
    assert len(free) == 2, "the front colour of both clips costs nothing"
    fronts = [index for index in free if index >= 6]  # of the second clip
    torch.testing.assert_close(example.clean[NORMAL, fronts[0]], latents[NORMAL, :, FRONT])
    assert float(example.weights.mean()) == pytest.approx(1)
    drawn = mean_pictures(prior, exact[COLOUR, :, 0, FRONT], torch.Generator().manual_seed(7))
    patches = example.condition[:, fronts[0], 0, : codec.channels]
    shown = torch.nn.functional.pixel_shuffle(patches, codec.patch) / 2 + 0.5
    # Of an untrained prior the mean picture hardly depends on the noise.
    torch.testing.assert_close(shown, drawn[:, 1, FRONT], rtol=0, atol=0.05)


def test_training_starts_from_the_prior_and_writes_a_file_of_its_own_kind(
    prior_file: Path, tmp_path: Path
) -> None:
    run = sittings.PriorRun(
        out=tmp_path / "run",
        subject=ToyVideo(prior_file),
        training=PriorTraining(batch=VIEWS_OF_CLIP, snap=1, warmup=0, rate=0.0001, terminal=0.0),
        unet=network_of(prior_file),
        size=SIZE,
        samples=VIEWS_OF_CLIP,
        cooldown=None,
        minutes=None,
        device="cpu",
        dtype="float32",
        workers=0,
        compile=False,
        evaluate=0,
    )
    trainer = sittings.train_prior(run)
    assert trainer.state.samples == VIEWS_OF_CLIP
    video = load_small_video(run.weights)
    start = load_small_prior(prior_file).unet.state_dict()
    moved = [float((value - start[name]).abs().max()) for name, value in video.unet.state_dict().items()]
    assert 0 < max(moved) < 0.01
    with pytest.raises(WeightsCorruptError, match="format"):
        load_small_prior(run.weights)
    with pytest.raises(WeightsCorruptError, match="format"):
        load_small_video(prior_file)
    with pytest.raises(WeightsMissingError, match="train-video"):
        load_small_video(tmp_path / "none.safetensors")
