"""toy4d-wild: what its toys must be, measured; points on exact surfaces."""

from pathlib import Path

import numpy as np
import pytest

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.datasets.catalogue import TOYS, open_dataset
from mvtokenflow.datasets.toy4d import motion
from mvtokenflow.datasets.toy4d.build import Builder, Skin, X, Y, Z, patches
from mvtokenflow.datasets.toy4d.build import Draw as Draws
from mvtokenflow.datasets.toy4d.difficulty import measure_difficulty
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.scenes import SCENES, WILD_SCENES, frame_times, scene_toy, view_cameras
from mvtokenflow.datasets.toy4d.shading import MARKS
from mvtokenflow.datasets.toy4d.stream import ToyStream
from mvtokenflow.datasets.toy4d.surface import on_outside, sample_surface
from mvtokenflow.datasets.toy4d.toys import PLANS, SEEDS, Toy, assemble, make_toy
from mvtokenflow.datasets.toy4d.wild import WILD_PLANS
from mvtokenflow.views.cameras import orbit

RED, BLUE, WHITE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)


def one_part(kind: str, skin: Skin | None = None) -> Toy:
    """A resting toy of one part, unscaled."""
    build, skin = Builder(), skin or Skin(RED)
    if kind == "ellipsoid":
        build.ellipsoid(0, (0, 0, 0), (0.8, 0.5, 0.3), skin)
    elif kind == "box":
        build.box(0, (0, 0, 0), (0.8, 0.5, 0.3), skin)
    elif kind == "capsule":
        build.capsule(0, (0, 0, -0.5), (0, 0, 0.5), 0.3, skin)
    else:
        build.frustum(0, (0, 0, -0.5), (0, 0, 0.5), 0.7, 0.2 if kind == "frustum" else 0.7, skin)
    return assemble(build, plan="test", seed=0, caption="")


# ---- the world ----


def test_no_plan_is_one_that_training_draws() -> None:
    assert not set(WILD_PLANS) & set(PLANS)
    assert len(WILD_PLANS) == 5
    with pytest.raises(ConfigError, match="body plan"):
        ToyStream(seed=0, batch_size=1, plans=("serpent",))


def test_scenes_are_test_seeds_with_names_of_their_own() -> None:
    assert len(WILD_SCENES) == 25
    assert not set(WILD_SCENES) & set(SCENES)
    assert all(seed in SEEDS["test"] and plan in WILD_PLANS for plan, seed in WILD_SCENES.values())


@pytest.mark.parametrize("plan", WILD_PLANS)
def test_toys_fill_the_frame_and_never_leave_it(plan: str) -> None:
    angles = np.arange(180) * np.pi / 90
    directions = np.stack((np.cos(angles), np.sin(angles), 0 * angles), -1)
    directions = np.concatenate((directions, [[0, 0, 1], [0, 0, -1]]))
    for seed in range(10):
        reach = make_toy(plan, seed).reach(np.linspace(0, 1, 49), directions).max()
        assert 0.87 < reach < 0.90, (plan, seed, reach)


@pytest.mark.parametrize("name", WILD_SCENES)
def test_scenes_stay_in_the_picture_and_face_the_camera(name: str) -> None:
    toy = scene_toy(name)
    alpha = render(toy, view_cameras(), frame_times()[::8], samples=1).alpha[..., 0]
    assert abs(toy.yaw_deg) <= 40
    for edge in (alpha[..., :5, :], alpha[..., -5:, :], alpha[..., :5], alpha[..., -5:]):
        assert not edge.any()


@pytest.mark.parametrize("plan", WILD_PLANS)
def test_scenes_are_hard_where_the_known_ones_are_not(plan: str) -> None:
    """Two tokens and more between keyframes (toy4d: half a token), and sides that differ."""
    found = measure_difficulty(scene_toy(f"{plan}-01"))
    assert found.keyframe_tokens >= 2.0
    assert found.asymmetry > 60
    assert 0.25 < found.unseen < 0.6


def test_a_mirrored_body_has_no_asymmetry_and_a_resting_one_no_motion() -> None:
    found = measure_difficulty(one_part("ellipsoid"))
    assert found.motion_px == found.keyframe_tokens == 0
    assert found.asymmetry < 12  # the light comes from one side
    assert found.unseen == pytest.approx(0.5, abs=0.03)  # its back


def test_motion_is_that_of_a_known_slide() -> None:
    build = Builder()
    bone = build.bone(0, (0, 0, 0), cycles=1, slide=(0.25, 0.0, 0.0), slide_phase=0.0)
    build.box(bone, (0, 0, 0), (0.3, 0.3, 0.3), Skin(RED))
    times = frame_times()
    place = 0.25 * np.sin(2 * np.pi * times) * 64  # pixels
    found = measure_difficulty(assemble(build, plan="test", seed=0, caption=""))
    assert found.motion_px == pytest.approx(np.abs(np.diff(place)).mean(), rel=0.02)
    assert found.keyframe_tokens == pytest.approx(
        np.abs(np.diff(place[[0, 8, 16, 24, 31]])).mean() / 8, rel=0.02
    )


def test_the_dataset_is_listed_and_generates_a_scene(tmp_path: Path) -> None:
    data = open_dataset("toy4d-wild", tmp_path)
    assert "toy4d-wild" in TOYS
    assert list(data.scene_names()) == list(WILD_SCENES)
    scene = data.scene("carousel-02")
    assert scene.tags == {"carousel", "held-out-plan"}
    assert scene.root.parent.name.startswith("toy4d-wild-")
    data.verify("carousel-02")  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="toy4d-wild scene"):
        data.scene("crab-01")


# ---- skins ----


def test_patches_repeat_under_no_mirror() -> None:
    toy = one_part("ellipsoid", patches(Draws(3), RED, BLUE, WHITE, 3.0))
    views = render(toy, orbit((0.0, 180.0), size=64, kind="ortho", radius=3.0), [0.0], samples=1)
    blue = (views.rgb[0, ..., 2] > views.rgb[0, ..., 0] + 0.2) & (views.alpha[0, ..., 0] > 0)
    front, back = blue
    inside = views.alpha[0, 0, ..., 0] > 0
    shares = [front[inside].mean(), back[inside].mean()]
    assert all(0.1 < share < 0.6 for share in shares)
    for other in (front[:, ::-1], front[::-1], back, back[:, ::-1]):
        agree = (front == other)[inside].mean()
        assert agree < 0.85  # independent patches of these shares agree in .55 to .7


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_marks_are_on_one_side_alone(sign: float) -> None:
    toy = one_part("box", Skin(WHITE, BLUE, RED, pattern=MARKS, args=(1, sign, 9.0, 5)))
    views = render(toy, orbit((0.0, 180.0), size=64, kind="ortho", radius=3.0), [0.0], samples=1)
    red = views.rgb[0, ..., 0] - views.rgb[0, ..., 2] > 0.3
    blue = views.rgb[0, ..., 2] - views.rgb[0, ..., 0] > 0.3
    written, plain = (0, 1) if sign < 0 else (1, 0)
    inside = views.alpha[0, 0, ..., 0] > 0
    assert red[plain][inside].all()
    assert 0.15 < blue[written][inside].mean() < 0.5
    assert not red[written].any()


# ---- surfaces ----

AREAS = {
    "ellipsoid": 3.4590,  # of semi-axes .8, .5, .3, by quadrature
    "box": 8 * (0.8 * 0.5 + 0.5 * 0.3 + 0.8 * 0.3),
    "capsule": 2 * np.pi * 0.3 * 1.0 + 4 * np.pi * 0.3**2,
    "frustum": np.pi * 0.9 * np.hypot(1, 0.5) + np.pi * (0.7**2 + 0.2**2),
    "cylinder": 2 * np.pi * 0.7 + 2 * np.pi * 0.7**2,
}


@pytest.mark.parametrize("kind", AREAS)
def test_points_lie_on_the_surface_in_proportion_to_area(kind: str) -> None:
    """Two halves of the surface, cut by a plane, hold points as their areas; every point is on the surface."""
    toy = one_part(kind)
    points = sample_surface(toy, 20000, seed=1).positions(toy, [0.0])[0]
    just_out = sample_surface(one_part(kind), 20000, seed=1).local
    assert len(points) == 20000
    np.testing.assert_allclose(points, just_out, atol=1e-12)
    reach = toy.reach([0.0], np.eye(3))[0]
    assert (np.abs(points) <= reach + 1e-9).all()
    share = (points[:, 2] > 0.1).mean()
    assert share == pytest.approx(above(kind, 0.1) / AREAS[kind], abs=0.012)


def above(kind: str, height: float) -> float:
    """The area above a height, by quadrature over z (ellipsoid) or in closed form."""
    if kind == "ellipsoid":
        z, turn = np.meshgrid(np.linspace(-1, 1, 2001), np.linspace(0, 2 * np.pi, 721)[:-1], indexing="ij")
        ring = np.sqrt(1 - z**2)
        way = np.stack((ring * np.cos(turn), ring * np.sin(turn), z), -1)
        area = np.sqrt(((way * (0.15, 0.24, 0.4)) ** 2).sum(-1))
        weight = area * 2 / 2001 * 2 * np.pi / 720
        assert weight.sum() == pytest.approx(AREAS[kind], rel=2e-3)
        return float(weight[0.3 * z > height].sum())
    if kind == "box":
        return 4 * 0.8 * 0.5 + 4 * (0.8 + 0.5) * (0.3 - height)
    if kind == "capsule":
        return 2 * np.pi * 0.3 * (0.5 - height) + 2 * np.pi * 0.3**2
    if kind == "cylinder":
        return 2 * np.pi * 0.7 * (0.5 - height) + np.pi * 0.7**2
    at = 0.7 - 0.5 * (height + 0.5)
    return float(np.pi * (at + 0.2) * np.hypot(1, 0.5) * (0.5 - height) + np.pi * 0.2**2)


def test_points_inside_another_part_are_not_outside() -> None:
    build = Builder()
    build.box(0, (0, 0, 0), (0.5, 0.5, 0.5), Skin(RED))
    build.ellipsoid(0, (0.5, 0, 0), (0.2, 0.2, 0.2), Skin(BLUE))
    toy = assemble(build, plan="test", seed=0, caption="")
    surface = sample_surface(toy, 4000)
    points = surface.positions(toy, [0.0])[0]
    outside = on_outside(toy, surface, [0.0])[0]
    ball = surface.part == 1
    np.testing.assert_array_equal(outside[ball], points[ball][:, 0] > 0.5)
    hidden = np.linalg.norm(points - (0.5, 0, 0), axis=-1) < 0.2 - 1e-9
    np.testing.assert_array_equal(outside[~ball], ~hidden[~ball])


@pytest.mark.parametrize("axis", [X, Y, Z])
def test_points_move_with_their_bone(axis: tuple[float, float, float]) -> None:
    build = Builder()
    bone = build.bone(0, (0.2, 0, 0), axis=axis, spin=1)
    build.box(bone, (0.1, 0.2, 0.3), (0.1, 0.1, 0.1), Skin(RED))
    toy = assemble(build, plan="test", seed=0, caption="")
    surface = sample_surface(toy, 50)
    rest, turned = surface.positions(toy, [0.0, 0.25])
    arm = rest - (0.2, 0, 0)
    want = np.cross(axis, arm) + np.outer(arm @ np.array(axis), axis)
    np.testing.assert_allclose(turned - (0.2, 0, 0), want, atol=1e-12)
    assert motion.sincos(0.25) == (1.0, 0.0)


def test_an_empty_surface_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        sample_surface(one_part("box"), 0)
