"""One convention for cameras: signs, projection by hand, and everybody else's conventions."""

import json
import math

import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.views import cameras as C
from mvtokenflow.views.cameras import Cameras, orbit

F64 = torch.float64


def _poses(azimuths: list[float], elevations: list[float], radius: float = 2.0) -> Tensor:
    return orbit(azimuths, elevations, size=64, kind="pinhole", radius=radius, dtype=F64).world_to_camera


def _look_at(centre: Tensor, up: Tensor) -> Tensor:
    """Camera-to-world in OpenGL axes of a camera at `centre` that looks at the origin, from the definition."""
    back = centre / centre.norm()
    right = torch.linalg.cross(up, back)
    right = right / right.norm()
    pose = torch.eye(4, dtype=F64)
    pose[:3, :3] = torch.stack((right, torch.linalg.cross(back, right), back), -1)
    pose[:3, 3] = centre
    return pose


ANGLES = [(0.0, 0.0), (30.0, 30.0), (90.0, -20.0), (-75.0, 10.0), (195.0, 0.0), (359.0, 60.0)]


@pytest.mark.parametrize("kind", ["pinhole", "ortho"])
def test_positive_azimuth_sees_the_right_side_and_positive_elevation_the_top(kind: C.CameraKind) -> None:
    right_side, top = torch.tensor([[0.5, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.5]])
    origin = torch.zeros(1, 3)
    around = orbit([0.0, 40.0], size=64, kind=kind, radius=2.0)
    assert around.centres[1, 0] > 0  # the camera moved towards +X, image right of the front camera
    above = orbit([0.0], 40.0, size=64, kind=kind, radius=2.0)
    assert above.centres[0, 2] > 0
    # What lies at +X comes nearer and moves to the left; what lies at +Z comes nearer.
    assert around.project(right_side)[1][1] < around.project(origin)[1][1]
    assert around.project(right_side)[0][1, 0, 0] < around.project(right_side)[0][0, 0, 0]
    assert above.project(top)[1] < above.project(origin)[1]
    # In the picture of the front camera +X is right and +Z is up (towards row 0).
    front = around[0]
    assert front.project(right_side)[0][0, 0, 0] > 32
    assert front.project(top)[0][0, 0, 1] < 32


def test_one_camera_without_a_batch_has_no_length() -> None:
    batch = orbit([0.0, 40.0], size=64, kind="ortho", radius=2.0)
    assert len(batch) == 2
    assert len(batch[0]) == 1
    one = C.Cameras(
        world_to_camera=batch.world_to_camera[0],
        intrinsics=batch.intrinsics[0],
        width=64,
        height=64,
        kind="ortho",
    )
    assert one.centres.shape == (3,)
    with pytest.raises(TypeError, match="without a batch"):
        len(one)


def test_pinhole_projection_by_hand() -> None:
    camera = orbit([0.0], size=100, kind="pinhole", radius=2.0, fov_deg=90.0)  # focal length 50 pixels
    pixels, depth = camera.project(torch.tensor([[0.5, 0.5, 0.25]]))  # 2.5 in front, 0.5 right, 0.25 up
    torch.testing.assert_close(pixels[0, 0], torch.tensor([50 + 50 * 0.5 / 2.5, 50 - 50 * 0.25 / 2.5]))
    torch.testing.assert_close(depth[0, 0], torch.tensor(2.5))


def test_ortho_projection_by_hand() -> None:
    camera = orbit([90.0], size=80, kind="ortho", radius=3.0, half_width=2.0)  # 20 pixels per unit, at +X
    pixels, depth = camera.project(torch.tensor([[0.5, 0.75, 0.25]]))  # from +X, right is +Y
    torch.testing.assert_close(pixels[0, 0], torch.tensor([40 + 20 * 0.75, 40 - 20 * 0.25]))
    torch.testing.assert_close(depth[0, 0], torch.tensor(2.5))


def test_centre_of_the_corner_pixel_is_half_a_pixel_in() -> None:
    camera = orbit([0.0], size=4, kind="ortho", radius=1.0, half_width=2.0)  # one pixel per unit
    pixels, _ = camera.project(torch.tensor([[-1.5, 0.0, 1.5]]))
    torch.testing.assert_close(pixels[0, 0], torch.tensor([0.5, 0.5]))


def test_centres_lie_on_the_sphere_at_the_angles_asked_for() -> None:
    azimuths, elevations = [a for a, _ in ANGLES], [e for _, e in ANGLES]
    cameras = orbit(azimuths, elevations, size=8, kind="pinhole", radius=2.0, dtype=F64)
    for centre, (azimuth, elevation) in zip(cameras.centres, ANGLES, strict=True):
        a, e = math.radians(azimuth), math.radians(elevation)
        want = (2 * math.sin(a) * math.cos(e), -2 * math.cos(a) * math.cos(e), 2 * math.sin(e))
        torch.testing.assert_close(centre, torch.tensor(want, dtype=F64))


@pytest.mark.parametrize("name", ["era3d", "blender", "threestudio", "dreamgaussian"])
def test_round_trips(name: str) -> None:
    ours = _poses([a for a, _ in ANGLES], [e for _, e in ANGLES])
    ours[..., :3, 3] += torch.tensor([0.1, -0.2, 0.3], dtype=F64)  # not looking at the origin
    theirs = getattr(C, f"to_{name}")(ours)
    torch.testing.assert_close(getattr(C, f"from_{name}")(theirs), ours, rtol=0, atol=1e-12)
    assert not torch.allclose(theirs, ours[..., : theirs.shape[-2], :])


@pytest.mark.parametrize(("azimuth", "elevation"), ANGLES)
def test_threestudio_has_z_up_and_azimuth_0_at_plus_x(azimuth: float, elevation: float) -> None:
    a, e = math.radians(azimuth), math.radians(elevation)
    centre = torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)], dtype=F64) * 2
    theirs = _look_at(centre, torch.tensor([0.0, 0.0, 1.0], dtype=F64))
    torch.testing.assert_close(C.from_threestudio(theirs[None]), _poses([azimuth], [elevation]))


@pytest.mark.parametrize(("azimuth", "elevation"), ANGLES)
def test_dreamgaussian_has_y_up_azimuth_0_at_plus_z_and_negative_above(
    azimuth: float, elevation: float
) -> None:
    a, e = math.radians(azimuth), math.radians(-elevation)
    centre = torch.tensor([math.cos(e) * math.sin(a), -math.sin(e), math.cos(e) * math.cos(a)], dtype=F64) * 2
    theirs = _look_at(centre, torch.tensor([0.0, 1.0, 0.0], dtype=F64))
    torch.testing.assert_close(C.from_dreamgaussian(theirs[None]), _poses([azimuth], [elevation]))


@pytest.mark.parametrize(("azimuth", "elevation"), ANGLES)
def test_blender_has_z_up_and_the_front_view_from_minus_y(azimuth: float, elevation: float) -> None:
    a, e = math.radians(azimuth), math.radians(elevation)
    centre = torch.tensor([math.cos(e) * math.sin(a), -math.cos(e) * math.cos(a), math.sin(e)], dtype=F64) * 2
    theirs = _look_at(centre, torch.tensor([0.0, 0.0, 1.0], dtype=F64))
    torch.testing.assert_close(C.from_blender(theirs[None]), _poses([azimuth], [elevation]))


# Image-right, image-up, towards-the-camera and centre of Era3D's six views (its fixed_poses/*.txt).
S = math.sqrt(0.5)
ERA3D = [
    ((1, 0, 0), (0, -1, 0), (0, -1.3, 0)),
    ((S, S, 0), (S, -S, 0), (1.3, -1.3, 0)),
    ((0, 1, 0), (1, 0, 0), (1.3, 0, 0)),
    ((-1, 0, 0), (0, 1, 0), (0, 1.3, 0)),
    ((0, -1, 0), (-1, 0, 0), (-1.3, 0, 0)),
    ((S, -S, 0), (-S, -S, 0), (-1.3, -1.3, 0)),
]


def test_era3d_views() -> None:
    theirs = []
    for right, back, centre in ERA3D:
        rotation = torch.tensor([right, (0, 0, 1), back], dtype=F64)
        theirs.append(torch.cat((rotation, -rotation @ torch.tensor(centre, dtype=F64)[:, None]), -1))
    ours = C.from_era3d(torch.stack(theirs))
    want = _poses(list(C.ERA3D_AZIMUTHS_DEG), [0.0] * 6, radius=1.3)
    torch.testing.assert_close(ours[:, :3, :3], want[:, :3, :3])  # distances differ on the diagonals: ortho
    torch.testing.assert_close(ours[::2, :3, 3], want[::2, :3, 3])
    torch.testing.assert_close(C.to_era3d(ours), torch.stack(theirs))


def test_zero123plus_views_are_stag4d_cameras() -> None:
    """STAG4D gives them as orbit_camera(elevation, azimuth) of DreamGaussian, so the elevation sign flips."""
    stag4d = [(-30, 30), (20, 90), (-30, 150), (20, 210), (-30, 270), (20, 330)]
    assert tuple(a for _, a in stag4d) == C.ZERO123PLUS_AZIMUTHS_DEG
    assert tuple(-e for e, _ in stag4d) == C.ZERO123PLUS_ELEVATIONS_DEG


def test_a_scaled_blender_matrix_is_refused() -> None:
    scaled = torch.eye(4)[None] * torch.tensor([2.0, 2.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="without scale"):
        C.from_blender(scaled)


def test_a_mirrored_pose_is_refused() -> None:
    with pytest.raises(ValueError, match="rotation"):
        C.from_threestudio(torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0]))[None])


@pytest.mark.parametrize("kind", ["pinhole", "ortho"])
def test_json_round_trip_is_exact(kind: C.CameraKind) -> None:
    cameras = orbit([10.0, 200.0], [5.0, -30.0], size=48, kind=kind, radius=1.7)
    back = Cameras.from_dict(json.loads(json.dumps(cameras.to_dict())))
    assert torch.equal(back.world_to_camera, cameras.world_to_camera)
    assert torch.equal(back.intrinsics, cameras.intrinsics)
    assert (back.kind, back.width, back.height) == (kind, 48, 48)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "fisheye"}, "fisheye.*expected 'pinhole' or 'ortho'"),
        ({"width": 0}, "width is 0; expected a whole number"),
        ({"height": 2.5}, "height is 2.5"),
        ({"world_to_camera": [[1, 2], [3]]}, "world_to_camera: not numbers in equal rows"),
        ({"world_to_camera": [[[1.0] * 4] * 3] * 2}, r"shape \(2, 3, 4\); give n matrices 4x4"),
        ({"world_to_camera": [[[2.0 * (i == j) for j in range(4)] for i in range(4)]] * 2}, "remove any scale"),
        ({"world_to_camera": [[[float("nan")] * 4] * 4] * 2}, "NaN or infinite"),
        ({"intrinsics": [[[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]]}, "2 poses and 1 intrinsics"),
        ({"intrinsics": [[[1.0, 0, 0], [0, -1.0, 0], [0, 0, 1.0]]] * 2}, "focal length is not positive"),
        ({"fov": 50}, "has the fields .*fov.*expected exactly"),
    ],
)
def test_broken_camera_files_are_refused(change: dict[str, object], says: str) -> None:
    fields = orbit([0.0, 90.0], size=8, kind="pinhole", radius=2.0).to_dict()
    with pytest.raises(DataError, match=f"rig.json.*{says}"):
        Cameras.from_dict({**fields, **change}, name="rig.json")


def test_mismatched_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="equal leading sizes"):
        Cameras(world_to_camera=torch.eye(4)[None], intrinsics=torch.eye(3), width=4, height=4, kind="ortho")
