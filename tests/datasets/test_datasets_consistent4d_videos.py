"""All input videos of Consistent4D that are found, whatever their number."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.cli.eval.grid import request_of
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.datasets.consistent4d_videos import NAMED, Consistent4DVideos
from mvtokenflow.eval.score.scoring import Options
from mvtokenflow.eval.tables.render import scene_digest
from mvtokenflow.media.video import write_png


def write(folder: Path, frames: int = 4, shade: int = 90) -> Path:
    """A square that slides over nothing."""
    for n in range(frames):
        picture = np.zeros((16, 20, 4), np.uint8)
        picture[4:12, 2 + n : 10 + n] = (shade, 120, 200 - shade, 255)
        write_png(folder / f"{n}.png", picture)
    return folder


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As unpacked, incomplete as copies are: two of one split, one of the other, and what is none."""
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MVTF_CONSISTENT4D", raising=False)
    monkeypatch.delenv("MVTF_CONSISTENT4D_VIDEOS", raising=False)
    root = tmp_path / "data"
    write(root / "synthetic" / "skull")
    write(root / "synthetic" / "a robot", frames=7)
    write(root / "in-the-wild" / "blooming_rose", shade=30)
    write(root / "in-the-wild" / "blooming_rose_mask")
    write(root / "test_dataset" / "eval_gt" / "skull" / "eval_0")
    write(root / ".trash" / "pistol")
    (root / "synthetic" / "notes").mkdir()
    (root / "readme.txt").write_text("x")
    return root


def test_every_folder_of_frames_is_a_scene(release: Path) -> None:
    dataset = open_dataset("consistent4d-videos", release)
    assert list(dataset.scene_names()) == ["a robot", "blooming_rose", "skull"]
    scene = dataset.scene("a robot")
    assert [path.name for path in scene.input.frames] == [f"{n}.png" for n in range(7)]
    assert len(scene.clip()) == 7
    assert scene.tags == {"synthetic"}
    assert dataset.scene("blooming_rose").tags == {"in-the-wild"}
    assert scene.input.frames[3] == release / "synthetic" / "a robot" / "3.png"
    assert [(view.name, view.azimuth_deg, list(view.frames)) for view in scene.views] == [
        ("eval_0", -75.0, []),
        ("eval_1", 15.0, []),
        ("eval_2", 105.0, []),
        ("eval_3", 195.0, []),
    ]
    for view in (scene.input, *scene.views):
        assert view.cameras is not None
        assert (view.cameras.kind, view.cameras.width, view.cameras.height) == ("pinhole", 20, 16)
    assert any("distance 2" in clause for clause in scene.assumed)
    assert any("is not stated" in clause for clause in scene.assumed)
    assert len(pickle.loads(pickle.dumps(scene)).clip()) == 7
    with pytest.raises(ConfigError, match="Did you mean 'skull'"):
        dataset.scene("skul")


def test_another_video_beside_it_changes_no_scene(release: Path) -> None:
    before = scene_digest(Consistent4DVideos(release).scene("skull"))
    write(release / "in-the-wild" / "a cat")
    assert scene_digest(Consistent4DVideos(release).scene("skull")) == before


def test_coverage_names_what_is_here_and_what_is_known_to_be_missing(release: Path) -> None:
    said = Consistent4DVideos(release).coverage()
    assert said.startswith("3 videos, of 24 that the paper states")
    assert "in-the-wild: blooming_rose; synthetic: a robot, skull" in said
    missing = said.partition("not here: ")[2]
    assert "pistol (test set)" in missing
    assert "skull" not in missing
    for name in NAMED:
        write(release / "more" / name) if name not in ("skull", "blooming_rose") else None
    assert "not here" not in Consistent4DVideos(release).coverage()


def test_where_it_looks(release: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="MVTF_CONSISTENT4D_VIDEOS is not set"):
        Consistent4DVideos().scene_names()
    monkeypatch.setenv("MVTF_CONSISTENT4D", str(release / "test_dataset"))
    assert len(Consistent4DVideos().scene_names()) == 3, "beside the test set"
    monkeypatch.setenv("MVTF_CONSISTENT4D_VIDEOS", str(release / "in-the-wild"))
    assert list(Consistent4DVideos().scene_names()) == ["blooming_rose"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no folder of frames"):
        Consistent4DVideos(tmp_path / "empty").scene_names()
    with pytest.raises(DataError, match=r"gone: no such folder of input videos"):
        Consistent4DVideos(tmp_path / "gone").scene_names()


def test_two_of_one_name_are_refused(release: Path) -> None:
    write(release / "in-the-wild" / "skull")
    with pytest.raises(DataError, match=r"a second video named 'skull' beside .*in-the-wild"):
        Consistent4DVideos(release).scene_names()


def test_on_the_command_line(release: Path, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scored on the input view by default, and verified without a number that must be reached."""
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    options = Options(device="cpu", jobs=1)
    grid = {"root": release, "methods": "white", "scenes": None, "seeds": None, "protocol": None}
    for table in ("table1", "table3"):
        request = request_of(table, options, dataset="consistent4d-videos", runs=tmp_path / "runs", **grid)  # type: ignore[arg-type]
        assert request.protocol.name == "refview-v1"
        assert list(request.scenes) == ["a robot", "blooming_rose", "skull"]
    place = ["--dataset", "consistent4d-videos", "--root", release, "--runs", tmp_path / "runs"]
    rows = [
        "--methods",
        "ground-truth,white",
        "--scenes",
        "skull,blooming_rose",
        "--no-quoted",
        "--json",
        "--jobs",
        1,
    ]
    done = cli("table1", *place, *rows)
    assert done.code == 0, done.err
    table = json.loads(done.out)
    column = [column["key"] for column in table["columns"]].index("psnr")
    values = {row["label"]: row["cells"][column] for row in table["rows"]}
    assert values["white"]["have"] == 2
    assert values["white"]["value"] < values["ground-truth"]["value"]
    assert any(note.startswith("Assumed of consistent4d-videos: cameras") for note in table["footnotes"])
    verified = cli("datasets", "verify", "consistent4d-videos", "--root", release)
    assert verified.code == 0, verified.err
    assert "3 videos, of 24" in verified.err
    (release / "synthetic" / "skull" / "2.png").write_bytes(b"x")
    verified = cli("datasets", "verify", "consistent4d-videos", "--root", release)
    assert verified.code == 2
    assert "skull" in verified.out
