"""Scenes with other views, names, frames and layouts than the benchmark's, from renderings to pages."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mvtokenflow.eval.records.rows import load_runs

Cli = Callable[..., Any]
METHODS = "ground-truth,blurred,one-frame-lag"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "data" / "many_views"))
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "weights"))


def grid(tmp_path: Path, kind: str) -> list[Any]:
    return ["--dataset", f"manyviews:{kind}", "--root", tmp_path / kind, "--runs", tmp_path / "runs"]


def run(cli: Cli, *words: Any) -> str:
    done = cli(*words)
    assert done.code == 0, done.err
    return str(done.out)


def cells(table: dict[str, Any], title: str) -> dict[str, Any]:
    """One column by row."""
    place = next(i for i, column in enumerate(table["columns"]) if column["title"] == title)
    return {row["label"]: row["cells"][place] for row in table["rows"]}


def shown(site: Path, scene: str) -> dict[str, Any]:
    """What the page of a scene shows, checked: every picture is there, and no folder of ours is named."""
    (script,) = (site / "scenes").glob(f"*{scene}.js")
    data: dict[str, Any] = json.loads(script.read_text().removeprefix("window.SCENE = ").rstrip()[:-1])
    for view in data["pictures"].values():
        for series in view.values():
            assert series["files"], series["why"]
            assert None not in series["files"]
            assert str(site.parent) not in series["why"]
    return data


@pytest.mark.slow
def test_a_matrix_of_21_views_and_21_frames(cli: Cli, tmp_path: Path) -> None:
    matrix = grid(tmp_path, "Matrix")
    asked = ["--methods", METHODS, "--protocol", "toy4d-v1"]
    table = json.loads(run(cli, "table2", *matrix, *asked, "--jobs", 1, "--no-quoted", "--json"))
    assert table["caption"] == "Mean over 21 held-out views."
    psnr, warp = cells(table, "PSNR"), cells(table, "Warp error")
    assert psnr["ground-truth"]["value"] == 100.0 > psnr["blurred"]["value"] > psnr["one-frame-lag"]["value"]
    signature = psnr["blurred"]["provenance"]["signature"]
    assert signature.endswith("|frames:21|views:21|objects:2|seeds:1")
    assert (warp["blurred"]["have"], warp["blurred"]["want"]) == (1, 2), "one scene has exact flow"
    assert warp["blurred"]["provenance"]["signature"].endswith("|frames:20|views:21|objects:1|seeds:1")
    for one in load_runs(tmp_path / "runs"):
        rows = [row for row in one.rows if row.metric == "psnr"]
        assert len(rows) == len({(row.view, row.frame) for row in rows}) == 21 * 21
        assert {row.view for row in rows} == {view["name"] for view in one.manifest.views} - {"input"}
    again = json.loads(run(cli, "table2", *matrix, *asked, "--no-quoted", "--json"))
    assert again == table

    explained = json.loads(run(cli, "explain", "table2", "blurred", "PSNR", *matrix, *asked[2:], "--json"))
    assert len(explained["runs"][0]["values"]["mat-a"]["views"]) == 21
    assert "side u" in explained["runs"][0]["values"]["mat-a"]["views"]

    run(cli, "report", *matrix, *asked, "--tables", "table2", "-o", tmp_path / "site")
    for scene in ("mat-a", "mat-b"):
        data = shown(tmp_path / "site", scene)
        assert len(data["views"]) == len(data["pictures"]) == 22
        assert {len(series["files"]) for view in data["pictures"].values() for series in view.values()} == {21}
        assert {view["elevation"] for view in data["views"]} == {0, 10, 20}


def test_eight_views_at_elevation_15_in_a_layout_of_their_own(cli: Cli, tmp_path: Path) -> None:
    eight = grid(tmp_path, "EightViews")
    asked = ["--methods", METHODS, "--protocol", "toy4d-v1"]
    table = json.loads(run(cli, "table2", *eight, *asked, "--jobs", 1, "--no-quoted", "--json"))
    assert table["caption"] == (
        "Mean over eight held-out views (azimuth 0, 45, 90, 135, 180, 225, 270, 315 degrees, elevation 15)."
    )
    psnr = cells(table, "PSNR")
    assert psnr["ground-truth"]["value"] == 100.0 > psnr["blurred"]["value"]
    signature = psnr["blurred"]["provenance"]["signature"]
    assert "|gt:rgba-on-white" in signature
    assert signature.endswith("|frames:5|views:8|objects:1|seeds:1")
    (one,) = [run for run in load_runs(tmp_path / "runs") if run.manifest.method == "blurred"]
    assert {row.frame for row in one.rows} == {1, 2, 3, 4, 5}, "as the pictures are numbered"
    run(cli, "table2", *eight, *asked, "--no-quoted", "--json", "--site", tmp_path / "site")
    data = shown(tmp_path / "site", "3f9a")
    assert [view["name"] for view in data["views"]][0::8] == ["view_00_az000", "input"]
    assert {len(series["files"]) for view in data["pictures"].values() for series in view.values()} == {5}
    (psnr_id,) = [metric["id"] for metric in data["metrics"] if metric["key"] == "psnr"]
    curves = [line for series in data["values"][psnr_id].values() for line in series.values()]
    assert data["frames"] == 5
    assert {len(line) for line in curves} == {5}, "as the pictures are shown, by position"
    assert not any(None in line for line in curves)
    first = json.loads(run(cli, "table1", *eight, *asked, "--no-quoted", "--json"))
    assert cells(first, "PSNR")["ground-truth"]["value"] == 100.0


@pytest.mark.slow
def test_metrics_between_views_take_all_views_of_the_scene(cli: Cli, tmp_path: Path) -> None:
    eight = grid(tmp_path, "EightViews")
    asked = ["--methods", "ground-truth,copy-input", "--protocol", "toy4d-v2"]
    table = json.loads(run(cli, "table1", *eight, *asked, "--no-quoted", "--json"))
    between = cells(table, "CLIP-toy views")
    assert between["copy-input"]["value"] == pytest.approx(1.0)
    assert between["ground-truth"]["value"] < 0.9999
