"""Where the video's cameras see a field that was made from a crop of it."""

from dataclasses import replace

import pytest
import torch

from mvtokenflow.base.errors import DataError
from mvtokenflow.media.video import Clip
from mvtokenflow.method.config import mini
from mvtokenflow.method.placement import cameras_in_field, cameras_in_video, cut, faces_front, square_window
from mvtokenflow.method.prepare import front_video, prepare
from mvtokenflow.multiview.preprocess import Crop
from mvtokenflow.views.cameras import Cameras, orbit

CROP = Crop(left=12, top=-4, width=80, height=80, x=6, y=6, scaled_width=52, scaled_height=52, size=64)
POINTS = torch.tensor([[0.3, -0.2, 0.5], [-0.4, 0.1, -0.6], [0.0, 0.7, 0.2]])


def _pixels(cameras: Cameras, points: torch.Tensor) -> torch.Tensor:
    return cameras.project(points)[0]


@pytest.mark.parametrize("kind", ["ortho", "pinhole"])
def test_the_front_view_lies_over_the_input(kind: str) -> None:
    """What the prior's front camera sees in the crop, the moved camera sees where the crop came from."""
    lens = {"fov_deg": 40.0} if kind == "pinhole" else {}
    front = orbit((0.0,), size=128, kind=kind, radius=3.0, **lens)  # type: ignore[arg-type]
    own = orbit((0.0,), size=64, kind="ortho", radius=3.0)
    points = POINTS * torch.tensor([1.0, 0.0, 1.0])  # in the plane whose scale is known
    seen = _pixels(cameras_in_field(front, front, CROP), points)
    expected = CROP.to_frame(_pixels(own, points))
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-3)


def test_all_cameras_move_alike() -> None:
    """A field point s X + t is seen by every moved camera where the unmoved one sees X."""
    front = orbit((0.0,), size=128, kind="ortho", radius=3.0)
    others = orbit((-75.0, 15.0, 105.0, 195.0), size=128, kind="ortho", radius=3.0)
    moved = cameras_in_field(others, front, CROP)
    half, scale = CROP.size / 2, 64 * (52 / 80) / 32  # 64 px per unit, times the crop's scale, in half squares
    origin = (CROP.to_square(torch.tensor([64.0, 64.0])) - half) / half  # the world's origin in the field
    field_points = scale * POINTS + torch.tensor([float(origin[0]), 0.0, -float(origin[1])])
    torch.testing.assert_close(_pixels(moved, field_points), _pixels(others, POINTS), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", ["ortho", "pinhole"])
def test_back_in_the_video_is_the_inverse(kind: str) -> None:
    front = orbit((0.0,), size=128, kind="pinhole", radius=2.6)
    others = orbit((-75.0, 15.0), 20.0, size=96, kind=kind, radius=2.6)  # type: ignore[arg-type]
    again = cameras_in_video(cameras_in_field(others, front, CROP), front, CROP)
    torch.testing.assert_close(again.world_to_camera, others.world_to_camera, rtol=0, atol=1e-5)
    torch.testing.assert_close(again.intrinsics, others.intrinsics, rtol=1e-5, atol=0)


def test_a_whole_frame_changes_nothing() -> None:
    whole = Crop(left=0, top=0, width=128, height=128, x=0, y=0, scaled_width=64, scaled_height=64, size=64)
    cameras = orbit((0.0, 105.0), size=128, kind="ortho", radius=3.0)
    moved = cameras_in_field(cameras, cameras[:1], whole)
    torch.testing.assert_close(moved.world_to_camera, cameras.world_to_camera)
    torch.testing.assert_close(moved.intrinsics, cameras.intrinsics)


# ---- the clip as the field's front view ----


def _clip(height: int, width: int, frames: int = 3) -> Clip:
    """Random colours; the object is a box at the left edge, cut off by it."""
    generator = torch.Generator().manual_seed(0)
    alpha = torch.zeros(frames, height, width, 1)
    alpha[:, height // 4 : 3 * height // 4, : width // 2] = 1.0
    return Clip(rgb=torch.rand(frames, height, width, 3, generator=generator), alpha=alpha, name="box")


@pytest.mark.parametrize("crop_size", [-1, 56])
@pytest.mark.parametrize("kind", ["none", "ortho", "pinhole"])
def test_a_front_video_shows_the_clips_pixels_where_the_field_lies(crop_size: int, kind: str) -> None:
    clip = _clip(96, 128)
    given = prepare(clip, replace(mini(), square=replace(mini().square, crop_size=crop_size)))
    camera = None
    if kind != "none":
        lens = {"fov_deg": 40.0} if kind == "pinhole" else {}
        camera = orbit((0.0,), size=128, kind=kind, radius=3.0, **lens)  # type: ignore[arg-type]
        camera = cut(camera, (0, 16, 128, 112))  # the middle of its pictures
    front = front_video(clip, given, camera)
    own = orbit((0.0,), size=64, kind="ortho", radius=3.0)
    points = POINTS * torch.tensor([1.0, 0.0, 1.0])  # in the plane whose scale is known
    expected = given.crop.to_frame(_pixels(own, points))
    inside = front.camera.project(points)[0]
    offset = (expected - inside)[0, 0]
    torch.testing.assert_close(inside + offset, expected, rtol=0, atol=0.02)  # the scales differ by rounding
    left, top = (round(float(value)) for value in offset)
    height, width = front.camera.height, front.camera.width
    torch.testing.assert_close(offset, torch.tensor([float(left), float(top)]), rtol=0, atol=0.6)
    assert torch.equal(front.rgb, clip.rgb[:, top : top + height, left : left + width])
    assert torch.equal(front.alpha.sum(), clip.alpha.sum()), "all of the object is in it"
    assert torch.equal(front.times, torch.tensor([0.0, 0.5, 1.0]))
    if kind == "pinhole":
        assert front.flow_camera is not None
        seen = given.crop.to_square(front.camera.project(POINTS)[0] + torch.tensor([left, top]))
        torch.testing.assert_close(_pixels(front.flow_camera, POINTS), seen, rtol=0, atol=1e-3)
    else:
        assert front.flow_camera is None


def test_what_the_square_shows_beyond_the_frame_is_left_out() -> None:
    assert square_window(CROP, 96, 128) == (2, 0, 102, 86)
    clip = _clip(96, 128)
    front = front_video(clip, prepare(clip, mini()), None)
    assert (front.camera.width, front.camera.height) < (128, 96)
    assert front.camera.width < 64 * 64 / 56 + 2, "nothing left of the frame's edge"


def test_cameras_of_other_pictures_or_directions_are_refused() -> None:
    clip = _clip(96, 128)
    given = prepare(clip, mini())
    with pytest.raises(DataError, match="frames of 128x96, but a camera of 128x128"):
        front_video(clip, given, orbit((0.0,), size=128, kind="ortho", radius=3.0))
    turned = cut(orbit((90.0,), size=128, kind="ortho", radius=3.0), (0, 16, 128, 112))
    with pytest.raises(DataError, match="not level or not at azimuth 0"):
        front_video(clip, given, turned)


def test_refuses_two_fronts() -> None:
    cameras = orbit((0.0, 90.0), size=8, kind="ortho", radius=3.0)
    with pytest.raises(ValueError, match="one camera"):
        cameras_in_field(cameras, cameras, CROP)


def test_refuses_a_front_that_looks_elsewhere() -> None:
    """A field's world is the prior's: normals of one that is turned would be other directions."""
    for azimuth, elevation in ((90.0, 0.0), (0.0, 20.0)):
        turned = orbit((azimuth,), elevation, size=8, kind="ortho", radius=3.0)
        assert not faces_front(turned)
        with pytest.raises(ValueError, match="azimuth 0"):
            cameras_in_field(turned, turned, CROP)
    assert faces_front(orbit((0.0,), size=8, kind="pinhole", radius=5.0))
