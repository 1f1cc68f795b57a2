"""Frames of a clip stand at their own times, whether these are even or not."""

import pytest
import torch

from mvtokenflow.media.video import Clip
from mvtokenflow.method.config import preset
from mvtokenflow.method.prepare import prepare
from mvtokenflow.splat.export import fixed_view

UNEVEN = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])


def clip_of(frames: int, clock: torch.Tensor | None = None) -> Clip:
    alpha = torch.zeros(frames, 16, 16, 1)
    alpha[:, 4:12, 4:12] = 1
    return Clip(rgb=torch.full((frames, 16, 16, 3), 0.5), alpha=alpha, name="square", clock=clock)


@pytest.mark.parametrize("frames", [2, 7, 32, 64])
def test_even_frames_are_at_n_of_the_last_to_the_last_bit(frames: int) -> None:
    want = torch.tensor(range(frames), dtype=torch.float32) / (frames - 1)
    assert torch.equal(clip_of(frames).times, want)


def test_uneven_times_reach_the_field_and_its_pictures() -> None:
    clip = clip_of(6, UNEVEN)
    config = preset("mini")
    assert config.stride == 2
    assert torch.equal(prepare(clip, config).times, UNEVEN[[0, 2, 4, 5]])
    assert [shot.time for shot in fixed_view(0, UNEVEN.tolist())] == UNEVEN.tolist()


def test_uneven_times_make_another_clip() -> None:
    assert clip_of(6, UNEVEN).digest() != clip_of(6).digest()


@pytest.mark.parametrize(
    "clock",
    [
        [0.0, 0.5],
        [0.0, 0.5, 0.5, 1.0],
        [0.0, 0.6, 0.5, 1.0],
        [0.1, 0.2, 0.5, 1.0],
        [0.0, float("nan"), 0.5, 1.0],
    ],
)
def test_times_that_are_not_times_are_refused(clock: list[float]) -> None:
    with pytest.raises(ValueError, match=r"clip square: clock .* is not 4 times increasing from 0 to 1"):
        clip_of(4, torch.tensor(clock))
