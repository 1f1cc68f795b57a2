"""The benchmark on disk: layout, contents, interruption, damage, digests."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch
from PIL import Image

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.datasets.scene import Dataset
from mvtokenflow.datasets.toy4d import dataset as toy4d
from mvtokenflow.datasets.toy4d.dataset import SURFACE_POINTS, Toy4D
from mvtokenflow.datasets.toy4d.digests import EXPECTED
from mvtokenflow.datasets.toy4d.render import render, render_flow
from mvtokenflow.datasets.toy4d.scenes import (
    PINHOLE,
    SAMPLES,
    SIZE,
    TOY4D,
    TOY4D_VIEWS,
    VIEWS,
    WILD,
    WILD_VIEWS,
    WORLDS,
    World,
    render_scene,
    scene_toy,
)
from mvtokenflow.media.video import read_on_white
from mvtokenflow.views.cameras import orbit

NAME = "bird-01"
HASH = "245c089b45"  # in the name of the folder of `toy4d` since its first release


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds one scene; tests that change it work on a copy."""
    root = tmp_path_factory.mktemp("cache")
    Toy4D(root).scene(NAME)
    return root


@pytest.fixture
def copy(generated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(generated, tmp_path / "cache"))


def test_names_and_tags(generated: Path) -> None:
    dataset: Dataset = Toy4D(generated)
    names = dataset.scene_names()
    assert len(names) == len(set(names)) == 24
    assert names[0] == "quadruped-01"
    assert [name.split("-")[0] for name in names[18:]] == ["crab"] * 6
    assert not any(name.startswith("crab") for name in names[:18])
    scene = dataset.scene(NAME)
    assert scene.name == NAME
    assert scene.tags == {"bird"}
    with pytest.raises(ConfigError, match="Did you mean 'bird-01'"):
        dataset.scene("bird-1")


def test_the_held_out_plan_is_tagged(tmp_path: Path) -> None:
    folder = Toy4D(tmp_path).root / "crab-02"
    folder.mkdir(parents=True)
    digests = {"pixels": "0" * 64, "truth": "0" * 64}
    (folder / "scene.json").write_text(json.dumps(digests))  # all that `scene` reads
    assert Toy4D(tmp_path).scene("crab-02").tags == {"crab", "held-out-plan"}


def test_a_scene_names_its_pictures_and_a_damaged_record_of_them_is_refused(tmp_path: Path) -> None:
    folder = Toy4D(tmp_path).root / "crab-02"
    folder.mkdir(parents=True)
    (folder / "scene.json").write_text(json.dumps({"pixels": "1" * 64, "truth": "0" * 64}))
    assert Toy4D(tmp_path).scene("crab-02").content == "1" * 64
    (folder / "scene.json").write_text("{}")
    with pytest.raises(DataError, match=r"cannot be read .*delete the folder"):
        Toy4D(tmp_path).scene("crab-02")


def test_listing_scenes_touches_nothing(tmp_path: Path) -> None:
    Toy4D(tmp_path / "none").scene_names()
    assert not (tmp_path / "none").exists()


def test_the_views_are_those_of_the_benchmark(generated: Path) -> None:
    scene = Toy4D(generated).scene(NAME)
    assert [(view.name, view.azimuth_deg, view.elevation_deg) for view in scene.views] == [
        ("eval_0", -75, 0),
        ("eval_1", 15, 0),
        ("eval_2", 105, 0),
        ("eval_3", 195, 0),
    ]
    assert (scene.input.name, scene.input.azimuth_deg, scene.input.elevation_deg) == ("input", 0, 0)
    for view in (scene.input, *scene.views):
        assert view.cameras is not None
        want = orbit([view.azimuth_deg], size=SIZE, kind="ortho", radius=3.0, half_width=1.0)
        torch.testing.assert_close(view.cameras.world_to_camera, want.world_to_camera, rtol=0, atol=0)
        torch.testing.assert_close(view.cameras.intrinsics, want.intrinsics, rtol=0, atol=0)
        assert view.cameras.kind == "ortho"
        assert view.frames == [scene.root / view.name / f"{n}.png" for n in range(32)]
        assert all(path.is_file() for path in view.frames)


def test_pictures_and_truth_are_the_render_of_each_view(generated: Path) -> None:
    scene, toy, times = Toy4D(generated).scene(NAME), scene_toy(NAME), np.arange(32) / 31
    clip = scene.clip()
    assert clip.name == NAME
    for view in (scene.input, *scene.views):
        assert view.cameras is not None
        picture = render(toy, view.cameras, times, samples=SAMPLES)
        flow = render_flow(toy, view.cameras, times[:-1], times[1:])
        assert view.truth is not None
        truth = view.truth()
        np.testing.assert_array_equal(truth.flow, flow.flow[:, 0])
        np.testing.assert_array_equal(truth.visible, flow.visible[:, 0])
        np.testing.assert_array_equal(truth.depth, picture.depth[:, 0])
        np.testing.assert_allclose(truth.normal, picture.normal[:, 0], atol=2.5e-4)  # float16
        assert {truth.flow.dtype, truth.normal.dtype, truth.depth.dtype} == {np.dtype(np.float32)}
        assert truth.visible.dtype == np.bool_
        white = picture.rgb * picture.alpha + 1 - picture.alpha
        half = 0.5 / 255 + 1e-6
        if view.name == "input":
            np.testing.assert_allclose(clip.rgb.numpy(), picture.rgb[:, 0], atol=half)
            np.testing.assert_allclose(clip.alpha.numpy(), picture.alpha[:, 0], atol=half)
            np.testing.assert_allclose(clip.on_background().numpy(), white[:, 0], atol=4 * half)
            assert Image.open(view.frames[0]).mode == "RGBA"
        else:
            frames = np.stack([np.asarray(Image.open(path)) for path in view.frames])
            assert frames.shape == (32, SIZE, SIZE, 3)
            np.testing.assert_allclose(frames / 255.0, white[:, 0], atol=half)


def test_a_whole_scene_is_not_generated_again(copy: Path) -> None:
    dataset = Toy4D(copy)
    before = {path: path.stat().st_mtime_ns for path in dataset.root.rglob("*")}
    dataset.scene(NAME)
    assert {path: path.stat().st_mtime_ns for path in dataset.root.rglob("*")} == before
    dataset.verify(NAME)


def test_the_exact_surface_is_written_when_it_is_asked_for(copy: Path) -> None:
    """A complete cache that cannot be written serves every protocol that measures no surface."""
    place = next(copy.rglob("scene.json")).parent / "truth" / "surface.npz"
    place.unlink(missing_ok=True)
    scene = Toy4D(copy).scene(NAME)
    assert not place.exists()
    assert scene.surface is not None
    assert scene.surface() == place
    with np.load(place) as arrays:
        assert arrays["points"].shape == (32, SURFACE_POINTS, 3)
        assert arrays["outside"].shape == (32, SURFACE_POINTS)


def test_a_scene_reaches_the_processes_that_measure_it(copy: Path) -> None:
    scene = Toy4D(copy).scene(NAME)
    assert scene.surface is not None
    found = pickle.loads(pickle.dumps(scene.surface))
    assert found() == scene.surface()
    for world in WORLDS:
        assert pickle.loads(pickle.dumps(world)) == world


def test_an_interrupted_generation_is_finished(copy: Path) -> None:
    """A killed process leaves no scene.json, missing files and hidden half-written ones."""
    dataset = Toy4D(copy)
    folder = dataset.root / NAME
    whole = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}
    (folder / "scene.json").unlink()
    shutil.rmtree(folder / "eval_3")
    (folder / "truth" / "eval_2.npz").unlink()
    (folder / "input" / ".7.png.x1.png").write_bytes(b"\x89PNG")
    scene = dataset.scene(NAME)
    dataset.verify(NAME)
    assert len(scene.clip()) == 32
    found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("[0-9]*.png")}
    assert found == whole


def damage_pixel(folder: Path) -> None:
    path = folder / "eval_1" / "5.png"
    picture = np.array(Image.open(path))
    picture[64, 64, 0] ^= 1
    Image.fromarray(picture).save(path)


def truncate_truth(folder: Path) -> None:
    path = folder / "truth" / "eval_0.npz"
    path.write_bytes(path.read_bytes()[:1000])


def flip_truth_bytes(folder: Path) -> None:
    path = folder / "truth" / "eval_0.npz"
    data = bytearray(path.read_bytes())
    data[200_000:200_100] = bytes(100)  # inside the deflated flow
    path.write_bytes(data)


def swap_frames(folder: Path) -> None:
    a, b, spare = (folder / "eval_0" / name for name in ("3.png", "11.png", "spare"))
    a.rename(spare)
    b.rename(a)
    spare.rename(b)


def foreign_scene(folder: Path) -> None:
    """Consistent in itself, but not the benchmark's scene of that name."""
    record = json.loads((folder / "scene.json").read_text())
    damage_pixel(folder)
    pixels = {view: toy4d._read_frames(folder / view, TOY4D) for view in VIEWS}
    (folder / "scene.json").write_text(json.dumps({**record, "pixels": toy4d.pixel_digest(pixels)}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_pixel, "the pixels on disk are not what was generated; delete the folder"),
        (swap_frames, "the pixels on disk are not what was generated"),
        (flip_truth_bytes, r"eval_0\.npz: cannot be read .*delete"),
        (truncate_truth, r"eval_0\.npz: cannot be read .*delete"),
        (lambda folder: (folder / "truth" / "input.npz").unlink(), r"input\.npz: cannot be read .*delete"),
        (lambda folder: (folder / "eval_2" / "31.png").unlink(), "holds 31 frames .*delete"),
        (lambda folder: (folder / "eval_2" / "3.png").write_bytes(b"PNG"), r"3\.png: not a readable picture"),
        (lambda folder: (folder / "scene.json").unlink(), r"scene\.json: cannot be read"),
        (foreign_scene, "other digests than the benchmark's reference"),
    ],
)
def test_verify_names_the_damage(copy: Path, damage: object, message: str) -> None:
    dataset = Toy4D(copy)
    assert callable(damage)
    damage(dataset.root / NAME)
    with pytest.raises(DataError, match=message):
        dataset.verify(NAME)


def test_other_arithmetic_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Toy4D(tmp_path)
    monkeypatch.setitem(EXPECTED[TOY4D.name], NAME, {"pixels": "0" * 64, "truth": "0" * 64})
    with pytest.warns(UserWarning, match="bird-01: digests .* are not the reference"):
        dataset.scene(NAME)
    with pytest.raises(DataError, match="reference"):
        dataset.verify(NAME)


def test_the_folder_name_follows_the_expected_content(monkeypatch: pytest.MonkeyPatch) -> None:
    before = TOY4D.hash
    monkeypatch.setitem(EXPECTED[TOY4D.name], NAME, {**EXPECTED["toy4d"][NAME], "truth": "0" * 64})
    assert TOY4D.hash != before


def test_the_cache_folder_is_argument_environment_or_user_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "named"))
    assert Toy4D().root.parent == tmp_path / "named"
    assert Toy4D(tmp_path / "given").root.parent == tmp_path / "given"
    monkeypatch.delenv("MVTF_CACHE")
    assert Toy4D().root.parent == Path(platformdirs.user_cache_dir("mvtokenflow"))


@pytest.mark.slow  # two processes import everything; the folder that replaces another at once is held below
def test_two_processes_may_generate_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mvtokenflow.datasets.toy4d.dataset import Toy4D;"
        f"d = Toy4D(Path(sys.argv[1])); d.scene('{NAME}').clip(); d.verify('{NAME}')"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    Toy4D(tmp_path).verify(NAME)


def test_any_camera_and_time() -> None:
    cameras = orbit([33.0], 20.0, size=40, kind="pinhole", radius=3.5)
    picture = render_scene("fish-02", cameras, [0.123, 0.9])
    assert picture.rgb.shape == (2, 1, 40, 40, 3)
    assert 0.1 < picture.alpha.mean() < 0.6
    with pytest.raises(ConfigError, match="toy4d scene"):
        render_scene("nobody", cameras, [0.0])


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_every_scene_has_its_digest(world: World) -> None:
    assert world.digests.keys() == world.scenes.keys()
    assert len({entry["pixels"] for entry in world.digests.values()}) == len(world.scenes)


def check_digest(world: World, name: str) -> None:
    pixels, truth = toy4d.render_benchmark(name, world)
    found = {"pixels": toy4d.pixel_digest(pixels), "truth": toy4d.truth_digest(truth)}
    assert found == world.digests[name]


@pytest.mark.parametrize(
    ("world", "name"),
    [
        *((TOY4D, "vehicle-01"), (TOY4D, "crab-01"), (PINHOLE, "robot-01"), (WILD, "dragonfly-02")),
        *((WILD_VIEWS, "serpent-03"), (TOY4D_VIEWS, "fish-02")),
    ],
    ids=lambda part: part if isinstance(part, str) else part.name,
)
def test_digests_of_some_scenes(world: World, name: str) -> None:
    check_digest(world, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "name"),
    [(world, name) for world in WORLDS for name in world.scenes],
    ids=lambda part: part if isinstance(part, str) else part.name,
)
def test_digests_of_all_scenes(world: World, name: str) -> None:
    check_digest(world, name)


# ---- toy4d-pinhole ----


def test_the_plain_benchmark_is_the_same_folder_as_before() -> None:
    assert TOY4D.hash == HASH
    assert Toy4D(Path("r")).root == Path("r") / f"toy4d-{HASH}"
    other = toy4d.Toy4DPinhole(Path("r"))
    assert other.root.name.startswith("toy4d-pinhole-")
    assert not other.root.name.endswith(HASH)


def test_a_scene_through_pinhole_cameras(tmp_path: Path) -> None:
    """Files, cameras and truth of one scene: inside all pictures; flow, depth and normals agree."""
    dataset = open_dataset("toy4d-pinhole", tmp_path)
    assert isinstance(dataset, Toy4D)
    scene = dataset.scene(NAME)
    dataset.verify(NAME)
    assert scene.tags == {"bird"}
    assert scene.assumed == (), "it states its cameras"
    frames = {}
    for view in (scene.input, *scene.views):
        assert view.cameras is not None
        assert view.truth is not None
        camera = view.cameras
        assert (camera.kind, camera.width) == ("pinhole", SIZE)
        assert camera.centres.norm().item() == pytest.approx(2.6, abs=1e-5)
        focal = SIZE / 2 / np.tan(np.radians(49.1 / 2))
        np.testing.assert_allclose(camera.intrinsics[0, (0, 1), (0, 1)], focal, rtol=1e-6)
        pictures = np.stack([read_on_white(path) for path in view.frames]).astype(np.float32)
        frames[view.name] = pictures
        for edge in (pictures[:, [0, -1]], pictures[:, :, [0, -1]]):
            assert (edge == 255).all(), view.name
        truth = view.truth()
        # What is seen at a pixel is seen at the pixel that the flow leads to: colours agree but at edges.
        y, x = np.mgrid[:SIZE, :SIZE] + 0.5
        n = 9
        there = np.stack((x, y), -1) + truth.flow[n]
        column, row = (np.clip(there[..., k].round(3).astype(int), 0, SIZE - 1) for k in (0, 1))
        moved, seen = pictures[n + 1][row, column], truth.visible[n]
        assert np.median(np.abs(moved - pictures[n])[seen]) <= 2
        # Neighbours in depth span the surface that the normals are of.
        z, mask = truth.depth[n], truth.depth[n] > 0
        rays = np.stack(((x - SIZE / 2) / focal, (y - SIZE / 2) / focal, np.ones_like(x)), -1)
        points = (z[..., None] * rays - camera.world_to_camera[0, :3, 3].numpy()) @ (
            camera.world_to_camera[0, :3, :3].numpy()
        )
        across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
        plane = np.cross(down, across)
        plane /= np.maximum(np.linalg.norm(plane, axis=-1, keepdims=True), 1e-12)
        inner = mask[1:-1, 1:-1] & mask[1:-1, 2:] & mask[1:-1, :-2] & mask[2:, 1:-1] & mask[:-2, 1:-1]
        cosine = (plane * truth.normal[n][1:-1, 1:-1]).sum(-1)[inner]
        assert np.median(cosine) > np.cos(np.radians(3)), view.name
