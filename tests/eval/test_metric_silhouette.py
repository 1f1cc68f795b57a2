"""Silhouettes of drawn shapes: masks, overlap, view order and background."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import frame_files
from mvtokenflow.eval.metrics.compute import silhouette

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
FRAMES, SIZE = 6, 64


def blob(cx: float, cy: float, rx: float, ry: float, size: int = SIZE) -> Mask:
    y, x = (np.indices((size, size)) + 0.5) / size
    return np.asarray(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1)


def view(index: int, size: int = SIZE) -> Mask:
    """Four views of one wobbling asymmetric object."""
    head = (0.3, 0.45, 0.55, 0.7)[index]
    return np.stack(
        [
            blob(0.5, 0.6, 0.15 + 0.05 * index, 0.25, size) | blob(head, 0.3 + 0.01 * t, 0.1, 0.12, size)
            for t in range(FRAMES)
        ]
    )


def painted(mask: Mask, ground: int = 255) -> Bytes:
    colours = np.random.default_rng(0).integers(20, 200, (*mask.shape, 3), dtype=np.uint8)
    return np.where(mask[..., None], colours, np.uint8(ground)).astype(np.uint8)


def test_foreground_is_the_painted_mask() -> None:
    mask = view(1)
    np.testing.assert_array_equal(silhouette.foreground(painted(mask)), mask)
    np.testing.assert_array_equal(silhouette.foreground(painted(mask, 0), background=(0, 0, 0)), mask)


def test_foreground_tolerance_is_the_largest_channel_difference() -> None:
    picture = np.full((1, 3, 3), 255, np.uint8)
    picture[0, 0] = (247, 247, 247)
    picture[0, 1] = (255, 246, 255)
    assert silhouette.foreground(picture).tolist() == [[False, True, False]]
    assert silhouette.foreground(picture, tolerance=0).tolist() == [[True, True, False]]


def test_iou_counts_pixels() -> None:
    a, b = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    a[0, :2], b[0, 1:3] = True, True
    np.testing.assert_allclose(silhouette.iou(a, b), [1 / 3, 1])
    assert silhouette.iou(a[0], np.zeros((4, 4), bool)) == 0
    assert silhouette.iou(a[:, None], b[None]).shape == (2, 2)


def test_right_order_wins_on_the_diagonal() -> None:
    truth = [painted(view(i)) for i in range(4)]
    confusion = silhouette.view_confusion(truth, truth)
    np.testing.assert_allclose(np.diag(confusion), 1)
    assert (confusion[~np.eye(4, dtype=bool)] < 0.95).all()
    assert silhouette.misplaced_views(confusion) == []


def test_swapped_views_are_named() -> None:
    truth = [painted(view(i)) for i in range(4)]
    confusion = silhouette.view_confusion([truth[0], truth[3], truth[2], truth[1]], truth)
    found = silhouette.misplaced_views(confusion)
    assert [(item.view, item.looks_like) for item in found] == [(1, 3), (3, 1)]
    assert all(item.other_iou == pytest.approx(1) and item.own_iou < 0.9 for item in found)


def test_a_wrong_background_does_not_hide_the_view_order() -> None:
    """Two faults, two checks: grey pictures keep their silhouettes, and `background` names the grey."""
    truth = [painted(view(i)) for i in range(4)]
    grey = [painted(view(i), 232) for i in (1, 0, 2, 3)]
    found = silhouette.misplaced_views(silhouette.view_confusion(grey, truth))
    assert [(item.view, item.looks_like) for item in found] == [(0, 1), (1, 0)]
    np.testing.assert_array_equal(silhouette.silhouettes(painted(view(1), 232)), view(1))


@pytest.mark.shared
@pytest.mark.parametrize(("name", "grey"), [("bluejay", 244), ("trex", 232)])
def test_reference_pictures(shared: Path, name: str, grey: int) -> None:
    """Their third predicted view stands on grey; all four are in the right order."""
    root = shared / "parity" / "metrics_c4d"

    def clips(side: str) -> list[Bytes]:
        return [
            np.stack(
                [
                    np.asarray(Image.open(frame).convert("RGB"))
                    for frame in frame_files(root / side / name / f"eval_{i}")
                ]
            )
            for i in range(4)
        ]

    predicted, truth = clips("pred"), clips("gt")
    assert [silhouette.background(clip).white for clip in truth] == [1, 1, 1, 1]
    assert silhouette.background(predicted[2]).colour == (grey, grey, grey)
    assert silhouette.background(predicted[2]).white == 0
    confusion = silhouette.view_confusion(predicted, truth)
    assert silhouette.misplaced_views(confusion) == []
    assert np.diag(confusion).min() > 0.5


def test_near_ties_accuse_nobody() -> None:
    assert silhouette.misplaced_views(np.array([[0.90, 0.91], [0.2, 0.8]]), margin=0.02) == []
    assert len(silhouette.misplaced_views(np.array([[0.90, 0.93], [0.2, 0.8]]), margin=0.02)) == 1


def test_masks_and_pictures_of_unequal_sizes_compare() -> None:
    truth = [view(i, 256) for i in range(4)]
    small = [painted(view(i, 100)) for i in range(4)]
    confusion = silhouette.view_confusion(small, truth)
    # Measured: 0.970 or better; hard 100-pixel outlines against averaged 256-pixel ones.
    assert np.diag(confusion).min() > 0.95
    assert silhouette.misplaced_views(confusion) == []
    # Unequal aspect is squashed, as the protocols squash pictures.
    wide = [np.repeat(view(i, 128), 2, axis=2) for i in range(4)]
    assert np.diag(silhouette.view_confusion(wide, truth)).min() > 0.95


def test_frames_are_chosen_evenly_and_compared_pairwise() -> None:
    moving = np.stack([blob(0.2 + 0.1 * t, 0.5, 0.1, 0.1) for t in range(FRAMES)])
    forward = silhouette.view_confusion([moving], [moving], frames=2)
    backward = silhouette.view_confusion([moving], [moving[::-1]], frames=2)  # only the ends: no overlap
    assert (forward[0, 0], backward[0, 0]) == (1, 0)
    everything = silhouette.view_confusion([moving], [moving[::-1]], frames=None)
    expected = np.mean(silhouette.iou(moving, moving[::-1]))
    assert everything[0, 0] == pytest.approx(expected)
    assert everything[0, 0] > 0


def test_view_confusion_refuses_other_frame_counts_and_types() -> None:
    floats: Any = np.zeros((6, 64, 64, 3))
    with pytest.raises(DataError, match="true view 1 has 5 frames"):
        silhouette.view_confusion([view(0), view(1)], [view(0), view(1)[:5]])
    with pytest.raises(DataError, match="predicted view 1 has 3 frames"):
        silhouette.view_confusion([view(0), view(1)[:3]], [view(0), view(1)])
    with pytest.raises(ValueError, match="uint8"):
        silhouette.view_confusion([floats], [view(0)])


def test_coverage_is_an_area_average() -> None:
    mask = np.zeros((1, 6, 6), bool)
    mask[0, :3, :2] = True
    np.testing.assert_allclose(
        silhouette.resize_coverage(mask, 2)[0], np.array([[2 / 3, 0], [0, 0]]), atol=1e-6
    )
    np.testing.assert_array_equal(silhouette.resize_coverage(mask, 6), mask)
    with pytest.raises(ValueError, match="at least 7x7"):
        silhouette.resize_coverage(mask, 7)


def test_white_background_is_recognised() -> None:
    found = silhouette.background(painted(view(2)))
    assert found.colour == (255, 255, 255)
    assert (found.constant, found.white, found.worst_level) == (1, 1, 255)
    assert found.pixels > 0.3 * FRAMES * SIZE**2


@pytest.mark.parametrize("ground", [0, 128, 254])
def test_other_backgrounds_are_named(ground: int) -> None:
    found = silhouette.background(painted(view(2), ground))
    assert found.colour == (ground,) * 3
    assert (found.constant, found.white) == (1, 0)


def test_outlines_do_not_count_but_stray_pixels_do() -> None:
    mask = view(0)
    clip = painted(mask)
    outline = np.stack([np.roll(m, 1, 0) | np.roll(m, -1, 1) for m in mask]) & ~mask
    clip[outline] = 240  # anti-aliasing
    assert silhouette.background(clip).white == 1
    assert silhouette.background(clip, mask).white == 1
    clip[3, :4, :5] = 250  # a smudge far away, within the tolerance of `foreground`
    found = silhouette.background(clip, mask)
    assert found.white == pytest.approx(1 - 20 / found.pixels)
    assert (found.worst_frame, found.worst_level) == (3, 250)
    assert found.colour == (255, 255, 255)


def test_an_object_at_the_rim_does_not_turn_into_background() -> None:
    mask = np.zeros((2, SIZE, SIZE), bool)
    mask[:, 20:, 10:50] = True  # stands on the lower rim
    found = silhouette.background(painted(mask))
    assert found.colour == (255, 255, 255)
    assert found.white == 1


def test_full_frames_have_no_background() -> None:
    clip = painted(np.ones((2, 8, 8), bool))
    assert silhouette.background(clip, np.ones((2, 8, 8), bool)).pixels == 0
