"""MV4DBench's layout, from a folder made here: views, cameras, frames with a surface, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.datasets.scene import SURFACE_FORMS, Scene
from mvtokenflow.views.cameras import orbit

SIZE, FRAMES, AZIMUTHS = 32, 21, (30, 120, 210, 300)
ANGLE = 0.7  # camera_angle_x


def blender_pose(azimuth: float, elevation: float = 15.0, distance: float = 2.2) -> np.ndarray:
    """Camera to world of a Blender camera that looks at the origin: azimuth from +X, counter-clockwise."""
    a, e = np.deg2rad(azimuth), np.deg2rad(elevation)
    backward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack((right, np.cross(backward, right), backward), -1)
    pose[:3, 3] = distance * backward
    return pose


def make_object(root: Path, frames: int = FRAMES) -> Path:
    folder = root / "0a1b2c"
    draws = np.random.default_rng(0)
    for n, azimuth in enumerate(AZIMUTHS):
        place = folder / "rgba_8views" / f"view_{n:02d}_az{azimuth:03d}"
        place.mkdir(parents=True)
        for k in range(frames):
            picture = np.zeros((SIZE, SIZE, 4), np.uint8)
            picture[8:24, 8:24] = (*draws.integers(0, 255, 3), 255)
            picture[0, 0, 0] = k
            Image.fromarray(picture).save(place / f"frame_{k:04d}.png")
    locations = [
        {
            "index": f"{n:04d}",
            "projection_type": "PERSP",
            "ortho_scale": 2.0,
            "camera_angle_x": ANGLE,
            "elevation": 15.0,
            "azimuth": float(azimuth),
            "transform_matrix": blender_pose(azimuth).tolist(),
        }
        for n, azimuth in enumerate(AZIMUTHS)
    ]
    (folder / "meta.json").write_text(json.dumps({"width": SIZE, "height": SIZE, "locations": locations}))
    surface = np.zeros((16, 40, 6), np.float32)
    surface[..., :3] = draws.uniform(-1, 1, (1, 40, 3))
    surface[..., 0] += np.arange(16)[:, None] * 0.01
    np.save(folder / "gt_surfaces.npy", surface)
    return folder


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    make_object(tmp_path / "data")
    data = open_dataset("mv4dbench", tmp_path / "data")
    assert list(data.scene_names()) == ["0a1b2c"]
    return data.scene("0a1b2c")


def test_views_stand_where_the_folders_say(scene: Scene) -> None:
    assert [view.name for view in scene.all_views()] == ["input", "view_1", "view_2", "view_3"]
    assert [view.azimuth_deg for view in scene.all_views()] == [0, 90, -180, -90]
    focal = SIZE / 2 / np.tan(ANGLE / 2)
    want = orbit([0, 90, 180, 270], 15.0, size=SIZE, kind="pinhole", radius=2.2, fov_deg=np.rad2deg(ANGLE))
    for n, view in enumerate(scene.all_views()):
        assert view.cameras is not None
        torch.testing.assert_close(view.cameras.world_to_camera[0], want.world_to_camera[n], atol=1e-5, rtol=0)
        assert view.cameras.intrinsics[0, 0, 0] == pytest.approx(focal)
    torch.testing.assert_close(scene.input.cameras.intrinsics[0], want.intrinsics[0], atol=1e-4, rtol=0)  # type: ignore[union-attr]


def test_the_frames_are_those_with_a_surface(scene: Scene) -> None:
    numbers = scene.input.frame_numbers()
    assert numbers == [0, 1, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 19, 20]
    assert [path.name for path in scene.views[0].frames][:3] == [
        "frame_0000.png",
        "frame_0001.png",
        "frame_0003.png",
    ]
    clip = scene.clip()
    assert clip.rgb.shape == (16, SIZE, SIZE, 3)
    assert clip.clock is not None
    assert clip.clock.tolist() == pytest.approx([n / 20 for n in numbers])
    assert "21 frames those 16" in scene.assumed[0]


def test_the_surface_is_in_the_cameras_world(scene: Scene, tmp_path: Path) -> None:
    assert scene.surface is not None
    with np.load(scene.surface()) as arrays:
        points, outside = arrays["points"], arrays["outside"]
    given = np.load(tmp_path / "data" / "0a1b2c" / "gt_surfaces.npy")[..., :3]
    assert points.shape == given.shape
    assert outside.all()
    assert set(arrays.files) == set(SURFACE_FORMS)
    # The input camera stands 30 degrees from +X; in our world it is on −Y, 120 degrees back.
    a = np.deg2rad(-120)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    np.testing.assert_allclose(points, given @ turn.T, atol=1e-6)


def test_fewer_frames_than_moments_are_each_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    make_object(tmp_path / "data", frames=11)
    scene = open_dataset("mv4dbench", tmp_path / "data").scene("0a1b2c")
    assert scene.input.frame_numbers() == list(range(11))
    assert scene.surface is not None
    with np.load(scene.surface()) as arrays:
        assert len(arrays["points"]) == 11


def change_meta(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        change(meta)
        (folder / "meta.json").write_text(json.dumps(meta))

    return apply


def lose_a_frame(folder: Path) -> None:
    (folder / "rgba_8views" / "view_01_az120" / "frame_0005.png").unlink()


def flatten_surface(folder: Path) -> None:
    np.save(folder / "gt_surfaces.npy", np.zeros((16, 40), np.float32))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "meta.json").unlink(), "meta.json: .*'locations'"),
        (change_meta(lambda meta: meta.pop("locations")), "meta.json: expected 'locations'"),
        (change_meta(lambda meta: meta["locations"].pop()), "meta.json: expected 'locations'.*of 4 views"),
        (change_meta(lambda meta: meta["locations"][1].update(projection_type="ORTHO")), "ORTHO, not PERSP"),
        (change_meta(lambda meta: meta["locations"][1].update(transform_matrix=[[1]])), "not rigid"),
        (lose_a_frame, "differ in their number of frames"),
        (flatten_surface, "gt_surfaces.npy: not a surface"),
    ],
)
def test_other_forms_are_refused(
    harm: Callable[[Path], None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    harm(make_object(tmp_path / "data"))
    with pytest.raises(DataError, match=message):
        open_dataset("mv4dbench", tmp_path / "data").scene("0a1b2c")


def test_a_folder_that_is_not_there_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MVTF_MV4DBENCH", raising=False)
    with pytest.raises(DataError, match="MVTF_MV4DBENCH"):
        open_dataset("mv4dbench").scene_names()
    with pytest.raises(DataError, match="rgba_8views"):
        open_dataset("mv4dbench", tmp_path).scene_names()
    make_object(tmp_path)
    monkeypatch.setenv("MVTF_MV4DBENCH", str(tmp_path))
    with pytest.raises(ConfigError, match="0a1b2c"):
        open_dataset("mv4dbench").scene("0a1b2d")
