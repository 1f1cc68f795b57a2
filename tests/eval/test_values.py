"""The values of runs as one table: what counts and nothing else, in one order, in every format."""

import csv
import importlib.util
import io
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from manifests import make_manifest

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.records import frame as frames
from mvtokenflow.eval.records.aggregate import mean, object_values
from mvtokenflow.eval.records.frame import COLUMNS, check_format, load_values, save_values, values_text
from mvtokenflow.eval.records.rows import Row, row_log, run_folder
from mvtokenflow.eval.records.summary import Summary

ROOT = Path(__file__).resolve().parents[2]
FIXED, TOY = PROTOCOLS["c4d-fixed-v1"], PROTOCOLS["toy4d-v1"]
VALUES = (21.5, 1 / 3, math.inf, 5e-324)


def _row(
    key: str, value: float, frame: int | None, metric: str = "psnr", view: str = "eval_0", p: str = "a"
) -> Row:
    return Row(
        key=key,
        object="ant",
        view=view,
        frame=frame,
        metric=metric,
        value=value,
        signature=f"{metric}|v:1|p:{p}",
    )


def _add(runs: Path, method: str, seed: int, rows: list[Row], config: str = "a" * 64) -> Path:
    """A run whose log holds `rows`, of which those with keys that begin with `old` do not count."""
    folder = run_folder(runs, "tiny", method, "ant", seed, config)
    folder.mkdir(parents=True)
    make_manifest(
        method=method,
        scene="ant",
        seed=seed,
        config_hash=config,
        reference_root="data/ant",
        frames=4,
        prediction_digest="b" * 64,
    ).save(folder / "manifest.json")
    row_log(folder).append(rows)
    for protocol, letter in ((FIXED, "a"), (TOY, "b")):
        keys = {r.key for r in rows if r.signature.endswith(f"p:{letter}") and not r.key.startswith("old")}
        if keys:
            Summary(
                protocol=protocol.name,
                keys=frozenset(keys),
                measured=frozenset(),
                missing=(),
                findings=(),
                pedigree={},
            ).save(folder, rows, protocol)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two methods: values of two frames, one stale, one of a clip, one under a second protocol."""
    rows = [_row(f"k{n}", value, n) for n, value in enumerate(VALUES)]
    rows += [_row("old", 99.0, 0), _row("c", 7.0, None, "fvd_c4d"), _row("t", 3.0, 0, p="b")]
    _add(tmp_path / "runs", "=cmd()", 1, rows)
    _add(tmp_path / "runs", "beta", 0, rows[:2])
    _add(tmp_path / "runs", "beta", 0, rows[2:3], "c" * 64)
    return tmp_path / "runs"


def test_only_values_that_count_are_there_in_fixed_columns_types_and_order(runs: Path) -> None:
    values = load_values(runs)
    assert tuple(values.columns) == COLUMNS
    assert values.dtypes.astype(str).to_dict() == {
        **dict.fromkeys(("dataset", "method", "scene", "view", "metric", "signature"), "string"),
        **{"seed": "int64", "frame": "Int64", "value": "float64"},
    }
    assert 99.0 not in values.value.tolist()
    first = values[values.method == "=cmd()"]
    assert first[["metric", "value"]].to_numpy().tolist() == [
        ["fvd_c4d", 7.0],
        ["psnr", 21.5],
        ["psnr", 3.0],
        *(["psnr", value] for value in VALUES[1:]),
    ]
    assert first.frame.isna().tolist() == [True, False, False, False, False, False]
    assert values[values.method == "beta"].index.tolist() == [
        *["tiny/beta/ant/seed0-aaaaaaaaaa"] * 2,
        "tiny/beta/ant/seed0-cccccccccc",
    ]


def test_the_order_of_the_log_does_not_matter(runs: Path) -> None:
    before = load_values(runs)
    for log in runs.rglob("rows.jsonl"):
        lines = log.read_text().splitlines(keepends=True)
        random.Random(0).shuffle(lines)
        log.write_text("".join(lines))
    pd.testing.assert_frame_equal(before, load_values(runs))


def test_means_of_the_table_are_those_of_the_records(runs: Path) -> None:
    """Exact sums of the same numbers, whatever has been measured before them."""
    values = load_values(runs, "c4d-fixed-v1")
    mine = values[(values.method == "beta") & values.index.str.contains("-a")]
    (folder,) = runs.glob("tiny/beta/ant/seed0-a*")
    assert mean(mine.value.tolist()) == object_values(row_log(folder).read(), "psnr")["ant"].value


def test_one_protocol_alone(runs: Path) -> None:
    assert load_values(runs, "toy4d-v1").value.tolist() == [3.0]
    assert load_values(runs, TOY).equals(load_values(runs, "toy4d-v1"))
    with pytest.raises(DataError, match="holds no run that was scored under c4d-v1; make a table"):
        load_values(runs, "c4d-v1")
    with pytest.raises(DataError, match=r"no such folder; name the folder of runs"):
        load_values(runs / "none")


def test_a_csv_file_gives_the_values_back_and_no_spreadsheet_computes_it(runs: Path, tmp_path: Path) -> None:
    values = load_values(runs)
    save_values(values, "csv", tmp_path / "v.csv")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "v.csv").read_text())))
    assert list(lines[0]) == [*COLUMNS, "run"]
    assert [float(line["value"]) for line in lines] == values.value.tolist()
    assert [line["frame"] for line in lines][:2] == ["", "0"]
    assert {line["method"] for line in lines} == {"'=cmd()", "beta"}


def test_json_lines_are_strict_and_give_the_values_back(runs: Path) -> None:
    def strict(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    values = load_values(runs)
    lines = [json.loads(x, parse_constant=strict) for x in values_text(values, "jsonl").splitlines()]
    assert [float(line["value"]) for line in lines] == values.value.tolist()
    assert lines[0]["frame"] is None
    assert lines[0]["seed"] == 1
    assert "inf" in [line["value"] for line in lines]


def test_parquet_without_pyarrow_names_the_command(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs pyarrow, which is not installed; run `pip install pyarrow`"):
        save_values(load_values(runs), "parquet", tmp_path / "v.parquet")
    assert not (tmp_path / "v.parquet").exists()
    with pytest.raises(ConfigError, match=r"no format 'parket'. Did you mean 'parquet'"):
        check_format("parket")


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_parquet_gives_the_table_back(runs: Path, tmp_path: Path) -> None:
    values = load_values(runs)
    save_values(values, "parquet", tmp_path / "v.parquet")
    again = pd.read_parquet(tmp_path / "v.parquet")
    assert again[list(COLUMNS)].astype(values.dtypes).equals(values.reset_index(drop=True))


def test_the_example_of_the_page_runs(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/records.md").read_text(), re.S)
    monkeypatch.chdir(runs.parent)
    exec(compile(code.replace("toy4d-v2", "toy4d-v1"), "docs/records.md", "exec"), {})
    assert re.search(r"=cmd\(\) +3\.0", capsys.readouterr().out)


def test_the_command(runs: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    code, printed, _ = cli("values", runs)
    assert code == 0
    assert printed == values_text(load_values(runs), "csv")
    code, printed, messages = cli("values", runs, "--format", "jsonl", "-o", tmp_path / "v.jsonl")
    assert (code, printed) == (0, "")
    assert messages == f"{tmp_path / 'v.jsonl'}: 9 values\n"
    for wrong, message in (
        (("--format", "parquet"), "--format parquet is no text; name a file with --out"),
        (("--format", "xlsx"), "no format 'xlsx'. Known: csv, jsonl, parquet"),
        (("--protocol", "c4d-v2"), "no protocol 'c4d-v2'. Did you mean 'c4d-v1'?"),
    ):
        code, printed, messages = cli("values", runs, *wrong)
        assert (code, printed) == (2, "")
        assert message in messages
