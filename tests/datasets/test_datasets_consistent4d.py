"""The Consistent4D reader, on a procedural stand-in in exactly the official layout."""

import math
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.datasets.assumed import AssumedCamera
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.datasets.consistent4d import FRAMES, OBJECTS, Consistent4D, Finding, verify
from mvtokenflow.datasets.layout import AZIMUTHS_DEG
from mvtokenflow.eval.tables.render import scene_digest
from mvtokenflow.media.video import read_on_white, read_rgba
from mvtokenflow.views.cameras import orbit

SIZE = 20


def _toy(azimuth: float, seed: int) -> NDArray[np.uint8]:
    """(FRAMES, SIZE, SIZE, 4): a body of balls along one direction, with a limb that swings."""
    rng = np.random.default_rng(seed)
    balls = np.array([[0.9 * t, 0.15 * t * t, 0.1 * t] for t in np.linspace(-0.8, 0.8, 7)])
    colours = rng.integers(30, 226, (9, 3))
    camera = orbit([azimuth], size=SIZE, kind="pinhole", radius=4.0, fov_deg=32.0)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    frames = np.zeros((FRAMES, SIZE, SIZE, 4), np.uint8)
    for n in range(FRAMES):
        swing = 0.2 * n / FRAMES
        limb = [[0.5, 0.2, -0.3 - swing], [0.5 + swing, 0.2, -0.55]]
        pixels, depth = camera.project(torch.tensor(np.concatenate((balls, limb)), dtype=torch.float32))
        for k in np.argsort(-depth[0].numpy()):  # the nearest is painted last
            centre, radius = pixels[0, k].numpy(), 1.2 * SIZE / 8 / depth[0, k].item() * 4
            inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
            frames[n][inside] = (*colours[k], 255)
    return frames


def _write(folder: Path, frames: NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True)
    for n, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{n}.png")


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All seven objects and their input videos, as unpacked from the two downloads."""
    root = tmp_path_factory.mktemp("official")
    for seed, name in enumerate(OBJECTS):
        _write(root / "videos" / "synthetic" / name, _toy(0.0, seed))
        for view, azimuth in AZIMUTHS_DEG.items():
            _write(root / "test_dataset" / "eval_gt" / name / view, _toy(azimuth, seed))
    (root / "test_dataset" / "readme.txt").write_text("views")
    return root


@pytest.fixture
def data(official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that may be broken."""
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MVTF_CONSISTENT4D", raising=False)
    monkeypatch.delenv("MVTF_CONSISTENT4D_VIDEOS", raising=False)
    return Path(shutil.copytree(official, tmp_path / "c4d"))


def test_a_scene_of_the_official_layout(data: Path) -> None:
    dataset = Consistent4D(data)
    assert tuple(dataset.scene_names()) == OBJECTS == (
        "aurorus", "crocodile", "guppie", "monster", "pistol", "skull", "trump",
    )  # fmt: skip
    scene = dataset.scene("monster")
    eval_gt = data / "test_dataset" / "eval_gt" / "monster"
    assert [(v.name, v.azimuth_deg, v.elevation_deg) for v in scene.views] == [
        ("eval_0", -75.0, 0.0),
        ("eval_1", 15.0, 0.0),
        ("eval_2", 105.0, 0.0),
        ("eval_3", 195.0, 0.0),
    ]
    for view in scene.views:  # the files as published, in numeric order
        assert list(view.frames) == [eval_gt / view.name / f"{n}.png" for n in range(FRAMES)]
        assert read_rgba(view.frames[0]).shape == (SIZE, SIZE, 4)
        assert (read_on_white(view.frames[0])[0] == 255).all()
    assert scene.input.azimuth_deg == 0.0
    assert [path.parent.name for path in scene.input.frames[:2]] == ["monster", "monster"]
    clip = scene.clip()
    assert (len(clip), clip.name) == (FRAMES, "monster")
    assert torch.equal(clip.alpha[..., 0] * 255, torch.from_numpy(_toy(0.0, 3)[..., 3]).float())
    assert scene.root == eval_gt
    assert scene.all_views() == [scene.input, *scene.views]
    assert len(pickle.loads(pickle.dumps(scene)).clip()) == FRAMES


def test_cameras_are_assumed_and_said_to_be(data: Path) -> None:
    """Distance 2, 49.1 degrees up and down: what a point at a known place is seen at."""
    scene = Consistent4D(data).scene("monster")
    (clause,) = scene.assumed
    assert "at distance 2, with a vertical field of view of 49.1 degrees" in clause
    half = SIZE / 2
    for view in (scene.input, *scene.views):
        assert view.cameras is not None
        assert (view.cameras.kind, view.cameras.width, view.cameras.height) == ("pinhole", SIZE, SIZE)
        assert view.cameras.centres.norm().item() == pytest.approx(2, abs=1e-5)
        top = torch.tensor([[0.0, 0.0, 2 * math.tan(math.radians(49.1 / 2))], [0.0, 0.0, 0.0]])
        pixels, depth = view.cameras.project(top)  # of the axis that all of them look at
        np.testing.assert_allclose(pixels[0], [[half, 0], [half, half]], atol=1e-4)
        np.testing.assert_allclose(depth[0], 2, atol=1e-5)
    right = torch.tensor([[0.1, 0.0, 0.0]])
    assert scene.input.cameras is not None
    assert scene.input.cameras.project(right)[0][0, 0, 0] > half


def test_a_wide_picture_keeps_the_vertical_angle() -> None:
    camera = AssumedCamera(distance=3, fov_deg=60).at(90.0, 60, 40)
    corner = torch.tensor([[0.0, 3 * math.tan(math.radians(30)) * 1.5, 3 * math.tan(math.radians(30))]])
    np.testing.assert_allclose(camera.project(corner)[0][0], [[60, 0]], atol=1e-4)
    with pytest.raises(ConfigError, match="fov_deg is 180"):
        AssumedCamera(fov_deg=180)


def test_other_readings_of_the_cameras_are_datasets_of_their_own(data: Path) -> None:
    digests, roots = set(), set()
    for name, distance in (("", 2), ("-ortho", 2), ("-r1.5", 1.5), ("-r2.5", 2.5)):
        dataset = open_dataset(f"consistent4d{name}", data)
        assert dataset.name == f"consistent4d{name}"
        scene = dataset.scene("skull")
        for view in (scene.input, *scene.views):
            assert view.cameras is not None
            assert view.cameras.kind == ("ortho" if name == "-ortho" else "pinhole")
            assert view.cameras.world_to_camera[0, 2, 3] == pytest.approx(distance)
            top = torch.tensor([[0.0, 0.0, distance * math.tan(math.radians(49.1 / 2))]])
            np.testing.assert_allclose(view.cameras.project(top)[0][0], [[SIZE / 2, 0]], atol=1e-4)
        assert len(scene.assumed) == 1
        digests.add(scene_digest(scene))
        roots.add(scene.root)
    assert len(digests) == 4, "a run of one reading is not taken for one of another"
    assert len(roots) == 1, "the pictures are the same"


def test_a_first_frame_that_is_no_picture_is_told_when_the_scene_is_opened(data: Path) -> None:
    frame = data / "test_dataset" / "eval_gt" / "skull" / "eval_2" / "0.png"
    frame.write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"eval_2.0.png: not a PNG file"):
        Consistent4D(data).scene("skull")


@pytest.mark.parametrize("layout", ["whole", "test_dataset", "eval_gt", "flat"])
def test_known_layouts(data: Path, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = {"whole": data, "test_dataset": data / "test_dataset", "eval_gt": data / "test_dataset" / "eval_gt"}
    if layout == "flat":
        root["flat"] = Path(shutil.copytree(data / "test_dataset" / "eval_gt", tmp_path / "flat"))
        monkeypatch.setenv("MVTF_CONSISTENT4D_VIDEOS", str(data / "videos"))
    monkeypatch.setenv("MVTF_CONSISTENT4D", str(root[layout]))
    scene = Consistent4D().scene("pistol")
    assert len(scene.clip()) == len(scene.views[3].frames) == FRAMES


def test_videos_may_be_given(data: Path, tmp_path: Path) -> None:
    moved = shutil.move(data / "videos", tmp_path / "elsewhere")
    assert len(Consistent4D(data, videos=Path(moved)).scene("skull").clip()) == FRAMES


def test_without_videos_a_scene_can_be_scored_but_not_run(data: Path) -> None:
    shutil.rmtree(data / "videos")
    scene = Consistent4D(data).scene("skull")
    assert (list(scene.input.frames), len(scene.views)) == ([], 4)
    with pytest.raises(
        DataError, match=r"no folder skull/ with the input video.*\n(.*\n)*.*1mJNhFKvzZ-8icAw6KC"
    ):
        scene.clip()


def test_two_videos_of_one_object(data: Path) -> None:
    shutil.copytree(data / "videos" / "synthetic" / "skull", data / "videos" / "in-the-wild" / "skull")
    with pytest.raises(
        DataError, match=r"skull is there 2 times \(.*in-the-wild.*synthetic.*\); set MVTF_CONS"
    ):
        Consistent4D(data).scene("skull")


def test_nothing_given_says_what_to_download(data: Path) -> None:
    with pytest.raises(
        DataError, match=r"MVTF_CONSISTENT4D is not set\n(.*\n)*.*1jn18kA2FfKMnyQ6fisIn8rhBI0dr3NFk"
    ):
        Consistent4D().scene("skull")
    with pytest.raises(
        DataError, match=r"no object of the test set here \(looked for .*eval_gt.*\)\n(.*\n)*.*1jn18"
    ):
        Consistent4D(data / "videos").scene("skull")
    with pytest.raises(ConfigError, match=r"no object 'skul'\. Did you mean 'skull'"):
        Consistent4D(data).scene("skul")


def test_an_incomplete_scene_is_refused(data: Path) -> None:
    (data / "test_dataset" / "eval_gt" / "skull" / "eval_2" / "31.png").unlink()
    with pytest.raises(DataError, match=r"eval_2: 31 frames instead of 0 to 31: lacks 31; unpack it again"):
        Consistent4D(data).scene("skull")
    (data / "videos" / "synthetic" / "trump" / "7.png").unlink()
    with pytest.raises(DataError, match=r"synthetic/trump: 31 frames instead of 0 to 31: lacks 7; unpack"):
        Consistent4D(data).scene("trump")


def test_a_whole_copy_has_no_findings(data: Path) -> None:
    assert verify(data) == []


def test_findings_read_as_one_line(tmp_path: Path) -> None:
    assert (
        str(Finding(path=tmp_path / "a.png", problem="is odd", fix="mend it"))
        == f"{tmp_path}/a.png: is odd; mend it"
    )


Break = Callable[[Path], object]


def _swap(objects: Path, one: str, other: str) -> None:
    (objects / "skull" / one).rename(objects / "skull" / "kept")
    (objects / "skull" / other).rename(objects / "skull" / one)
    (objects / "skull" / "kept").rename(objects / "skull" / other)


def _rotate(objects: Path) -> None:
    """The order 15, 105, 195, −75 that a published recipe yields."""
    _swap(objects, "eval_0", "eval_1")
    _swap(objects, "eval_1", "eval_2")
    _swap(objects, "eval_2", "eval_3")


def _resave(path: Path, change: Callable[[Image.Image], Image.Image]) -> None:
    change(Image.open(path).copy()).save(path)


def _opaque(picture: Image.Image) -> Image.Image:
    picture.putalpha(255)
    return picture


def _still(folder: Path) -> None:
    for n in range(1, FRAMES):
        shutil.copy(folder / "0.png", folder / f"{n}.png")


def _copy_view(objects: Path) -> None:
    shutil.rmtree(objects / "skull" / "eval_3")
    shutil.copytree(objects / "trump" / "eval_3", objects / "skull" / "eval_3")


# What is broken below eval_gt, the path that must be named, and what is said.
BREAKS: dict[str, tuple[Break, str, str]] = {
    "no object": (lambda o: shutil.rmtree(o / "trump"), "trump", "the object is missing"),
    "no view": (lambda o: shutil.rmtree(o / "skull/eval_1"), "skull/eval_1", "the view is missing"),
    "lost frame": (lambda o: (o / "skull/eval_1/9.png").unlink(), "skull/eval_1", "31 frames .*: lacks 9"),
    "counted from 1": (
        lambda o: (o / "skull/eval_1/0.png").rename(o / "skull/eval_1/32.png"),
        "skull/eval_1",
        "32 frames instead of 0 to 31: lacks 0 and adds 32",
    ),
    "one index twice": (
        lambda o: shutil.copy(o / "skull/eval_1/1.png", o / "skull/eval_1/01.png"),
        "skull/eval_1",
        "01.png and 1.png are both frame 1",
    ),
    "stray file": (lambda o: (o / "skull/eval_1/a.txt").write_text(""), "skull/eval_1", "not a frame named"),
    "stray object": (lambda o: (o / ".DS_Store").write_text(""), ".DS_Store", "does not belong here"),
    "fifth view": (
        lambda o: shutil.copytree(o / "skull/eval_1", o / "skull/eval_4"),
        "skull/eval_4",
        "does not belong here",
    ),
    "cut off": (
        lambda o: (o / "skull/eval_1/3.png").write_bytes((o / "skull/eval_1/3.png").read_bytes()[:80]),
        "skull/eval_1/3.png",
        "truncated PNG",
    ),
    "already on white": (
        lambda o: _resave(o / "skull/eval_1/3.png", lambda p: p.convert("RGB")),
        "skull/eval_1/3.png",
        "8-bit RGB picture, expected 8-bit RGBA",
    ),
    "filled": (lambda o: _resave(o / "skull/eval_1/3.png", _opaque), "skull/eval_1/3.png", "opaque"),
    "empty": (
        lambda o: _resave(o / "skull/eval_1/3.png", lambda p: p.point(lambda _: 0)),
        "skull/eval_1/3.png",
        "empty, there is no object",
    ),
    "other size": (
        lambda o: _resave(o / "skull/eval_1/3.png", lambda p: p.resize((SIZE + 1, SIZE))),
        "skull/eval_1/3.png",
        "21x20 pixels, .*eval_0/0.png has 20x20",
    ),
    "still": (lambda o: _still(o / "skull/eval_1"), "skull/eval_1", "all 32 frames are the same picture"),
    "copied": (_copy_view, "trump/eval_3", r"32 pictures are copies of .*skull/eval_3"),
    "swapped": (lambda o: _swap(o, "eval_0", "eval_1"), "skull/eval_0", "mirror eval_3 .*out of order"),
    "rotated": (_rotate, "skull/eval_0", "closer to the input .*out of order"),
}  # fmt: skip


@pytest.mark.parametrize("case", BREAKS)
def test_breaks_are_found_where_they_are(data: Path, case: str) -> None:
    change, place, says = BREAKS[case]
    objects = data / "test_dataset" / "eval_gt"
    change(objects)
    findings = verify(data)
    named = [finding for finding in findings if finding.path == objects / place]
    assert [finding for finding in named if re.search(says, finding.problem)], findings
    assert all(finding.fix for finding in findings)
    assert len(findings) <= 4  # no avalanche


def test_missing_data_and_videos_are_found(data: Path, tmp_path: Path) -> None:
    shutil.rmtree(data / "videos" / "synthetic" / "guppie")
    (finding,) = verify(data)
    assert (finding.path, finding.problem) == (data, "no folder guppie/ with the input video below it")
    (finding,) = verify(tmp_path / "gone")
    assert "holds no object" in finding.problem
    assert "drive.google.com" in finding.fix
    findings = verify(data, tmp_path / "gone")
    assert {finding.path for finding in findings} == {tmp_path / "gone"}
