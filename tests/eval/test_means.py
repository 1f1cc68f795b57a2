"""Tables read averages instead of rows, and are the same; what changed is read anew."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mvtokenflow.base.errors import DataError
from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.records.aggregate import object_means, object_values, view_means
from mvtokenflow.eval.records.means import averages
from mvtokenflow.eval.records.rows import Manifest, Row, load_runs
from mvtokenflow.eval.tables.build import build_table
from mvtokenflow.eval.tables.ensure import ensure
from mvtokenflow.eval.tables.render import Job
from mvtokenflow.eval.tables.request import Request
from mvtokenflow.eval.tables.specs import TABLES, table_named
from mvtokenflow.eval.tables.stats import MOST_DRAWN, bootstrap_mean, sign_flip_test
from mvtokenflow.eval.tables.tabulate import averaged_runs, scored_runs

WORDS = ("ground-truth", "white", "mirrored", "tinyscenes:NATIVE", "tinyscenes:DARKER")
NAME = "toy4d-v1"


@pytest.fixture(scope="module")
def request_(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Request]:
    """A finished grid of the tiny scenes, without weights."""
    root = tmp_path_factory.mktemp("grid")
    patch = pytest.MonkeyPatch()
    patch.setenv("MVTF_WEIGHTS", str(root / "none"))
    request = Request(
        dataset=tiny.Tiny(root / "data"),
        methods=[method_named(word) for word in WORDS],
        scenes=tiny.SCENES,
        seeds=[0, 1],
        root=root / "runs",
        protocol=PROTOCOLS[NAME],
    )
    assert ensure(request, [table_named("table2")], lambda stage, done, total: None) == []
    yield request
    patch.undo()


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_averages_is_the_table_of_rows(request_: Request, name: str) -> None:
    """Bit for bit: values, intervals, ranks, ties, signatures, provenance."""
    spec = table_named(name)
    given = [request_.protocol, [m.name for m in request_.methods], request_.scenes]
    rows = build_table(spec, scored_runs(request_), *given, seeds=request_.seeds)  # type: ignore[arg-type]
    for _ in range(2):  # the averages are made, then read
        runs = [run for run, _ in averaged_runs(request_, features=True)]
        assert build_table(spec, runs, *given, seeds=request_.seeds) == rows  # type: ignore[arg-type]
        assert not any(run.rows for run in runs)
    assert any(cell.value is not None for row in rows.rows for cell in row.cells)


def _rows(values: Mapping[str, list[float]]) -> list[Row]:
    return [
        Row(key=f"{view}{n}", object="ant", view=view, frame=n, metric="psnr", value=value, signature="s")
        for view, many in values.items()
        for n, value in enumerate(many)
    ]


@pytest.mark.parametrize("views", [None, ("a",), ("b",), ("a", "b"), ("none",)])
@pytest.mark.parametrize(
    "values",
    [
        {"a": [0.1, 0.2, 0.7], "b": [0.3]},
        {"a": [math.inf, 1.0], "b": [2.0]},
        {"a": [math.inf], "b": [-math.inf]},
        {"a": [math.inf, -math.inf], "b": [2.0]},
    ],
)
def test_infinite_values_are_averaged_as_those_of_rows(
    values: Mapping[str, list[float]], views: tuple[str, ...] | None
) -> None:
    rows = _rows(values)
    kept = [row for row in rows if views is None or row.view in views]
    expected = object_values(kept, "psnr")
    assert object_means(view_means(rows, "psnr"), views) == expected
    if all(math.isfinite(row.value) for row in kept) and kept:
        means = [
            np.mean([row.value for row in kept if row.view == view]) for view in {row.view for row in kept}
        ]
        assert expected["ant"].value == pytest.approx(np.mean(means))


def _file(folder: Path) -> Path:
    return folder / f".means-{NAME}.json"


def test_changed_records_are_read_anew(request_: Request) -> None:
    folder = next(load_runs(request_.root)).folder
    before = averages(folder, NAME)
    assert before is not None
    assert _file(folder).is_file()
    rows = folder / "rows.jsonl"
    text = rows.read_text()
    first = json.loads(text.splitlines()[0])
    try:
        changed = json.dumps({**first, "value": 7.0}, sort_keys=True)
        rows.write_text("\n".join([changed, *text.splitlines()[1:]]) + "\n")
        after = averages(folder, NAME)
        assert after is not None
        assert after.means[first["metric"]] != before.means[first["metric"]]
        rows.write_text("nonsense\n" + text)
        with pytest.raises(DataError, match="not a record"):
            averages(folder, NAME)
    finally:
        rows.write_text(text)
    assert averages(folder, NAME) == before


DAMAGE = {
    "numbers": "AAAA",
    "form": '[["psnr", [[0, "../../x", 4, []]]]]',
    "objects": [],
    "own": {"scene": "../../x"},
    "pedigrees": ["{}", "[]"],
    "state": "{",
}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": 2}', b"\xff", None, *DAMAGE])
def test_a_damaged_file_of_averages_is_made_anew(request_: Request, damage: Any) -> None:
    folder = next(load_runs(request_.root)).folder
    before = averages(folder, NAME)
    fields = json.loads(_file(folder).read_text())
    if damage is None:
        _file(folder).unlink()
    elif isinstance(damage, bytes):
        _file(folder).write_bytes(damage)
    else:
        _file(folder).write_text(json.dumps(fields | {damage: DAMAGE[damage]}))
    assert averages(folder, NAME) == before
    assert json.loads(_file(folder).read_text()) == fields


def test_a_folder_that_was_not_scored_has_no_averages(tmp_path: Path) -> None:
    assert averages(tmp_path, NAME) is None
    assert not list(tmp_path.iterdir())


def test_runs_share_what_they_have_in_common(request_: Request) -> None:
    runs = [run for run, _ in averaged_runs(request_, features=False) if run.manifest.method == "native"]
    assert len(runs) == 6
    for run in runs[1:]:
        assert run.manifest.config is runs[0].manifest.config
        assert run.manifest.views is runs[0].manifest.views
        assert run.manifest.pedigree["packages"] is runs[0].manifest.pedigree["packages"]
    for run in runs:
        whole = Manifest.load(run.folder / "manifest.json")
        for name in ("config", "views", "stages", "prediction_digest", "scene", "seed", "source", "assumed"):
            assert getattr(run.manifest, name) == getattr(whole, name)


def test_a_changed_manifest_is_read_anew(request_: Request) -> None:
    path = next(load_runs(request_.root)).folder / "manifest.json"
    text = path.read_text()
    before = averages(path.parent, NAME)
    assert before is not None
    try:
        path.write_text(json.dumps({**json.loads(text), "source": "oracle", "prediction_digest": "ab" * 32}))
        after = averages(path.parent, NAME)
        assert after is not None
        assert (after.manifest.source, after.manifest.prediction_digest) == ("oracle", "ab" * 32)
        path.write_text("{")
        with pytest.raises(DataError, match="not a manifest"):
            averages(path.parent, NAME)
    finally:
        path.write_text(text)
    assert averages(path.parent, NAME) == before


def test_a_grid_computes_the_digest_of_a_method_once(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    hashes = [job.config_hash() for job in request_.jobs()]

    def config(job: Job) -> Mapping[str, Any]:
        asked.append(job.method.name)
        return job.method.config()

    monkeypatch.setattr(Job, "config", config)
    assert [job.config_hash() for job in request_.jobs()] == hashes
    assert sorted(asked) == sorted(method.name for method in request_.methods)


def test_many_objects_take_no_more_random_numbers_than_a_thousand() -> None:
    rng = np.random.default_rng(3)
    few, many = rng.normal(0.05, 1, 900), rng.normal(0.05, 1, 20_000)
    drawn = np.random.default_rng(1).integers(0, 900, (10_000, 900))
    means = np.sort(few[drawn].mean(axis=1))
    found = bootstrap_mean(few, 1)
    assert (found.low, found.high) == (means[250], means[-251]), "as drawn at once"
    interval = bootstrap_mean(many, 1)
    assert interval.low is not None
    assert interval.high is not None
    half = 1.96 * many.std() / math.sqrt(len(many))
    assert interval.low == pytest.approx(many.mean() - half, abs=half / 4)
    assert interval.high == pytest.approx(many.mean() + half, abs=half / 4)
    test = sign_flip_test(many, 1)
    assert test.resolution == 1 / (MOST_DRAWN // 20_000 + 1)
    assert test.p <= 0.01
