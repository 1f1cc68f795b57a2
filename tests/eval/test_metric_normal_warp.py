"""Normals along the flow, and flicker: known answers."""

import numpy as np
import pytest

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.normal_warp import normal_warp
from mvtokenflow.eval.protocols import METRICS, protocol_named


def turned(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.array([np.sin(angle), 0.0, np.cos(angle)], np.float32)


def still(frames: int = 2) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((frames - 1, 8, 8, 2), np.float32), np.ones((frames - 1, 8, 8), bool)


def test_a_turn_between_frames_is_its_angle() -> None:
    normals = np.broadcast_to(np.stack([turned(0), turned(7)])[:, None, None], (2, 8, 8, 3))
    angles, pixels = normal_warp(normals, *still())
    assert angles[0] == pytest.approx(7, abs=1e-4)
    assert pixels[0] == 64


def test_a_surface_that_moves_along_the_flow_has_no_error() -> None:
    rest = np.zeros((2, 8, 8, 3), np.float32)
    rest[0, 2:5, 1:4] = turned(30)
    rest[1, 2:5, 3:6] = turned(30)
    flow, seen = still()
    flow[0, ..., 0] = 2.0
    angles, pixels = normal_warp(rest, flow, seen)
    assert angles[0] == pytest.approx(0, abs=1e-4)
    assert pixels[0] == 9
    against, _ = normal_warp(rest, np.zeros_like(flow), seen)
    assert against[0] == pytest.approx(0, abs=1e-4)  # only where both have a surface: one column
    assert normal_warp(rest, np.zeros_like(flow), seen)[1][0] == 3


def test_nothing_in_common_is_no_value() -> None:
    normals = np.zeros((2, 8, 8, 3), np.float32)
    normals[0, 0, 0] = turned(0)
    angles, pixels = normal_warp(normals, *still())
    assert np.isnan(angles[0])
    assert pixels[0] == 0


def test_encoded_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="unit vectors"):
        normal_warp(np.full((2, 8, 8, 3), 0.5, np.float32), *still())


def test_generated_views_have_a_protocol_with_floors() -> None:
    keys = {spec.key for spec in protocol_named("views-v1").metrics}
    assert {"warp", "warp_floor", "flicker", "flicker_floor", "normal_warp", "normal_warp_floor"} <= keys
    assert METRICS["flicker"].better == METRICS["normal_warp"].better == "lower"
    assert METRICS["flicker_floor"].better == "none"
