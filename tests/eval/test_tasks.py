"""A table's grid as tasks: the same bytes as here, one rule for what is lost, sentences for what differs."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from in_turn import InTurn
from PIL import Image

from mvtokenflow.base.errors import DataError
from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.baselines.imported import ImportedRenderings
from mvtokenflow.baselines.method import Method
from mvtokenflow.eval.engine.engine import Placement, Work
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.records.rows import load_runs
from mvtokenflow.eval.records.summary import Summary
from mvtokenflow.eval.score.scoring import Options
from mvtokenflow.eval.tables.ensure import ensure
from mvtokenflow.eval.tables.request import Failure, Request, Scenes, Words
from mvtokenflow.eval.tables.specs import table_named
from mvtokenflow.eval.tables.tabulate import tabulate
from mvtokenflow.eval.tasks import task as tasks
from mvtokenflow.eval.tasks.delivery import pack, take_in
from mvtokenflow.eval.tasks.distribute import distribute
from mvtokenflow.eval.tasks.task import Task
from mvtokenflow.eval.tasks.worker import perform

TABLE = table_named("table2")
ROWS = {"ground-truth": "ground-truth", "white": "white", "native": "tinyscenes:NATIVE"}


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights, no commit, and folders of the test's own."""
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))  # the commit may move during a test


Make = Callable[..., Request]


@pytest.fixture
def make(tiny: ModuleType, tmp_path: Path) -> Make:
    """Build a request below a folder of the test."""

    def request(
        folder: str, rows: Mapping[str, str] = ROWS, scenes: Sequence[str] = ("ant", "bee"), *more: Method
    ) -> Request:
        data = tmp_path / "data"
        return Request(
            dataset=tiny.Tiny(data),
            methods=[*(method_named(word) for word in rows.values()), *more],
            scenes=scenes,
            seeds=[0],
            root=tmp_path / folder / "runs",
            protocol=PROTOCOLS["toy4d-v1"],
            options=Options(),
            words=Words(
                dataset="tinyscenes:Tiny", root=str(data), protocol="toy4d-v1", preset="mini", methods=rows
            ),
        )

    return request


def here(request: Request) -> list[Failure]:
    return ensure(request, [TABLE], lambda stage, done, total: None)


def there(request: Request, engine: Any, lines: list[str] | None = None, **options: Any) -> list[Failure]:
    said = [] if lines is None else lines
    return distribute(request, [TABLE], engine, lambda stage, done, total: None, said.append, **options)


def engine_of(request: Request, faults: Mapping[int, str] | None = None) -> InTurn:
    shutil.rmtree(request.root / ".tasks", ignore_errors=True)
    return InTurn(request.root / ".tasks", faults)


def pictures(request: Request) -> dict[str, bytes]:
    return {str(path.relative_to(request.root)): path.read_bytes() for path in request.root.rglob("*.png")}


def assert_equal(one: Request, other: Request, failures: Sequence[Failure] = ()) -> None:
    """Tables, pictures and rows of two folders are the same; both hold something."""
    assert tabulate(one, TABLE, failures).to_json() == tabulate(other, TABLE, failures).to_json()
    assert pictures(one) == pictures(other) != {}
    for run, twin in zip(load_runs(one.root), load_runs(other.root), strict=True):
        assert run.folder.relative_to(one.root) == twin.folder.relative_to(other.root)
        assert sorted(row.to_json() for row in run.rows) == sorted(row.to_json() for row in twin.rows)
        assert run.rows
        assert run.manifest.reference_root == twin.manifest.reference_root
        ours, theirs = (Summary.load(found.folder, one.protocol.name) for found in (run, twin))
        assert ours is not None
        assert theirs is not None
        assert list(ours.missing) == list(theirs.missing), "pages list the reasons in this order"
        assert run.manifest.scene_digest == twin.manifest.scene_digest


def test_tasks_make_what_this_machine_makes(make: Make) -> None:
    one, other = make("here"), make("there")
    assert here(one) == there(other, engine_of(other)) == []
    assert all((run.folder / ".means-toy4d-v1.json").is_file() for run in load_runs(other.root))
    assert_equal(one, other)
    assert not list((other.root / ".tasks" / "arrived").iterdir()), "what arrived is in its place"
    again = engine_of(other)
    assert there(other, again) == []
    assert again.submitted == [], "nothing is left to do"


def test_what_was_rendered_here_is_only_scored_there(make: Make, tmp_path: Path, tiny: ModuleType) -> None:
    for scene in ("ant", "bee"):
        for view in tiny.VIEWS:
            for n, frame in enumerate(tiny.pictures(scene, view) // 2 + 100):
                (tmp_path / "theirs" / scene / view).mkdir(parents=True, exist_ok=True)
                Image.fromarray(frame.astype(np.uint8)).save(tmp_path / "theirs" / scene / view / f"{n}.png")
    theirs = ImportedRenderings("theirs", tmp_path / "theirs")
    one, other = (make(name, ROWS, ("ant", "bee"), theirs) for name in ("here", "there"))
    engine = engine_of(other)
    assert here(one) == there(other, engine) == []
    assert all(task.given and "theirs" not in task.methods for task in engine.submitted)
    assert_equal(one, other)
    # Another protocol is more numbers for the same pictures.
    one, other = (replace(request, protocol=PROTOCOLS["refview-v1"]) for request in (one, other))
    assert other.words is not None
    other = replace(other, words=replace(other.words, protocol="refview-v1"))
    engine = engine_of(other)
    assert here(one) == there(other, engine) == []
    assert [(len(task.given), dict(task.methods)) for task in engine.submitted] == [(4, {}), (4, {})]
    assert_equal(one, other)


@pytest.mark.parametrize("fault", ["lost", "late"])
def test_a_lost_task_is_submitted_again_without_what_it_delivered(make: Make, fault: str) -> None:
    one, other = make("here"), make("there")
    engine, lines = engine_of(other, {0: fault}), list[str]()
    assert here(one) == there(other, engine, lines) == []
    assert_equal(one, other)
    assert any(line.startswith("lost: ant (seed 0)") for line in lines)
    if fault == "lost":
        assert [(task.scene, len(task.methods), task.attempt) for task in engine.submitted] == [
            *(("ant", 3, 0), ("bee", 3, 0), ("ant", 3, 1)),
        ]
    else:
        assert len(engine.submitted) == 2, "all of its rows had arrived"


def test_a_task_that_is_lost_three_times_fails_and_the_rest_stands(make: Make) -> None:
    request = make("there")
    failures = there(request, engine_of(request, {0: "lost", 2: "lost", 3: "lost"}))
    assert {(one.method, one.scene) for one in failures} == {(name, "ant") for name in ROWS}
    assert {one.reason.partition(";")[0] for one in failures} == {
        "lost 3 times (out of memory or time, or its node failed)"
    }
    assert "its log: /logs/" in failures[0].reason
    cells = tabulate(request, TABLE, failures).rows[0].cells
    assert {(cell.have, cell.want) for cell in cells if cell.value is not None} == {(1, 2)}


def test_an_interrupt_keeps_what_arrived_and_ends_its_tasks(make: Make) -> None:
    one, other = make("here"), make("there")
    engine = engine_of(other, {0: "interrupt"})
    with pytest.raises(KeyboardInterrupt):
        there(other, engine)
    assert len(engine.cancelled) == 2
    assert {run.manifest.scene for run in load_runs(other.root)} == {"ant"}
    engine = engine_of(other)
    assert here(one) == there(other, engine) == []
    assert [task.scene for task in engine.submitted] == ["bee"]
    assert_equal(one, other)


def test_tasks_of_an_earlier_process_are_waited_for(make: Make) -> None:
    one, other = make("here"), make("there")
    first = engine_of(other)
    assert there(other, first, detach=True) == []
    assert len(first.waiting) == 2
    assert not list(load_runs(other.root))
    engine = engine_of(other)
    engine.carried = {key: work.words for key, work in first.waiting.items()}
    engine.waiting = dict(first.waiting)
    assert here(one) == there(other, engine) == []
    assert engine.submitted == [], "none is submitted twice"
    assert_equal(one, other)


def test_a_row_that_fails_there_fails_as_it_would_here(make: Make) -> None:
    rows = {"native": "tinyscenes:NATIVE", "fickle": "tinyscenes:FICKLE", "float": "tinyscenes:FLOAT"}
    one, other = make("here", rows), make("there", rows)
    failures = here(one)
    assert {(failure.method, failure.scene) for failure in failures} == {
        *(("fickle", "bee"), ("float", "ant"), ("float", "bee")),
    }
    assert there(other, engine_of(other)) == failures
    assert_equal(one, other, failures)


def test_two_commands_do_not_share_a_folder_of_tasks(make: Make) -> None:
    request = make("there")

    class Twice(InTurn):
        def alive(self) -> Mapping[str, str]:
            with pytest.raises(DataError, match="another process is working in"):
                there(request, self)
            return super().alive()

    assert there(request, Twice(request.root / ".tasks")) == []


# ---- what a node compares ----


@pytest.fixture
def task(make: Make) -> Task:
    request = make("words")
    engine = engine_of(request)
    there(request, engine, detach=True)
    found: Task = engine.submitted[0]
    return found


def delivered(task: Task) -> dict[str, Any]:
    """What a task delivers: its end; tars by their size."""
    return {
        name: json.loads(file.read_text()) if name.endswith("json") else file.stat().st_size
        for name, file in perform(task.to_json(), {})
    }


def test_a_task_is_words(task: Task) -> None:
    assert Task.from_json(task.to_json()) == task
    assert list(json.loads(task.to_json())["methods"].items()) == list(ROWS.items())
    assert list(Task.from_json(task.to_json()).missing) == list(task.missing) != sorted(task.missing)
    assert len(delivered(task)) == 4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"code": "f00d" * 16},
            r"node \S+ runs mvtokenflow \S+ of other code \(\w+, the command f00df00df00d\)",
        ),
        ({"versions": {"torch": "0.1"}}, r"node \S+ has torch \S+, the command 0.1; install the same packages"),
        (
            {"weights": {"lpips-vgg": "ab" * 32}},
            r"node \S+ lacks lpips-vgg \(sha256 abab.*weights fetch lpips-vgg",
        ),
        ({"scene_digest": "ab" * 32}, r"node \S+ has other pictures of ant than the command"),
        ({"dataset": "nosuch"}, "no dataset 'nosuch'"),
    ],
)
def test_a_node_that_differs_refuses_in_one_sentence(
    task: Task, change: Mapping[str, Any], sentence: str
) -> None:
    (end,) = delivered(replace(task, **change)).values()
    (reason,) = end["refused"].values()
    assert re.match(sentence, reason), reason
    assert "\n" not in reason


def test_words_of_another_version_are_refused(task: Task) -> None:
    words = json.dumps({**json.loads(task.to_json()), "new": 1})
    ((name, file),) = list(_read(perform(words, {})))
    assert name == "end.json"
    assert "of other code" in file["refused"]["*"]


def _read(parcels: Iterator[tuple[str, Path]]) -> Iterator[tuple[str, Any]]:
    for name, file in parcels:
        yield name, json.loads(file.read_text())


def test_refusals_are_failures_of_the_table(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    request = make("there")
    engine = engine_of(request)
    submit = engine.submit

    def elsewhere(works: Mapping[str, Work], avoid: frozenset[str] = frozenset()) -> None:
        submit(works, avoid)
        monkeypatch.setattr(tasks, "_package_digest", lambda: "0" * 64)  # the node's, from here on

    monkeypatch.setattr(engine, "submit", elsewhere)
    failures = there(request, engine)
    assert len(failures) == len(ROWS) * 2
    assert {failure.reason.partition(" of other code")[2][:2] for failure in failures} == {" ("}
    assert not list(load_runs(request.root))


# ---- deliveries ----


@pytest.fixture
def finished(make: Make, tmp_path: Path) -> tuple[Request, Path, Path]:
    """A request, the folder of one of its finished runs, and this run as a delivery."""
    request = make("here", {"native": "tinyscenes:NATIVE"}, ("ant",))
    assert here(request) == []
    (run,) = load_runs(request.root)
    with (tmp_path / "run.tar").open("wb") as stream:
        pack(run.folder, stream)
    return request, run.folder, tmp_path / "run.tar"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def take(request: Request, archive: Path) -> Path:
    return take_in(archive, request.root, Scenes(request.dataset), print)


def test_a_second_delivery_changes_nothing(finished: tuple[Request, Path, Path]) -> None:
    request, folder, archive = finished
    before = {path: (data, path.stat().st_mtime_ns) for path, data in contents(folder).items()}
    assert take(request, archive) == folder
    assert {path: (data, path.stat().st_mtime_ns) for path, data in contents(folder).items()} == before


def test_values_under_another_signature_are_taken_in(finished: tuple[Request, Path, Path]) -> None:
    request, folder, archive = finished
    path = Summary.path(folder, request.protocol.name)
    text = path.read_text()
    path.write_text(text.replace("psnr@eval_0 ", "psnr@eval_0 with other weights "))
    assert path.read_text() != text
    take(request, archive)
    assert path.read_text() == text


def test_a_delivery_of_other_pictures_is_dropped(finished: tuple[Request, Path, Path]) -> None:
    request, folder, archive = finished
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "prediction_digest": "ab" * 32}))
    before = contents(folder)
    take(request, archive)
    assert contents(folder) == before


def test_an_unfinished_folder_gives_way(finished: tuple[Request, Path, Path]) -> None:
    request, folder, archive = finished
    before = {path for path in contents(folder) if path.name[0] != "."}
    (folder / "manifest.json").unlink()
    (folder / "pred" / "stray.png").write_bytes(b"")
    take(request, archive)
    assert set(contents(folder)) == before
    assert not [path for path in folder.parent.iterdir() if path != folder]


def test_the_reference_is_the_commands_and_not_the_nodes(finished: tuple[Request, Path, Path]) -> None:
    request, folder, _ = finished
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "reference_root": "/of/a/node"}))
    archive = folder.parent / "elsewhere.tar"
    with archive.open("wb") as stream:
        pack(folder, stream)
    shutil.rmtree(folder)
    take(request, archive)
    (run,) = load_runs(request.root)
    assert run.manifest.reference_root == manifest["reference_root"]


@pytest.mark.parametrize("fault", ["cut", "picture", "outside", "link", "other scene"])
def test_a_damaged_delivery_is_refused(
    finished: tuple[Request, Path, Path], fault: str, tmp_path: Path
) -> None:
    request, folder, archive = finished
    if fault == "cut":
        archive.write_bytes(archive.read_bytes()[:5000])
    elif fault == "picture":
        next((folder / "pred").rglob("*.png")).write_bytes(b"x")
        with archive.open("wb") as stream:
            pack(folder, stream)
    elif fault == "other scene":
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "scene_digest": "ab" * 32}))
        with archive.open("wb") as stream:
            pack(folder, stream)
    else:
        with tarfile.open(archive, "a") as stream:
            member = tarfile.TarInfo("../../outside.txt" if fault == "outside" else "link")
            if fault == "link":
                member.type, member.linkname = tarfile.SYMTYPE, "manifest.json"
            stream.addfile(member)
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=r"not a delivered run|not those of its manifest|other pictures"):
        take(request, archive)
    assert not folder.exists()
    assert not list(tmp_path.rglob("outside.txt"))
    assert [path.name for path in (request.root / ".tasks").iterdir()] == []


# ---- engines that are installed here ----


def test_submitit_on_this_machine_makes_the_same(
    make: Make, tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    monkeypatch.setenv("PYTHONPATH", str(Path(tiny.__file__ or "").parent))
    from mvtokenflow.eval.engine.slurm import Slurm

    one, other = make("here", ROWS, ("ant",)), make("there", ROWS, ("ant",))
    engine = Slurm(other.root / ".tasks", perform, Placement(), cluster="local")
    lines: list[str] = []
    assert here(one) == there(other, engine, lines) == []
    assert_equal(one, other)
    assert lines[-1] == "rows 3/3, tasks: 0 running, 0 waiting, 0 retried, 0 refused"


def test_the_package_loads_neither_engine() -> None:
    """Nor does a table that is made here."""
    code = (
        "import sys, mvtokenflow.cli.eval.tables, mvtokenflow.eval.tasks.distribute\n"
        "print(sorted({'submitit', 'ray', 'cloudpickle'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
