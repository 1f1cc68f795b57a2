"""Every exit code of the regression gate is provoked, and its files survive what can happen to files."""

import copy
import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.eval.gate import compare as gate
from mvtokenflow.eval.gate.documents import load_document, measured_document, save_document

SIGNATURE = "LPIPS|p:toy4d-v1"
FLOORS = {"lpips": 0.001, "psnr": 0.05, "motion": 0.01}


def cell(metric: str, value: float | str | None, target: str | None = None, **fields: Any) -> dict[str, Any]:
    better = {"lpips": "lower", "psnr": "higher", "motion": "none"}[metric]
    return {
        "method": "ours",
        "metric": metric,
        "object": target,
        "value": value,
        "signature": SIGNATURE,
        "better": better,
        **fields,
    }


def run(lpips: Any = 0.12, psnr: Any = 25.0, motion: Any = 1.0, **fields: Any) -> dict[str, Any]:
    return measured_document(
        [cell("lpips", lpips, **fields), cell("psnr", psnr, "crab"), cell("motion", motion)]
    )


@pytest.fixture
def baseline() -> dict[str, Any]:
    """Tolerances: lpips 1.05 x 0.004 (noise), psnr 0.05 (floor), motion 0.01 (floor)."""
    return gate.make_baseline([run(0.120), run(0.122, 25.02), run(0.118)], FLOORS)


def by_metric(report: gate.GateReport, metric: str) -> gate.CellResult:
    return next(result for result in report.cells if result.name.metric == metric)


def test_tolerance_is_the_larger_of_floor_and_noise(baseline: dict[str, Any]) -> None:
    cells = {entry["metric"]: entry for entry in baseline["cells"]}
    assert cells["lpips"]["value"] == 0.120
    assert cells["lpips"]["tolerance"] == pytest.approx(1.05 * 0.004)
    assert cells["lpips"]["noise"] == {
        "repeats": 3,
        "worst": pytest.approx(0.004),
        "floor": 0.001,
        "values": [0.120, 0.122, 0.118],
    }
    assert cells["psnr"]["tolerance"] == 0.05
    assert cells["psnr"]["object"] == "crab"
    two = gate.make_baseline([run(0.10), run(0.14)], FLOORS)
    assert next(c["value"] for c in two["cells"] if c["metric"] == "lpips") == pytest.approx(0.12)


def test_ok(baseline: dict[str, Any]) -> None:
    report = gate.compare(baseline, run(0.123, 24.96, 1.005))
    assert (report.exit_code, report.outcome) == (0, "ok")
    assert report.counts() == {"regressed": 0, "missing": 0, "incomparable": 0, "improved": 0, "ok": 3}


@pytest.mark.parametrize(
    ("lpips", "psnr", "code"),
    [
        (0.125, 25.0, 1),  # lower is better: up by 0.005 > 0.0042
        (0.115, 25.0, 2),
        (0.12, 24.94, 1),  # higher is better
        (0.12, 25.06, 2),
        (0.115, 24.0, 1),  # one better, one worse: worse wins
    ],
)
def test_direction(baseline: dict[str, Any], lpips: float, psnr: float, code: int) -> None:
    assert gate.compare(baseline, run(lpips, psnr)).exit_code == code


@pytest.mark.parametrize("motion", [0.98, 1.02])
def test_numbers_without_a_better_may_not_move_either_way(baseline: dict[str, Any], motion: float) -> None:
    report = gate.compare(baseline, run(motion=motion))
    assert report.exit_code == 1
    assert "moved" in by_metric(report, "motion").reason


@pytest.mark.parametrize(("value", "tolerance"), [(1.0, 0.1), (0.3, 0.2), (31.27, 0.05), (0.7, 0.1)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_exactly_the_tolerance_passes(value: float, tolerance: float, sign: int) -> None:
    """1.1 - 1.0 is 0.10000000000000009 in floating point."""
    document = gate.make_baseline([measured_document([cell("motion", value)])] * 2, {"motion": tolerance})
    moved = measured_document([cell("motion", value + sign * tolerance)])
    assert gate.compare(document, moved).exit_code == 0
    beyond = measured_document([cell("motion", value + sign * tolerance * (1 + 1e-9))])
    assert gate.compare(document, beyond).exit_code == 1


def test_other_signature_is_incomparable_not_compared(baseline: dict[str, Any]) -> None:
    report = gate.compare(baseline, run(0.5, signature="LPIPS|p:toy4d-v2"))
    assert report.exit_code == 3
    result = by_metric(report, "lpips")
    assert result.change is None
    assert "toy4d-v2" in result.reason
    assert gate.compare(baseline, run(0.12, better="higher")).exit_code == 3


def test_missing_cells(baseline: dict[str, Any]) -> None:
    report = gate.compare(baseline, measured_document([cell("lpips", 0.12), cell("motion", 1.0)]))
    assert report.exit_code == 4
    assert by_metric(report, "psnr").reason == "not measured"
    blank = measured_document(
        [cell("lpips", None, reason="weights missing"), cell("psnr", 25.0, "crab"), cell("motion", 1.0)]
    )
    report = gate.compare(baseline, blank)
    assert report.exit_code == 4
    assert by_metric(report, "lpips").reason == "weights missing"
    # The same metric over another object is another cell.
    other = measured_document([cell("lpips", 0.12), cell("psnr", 25.0), cell("motion", 1.0)])
    assert gate.compare(baseline, other).exit_code == 4


def test_nan_is_a_regression(baseline: dict[str, Any]) -> None:
    report = gate.compare(baseline, run(math.nan))
    assert report.exit_code == 1
    assert by_metric(report, "lpips").reason == "the value is NaN"
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["cells"][0]["current"] == "nan"


def test_infinities() -> None:
    perfect = gate.make_baseline([run(psnr=math.inf)] * 2, FLOORS)
    assert gate.compare(perfect, run(psnr="inf")).exit_code == 0
    assert gate.compare(perfect, run(psnr=99.0)).exit_code == 1
    finite = gate.make_baseline([run()] * 2, FLOORS)
    assert gate.compare(finite, run(psnr=math.inf)).exit_code == 2
    assert gate.compare(finite, run(psnr=-math.inf)).exit_code == 1
    with pytest.raises(DataError, match="infinite in some"):
        gate.make_baseline([run(psnr=math.inf), run()], FLOORS)


def test_priority_is_regressed_missing_incomparable_improved_ok() -> None:
    names = [f"o{i}" for i in range(5)]
    document = gate.make_baseline([measured_document([cell("psnr", 25.0, name) for name in names])] * 2, FLOORS)
    cells = [
        cell("psnr", 25.0, "o0"),
        cell("psnr", 26.0, "o1"),
        cell("psnr", 25.0, "o2", signature="other"),
        cell("psnr", None, "o3"),
        cell("psnr", 24.0, "o4"),
    ]
    report = gate.compare(document, measured_document(cells))
    assert [result.outcome for result in report.cells] == [
        "regressed",
        "missing",
        "incomparable",
        "improved",
        "ok",
    ]
    codes = []
    for repaired in ("o4", "o3", "o2", "o1"):
        codes.append(gate.compare(document, measured_document(cells)).exit_code)
        cells = [entry if entry["object"] != repaired else cell("psnr", 25.0, repaired) for entry in cells]
    codes.append(gate.compare(document, measured_document(cells)).exit_code)
    assert codes == [1, 4, 3, 2, 0]


def test_new_cells_are_listed_but_do_not_decide(baseline: dict[str, Any]) -> None:
    document = run()
    document["cells"].append(cell("lpips", math.inf, "newcomer"))
    report = gate.compare(baseline, document)
    assert report.exit_code == 0
    assert [str(name) for name in report.ungated] == ["ours / lpips / newcomer"]
    assert "newcomer" in gate.to_markdown(report)


def test_make_baseline_refuses_what_cannot_be_a_baseline() -> None:
    with pytest.raises(ConfigError, match="two or more"):
        gate.make_baseline([run()], FLOORS)
    with pytest.raises(ConfigError, match="'psnr'"):
        gate.make_baseline([run(), run()], {"lpips": 0.1, "motion": 0.1})
    assert len(gate.make_baseline([run(), run()], {}, default_floor=0.1)["cells"]) == 3
    with pytest.raises(ConfigError, match="finite"):
        gate.make_baseline([run(), run()], {**FLOORS, "psnr": math.inf})
    with pytest.raises(DataError, match="no value"):
        gate.make_baseline([run(), run(math.nan)], FLOORS)
    with pytest.raises(DataError, match="no value"):
        gate.make_baseline([run(None), run()], FLOORS)
    with pytest.raises(DataError, match="signature 'x'"):
        gate.make_baseline([run(), run(signature="x")], FLOORS)
    with pytest.raises(DataError, match="different cells"):
        gate.make_baseline([run(), measured_document([cell("lpips", 0.12)])], FLOORS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": ""}, "'method'"),
        ({"signature": None}, "'signature'"),
        ({"object": 3}, "'object'"),
        ({"better": "up"}, "'better'"),
        ({"value": "25 dB"}, "'value'"),
        ({"value": True}, "'value'"),
    ],
)
def test_malformed_cells_are_named(baseline: dict[str, Any], change: dict[str, Any], message: str) -> None:
    document = run()
    document["cells"][1].update(change)
    with pytest.raises(DataError, match=f"measured cell 1.*{message}"):
        gate.compare(baseline, document)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tolerance": None}, "'tolerance'"),
        ({"tolerance": -0.1}, "'tolerance'"),
        ({"tolerance": "inf"}, "'tolerance'"),
        ({"value": None}, "'value'"),
        ({"value": "nan"}, "'value'"),
    ],
)
def test_malformed_baselines_are_named(baseline: dict[str, Any], change: dict[str, Any], message: str) -> None:
    baseline["cells"][0].update(change)
    with pytest.raises(DataError, match=f"baseline cell 0.*{message}"):
        gate.compare(baseline, run())


def test_documents_are_not_confused(baseline: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="not a baseline"):
        gate.compare(run(), run())
    with pytest.raises(DataError, match="not a measured"):
        gate.compare(baseline, baseline)
    with pytest.raises(DataError, match="schema 2"):
        gate.compare({**baseline, "schema": 2}, run())
    with pytest.raises(DataError, match="not empty"):
        gate.compare({**baseline, "cells": []}, run())
    with pytest.raises(DataError, match="there twice"):
        gate.compare(baseline, {**run(), "cells": [cell("lpips", 1.0), cell("lpips", 2.0)]})


def test_files_round_trip_and_are_strict_json(tmp_path: Path, baseline: dict[str, Any]) -> None:
    document = gate.make_baseline([run(psnr=math.inf)] * 2, FLOORS)
    path = tmp_path / "regression" / "mini.json"
    save_document(path, document)
    assert load_document(path, "baseline") == document
    assert "Infinity" not in path.read_text()
    shuffled = {**document, "cells": document["cells"][::-1]}
    save_document(tmp_path / "other.json", shuffled)
    assert (tmp_path / "other.json").read_bytes() == path.read_bytes()
    save_document(tmp_path / "now.json", run(math.nan))
    assert gate.compare(baseline, load_document(tmp_path / "now.json", "measured")).exit_code == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"schema": 1}', '{"kind": "baseline", "schema": 1}', "\xff"]
)
def test_corrupt_files_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"broken\.json"):
        load_document(path, "baseline")


def test_absent_file_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        load_document(tmp_path / "nowhere.json", "baseline")


def test_a_bad_document_leaves_the_file_alone(tmp_path: Path, baseline: dict[str, Any]) -> None:
    path = tmp_path / "mini.json"
    save_document(path, baseline)
    before = path.read_bytes()
    broken = copy.deepcopy(baseline)
    broken["cells"][0]["value"] = None
    with pytest.raises(DataError):
        save_document(path, broken)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["mini.json"]


def test_markdown_shows_what_moved(baseline: dict[str, Any]) -> None:
    text = gate.to_markdown(gate.compare(baseline, run(0.130, 26.0)))
    assert text.startswith("**Regression gate: regressed** (exit 1): 1 regressed, 1 improved, 1 ok.")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert table[2].startswith("| regressed | ours / lpips | 0.12 | 0.13 | 0.01 | 0.0042 |")
    assert table[3].startswith("| improved | ours / psnr / crab | 25 | 26 |")
    assert "|" not in gate.to_markdown(gate.compare(baseline, run()))


def test_markdown_cells_cannot_break_the_table(baseline: dict[str, Any]) -> None:
    report = gate.compare(baseline, run(signature="a|b\nc"))
    rows = [line for line in gate.to_markdown(report).splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert rows[2].replace("\\|", "").count("|") == 8


def test_junit_agrees_with_the_exit_code(baseline: dict[str, Any]) -> None:
    report = gate.compare(baseline, run(0.130, 26.0))
    root = ElementTree.fromstring(gate.to_junit_xml(report))
    suite = root[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "2", "0")
    assert [case.get("name") for case in suite] == ["lpips", "psnr [crab]", "motion"]
    failure = suite[0].find("failure")
    assert failure is not None
    assert failure.get("type") == "regressed"
    assert "0.13" in str(failure.get("message"))
    lost = ElementTree.fromstring(gate.to_junit_xml(gate.compare(baseline, run(None, signature="x"))))
    assert (lost.get("failures"), lost.get("errors")) == ("0", "1")
    green = ElementTree.fromstring(gate.to_junit_xml(gate.compare(baseline, run())))
    assert (green.get("failures"), green.get("errors")) == ("0", "0")
    assert all(len(case) == 0 for case in green[0])


def test_junit_survives_hostile_names() -> None:
    name = 'a<b>&"c\x00\x1b[31m\ud800'
    hostile = measured_document([cell("psnr", 25.0, name, method=name)])
    document = gate.make_baseline([hostile] * 2, FLOORS)
    worse = measured_document([cell("psnr", 20.0, name, method=name)])
    root = ElementTree.fromstring(gate.to_junit_xml(gate.compare(document, worse)).encode())
    assert root[0][0].get("classname") == 'a<b>&"c��[31m�'
