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
from mvtokenflow.eval.records.common import Common
from mvtokenflow.eval.records.means import averages
from mvtokenflow.eval.records.rows import Row, load_runs
from mvtokenflow.eval.tables.build import build_table
from mvtokenflow.eval.tables.ensure import Request, averaged_runs, ensure, scored_runs, tabulate
from mvtokenflow.eval.tables.specs import TABLES, table_named
from mvtokenflow.eval.tables.stats import MOST_DRAWN, bootstrap_mean, sign_flip_test

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


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": 1}', b"\xff", None, "mean", "view"])
def test_a_damaged_file_of_averages_is_made_anew(request_: Request, damage: Any) -> None:
    folder = next(load_runs(request_.root)).folder
    before = averages(folder, NAME)
    fields = json.loads(_file(folder).read_text())
    if damage is None:
        _file(folder).unlink()
    elif isinstance(damage, bytes):
        _file(folder).write_bytes(damage)
    else:
        place = fields["means"]["psnr"]["ant"]
        place["eval_0"] = "much" if damage == "mean" else place["eval_0"]
        place |= {"../../x": place["eval_0"]} if damage == "view" else {}
        _file(folder).write_text(json.dumps(fields))
    assert averages(folder, NAME) == before
    assert json.loads(_file(folder).read_text())["of"] == fields["of"]


def test_a_folder_that_was_not_scored_has_no_averages(tmp_path: Path) -> None:
    assert averages(tmp_path, NAME) is None
    assert not list(tmp_path.iterdir())


def test_runs_share_what_they_have_in_common(request_: Request) -> None:
    common = Common()
    first, second = (common.of_manifest(run.manifest) for run in list(load_runs(request_.root))[:2])
    assert first.config is second.config
    assert first.views is second.views
    assert first.pedigree["packages"] is second.pedigree["packages"]
    assert tabulate(request_, table_named("table2"), []).rows


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
