"""Cropping: the original's pictures to the last bit, one box per video, and the way back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.media.video import Clip
from mvtokenflow.multiview.config import SquareConfig
from mvtokenflow.multiview.preprocess import square_clip

STORED = Path(__file__).parents[1] / "data" / "era3d_preproc_tiny.safetensors"


def as_clip(rgba: Tensor) -> Clip:
    """A clip of uint8 frames (T, H, W, 4)."""
    values = rgba.float() / 255
    return Clip(rgb=values[..., :3], alpha=values[..., 3:], name="clip")


def moving_square(height: int = 40, width: int = 60) -> Clip:
    """Three frames of an 8 x 12 red block that moves by 9 px to the right and grows by 4 px downwards."""
    frames = torch.zeros(3, height, width, 4, dtype=torch.uint8)
    for frame in range(3):
        frames[frame, 10 : 18 + 4 * frame, 5 + 9 * frame : 17 + 9 * frame] = torch.tensor([200, 30, 10, 255])
    return as_clip(frames)


@pytest.mark.parametrize(("case", "crop_size"), [("crop", 52), ("nocrop", -1)])
def test_pictures_of_the_original(case: str, crop_size: int) -> None:
    stored = load_file(STORED)
    clip = as_clip(torch.stack([stored["rgba_in"]] * 2))
    found = square_clip(clip, SquareConfig(size=64, crop_size=crop_size, per_frame=True))
    torch.testing.assert_close(found.front[1], stored[f"{case}.image_out"], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.alpha[1], stored[f"{case}.alpha_out"], atol=1e-6, rtol=0)


def test_one_box_keeps_motion_and_size() -> None:
    found = square_clip(moving_square(), SquareConfig(size=64, crop_size=60))
    assert len(set(found.crops)) == 1
    boxes = []
    for alpha in found.alpha[..., 0]:
        rows, columns = torch.nonzero(alpha > 0.5, as_tuple=True)
        boxes.append((int(columns.min()), int(columns.max()) + 1, int(rows.max()) + 1 - int(rows.min())))
    # The box of all frames is 30 x 16 px, scaled by 2 to 60 x 32.
    assert boxes == [(2, 26, 16), (20, 44, 24), (38, 62, 32)]


def test_a_box_per_frame_loses_them() -> None:
    found = square_clip(moving_square(), SquareConfig(size=64, crop_size=60, per_frame=True))
    spans = [torch.nonzero(alpha.any(dim=0))[:, 0] for alpha in found.alpha[..., 0]]
    # Each fills the picture: 12 x 8, 12 x 12 and 12 x 16 px, of which the original loses a row and a column.
    assert [(int(span[0]), int(span[-1])) for span in spans] == [(2, 60), (2, 60), (10, 53)]


def test_whole_frames_are_padded() -> None:
    found = square_clip(moving_square(), SquareConfig(size=60, crop_size=-1))
    inside = found.alpha[0, :, :, 0] > 0
    assert torch.equal(inside[10:50], moving_square().alpha[0, :, :, 0] > 0)
    assert not inside[:10].any()
    assert not inside[50:].any()


def original_whole_frame(rgba: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """The original's picture (size, size, 3) of a whole frame: pasted onto a square, then scaled."""
    height, width = rgba.shape[:2]
    side = max(height, width)
    square = Image.new("RGBA", (side, side))
    square.paste(Image.fromarray(rgba), ((side - width) // 2, (side - height) // 2))
    scaled = np.asarray(square.resize((size, size)), np.float32) / np.float32(255)
    picture: NDArray[np.float32] = scaled[..., :3] * scaled[..., 3:] + (np.float32(1) - scaled[..., 3:])
    return picture


# Odd margins, and sides by which `size` divided and multiplied again is less than `size`.
@pytest.mark.parametrize(("height", "width"), [(41, 60), (60, 41), (49, 49), (49, 32), (128, 128)])
def test_whole_frames_of_any_side_are_the_original_s(height: int, width: int) -> None:
    draw = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (1, height, width, 4), generator=draw, dtype=torch.uint8)
    found = square_clip(as_clip(frames), SquareConfig(size=64, crop_size=-1))
    expected = original_whole_frame(frames[0].numpy(), 64)
    np.testing.assert_allclose(found.front[0].numpy(), expected, atol=1e-6)
    crop = found.crops[0]
    assert (crop.x, crop.y, crop.scaled_width, crop.scaled_height) == (0, 0, 64, 64)
    # A frame's corner lies where the original pastes it.
    scale, margin = 64 / max(height, width), (max(height, width) - torch.tensor([width, height])) // 2
    torch.testing.assert_close(crop.to_square(torch.zeros(2)), margin * scale)


def test_background_is_white_and_edges_are_not_dark() -> None:
    clip = moving_square()
    found = square_clip(clip, SquareConfig(size=64, crop_size=41))
    assert (found.front[found.alpha[..., 0] == 0] == 1).all()
    assert found.front.dtype == torch.float32
    # Colours that are premultiplied while they are scaled stay between red and white at every edge.
    assert found.front[..., 0].min() >= 195 / 255
    assert ((found.front >= 0) & (found.front <= 1)).all()


def test_points_go_there_and_back() -> None:
    crop = square_clip(moving_square(), SquareConfig(size=64, crop_size=60)).crops[0]
    corners = torch.tensor([[5.0, 10.0], [35.0, 26.0]])
    torch.testing.assert_close(crop.to_square(corners), torch.tensor([[2.0, 16.0], [62.0, 48.0]]))
    torch.testing.assert_close(crop.to_frame(crop.to_square(corners)), corners)


@pytest.mark.parametrize("crop_size", [60, 31, -1])
def test_results_are_placed_over_their_frames(crop_size: int) -> None:
    clip = moving_square()
    found = square_clip(clip, SquareConfig(size=64, crop_size=crop_size))
    placed = found.crops[0].place(found.alpha, 40, 60)
    assert placed.shape == (3, 40, 60, 1)
    # Blurred by half a pixel of the smaller of both resolutions at the border, equal inside and outside.
    wrong = ((placed - clip.alpha).abs() > 0.6).sum()
    assert wrong == 0
    assert ((placed - clip.alpha).abs() < 0.02).float().mean() > 0.9


def test_object_that_touches_the_border() -> None:
    frames = torch.zeros(2, 20, 30, 4, dtype=torch.uint8)
    frames[:, :, 25:] = 255
    found = square_clip(as_clip(frames), SquareConfig(size=32, crop_size=32))
    assert (found.crops[0].left, found.crops[0].width, found.crops[0].height) == (25, 5, 20)
    assert np.isclose(float(found.alpha[0].sum()), 32 * 8)


def test_no_object_is_refused() -> None:
    empty = Clip(rgb=torch.zeros(2, 8, 8, 3), alpha=torch.zeros(2, 8, 8, 1), name="fox")
    with pytest.raises(DataError, match=r"fox: alpha is 0"):
        square_clip(empty, SquareConfig())
    clip = moving_square()
    clip.alpha[1] = 0
    square_clip(clip, SquareConfig())
    with pytest.raises(DataError, match=r"clip frame 1: alpha is 0"):
        square_clip(clip, SquareConfig(per_frame=True))


@pytest.mark.parametrize("settings", [{"size": 0}, {"crop_size": 0}, {"crop_size": 513}, {"crop_size": -2}])
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SquareConfig(**settings)
