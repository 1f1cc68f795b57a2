"""Turned and mirrored views of an object made of balls, whose silhouettes are exact discs (no perspective)."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.score import align as alignment
from mvtokenflow.views.cameras import CameraKind, orbit

Mask = NDArray[np.bool_]
SIZE, FRAMES = 64, 3
NOMINAL = (-75.0, 15.0, 105.0, 195.0)  # the Consistent4D views

# x, y, z, radius: no two sides alike.
BALLS = np.array(
    [
        [0.0, 0.0, 0.0, 0.32],
        [0.45, 0.05, 0.25, 0.16],
        [-0.1, -0.5, -0.1, 0.2],
        [0.1, 0.55, -0.35, 0.12],
        [-0.3, 0.1, 0.45, 0.14],
    ]
)


def silhouettes(
    azimuth: float, *, mirrored: bool = False, kind: CameraKind = "ortho", size: int = SIZE
) -> Mask:
    """(T, H, W) masks of the object, waving one ball over time, as seen from an azimuth."""
    camera = orbit([azimuth], size=size, kind=kind, radius=3.0, fov_deg=40.0)
    focal = float(camera.intrinsics[0, 0, 0])
    y, x = np.indices((size, size)) + 0.5
    frames = []
    for t in range(FRAMES):
        balls = BALLS.copy()
        balls[1, 2] += 0.1 * t
        if mirrored:
            balls[:, 0] *= -1
        pixels, depth = camera.project(torch.tensor(balls[:, :3], dtype=torch.float32)[None])
        scale = focal / (1.0 if kind == "ortho" else depth[0].numpy().astype(float))
        radii = balls[:, 3] * scale
        centres = pixels[0].numpy().astype(float)
        discs = (x[..., None] - centres[:, 0]) ** 2 + (y[..., None] - centres[:, 1]) ** 2 < radii**2
        frames.append(discs.any(axis=-1))
    return np.stack(frames)


@pytest.fixture(scope="module")
def dense() -> tuple[NDArray[np.float64], Mask]:
    return alignment.dense_orbit(silhouettes)


def views(azimuths: Sequence[float], *, mirrored: bool = False) -> list[Mask]:
    return [silhouettes(azimuth, mirrored=mirrored) for azimuth in azimuths]


def test_aligned_views_are_left_alone(dense: tuple[NDArray[np.float64], Mask]) -> None:
    found = alignment.align(views(NOMINAL), NOMINAL, dense[1], dense[0])
    assert found.aligned
    assert found.best.signature == ""
    np.testing.assert_allclose(found.iou_before, 1)
    np.testing.assert_array_equal(found.iou_before, found.iou_after)
    np.testing.assert_allclose(found.source_azimuth_deg, [-75, 15, 105, -165])


@pytest.mark.parametrize("offset", [37.0, -120.0, 36.6])
def test_known_offset_is_recovered_within_a_degree(
    dense: tuple[NDArray[np.float64], Mask], offset: float
) -> None:
    """A prediction whose view "a" was rendered at a + 37 shows the reference at a + 37."""
    predicted = views([a + offset for a in NOMINAL])
    before = [p.copy() for p in predicted]
    found = alignment.align(predicted, NOMINAL, dense[1], dense[0])
    assert abs(found.best.yaw_deg - offset) <= 0.5  # the grid's own resolution
    assert not found.best.mirror
    assert not found.best.reverse
    assert found.iou_after.min() > 0.98
    assert found.iou_before.mean() < 0.75
    np.testing.assert_allclose(
        (found.source_azimuth_deg - np.array(NOMINAL) - found.best.yaw_deg + 180) % 360 - 180, 0, atol=1e-9
    )
    assert all(np.array_equal(a, b) for a, b in zip(predicted, before, strict=True))


def test_signature_names_the_turn(dense: tuple[NDArray[np.float64], Mask]) -> None:
    found = alignment.align(views([a + 37 for a in NOMINAL]), NOMINAL, dense[1], dense[0])
    assert found.best.signature == "align:yaw+37"


def test_mirrored_object_is_recognised(dense: tuple[NDArray[np.float64], Mask]) -> None:
    found = alignment.align(views(NOMINAL, mirrored=True), NOMINAL, dense[1], dense[0])
    assert (found.best.mirror, found.best.reverse, found.best.yaw_deg) == (True, True, 0)
    assert found.best.signature == "align:yaw+0,mirror,reverse"
    assert found.iou_after.min() > 0.98
    # Without perspective an orbit numbered clockwise from behind has the same silhouettes: said, not hidden.
    assert [(h.mirror, h.reverse, abs(h.yaw_deg)) for h in found.rivals] == [(False, True, 180)]


def test_mirrored_and_turned(dense: tuple[NDArray[np.float64], Mask]) -> None:
    """The mirrored object seen from a + 37 is the reference, flipped, seen from -(a + 37)."""
    found = alignment.align(views([a + 37 for a in NOMINAL], mirrored=True), NOMINAL, dense[1], dense[0])
    assert (found.best.mirror, found.best.reverse) == (True, True)
    assert found.best.yaw_deg == pytest.approx(-37, abs=1)
    assert found.iou_after.min() > 0.98


def test_views_numbered_clockwise(dense: tuple[NDArray[np.float64], Mask]) -> None:
    found = alignment.align(views([-a for a in NOMINAL]), NOMINAL, dense[1], dense[0])
    assert (found.best.mirror, found.best.reverse, found.best.yaw_deg) == (False, True, 0)


def test_flipped_pictures_and_half_a_turn_are_told_apart_only_by_perspective() -> None:
    flat = alignment.dense_orbit(silhouettes, 5)
    flipped = [view[..., ::-1] for view in views(NOMINAL)]
    found = alignment.align(flipped, NOMINAL, flat[1], flat[0])
    assert (found.best.mirror, found.best.yaw_deg) == (False, 180)
    assert any(h.mirror and not h.reverse and h.yaw_deg == 0 for h in found.rivals)
    assert found.rivals[0].iou == pytest.approx(found.best.iou, abs=0.01)

    def near(azimuth: float) -> Mask:
        return silhouettes(azimuth, kind="pinhole")

    deep = alignment.dense_orbit(near, 5)
    found = alignment.align([near(a)[..., ::-1] for a in NOMINAL], NOMINAL, deep[1], deep[0])
    assert (found.best.mirror, found.best.reverse, found.best.yaw_deg) == (True, False, 0)
    assert found.rivals == ()


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_permuted_views_are_found_from_the_views_alone(turn: int) -> None:
    truth = views(NOMINAL)
    found = alignment.align(truth[turn:] + truth[:turn], NOMINAL, truth, NOMINAL)
    expected = (90 * turn + 180) % 360 - 180
    assert found.best.yaw_deg in (expected, expected + 360)
    assert not found.best.reverse
    np.testing.assert_allclose(found.iou_after, 1)
    assert found.iou_before.max() < 0.9


def test_reversed_views_are_found_from_the_views_alone() -> None:
    """The author's own recipe numbers the views 15, 105, 195, -75; a clockwise orbit needs `reverse`."""
    truth = views(NOMINAL)
    recipe = alignment.align([*truth[1:], truth[0]], NOMINAL, truth, NOMINAL)
    assert recipe.best.signature == "align:yaw+90"
    backwards = alignment.align([truth[0], truth[3], truth[2], truth[1]], NOMINAL, truth, NOMINAL)
    assert backwards.best.reverse
    np.testing.assert_allclose(backwards.iou_after, 1)


def test_small_differences_do_not_turn_an_aligned_result(dense: tuple[NDArray[np.float64], Mask]) -> None:
    """Slightly fat silhouettes of another size still match best as named."""
    predicted = [m | np.roll(m, 1, 1) | np.roll(m, -1, 1) for m in (silhouettes(a, size=96) for a in NOMINAL)]
    found = alignment.align(predicted, NOMINAL, dense[1], dense[0])
    assert found.aligned
    assert found.iou_before.min() > 0.85


def test_a_round_object_lists_its_rivals() -> None:
    """A ball says nothing about its orientation: 'aligned' by default, with every other kind as a rival."""
    ball = np.indices((32, 32)).astype(float) - 15.5
    disc = np.repeat((np.square(ball).sum(axis=0) < 100)[None], 2, axis=0)
    found = alignment.align([disc] * 4, NOMINAL, [disc] * 72, [5.0 * k for k in range(72)])
    assert found.aligned
    assert {(h.mirror, h.reverse) for h in found.rivals} == {
        (False, False),
        (True, True),
        (False, True),
        (True, False),
    }


def test_contract_breaches_are_refused() -> None:
    truth = views(NOMINAL)
    with pytest.raises(DataError, match="no view at azimuth 105"):
        alignment.align(truth, NOMINAL, truth, (-75, 15, 100, 195))
    with pytest.raises(DataError, match="predicted view 2 is empty"):
        alignment.align([*truth[:2], np.zeros_like(truth[2]), truth[3]], NOMINAL, truth, NOMINAL)
    with pytest.raises(DataError, match="reference view 1 has 2 frames"):
        alignment.align(truth, NOMINAL, [truth[0], truth[1][:2], *truth[2:]], NOMINAL)
    with pytest.raises(ValueError, match="do not match"):
        alignment.align(truth, NOMINAL[:3], truth, NOMINAL)
    with pytest.raises(ValueError, match="divide 360"):
        alignment.dense_orbit(silhouettes, 7)
