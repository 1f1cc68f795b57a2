"""Gaussians: activation, where they start, and the visual hull."""

import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.splat.gaussians import GaussianModel, Gaussians, visual_hull
from mvtokenflow.splat.kernels.rotations import rotation_matrices
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, CameraKind, Cameras, orbit


def ball_masks(cameras: Cameras, radius: float, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (V, H, W) of a ball and pictures of it: red towards +X, else green."""
    x = torch.arange(cameras.width) + 0.5
    grid = torch.stack(torch.meshgrid(x, x, indexing="xy"), -1).reshape(-1, 2)
    rays = (grid - cameras.intrinsics[0, :2, 2]) / cameras.intrinsics[0, 0, 0]
    masks, pictures = [], []
    for pose in cameras.world_to_camera:
        rotation, position = pose[:3, :3], pose[:3, 3]
        middle = rotation @ centre + position
        if cameras.kind == "ortho":
            direction = torch.tensor([0.0, 0.0, 1.0]).expand(len(rays), 3)
            origin = torch.cat([rays, torch.zeros(len(rays), 1)], -1)
        else:
            direction = torch.nn.functional.normalize(torch.cat([rays, torch.ones(len(rays), 1)], -1), dim=-1)
            origin = torch.zeros(len(rays), 3)
        along = ((middle - origin) * direction).sum(-1, keepdim=True)
        gap = radius**2 - (origin + along * direction - middle).square().sum(-1)
        hit = origin + (along - gap.clamp_min(0).sqrt()[:, None]) * direction
        world = (hit - position) @ rotation
        red = world[:, 0] > 0
        masks.append((gap > 0).float())
        pictures.append(torch.stack([red.float(), (~red).float(), torch.zeros(len(red))], -1))
    size = (len(cameras), cameras.height, cameras.width)
    return torch.stack(masks).reshape(size), torch.stack(pictures).reshape(*size, 3)


@pytest.mark.parametrize("kind", ["ortho", "pinhole"])
def test_visual_hull_is_tight_and_takes_the_colours_seen(kind: CameraKind) -> None:
    cameras = orbit(
        (*ERA3D_AZIMUTHS_DEG, 0.0), (*[0.0] * 6, 80.0), size=96, kind=kind, radius=3.0, half_width=1.0
    )
    centre = torch.tensor([0.1, -0.05, 0.1])
    masks, pictures = ball_masks(cameras, 0.5, centre)
    generator = torch.Generator().manual_seed(0)
    points, colors = visual_hull(masks, cameras, 3000, generator, rgb=pictures)
    assert points.shape == colors.shape == (3000, 3)
    far = (points - centre).norm(dim=1)
    # A hull of seven views is larger than the ball, by at most a corner of the prism they cut.
    assert float(far.max()) < 0.5 * 1.35
    assert float((points.mean(0) - centre).abs().max()) < 0.03
    assert len({tuple(point) for point in points.tolist()}) == 3000
    surface = far > 0.42
    sided = surface & (points[:, 0].abs() > 0.15)
    agree = (colors[sided, 0] > 0.5) == (points[sided, 0] > 0)
    assert float(agree.float().mean()) > 0.97
    again, _ = visual_hull(masks, cameras, 3000, torch.Generator().manual_seed(0), rgb=pictures)
    assert torch.equal(points, again)


def test_visual_hull_fills_inside_or_surface_as_asked() -> None:
    cameras = orbit(ERA3D_AZIMUTHS_DEG, size=64, kind="ortho", radius=2.0)
    masks, _ = ball_masks(cameras, 0.6, torch.zeros(3))
    generator = torch.Generator().manual_seed(1)
    shell, grey = visual_hull(masks, cameras, 500, generator, surface=1.0)
    filled, _ = visual_hull(masks, cameras, 500, generator, surface=0.0)
    assert bool((grey == 0.5).all())
    assert float(shell.norm(dim=1).mean()) > float(filled.norm(dim=1).mean()) + 0.1


def test_empty_hull_is_refused() -> None:
    cameras = orbit((0.0, 90.0), size=32, kind="ortho", radius=2.0)
    masks = torch.zeros(2, 32, 32)
    masks[0, :8], masks[1, 24:] = 1, 1  # one sees it at the top, the other at the bottom
    with pytest.raises(DataError, match="inside all 2 masks"):
        visual_hull(masks, cameras, 10, torch.Generator())
    with pytest.raises(DataError, match="alpha has the shape"):
        visual_hull(masks[:1], cameras, 10, torch.Generator())


def test_start_is_that_of_3dgs() -> None:
    line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 0, 0]])
    colors = torch.linspace(0, 1, 15).reshape(5, 3)
    model = GaussianModel.from_points(line, colors, sh_degree=2, hyper_dim=4)
    made = model.activated()
    squared = torch.tensor(
        [(1 + 4 + 9) / 3, (1 + 1 + 4) / 3, (1 + 1 + 4) / 3, (1 + 1 + 4) / 3, (1 + 4 + 9) / 3]
    )
    torch.testing.assert_close(made.scales, squared.sqrt()[:, None].expand(5, 3))
    torch.testing.assert_close(made.opacities, torch.full((5,), 0.1))
    torch.testing.assert_close(rotation_matrices(made.quats), torch.eye(3).expand(5, 3, 3))
    assert model.sh_degree == made.sh_degree == 2
    assert model.features_rest.shape == (5, 8, 3)
    assert bool((model.hyper == -0.01).all())
    torch.testing.assert_close(made.colors_seen(orbit([10.0], size=8, kind="ortho", radius=2.0))[0], colors)
    plain = GaussianModel.from_points(line, colors).activated()
    torch.testing.assert_close(plain.colors, colors)


def test_coincident_points_still_have_a_size() -> None:
    model = GaussianModel.from_points(torch.zeros(6, 3), torch.zeros(6, 3))
    assert bool(model.log_scales.isfinite().all())
    with pytest.raises(DataError, match="at least two"):
        GaussianModel.from_points(torch.zeros(1, 3), torch.zeros(1, 3))


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_parameters_of_gaussians_give_them_back(degree: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    bands = ((degree + 1) ** 2,) if degree else ()
    made = Gaussians(
        means=draw(7, 3),
        quats=torch.nn.functional.normalize(draw(7, 4), dim=-1),
        scales=draw(7, 3) + 0.1,
        opacities=draw(7),
        colors=draw(7, *bands, 3),
        sh_degree=degree or None,
    )
    again = GaussianModel.from_gaussians(made, hyper_dim=1).activated()
    for name in ("means", "quats", "scales", "opacities", "colors"):
        torch.testing.assert_close(getattr(again, name), getattr(made, name), rtol=0, atol=1e-12)
    assert again.sh_degree == made.sh_degree
    low = made.truncated(0)
    assert low.colors.shape == ((7, 1, 3) if degree else (7, 3))


def test_ortho_colours_do_not_depend_on_the_distance_of_the_camera() -> None:
    generator = torch.Generator().manual_seed(0)
    model = GaussianModel.from_points(
        torch.rand(6, 3, generator=generator), torch.rand(6, 3, generator=generator), sh_degree=2
    )
    model.features_rest.data.normal_(generator=generator)
    made = model.activated()
    near, far = (made.colors_seen(orbit([30.0], size=8, kind="ortho", radius=radius)) for radius in (2.0, 50.0))
    torch.testing.assert_close(near, far)
    infinitely_far = made.colors_seen(orbit([30.0], size=8, kind="pinhole", radius=1e5))
    torch.testing.assert_close(near, infinitely_far, rtol=0, atol=1e-4)


def test_shapes_that_do_not_fit_are_refused() -> None:
    model = GaussianModel.from_points(torch.ones(4, 3), torch.ones(4, 3))
    values = {name: value.detach() for name, value in model.named().items()}
    with pytest.raises(DataError, match="quats has the shape"):
        GaussianModel(**values | {"quats": torch.ones(3, 4)})
    with pytest.raises(DataError, match="5 bands"):
        GaussianModel(**values | {"features_rest": torch.ones(4, 5, 3)})
    with pytest.raises(DataError, match="opacities has the shape"):
        Gaussians(torch.ones(2, 3), torch.ones(2, 4), torch.ones(2, 3), torch.ones(2, 1), torch.ones(2, 3))
