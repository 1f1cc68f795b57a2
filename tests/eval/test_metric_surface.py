"""Geometry in space: distances, tracks and depth as arithmetic, and a row whose geometry is exact."""

from pathlib import Path

import numpy as np
import pytest

from mvtokenflow.baselines.known_answer import BLURRED, GROUND_TRUTH
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.eval.metrics.spec import Networks
from mvtokenflow.eval.metrics.surface import (
    Chamfer,
    DepthError,
    FScore,
    TrackError,
    f_score,
    nearest_distances,
    track_errors,
)
from mvtokenflow.eval.protocols import protocol_named
from mvtokenflow.eval.score.pairs import plan_scene
from mvtokenflow.eval.score.pictures import ClipFiles
from mvtokenflow.eval.tables.render import write_view


def grid(count: int = 20) -> np.ndarray:
    u, v = np.meshgrid(np.linspace(0, 1, count), np.linspace(0, 1, count), indexing="ij")
    return np.stack((u.ravel(), v.ravel(), 0 * u.ravel()), -1)


def test_a_shifted_sheet_is_as_far_as_its_shift() -> None:
    there, back = nearest_distances(grid() + np.array([0, 0, 0.03]), grid())
    np.testing.assert_allclose(there, 0.03, atol=1e-12)
    np.testing.assert_allclose(back, 0.03, atol=1e-12)
    assert f_score(there, back, 0.05) == 1.0
    assert f_score(there, back, 0.01) == 0.0


def test_half_a_sheet_lacks_the_other_half() -> None:
    half = grid()[grid()[:, 0] <= 0.5]
    there, back = nearest_distances(half, grid())
    assert there.max() == 0
    assert 0.4 < (back > 0.05).mean() < 0.55
    recall = float((back <= 0.05).mean())
    assert f_score(there, back, 0.05) == pytest.approx(2 * recall / (1 + recall))


def test_no_points_are_refused() -> None:
    with pytest.raises(ValueError, match="no points"):
        nearest_distances(np.zeros((0, 3)), grid())


def test_tracks_follow_the_nearest_point() -> None:
    true = grid() + np.array([[0, 0, 0], [0.1, 0, 0], [0.2, 0, 0]])[:, None]
    assert track_errors(true + np.array([0, 0, 0.02]), true) == pytest.approx(
        0
    )  # an offset does not count, motion does
    still = np.broadcast_to(grid(), true.shape)
    np.testing.assert_allclose(track_errors(still, true).mean(-1), [0, 0.1, 0.2], atol=1e-12)


def test_the_protocol_adds_geometry_and_changes_nothing_else() -> None:
    second, third = ({spec.key: spec for spec in protocol_named(f"toy4d-v{n}").metrics} for n in (2, 3))
    assert third.keys() - second.keys() == {"chamfer", "fscore", "track_epe", "depth_err"}
    assert all(third[key] == spec for key, spec in second.items())
    assert third["chamfer"].signature() == "chamfer|v:1|of:centres"
    assert third["fscore"].signature() == "fscore|v:1|of:centres|radius:0.05"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipFiles:
    """The input view of a row whose geometry is the exact one."""
    folder = tmp_path_factory.mktemp("exact")
    scene = open_dataset("toy4d").scene("bird-01")
    made = GROUND_TRUTH.render(scene, 0, folder, lambda *_: None)["input"]
    write_view(folder / "pred", "input", made, range(32))
    plan = plan_scene(scene, folder / "pred", protocol_named("toy4d-v3"), rendered_here=True)
    (pair,) = (pair for pair in plan.pairs["bird-01"] if pair.view == "input")
    return ClipFiles(pair, None, {})


def test_exact_geometry_has_no_error(clip: ClipFiles) -> None:
    networks = Networks({})
    # Points that are outside at the first frame may be inside another part later: hence the slack of two.
    for spec, perfect, slack in (
        (TrackError(), 0.0, 1e-3),
        (DepthError(), 0.0, 1e-3),
        (FScore(), 100.0, 1.0),
        (Chamfer(), 0.0, 0.2),
    ):
        assert spec.can_measure(clip)
        values = spec.measure_clip(clip, networks)
        assert len(values) == len(spec.moments(clip.names))
        assert values == pytest.approx([perfect] * len(values), abs=slack)


def test_a_field_that_stands_still_is_off_by_the_motion(clip: ClipFiles) -> None:
    points, outside = clip.surface(32)
    still = np.broadcast_to(points[:1], points.shape)
    errors = track_errors(still, points[:, outside[0]]).mean(-1)
    assert errors[0] == 0
    assert errors[8:24].max() > 0.03  # of a half-width; it is back where it was in the last frame
    assert errors[-1] == pytest.approx(0, abs=1e-5)


def test_pictures_alone_have_no_geometry(tmp_path: Path) -> None:
    scene = open_dataset("toy4d").scene("bird-01")
    made = BLURRED.render(scene, 0, tmp_path, lambda *_: None)["input"]
    write_view(tmp_path / "pred", "input", made, range(32))
    plan = plan_scene(scene, tmp_path / "pred", protocol_named("toy4d-v3"), rendered_here=True)
    bare = ClipFiles(next(pair for pair in plan.pairs["bird-01"] if pair.view == "input"), None, {})
    assert bare.has_surface
    for spec in (Chamfer(), FScore(), TrackError(), DepthError()):
        assert not spec.can_measure(bare)
        assert "the method offers no" in spec.why_missing()
