"""A folder of renderings scored by tasks: the same document and records, whatever is lost."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from in_turn import InTurn
from PIL import Image

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.engine.engine import Function
from mvtokenflow.eval.score.folder import FolderScore, score_folder
from mvtokenflow.eval.score.scoring import Options
from mvtokenflow.eval.tasks.folder import FolderTask, measure_objects, perform_object
from mvtokenflow.eval.tasks.task import here as machine

PROTOCOL = "c4d-fixed-v1"


@pytest.fixture
def folders(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Renderings a little darker than the reference, and the reference; no weights."""
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    reference, prediction = tmp_path / "reference", tmp_path / "prediction"
    for scene in ("ant", "bee"):
        tiny.Tiny(reference).scene(scene)
        shutil.rmtree(reference / scene / "truth")
    shutil.copytree(reference, prediction)
    for path in prediction.rglob("*.png"):
        pixels = np.array(Image.open(path))
        Image.fromarray(np.where(pixels < 255, pixels + 7, pixels).astype(np.uint8)).save(path)
    return prediction, reference


def here(folders: tuple[Path, Path], record: Path) -> FolderScore:
    return score_folder(*folders, PROTOCOL, record=record, options=Options())


def there(
    folders: tuple[Path, Path],
    record: Path,
    name: str = "ray",
    faults: Mapping[int, str] | None = None,
    function: Function = perform_object,
) -> tuple[FolderScore, InTurn, list[str]]:
    """The score after tasks have measured, their engine, and what was said."""
    engine = InTurn(record / ".tasks", faults, function, FolderTask.from_json)
    engine.name = name
    lines: list[str] = []
    measure_objects(*folders, PROTOCOL, lambda folder: engine, lines.append, record=record, options=Options())
    return here(folders, record), engine, lines


def lines_of(record: Path) -> list[str]:
    return sorted((record / "rows.jsonl").read_text().splitlines())


@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_tasks_measure_what_this_machine_measures(
    folders: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    """On Ray nodes see no folder of the command."""
    one = here(folders, tmp_path / "one")

    def apart(words: str, given: Mapping[str, bytes]) -> Iterator[tuple[str, Path]]:
        nowhere = {"prediction": "/nowhere", "reference": "/nowhere"} if name == "ray" else {}
        return perform_object(json.dumps({**json.loads(words), **nowhere}), given)

    other, engine, lines = there(folders, tmp_path / "other", name, function=apart)
    assert other.document == one.document
    assert lines_of(tmp_path / "other") == lines_of(tmp_path / "one")
    assert [task.object for task in engine.submitted] == ["ant", "bee"]
    assert lines[-1] == "objects 2/2, tasks: 0 running"
    files = {"rows.jsonl", f"score-{PROTOCOL}.json", f"metrics-{PROTOCOL}.json"}
    assert {path.name for path in (tmp_path / "other").iterdir() if path.name[0] != "."} == files
    assert not list((tmp_path / "other" / ".tasks" / "arrived").iterdir())


def test_a_lost_task_is_submitted_again(folders: tuple[Path, Path], tmp_path: Path) -> None:
    one = here(folders, tmp_path / "one")
    other, engine, lines = there(folders, tmp_path / "other", faults={0: "lost", 1: "late"})
    assert other.document == one.document
    assert lines_of(tmp_path / "other") == lines_of(tmp_path / "one")
    assert [(task.object, task.attempt) for task in engine.submitted] == [
        *(("ant", 0), ("bee", 0), ("ant", 1), ("bee", 1)),
    ]
    assert sum(line.startswith("lost: ") for line in lines) == 2


def test_a_task_that_is_lost_three_times_ends_the_command(folders: tuple[Path, Path], tmp_path: Path) -> None:
    faults = dict.fromkeys((0, 2, 3), "lost")
    with pytest.raises(DataError, match=r"ant: lost 3 times .*its log: /logs/"):
        there(folders, tmp_path / "record", faults=faults)
    assert {json.loads(line)["object"] for line in lines_of(tmp_path / "record")} == {"bee"}, "is kept"


def test_a_node_that_differs_refuses(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {**machine(PROTOCOL), "code": "f00d" * 16}
    monkeypatch.setattr("mvtokenflow.eval.tasks.folder.here", lambda *words: found)
    engine = InTurn(tmp_path / "record" / ".tasks", None, perform_object, FolderTask.from_json)

    def start(place: Path) -> InTurn:
        monkeypatch.undo()  # the node's, from here on
        return engine

    with pytest.raises(DataError, match=r"ant: node \S+ runs mvtokenflow \S+ of other code \(.*f00df00df00d\)"):
        measure_objects(*folders, PROTOCOL, start, print, record=tmp_path / "record", options=Options())
    assert not (tmp_path / "record" / "rows.jsonl").exists()
    assert engine.cancelled
