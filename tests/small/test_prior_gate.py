"""The gate's arithmetic on answers whose scores are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvtokenflow.multiview.prior import COLOUR, NORMAL
from mvtokenflow.small.codec import BACK, FRONT
from mvtokenflow.small.gate import Answer, copied, decide, measure, sheet, truth

SIZE, VIEWS = 8, 6


def pictures(count: int = 2) -> Tensor:
    """Per object and view a rectangle of its own colour with normals towards the front camera."""
    made = torch.full((2, count, VIEWS, 3, SIZE, SIZE), 255, dtype=torch.uint8)
    made[NORMAL] = 128
    for n in range(count):
        for v in range(VIEWS):
            made[COLOUR, n, v, :, 2:6, 1 : 4 + v % 3] = torch.tensor([20 * v, 90, 40 * n])[:, None, None]
            made[NORMAL, n, v, :, 2:6, 1 : 4 + v % 3] = torch.tensor([128, 128, 255])[:, None, None]
    return made


@pytest.fixture
def true() -> Answer:
    return truth(pictures())


def means(scores: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    return {name: float(value.mean()) for name, value in scores.items()}


def test_truth_is_perfect(true: Answer) -> None:
    assert true.mask[0, 0].sum() == 12
    scores = measure(true, true)
    assert all(value.shape == (2,) for value in scores.values())
    found = means(scores)
    # Angles near zero: the encoded normal is off by 1/255, acos of a rounded 1 adds 1e-6.
    assert found.pop("normal_deg") == pytest.approx(0, abs=1e-3)
    assert found.pop("normal_deg_overlap") == pytest.approx(0, abs=1e-3)
    assert found.pop("iou") == 1
    assert set(found.values()) == {100.0}


def test_a_constant_error_has_its_decibels(true: Answer) -> None:
    found = means(measure(replace(true, rgb=true.rgb + 0.1), true))
    assert found["psnr"] == pytest.approx(20, abs=1e-5)
    assert found["psnr_object"] == pytest.approx(20, abs=1e-5)


@pytest.mark.parametrize(("view", "name"), [(1, "45"), (5, "45"), (2, "90"), (4, "90"), (3, "180")])
def test_an_error_counts_at_its_own_azimuth(true: Answer, view: int, name: str) -> None:
    rgb = true.rgb.clone()
    rgb[:, view] += 0.1
    found = means(measure(replace(true, rgb=rgb), true))
    share = 1.0 if name == "180" else 0.5
    assert found[f"psnr_{name}"] == pytest.approx(100 - 80 * share, abs=1e-4)
    assert found["psnr"] == pytest.approx(100 - 80 / 5, abs=1e-4)
    assert [n for n in ("45", "90", "180") if found[f"psnr_{n}"] < 100] == [name]


def test_the_front_colour_is_never_scored(true: Answer) -> None:
    rgb = true.rgb.clone()
    rgb[:, FRONT] = 0
    assert means(measure(replace(true, rgb=rgb), true))["psnr"] == 100


def test_object_errors_are_not_diluted_by_background(true: Answer) -> None:
    rgb = true.rgb + 0.1 * true.mask[..., None]
    found = means(measure(replace(true, rgb=rgb), true))
    assert found["psnr_object"] == pytest.approx(20, abs=1e-4)
    assert found["psnr"] > 24


def test_missing_normals_count_ninety_degrees_and_shrink_the_mask(true: Answer) -> None:
    normal, mask = true.normal.clone(), true.mask.clone()
    normal[:, :, 2:4], mask[:, :, 2:4] = 0, False  # half of each rectangle
    found = means(measure(Answer(rgb=true.rgb, normal=normal, mask=mask), true))
    assert found["normal_deg"] == pytest.approx(45, abs=1e-3)
    assert found["normal_deg_overlap"] == pytest.approx(0, abs=1e-3)
    assert found["iou"] == pytest.approx(0.5)


def test_an_opposite_normal_is_off_by_180_degrees(true: Answer) -> None:
    found = means(measure(replace(true, normal=-true.normal), true))
    assert found["normal_deg"] == pytest.approx(180, abs=0.1)


def test_copy_is_perfect_for_an_object_whose_views_are_mirror_images() -> None:
    made = pictures()
    front = made[:, :, FRONT].clone()
    for view in range(VIEWS):
        made[:, :, view] = front.flip(-1) if view == BACK else front
    found = means(measure(copied(made), truth(made)))
    assert found["psnr"] == 100
    assert found["iou"] == 1
    assert measure(copied(pictures()), truth(pictures()))["psnr_90"].max() < 25


def scores(psnr: float, degrees: float) -> dict[str, NDArray[np.float64]]:
    spread = np.array([-1.0, 1.0])
    named = {f"psnr_{name}": psnr + spread for name in ("45", "90", "180")}
    return {**named, "normal_deg": degrees + spread}


def test_the_gate_needs_every_margin() -> None:
    copy, mean = scores(15, 60), scores(13, 30)
    assert decide(scores(16, 29), copy, mean)["passed"]
    assert not decide(scores(16, 31), copy, mean)["passed"]
    for name in ("45", "90", "180"):
        ours = scores(16, 29)
        ours[f"psnr_{name}"] -= 1.5
        decision = decide(ours, copy, mean)
        assert not decision["passed"]
        failed = [check for check, outcome in decision["checks"].items() if not outcome["passed"]]
        assert failed == [f"psnr_{name} over copy"]


def test_margins_are_paired() -> None:
    checks = decide(scores(16, 29), scores(15, 60), scores(13, 30))["checks"]
    assert checks["psnr_90 over copy"] == {"margin": 1.0, "standard_error": 0.0, "passed": True}
    assert checks["normal_deg under mean_picture"]["margin"] == 1.0


def test_the_sheet_pairs_truth_and_answer(true: Answer) -> None:
    shown = sheet(pictures(), true, count=2)
    assert shown.shape == (2 * 2 * SIZE, 2 * VIEWS * SIZE, 3)
    assert (shown[:SIZE] == shown[SIZE : 2 * SIZE]).all()
    assert shown[2, 1].tolist() == [0, 90, 0]
