"""`mvtf-eval regress` from a recipe to its exit code, on a dataset that takes a second."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from mvtokenflow.eval.gate.documents import load_document

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def _small(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe names the dataset alone, so its folder is where the class puts it; no weights."""
    from mvtokenflow.eval.gate import recipe as regression

    monkeypatch.setattr(regression, "open_dataset", lambda name: tiny.Tiny(tmp_path / "data"))
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "no-weights"))


@pytest.fixture(scope="module")
def written(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline measured once for all tests, twice by one process (two are the slow test's business)."""
    from mvtokenflow.eval.gate import recipe as regression
    from mvtokenflow.eval.score.scoring import Options

    folder = tmp_path_factory.mktemp("baseline")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regression, "open_dataset", lambda name: tiny.Tiny(folder / "data"))
        patch.setattr(regression, "Options", lambda jobs, **options: Options(jobs=1, **options))
        patch.setenv("MVTF_WEIGHTS", str(folder / "no-weights"))
        recipe = regression.Recipe(
            dataset="tiny",
            methods="white,tinyscenes:NATIVE",
            scenes="ant,bee",
            tables="table1,table2,table3",
        )
        regression.write_baseline(
            folder / "three.json", recipe, folder / "runs", Options(), lambda stage, done, total: None
        )
    document = json.loads((folder / "three.json").read_text())
    document["recipe"]["tables"] = "table1"
    document["cells"] = [cell for cell in document["cells"] if cell["object"] == "table1"]
    (folder / "one.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def baseline(written: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copy(written / "one.json", tmp_path / "baseline.json"))


def regress(cli: Any, baseline: Path, tmp_path: Path, *arguments: object) -> Any:
    place = ("--against", baseline, "--trust-baseline", "--runs", tmp_path / "runs")
    return cli("regress", *place, "--jobs", 1, *arguments)


def edit(path: Path, change: Change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def cell(document: dict[str, Any], method: str, metric: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        c
        for c in document["cells"]
        if (c["method"], c["metric"]) == (method, metric) and c["object"] == "table1"
    )
    return found


def better_by(amount: float) -> Change:
    """Claim that the baseline of NATIVE's PSNR was this much better than it is."""

    def change(document: dict[str, Any]) -> None:
        cell(document, "native", "psnr")["value"] += amount

    return change


def other_signature(document: dict[str, Any]) -> None:
    cell(document, "native", "psnr")["signature"] += "|v:9"


def another_metric(document: dict[str, Any]) -> None:
    document["cells"].append({**cell(document, "native", "psnr"), "metric": "lpips"})


def fewer_scenes(document: dict[str, Any]) -> None:
    document["recipe"]["scenes"] = "ant"


def everything(document: dict[str, Any]) -> None:
    better_by(1)(document)
    cell(document, "native", "ssim")["signature"] = "other"
    another_metric(document)


def test_a_baseline_holds_what_was_measured_and_its_recipe(baseline: Path) -> None:
    document = load_document(baseline, "baseline")
    assert document["recipe"] == {
        "dataset": "tiny",
        "methods": "white,tinyscenes:NATIVE",
        "scenes": "ant,bee",
        "seeds": "0",
        "tables": "table1",
        "protocol": "toy4d-v2",
        "preset": "mini",
    }
    metrics = {c["metric"] for c in document["cells"]}
    assert {"psnr", "ssim", "warp", "motion"} <= metrics
    assert "lpips" not in metrics, "what could not be measured is not promised"
    assert all(c["noise"]["repeats"] == 2 and c["noise"]["worst"] == 0 for c in document["cells"])
    assert all(c["tolerance"] > 0 for c in document["cells"])


@pytest.mark.parametrize(
    ("change", "code", "outcome", "says"),
    [
        (better_by(0.0), 0, "ok", ""),
        (better_by(0.0009), 0, "ok", ""),
        (better_by(1.0), 1, "regressed", "worse than the baseline"),
        (better_by(-1.0), 2, "improved", "measure a new baseline"),
        (other_signature, 3, "incomparable", "signature is"),
        (another_metric, 4, "missing", "weights fetch lpips-vgg"),
        (fewer_scenes, 3, "incomparable", "objects:1"),
        (everything, 1, "regressed", "worse than the baseline"),
    ],
    ids=[
        "same",
        "within the floor",
        "worse",
        "better",
        "signature",
        "no weights",
        "fewer scenes",
        "worst wins",
    ],
)
def test_every_outcome_has_its_exit_code_and_its_reports(
    change: Change, code: int, outcome: str, says: str, baseline: Path, cli: Any, tmp_path: Path
) -> None:
    edit(baseline, change)
    markdown, junit = tmp_path / "out" / "summary.md", tmp_path / "out" / "junit.xml"
    ended = regress(cli, baseline, tmp_path, "--markdown", markdown, "--junit", junit, "--json")
    assert ended.code == code, ended.err
    document = json.loads(ended.out)
    assert (document["outcome"], document["exit_code"]) == (outcome, code)
    cells = len(load_document(baseline, "baseline")["cells"])
    assert sum(document["counts"].values()) == cells
    suite = ElementTree.parse(junit).getroot()
    assert len(list(suite.iter("testcase"))) == cells
    failed = sum(len(list(case)) > 0 for case in suite.iter("testcase"))
    assert (failed > 0) == (code != 0)
    assert says in markdown.read_text()
    assert ("| outcome |" in markdown.read_text()) == (code != 0)


def test_a_second_look_uses_the_runs_of_the_first(baseline: Path, cli: Any, tmp_path: Path) -> None:
    assert regress(cli, baseline, tmp_path).code == 0
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file()}
    shown = regress(cli, baseline, tmp_path)
    assert shown.code == 0
    assert shown.out.strip()
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file()} == files


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no such file or folder; give --against a baseline"),
        ("{", "unreadable baseline"),
        ('{"schema": 1, "kind": "measured", "cells": []}', "not a baseline"),
        ("no recipe", "has no recipe to measure again"),
        ("unknown method", "Did you mean 'white'?"),
        ("unknown table", "Did you mean 'table1'?"),
        ("unknown scene", "tiny has no scene moth"),
        ("no seeds", "write whole numbers from 0 on"),
        ("dataset alone", "the recipe lacks methods, scenes"),
        ("no text", "'seeds' of the recipe must be text, got 0"),
        ("unknown key", "the recipe holds 'speed'"),
    ],
)
def test_an_unusable_baseline_never_reads_as_an_improvement(
    text: str | None, says: str, baseline: Path, cli: Any, tmp_path: Path
) -> None:
    changes: dict[str, Change] = {
        "no recipe": lambda document: document.pop("recipe"),
        "unknown method": lambda document: document["recipe"].update(methods="whit"),
        "unknown table": lambda document: document["recipe"].update(tables="tabel1"),
        "unknown scene": lambda document: document["recipe"].update(scenes="ant,moth"),
        "no seeds": lambda document: document["recipe"].update(seeds="x"),
        "dataset alone": lambda document: document.update(recipe={"dataset": "tiny"}),
        "no text": lambda document: document["recipe"].update(seeds=0),
        "unknown key": lambda document: document["recipe"].update(speed="high"),
    }
    if text is None:
        baseline.unlink()
    elif text in changes:
        edit(baseline, changes[text])
    else:
        baseline.write_text(text)
    ended = regress(cli, baseline, tmp_path)
    assert ended.code == 4
    assert says in ended.err
    assert ended.out == ""


def test_columns_of_one_metric_are_told_apart(written: Path, cli: Any, tmp_path: Path) -> None:
    """Three tables have PSNR, table 3 has LPIPS twice."""
    cells = load_document(written / "three.json", "baseline")["cells"]
    names = [(c["method"], c["metric"], c["object"]) for c in cells]
    assert len(set(names)) == len(names)
    assert {c["object"] for c in cells if c["metric"] == "psnr"} == {"table1", "table2", "table3"}
    assert regress(cli, written / "three.json", tmp_path).code == 0


@pytest.mark.slow
def test_a_baseline_is_written_with_two_processes_and_has_no_noise(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    arguments = ["--dataset", "tiny", "--methods", "white,tinyscenes:NATIVE", "--scenes", "ant,bee"]
    outcome = cli("regress", "--against", path, "--write", *arguments, "--runs", tmp_path / "w")
    assert outcome.code == 0, outcome.err
    assert "baseline.json: written" in outcome.err
    assert list((tmp_path / "w").iterdir()) == [], "its runs are gone again"
    assert all(c["noise"]["worst"] == 0 for c in load_document(path, "baseline")["cells"])
    assert regress(cli, path, tmp_path).code == 0
