"""Planes and deformations: numbers of STAG4D and DreamGaussian4D (`data/rival_*`, see `conftest.rival`)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.radiance.heads import HeadKind, PlaneDeformation, from_checkpoint, moved
from mvtokenflow.radiance.planes import (
    PAIRS,
    PlaneLevels,
    plane_regularisation,
    sample_planes,
    signed_time,
    space_smoothness,
    time_l1,
    time_smoothness,
    upper_time,
)

Numbers = Callable[[str, str], tuple[dict[str, Tensor], dict[str, Any]]]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}
KINDS: dict[str, HeadKind] = {"stag4d": "plain", "dg4d": "residual"}


def close(found: Tensor, expected: Tensor, tolerance: float, name: str = "") -> None:
    """Equal up to a share of the largest expected value, at least of 1."""
    assert found.shape == expected.shape, name
    gap = float((found.detach().double() - expected).abs().max())
    assert gap <= tolerance * max(1.0, float(expected.abs().max())), f"{name}: {gap}"


def network(name: str, says: dict[str, Any]) -> PlaneDeformation:
    config = says["config"]
    sizes = (config["resolution"], config["multires"], config["channels"], config["width"])
    return PlaneDeformation(*sizes, heads=KINDS[name], bounds=config["bounds"])


def loaded(
    rival: Numbers, name: str, dtype: torch.dtype
) -> tuple[PlaneDeformation, dict[str, Tensor], dict[str, Any]]:
    given, says = rival(name, "deformation")
    field = network(name, says).to(dtype)
    state = {key.removeprefix("in/w."): value for key, value in given.items() if key.startswith("in/w.")}
    field.load_state_dict(from_checkpoint(state), strict=True)
    return field, given, says


def gradients_close(field: PlaneDeformation, given: dict[str, Tensor], tolerance: float) -> None:
    names = dict(field.named_parameters())
    expected = {key.removeprefix("out/g."): value for key, value in given.items() if key.startswith("out/g.")}
    assert set(names) == set(from_checkpoint(expected))
    for key, value in from_checkpoint(expected).items():
        gradient = names[key].grad
        assert gradient is not None
        close(gradient, value, tolerance, key)
    for key in set(expected) - {f"deformation_net.{name}" for name in names}:
        assert "opacity_deform" in key
        assert not expected[key].any()


@DTYPES
def test_deformation_of_stag4d(rival: Numbers, dtype: torch.dtype) -> None:
    field, given, _ = loaded(rival, "stag4d", dtype)
    tolerance = TOLERANCE[dtype]
    points, log_scales, quats = (given[f"in/{name}"].to(dtype) for name in ("points", "scaling", "rotation"))
    motion = field(points, given["in/times"].to(dtype))
    found = moved(points, log_scales, quats, motion)
    for name, value in zip(("positions", "scaling", "rotation"), found, strict=True):
        close(value, given[f"out/{name}"], tolerance, name)
    assert torch.equal(given["out/opacity"], given["in/opacity"].expand(3, -1, -1))
    coordinates = field.coordinates(points, given["in/times"].to(dtype))[1]
    close(field.grid(coordinates), given["out/grid_features_time1"], tolerance)
    loss = sum(
        ((value * given[f"in/{weight}"].to(dtype)).sum() for value, weight in zip(found, "abc", strict=True)),
        start=points.new_zeros(()),
    )
    close(loss[None], given["out/loss"], tolerance, "loss")
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gradients_close(field, given, tolerance)
    levels = field.grid.levels()
    terms = (space_smoothness, time_smoothness, time_l1, plane_regularisation)
    for term, name in zip(terms, ("plane", "time", "l1", "total"), strict=True):
        close(term(levels)[None], given[f"out/reg_{name}"], tolerance, name)


@DTYPES
def test_deformation_of_dg4d(rival: Numbers, dtype: torch.dtype) -> None:
    field, given, says = loaded(rival, "dg4d", dtype)
    tolerance = TOLERANCE[dtype]
    points, log_scales, quats = (given[f"in/{name}"].to(dtype) for name in ("points", "scaling", "rotation"))
    frames = says["config"]["frames"]
    motion = field(points, [signed_time(frame, frames) for frame in range(frames)])
    for name, value in zip(("xyz", "log_scale", "rotation"), motion, strict=True):
        close(value, given[f"out/d_{name}"], tolerance, name)
    between = moved(points, log_scales, quats, field(points, [signed_time(1.25, frames)]))
    for name, value in zip(("xyz", "log_scale", "rotation"), between, strict=True):
        close(value[0], given[f"out/frame_1_25_{name}"], tolerance, name)
    assert torch.equal(given["out/frame_1_25_logit_opacity"], given["in/opacity"])
    loss = sum(
        ((value * given[f"in/{weight}"].to(dtype)).sum() for value, weight in zip(motion, "abc", strict=True)),
        start=points.new_zeros(()),
    )
    close(loss[None], given["out/loss"], tolerance, "loss")
    loss.backward()
    gradients_close(field, given, tolerance)


def test_residual_heads_start_at_exactly_no_motion(rival: Numbers) -> None:
    given, says = rival("dg4d", "deformation")
    field = network("dg4d", says)
    field.initialise(torch.Generator().manual_seed(0))
    points = given["in/points"].float()
    motion = field(points, [-1.0, 0.3])
    assert (
        [float(part.detach().abs().max()) for part in motion]
        == given["out/at_initialisation_max"].tolist()
        == [0, 0, 0]
    )
    assert torch.equal(moved(points, points, given["in/rotation"].float(), motion)[0][1], points)
    sum((part.sum() for part in motion), start=points.new_zeros(())).backward()
    trained = {name for name, value in field.named_parameters() if value.grad is not None and value.grad.any()}
    heads = ("pos_deform", "scales_deform", "rotations_deform")
    assert trained == {f"{head}.feature_out.1.{part}" for head in heads for part in ("weight", "bias")}


def test_plain_heads_start_with_a_jump() -> None:
    field = PlaneDeformation([4, 4, 4, 4], [1], 4, 8, heads="plain", depth=2)
    field.initialise(torch.Generator().manual_seed(0))
    motion = field(torch.zeros(1, 3), [upper_time(0, 4)])
    assert all(float(part.detach().abs().max()) > 1e-3 for part in motion)


def test_new_planes_do_not_depend_on_time() -> None:
    planes = PlaneLevels([[3, 4, 5, 6]], 2)
    planes.initialise(torch.Generator().manual_seed(0))
    points = torch.rand(7, 3) * 2 - 1
    early, late = (planes(torch.cat([points, torch.full((7, 1), at)], -1)) for at in (-1.0, 0.7))
    assert torch.equal(early, late)
    assert not any(float(term(planes.levels()).detach()) for term in (time_l1, time_smoothness))
    assert all(bool(((plane >= 0.1) & (plane <= 0.5)).all()) for plane in planes.levels()[0][:2])


def test_corners_read_entries_and_points_outside_read_the_border() -> None:
    planes = PlaneLevels([[2, 3, 4, 5]], 1)
    generator = torch.Generator().manual_seed(1)
    values = [torch.rand(plane.shape, generator=generator) for plane in planes.levels()[0]]
    corner = torch.stack([plane[0, 0, -1, -1] for plane in values]).prod()
    for place in ([1.0, 1, 1, 1], [1.5, 2, 3, 9]):
        assert float(sample_planes(values, torch.tensor([place]))) == pytest.approx(float(corner), rel=1e-6)


def bilinear(plane: Tensor, column: float, row: float) -> Tensor:
    """Sample a plane (1, C, h, w) at one place, by the definition."""
    height, width = plane.shape[2:]
    x, y = ((min(max(at, -1.0), 1.0) + 1) / 2 * (side - 1) for at, side in ((column, width), (row, height)))
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    right, low = x - left, y - top
    corners = plane[0, :, top : top + 2, left : left + 2]
    upper, lower = (corners[:, n, 0] * (1 - right) + corners[:, n, 1] * right for n in (0, 1))
    return upper * (1 - low) + lower * low


def test_planes_of_any_size_are_sampled_by_the_definition() -> None:
    generator = torch.Generator().manual_seed(2)
    resolution = (3, 7, 4, 6)
    planes = [
        torch.rand(1, 5, resolution[second], resolution[first], generator=generator, dtype=torch.float64)
        for first, second in PAIRS
    ]
    points = torch.rand(20, 4, generator=generator, dtype=torch.float64) * 2.6 - 1.3
    expected = [
        torch.stack([bilinear(plane, at[a], at[b]) for plane, (a, b) in zip(planes, PAIRS, strict=True)]).prod(
            0
        )
        for at in points.tolist()
    ]
    torch.testing.assert_close(sample_planes(planes, points), torch.stack(expected), rtol=1e-12, atol=1e-14)


def test_mirrored_planes_are_plain_ones_at_the_opposite_point() -> None:
    fields = [
        PlaneDeformation([4, 4, 4, 4], [1], 4, 8, heads="plain", mirrored=value) for value in (True, False)
    ]
    for field in fields:
        field.initialise(torch.Generator().manual_seed(0))
    points = torch.rand(5, 3) - 0.5
    assert torch.equal(fields[0](points, [0.2]).means, fields[1](-points, [0.2]).means)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="four of 2 or more"):
        PlaneLevels([[4, 4, 4, 1]], 2)
    with pytest.raises(ConfigError, match="expected one of plain, residual"):
        PlaneDeformation([4, 4, 4, 4], [1], 4, 8, heads="zero")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="depth is 0"):
        PlaneDeformation([4, 4, 4, 4], [1], 4, 8, heads="plain", depth=0)
