"""The static site as files: deterministic, atomic, never destructive, and whole where pictures are not."""

import json
import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import make_manifest
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.records.rows import Row, Run, Stage, load_runs, row_log, run_folder
from mvtokenflow.eval.tables.table import Cell, Column, Table, TableRow
from mvtokenflow.reports.pictures import PictureStore
from mvtokenflow.reports.site import build_site, records_digest

FRAMES, SIDE = 4, 6
VIEWS = ("input", "eval_0", "eval_1")


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def flat(*color: int) -> NDArray[np.uint8]:
    return np.full((SIDE, SIDE, len(color)), color, np.uint8)


def shade(method: int, view: str, frame: int) -> tuple[int, int, int]:
    """A colour that no other picture of the tree has."""
    return (20 + 40 * method, 30 + 60 * VIEWS.index(view), 40 + 50 * frame)


def add_run(
    root: Path, method: str, scene: str, index: int, *, source: str = "native", seed: int = 0, **changes: Any
) -> Path:
    """One run with flat pictures, written through the records' own classes."""
    reference = root.parent / "gt" / scene
    folder = run_folder(root, "toy4d", method, scene, seed, "c0ffee" * 4)
    rows = []
    for view in VIEWS:
        for frame in range(FRAMES):
            save(reference / view / f"{frame}.png", flat(*shade(0, view, frame), 255))
            save(folder / "pred" / view / f"{frame}.png", flat(*shade(index, view, frame)))
            value = math.inf if source == "oracle" else 20.0 + index + frame / 10
            rows.append(
                Row(
                    key=f"{method}{scene}{view}{frame}",
                    object=scene,
                    view=view,
                    frame=frame,
                    metric="psnr",
                    value=value,
                    signature="psnr|p:t",
                )
            )
    clip = Row(
        key="c", object=scene, view="*", frame=None, metric="clip_views", value=0.9, signature="clip_views|p:t"
    )
    row_log(folder).append([*rows, clip])
    fields: dict[str, Any] = {
        "dataset": "toy4d",
        "method": method,
        "source": source,
        "uses_truth": source == "oracle",
        "scene": scene,
        "seed": seed,
        "config": {"steps": 40, "nested": {"tau": 20}},
        "config_hash": "c0ffee" * 4,
        "reference_root": str(reference),
        "views": [
            {"name": view, "azimuth_deg": 15.0 * i, "elevation_deg": 0.0} for i, view in enumerate(VIEWS)
        ],
        "frames": FRAMES,
        "prediction_digest": "ab" * 32,
        "pedigree": {"code": {"version": "0.1", "commit": "f" * 40, "dirty": True}, "device": "cpu"},
        "stages": [Stage(name="render", wall_s=61.0, peak_mib=100.0)],
    }
    make_manifest(**{**fields, **changes}).save(folder / "manifest.json")
    return folder


def make_tables() -> list[Table]:
    column = Column(key="psnr", title="PSNR", better="higher", digits=2, signatures=["psnr|p:t"])
    rows = [
        TableRow(
            label="ours", source="native", group="measured", cells=[Cell(value=21.0, have=2, want=2, rank=1)]
        ),
        TableRow(
            label="a&b <i>", source="native", group="measured", cells=[Cell(value=22.0, have=2, want=2, rank=2)]
        ),
    ]
    return [Table(name="t1", title="T < 1", caption="", columns=[column], rows=rows, footnotes=[])]


def make_tree(root: Path) -> list[Run]:
    """Three methods on two scenes; names are made to break escaping."""
    add_run(root, "truth", "fox", 0, source="oracle")
    add_run(root, "ours", "fox", 1, tags=["held-out-plan"])
    add_run(root, "a&b <i>", "fox", 2)
    add_run(root, "ours", "été & <x>'\"", 1, tags=['<tag> & "q"'])
    return list(load_runs(root))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def scene_data(site: Path, name: str = "toy4d--fox") -> dict[str, Any]:
    text = (site / "scenes" / f"{name}.js").read_text()
    data: dict[str, Any] = json.loads(re.sub(r"\Awindow\.SCENE = |;\n\Z", "", text))
    return data


def stored(site: Path, name: str) -> NDArray[np.uint8]:
    with Image.open(site / "pictures" / name) as opened:
        return np.asarray(opened.convert("RGB"))


def test_same_records_give_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    build_site(make_tables(), make_tree(first / "runs"), first / "site")
    shutil.copytree(first / "runs", second / "runs")
    shutil.copytree(first / "gt", second / "gt")
    for manifest in (second / "runs").rglob("manifest.json"):  # a move changes where the reference lies
        manifest.write_text(manifest.read_text().replace(str(first), str(second)))
    moved = list(load_runs(second / "runs"))
    build_site(make_tables(), list(reversed(moved)), second / "site")
    build_site(make_tables(), moved, first / "site")  # again, in place, reusing pictures
    assert contents(first / "site") == contents(second / "site")
    text = b"".join(data for name, data in contents(first / "site").items() if not name.endswith(".webp"))
    assert str(tmp_path).encode() not in text
    assert sorted(path.name for path in first.iterdir()) == ["gt", "runs", "site"]  # no folders left behind


def test_pictures_are_lossless_paired_by_frame_and_stored_once(tmp_path: Path) -> None:
    build_site(make_tables(), make_tree(tmp_path / "runs"), tmp_path / "site")
    data = scene_data(tmp_path / "site")
    labels = {series["label"]: series["id"] for series in data["series"]}
    for label, index in (("Ground truth", 0), ("truth", 0), ("ours", 1), ("a&b <i>", 2)):
        for view in VIEWS:
            files = data["pictures"][view][labels[label]]["files"]
            assert len(files) == FRAMES
            for frame, name in enumerate(files):
                assert np.array_equal(stored(tmp_path / "site", name), flat(*shade(index, view, frame)))
    # the oracle's pictures are the reference's, the second scene's are the first's
    assert len(list((tmp_path / "site" / "pictures").iterdir())) == 3 * len(VIEWS) * FRAMES


def test_values_keep_their_frames_and_infinities(tmp_path: Path) -> None:
    build_site(make_tables(), make_tree(tmp_path / "runs"), tmp_path / "site")
    data = scene_data(tmp_path / "site")
    assert [series["label"] for series in data["series"]] == ["Ground truth", "ours", "a&b <i>", "truth"]
    assert [series["kind"] for series in data["series"]] == ["truth", "measured", "measured", "oracle"]
    assert data["values"]["psnr"]["m0"]["eval_1"] == [21.0, 21.1, 21.2, 21.3]
    assert data["values"]["psnr"]["m2"]["eval_1"] == ["inf"] * FRAMES
    psnr, clip = data["metrics"]
    assert (psnr["title"], psnr["better"], psnr["perFrame"]) == ("PSNR", "higher", True)
    assert (clip["id"], clip["better"], clip["perFrame"]) == ("clip_views", "higher", False)
    assert data["clips"][0] == {"metric": "clip_views", "series": "m0", "view": "*", "value": 0.9}
    assert [view["name"] for view in data["views"]] == ["eval_0", "eval_1", "input"]


def test_one_metric_under_two_protocols_stays_two_metrics(tmp_path: Path) -> None:
    folder = add_run(tmp_path / "runs", "ours", "fox", 1)
    other = Row(key="o", object="fox", view="eval_0", frame=2, metric="psnr", value=9.0, signature="psnr|p:u")
    again = Row(key="p", object="fox", view="eval_0", frame=2, metric="psnr", value=8.0, signature="psnr|p:u")
    row_log(folder).append([other, again])
    build_site(make_tables(), list(load_runs(tmp_path / "runs")), tmp_path / "site")
    data = scene_data(tmp_path / "site")
    assert data["values"]["psnr~psnr|p:u"]["m0"]["eval_0"] == [None, None, 8.0]  # the last row counts
    assert data["values"]["psnr~psnr|p:t"]["m0"]["eval_0"][2] == 21.2
    assert [m["title"] for m in data["metrics"] if m["perFrame"]] == ["PSNR (p:t)", "PSNR (p:u)"]


def test_seeds_and_configurations_are_told_apart(tmp_path: Path) -> None:
    add_run(tmp_path / "runs", "ours", "fox", 1)
    add_run(tmp_path / "runs", "ours", "fox", 2, seed=1)
    add_run(tmp_path / "runs", "other", "fox", 3, seed=1)
    build_site([], list(load_runs(tmp_path / "runs")), tmp_path / "site")
    labels = [series["label"] for series in scene_data(tmp_path / "site")["series"]]
    assert labels == ["Ground truth", "other", "ours · seed 0", "ours · seed 1"]


def test_transparent_references_are_composited_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0], rgba[0, 1], rgba[1, 0] = (10, 20, 30, 255), (10, 20, 30, 128), (200, 0, 77, 1)
    save(tmp_path / "a.png", rgba)
    picture = PictureStore(tmp_path / "site" / "pictures", 64).add(tmp_path / "a.png")
    alpha = rgba[..., 3:] / 255.0
    expected = np.floor(rgba[..., :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)
    assert np.array_equal(stored(tmp_path / "site", picture.name), expected)


def test_large_pictures_are_reduced_and_the_page_says_so(tmp_path: Path) -> None:
    folder = add_run(tmp_path / "runs", "ours", "fox", 1)
    save(folder / "pred" / "eval_0" / "0.png", np.zeros((40, 80, 3), np.uint8))
    build_site([], list(load_runs(tmp_path / "runs")), tmp_path / "site", max_size=20)
    data = scene_data(tmp_path / "site")
    assert stored(tmp_path / "site", data["pictures"]["eval_0"]["m0"]["files"][0]).shape == (10, 20, 3)
    assert "reduced from 80 × 40 pixels" in (tmp_path / "site" / "scenes" / "toy4d--fox.html").read_text()
    with pytest.raises(ValueError, match="max_size is 0"):
        build_site([], [], tmp_path / "other", max_size=0)


def test_missing_and_broken_pictures_become_reasons(tmp_path: Path) -> None:
    folder = add_run(tmp_path / "runs", "ours", "fox", 1)
    shutil.rmtree(folder / "pred" / "eval_0")
    (folder / "pred" / "eval_1" / "3.png").unlink()
    torn = folder / "pred" / "eval_1" / "1.png"
    torn.write_bytes(torn.read_bytes()[:40])
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(folder / "pred" / "eval_1" / "2.png")
    shutil.rmtree(tmp_path / "gt" / "fox" / "input")
    build_site([], list(load_runs(tmp_path / "runs")), tmp_path / "site")
    pictures = scene_data(tmp_path / "site")["pictures"]
    assert pictures["eval_0"]["m0"]["files"] == []
    assert "toy4d/ours/fox/seed0-c0ffeec0ff/pred/eval_0: no such folder" in pictures["eval_0"]["m0"]["why"]
    assert pictures["input"]["gt"]["why"].startswith("reference/input: no such folder")
    partial = pictures["eval_1"]["m0"]
    assert [bool(name) for name in partial["files"]] == [True, False, False]
    assert "1.png: not a readable picture" in partial["broken"]["1"]
    assert "2.png: mode I;16 is not 8 bits" in partial["broken"]["2"]


def test_a_scene_without_any_picture_still_has_a_page(tmp_path: Path) -> None:
    folder = add_run(tmp_path / "runs", "ours", "fox", 1)
    shutil.rmtree(folder / "pred")
    shutil.rmtree(tmp_path / "gt")
    build_site([], list(load_runs(tmp_path / "runs")), tmp_path / "site")
    assert "no pictures" in (tmp_path / "site" / "index.html").read_text()
    assert not (tmp_path / "site" / "pictures").exists()


def test_names_are_escaped_on_every_page(tmp_path: Path) -> None:
    build_site(make_tables(), make_tree(tmp_path / "runs"), tmp_path / "site", title="<T> & co")
    pages = [path.read_text() for path in (tmp_path / "site").rglob("*.html")]
    assert len(pages) == 3
    for page in pages:
        assert not re.search(r"<(?:i|x|tag|T)>", page)
        for source in re.findall(r'(?:src|href)="([^"]*)"', page):
            assert not re.match(r"https?:|//|/", source), source
    index = (tmp_path / "site" / "index.html").read_text()
    slug = re.findall(r'href="scenes/([^"]+)\.html"', index)
    assert slug == ["toy4d--fox", "toy4d--%C3%A9t%C3%A9_x_"]
    assert (tmp_path / "site" / "scenes" / "toy4d--été_x_.html").exists()
    tags = re.findall(r'data-tags="([^"]*)"', index)
    assert tags[0] == "[&#34;held-out-plan&#34;]"


def test_scenes_that_clean_to_the_same_name_keep_their_own_pages(tmp_path: Path) -> None:
    for scene in ("a b", "a&b"):
        add_run(tmp_path / "runs", "ours", scene, 1)
    build_site([], list(load_runs(tmp_path / "runs")), tmp_path / "site")
    assert scene_data(tmp_path / "site", "toy4d--a_b")["scene"] == "a b"
    assert scene_data(tmp_path / "site", "toy4d--a_b~2")["scene"] == "a&b"


def test_only_a_site_is_replaced(tmp_path: Path) -> None:
    runs = make_tree(tmp_path / "runs")
    precious = tmp_path / "docs" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years")
    with pytest.raises(DataError, match="not a site built here"):
        build_site([], runs, tmp_path / "docs")
    with pytest.raises(DataError, match="is a file"):
        build_site([], runs, precious)
    site = tmp_path / "site"
    site.mkdir()  # empty is fine
    build_site(make_tables(), runs, site)
    (site / "scenes" / "notes.md").write_text("mine")
    with pytest.raises(DataError, match=r"not the site's \(scenes/notes.md\)"):
        build_site([], runs, site)
    assert precious.read_text() == "years"
    assert (site / "scenes" / "notes.md").read_text() == "mine"


def test_a_failed_build_leaves_the_old_site(tmp_path: Path) -> None:
    runs = make_tree(tmp_path / "runs")
    build_site(make_tables(), runs, tmp_path / "site")
    before = contents(tmp_path / "site")
    table = make_tables()[0]
    malformed = replace(table, rows=[replace(table.rows[0], cells=[])])
    with pytest.raises(DataError, match="0 cells for 1 columns"):
        build_site([malformed], runs[:1], tmp_path / "site")

    def interrupted(stage: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_site([], runs, tmp_path / "site", interrupted)
    with pytest.raises(DataError, match="two tables share a name"):
        build_site([table, table], runs, tmp_path / "site")
    assert contents(tmp_path / "site") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gt", "runs", "site"]


def test_progress_counts_every_sequence(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    build_site([], make_tree(tmp_path / "runs"), tmp_path / "site", lambda *step: seen.append(step))
    total = (1 + 3) * len(VIEWS) + (1 + 1) * len(VIEWS)
    assert seen == [("pictures", done, total) for done in range(1, total + 1)]


def test_the_digest_follows_records_not_places(tmp_path: Path) -> None:
    runs: Sequence[Run] = make_tree(tmp_path / "runs")
    moved = [replace(run, manifest=replace(run.manifest, reference_root="/elsewhere")) for run in runs]
    assert records_digest(runs) == records_digest(list(reversed(moved)))
    changed = [replace(runs[0], rows=[replace(runs[0].rows[0], value=1.0), *runs[0].rows[1:]]), *runs[1:]]
    assert records_digest(runs) != records_digest(changed)
    assert records_digest(runs) != records_digest(runs[1:])


def test_provenance_of_every_run_is_on_its_page(tmp_path: Path) -> None:
    runs = [replace(run, missing={"fvd": "needs <2 clips>"}) for run in make_tree(tmp_path / "runs")]
    build_site(make_tables(), runs, tmp_path / "site")
    page = (tmp_path / "site" / "scenes" / "toy4d--fox.html").read_text()
    assert page.count("<dt>fvd</dt><dd>needs &lt;2 clips&gt;</dd>") == 3
    assert page.count('<details class="run">') == 3
    for text in ("toy4d/ours/fox/seed0-c0ffeec0ff", "ab" * 32, "f" * 40, "1 min 01 s", "tau", "100"):
        assert text in page
    index = (tmp_path / "site" / "index.html").read_text()
    assert f"0.1 {'f' * 10} with local changes" in index
    assert f"sha256 {records_digest(list(load_runs(tmp_path / 'runs')))[:16]}" in index


def test_pages_name_no_folder_of_the_machine_that_made_them(tmp_path: Path) -> None:
    home = "/home/some body"
    why = "needs /srv/somebody/w.safetensors (or `/srv/somebody/clip/`); write `mvtf-eval weights fetch`"
    add_run(
        tmp_path / "runs",
        "ours",
        "fox",
        1,
        config={"prior": f"{home}/prior.safetensors", "steps": [{"at": f"{home}/x"}]},
        pedigree={
            "command": [
                "mvtf-eval",
                "table1",
                "--runs",
                f"{home}/runs",
                f"--import=mine={home}/r",
                f"a={home}/b",
            ],
            "weights": {"lpips": "ab/cd"},
        },
    )
    runs = [replace(run, missing={"fvd": why}) for run in load_runs(tmp_path / "runs")]
    (table,) = make_tables()
    cell = Cell(
        value=None, reason=f"no frames in {tmp_path}/gt/fox", provenance={"config": {"at": f"{home}/c"}}
    )
    rows = [replace(row, cells=[cell]) for row in table.rows]
    noted = replace(table, rows=rows, footnotes=["ours on fox: /srv/somebody/fox: no such folder"])
    site = build_site([noted], runs, tmp_path / "site").parent
    texts = [path.read_text() for path in site.rglob("*") if path.suffix in (".html", ".js", ".json")]
    for text in texts:
        assert not re.search(r"some ?body|/home|/srv", text)
        assert str(tmp_path) not in text
    page = (site / "scenes" / "toy4d--fox.html").read_text()
    assert "<dd>mvtf-eval table1 --runs …/runs --import=mine=…/r a=…/b</dd>" in page
    assert "<dd>needs …/w.safetensors (or `…/clip/`); write `mvtf-eval weights fetch`</dd>" in page
    assert "<dd>…/prior.safetensors</dd>" in page
    assert "<dd>ab/cd</dd>" in page
    index = (site / "index.html").read_text()
    assert "ours on fox: …/fox: no such folder" in index
    assert "no frames in …/fox" in index


def test_tables_alone_make_a_site(tmp_path: Path) -> None:
    index = build_site(make_tables(), [], tmp_path / "site")
    assert index == tmp_path / "site" / "index.html"
    assert "T &lt; 1" in index.read_text()
    assert not (tmp_path / "site" / "scenes").exists()
