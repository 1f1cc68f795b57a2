"""toy4d's renderer against geometry written down independently in numpy."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mvtokenflow.datasets.toy4d import kernels, motion, shading
from mvtokenflow.datasets.toy4d.build import INK, Builder, Skin, plain
from mvtokenflow.datasets.toy4d.render import render, render_flow
from mvtokenflow.datasets.toy4d.toys import PLANS, Toy, assemble, make_toy
from mvtokenflow.views.cameras import CameraKind, Cameras, orbit

Array = NDArray[np.float64]
KINDS: tuple[CameraKind, ...] = ("ortho", "pinhole")
RED, BLUE = (0.8, 0.2, 0.2), (0.2, 0.3, 0.8)


def views(azimuths: tuple[float, ...], kind: CameraKind, size: int = 96, elevation: float = 0.0) -> Cameras:
    return orbit(azimuths, elevation, size=size, kind=kind, radius=3.0, fov_deg=40.0, dtype=torch.float64)


def toy_of(*balls: Callable[[Builder], None]) -> Toy:
    build = Builder()
    for ball in balls:
        ball(build)
    return assemble(build, plan="test", seed=0, caption="")


def ball(
    at: tuple[float, float, float], radius: float, skin: Skin, slide: tuple[float, float, float] = (0, 0, 0)
) -> Callable[[Builder], None]:
    def add(build: Builder) -> None:
        bone = build.bone(0, at, slide=slide)  # at + slide·sin(2πt)
        build.ellipsoid(bone, (0, 0, 0), (radius,) * 3, skin)

    return add


def unproject(cameras: Cameras, depth: NDArray[np.float32]) -> Array:
    """(V, H, W, 3) world points of the pixel centres, by inverting `Cameras.project` with numpy."""
    v, h, w = depth.shape
    x, y = np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5)
    out = np.empty((v, h, w, 3))
    for k in range(v):
        intrinsics, pose = cameras.intrinsics[k].numpy(), cameras.world_to_camera[k].numpy()
        plane = np.stack(
            ((x - intrinsics[0, 2]) / intrinsics[0, 0], (y - intrinsics[1, 2]) / intrinsics[1, 1]), -1
        )
        if cameras.kind == "pinhole":
            plane *= depth[k, ..., None]
        camera = np.concatenate((plane, depth[k, ..., None]), -1)
        out[k] = np.linalg.solve(pose[:3, :3], (camera - pose[:3, 3]).reshape(-1, 3).T).T.reshape(h, w, 3)
    return out


def facing(cameras: Cameras, view: int, points: Array, normals: Array) -> Array:
    """Cosine between outward normals and the direction back to the camera, at world points (..., 3)."""
    pose = cameras.world_to_camera[view].numpy()
    back = -pose[:3, :3].T @ pose[:3, 3] - points if cameras.kind == "pinhole" else -pose[2, :3]
    cosine: Array = (normals * back).sum(-1) / np.linalg.norm(back, axis=-1)
    return cosine


def distance(kind: int, size: Array, p: Array) -> Array:
    """Implicit function of a primitive at local points (n, 3): 0 on the surface, negative inside."""
    a, b, c = size
    if kind == kernels.ELLIPSOID:
        value: Array = np.linalg.norm(p / size, axis=-1) - 1
    elif kind == kernels.BOX:
        value = (np.abs(p) - size).max(-1)
    elif kind == kernels.CAPSULE:
        axis = np.zeros_like(p)
        axis[:, 2] = p[:, 2].clip(-c, c)
        value = np.linalg.norm(p - axis, axis=-1) - a
    else:
        radius = a + (b - a) * (p[:, 2] + c) / (2 * c)
        value = np.maximum(np.hypot(p[:, 0], p[:, 1]) - radius, np.abs(p[:, 2]) - c)
    return value


def to_local(toy: Toy, pose: Array, part: int, points: Array) -> Array:
    local: Array = (points - pose[part, :, 3]) @ pose[part, :, :3]
    return local


def test_sine_and_cosine_agree_with_libm_and_between_python_and_numba() -> None:
    for turns in np.random.default_rng(0).uniform(-0.5, 0.5, 2000):
        s, c = motion.sincos(turns)
        assert (s, c) == motion._sincos(turns)
        # measured 2.2e-16 over this range
        assert abs(s - math.sin(2 * math.pi * turns)) < 5e-16
        assert abs(c - math.cos(2 * math.pi * turns)) < 5e-16
    assert motion.sincos(0.25) == (1.0, 0.0)


def test_poses_follow_the_joint_tree() -> None:
    """Forward kinematics with 4x4 matrices, rotations by matrix exponential."""
    toy = make_toy("robot", 5)

    def joint(bone: Array, t: float) -> Array:
        bias, swing, phase, cycles, spin, slide_phase = bone[9:15]
        angle = 2 * math.pi * (bias + swing * math.sin(2 * math.pi * (cycles * t + phase)) + spin * t)
        k = torch.tensor(np.cross(np.eye(3), bone[3:6]))  # column j is axis × e_j
        out = np.eye(4)
        out[:3, :3] = torch.linalg.matrix_exp(k * angle).numpy()
        out[:3, 3] = bone[:3] + bone[6:9] * math.sin(2 * math.pi * (cycles * t + slide_phase))
        return out

    for t, got in zip((0.0, 0.37), toy.poses((0.0, 0.37)), strict=True):
        world: list[Array] = []
        for parent, bone in zip(toy.parents, toy.bones, strict=True):
            local = joint(bone, t)
            world.append(local if parent < 0 else world[parent] @ local)
        frames = np.concatenate((toy.part_frames, np.tile([[[0, 0, 0, 1.0]]], (len(got), 1, 1))), 1)
        want = np.stack([world[b] @ f for b, f in zip(toy.part_bones, frames, strict=True)])
        np.testing.assert_allclose(got, want[:, :3], atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_hits_lie_on_their_part_and_nothing_lies_before_them(kind: CameraKind) -> None:
    for plan in PLANS:  # between them they use every primitive
        toy = make_toy(plan, 3)
        cameras = views((20.0, 140.0), kind, elevation=25.0)
        picture = render(toy, cameras, [0.3], samples=1)
        pose = toy.poses([0.3])[0]
        points = unproject(cameras, picture.depth[0])
        for k in np.unique(picture.part[picture.part >= 0]):
            found = points[picture.part[0] == k]
            # float32 depth of about 3: half a unit in the last place is 1.2e-7, divided by the smallest
            # semi-axis (0.03) for the unitless function of an ellipsoid
            assert np.abs(distance(toy.kinds[k], toy.sizes[k], to_local(toy, pose, k, found))).max() < 1e-5
        eyes = points - 0.02 * (unproject(cameras, picture.depth[0] + 1) - points)
        for k in range(len(toy.kinds)):
            before = eyes[picture.part[0] >= 0]
            inside = distance(toy.kinds[k], toy.sizes[k], to_local(toy, pose, k, before)) < 0
            assert not inside.any(), (plan, k)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plan", PLANS)
def test_normals_are_gradients_of_the_surface(kind: CameraKind, plan: str) -> None:
    toy = make_toy(plan, 4)
    cameras = views((-30.0, 100.0), kind, elevation=-15.0)
    picture = render(toy, cameras, [0.6], samples=1)
    pose = toy.poses([0.6])[0]
    points = unproject(cameras, picture.depth[0])
    hit = picture.part[0] >= 0
    np.testing.assert_allclose(np.linalg.norm(picture.normal[0][hit], axis=-1), 1, atol=1e-6)
    assert not picture.normal[0][~hit].any()
    angles = []
    for k in np.unique(picture.part[0][hit]):
        mine = picture.part[0] == k
        local = to_local(toy, pose, k, points[mine])
        step = 1e-5
        gradient = np.stack(
            [
                distance(toy.kinds[k], toy.sizes[k], local + step * axis)
                - distance(toy.kinds[k], toy.sizes[k], local - step * axis)
                for axis in np.eye(3)
            ],
            -1,
        )
        gradient = gradient @ pose[k, :, :3].T
        gradient /= np.linalg.norm(gradient, axis=-1, keepdims=True)
        angles.append((gradient * picture.normal[0][mine]).sum(-1))
    cosine = np.concatenate(angles)
    # The implicit functions have kinks (edges of boxes and rims), where the two sides differ; measured: at
    # most 0.3 % of the pixels.
    assert (cosine > 1 - 1e-4).mean() > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_normals_agree_with_depth_differences(kind: CameraKind) -> None:
    toy = toy_of(ball((0.1, 0.2, -0.1), 0.7, plain(RED)))
    cameras = views((35.0,), kind, size=256, elevation=20.0)
    picture = render(toy, cameras, [0.0], samples=1)
    points = unproject(cameras, picture.depth[0])[0]
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    shown = picture.normal[0, 0]
    # Central differences degrade towards the silhouette.
    keep = facing(cameras, 0, points, shown)[1:-1, 1:-1] > 0.4
    normal = np.cross(down, across)[keep]
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    cosine = (normal * shown[1:-1, 1:-1][keep]).sum(-1)
    assert keep.sum() > 10000
    assert cosine.min() > math.cos(math.radians(0.5))  # measured 0.06 degrees


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plan", PLANS)
def test_flow_is_where_the_surface_point_goes(kind: CameraKind, plan: str) -> None:
    """Unproject the depth, move the point with its part in numpy, project it with `Cameras.project`."""
    toy = make_toy(plan, 8)
    cameras = views((10.0, 200.0), kind, elevation=10.0)
    start, end = 0.2, 0.31
    picture = render(toy, cameras, [start], samples=1)
    motion_ = render_flow(toy, cameras, [start], [end])
    before, after = toy.poses([start, end])
    points = unproject(cameras, picture.depth[0])
    moved = points.copy()
    for k in range(len(toy.kinds)):
        mine = picture.part[0] == k
        moved[mine] = to_local(toy, before, k, points[mine]) @ after[k, :, :3].T + after[k, :, 3]
    pixels, _ = cameras.project(torch.from_numpy(moved.reshape(2, -1, 3)))
    x, y = np.meshgrid(np.arange(96) + 0.5, np.arange(96) + 0.5)
    want = pixels.numpy().reshape(2, 96, 96, 2) - np.stack((x, y), -1)
    hit = picture.part[0] >= 0
    assert np.abs(motion_.flow[0][hit]).max() > 1  # something moves
    # measured 5e-6 px: float32 depth and flow
    np.testing.assert_allclose(motion_.flow[0][hit], want[hit], atol=2e-5)
    assert not motion_.flow[0][~hit].any()
    assert not motion_.visible[0][~hit].any()


def test_flow_direction() -> None:
    """A ball that rises moves up in the picture (−y), one that goes to world +X moves right (+x)."""
    for slide, want in (((0.0, 0.0, 0.25), (0.0, -12.0)), ((0.25, 0.0, 0.0), (12.0, 0.0))):
        toy = toy_of(ball((0, 0, 0), 0.3, plain(RED), slide))
        flow = render_flow(toy, views((0.0,), "ortho"), [0.0], [0.25]).flow[0, 0]
        np.testing.assert_allclose(flow[48, 48], want, atol=1e-5)


def test_no_motion_is_no_flow_and_all_visible() -> None:
    toy = make_toy("crab", 2)
    for kind in KINDS:
        cameras = views((0.0, 77.0), kind)
        still = render_flow(toy, cameras, [0.4], [0.4])
        hit = render(toy, cameras, [0.4], samples=1).part >= 0
        assert np.abs(still.flow).max() < 1e-5
        np.testing.assert_array_equal(still.visible, hit)


def test_a_point_behind_another_ball_is_hidden() -> None:
    # The red ball slides right by 0.5 = 24 px at t = 1/4, behind the still blue one.
    toy = toy_of(
        ball((-0.4, 0.6, 0.0), 0.3, plain(RED), (0.5, 0.0, 0.0)), ball((0.2, -0.3, 0.0), 0.25, plain(BLUE))
    )
    cameras = views((0.0,), "ortho")
    part = render(toy, cameras, [0.0], samples=1).part[0, 0]
    flow = render_flow(toy, cameras, [0.0], [0.25])
    visible = flow.visible[0, 0]
    assert visible[part == 1].all()
    x, y = np.meshgrid((np.arange(96) + 0.5 - 48) / 48, (np.arange(96) + 0.5 - 48) / 48)
    gap = np.hypot(x + 0.5 - 0.2, y) - 0.25  # of the moved point to the rim of the blue disc
    red = part == 0
    assert (gap[red] > 0).any()
    assert (gap[red] < 0).any()
    np.testing.assert_array_equal(visible[red], gap[red] > 0)


def test_a_turning_ball_hides_what_turns_away() -> None:
    build = Builder()
    bone = build.bone(0, (0, 0, 0), axis=(0.0, 0.0, 1.0), spin=1)
    build.ellipsoid(bone, (0, 0, 0), (0.6, 0.6, 0.6), plain(RED))
    toy = assemble(build, plan="test", seed=0, caption="")
    cameras = views((0.0,), "ortho")
    picture = render(toy, cameras, [0.0], samples=1)
    visible = render_flow(toy, cameras, [0.0], [0.125]).visible[0, 0]
    n = picture.normal[0, 0]
    turned_y = (n[..., 0] + n[..., 1]) * math.sqrt(0.5)  # y of the normal after 45 degrees about Z
    hit = picture.part[0, 0] >= 0
    np.testing.assert_array_equal(visible[hit], turned_y[hit] < 0)


def test_a_point_that_leaves_the_picture_is_not_visible() -> None:
    toy = toy_of(ball((0.6, 0, 0), 0.3, plain(RED), (0.25, 0.0, 0.0)))
    flow = render_flow(toy, views((0.0,), "ortho"), [0.0], [0.25])
    hit = render(toy, views((0.0,), "ortho"), [0.0], samples=1).part[0, 0] >= 0
    target = np.broadcast_to(np.arange(96) + 0.5, (96, 96)) + flow.flow[0, 0, ..., 0]
    np.testing.assert_array_equal(flow.visible[0, 0][hit], target[hit] < 96)
    assert not flow.visible[0, 0][hit].all()


@pytest.mark.parametrize("kind", KINDS)
def test_views_agree_in_space(kind: CameraKind) -> None:
    """A point seen in view A is, in view B, never in front of what B shows; where B sees it, B agrees."""
    toy = make_toy("quadruped", 6)
    cameras = views((0.0, 40.0), kind, size=256)
    picture = render(toy, cameras, [0.5], samples=1)
    points = unproject(cameras, picture.depth[0])[0][picture.part[0, 0] >= 0]
    pixels, depth = cameras[1].project(torch.from_numpy(points)[None])
    column, row = (pixels[0].numpy().astype(int)[:, k] for k in (0, 1))
    shown = picture.depth[0, 1, row, column]
    part = picture.part[0, 0][picture.part[0, 0] >= 0]
    same = picture.part[0, 1, row, column] == part
    gap = depth[0].numpy() - shown
    # Half a pixel off the centre, on surfaces seen at up to 75 degrees: 0.5·√2·(2/256)·tan 75° = 0.02
    steep = facing(cameras, 1, points, picture.normal[0, 1, row, column]) < math.cos(math.radians(75))
    assert (gap > -0.025)[same & ~steep].all()
    agree = np.abs(gap) < 0.025
    assert agree.mean() > 0.7  # measured 0.84 (ortho), 0.81 (pinhole)
    a = picture.normal[0, 0][picture.part[0, 0] >= 0][agree & same & ~steep]
    b = picture.normal[0, 1, row, column][agree & same & ~steep]
    assert np.quantile((a * b).sum(-1), 0.05) > math.cos(math.radians(7))  # measured 4.8 degrees


def test_coverage_of_a_sphere_is_its_disc() -> None:
    toy = toy_of(ball((0, 0, 0), 0.6, plain(RED)))
    area = render(toy, views((17.0,), "ortho", size=128), [0.0], samples=4).alpha.sum()
    assert area == pytest.approx(math.pi * (0.6 * 64) ** 2, rel=5e-4)  # measured 5e-5
    focal = 128 / (2 * math.tan(math.radians(20)))
    radius = focal * 0.6 / math.sqrt(9 - 0.36)
    area = render(toy, views((17.0,), "pinhole", size=128), [0.0], samples=4).alpha.sum()
    assert area == pytest.approx(math.pi * radius**2, rel=1e-3)  # measured 3e-4


def test_azimuth_turns_the_camera_towards_image_right() -> None:
    """From azimuth 90 the camera stands on +X: what was right comes nearest, the front goes left."""
    toy = toy_of(ball((0.6, 0, 0), 0.2, plain(RED)), ball((0, -0.6, 0.3), 0.2, plain(BLUE)))
    front, side = render(toy, views((0.0, 90.0), "ortho"), [0.0]).part[0]
    columns = np.broadcast_to(np.arange(96) + 0.5, (96, 96))
    rows = columns.T
    assert columns[front == 0].mean() == pytest.approx(48 + 0.6 * 48, abs=0.3)
    assert columns[side == 1].mean() == pytest.approx(48 - 0.6 * 48, abs=0.3)
    assert columns[side == 0].mean() == pytest.approx(48, abs=0.3)
    assert rows[side == 1].mean() == pytest.approx(48 - 0.3 * 48, abs=0.3)
    depth = render(toy, views((0.0, 90.0), "ortho"), [0.0]).depth[0]
    assert depth[1][side == 0].min() == pytest.approx(3 - 0.8, abs=1e-2)
    assert depth[0][front == 1].min() == pytest.approx(3 - 0.8, abs=1e-2)


def test_colour_is_straight() -> None:
    """Edge pixels have the object's colour, not a mix with a background."""
    picture = render(toy_of(ball((0, 0, 0), 0.6, plain(INK))), views((0.0,), "ortho"), [0.0], samples=4)
    edge = (picture.alpha[..., 0] > 0) & (picture.alpha[..., 0] < 0.5)
    assert edge.sum() > 50
    assert picture.rgb[edge].max() < max(INK) * 1.05
    assert (picture.rgb[picture.alpha[..., 0] == 0] == 1).all()


@pytest.mark.parametrize("primitive", ["ellipsoid", "box", "capsule", "frustum"])
def test_reach_is_the_extent_of_the_surface(primitive: str) -> None:
    """Against a dense cloud of the primitive's points, which reaches almost as far and never farther."""
    build = Builder()
    start, end = (0.1, -0.2, -0.3), (0.25, 0.2, 0.5)
    if primitive == "capsule":
        build.capsule(0, start, end, 0.2, plain(RED))
    elif primitive == "frustum":
        build.frustum(0, start, end, 0.35, 0.1, plain(RED))
    else:
        add = build.ellipsoid if primitive == "ellipsoid" else build.box
        add(0, (0.1, 0.2, 0.3), (0.2, 0.4, 0.6), plain(RED), axis=(0.6, 0.0, 0.8), turn=0.1)
    toy = assemble(build, plan="test", seed=0, caption="")
    rng = np.random.default_rng(0)
    cube = rng.uniform(-1, 1, (400_000, 3)) * 0.7
    inside = cube[distance(toy.kinds[0], toy.sizes[0], cube) <= 0]
    pose = toy.poses([0.0])[0, 0]
    points = inside @ pose[:, :3].T + pose[:, 3]
    directions = rng.normal(size=(40, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    gap = toy.reach([0.0], directions)[0] - (points @ directions.T).max(0)
    assert len(points) > 10_000
    assert gap.min() >= 0
    assert gap.max() < 0.03  # measured 0.02: random points miss the corners of the box


@pytest.mark.parametrize("kind", KINDS)
def test_screen_boxes_cut_nothing_off(kind: CameraKind) -> None:
    for plan in PLANS:
        toy = make_toy(plan, 9)
        camera = views((63.0,), kind, elevation=35.0)
        pose = toy.poses([0.8])[0]
        matrices = camera.world_to_camera[0].numpy(), camera.intrinsics[0].numpy(), kind == "ortho"
        rays = kernels.camera_rays(*matrices)
        boxes = kernels.screen_boxes(toy.kinds, toy.sizes, pose, *matrices, 96, 96)
        everywhere = np.tile([0.0, 0.0, 96.0, 96.0], (len(toy.kinds), 1))
        for samples in (1, 3):
            tight = kernels.trace(toy.kinds, toy.sizes, pose, rays, boxes, 96, 96, samples)
            full = kernels.trace(toy.kinds, toy.sizes, pose, rays, everywhere, 96, 96, samples)
            for a, b in zip(tight, full, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_part_that_reaches_behind_a_pinhole_camera_is_still_drawn() -> None:
    build = Builder()
    build.capsule(0, (0.5, -6.0, 0.0), (0.5, 2.0, 0.0), 0.2, plain(RED))
    build.ellipsoid(0, (-0.3, 0.0, 0.0), (0.2, 0.2, 0.2), plain(BLUE))
    toy = assemble(build, plan="test", seed=0, caption="")
    picture = render(toy, views((0.0,), "pinhole"), [0.0])
    assert set(np.unique(picture.part)) == {-1, 0, 1}
    assert (picture.depth[picture.part == 0] > 0).all()


def test_texture_sticks_to_a_moving_part() -> None:
    """A sliding, unturned ball by whole pixels: the very same picture, shifted."""
    skin = Skin(RED, BLUE, pattern=shading.SPOTS, args=(1.6, 0.3, 0.2, 0.0))
    toy = toy_of(ball((-0.25, 0, 0), 0.5, skin, (0.25, 0.0, 0.125)))
    still, moved = render(toy, views((0.0,), "ortho"), [0.0, 0.25]).rgb[:, 0]
    assert len(np.unique(still.reshape(-1, 3), axis=0)) > 100
    np.testing.assert_allclose(moved[:, 12:], np.roll(still, (-6, 12), (0, 1))[:, 12:], atol=1e-6)


def test_cameras_must_be_one_flat_batch() -> None:
    camera = views((0.0, 1.0), "ortho")
    nested = Cameras(
        world_to_camera=camera.world_to_camera[None],
        intrinsics=camera.intrinsics[None],
        width=8,
        height=8,
        kind="ortho",
    )
    with pytest.raises(ValueError, match="flat batch"):
        render(make_toy("fish", 0), nested, [0.0])
