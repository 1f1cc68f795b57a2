"""`mvtf cut-out`: frames with alpha that other commands read, kept, and of one video only."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mvtokenflow.base.errors import DataError
from mvtokenflow.media.video import read_clip

Mvtf = Callable[..., Any]  # of tests/conftest.py
SIDE = 64


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Three frames of a red square that moves to the right on white."""
    folder = tmp_path / "plain"
    folder.mkdir()
    for n in range(3):
        frame = np.full((SIDE, SIDE, 3), 255, np.uint8)
        frame[20:44, 16 + 4 * n : 40 + 4 * n] = (200, 30, 30)
        Image.fromarray(frame).save(folder / f"{n}.png")
    return folder


def test_frames_have_the_alpha_of_the_object_and_are_a_clip(mvtf: Mvtf, plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, message = mvtf("cut-out", plain, "-o", out, "--json")
    assert code == 0, message
    found = json.loads(printed)
    assert (found["count"], found["cut_out_by"]) == (3, "background auto")
    clip = read_clip(Path(found["frames"]))
    assert clip.alpha.shape == (3, SIDE, SIDE, 1)
    for n, alpha in enumerate(clip.alpha[..., 0].numpy()):
        truth = np.zeros((SIDE, SIDE), bool)
        truth[20:44, 16 + 4 * n : 40 + 4 * n] = True
        assert ((alpha > 0.5) == truth).mean() > 0.99
    assert (out / "masks.png").is_file()


def test_a_mended_mask_is_used_and_another_video_is_refused(mvtf: Mvtf, plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert mvtf("cut-out", plain, "-o", out)[0] == 0
    mended = np.zeros((SIDE, SIDE), np.uint8)
    mended[20:44, 10:20] = 255
    (path, *_) = sorted((out / "masks").glob("*.png"))
    Image.fromarray(mended).save(path)
    assert mvtf("cut-out", plain, "-o", out)[0] == 0
    with Image.open(out / "frames" / "0.png") as opened:
        assert (np.asarray(opened)[..., 3] == mended).all()
    code, _, message = mvtf("cut-out", plain, "-o", out, "--frames", 2)
    assert code == 2
    assert "belongs to another run" in message


def test_the_error_for_a_clip_without_alpha_names_the_command(plain: Path) -> None:
    with pytest.raises(DataError, match="mvtf cut-out"):
        read_clip(plain)
