"""SSIM: torchmetrics, scikit-image, the published values, and that skipping the background changes nothing."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.eval.metrics.compute.resize import squash
from mvtokenflow.eval.metrics.ssim import SsimBorder, SsimRange, ssim, ssim_map

Pixels = npt.NDArray[np.uint8]
WHITE, GREY = (255, 255, 255), (231, 17, 90)


def textured(seed: int, height: int = 60, width: int = 44) -> Pixels:
    """Smooth colour with some noise: neither flat nor uncorrelated."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 70 * np.sin(x / 5 + c) * np.cos(y / 7 - c + seed) for c in range(3)]
    return np.clip(np.stack(waves, -1) + 12 * rng.standard_normal((height, width, 3)), 0, 255).astype(np.uint8)


def on_background(picture: Pixels, box: tuple[int, int, int, int], colour: tuple[int, int, int]) -> Pixels:
    """Keep `picture` inside (top, bottom, left, right)."""
    result = np.empty_like(picture)
    result[:] = colour
    top, bottom, left, right = box
    result[top:bottom, left:right] = picture[top:bottom, left:right]
    return result


def torchmetrics_map(pred: Pixels, gt: Pixels, data_range: float | None) -> npt.NDArray[np.float64]:
    x, y = (torch.from_numpy(side).permute(2, 0, 1)[None].double() for side in (pred, gt))
    _, full = structural_similarity_index_measure(x, y, data_range=data_range, return_full_image=True)
    return np.asarray(full[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("ours", "theirs"), [(255.0, 255.0), (1.0, 1.0), ("max-minmax", None)])
def test_map_agrees_with_torchmetrics(ours: SsimRange, theirs: float | None) -> None:
    pred, gt = textured(0), textured(1) // 2 + 30
    expected = torchmetrics_map(pred, gt, theirs)
    np.testing.assert_allclose(ssim_map(pred, gt, ours), expected, atol=1e-9)
    assert ssim(pred, gt, ours) == pytest.approx(expected.mean(), abs=1e-10)
    assert ssim(pred, gt, ours, "crop5") == pytest.approx(expected[5:-5, 5:-5].mean(), abs=1e-10)


def test_cropped_value_agrees_with_scikit_image() -> None:
    pred, gt = textured(2), textured(3)
    expected = structural_similarity(  # type: ignore[no-untyped-call]  # scikit-image is untyped
        pred, gt, data_range=255, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(pred, gt, border="crop5") == pytest.approx(expected, abs=1e-12)


BOXES = {
    "inside": (20, 40, 12, 30),
    "corner": (0, 9, 0, 7),
    "far corner": (57, 60, 40, 44),
    "edge": (0, 60, 0, 3),
    "one pixel": (30, 31, 20, 21),
    "corner pixel": (59, 60, 0, 1),
    "near the edge": (4, 20, 3, 25),
    "most of it": (3, 58, 2, 44),
    "nothing": (0, 0, 0, 0),
}


@pytest.mark.parametrize("border", ["full", "crop5"])
@pytest.mark.parametrize("gt_colour", [WHITE, GREY])
@pytest.mark.parametrize("name", list(BOXES))
def test_skipping_the_background_changes_nothing(
    name: str, gt_colour: tuple[int, int, int], border: SsimBorder
) -> None:
    margin = 5 if border == "crop5" else 0
    pred = on_background(textured(4), BOXES[name], WHITE)
    for other in ("inside", "nothing", name):
        gt = on_background(textured(5), BOXES[other], gt_colour)
        dense = ssim_map(pred, gt)[margin : 60 - margin, margin : 44 - margin].mean()
        # the closed form replaces (0 + C2) / (rounding + C2)
        assert ssim(pred, gt, border=border) == pytest.approx(dense, abs=1e-11)


def test_equal_is_one_and_swapping_changes_nothing() -> None:
    pred = on_background(textured(6), BOXES["inside"], WHITE)
    gt = on_background(textured(7), BOXES["edge"], GREY)
    assert ssim(pred, pred) == 1
    assert ssim(pred, gt) == ssim(gt, pred)
    assert ssim(textured(6), textured(7)) == ssim(textured(7), textured(6))


def test_more_noise_and_more_shift_never_score_better() -> None:
    gt = on_background(textured(8), BOXES["inside"], WHITE)
    wobble = np.random.default_rng(9).standard_normal(gt.shape)
    noisy = [ssim(np.clip(gt + s * wobble, 0, 255).astype(np.uint8), gt) for s in (0, 2, 4, 8, 16, 32, 64)]
    shifted = [ssim(np.roll(gt, step, axis=1), gt) for step in (0, 1, 2, 4)]
    for ladder in (noisy, shifted):
        assert ladder == sorted(ladder, reverse=True)
        assert ladder[0] == 1


def test_bad_inputs_are_refused() -> None:
    picture = textured(0)
    flat = np.full_like(picture, 255)
    with pytest.raises(DataError, match="more than 10 pixels a side, got 44x10"):
        ssim(picture[:10], picture[:10])
    with pytest.raises(DataError, match="0/0"):
        ssim(flat, flat // 2, "max-minmax")
    with pytest.raises(DataError, match="44x60 and ground truth 44x59"):
        ssim(picture, picture[1:])
    with pytest.raises(ConfigError, match="positive"):
        ssim(picture, picture, 0.0)
    assert ssim(flat, picture, "max-minmax") < 1  # a blank prediction is scored


VARIANTS: dict[str, tuple[SsimRange, SsimBorder]] = {
    "ssim_fp64_crop5_max_range": ("max-minmax", "crop5"),
    "ssim_fp64_nocrop_max_range": ("max-minmax", "full"),
    "ssim_fp64_crop5_255": (255.0, "crop5"),
    "ssim_fp64_nocrop_255": (255.0, "full"),
}


@pytest.mark.parametrize(
    "name", ["trexpale", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bluejay", "trex"))]
)
def test_reference_values_of_the_published_script(shared: Path, name: str) -> None:
    root = shared / "parity" / "metrics_c4d"
    expected = json.loads((root / "expected.json").read_text())["variants_per_view"]
    for view in range(4):
        frames = sorted((root / "gt" / name / f"eval_{view}").glob("*.png"))
        pairs = []
        for frame in frames:
            sides = [root / "pred" / name / frame.parent.name / frame.name, frame]
            pairs.append([squash(Image.open(side), (512, 512)) for side in sides])
        for variant, (data_range, border) in VARIANTS.items():
            value = np.mean([ssim(pred, gt, data_range, border) for pred, gt in pairs])
            # measured: 8e-13; the two differ in the order of the sums
            assert value == pytest.approx(expected[variant][name][view], abs=1e-10)
