"""Fields look the same at every size: the low-pass of the training pixel is fixed in the world.

Peak signal-to-noise ratios are of one field of 300 thin Gaussians, float64 where equality is asked for.
"""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.splat.config import FieldConfig
from mvtokenflow.splat.field import DynamicField, Render, render_gaussians
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.splat.io import load_field, read_ply, save_field, write_ply
from mvtokenflow.splat.rasterize import rasterize
from mvtokenflow.views.cameras import CameraKind, Cameras, orbit

FIT = 64  # pixels of the fit, which span the world's -1 to 1
PIXEL = 2 / FIT
RADIUS = 4.0
KINDS: tuple[CameraKind, ...] = ("ortho", "pinhole")


def thin(pixel: float | None = PIXEL, dtype: torch.dtype = torch.float64) -> Gaussians:
    """Needles and plates on a ball, their middle axes about half a training pixel, as fits leave them."""
    draws = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    means = 0.6 * torch.nn.functional.normalize(randn(300, 3), dim=-1)
    scales = PIXEL * torch.tensor([0.4, 0.8, 1.5], dtype=torch.float64) * (0.3 * randn(300, 3)).exp()
    return Gaussians(
        means=means.to(dtype),
        quats=torch.nn.functional.normalize(randn(300, 4), dim=-1).to(dtype),
        scales=scales.to(dtype),
        opacities=(0.3 + 0.6 * torch.rand(300, generator=draws, dtype=torch.float64)).to(dtype),
        colors=torch.rand(300, 3, generator=draws, dtype=torch.float64).to(dtype),
        pixel=pixel,
    )


def cameras(size: int, kind: CameraKind) -> Cameras:
    return orbit((20.0, 200.0), 10.0, size=size, kind=kind, radius=RADIUS)


def plain(gaussians: Gaussians, seen: Cameras, eps2d: float) -> Tensor:
    """(C, H, W, 3) as the rasterizer gives it."""
    white = torch.ones(len(seen), 3, dtype=gaussians.means.dtype)
    return rasterize(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors,
        seen.world_to_camera.to(gaussians.means),
        seen.intrinsics.to(gaussians.means),
        seen.width,
        seen.height,
        camera_model=seen.kind,
        backgrounds=white,
        eps2d=eps2d,
    )[0]


def pooled(pictures: Tensor, factor: int) -> Tensor:
    return torch.nn.functional.avg_pool2d(pictures.movedim(-1, 1), factor).movedim(1, -1)


def db(one: Tensor, other: Tensor) -> float:
    return float(-10 * (one - other).square().mean().log10())


@pytest.mark.parametrize("size", [64, 96, 128, 256])
def test_orthographic_pictures_have_the_low_pass_of_the_fit(size: int) -> None:
    gaussians, seen = thin(), cameras(size, "ortho")
    wanted = plain(gaussians, seen, 0.3 * (size / FIT) ** 2)
    assert (render_gaussians(gaussians, seen).rgb - wanted).abs().max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [32, 48, 64, 96, 128, 256])
def test_every_size_shows_the_same_object(size: int, kind: CameraKind) -> None:
    """Against the same field drawn at 4 times the size and averaged; the plain low-pass is far off."""
    gaussians, factor = thin(), 4
    own = render_gaussians(gaussians, cameras(size, kind)).rgb
    # drawn 4 times larger every pixel is finer than the fit's, so nothing is averaged inside
    fine = pooled(render_gaussians(gaussians, cameras(size * factor, kind)).rgb, factor)
    assert db(own, fine) > 36  # 36.6 at 64 px, where one sample per pixel is coarsest; 40 to 61 elsewhere
    if size != FIT:
        assert db(plain(gaussians, cameras(size, kind), 0.3), fine) < db(own, fine) - 6


@pytest.mark.parametrize("size", [8, 21, 32, 63])
def test_small_pictures_are_averages_of_larger_ones(size: int) -> None:
    """Alpha, colours, expected depth and flow, as means over what a pixel covers."""
    gaussians, seen = thin(), cameras(size, "ortho")
    later = gaussians.means + torch.tensor([0.05, 0.0, 0.02], dtype=torch.float64)
    small = render_gaussians(gaussians, seen, flow_to=later)
    factor = math.ceil(FIT / size)
    large = render_gaussians(gaussians, seen.enlarged(factor), flow_to=later)
    assert small.flow is not None
    assert large.flow is not None
    assert small.rgb.shape == (2, size, size, 3)
    assert small.normal.shape == small.rgb.shape

    def weighted(values: Tensor) -> Tensor:
        return pooled(values * large.alpha, factor) / pooled(large.alpha, factor).clamp_min(1e-9)

    some = small.alpha[..., 0] > 1e-3
    assert torch.allclose(small.rgb, pooled(large.rgb, factor), atol=1e-9)
    assert torch.allclose(small.alpha, pooled(large.alpha, factor), atol=1e-9)
    assert torch.allclose(small.depth[some], weighted(large.depth)[some], atol=1e-6)
    assert torch.allclose(small.flow[some], weighted(large.flow)[some] / factor, atol=1e-6)
    # where two pixels of rigid motion are seen, two pixels are said
    wanted = size / 2 * 0.05 * math.cos(math.radians(20.0))
    moved = small.flow[0, ..., 0][small.alpha[0, ..., 0] > 0.5]
    assert torch.allclose(moved, torch.full_like(moved, wanted), rtol=1e-4)


def test_pictures_far_below_the_fit_stay_within_bounds() -> None:
    """A camera so far away that a pixel covers a thousand of the fit's: no huge picture is drawn."""
    far = orbit((0.0,), 0.0, size=64, kind="pinhole", radius=4000.0)
    seen = render_gaussians(thin(), far)
    assert seen.meta["width"] == 64 * 16
    assert 0 < float(seen.alpha.max()) < 0.1


def test_gradients_pass_the_averages() -> None:
    whole = thin()
    few = {name: getattr(whole, name)[:6] for name in ("means", "quats", "scales", "opacities", "colors")}
    gaussians = replace(whole, **few)
    means = gaussians.means.clone().requires_grad_()
    target = render_gaussians(gaussians, cameras(24, "ortho")).rgb
    shift = torch.tensor([0.01, 0.0, 0.0], dtype=torch.float64)

    def error(offset: Tensor) -> Tensor:
        moved = replace(gaussians, means=offset)
        return (render_gaussians(moved, cameras(24, "ortho")).rgb - target).square().mean()

    (gradient,) = torch.autograd.grad(error(means + shift), means)
    step = 1e-6
    ahead, behind = (error(gaussians.means + shift * (1 + sign * step / 0.01)) for sign in (1, -1))
    assert float(gradient[:, 0].sum()) == pytest.approx(float((ahead - behind) / (2 * step)), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_ply_looks_right_in_a_viewer_of_plain_gaussians(tmp_path: Path, kind: CameraKind) -> None:
    """At 4 times the size of the fit, where the viewer adds 0.3 of its own px²: within 0.5 dB at 26 dB."""
    gaussians, seen = thin(dtype=torch.float32), cameras(4 * FIT, kind)
    write_ply(tmp_path / "0.ply", gaussians)
    stored = read_ply(tmp_path / "0.ply")
    assert stored.pixel is None
    ours, theirs = render_gaussians(gaussians, seen).rgb, plain(stored, seen, 0.3)
    noise = 0.05 * torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    truth = ours + noise  # an object that ours is 26 dB from
    assert db(ours, truth) == pytest.approx(26.0, abs=0.1)
    assert abs(db(theirs, truth) - db(ours, truth)) < 0.5
    bare = plain(replace(gaussians, pixel=None), seen, 0.3)  # what was written before
    assert db(bare, truth) < db(ours, truth) - 0.6


def test_fields_keep_their_pixel_on_disk(tmp_path: Path) -> None:
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    field = DynamicField.from_points(FieldConfig(control_points=8), points, points + 0.5, pixel=PIXEL)
    moving = field.with_control_points(generator=torch.Generator().manual_seed(0))
    save_field(tmp_path / "field.safetensors", moving)
    again = load_field(tmp_path / "field.safetensors")
    assert again.pixel == moving.pixel == PIXEL
    assert all(moment.pixel == PIXEL for moment in again.at_many([0.0, 0.5]))
    # a file that states its own is not told another
    assert load_field(tmp_path / "field.safetensors", pixel=1.0).pixel == PIXEL

    def shown(render: Render) -> Tensor:
        return render.rgb.detach()

    seen = cameras(4 * FIT, "ortho")
    wanted = plain(again.at(0.5), seen, 0.3 * 16).detach()
    apart = (shown(again.render(seen, 0.5)) - wanted).abs()
    assert float(apart.mean()) < 1e-6
    assert float(apart.max()) < 1 / 255  # of a Gaussian at the rim of what is blended at all
    flow, _ = again.flow(seen, 0.0, 1.0)
    assert flow.shape == (2, 4 * FIT, 4 * FIT, 2)


@pytest.mark.parametrize("pixel", [0.0, -1.0, math.nan, math.inf])
def test_pixels_without_a_size_are_refused(pixel: float) -> None:
    with pytest.raises(DataError, match="training pixel"):
        thin(pixel)
