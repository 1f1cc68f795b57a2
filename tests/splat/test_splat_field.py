"""The dynamic field: exact gradients, exact flow, visibility, and what a picture must not depend on."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.splat.config import FieldConfig
from mvtokenflow.splat.deform import NodeMotion
from mvtokenflow.splat.field import DynamicField, Render, deform_network, render_gaussians, visible_after
from mvtokenflow.splat.gaussians import PARAMETERS, GaussianModel, Gaussians
from mvtokenflow.splat.kernels.rotations import rotation_matrices
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, CameraKind, Cameras, orbit

KINDS = pytest.mark.parametrize("kind", ["ortho", "pinhole"])


class Scripted(nn.Module):
    """In place of the network: control points turn by t·angle about Z and shift by t·shift."""

    def __init__(self, angle: float = 0.0, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        super().__init__()
        self.angle, self.shift = angle, shift

    def pose(self, t: Tensor) -> tuple[Tensor, Tensor]:
        half = t * self.angle / 2
        zero = torch.zeros_like(half)
        return torch.stack([half.cos(), zero, zero, half.sin()], -1), t[..., None] * t.new_tensor(self.shift)

    def forward(self, points: Tensor, times: Tensor) -> NodeMotion:
        quats, shift = self.pose(times[:, 0, 0])
        moved = torch.einsum("tij,mj->tmi", rotation_matrices(quats), points) + shift[:, None]
        local = (quats - quats.new_tensor([1.0, 0.0, 0.0, 0.0]))[:, None].expand(-1, len(points), 4)
        return NodeMotion(moved - points, local, torch.zeros_like(moved), local)


def cloud(
    count: int, config: FieldConfig, seed: int = 0, *, spread: float = 0.4, dtype: torch.dtype = torch.float32
) -> DynamicField:
    """A static field of ellipsoids of all sizes and opacities."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    model = GaussianModel(
        means=draw(count, 3) * spread,
        log_scales=draw(count, 3) * 0.3 - 2.0,
        quats=draw(count, 4),
        logit_opacities=draw(count),
        features_dc=draw(count, 1, 3),
        features_rest=draw(count, (config.sh_degree + 1) ** 2 - 1, 3) * 0.3,
        hyper=draw(count, config.hyper_dim) * 0.01,
    )
    return DynamicField(config, model)


def scripted(field: DynamicField, motion: Scripted, seed: int = 0) -> DynamicField:
    """A dynamic field with control points anywhere among its Gaussians that move by script."""
    field.gaussians.logit_opacities.data.clamp_(min=-1.0)
    made = field.with_control_points(generator=torch.Generator().manual_seed(seed))
    assert made.control is not None
    made.control.network = motion  # type: ignore[assignment]  # stands in for the network
    return made


def plate(
    centre: tuple[float, float, float], half: float, color: tuple[float, float, float], *, side: int = 21
) -> Gaussians:
    """An opaque square facing the front camera, of side x side small round Gaussians in random order.

    They are equally deep, so the first in order hides the others: in rows, a pixel would show its left side.
    """
    axis = torch.linspace(-half, half, side)
    x, z = torch.meshgrid(axis, axis, indexing="ij")
    means = torch.stack([x, torch.zeros_like(x), z], -1).reshape(-1, 3) + torch.tensor(centre)
    count = len(means)
    return Gaussians(
        means=means[torch.randperm(count, generator=torch.Generator().manual_seed(0))],
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4),
        scales=torch.full((count, 3), 1.7 * half / (side - 1)),
        opacities=torch.full((count,), 0.95),
        colors=torch.tensor(color).expand(count, 3),
    )


def both(first: Gaussians, second: Gaussians) -> GaussianModel:
    names = ("means", "quats", "scales", "opacities", "colors")
    means, quats, scales, opacities, colors = (
        torch.cat([getattr(first, name), getattr(second, name)]) for name in names
    )
    return GaussianModel.from_gaussians(Gaussians(means, quats, scales, opacities, colors))


def test_static_field_is_the_same_at_all_times() -> None:
    field = cloud(30, FieldConfig(control_points=5, hyper_dim=2))
    cameras = orbit((0.0, 90.0), size=24, kind="ortho", radius=2.0)
    assert not field.is_dynamic
    first, second = field.render(cameras, 0.0), field.render(cameras, 0.9)
    assert torch.equal(first.rgb, second.rgb)
    flow, visible = field.flow(cameras, 0.0, 1.0)
    assert not bool(flow.any())
    assert torch.equal(visible, first.alpha[..., 0] >= 0.5)
    with pytest.raises(DataError, match="no control points"):
        field.control_positions([0.0])


def test_new_control_points_hardly_change_the_picture() -> None:
    field = cloud(60, FieldConfig(control_points=12))
    field.gaussians.logit_opacities.data.clamp_(min=-1.0)
    cameras = orbit((0.0, 90.0), size=24, kind="ortho", radius=2.0)
    dynamic = field.with_control_points(generator=torch.Generator().manual_seed(0))
    change = (dynamic.render(cameras, 0.4).rgb - field.render(cameras, 0.0).rgb).abs().max()
    assert 0 < float(change.detach()) < 5e-3
    moments = dynamic.moments([0.0, 0.5, 1.0])
    assert moments.control_positions is not None
    assert moments.control_positions.shape == (3, 12, 3)
    assert torch.equal(moments.control_positions, dynamic.control_positions([0.0, 0.5, 1.0]))
    assert field.moments([0.0, 0.5]).control_positions is None
    torch.testing.assert_close(moments.gaussians[1].means, dynamic.at(0.5).means)
    fewer = field.with_control_points(4, generator=torch.Generator().manual_seed(0))
    assert fewer.config.control_points == len(fewer.control_positions([0.0])[0]) == 4
    dynamic.gaussians.means.data.add_(9.0)
    assert float(field.gaussians.means.detach().abs().max()) < 5  # nothing is shared


@pytest.mark.parametrize("depth", [6, 8, 11])
def test_the_network_of_a_field_joins_its_inputs_behind_the_fifth_layer(depth: int) -> None:
    state = deform_network(FieldConfig(width=8, depth=depth)).state_dict()
    assert [index for index in range(1, depth) if state[f"linear.{index}.weight"].shape[1] > 8] == [5]


def test_control_points_avoid_faint_floaters() -> None:
    field = cloud(60, FieldConfig(control_points=10))
    field.gaussians.logit_opacities.data.fill_(2.0)
    field.gaussians.means.data[::10] = 5.0 + torch.arange(6.0)[:, None]
    field.gaussians.logit_opacities.data[::10] = -4.0
    dynamic = field.with_control_points(generator=torch.Generator().manual_seed(0))
    assert float(dynamic.control_positions([0.0]).detach().abs().max()) < 3
    with pytest.raises(DataError, match="54 of 60 Gaussians"):
        field.with_control_points(55, generator=torch.Generator())


@pytest.mark.parametrize("rotation", ["frame", "residual"])
@KINDS
def test_gradients_by_every_parameter_are_exact(kind: CameraKind, rotation: Any) -> None:
    config = FieldConfig(
        control_points=6, neighbours=2, hyper_dim=2, width=8, depth=6, sh_degree=1, rotation=rotation
    )
    static = cloud(12, config, dtype=torch.float64)
    static.gaussians.logit_opacities.data.clamp_(min=-1.0)
    generator = torch.Generator().manual_seed(1)
    field = static.with_control_points(generator=generator)
    assert field.control is not None
    for name in ("gaussian_warp", "gaussian_rotation", "gaussian_scaling", "local_rotation"):
        head = getattr(field.control.network, name)  # real motion, not the almost none of a start
        head.weight.data = torch.randn(head.weight.shape, generator=generator, dtype=torch.float64) * 0.05
    cameras = orbit((0.0, 60.0), 10.0, size=12, kind=kind, radius=3.0, dtype=torch.float64)
    background = torch.rand(2, 3, generator=generator, dtype=torch.float64)
    weights = [torch.randn(2, 12, 12, n, generator=generator, dtype=torch.float64) for n in (3, 1, 1, 2)]

    def loss() -> Tensor:
        seen = field.render(cameras, 0.3, background=background, flow_to=0.8)
        assert seen.flow is not None
        # Divided by alpha, depth and flow jump where a Gaussian's rim first touches a pixel: the object only.
        inside = (seen.alpha > 0.3).detach()
        parts = (seen.rgb, seen.alpha, seen.depth * inside, seen.flow * inside)
        return torch.stack([(w * part).sum() for w, part in zip(weights, parts, strict=True)]).sum()

    loss().backward()  # type: ignore[no-untyped-call]  # torch's
    unused = {"control.network.gaussian_rotation.weight", "control.network.gaussian_rotation.bias"}
    step = 1e-7
    for name, parameter in field.named_parameters():
        if rotation == "frame" and name in unused:
            assert parameter.grad is None
            continue
        assert parameter.grad is not None, name
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            parameter.add_(step * direction)
            above = loss()
            parameter.sub_(2 * step * direction)
            below = loss()
            parameter.add_(step * direction)
        found, expected = float((parameter.grad * direction).sum()), float(above - below) / (2 * step)
        # Rounding of the difference is about 1e-14 / 1e-7 of a loss near 10.
        assert found == pytest.approx(expected, rel=1e-4, abs=2e-5), name


@KINDS
def test_rigidly_moved_field_looks_like_a_moved_camera(kind: CameraKind) -> None:
    field = cloud(80, FieldConfig(control_points=16), dtype=torch.float64)
    motion = Scripted(angle=2.0, shift=(0.2, -0.1, 0.15))
    moved = scripted(field, motion)
    cameras = orbit((0.0, 130.0), 20.0, size=24, kind=kind, radius=3.0, dtype=torch.float64)
    quat, shift = motion.pose(torch.tensor(0.7, dtype=torch.float64))
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = rotation_matrices(quat), shift
    follower = Cameras(
        world_to_camera=cameras.world_to_camera @ pose,
        intrinsics=cameras.intrinsics,
        width=24,
        height=24,
        kind=kind,
    )
    there, here = moved.render(cameras, 0.7), moved.render(follower, 0.0)
    torch.testing.assert_close(there.rgb, here.rgb, rtol=0, atol=1e-9)
    torch.testing.assert_close(there.depth, here.depth, rtol=0, atol=1e-9)


@pytest.mark.parametrize("azimuth", [0.0, 45.0, 180.0])
def test_flow_of_a_shifted_cloud_is_exact_up_to_the_faintest_rim(azimuth: float) -> None:
    shift = (0.11, 0.3, -0.07)
    field = scripted(cloud(60, FieldConfig(control_points=10)), Scripted(shift=shift))
    cameras = orbit((azimuth,), size=48, kind="ortho", radius=3.0)
    flow, _ = field.flow(cameras, 0.25, 0.75)
    alpha = field.render(cameras, 0.25).alpha[..., 0].detach()
    moved = cameras.world_to_camera[0, :2, :3] @ (0.5 * torch.tensor(shift)) * cameras.intrinsics[0, 0, 0]
    covered = alpha > 0
    assert float(alpha[covered].min()) < 0.02  # the rim is there
    assert 0.2 < float(covered.float().mean()) < 0.99
    error = (flow[covered] - moved).detach().abs().max()
    assert float(error) < 1e-4  # pixels; measured 2e-5 in float32, where alpha is 1/255
    assert not bool(flow[~covered].any())


def test_flow_of_a_turning_cloud_is_that_of_its_points() -> None:
    """A plate through the axis turns under a pinhole camera: every pixel's 3-D point is known."""
    camera = orbit((0.0,), size=64, kind="pinhole", radius=3.0)
    model = GaussianModel.from_gaussians(plate((0.0, 0.0, 0.0), 0.6, (1.0, 0.0, 0.0), side=61), hyper_dim=8)
    motion = Scripted(angle=0.4)
    field = scripted(DynamicField(FieldConfig(control_points=10), model), motion)
    flow, visible = field.flow(camera, 0.0, 1.0)
    x = torch.arange(64) + 0.5
    pixels = torch.stack(torch.meshgrid(x, x, indexing="xy"), -1)
    rays = (pixels - 32) / camera.intrinsics[0, 0, 0] * 3.0
    points = torch.stack([rays[..., 0], torch.zeros(64, 64), -rays[..., 1]], -1)
    quat, _ = motion.pose(torch.tensor(1.0))
    target, _ = camera.project((points @ rotation_matrices(quat).T).reshape(1, -1, 3))
    expected = target.reshape(64, 64, 2) - pixels
    inner = (points[..., 0].abs() < 0.5) & (points[..., 2].abs() < 0.5)
    # A pixel shows what comes first within a pixel or two of it. Measured: mean 0.015, at most 0.10 pixels.
    error = (flow[0] - expected)[inner].detach().abs()
    assert float(error.mean()) < 0.03
    assert float(error.max()) < 0.2
    assert float(expected[inner].abs().max()) > 1.5
    assert bool(visible[0][inner].all())


@torch.no_grad()
@KINDS
def test_what_gets_covered_or_leaves_is_not_visible(kind: CameraKind) -> None:
    """A small near plate slides in front of a large far one, later out of the picture."""
    camera = orbit((0.0,), size=64, kind=kind, radius=4.0, half_width=1.0, fov_deg=28.0)
    far, near = plate((0.3, 0.3, 0.0), 0.5, (0.0, 0.0, 1.0)), plate((-0.6, -0.3, 0.0), 0.25, (1.0, 0.0, 0.0))
    static = DynamicField(FieldConfig(hyper_dim=0), both(far, near))
    gaussians = static.at(0.0)
    still = torch.arange(len(gaussians)) < len(far)

    def shifted(by: float) -> Tensor:
        return gaussians.means + torch.where(still, 0.0, by)[:, None] * torch.tensor([1.0, 0.0, 0.0])

    class Moving(DynamicField):
        def at_many(self, times: Any) -> list[Gaussians]:
            now = super().at_many(times)
            return [
                Gaussians(shifted(float(t)), g.quats, g.scales, g.opacities, g.colors)
                for t, g in zip(times, now, strict=True)
            ]

    field = Moving(static.config, static.gaussians)
    flow, visible = field.flow(camera, 0.0, 1.0)
    before, after = field.render(camera, 0.0), field.render(camera, 1.0)
    blue, red = (
        before.rgb[0, ..., 2] > before.rgb[0, ..., 0] + 0.5,
        before.rgb[0, ..., 0] > before.rgb[0, ..., 2] + 0.5,
    )
    covered = after.rgb[0, ..., 0] > after.rgb[0, ..., 2] + 0.5
    solid = before.alpha[0, ..., 0] > 0.98
    inner = -nn.functional.max_pool2d(-covered.float()[None], 5, 1, 2)[0] > 0  # away from the moving rim
    outer = nn.functional.max_pool2d(covered.float()[None], 5, 1, 2)[0] == 0
    assert int((blue & solid & inner).sum()) > 30
    assert not bool(visible[0][blue & inner].any())
    assert bool(visible[0][blue & solid & outer].all())
    assert bool(visible[0][red & solid].all())
    assert not bool(visible[0][before.alpha[0, ..., 0] < 0.5].any())
    assert float(flow[0][blue & solid].abs().max()) < 1e-3
    # back in time the near plate uncovers blue, and red goes on being seen
    _, back = field.flow(camera, 1.0, 0.0)
    channels = after.rgb[0]
    pure = (channels[..., 1] < 0.02) & ((channels[..., 0] < 0.02) | (channels[..., 2] < 0.02))
    assert int(pure.sum()) > 500
    assert bool(back[0][pure].all())
    gone, leaving = field.flow(camera, 0.0, 3.0)
    assert float(gone[0][red & solid].abs().max()) > 64
    assert not bool(leaving[0][red & solid].any())


def test_visibility_pixel_by_pixel() -> None:
    """Hand-made pictures of 8 x 8 pixels, everything a pixel or so to the right."""
    camera = orbit((0.0,), size=8, kind="ortho", radius=2.0)
    one = torch.ones(1, 8, 8, 1)

    def visible(depth_then: Tensor, rendered: Tensor, alpha: Tensor = one, shift: float = 1.0) -> Tensor:
        flow = torch.tensor([shift, 0.0]).expand(1, 8, 8, 2)
        now = Render(one, one, one, camera, {}, flow=flow, depth_then=depth_then)
        return visible_after(now, Render(one, alpha, rendered, camera, {}), 0.05)[0]

    inside = torch.ones(8, 8, dtype=torch.bool)
    inside[:, 7] = False  # these leave the picture
    assert torch.equal(visible(2 * one, 1.96 * one), inside)
    assert not bool(visible(2 * one, 1.94 * one).any())
    assert torch.equal(visible(2 * one, 9 * one), inside)
    steep = one * torch.arange(8.0)[:, None]  # one unit of depth per pixel to the right
    half_way = torch.where(steep < 7, steep + 1.5, steep)
    assert not bool(visible(half_way, steep)[:, :6].any())
    assert torch.equal(visible(half_way, steep, shift=1.5)[:, :6], inside[:, :6])
    hole = one.clone()
    hole[0, 3, 4:6] = 0.4
    expected = inside.clone()
    expected[3, 3:5] = False  # whose targets show nothing
    assert torch.equal(visible(one, one, hole), expected)
    with pytest.raises(ValueError, match="without flow_to"):
        visible_after(Render(one, one, one, camera, {}), Render(one, one, one, camera, {}), 0.05)


@KINDS
def test_flow_does_not_meet_infinities_behind_the_camera(kind: CameraKind) -> None:
    field = scripted(cloud(40, FieldConfig(control_points=8), spread=2.0), Scripted(shift=(0.0, -3.0, 0.0)))
    cameras = orbit((0.0,), size=24, kind=kind, radius=2.0)
    seen = field.render(cameras, 0.0, flow_to=1.0)
    assert seen.flow is not None
    (seen.flow.sum() + seen.rgb.sum() + seen.depth.sum()).backward()  # type: ignore[no-untyped-call]  # torch's
    assert bool(seen.flow.isfinite().all())
    for name, parameter in field.gaussians.named().items():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all()), name


def test_one_pass_gives_what_separate_passes_give() -> None:
    field = scripted(cloud(50, FieldConfig(control_points=8, sh_degree=1)), Scripted(1.0, (0.1, 0.0, 0.0)))
    cameras = orbit(ERA3D_AZIMUTHS_DEG, size=32, kind="ortho", radius=2.0)
    alone, together = field.render(cameras, 0.2), field.render(cameras, 0.2, flow_to=0.6)
    for name in ("rgb", "alpha", "depth", "normal"):
        torch.testing.assert_close(getattr(alone, name), getattr(together, name), rtol=0, atol=1e-6)
    torch.testing.assert_close(together.flow, field.flow(cameras, 0.2, 0.6)[0], rtol=0, atol=1e-5)
    assert alone.flow is None


def test_pictures_do_not_depend_on_the_order_of_gaussians() -> None:
    field = scripted(cloud(50, FieldConfig(control_points=8)), Scripted(1.0))
    cameras = orbit((0.0, 45.0), size=32, kind="ortho", radius=2.0)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    model = GaussianModel(**{name: field.gaussians.named()[name].detach()[order] for name in PARAMETERS})
    mixed = DynamicField(field.config, model, field.control)
    first, second = field.render(cameras, 0.5, flow_to=0.9), mixed.render(cameras, 0.5, flow_to=0.9)
    for name in ("rgb", "alpha", "depth", "flow"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name), rtol=0, atol=1e-4)


def test_backgrounds_and_bands() -> None:
    field = cloud(20, FieldConfig(sh_degree=2, background=(0.2, 0.4, 0.6)), spread=0.1)
    cameras = orbit((0.0, 90.0), size=24, kind="ortho", radius=2.0)
    seen = field.render(cameras, 0.0)
    torch.testing.assert_close(seen.rgb[:, 0, 0], torch.tensor([[0.2, 0.4, 0.6]]).expand(2, 3))
    black, per_view = torch.zeros(3), torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    other = field.render(cameras, 0.0, background=black)
    torch.testing.assert_close(other.rgb + (1 - other.alpha) * torch.tensor([0.2, 0.4, 0.6]), seen.rgb)
    assert torch.equal(field.render(cameras, 0.0, background=per_view).rgb[0], other.rgb[0])
    flat = field.render(cameras, 0.0, sh_degree=0).rgb
    field.gaussians.features_rest.data.zero_()
    torch.testing.assert_close(flat, field.render(cameras, 0.0).rgb)


def test_normals_of_a_plate_face_the_camera() -> None:
    camera = orbit((0.0, 30.0), size=48, kind="ortho", radius=3.0)
    seen = render_gaussians(plate((0.0, 0.0, 0.0), 0.5, (1.0, 0.0, 0.0)), camera)
    normal, valid = seen.normals
    assert int(valid[0].sum()) > 100
    assert float((normal[0][valid[0]] - torch.tensor([0.0, -1.0, 0.0])).abs().max()) < 1e-3
    assert isinstance(seen, Render)
    assert seen.normal is normal


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"control_points": 0}, "control_points is 0"),
        ({"neighbours": 600}, "neighbours is 600 but there are 512"),
        ({"depth": 5}, "depth is 5"),
        ({"sh_degree": 4}, "sh_degree is 4"),
        ({"hyper_dim": 1.5}, "hyper_dim is 1.5"),
        ({"rotation": "left"}, "rotation is 'left'"),
        ({"background": (1.0, 2.0, 0.0)}, "three numbers"),
        ({"depth_tolerance": math.nan}, "depth_tolerance is nan"),
    ],
)
def test_bad_configs_are_refused(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FieldConfig(**setting)


def test_gaussians_of_another_config_are_refused() -> None:
    model = GaussianModel.from_points(torch.ones(3, 3), torch.ones(3, 3), hyper_dim=2)
    with pytest.raises(ConfigError, match="2 hyper"):
        DynamicField(FieldConfig(hyper_dim=8), model)
    gaussians = model.activated()
    cameras = orbit((0.0,), size=8, kind="ortho", radius=2.0)
    with pytest.raises(DataError, match="flow_to has the shape"):
        render_gaussians(gaussians, cameras, flow_to=gaussians.means[:2])
