"""Where `mvtf-eval regress` measures, what it refuses to write, and that only verdicts exit with 1 and 2."""

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mvtokenflow.eval.gate import compare as gate
from mvtokenflow.eval.gate import documents as gate_documents
from mvtokenflow.eval.gate import recipe as regression
from mvtokenflow.eval.score.scoring import Options
from mvtokenflow.workdir import imports
from mvtokenflow.workdir.imports import imported_files


@pytest.fixture(autouse=True)
def _small(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny scenes, one process, no weights."""
    monkeypatch.setattr(regression, "open_dataset", lambda name: tiny.Tiny(tmp_path / "data"))
    monkeypatch.setattr(regression, "Options", lambda jobs, **options: Options(jobs=1, **options))
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "no-weights"))


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    """Of one row on one scene, with a single cell."""
    runs, path = tmp_path / "first", tmp_path / "baseline.json"
    recipe = regression.Recipe(dataset="tiny", methods="tinyscenes:NATIVE", scenes="ant", tables="table1")
    _write(path, recipe, runs)
    return path


def _write(path: Path, recipe: regression.Recipe, runs: Path) -> None:
    measured = regression.measure_recipe(recipe, runs, Options(), lambda *progress: None)
    assert not measured.failures
    document = measured.document
    document["cells"] = [cell for cell in document["cells"] if cell["metric"] == "psnr"]
    made = gate.make_baseline([document, document], {"psnr": 1e-3})
    gate_documents.save_document(path, {**made, "recipe": asdict(recipe)})


def regress(cli: Any, baseline: Path, tmp_path: Path, *arguments: object) -> Any:
    place = ("--against", baseline, "--trust-baseline", "--runs", tmp_path / "runs")
    return cli("regress", *place, "--jobs", 1, *arguments)


# ---- where it measures ----


def test_other_code_is_measured_anew_and_the_same_code_goes_on(
    tiny: ModuleType, baseline: Path, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The method breaks without a change of its settings, as it does when somebody edits a loss."""
    runs = tmp_path / "runs"
    monkeypatch.setattr(regression, "code_digest", lambda *modules: "of this code")
    first = regress(cli, baseline, tmp_path)
    assert first.code == 0, first.err
    (place,) = runs.iterdir()
    assert f"measures in {place}" in first.err
    right = tiny.Native.render
    broken = tiny.Native(step=50)
    monkeypatch.setattr(tiny.Native, "render", lambda self, *arguments: right(broken, *arguments))
    same = regress(cli, baseline, tmp_path)
    assert same.code == 0, "the digest is that of the same code, so what is finished is not done twice"
    assert f"goes on in {place}" in same.err
    monkeypatch.setattr(regression, "code_digest", lambda *modules: "of edited code")
    other = regress(cli, baseline, tmp_path)
    assert other.code == 1, other.err
    (new,) = set(runs.iterdir()) - {place}
    assert f"measures in {new}" in other.err


def test_the_place_follows_whatever_may_move_a_number(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = regression.Recipe(dataset="tiny", methods="tinyscenes:NATIVE,white", scenes="ant")

    def place() -> Path:
        return regression.place_of(recipe, tmp_path, "cpu")

    places = [place()]
    assert place() == places[0]
    for name, changed in (
        ("code_digest", lambda *modules: "other"),
        ("versions", lambda: {"torch": "0"}),
        ("device_name", lambda device: "another"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(regression, name, changed)
            places.append(place())
    assert len(set(places)) == len(places)


def test_the_code_that_counts_is_that_of_every_room_that_makes_numbers() -> None:
    makers = ("mvtokenflow.eval.gate.recipe", "mvtokenflow.baselines.mvtokenflow")
    found = {name.removeprefix("mvtokenflow.") for name in imported_files(makers)}
    counted = {
        "splat.losses",
        "eval.metrics.lpips",
        "baselines.mvtokenflow",
        "datasets.scene",
        "method.pipeline",
    }
    assert counted <= found
    assert not any(name.startswith(("reports", "cli")) for name in found)


METHOD = """
from dataclasses import replace
from tinyscenes import NATIVE, Native
from helping.{name} import STEP


class Mine(Native):
    pass


MINE = Mine(step=STEP)
"""


def test_a_package_that_an_outside_method_imports_counts(
    tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate once said "ok" after the imported package had changed: it judged the old pictures again."""
    (tmp_path / "helping").mkdir()
    (tmp_path / "helping" / "__init__.py").write_text("")
    (tmp_path / "helping" / "steps.py").write_text("STEP = 0\n")
    (tmp_path / "mymethod.py").write_text(METHOD.format(name="steps"))
    monkeypatch.syspath_prepend(tmp_path)
    recipe = regression.Recipe(dataset="tiny", methods="mymethod:MINE", scenes="ant", tables="table1")
    baseline = tmp_path / "baseline.json"
    _write(baseline, recipe, tmp_path / "first")
    first = regress(cli, baseline, tmp_path)
    assert first.code == 0, first.err
    assert "0 reused, 1 rendered" in first.err
    again = regress(cli, baseline, tmp_path)
    assert again.code == 0, again.err
    assert "1 reused, 0 rendered" in again.err
    (tmp_path / "helping" / "steps.py").write_text("STEP = 50\n")
    _forget("mymethod", "helping.steps")
    changed = regress(cli, baseline, tmp_path)
    assert changed.code == 1, changed.err
    assert "0 reused, 1 rendered" in changed.err


def _forget(*modules: str) -> None:
    """As a new process would find them."""
    for name in modules:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    for known in (imports.code_digest, imports._tree, imports._code):
        known.cache_clear()


# ---- what is not written ----


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--methods", "white", "--scenes", "ant,moth"], "tiny has no scene moth"),
        (["--methods", "white,tinyscenes:FICKLE", "--scenes", "ant,bee"], "bee: diverged at step 7"),
        (["--methods", "white", "--scenes", "ant", "--seeds", "x"], "--seeds x: write whole numbers"),
        (["--methods", "white"], "--write needs --scenes and --methods or --import"),
    ],
    ids=["unknown scene", "a run fails", "seeds", "nothing named"],
)
def test_a_baseline_is_written_whole_or_not_at_all(
    arguments: list[str], says: str, cli: Any, tmp_path: Path
) -> None:
    path = tmp_path / "new.json"
    ended = regress(cli, path, tmp_path, "--write", "--dataset", "tiny", *arguments)
    assert ended.code == 4
    assert says in ended.err
    assert "Traceback" not in ended.err
    assert not path.exists()


def test_failed_runs_are_told_when_comparing(baseline: Path, cli: Any, tmp_path: Path) -> None:
    document = json.loads(baseline.read_text())
    document["recipe"].update(methods="tinyscenes:NATIVE,tinyscenes:FICKLE", scenes="bee")
    baseline.write_text(json.dumps(document))
    ended = regress(cli, baseline, tmp_path)
    assert "failed: fickle on bee (seed 0): bee: diverged at step 7" in ended.err


# ---- exit codes ----


@pytest.mark.parametrize("option", ["--runs", "--markdown", "--junit"])
def test_what_cannot_be_written_is_not_an_improvement(
    option: str, baseline: Path, cli: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    ended = regress(cli, baseline, tmp_path, option, tmp_path / "file" / "below")
    assert ended.code == 4
    assert f"{tmp_path / 'file'}" in ended.err
    assert "Traceback" not in ended.err
    if option != "--runs":
        assert "Regression gate: ok" in ended.out, "the verdict is printed before it is written"


def test_a_crash_is_not_a_regression(
    baseline: Path, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*arguments: object) -> None:
        raise ZeroDivisionError("of the program")

    monkeypatch.setattr(regression, "ensure", crash)
    ended = regress(cli, baseline, tmp_path)
    assert ended.code == 4
    assert "Traceback" in ended.err
    assert "ZeroDivisionError: of the program" in ended.err
