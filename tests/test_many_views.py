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
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "data" / "many_views"))
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


def test_eight_views_at_elevation_15_in_a_layout_of_their_own(cli: Cli, tmp_path: Path) -> None:
    eight = grid(tmp_path, "EightViews")
    asked = ["--methods", METHODS, "--protocol", "toy4d-v1"]
    table = json.loads(run(cli, "table2", *eight, *asked, "--jobs", 2, "--no-quoted", "--json"))
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
    first = json.loads(run(cli, "table1", *eight, *asked, "--no-quoted", "--json"))
    assert cells(first, "PSNR")["ground-truth"]["value"] == 100.0


def test_metrics_between_views_take_all_views_of_the_scene(cli: Cli, tmp_path: Path) -> None:
    eight = grid(tmp_path, "EightViews")
    asked = ["--methods", "ground-truth,copy-input", "--protocol", "toy4d-v2"]
    table = json.loads(run(cli, "table1", *eight, *asked, "--no-quoted", "--json"))
    between = cells(table, "CLIP-toy views")
    assert between["copy-input"]["value"] == pytest.approx(1.0)
    assert between["ground-truth"]["value"] < 0.9999
