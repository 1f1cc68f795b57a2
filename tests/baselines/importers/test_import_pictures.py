"""Anybody's pictures as a row: numbering, names, videos, RGBA, azimuths in names; what is refused and how."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines.importers.contract import Given, Wanted, numbered, standard_views
from mvtokenflow.baselines.importers.folder import checked_scenes, import_folder
from mvtokenflow.baselines.importers.pictures import azimuth_in
from mvtokenflow.media.pictures import read_rgb
from mvtokenflow.media.video import write_video

Cli = Callable[..., Any]
AZIMUTHS = {"input": 0, "eval_0": 285, "eval_1": 15, "eval_2": 105, "eval_3": 195}


def quiet(stage: str, done: int, total: int) -> None:
    pass


def save(path: Path, picture: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture(scope="module")
def data(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("data")
    for name in tiny.SCENES:
        tiny.Tiny(root).scene(name)
    return root


@pytest.fixture
def by_azimuth(tiny: ModuleType, tmp_path: Path) -> Path:
    """`ant/az_285/frame_0001.png`, as a program that counts from 1 and turns to the right writes it."""
    for view, azimuth in AZIMUTHS.items():
        for number, picture in enumerate(tiny.pictures("ant", view), 1):
            save(tmp_path / "theirs" / "ant" / f"az_{azimuth}" / f"frame_{number:04d}.png", picture)
    return tmp_path / "theirs"


@pytest.fixture
def run(cli: Cli, data: Path, tmp_path: Path) -> Cli:
    """`mvtf-eval import SRC -o out` for the tiny dataset."""

    def imports(source: Path, *words: object, out: str = "out") -> Any:
        place = ("--dataset", "tinyscenes:Tiny", "--root", data)
        return cli("import", source, "-o", tmp_path / out, *place, *words)

    return imports


def written(tmp_path: Path, view: str, out: str = "out", scene: str = "ant") -> Any:
    paths = sorted((tmp_path / out / scene / view).glob("*.png"), key=lambda path: int(path.stem))
    return [path.stem for path in paths], np.stack([read_rgb(path) for path in paths])


def test_folders_by_azimuth_numbered_from_one(
    by_azimuth: Path, run: Cli, tiny: ModuleType, tmp_path: Path
) -> None:
    done = run(by_azimuth)
    assert done.code == 0, done.err
    assert "numbered from 1, written from 0" in done.err
    for view, azimuth in AZIMUTHS.items():
        names, pictures = written(tmp_path, view)
        assert names == ["0", "1", "2", "3"]
        assert (pictures == tiny.pictures("ant", view)).all(), azimuth
    record = json.loads((tmp_path / "out/ant/import.json").read_text())
    assert record["kind"] == "pictures"
    assert record["views"]["eval_0"] == {"from": "az_285", "azimuth_deg": 285.0, "degrees_off": 0.0}
    assert len(record["files"]) == 20
    assert len(record["files"]["az_15/frame_0003.png"]) == 64


def test_the_same_import_is_there_and_another_is_refused(by_azimuth: Path, run: Cli, tmp_path: Path) -> None:
    assert run(by_azimuth).code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    again = run(by_azimuth)
    assert again.code == 0
    assert "already there" in again.err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")} == before
    (tmp_path / "out/ant/eval_1/2.png").unlink()  # as if it had been interrupted
    assert "already there" not in run(by_azimuth).err
    assert {p: p.read_bytes() for p in before}  # all are there again
    save(by_azimuth / "ant/az_15/frame_0002.png", np.zeros((32, 32, 3), np.uint8))
    other = run(by_azimuth)
    assert other.code == 2
    assert "of another import (files: az_15/frame_0002.png)" in other.err
    (tmp_path / "mine/ant").mkdir(parents=True)
    (tmp_path / "mine/ant/notes.txt").write_text("x")
    stray = run(by_azimuth, out="mine")
    assert stray.code == 2
    assert "holds files and no import.json" in stray.err
    assert sorted(p.name for p in (tmp_path / "mine/ant").iterdir()) == ["notes.txt"]


def test_videos_and_rgba(run: Cli, tiny: ModuleType, tmp_path: Path) -> None:
    for view in AZIMUTHS:
        pictures = tiny.pictures("ant", view)
        (tmp_path / "mp4" / "ant").mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / "mp4" / "ant" / f"{view}.mp4", pictures, 10)
        for number, (picture, mask) in enumerate(zip(pictures, tiny.masks(view), strict=True)):
            black = picture * mask[..., None]  # what lies under alpha 0 must not show
            rgba = np.concatenate([black, 255 * mask[..., None].astype(np.uint8)], -1)
            save(tmp_path / "rgba" / "ant" / view / f"{number}.png", rgba.astype(np.uint8))
    done = run(tmp_path / "mp4", out="from-mp4")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "from-mp4/ant/import.json").read_text())["codec"] == ["h264"]
    assert "went through h264, with loss" in done.err
    names, pictures = written(tmp_path, "eval_1", "from-mp4")
    assert names == ["0", "1", "2", "3"]
    assert np.abs(pictures.astype(int) - tiny.pictures("ant", "eval_1")).mean() < 12  # noise at 4:2:0
    done = run(tmp_path / "rgba", out="from-rgba")
    assert "RGBA put on white" in done.err
    assert (written(tmp_path, "eval_1", "from-rgba")[1] == tiny.pictures("ant", "eval_1")).all()


def test_a_view_map_and_what_is_left_out(by_azimuth: Path, run: Cli, tiny: ModuleType, tmp_path: Path) -> None:
    (by_azimuth / "ant/az_285").rename(by_azimuth / "ant/left side")
    (by_azimuth / "ant/az_195").rename(by_azimuth / "ant/az_200")
    done = run(by_azimuth, "--views", "left side=eval_0", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)["ant"]
    assert record["not imported"] == ["az_200"]
    assert "without eval_3" in record["remarks"]
    assert (written(tmp_path, "eval_0")[1] == tiny.pictures("ant", "eval_0")).all()
    near = run(by_azimuth, "--views", "left side=eval_0", "--nearest", 5, "--json", out="near")
    assert json.loads(near.out)["ant"]["views"]["eval_3"]["degrees_off"] == 5.0
    assert "nearest views: eval_3 +5 degrees off" in json.loads(near.out)["ant"]["remarks"]


@pytest.mark.parametrize(
    ("views", "said"),
    [
        ("az_17=eval_0", "has az_0, az_105, az_15, az_195, az_285 and no az_17"),
        ("az_285=eval_9", "the views are eval_0, eval_1, eval_2, eval_3, input"),
        ("az_285", "write NAME=VIEW pairs"),
        ("az_285=eval_0,az_15=eval_0", "each name and view once"),
    ],
)
def test_wrong_view_maps(by_azimuth: Path, run: Cli, views: str, said: str) -> None:
    done = run(by_azimuth, "--views", views)
    assert done.code == 2
    assert said in done.err


def _remove(root: Path) -> None:
    (root / "ant/az_15/frame_0002.png").unlink()


def _cut(root: Path) -> None:
    path = root / "ant/az_15/frame_0002.png"
    path.write_bytes(path.read_bytes()[:90])


def _grow(root: Path) -> None:
    save(root / "ant/az_15/frame_0002.png", np.full((40, 40, 3), 255, np.uint8))


def _lengthen(root: Path) -> None:
    shutil.copy(root / "ant/az_15/frame_0004.png", root / "ant/az_15/frame_0005.png")


def _shorten(root: Path) -> None:
    (root / "ant/az_15/frame_0004.png").unlink()


def _twice(root: Path) -> None:
    shutil.copytree(root / "ant/az_15", root / "ant/az_-345")


def _elsewhere(root: Path) -> None:
    for path in list((root / "ant").iterdir()):
        path.rename(path.with_name(path.name.replace("az_", "view")))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove, "az_15: frame 2 is missing"),
        (_cut, "frame_0002.png: truncated PNG (90 bytes"),
        (_grow, "frame_0002.png: 40x40 pixels, but frame_0001.png has 32x32"),
        (_lengthen, "az_15: 5 frames, the dataset has 4"),
        (
            _shorten,
            "az_15: numbered from 1, 3 frames; if that is the first frame of the clip say `mvtf-eval",
        ),
        (_twice, "are both eval_1"),
        (
            _elsewhere,
            "which is no view of eval_0, eval_1, eval_2, eval_3, input; say which is which with",
        ),
    ],
)
def test_bad_pictures_are_refused_before_anything_is_written(
    by_azimuth: Path, run: Cli, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(by_azimuth)
    done = run(by_azimuth)
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "out").exists()


def test_fewer_frames_than_the_dataset_are_counted_and_not_resampled(
    by_azimuth: Path, run: Cli, tmp_path: Path
) -> None:
    for azimuth in AZIMUTHS.values():
        (by_azimuth / f"ant/az_{azimuth}/frame_0004.png").unlink()
    assert "--first 1" in run(by_azimuth).err
    done = run(by_azimuth, "--first", 1)
    assert done.code == 0, done.err
    assert "3 of 4 frames" in done.err
    assert written(tmp_path, "eval_2")[0] == ["0", "1", "2"]
    missing = run(by_azimuth, "--first", 0, out="other")
    assert "frame 0 is missing" in missing.err


def test_numbers() -> None:
    where = Path("x")
    assert numbered([1, 2, 3], None, None, where) == ((0, 1, 2), ("numbered from 1, written from 0",))
    assert numbered([0, 5, 10], [0, 5, 10], None, where) == ((0, 5, 10), ())
    assert numbered([0, 5], [0, 5, 10], None, where) == ((0, 5), ("2 of 3 frames",))
    assert numbered([0, 1], [7, 9], None, where)[0] == (7, 9)
    assert numbered([4, 5], None, 4, where)[0] == (0, 1)
    with pytest.raises(DataError, match="numbered from 4"):
        numbered([4, 5], None, None, where)
    with pytest.raises(DataError, match="frame 1 is missing"):
        numbered([0, 2], None, None, where)


@pytest.mark.parametrize(
    ("label", "degrees"),
    [
        *[("az_285", 285), ("az-75", -75), ("azimuth_15.5", 15.5), ("A105", 105), ("195deg", 195)],
        *[("view_3", None), ("eval_0", None), ("0001", None), ("azure_1", None), ("az_1_2", None)],
    ],
)
def test_azimuths_in_names(label: str, degrees: float | None) -> None:
    assert azimuth_in(label) == degrees


def test_without_a_dataset_the_views_are_those_of_consistent4d(
    by_azimuth: Path, cli: Cli, tmp_path: Path
) -> None:
    done = cli("import", by_azimuth, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "out/ant").iterdir()) == sorted([*AZIMUTHS, "import.json"])
    one = cli("import", by_azimuth / "ant", "-o", tmp_path / "one", "--scene", "wasp")
    assert one.code == 0, one.err
    assert (tmp_path / "one/wasp/eval_3/0.png").is_file()


def test_which_scene(by_azimuth: Path, run: Cli, cli: Cli, tmp_path: Path) -> None:
    assert run(by_azimuth / "ant").code == 0  # by the folder's name
    (by_azimuth / "ant").rename(tmp_path / "result")
    unsure = run(tmp_path / "result", out="b")
    assert unsure.code == 2
    assert "holds the results of one scene; say of which with `mvtf-eval import --scene NAME`" in unsure.err
    assert run(tmp_path / "result", "--scene", "bee", out="b").code == 0
    assert (tmp_path / "b/bee/eval_0/0.png").is_file()
    wrong = run(tmp_path / "result", "--scene", "../bee", out="b")
    assert wrong.code == 2
    assert "../bee becomes a folder" in wrong.err
    (tmp_path / "many/x").mkdir(parents=True)
    (tmp_path / "result").rename(tmp_path / "many/x/result")
    lost = run(tmp_path / "many", out="c")
    assert lost.code == 2
    assert "none of its folders (x) is named as a scene (ant, bee, cow)" in lost.err
    assert "pictures lacks a folder of pictures or a video for each view" in lost.err
    unknown = cli("import", tmp_path / "many", "-o", tmp_path / "c", "--kind", "nerf")
    assert unknown.code == 2
    assert "no kind of results 'nerf'" in unknown.err


def test_a_folder_is_one_row(by_azimuth: Path, run: Cli, tmp_path: Path) -> None:
    assert run(by_azimuth).code == 0
    record = tmp_path / "out/ant/import.json"
    record.write_text(record.read_text().replace('"pictures"', '"sc4d"'))
    shutil.copytree(by_azimuth / "ant", tmp_path / "more/bee")
    done = run(tmp_path / "more")
    assert done.code == 2
    assert (
        "of another row: one folder is one method under one set of assumptions (kind: sc4d, now pictures)"
        in (" ".join(done.err.split()))
    )
    assert not (tmp_path / "out/bee").exists()


def test_damaged_records_are_refused(by_azimuth: Path, run: Cli, cli: Cli, data: Path, tmp_path: Path) -> None:
    assert run(by_azimuth).code == 0
    record = tmp_path / "out/ant/import.json"
    good = record.read_text()
    for bad in (
        good[:50],
        good.replace('"eval_0"', '"../eval_0"'),
        good.replace('"remarks": [', '"remarks": [3,'),
    ):
        record.write_text(bad)
        done = run(by_azimuth)
        assert done.code == 2
        assert "import.json: damaged" in done.err


# ---- tables and scores ----


def table(cli: Cli, data: Path, runs: Path, *words: object) -> Any:
    place = ("--dataset", "tinyscenes:Tiny", "--root", data, "--runs", runs, "--protocol", "toy4d-v1")
    return cli("table2", *place, "--no-quoted", "--jobs", 1, "--json", *words)


def psnr(document: Any, label: str) -> Any:
    at = [column["key"] for column in document["columns"]].index("psnr")
    return next(row for row in document["rows"] if row["label"] == label)["cells"][at]


def test_a_table_takes_the_same_folders(
    by_azimuth: Path, run: Cli, cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    assert run(by_azimuth).code == 0
    words = ("--methods", "ground-truth", "--scenes", "ant", "--import", f"direct={by_azimuth}")
    done = table(cli, data, tmp_path / "runs", *words, "--import", f"made={tmp_path / 'out'}")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert psnr(document, "direct")["value"] == psnr(document, "made")["value"] == 100
    sources = {row["label"]: row["source"] for row in document["rows"]}
    assert sources["direct"] == sources["made"] == "upstream-run"
    assert "direct was imported as pictures: numbered from 1, written from 0." in document["footnotes"]
    manifests = [json.loads(p.read_text()) for p in (tmp_path / "runs/tiny").rglob("manifest.json")]
    imported = [m for m in manifests if m["method"] in ("direct", "made")]
    assert [m["config"]["import"]["kind"] for m in imported] == ["pictures", "pictures"]
    again = table(cli, data, tmp_path / "runs", *words, "--import", f"made={tmp_path / 'out'}")
    assert again.out == done.out
    assert len(list((tmp_path / "runs/tiny").rglob("manifest.json"))) == len(manifests)


def test_a_table_refuses_what_cannot_be_read_before_it_renders(
    by_azimuth: Path, cli: Cli, data: Path, tmp_path: Path
) -> None:
    _remove(by_azimuth)
    done = table(cli, data, tmp_path / "runs", "--methods", "white", "--import", f"x={by_azimuth}")
    assert done.code == 2
    assert "az_15: frame 2 is missing" in done.err
    assert not (tmp_path / "runs").exists()
    _elsewhere(by_azimuth)
    done = table(cli, data, tmp_path / "runs", "--methods", "white", "--import", f"x={by_azimuth}")
    assert f"in full `mvtf-eval import {by_azimuth} -o renders/x --dataset tinyscenes:Tiny" in " ".join(
        done.err.split()
    )


def test_an_unfinished_import_is_no_row(
    by_azimuth: Path, run: Cli, cli: Cli, data: Path, tmp_path: Path
) -> None:
    assert run(by_azimuth).code == 0
    (tmp_path / "out/ant/eval_1/2.png").unlink()
    words = ("--methods", "ground-truth", "--scenes", "ant", "--import", f"made={tmp_path / 'out'}")
    done = table(cli, data, tmp_path / "runs", *words)
    assert done.code == 2
    assert "eval_1/2.png: not written yet" in done.out


def test_score_says_which_import_mends_a_refusal(
    by_azimuth: Path, cli: Cli, data: Path, tmp_path: Path
) -> None:
    reference = tmp_path / "gt"
    for view in AZIMUTHS:
        shutil.copytree(data / "ant" / view, reference / "ant" / view)
    refused = cli("score", by_azimuth, "--gt", reference, "--protocol", "toy4d-v1")
    assert refused.code == 2
    command = f"mvtf-eval import {by_azimuth} --gt {reference} -o renders/theirs-imported"
    assert command in " ".join(refused.err.split())
    done = cli("import", by_azimuth, "--gt", reference, "-o", tmp_path / "mended")
    assert done.code == 0, done.err
    assert written(tmp_path, "eval_0", "mended")[0] == ["0", "1", "2", "3"]
    # Views that are exchanged cannot be mended so.
    views = tmp_path / "mended/ant"
    (views / "eval_0").rename(views / "x")
    (views / "eval_1").rename(views / "eval_0")
    (views / "x").rename(views / "eval_1")
    wrong = cli("score", tmp_path / "mended", "--gt", reference, "--protocol", "toy4d-v1")
    assert wrong.code == 2
    assert "silhouettes match reference" in wrong.err
    assert "mvtf-eval import" not in wrong.err


def test_from_python(by_azimuth: Path, tmp_path: Path) -> None:
    imports = checked_scenes(by_azimuth, lambda name: standard_views(), None, Given())
    assert import_folder(imports, tmp_path / "out", quiet) == {"ant": True}
    assert import_folder(imports, tmp_path / "out", quiet) == {"ant": False}
    raised = [Wanted(name="up", azimuth_deg=15.0, elevation_deg=30.0)]
    with pytest.raises(DataError, match="which is no view of up"):
        checked_scenes(by_azimuth, lambda name: raised, None, Given())
    with pytest.raises(ConfigError, match="the views are up"):
        checked_scenes(by_azimuth, lambda name: raised, None, Given(views={"az_15": "eval_1"}))
