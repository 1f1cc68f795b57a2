"""What is finished is reused for the same pictures only; failures and force are told and spoil nothing else."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.baselines.imported import ImportedRenderings
from mvtokenflow.baselines.method import Method, Progress, Rendering, Setup, Source
from mvtokenflow.datasets.folder import FolderDataset
from mvtokenflow.datasets.scene import Dataset, Scene
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.records.rows import load_run
from mvtokenflow.eval.records.summary import Summary
from mvtokenflow.eval.score.scoring import Options
from mvtokenflow.eval.tables import ensure as filling
from mvtokenflow.eval.tables.render import render
from mvtokenflow.eval.tables.request import Failure, Request
from mvtokenflow.eval.tables.specs import table_named
from mvtokenflow.eval.tables.tabulate import tabulate
from mvtokenflow.eval.tables.words import seeds_named

TABLE = table_named("table2")


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights, and a cache of the test's own."""
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))


def request_for(root: Path, dataset: Dataset, methods: Sequence[Method], *, force: bool = False) -> Request:
    return Request(
        dataset=dataset,
        methods=methods,
        scenes=dataset.scene_names(),
        seeds=(0,),
        root=root / "runs",
        protocol=PROTOCOLS["toy4d-v1"],
        options=Options(force=force),
    )


def ensure(request: Request) -> list[Failure]:
    return filling.ensure(request, [TABLE], lambda stage, done, total: None)


def cells(request: Request, failures: Sequence[Failure] = ()) -> dict[str, Any]:
    """The PSNR cell of every row."""
    table = tabulate(request, TABLE, failures, quoted=False)
    index = next(i for i, column in enumerate(table.columns) if column.key == "psnr")
    return {row.label: row.cells[index] for row in table.rows}


def write_clip(folder: Path, shade: int) -> Path:
    """Four frames of a square that moves."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(4):
        frame = np.zeros((48, 48, 4), np.uint8)
        frame[10:30, 8 + n : 28 + n] = (shade, 80, 40, 255)
        Image.fromarray(frame).save(folder / f"{n}.png")
    return folder


def copied(root: Path, clip: Path) -> Request:
    request = request_for(root, FolderDataset(clip), [method_named("copy-input", Setup())])
    return replace(request, protocol=PROTOCOLS["refview-v1"])


def test_another_clip_of_the_same_name_does_not_get_the_numbers_of_the_first(tmp_path: Path) -> None:
    first = copied(tmp_path, write_clip(tmp_path / "a" / "cat", 200))
    assert ensure(first) == ensure(first) == []
    again = copied(tmp_path, write_clip(tmp_path / "b" / "cat", 200))
    assert ensure(again) == [], "the same pictures are the same scene wherever they lie"
    other = copied(tmp_path, write_clip(tmp_path / "c" / "cat", 60))
    with pytest.raises(DataError, match=r"seed0.*other pictures .*delete it .*--runs"):
        ensure(other)
    (job,) = other.jobs()
    with pytest.raises(DataError, match="other pictures"):
        render(job, lambda stage, done, total: None, {})


def test_an_edited_clip_is_not_the_one_that_was_rendered(tmp_path: Path) -> None:
    request = copied(tmp_path, write_clip(tmp_path / "cat", 200))
    ensure(request)
    write_clip(tmp_path / "cat", 201)
    with pytest.raises(DataError, match="other pictures"):
        ensure(request)
    shutil.rmtree(request.jobs()[0].folder())
    assert ensure(request) == []


def test_views_that_moved_are_another_scene(tmp_path: Path) -> None:
    folder = tmp_path / "cat"
    for view in ("input", "eval_0"):
        write_clip(folder / view, 200)
    for azimuth in (90, 91):
        (folder / "views.json").write_text(json.dumps({"eval_0": {"azimuth_deg": azimuth, "elevation_deg": 0}}))
        request = copied(tmp_path, folder)
        if azimuth == 90:
            ensure(request)
    with pytest.raises(DataError, match="other pictures or views"):
        ensure(request)


def test_runs_of_earlier_versions_are_accepted(tmp_path: Path) -> None:
    request = copied(tmp_path, write_clip(tmp_path / "cat", 200))
    ensure(request)
    path = request.jobs()[0].folder() / "manifest.json"
    fields = json.loads(path.read_text())
    assert len(fields.pop("scene_digest")) == 64
    path.write_text(json.dumps(fields))
    write_clip(tmp_path / "cat", 201)
    assert ensure(request) == []


def test_references_without_a_digest_of_their_own_are_told_by_their_bytes(
    tiny: ModuleType, tmp_path: Path
) -> None:
    request = request_for(tmp_path, tiny.Tiny(tmp_path / "data"), [tiny.NATIVE])
    ensure(request)
    picture = tmp_path / "data" / "bee" / "eval_1" / "2.png"
    Image.fromarray(255 - np.asarray(Image.open(picture))).save(picture)
    with pytest.raises(DataError, match=r"bee.*other pictures"):
        ensure(request)


def test_scoring_takes_the_reference_from_where_the_dataset_is_now(tiny: ModuleType, tmp_path: Path) -> None:
    for job in request_for(tmp_path, tiny.Tiny(tmp_path / "old"), [tiny.NATIVE]).jobs():
        render(job, lambda stage, done, total: None, {})
    shutil.rmtree(tmp_path / "old")
    request = request_for(tmp_path, tiny.Tiny(tmp_path / "new"), [tiny.NATIVE])
    assert ensure(request) == []
    assert cells(request)["native"].have == 3


class Named:
    """A dataset that names the content of its scenes: nobody looks at the pictures before they are needed."""

    name = "named"

    def __init__(self, inner: Dataset) -> None:
        self.inner = inner

    def scene_names(self) -> Sequence[str]:
        return self.inner.scene_names()

    def scene(self, name: str) -> Scene:
        return replace(self.inner.scene(name), content=name)


@pytest.mark.parametrize("gone", ["eval_0/3.png", "truth/eval_2.npz"])
def test_a_missing_reference_is_told_and_never_recorded_as_measured(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    first = request_for(tmp_path, Named(tiny.Tiny(tmp_path / "data")), [tiny.NATIVE])
    ensure(first)
    folder = first.jobs()[0].folder()
    good, kept = cells(first)["native"], Summary.load(folder, "toy4d-v1")
    file = tmp_path / "data" / "ant" / gone
    aside = file.read_bytes()
    file.unlink()
    monkeypatch.setattr(tiny, "_write", lambda *place: None)  # a dataset that cannot make its files
    second = replace(first, protocol=PROTOCOLS["toy4d-v2"])
    failures = ensure(second)
    assert [(f.scene, "is not there" in f.reason) for f in failures] == [("ant", True)]
    assert Summary.load(folder, "toy4d-v2") is None
    assert Summary.load(folder, "toy4d-v1") == kept
    file.write_bytes(aside)
    assert ensure(second) == []
    assert cells(second)["native"].have == 3
    assert cells(first)["native"] == good


@dataclass(frozen=True)
class Exchanged:
    """A method that mixes up two views: a strict pre-flight refuses it."""

    tiny: ModuleType
    name: str = "exchanged"
    source: Source = "native"
    uses_truth: bool = False

    def config(self) -> Mapping[str, Any]:
        return {}

    def weights(self) -> Sequence[str]:
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        swapped = {"eval_0": "eval_1", "eval_1": "eval_0"}
        views = self.tiny.VIEWS
        progress("swap", 1, 1)
        return {v: Rendering(rgb=self.tiny.pictures(scene.name, swapped.get(v, v))) for v in views}


def test_what_was_forced_is_marked_and_does_not_count_without_force(tiny: ModuleType, tmp_path: Path) -> None:
    methods = [tiny.NATIVE, tiny.DARKER, Exchanged(tiny)]
    request = request_for(tmp_path, tiny.Tiny(tmp_path / "data"), methods)
    forcing = replace(request, options=Options(force=True))
    refused = ensure(request)
    assert {f.method for f in refused} == {"exchanged"}
    assert len(refused) == 3
    assert ensure(forcing) == []
    folder = next(job.folder() for job in request.jobs() if job.method.name == "exchanged")
    assert all("|forced" in row.signature for row in load_run(folder).rows)
    assert not any("|forced" in row.signature for row in load_run(request.jobs()[0].folder()).rows)
    before = (folder / "metrics-toy4d-v1.json").read_bytes()
    shown = cells(forcing)
    assert (shown["exchanged"].have, shown["exchanged"].rank, shown["native"].rank) == (3, None, 1)
    assert ensure(request) == refused, "refused again, although there are numbers"
    assert (folder / "metrics-toy4d-v1.json").read_bytes() == before
    hidden = cells(request, refused)["exchanged"]
    assert (hidden.value, hidden.reason) == (None, "no run succeeded, see the notes")
    notes = tabulate(request, TABLE, [], quoted=False).footnotes
    assert any("exchanged on ant" in note and "only tables that force it show" in note for note in notes)


def test_unmarked_numbers_of_what_was_refused_are_measured_anew(tiny: ModuleType, tmp_path: Path) -> None:
    """Earlier versions forced without a mark."""
    request = request_for(tmp_path, tiny.Tiny(tmp_path / "data"), [Exchanged(tiny)], force=True)
    ensure(request)
    for job in request.jobs():
        for path in (job.folder() / "rows.jsonl", job.folder() / "metrics-toy4d-v1.json"):
            path.write_text(path.read_text().replace("|forced", ""))
    assert len(ensure(replace(request, options=Options()))) == 3
    assert ensure(request) == []
    summary = Summary.load(request.jobs()[0].folder(), "toy4d-v1")
    assert summary is not None
    assert all(item.endswith("|forced") for item in summary.measured)


@dataclass(frozen=True)
class Raising:
    """A method that raises on one scene."""

    tiny: ModuleType
    error: Exception
    name: str = "raising"
    source: Source = "native"
    uses_truth: bool = False

    def config(self) -> Mapping[str, Any]:
        return {}

    def weights(self) -> Sequence[str]:
        return ()

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        if scene.name == "bee":
            raise self.error
        return {v: Rendering(rgb=self.tiny.pictures(scene.name, v)) for v in self.tiny.VIEWS}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device", "/disk/x"), "/disk/x: No space left on device; make room"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"),
            "out of memory (CUDA out of memory. Tried)",
        ),
        (MemoryError(), "out of memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
            "out of memory (DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes); free",
        ),
    ],
)
def test_a_machine_that_ends_one_run_leaves_the_rest_standing(
    tiny: ModuleType, tmp_path: Path, error: Exception, reason: str
) -> None:
    request = request_for(tmp_path, tiny.Tiny(tmp_path / "data"), [Raising(tiny, error), tiny.NATIVE])
    (failure,) = ensure(request)
    assert (failure.method, failure.scene) == ("raising", "bee")
    assert reason in failure.reason
    assert {label: cell.have for label, cell in cells(request).items()} == {"raising": 2, "native": 3}


def test_a_fault_of_the_code_ends_the_table(tiny: ModuleType, tmp_path: Path) -> None:
    request = request_for(tmp_path, tiny.Tiny(tmp_path / "data"), [Raising(tiny, TypeError("no"))])
    with pytest.raises(TypeError):
        ensure(request)


def test_reasons_do_not_tell_whose_machine_it_was(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    (tmp_path / "theirs" / "ant").mkdir(parents=True)
    methods: list[Method] = [
        ImportedRenderings(name="mine", root=tmp_path / "theirs"),
        Raising(tiny, OSError(13, "Permission denied", str(tmp_path / "somebody" / "x"))),
    ]
    failures = ensure(request_for(tmp_path, tiny.Tiny(tmp_path / "data"), methods))
    assert len(failures) == 4
    assert not any(str(tmp_path) in failure.reason for failure in failures)
    assert any(failure.reason.startswith("theirs/ant: no view folders") for failure in failures)
    assert any(failure.reason.startswith("~/x: Permission denied") for failure in failures)


def test_progress_tells_the_stages_of_a_run_and_ends_at_its_total(tiny: ModuleType, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    methods = [tiny.NATIVE, Exchanged(tiny)]  # the second is refused: its frames are not waited for
    request = request_for(tmp_path, tiny.Tiny(tmp_path / "data"), methods)
    filling.ensure(request, [TABLE], lambda *step: told.append(step))
    assert ("run: swap", 1, 1) in told
    scoring = [(done, total) for stage, done, total in told if stage == "score"]
    assert [done for done, _ in scoring] == list(range(1, scoring[-1][1] + 1))
    assert {total for _, total in scoring} == {len(scoring)}


def test_ensuring_a_finished_table_reads_no_records(tiny: ModuleType, tmp_path: Path) -> None:
    request = request_for(tmp_path, tiny.Tiny(tmp_path / "data"), [tiny.NATIVE])
    ensure(request)
    for job in request.jobs():
        (job.folder() / "rows.jsonl").write_text("damaged\n")
    assert ensure(request) == []


def test_a_scene_that_cannot_be_opened_is_told_beside_its_finished_numbers(
    tiny: ModuleType, tmp_path: Path
) -> None:
    dataset = tiny.Tiny(tmp_path / "data")
    request = request_for(tmp_path, dataset, [tiny.NATIVE])
    ensure(request)
    (tmp_path / "data" / "cow" / "eval_3" / "0.png").unlink()
    (failure,) = ensure(request)
    assert failure.scene == "cow"
    assert "a picture of cow cannot be read" in failure.reason
    assert cells(request, [failure])["native"].have == 3


@pytest.mark.parametrize("text", ["18446744073709551616", "4611686018427387905", "1" + "0" * 5000])
def test_seeds_have_an_end(text: str) -> None:
    assert seeds_named("0,4611686018427387904") == [0, 2**62]
    with pytest.raises(ConfigError, match=r"seeds end at 4611686018427387904 \(2\*\*62\)"):
        seeds_named(f"0,{text}")
