"""The gate for methods that run elsewhere: pictures by `--import`, tolerances, repeats, scenes below a cell."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.eval.gate import compare as gate
from mvtokenflow.eval.gate import recipe as regression
from mvtokenflow.eval.gate.documents import load_document, measured_document
from mvtokenflow.eval.score.scoring import Options

ROOT = Path(__file__).resolve().parents[2]
SCENES = ("ant", "bee")


@pytest.fixture(autouse=True)
def _small(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny scenes, one process, no weights."""
    monkeypatch.setattr(regression, "open_dataset", lambda name: tiny.Tiny(tmp_path / "data"))
    monkeypatch.setattr(regression, "Options", lambda jobs, **options: Options(jobs=1, **options))
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "no-weights"))


def render(tiny: ModuleType, folder: Path, darker: Mapping[str, int]) -> Path:
    """Pictures of another program: the reference, on some scenes darker by so many levels."""
    dataset = tiny.Tiny(folder.parent / "data")
    for name in SCENES:
        for view in dataset.scene(name).all_views():
            for path in view.frames:
                pixels = np.asarray(Image.open(path)).astype(int)
                made = folder / name / view.name / path.name
                made.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray((pixels - 4 - darker.get(name, 0)).clip(0, 255).astype(np.uint8)).save(made)
    return folder


@pytest.fixture
def baseline(tiny: ModuleType, cli: Any, tmp_path: Path) -> Path:
    render(tiny, tmp_path / "renders", {})
    path = tmp_path / "baseline.json"
    grid = ("--dataset", "tiny", "--scenes", "ant,bee", "--tables", "table2", "--jobs", 1)
    where = ("--against", path, "--runs", tmp_path / "written", "--import", f"mine={tmp_path / 'renders'}")
    asked = ("--repeats", 3, "--tolerance", "psnr=0.5", "--protocol", "toy4d-v1")
    ended = cli("regress", "--write", *where, *grid, *asked)
    assert ended.code == 0, ended.err
    return path


def compare(cli: Any, baseline: Path, tmp_path: Path, *more: object) -> Any:
    where = ("--against", baseline, "--trust-baseline", "--runs", tmp_path / "runs", "--jobs", 1)
    return cli("regress", *where, *more)


def test_a_baseline_keeps_what_it_was_written_with_and_no_path(baseline: Path, tmp_path: Path) -> None:
    document = load_document(baseline, "baseline")
    assert document["recipe"]["imports"] == "mine"
    assert document["recipe"]["methods"] == ""
    assert document["recipe"]["protocol"] == "toy4d-v1"
    assert str(tmp_path) not in baseline.read_text()
    cells = {cell["metric"]: cell for cell in document["cells"]}
    assert (cells["psnr"]["tolerance"], cells["psnr"]["noise"]["floor_from"]) == (0.5, "--tolerance")
    assert "floor_from" not in cells["ssim"]["noise"]
    assert cells["psnr"]["noise"]["repeats"] == 3
    assert list(cells["psnr"]["scenes"]) == list(SCENES)


def test_the_same_pictures_are_ok_and_worse_ones_name_their_scene(
    tiny: ModuleType, baseline: Path, cli: Any, tmp_path: Path
) -> None:
    mine = f"mine={tmp_path / 'renders'}"
    same = compare(cli, baseline, tmp_path, "--import", mine)
    assert same.code == 0, same.err
    assert "Not in the baseline" not in same.out, "cells that cannot be measured here are not news"
    render(tiny, tmp_path / "renders", {"bee": 8})
    worse = compare(cli, baseline, tmp_path, "--import", mine, "--junit", tmp_path / "gate.xml", "--json")
    assert worse.code == 1, worse.err
    cells = {cell["metric"]: cell for cell in json.loads(worse.out)["cells"]}
    (scene,) = cells["psnr"]["scenes"]
    assert scene["scene"] == "bee"
    assert scene["current"] < scene["baseline"] - 1
    messages = [node.attrib["message"] for node in ElementTree.parse(tmp_path / "gate.xml").iter("failure")]
    assert any("; bee: " in message for message in messages)
    printed = compare(cli, baseline, tmp_path, "--import", mine).out
    assert re.search(r"\| regressed \| mine / psnr / table2 .*\n\|  \| · bee \|", printed)
    lenient = compare(
        cli, baseline, tmp_path, "--import", mine, "--tolerance", "psnr=20", "--tolerance", "ssim=1,warp=99"
    )
    moved = [line for line in lenient.out.splitlines() if "psnr" in line or "ssim" in line]
    assert moved == [], "their tolerances were given"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "has the imported row mine; give --import mine=PATH"),
        (
            ["--import", "mine={renders}", "--import", "other={renders}"],
            "--import other: the baseline has no such row",
        ),
        (["--import", "mine={renders}", "--tolerance", "lpipz=1"], "holds no such metric; it has"),
        (["--import", "mine={renders}", "--tolerance", "psnr"], "--tolerance psnr: write METRIC=X"),
        (["--import", "mine={renders}", "--tolerance", "psnr=-1"], "--tolerance psnr=-1: write METRIC=X"),
        (["--import", "mine={renders}/none"], "no such file or folder"),
        (["--import", "mine={renders}", "--protocol", "toy4d-v1"], "--protocol goes with --write"),
    ],
)
def test_wrong_calls_are_no_verdict(
    arguments: list[str], says: str, baseline: Path, cli: Any, tmp_path: Path
) -> None:
    filled = [word.format(renders=tmp_path / "renders") for word in arguments]
    ended = compare(cli, baseline, tmp_path, *filled)
    assert (ended.code, says in ended.err) == (4, True), ended.err


def test_rivals_stand_for_all_published_methods() -> None:
    recipe = regression.Recipe(dataset="toy4d", methods="rivals", scenes="ant")
    recipe.refuse_own_names(Path("baseline.json"))
    rows = regression._methods(recipe, Path("runs"), Options())
    assert [row.name for row in rows] == ["consistent4d", "sc4d", "stag4d", "dg4d", "diffusion2"]


def cell(value: float, scenes: Any) -> dict[str, Any]:
    return {
        "method": "mine",
        "metric": "psnr",
        "object": "table2",
        "value": value,
        "signature": "psnr",
        "better": "higher",
        "scenes": scenes,
    }


def test_scenes_come_largest_change_first_and_those_that_stayed_are_left_out() -> None:
    then = {f"s{k}": 20.0 for k in range(9)}
    made = gate.make_baseline([measured_document([cell(20.0, then)])] * 2, {"psnr": 0.1})
    now = {**then, "s1": 19.0, "s2": 15.0, "s8": 21.0, "new": 3.0}
    report = gate.compare(made, measured_document([cell(19.0, now)]))
    assert [name for name, *_ in report.cells[0].moved()] == ["s2", "s1", "s8"]
    lines = [line for line in gate.to_markdown(report).splitlines() if "·" in line]
    assert lines[0] == "|  | · s2 | 20 | 15 | -5 |  |  |"
    old = {**made, "cells": [{k: v for k, v in one.items() if k != "scenes"} for one in made["cells"]]}
    assert "·" not in gate.to_markdown(gate.compare(old, measured_document([cell(19.0, now)])))


@pytest.mark.parametrize("scenes", [[1], {"ant": "x"}, {"ant": None}, {1: 2.0}])
def test_malformed_values_by_scene_are_refused(scenes: Any) -> None:
    with pytest.raises(DataError, match="mine / psnr"):
        measured_document([cell(20.0, scenes)])


def test_a_given_tolerance_has_no_factor_and_must_be_of_a_metric_that_is_there() -> None:
    documents = [measured_document([cell(20.0, {})])] * 2
    made = gate.make_baseline(documents, {"psnr": 0.1}, scales={"mine": 50.0}, given={"psnr": 0.3})
    assert made["cells"][0]["tolerance"] == 0.3
    scaled = gate.make_baseline(documents, {"psnr": 0.1}, scales={"mine": 50.0})
    assert scaled["cells"][0]["tolerance"] == pytest.approx(5.0)
    assert gate.with_tolerances(made, {"psnr": 2.0})["cells"][0]["tolerance"] == 2.0
    assert made["cells"][0]["tolerance"] == 0.3, "the document itself stays"
    with pytest.raises(ConfigError, match="no such metric; it has psnr"):
        gate.make_baseline(documents, {}, given={"x": 1.0})
    with pytest.raises(ConfigError, match="no such metric; it has psnr"):
        gate.with_tolerances(made, {"x": 1.0})


def test_the_workflow_of_the_documents_works(
    tiny: ModuleType, baseline: Path, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own lines are run, from a folder with the baseline and the pictures, on a dataset of this test."""
    page = (ROOT / "docs" / "ci.md").read_text()
    (workflow,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    lines = workflow.rstrip().splitlines()
    assert len(lines) <= 15
    commands = [line.partition("run: ")[2] for line in lines if "- run: " in line]
    (gated,) = [command for command in commands if command.startswith("mvtf-eval regress")]
    monkeypatch.chdir(tmp_path)
    words = [*shlex.split(gated)[1:], "--trust-baseline", "--jobs", "1"]
    good = cli(*words)
    assert good.code == 0, good.err
    render(tiny, tmp_path / "renders", {"ant": 8})
    bad = cli(*words)
    assert bad.code == 1, bad.err
    (summary,) = [command for command in commands if command.startswith("cat ")]
    assert shlex.split(summary)[1] == "gate.md"
    assert "· ant" in (tmp_path / "gate.md").read_text()
    assert ElementTree.parse(tmp_path / "gate.xml").getroot().attrib["failures"] != "0"
    fetched = next(command for command in commands if "weights fetch" in command)
    assert set(fetched.split()[3:]) == {"lpips-vgg", "i3d-kinetics400"}
