"""`mvtf-eval align` compares frames of one number, however many a side has."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvtokenflow.base.errors import DataError
from mvtokenflow.datasets.layout import AZIMUTHS_DEG
from mvtokenflow.eval.score.align_folder import align_folder, align_toy4d

Layout = Callable[..., Path]


def picture(number: int) -> np.ndarray:
    """A square whose place tells the number."""
    pixels = np.full((32, 32, 3), 255, np.uint8)
    pixels[8:20, number : number + 8] = (200, 30, 30)
    return pixels


def views(root: Path, numbers: list[int]) -> Path:
    for view in AZIMUTHS_DEG:
        (root / "cat" / view).mkdir(parents=True)
        for number in numbers:
            Image.fromarray(picture(number)).save(root / "cat" / view / f"{number}.png")
    return root


def test_frames_are_compared_by_number(tmp_path: Path) -> None:
    reference = views(tmp_path / "gt", list(range(20)))
    prediction = views(tmp_path / "pred", [4, 9, 16])
    found = align_folder(prediction, reference, None)["cat"]
    assert found.iou_before.min() == 1.0, "by position the squares lie elsewhere"


def test_views_without_a_common_number_are_refused(tmp_path: Path) -> None:
    reference, prediction = views(tmp_path / "gt", [0, 1]), views(tmp_path / "pred", [2, 3])
    with pytest.raises(DataError, match="cat: no frame number is in all views of both sides"):
        align_folder(prediction, reference, None)


def test_toy4d_has_32_frames(tmp_path: Path) -> None:
    prediction = views(tmp_path / "long", [0, 32])
    with pytest.raises(DataError, match="holds a frame 32, toy4d has 0 to 31"):
        align_toy4d(prediction, None, lambda stage, done, total: None)


def test_toy4d_is_rendered_at_the_times_of_the_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[np.ndarray] = []

    def render(name: str, camera: object, at: np.ndarray, samples: int) -> None:
        times.append(at)
        raise DataError("enough")

    monkeypatch.setattr("mvtokenflow.datasets.toy4d.scenes.render_scene", render)
    with pytest.raises(DataError, match="enough"):
        align_toy4d(views(tmp_path / "pred", [7, 11, 16]), None, lambda stage, done, total: None)
    np.testing.assert_allclose(times[0] * 31, [7, 11, 16])
