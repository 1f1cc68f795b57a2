"""Normals from depth: exact on planes, second order on a sphere, close to the toys' own normals."""

from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.datasets.toy4d.toys import make_toy
from mvtokenflow.splat.normals import normals_from_depth
from mvtokenflow.views.cameras import Cameras, orbit

KINDS = pytest.mark.parametrize("kind", ["ortho", "pinhole"])
Kind = Literal["ortho", "pinhole"]


def views(kind: Kind, size: int) -> Cameras:
    return orbit([0, 75, 200], [10, -20, 40], size=size, kind=kind, radius=3, fov_deg=40, dtype=torch.float64)


def rays(cameras: Cameras) -> tuple[Tensor, Tensor]:
    """World origins and directions (C, H, W, 3) per unit of camera depth."""
    size = cameras.width
    focal, centre = cameras.intrinsics[:, 0, 0].view(-1, 1, 1), size / 2
    grid = torch.arange(size, dtype=torch.float64) + 0.5 - centre
    x, y = (grid / focal).expand(-1, size, -1), (grid[:, None] / focal).expand(-1, -1, size)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    ortho = cameras.kind == "ortho"
    start = torch.stack((x, y, zero) if ortho else (zero, zero, zero), -1)
    along = torch.stack((zero, zero, one) if ortho else (x, y, one), -1)
    rotation, centres = cameras.world_to_camera[:, :3, :3], cameras.centres[:, None, None]
    return torch.einsum("chwi,cij->chwj", start, rotation) + centres, torch.einsum(
        "chwi,cij->chwj", along, rotation
    )


def sphere(cameras: Cameras, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, alpha (C, H, W, 1) and normals of a sphere at the origin."""
    start, along = rays(cameras)
    a, b = along.square().sum(-1), (start * along).sum(-1)
    under = b**2 - a * (start.square().sum(-1) - radius**2)
    depth = torch.where(under > 0, (-b - under.clamp_min(0).sqrt()) / a, 0.0)
    points = start + depth[..., None] * along
    return depth[..., None], (under > 0)[..., None].double(), points / radius


@KINDS
def test_normals_of_a_plane_are_exact(kind: Kind) -> None:
    cameras = views(kind, 24)
    plane = torch.nn.functional.normalize(-cameras.world_to_camera[:, 2, :3] + 0.3, dim=-1)
    start, along = rays(cameras)
    facing = plane[:, None, None]
    depth = -(start * facing).sum(-1) / (along * facing).sum(-1)
    normal, valid = normals_from_depth(depth[..., None], torch.ones_like(depth)[..., None], cameras)
    assert bool(valid[:, 1:-1, 1:-1].all())
    # Measured 1e-14: central differences of points are chords, and chords of a plane lie in it.
    assert float((normal - facing)[valid].abs().max()) < 1e-12


@KINDS
def test_normals_of_a_sphere_converge_with_the_square_of_the_pixel(kind: Kind) -> None:
    errors = []
    for size in (48, 96, 192):
        cameras = views(kind, size)
        depth, alpha, exact = sphere(cameras, 0.8)
        normal, valid = normals_from_depth(depth, alpha, cameras)
        towards = (cameras.centres[:, None, None] - exact * 0.8) if kind == "pinhole" else -rays(cameras)[1]
        inner = valid & ((exact * torch.nn.functional.normalize(towards, dim=-1)).sum(-1) > 0.5)
        errors.append(float(torch.rad2deg((normal - exact).norm(dim=-1)[inner].max())))
    # Measured, degrees, at most 60 degrees from the view: 0.54, 0.13, 0.034 (ortho; pinhole a little less).
    assert errors[0] < 1.2
    assert errors[1] < 0.3 * errors[0]
    assert errors[2] < 0.3 * errors[1]


@KINDS
def test_normals_are_unit_face_the_camera_and_stay_off_the_outline(kind: Kind) -> None:
    cameras = views(kind, 40)
    depth, alpha, _ = sphere(cameras, 0.7)
    normal, valid = normals_from_depth(depth, alpha, cameras)
    _, along = rays(cameras)
    assert float((normal.norm(dim=-1)[valid] - 1).abs().max()) < 1e-12
    assert bool(((normal * along).sum(-1)[valid] < 0).all())
    assert not normal[~valid].any()
    inside = alpha[..., 0] > 0
    shrunk = inside.clone()
    for axis in (1, 2):
        for step in (1, -1):
            shrunk &= inside.roll(step, axis)
    assert torch.equal(valid, shrunk)  # the pixel and its four neighbours


def test_half_transparent_pixels_do_not_count() -> None:
    cameras = views("ortho", 12)
    depth, alpha = torch.ones(3, 12, 12, 1), torch.ones(3, 12, 12, 1)
    alpha[:, 5, 6] = 0.85
    _, valid = normals_from_depth(depth, alpha, cameras)
    out = {(5, 6), (4, 6), (6, 6), (5, 5), (5, 7)}
    assert {(int(r), int(c)) for r, c in (~valid[1, 1:-1, 1:-1]).nonzero() + 1} == out
    assert bool(normals_from_depth(depth, alpha, cameras, min_alpha=0.8)[1][:, 1:-1, 1:-1].all())


@KINDS
def test_gradient_is_that_of_finite_differences(kind: Kind) -> None:
    cameras = views(kind, 9)
    depth, alpha, _ = sphere(cameras, 0.9)
    given = (depth.requires_grad_(),)
    assert gradcheck(lambda z: normals_from_depth(z, alpha, cameras)[0], given, atol=1e-6, fast_mode=True)


def test_empty_pictures_have_no_normals_and_finite_gradients() -> None:
    cameras = views("pinhole", 10)
    depth = torch.zeros(3, 10, 10, 1).requires_grad_()
    normal, valid = normals_from_depth(depth, torch.zeros(3, 10, 10, 1), cameras)
    (slope,) = torch.autograd.grad(normal.sum(), depth)
    assert not valid.any()
    assert not normal.any()
    assert not slope.any()


@pytest.mark.parametrize("plan", ["quadruped", "robot"])
def test_exact_depth_of_a_toy_gives_its_normals(plan: str) -> None:
    cameras = six_views(128)
    truth = render(make_toy(plan, 5), cameras, [0.3])
    depth, alpha, exact = (torch.as_tensor(truth.__dict__[key])[0] for key in ("depth", "alpha", "normal"))
    normal, valid = normals_from_depth(depth[..., None], alpha, cameras)
    degrees = torch.rad2deg(torch.acos((normal * exact).sum(-1).clamp(-1, 1)))[valid]
    # Measured: quadruped median 0.21, 86 % within 2 degrees; robot 0.10 and 78 %. The rest are inner outlines.
    assert float(valid.sum() / (alpha > 0.5).sum()) > 0.85
    assert float(degrees.median()) < 0.4
    assert float((degrees < 2).float().mean()) > 0.75


def test_shapes_must_fit_the_cameras() -> None:
    cameras = views("ortho", 8)
    for depth, alpha in (((3, 8, 9, 1), (3, 8, 9, 1)), ((3, 8, 8, 1), (3, 8, 8)), ((1, 8, 8, 1), (1, 8, 8, 1))):
        with pytest.raises(ValueError, match=r"must both be \(3, 8, 8, 1\)"):
            normals_from_depth(torch.ones(depth), torch.ones(alpha), cameras)
