"""Flow and normal errors against hand-computed values."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.compute.masked import masked_mean
from mvtokenflow.eval.metrics.flow_error import end_point_error
from mvtokenflow.eval.metrics.normal_error import normal_angle, normal_angles

Floats = NDArray[np.float64]


def test_end_point_error_is_the_euclidean_distance() -> None:
    truth = np.random.default_rng(0).normal(size=(3, 5, 7, 2))
    error = end_point_error(truth + np.array([3.0, -4.0]), truth)
    assert error.shape == (3, 5, 7)
    np.testing.assert_allclose(error, 5)
    assert end_point_error(truth, truth).max() == 0


def test_masked_mean_reads_only_the_mask() -> None:
    values = np.arange(24.0).reshape(2, 3, 4)
    mask = np.zeros((2, 3, 4), bool)
    mask[0, 1, 1:3] = True  # 5, 6
    values[0, 0, 0] = np.nan
    means = masked_mean(values, mask)
    assert means[0] == 5.5
    assert np.isnan(means[1])
    mask[0, 0, 0] = True
    with pytest.raises(DataError, match="frame 0"):
        masked_mean(values, mask)


def test_flow_hidden_in_the_target_does_not_count() -> None:
    truth = np.zeros((1, 4, 4, 2))
    flow = truth.copy()
    flow[0, 0, 0] = 100
    visible = np.ones((1, 4, 4), bool)
    assert masked_mean(end_point_error(flow, truth), visible)[0] == pytest.approx(100 * np.sqrt(2) / 16)
    visible[0, 0, 0] = False
    assert masked_mean(end_point_error(flow, truth), visible)[0] == 0


def sphere(size: int = 33) -> Floats:
    """Normals of a ball seen from -Y, in the world frame (x right, y into the picture, z up)."""
    y, x = np.indices((size, size))
    u, v = (x - size // 2) / (size * 0.4), (size // 2 - y) / (size * 0.4)
    inside = u**2 + v**2 < 1
    depth = -np.sqrt(np.where(inside, 1 - u**2 - v**2, 0))
    return np.where(inside[..., None], np.stack([u, depth, v], -1), 0.0)[None]


@pytest.mark.parametrize("angle", [0.001, 5.0, 90.0, 179.9])
def test_rotated_normals_have_the_angle_of_the_rotation(angle: float) -> None:
    """Rotating about an axis perpendicular to a normal turns it by exactly the angle."""
    normal = np.zeros((2, 3, 4, 3))
    normal[..., 1] = -1
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turned = normal @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T
    np.testing.assert_allclose(normal_angle(turned, normal), angle, rtol=1e-9)
    error = normal_angles(turned, normal)
    np.testing.assert_allclose(error.mean_deg, angle, rtol=1e-9)
    np.testing.assert_allclose(error.median_deg, angle, rtol=1e-9)
    np.testing.assert_array_equal(error.within[0], [angle < limit for limit in (11.25, 22.5, 30)])


def test_float32_normals_score_zero_against_themselves() -> None:
    normal = sphere().astype(np.float32)
    error = normal_angles(normal, normal)
    assert error.mean_deg[0] < 1e-6  # the arc cosine would give about 0.01
    assert error.mask_iou[0] == 1
    assert error.pixels[0] == (normal != 0).any(-1).sum()


def test_mirrored_handedness_is_a_large_error() -> None:
    normal = sphere()
    assert normal_angles(normal * [-1, 1, 1], normal).mean_deg[0] > 40


def test_intersection_is_scored_and_overlap_reported() -> None:
    truth = np.zeros((1, 4, 6, 3))
    truth[0, :, :4, 2] = 1
    normal = np.zeros((1, 4, 6, 3))
    normal[0, :, 2:, 2] = 1
    error = normal_angles(normal, truth)
    assert error.mean_deg[0] == 0
    assert error.mask_iou[0] == pytest.approx(8 / 24)
    assert error.pixels[0] == 8
    assert np.isnan(normal_angle(normal, truth)[0, 0, [0, 5]]).all()


def test_empty_frames() -> None:
    nothing, something = np.zeros((1, 4, 4, 3)), np.zeros((1, 4, 4, 3))
    something[..., 0] = 1
    missed = normal_angles(nothing, something)
    assert np.isnan([missed.mean_deg[0], missed.median_deg[0]]).all()
    assert missed.mask_iou[0] == 0
    agreed = normal_angles(nothing, nothing)
    assert agreed.mask_iou[0] == 1
    assert agreed.pixels[0] == 0


def test_encoded_normals_are_refused() -> None:
    truth = sphere()
    with pytest.raises(DataError, match=r"predicted normal at frame 0.*decode"):
        normal_angle(truth / 2 + 0.5, truth)
    broken = truth.copy()
    broken[0, 16, 16] = np.nan
    with pytest.raises(DataError, match="true normal at frame 0, row 16, column 16"):
        normal_angle(truth, broken)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="flow and truth"):
        end_point_error(np.zeros((2, 4, 4, 2)), np.zeros((2, 4, 5, 2)))
    with pytest.raises(ValueError, match="normal and truth"):
        normal_angle(np.zeros((4, 4, 3)), np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="values and mask"):
        masked_mean(np.zeros((2, 4, 4)), np.zeros((2, 4), bool))
