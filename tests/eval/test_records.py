"""Records: strict round trips, refused schemas, torn lines, and values that are no numbers."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.records.rows import (
    SCHEMA_VERSION,
    FeatureRow,
    Manifest,
    Row,
    Stage,
    feature_log,
    load_runs,
    row_log,
    run_folder,
)
from mvtokenflow.eval.records.summary import Missing, Summary, scored


def row(value: float = 0.1, frame: int | None = 3, **changes: object) -> Row:
    fields = {"object": "蝶 & co", "view": "eval_0", "metric": "lpips", "signature": "lpips|v:1", **changes}
    return Row(key=str(changes.get("key", f"k{frame}")), frame=frame, value=value, **_without_key(fields))


def _without_key(fields: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in fields.items() if name != "key"}


FEATURES = FeatureRow(
    key="f", object="cat", view="eval_1", clip=2, metric="fvd", signature="s", pred=[0.1, -2.5], reference=[1.0]
)
MANIFEST = Manifest(
    dataset="tiny",
    method="mine",
    source="native",
    uses_truth=False,
    scene="ant",
    tags=["insect"],
    seed=3,
    config={"step": 4},
    config_hash="a" * 64,
    reference_root="/data/ant",
    views=[{"name": "input", "azimuth_deg": 0.0, "elevation_deg": 0.0}],
    frames=4,
    prediction_digest="b" * 64,
    pedigree={"device": "cpu"},
    stages=(Stage(name="render", wall_s=1.5, peak_mib=200.0),),
)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -0.0, 5e-324, 1e308, math.inf, -math.inf])
def test_a_row_survives_its_line_bit_for_bit(value: float) -> None:
    line = row(value).to_json()
    assert "\n" not in line
    again = Row.from_json(line)
    assert again == row(value)
    assert math.copysign(1, again.value) == math.copysign(1, value)


def test_infinities_are_strings_of_strict_json() -> None:
    def strict(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    for value, text in ((math.inf, "inf"), (-math.inf, "-inf")):
        assert json.loads(row(value).to_json(), parse_constant=strict)["value"] == text


def test_nan_is_refused_with_the_place_it_came_from() -> None:
    with pytest.raises(DataError, match="蝶 & co/eval_0/3: lpips is NaN"):
        row(math.nan)
    with pytest.raises(DataError, match="蝶 & co/eval_0: lpips is NaN"):
        row(math.nan, frame=None)


def test_features_and_manifests_round_trip(tmp_path: Path) -> None:
    assert FeatureRow.from_json(FEATURES.to_json()) == FEATURES
    MANIFEST.save(tmp_path / "manifest.json")
    assert asdict(Manifest.load(tmp_path / "manifest.json")) == asdict(MANIFEST)
    with pytest.raises(ValueError, match="JSON"):  # NaN in a record of features is not written either
        replace(FEATURES, pred=[math.nan]).to_json()


@pytest.mark.parametrize("version", [None, SCHEMA_VERSION - 1, SCHEMA_VERSION + 1, str(SCHEMA_VERSION)])
def test_other_schema_versions_are_refused(version: object, tmp_path: Path) -> None:
    fields = json.loads(row().to_json())
    fields["schema"] = version
    if version is None:
        del fields["schema"]
    with pytest.raises(ValueError, match="this version reads"):
        Row.from_json(json.dumps(fields))
    (tmp_path / "rows.jsonl").write_text(json.dumps(fields) + "\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:1: .*schema.*score again"):
        row_log(tmp_path).read()
    MANIFEST.save(tmp_path / "manifest.json")
    saved = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**saved, "schema": version}))
    with pytest.raises(DataError, match=r"manifest\.json: .*schema .*run again"):
        Manifest.load(tmp_path / "manifest.json")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"schema": 1}', '{"schema": 1, "unknown": 2}'])
def test_a_broken_manifest_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json"):
        Manifest.load(tmp_path / "manifest.json")


def test_a_torn_last_line_is_left_out_by_readers_and_removed_by_the_next_writer(tmp_path: Path) -> None:
    log = row_log(tmp_path)
    log.append([row(frame=0), row(frame=1)])
    whole = log.path.read_bytes()
    end_of_first = whole.index(b"\n") + 1
    for cut in range(end_of_first, len(whole)):
        log.path.write_bytes(whole[:cut])
        assert [r.frame for r in log.read()] == [0]
        assert log.path.read_bytes() == whole[:cut], "it may be a line that is being written"
        log.append([row(frame=1)])
        assert log.path.read_bytes() == whole
    log.path.write_bytes(whole[:5])
    assert log.read() == []
    log.append([row(frame=0), row(frame=1)])
    assert log.path.read_bytes() == whole


def test_a_line_broken_in_the_middle_is_refused_with_its_number(tmp_path: Path) -> None:
    log = row_log(tmp_path)
    log.append([row(frame=0), row(frame=1)])
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(lines[0] + lines[1][:20] + b"\n" + lines[1])
    with pytest.raises(DataError, match=r"rows\.jsonl:2: not a record"):
        log.read()
    for line in (b"\xff\xfe\n", b"17\n", b"[]\n", b"\0\0\0\n"):
        log.path.write_bytes(lines[0] + line)
        with pytest.raises(DataError, match=r"rows\.jsonl:2: not a record"):
            log.read()


def test_logs_without_a_file_are_empty_and_make_their_folder(tmp_path: Path) -> None:
    log = feature_log(tmp_path / "deep" / "er")
    assert log.read() == []
    assert not log.path.parent.exists(), "reading changes nothing"
    log.append([FEATURES])
    assert log.read() == [FEATURES]


def test_unfinished_runs_are_not_loaded(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "tiny", "mine", "ant", 3, "a" * 64)
    assert folder == tmp_path / "tiny" / "mine" / "ant" / "seed3-aaaaaaaaaa"
    row_log(folder).append([row()])
    assert list(load_runs(tmp_path)) == []
    MANIFEST.save(folder / "manifest.json")
    (run,) = load_runs(tmp_path)
    assert run.manifest.scene == "ant"
    assert list(run.rows) == [row()]


def test_only_the_records_of_a_summary_count(tmp_path: Path) -> None:
    protocol = PROTOCOLS["c4d-v1"]
    folder = run_folder(tmp_path, "tiny", "mine", "ant", 3, "a" * 64)
    MANIFEST.save(folder / "manifest.json")
    stale, current = row(0.9, key="old"), row(0.1, key="new")
    row_log(folder).append([stale, current])
    (run,) = load_runs(tmp_path)
    assert scored(run, protocol.name) is None
    summary = Summary(
        protocol=protocol.name,
        keys=frozenset({"new"}),
        measured=frozenset({"lpips@eval_0 s"}),
        missing=[Missing(metric="clip", reason="no weights")],
        findings=[],
        pedigree={},
    )
    summary.save(folder, [stale, current], protocol)
    assert asdict(Summary.load(folder, protocol.name) or summary) == {
        **asdict(summary),
        "missing": ({"metric": "clip", "reason": "no weights"},),
        "findings": (),
    }
    counted = scored(run, protocol.name)
    assert counted is not None
    assert [r.key for r in counted.rows] == ["new"]
    assert counted.missing == {"clip": "no weights"}
    values = json.loads(Summary.path(folder, protocol.name).read_text())["values"]["lpips"]
    assert values["蝶 & co"]["value"] == 0.1
    assert scored(run, "c4d-fixed-v1") is None


def test_a_damaged_summary_is_one_sentence(tmp_path: Path) -> None:
    for text in ("{", '{"schema": 99}', '{"schema": 1}'):
        Summary.path(tmp_path, "c4d-v1").write_text(text)
        with pytest.raises(DataError, match=r"metrics-c4d-v1\.json: not a summary .* score again"):
            Summary.load(tmp_path, "c4d-v1")
