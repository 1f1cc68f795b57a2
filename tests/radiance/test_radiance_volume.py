"""Consistent4D's cascade, quadrature, occupancy and losses (`data/rival_consistent4d`, `conftest.rival`)."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.radiance.cascade import PUBLISHED, CascadeField, CascadeLevel
from mvtokenflow.radiance.losses import (
    CascadeWeights,
    cascade_loss,
    colour_loss,
    hard_mask,
    interpolation_consistency,
    is_reference_step,
    linear_interpolator,
    mask_loss,
    normal_smoothness,
    orientation_loss,
)
from mvtokenflow.radiance.occupancy import Occupancy
from mvtokenflow.radiance.quadrature import (
    Rays,
    box_span,
    composite,
    compositing_weights,
    pixel_rays,
    points_on,
    sample_rays,
)
from mvtokenflow.views.cameras import CameraKind, orbit, to_threestudio

Numbers = Callable[[str, str], tuple[dict[str, Tensor], dict[str, Any]]]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])


def close(found: Tensor, expected: Tensor, tolerance: float, name: str = "") -> None:
    """Equal up to a share of the largest expected value."""
    assert found.shape == expected.shape, name
    gap = float((found.detach().double() - expected).abs().max())
    assert gap <= tolerance * float(expected.abs().max()), f"{name}: {gap}"


def near(found: Tensor, expected: Tensor, gap: float, name: str = "") -> None:
    """Equal up to a difference."""
    assert found.shape == expected.shape, name
    assert float((found.detach().double() - expected).abs().max()) <= gap, name


@DTYPES
def test_field(rival: Numbers, dtype: torch.dtype) -> None:
    """Float32: five times the original's own difference."""
    given, says = rival("consistent4d", "field")
    config = says["config"]
    widths = [given[f"in/w.density_network.{level}.layers.0.weight"].shape for level in range(2)]
    levels = [
        CascadeLevel(resolution=tuple(sides), channels=channels, width=width)
        for sides, (width, channels) in zip(config["grid_size"], widths, strict=True)
    ]
    field = CascadeField(
        levels,
        radius=config["radius"],
        blob_scale=config["density_blob_scale"],
        blob_std=config["density_blob_std"],
    ).to(dtype)
    field.load_state_dict(
        {key.removeprefix("in/w."): value for key, value in given.items() if key.startswith("in/w.")}
    )
    points, times = given["in/points"].to(dtype), given["in/timestamps"].to(dtype)

    def check(found: Tensor, name: str) -> None:
        if dtype == torch.float64:
            close(found, given[f"out/{name}"], 1e-8 if name == "normal" else 1e-10, name)
        else:
            near(found, given[f"out/{name}"], 5 * says["fp32_max_abs_diff"][name], name)

    found = field(points, times)
    check(found.density.flatten(0, 1), "density")
    check(found.features.flatten(0, 1), "features")
    check(found.colours.flatten(0, 1), "color")
    check(field.density(points, times, levels=1)[0], "density_occupancy")
    check(field.normals(points, times).flatten(0, 1), "normal")
    density, colours = found.density.flatten(0, 1), found.colours.flatten(0, 1)
    loss = (density * given["in/a"].to(dtype)).sum() + (colours * given["in/b"].to(dtype)).sum()
    check(loss[None], "loss")
    names = dict(field.named_parameters())
    assert {f"in/w.{name}" for name in names} == {key for key in given if key.startswith("in/w.")}
    for name, gradient in zip(names, torch.autograd.grad(loss, list(names.values())), strict=True):
        check(gradient, f"g.{name}")


def test_without_the_finer_networks_both_levels_are_alike() -> None:
    level = CascadeLevel(resolution=(3, 3, 3, 2), channels=2, width=4)
    field = CascadeField([level, level])
    field.initialise(torch.Generator().manual_seed(0))
    for networks in (field.density_network, field.feature_network):
        torch.nn.init.zeros_(networks[1].layers[-1].weight)  # type: ignore[union-attr, index]
    # 16 points, whole vectors of the processor: softplus rounds the rest of an array in another way.
    found = field(torch.rand(16, 3) - 0.5, torch.zeros(16, 1))
    assert torch.equal(found.density[0], found.density[1])
    assert torch.equal(found.features[0], found.features[1])


def test_a_new_field_is_a_blob() -> None:
    field = CascadeField()
    field.initialise(torch.Generator().manual_seed(0))
    shapes = {tuple(value.shape) for name, value in field.named_parameters() if name.startswith("grids")}
    assert [level.resolution for level in PUBLISHED] == [(50, 50, 50, 8), (100, 100, 100, 16)]
    assert shapes == {(1, 16, 50, 50), (1, 16, 8, 50), (1, 16, 100, 100), (1, 16, 16, 100)}
    with torch.no_grad():
        density = field.density(torch.tensor([[0.0, 0, 0], [0.3, 0, 0], [0.9, 0, 0]]), torch.zeros(3, 1))[
            1, :, 0
        ]
    assert density.tolist() == pytest.approx([10, 4, 0], abs=0.5)
    for name, value in field.named_parameters():
        if "network" in name:
            assert float(value.detach().abs().max()) <= value.shape[1] ** -0.5
    with pytest.raises(ConfigError, match="one level or more"):
        CascadeField([])


@DTYPES
def test_quadrature(rival: Numbers, dtype: torch.dtype) -> None:
    given, _ = rival("consistent4d", "quadrature")
    check = close if dtype == torch.float64 else near
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    density, colours = (given[f"in/{name}"].to(dtype).requires_grad_() for name in ("sigma", "rgb"))
    starts = given["in/t_starts"].to(dtype)
    found = composite(density, colours, starts, starts + 0.125, background=1.0)
    for value, name in zip(found, ("weights", "opacity", "depth", "rgb_on_white"), strict=True):
        check(value, given[f"out/{name}"], tolerance, name)
    loss = (found.colour * given["in/a"].to(dtype)).sum() + (found.opacity * given["in/b"].to(dtype)).sum()
    for value, name in zip(torch.autograd.grad(loss, (density, colours)), ("sigma", "rgb"), strict=True):
        check(value, given[f"out/g_{name}"], tolerance, name)


@pytest.mark.parametrize("case", ["losses_reference", "losses_sds_random_views", "losses_sds_sequence"])
@DTYPES
def test_losses(rival: Numbers, case: str, dtype: torch.dtype) -> None:
    stored, says = rival("consistent4d", case)
    given = {name: value.to(dtype) for name, value in stored.items()}
    config = says["config"]
    trained = ("comp_rgb", "opacity", "normal", "normal_perturb")
    pictures, opacity, normals, perturbed = (given[f"in/{name}"].requires_grad_() for name in trained)
    losses: dict[str, Tensor] = {}
    if config["guidance"] == "ref":
        assert is_reference_step(config["step"])
        losses["colour"] = colour_loss(pictures, given["in/rgb"], given["in/mask"])
        losses["mask"] = mask_loss(opacity, given["in/mask"])
    else:
        assert not is_reference_step(config["step"])
        losses["distillation"] = given["in/sds"] * pictures.flatten(1).sum(-1)
        if config["mode"] in (2, 3):
            losses["interpolation"] = interpolation_consistency(pictures, linear_interpolator)
    losses["orientation"] = orientation_loss(given["in/weights"], normals, given["in/t_dirs"], opacity)
    losses["smoothness"] = normal_smoothness(normals, perturbed)
    weights = CascadeWeights().at(config["step"])
    loss = cascade_loss(losses, weights)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    close(loss[None], stored["out/loss"], tolerance)
    found = torch.autograd.grad(loss, (pictures, opacity, normals, perturbed), materialize_grads=True)
    for name, value in zip(trained, found, strict=True):
        close(value, stored[f"out/g_{name}"], tolerance, name)
    terms = says["terms_float32"]
    names = {"colour": "rgb", "interpolation": "vif", "distillation": "sds", "mask": "mask"}
    prefix = f"train/loss_{config['guidance']}"
    for name, logged in names.items():
        if name in losses:
            expected_terms = [terms[f"{prefix}_{logged}_{level}"] for level in range(2)]
            assert losses[name].tolist() == pytest.approx(expected_terms, rel=1e-5)
    assert float(losses["smoothness"].detach()) == pytest.approx(terms[f"{prefix}_3d_normal_smooth"], rel=1e-5)
    weighted = weights["orientation"] * float(losses["orientation"].detach())
    assert weighted == pytest.approx(terms[f"{prefix}_orient_w"], rel=1e-5)


def test_losses_refuse_what_they_cannot_weigh() -> None:
    with pytest.raises(ConfigError, match="3 or more"):
        interpolation_consistency(torch.zeros(1, 2, 2, 2, 3), linear_interpolator)
    with pytest.raises(ConfigError, match="a weight for each"):
        cascade_loss({"depth": torch.zeros(1)}, CascadeWeights().at(0))
    assert hard_mask(torch.tensor([0.5, 0.51])).tolist() == [0, 1]


KINDS: tuple[CameraKind, ...] = ("pinhole", "ortho")


@pytest.mark.parametrize("kind", KINDS)
def test_rays_go_through_their_pixels(kind: CameraKind) -> None:
    cameras = orbit([0, 70], [10, -20], size=4, kind=kind, radius=2, dtype=torch.float64)
    rays = pixel_rays(cameras)
    assert rays.origins.shape == rays.directions.shape == (2, 4, 4, 3)
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(2, 4, 4).double())
    places = (rays.origins + 1.7 * rays.directions).flatten(1, 2)
    pixels, depth = cameras.project(places)
    rows, columns = torch.meshgrid(torch.arange(4) + 0.5, torch.arange(4) + 0.5, indexing="ij")
    expected = torch.stack([columns, rows], -1).reshape(-1, 2).double().expand(2, -1, -1)
    torch.testing.assert_close(pixels, expected)
    assert bool((depth > 0).all())


@pytest.mark.parametrize(
    "mode", ["mode1_angle", "mode1_sphere", "mode2_angle", "mode2_sphere", "mode3_angle", "mode3_sphere"]
)
def test_rays_of_consistent4d(rival: Numbers, mode: str) -> None:
    """The first and the last pixel of a 4x4 picture; `to_threestudio` turns our world into theirs."""
    _, says = rival("consistent4d", f"cameras/{mode}")
    cameras = orbit(says["azimuth_deg"][:1], says["elevation_deg"][:1], size=4, kind="pinhole", radius=2.0)
    found = pixel_rays(cameras).directions[0, (0, -1), (0, -1)]
    theirs = to_threestudio(cameras.world_to_camera)[0, :3, :3] * torch.tensor([1.0, -1, -1])
    turned = found @ cameras.world_to_camera[0, :3, :3].T @ theirs.T
    torch.testing.assert_close(turned, torch.tensor(says["center_ray"]), atol=1e-6, rtol=0)


def test_samples_lie_in_the_box() -> None:
    rays = Rays(torch.tensor([[-3.0, 0, 0], [-3, 5, 0], [0, 0, 0]]), torch.tensor([[1.0, 0, 0]]).expand(3, 3))
    start, end = box_span(rays, 1.0)
    assert start.tolist()[::2] == pytest.approx([2, 0])
    assert end.tolist()[::2] == pytest.approx([4, 1])
    samples = sample_rays(start, end, 4)
    assert samples.valid.tolist() == [True, False, True]
    assert samples.at[0].tolist() == pytest.approx([2.25, 2.75, 3.25, 3.75])
    assert not (samples.ends - samples.starts)[1].any()
    drawn = sample_rays(start, end, 4, torch.Generator().manual_seed(0))
    assert bool(((drawn.at >= drawn.starts) & (drawn.at <= drawn.ends)).all())
    assert not torch.equal(drawn.at, samples.at)
    assert points_on(rays, samples.at)[0, :, 0].tolist() == pytest.approx([-0.75, -0.25, 0.25, 0.75])


def test_a_constant_medium_has_its_opacity() -> None:
    density, lengths = (torch.full((1, 50), value, dtype=torch.float64) for value in (1.5, 0.04))
    weights = compositing_weights(density, lengths)
    assert float(weights.sum()) == pytest.approx(1 - math.exp(-3), rel=1e-12)


def test_occupancy_follows_the_density() -> None:
    grid = Occupancy.full(8, 1.0)
    assert bool(grid.occupied().all())
    places = grid.places()
    blob = (places.norm(dim=-1) < 0.5).float() * 0.2
    for _ in range(100):
        grid = grid.updated(blob)
    inside, outside, beyond = (
        torch.tensor([[0.1, 0.1, 0.1]]),
        torch.tensor([[0.9, 0.9, 0.9]]),
        torch.tensor([[1.1, 0, 0]]),
    )
    assert [bool(grid.contains(point)) for point in (inside, outside, beyond)] == [True, False, False]
    assert torch.equal(grid.contains(places).reshape(8, 8, 8), grid.occupied())
    drawn = grid.places(torch.Generator().manual_seed(0))
    assert float((drawn - places).abs().max()) <= 0.125
    faint = Occupancy.full(2, 1.0)
    for _ in range(200):
        faint = faint.updated(torch.tensor([0.0, 0, 0, 0, 0, 0, 0, 0.004]))
    assert int(faint.occupied().sum()) == 1  # the threshold is the mean, where that is lower
