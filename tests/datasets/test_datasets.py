"""Clips of one's own as datasets, and the catalogue."""

import json
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import cache_root
from mvtokenflow.datasets import catalogue
from mvtokenflow.datasets import folder as folder_module
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.datasets.consistent4d import Consistent4D
from mvtokenflow.datasets.folder import FolderDataset
from mvtokenflow.media.video import composite_white, read_rgb, write_png, write_video
from mvtokenflow.views.cameras import Cameras, orbit

RGBA = np.random.default_rng(0).integers(0, 256, (5, 8, 10, 4), dtype=np.uint8)
VIEWS = {"eval_0": {"azimuth_deg": -75, "elevation_deg": 0}, "eval_1": {"azimuth_deg": 15, "elevation_deg": 10}}

CAMERAS = orbit([15.0], 10.0, size=64, kind="pinhole", radius=2.0).to_dict()


def write(folder: Path, frames: NDArray[np.uint8]) -> Path:
    for n, frame in enumerate(frames):
        write_png(folder / f"{n}.png", frame)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def scene_folder(tmp_path: Path) -> Path:
    """A scene with two evaluation views: one RGBA, one already on white."""
    folder = tmp_path / "cat"
    write(folder / "input", RGBA)
    write(folder / "eval_0", RGBA[::-1])
    write(folder / "eval_1", composite_white(RGBA[::-1]))
    (folder / "views.json").write_text(json.dumps(VIEWS))
    return folder


def test_a_folder_of_frames_is_one_scene_scored_on_its_input_view(tmp_path: Path, cache: Path) -> None:
    dataset = FolderDataset(write(tmp_path / "cat", RGBA))
    assert (dataset.name, list(dataset.scene_names())) == ("folder-cat", ["cat"])
    scene = dataset.scene("cat")
    assert (scene.name, scene.input.name) == ("cat", "input")
    assert [(view.azimuth_deg, len(view.frames)) for view in scene.views] == [
        (a, 0) for a in (-75, 15, 105, 195)
    ]
    assert (scene.input.azimuth_deg, scene.input.elevation_deg, scene.input.cameras) == (0.0, 0.0, None)
    assert [path.relative_to(scene.root).as_posix() for path in scene.input.frames] == [
        f"input/{n}.png" for n in range(5)
    ]
    assert scene.root.is_relative_to(cache)
    for n, path in enumerate(scene.input.frames):
        assert (read_rgb(path) == composite_white(RGBA[n])).all()
    assert torch.equal(scene.clip().rgb, torch.from_numpy(RGBA[..., :3]).float() / 255)


def test_a_scene_can_be_sent_to_another_process(tmp_path: Path) -> None:
    scene = pickle.loads(pickle.dumps(FolderDataset(scene_folder(tmp_path)).scene("cat")))
    assert len(scene.clip()) == 5


def test_a_folder_of_scenes_in_sorted_order(tmp_path: Path) -> None:
    write(tmp_path / "all" / "b", RGBA)
    write(tmp_path / "all" / "a.1", RGBA)
    scene_folder(tmp_path / "all")
    (tmp_path / "all" / "notes.txt").write_text("x")
    write_video(tmp_path / "all" / "film.mp4", RGBA[..., :3], 10)
    write(tmp_path / "all" / "film_mask", RGBA[..., 3])
    dataset = FolderDataset(tmp_path / "all")
    assert list(dataset.scene_names()) == ["a.1", "b", "cat", "film"]
    assert [sum(bool(v.frames) for v in dataset.scene(n).views) for n in dataset.scene_names()] == [0, 0, 2, 0]
    assert torch.equal(dataset.scene("film").clip().alpha[..., 0], torch.from_numpy(RGBA[..., 3]).float() / 255)
    with pytest.raises(ConfigError, match=r"no scene 'cta'. Did you mean 'cat'"):
        dataset.scene("cta")


def test_evaluation_views_come_with_angles_and_cameras(tmp_path: Path) -> None:
    folder = scene_folder(tmp_path)
    angles = {"input": {"azimuth_deg": 0, "elevation_deg": 0}, **VIEWS}
    stated: dict[str, Any] = {
        view: {
            **at,
            "cameras": orbit(
                [at["azimuth_deg"]], at["elevation_deg"], size=64, kind="pinhole", radius=2.0
            ).to_dict(),
        }
        for view, at in angles.items()
    }
    cameras = Cameras.from_dict(stated["eval_1"]["cameras"])
    (folder / "views.json").write_text(json.dumps(stated))
    scene = FolderDataset(folder).scene("cat")
    assert [(v.name, v.azimuth_deg, v.elevation_deg) for v in scene.views] == [
        ("eval_0", -75.0, 0.0),
        ("eval_1", 15.0, 10.0),
    ]
    assert scene.input.cameras is not None
    assert scene.views[1].cameras is not None
    assert torch.equal(scene.views[1].cameras.world_to_camera, cameras.world_to_camera)
    for view in scene.views:  # both on white now, whatever they were
        assert view.frames[0] == scene.root / view.name / "0.png"
        assert (read_rgb(view.frames[0]) == composite_white(RGBA[4])).all()


def test_reference_pictures_are_made_once_per_content(tmp_path: Path) -> None:
    folder = write(tmp_path / "cat", RGBA)
    first = FolderDataset(folder).scene("cat")
    made = first.input.frames[0].stat().st_mtime_ns
    assert FolderDataset(folder).scene("cat").input.frames[0].stat().st_mtime_ns == made
    write_png(folder / "0.png", RGBA[1])
    second = FolderDataset(folder).scene("cat")
    assert second.root != first.root
    assert second.content != first.content
    assert second.content == FolderDataset(folder, tmp_path / "elsewhere").scene("cat").content
    assert (read_rgb(first.input.frames[0]) == composite_white(RGBA[0])).all()
    assert (read_rgb(second.input.frames[0]) == composite_white(RGBA[1])).all()


def test_a_finished_scene_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = FolderDataset(write(tmp_path / "cat", RGBA))
    root = dataset.scene("cat").root
    monkeypatch.setattr(folder_module, "write_png", None)  # calling it would raise
    assert dataset.scene("cat").root == root


def test_the_faster_of_two_processes_wins(tmp_path: Path) -> None:
    target = tmp_path / "scene"
    with folder_module._new_folder(target, range(5)) as slow:
        (slow / "who").write_text("slow")
        with folder_module._new_folder(target, range(5)) as fast:
            write(fast / "input", RGBA)
            (fast / "scene.json").write_text('{"frames": {"input": 5}, "form": 2}')
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene"]
    assert not (target / "who").exists()
    assert len(list((target / "input").iterdir())) == 5


@pytest.mark.parametrize("damage", ["frame", "record"])
def test_a_cache_with_missing_files_is_made_anew(tmp_path: Path, damage: str) -> None:
    folder = write(tmp_path / "cat", RGBA)
    scene = FolderDataset(folder).scene("cat")
    (scene.input.frames[3] if damage == "frame" else scene.root / "scene.json").unlink()
    again = FolderDataset(folder).scene("cat")
    assert again.root == scene.root
    assert (read_rgb(again.input.frames[3]) == composite_white(RGBA[3])).all()
    assert [path.name for path in scene.root.parent.iterdir()] == [scene.root.name]  # no temporary folders


def test_a_failure_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    folder = scene_folder(tmp_path)
    (folder / "eval_1" / "4.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"eval_1/4.png: not a PNG file; convert it"):
        FolderDataset(folder).scene("cat")
    assert not list((cache / "folder").iterdir())


def test_views_of_mixed_sizes_are_refused_by_name(tmp_path: Path, cache: Path) -> None:
    folder = scene_folder(tmp_path)
    write_png(folder / "eval_1" / "2.png", np.zeros((9, 10, 3), np.uint8))
    with pytest.raises(DataError, match=r"eval_1/2.png: 10x9 pixels, but .*eval_1/0.png has 10x8; make all"):
        FolderDataset(folder).scene("cat")
    assert not any((cache / "folder").iterdir())


def test_a_cache_that_cannot_be_written(tmp_path: Path, cache: Path) -> None:
    cache.write_text("in the way")
    with pytest.raises(DataError, match=r"cache/folder/cat-\w+: cannot be written .* set MVTF_CACHE"):
        FolderDataset(write(tmp_path / "cat", RGBA)).scene("cat")


def test_the_cache_folder_follows_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("MVTF_CACHE")
    assert cache_root().name == "mvtokenflow"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "views.json: does not state eval_0, eval_1; write e.g. "),
        ("{", "views.json: not readable as JSON"),
        ("[]", "views.json: .*write an object with one entry per view"),
        (json.dumps({"eval_0": VIEWS["eval_0"]}), "views.json: does not state eval_1; write"),
        (
            json.dumps({**VIEWS, "eval_2": VIEWS["eval_0"]}),
            "views.json: has eval_2, which is no folder here; remove",
        ),
        (
            json.dumps({**VIEWS, "eval_1": {"azimuth": 3}}),
            "views.json: eval_1: expected azimuth_deg, elevation_deg",
        ),
        (
            json.dumps({**VIEWS, "eval_1": {**VIEWS["eval_1"], "azimuth_deg": "x"}}),
            "azimuth_deg is 'x'; expected deg",
        ),
        (json.dumps({**VIEWS, "eval_1": {**VIEWS["eval_1"], "cameras": {}}}), "eval_1: has the fields"),
        (
            json.dumps({**VIEWS, "eval_1": {**VIEWS["eval_1"], "cameras": CAMERAS}}),
            "cameras of eval_1 and none of eval_0; state those of all views",
        ),
    ],
)
def test_bad_views_json(tmp_path: Path, content: str | None, says: str) -> None:
    folder = scene_folder(tmp_path)
    (folder / "views.json").unlink()
    if content is not None:
        (folder / "views.json").write_text(content)
    with pytest.raises(DataError, match=says):
        FolderDataset(folder).scene("cat")


def test_paths_without_scenes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: no such file or folder; give"):
        FolderDataset(tmp_path / "gone").scene_names()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty: holds no frames named <integer>.png.*; rename the frames or"):
        FolderDataset(empty).scene_names()
    write_png(empty / "first.png", RGBA[0])
    with pytest.raises(DataError, match=r"the first entry is first.png\); rename the frames or"):
        FolderDataset(empty).scene_names()
    with pytest.raises(DataError, match=r"first.png: not a video \(.mp4, .*\); give one or a folder"):
        FolderDataset(empty / "first.png").scene_names()


def test_two_scenes_of_one_name_and_frames_beside_views(tmp_path: Path) -> None:
    write(tmp_path / "all" / "cat", RGBA)
    write_video(tmp_path / "all" / "cat.mp4", RGBA[..., :3], 10)
    with pytest.raises(
        DataError, match=r"cat.mp4: a second scene named 'cat' beside .*cat; rename one of them"
    ):
        FolderDataset(tmp_path / "all").scene_names()
    write(tmp_path / "dog", RGBA)
    write(tmp_path / "dog" / "eval_0", RGBA)
    with pytest.raises(DataError, match=r"dog: frames beside eval_0; move the frames into .*dog/input"):
        FolderDataset(tmp_path / "dog").scene_names()
    write(tmp_path / "cow" / "eval_0", RGBA)
    with pytest.raises(
        DataError, match=r"cow: has eval_0 and no input; put the clip's frames into .*cow/input"
    ):
        FolderDataset(tmp_path / "cow").scene_names()


def test_a_video_without_alpha_asks_for_it(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", RGBA[..., :3], 10)
    with pytest.raises(DataError, match=r"film.mp4: no alpha channel.*give frames with alpha.*mask"):
        FolderDataset(tmp_path / "film.mp4").scene("film")


@pytest.mark.parametrize(("place", "count"), [("consistent4d_demo", 3), ("diffusion2_ironman", 1)])
def test_real_clips(shared: Path, place: str, count: int) -> None:
    dataset = open_dataset(str(shared / "data" / place))
    assert len(dataset.scene_names()) == count
    scene = dataset.scene(dataset.scene_names()[-1])
    assert len(scene.input.frames) == len(scene.clip()) == (25 if count == 1 else 32)
    assert (read_rgb(scene.input.frames[0])[0] == 255).all()  # the first row is background


def test_one_view_of_many_real_ones(shared: Path, tmp_path: Path) -> None:
    """STAG4D's clip in the layout of the module: its frames in `ref` become `input`."""
    folder = tmp_path / "minions"
    folder.mkdir()
    (folder / "input").symlink_to(shared / "data" / "stag4d_minions" / "ref")
    assert len(FolderDataset(folder).scene("minions").input.frames) == 32


# ---- the catalogue ----


def test_known_names_open(tmp_path: Path) -> None:
    for name in catalogue.DATASETS:
        assert open_dataset(name, tmp_path).name == name
    assert isinstance(open_dataset("consistent4d"), Consistent4D)


def test_a_typing_error_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"no dataset 'consistant4d'. Did you mean 'consistent4d'.*toy4d"):
        open_dataset("consistant4d")


def test_paths_open_as_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "consistent4d", RGBA)
    write(tmp_path / "cat", RGBA)
    monkeypatch.chdir(tmp_path)
    assert list(open_dataset("cat").scene_names()) == ["cat"]
    assert list(open_dataset(f".{os.sep}consistent4d").scene_names()) == ["consistent4d"]
    assert isinstance(open_dataset("consistent4d"), Consistent4D)
    with pytest.raises(DataError, match=r"gone: no such file or folder"):
        open_dataset("./gone").scene_names()
    with pytest.raises(ConfigError, match=r"dataset cat: a path needs no root; leave out the root"):
        open_dataset("cat", tmp_path)


def test_third_parties(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_data.py").write_text(
        "class Data:\n"
        "    def __init__(self, root=None): self.name, self.root = 'theirs', root\n"
        "    def scene_names(self): return ['one']\n"
        "    def scene(self, name): raise NotImplementedError\n"
        "class Half:\n"
        "    name = 'half'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert open_dataset("their_data:Data").scene_names() == ["one"]
    assert vars(open_dataset("their_data:Data", tmp_path))["root"] == tmp_path
    for name, says in (
        ("their_data:Half", "their_data:Half has no 'scene_names'; see the Dataset protocol"),
        ("their_data:Gone", "cannot import their_data:Gone .*; is its package installed"),
        ("no_such_module_here:Data", "No module named 'no_such_module_here'.*; is its package installed"),
        (":Data", "cannot import ':Data'"),
    ):
        with pytest.raises(ConfigError, match=says):
            open_dataset(name)


def test_moving_the_sources_does_not_change_the_reference(tmp_path: Path) -> None:
    first = FolderDataset(write(tmp_path / "cat", RGBA)).scene("cat")
    shutil.move(tmp_path / "cat", tmp_path / "elsewhere" / "cat")
    assert FolderDataset(tmp_path / "elsewhere" / "cat").scene("cat").root == first.root


def numbered(folder: Path, frames: NDArray[np.uint8], numbers: Sequence[int]) -> Path:
    for n, frame in zip(numbers, frames, strict=True):
        write_png(folder / f"{n}.png", frame)
    return folder


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ((0, 1, 2, 4), "lacks frame 3 of .*input; number both alike, or leave the frame out of both"),
        ((1, 2, 3, 4, 5), "lacks frame 0 of"),
        ((0, 1, 2, 3, 4, 9), "has a frame 9, which is none of"),
    ],
)
def test_a_view_of_other_frames_than_the_input(tmp_path: Path, numbers: tuple[int, ...], says: str) -> None:
    folder = scene_folder(tmp_path)
    shutil.rmtree(folder / "eval_0")
    numbered(folder / "eval_0", np.resize(RGBA, (len(numbers), *RGBA.shape[1:])), numbers)
    with pytest.raises(DataError, match=f"eval_0: {says}"):
        FolderDataset(folder).scene("cat")


def test_frames_keep_their_numbers_and_times(tmp_path: Path) -> None:
    folder = tmp_path / "cat"
    numbers = (3, 4, 5, 8, 9)
    for view in ("input", "eval_0"):
        numbered(folder / view, RGBA, numbers)
    (folder / "views.json").write_text(json.dumps({"eval_0": VIEWS["eval_0"]}))
    with pytest.warns(UserWarning, match="frames are 1 to 3 numbers apart and keep their own times"):
        scene = FolderDataset(folder).scene("cat")
    for seen in (scene.input, *scene.views):
        assert [int(path.stem) for path in seen.frames] == list(numbers)
    assert np.allclose(scene.clip().times, [0, 1 / 6, 2 / 6, 5 / 6, 1])
    with pytest.warns(UserWarning, match="keep their own times"):  # of what is in the cache as well
        FolderDataset(folder).scene("cat")


def test_what_an_older_form_of_the_cache_accepted_is_read_again(tmp_path: Path) -> None:
    folder = scene_folder(tmp_path)
    made = FolderDataset(folder).scene("cat").root / "scene.json"
    record = json.loads(made.read_bytes())
    made.write_text(json.dumps({key: record[key] for key in ("frames", "sources")}))
    FolderDataset(folder).scene("cat")
    assert json.loads(made.read_bytes()) == record


def test_a_folder_of_frames_with_other_names_is_a_clip(tmp_path: Path) -> None:
    folder = tmp_path / "cat"
    for n, frame in enumerate(RGBA):
        write_png(folder / f"frame_{n:04d}.png", frame)
    assert FolderDataset(folder).scene_names() == ["cat"]
    assert len(FolderDataset(folder).scene("cat").input.frames) == len(RGBA)


# ---- views by any names, and folders as references


def named_views(tmp_path: Path) -> Path:
    folder = scene_folder(tmp_path)
    (folder / "eval_1").rename(folder / "from above")
    stated = {"from above": {"azimuth_deg": 40, "elevation_deg": 15}, "eval_0": VIEWS["eval_0"]}
    (folder / "views.json").write_text(json.dumps(stated))
    return folder


@pytest.mark.filterwarnings("ignore:.*touches all four sides")
def test_views_json_names_views(tmp_path: Path) -> None:
    folder = named_views(tmp_path)
    dataset = FolderDataset(folder)
    for scene in (dataset.scene("cat"), dataset.reference("cat")):
        assert [view.name for view in scene.all_views()] == ["input", "eval_0", "from above"]
        assert (scene.views[1].azimuth_deg, scene.views[1].elevation_deg) == (40.0, 15.0)
        assert [len(view.frames) for view in scene.all_views()] == [len(RGBA)] * 3


def test_a_reference_is_the_files_themselves_and_needs_no_clip(tmp_path: Path) -> None:
    folder = named_views(tmp_path)
    shutil.rmtree(folder / "input")
    scene = FolderDataset(tmp_path).reference("cat")
    assert scene.input.frames == ()
    assert list(scene.views[1].frames) == [folder / "from above" / f"{n}.png" for n in range(len(RGBA))]
    with pytest.raises(DataError, match="input"):
        scene.clip()


def test_a_reference_without_views_json_has_the_views_of_consistent4d(tmp_path: Path) -> None:
    folder = scene_folder(tmp_path)
    (folder / "views.json").unlink()
    scene = FolderDataset(tmp_path).reference("cat")
    assert [(view.azimuth_deg, len(view.frames)) for view in scene.views] == [
        (-75.0, len(RGBA)),
        (15.0, len(RGBA)),
        (105.0, 0),
        (195.0, 0),
    ]


@pytest.mark.parametrize("name", ["clip", "mask"])
def test_a_view_is_not_named_as_the_clip(tmp_path: Path, name: str) -> None:
    folder = named_views(tmp_path)
    (folder / "from above").rename(folder / name)
    (folder / "views.json").write_text(json.dumps({name: VIEWS["eval_0"], "eval_0": VIEWS["eval_0"]}))
    with pytest.raises(DataError, match=f"{name}: its name is that of a view, but it is taken for the clip"):
        FolderDataset(folder).scene("cat")


@pytest.mark.parametrize(("name", "why"), [("a\nb", "holds control characters"), ("a\\b", "no /")])
def test_names_of_objects_that_records_cannot_hold_are_refused(tmp_path: Path, name: str, why: str) -> None:
    write(tmp_path / "gt" / name / "eval_0", composite_white(RGBA))
    with pytest.raises(DataError, match=f"its name is the object's in records, but it .*{why}.*; rename it"):
        FolderDataset(tmp_path / "gt").reference_folders()
