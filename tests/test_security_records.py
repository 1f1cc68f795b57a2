"""Records of anybody: types as the schemas say, names that stay in their folder, counts that are there."""

import copy
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import jsonschema
import pytest

from mvtokenflow.base.errors import DataError
from mvtokenflow.baselines.method import Source
from mvtokenflow.eval.gate.documents import load_document
from mvtokenflow.eval.records import checks as record_checks
from mvtokenflow.eval.records.rows import FeatureRow, Manifest, Row, Stage, feature_log, row_log
from mvtokenflow.eval.records.summary import Summary

SCHEMAS = Path(__file__).resolve().parents[1] / "docs" / "schemas"
SHA = "0" * 64
Document = dict[str, Any]
WRONG: list[Any] = [None, True, 5, -1, 1.5, "x", "", [], {}, [None], [{}], [5], {"a": 1}, 2**70, 10**400]
NAMES = ["..", "../x", "/etc", "a/b", "a\\b", "", " ", "a\0b", "\x1b[31m", "x" * 300, ".", "\u202ex", "C:x"]


def manifest() -> Document:
    return {
        "schema": 1,
        "dataset": "tiny",
        "method": "mine",
        "source": "native",
        "uses_truth": False,
        "scene": "ant",
        "tags": ["insect"],
        "seed": 0,
        "config": {"step": 4},
        "config_hash": SHA,
        "reference_root": "/data/ant",
        "views": [{"name": "input", "azimuth_deg": 0.0, "elevation_deg": 0.0}],
        "frames": 4,
        "prediction_digest": SHA,
        "pedigree": {
            "code": {"version": "1", "commit": None, "dirty": False},
            "finished": "2026-01-01T00:00:00",
            "python": "3.11",
            "packages": {"numpy": "2"},
            "weights": {"lpips-vgg": SHA},
            "device": "cpu",
            "platform": "Linux",
            "cores": 2,
            "command": ["mvtf-eval"],
        },
        "stages": [{"name": "render", "wall_s": 1.5, "peak_mib": 7.0}],
        "scene_digest": SHA,
        "assumed": ["cameras at distance 2"],
        "artefacts": [artefact()],
        "variant_of": "mvtokenflow",
    }


def artefact(**changes: Any) -> Document:
    return {
        "kind": "views",
        "name": "views",
        "title": "First pass",
        "path": "work/views",
        "stride": 2,
        "note": "",
        **changes,
    }


def row() -> Document:
    made = Row(key=SHA, object="ant", view="input", frame=0, metric="psnr", value=1.0, signature="psnr")
    return dict(json.loads(made.to_json()))


def features() -> Document:
    fields: Document = {"object": "ant", "view": "input", "clip": 0, "metric": "fvd", "signature": "s"}
    return dict(json.loads(FeatureRow(key=SHA, pred=[1.0], reference=[2.0], **fields).to_json()))


def summary() -> Document:
    finding = {"severity": "note", "where": "ant", "problem": "p", "fix": "f"}
    return {
        "schema": 1,
        "protocol": "toy4d-v2",
        "keys": [SHA],
        "measured": ["psnr@input s"],
        "missing": [{"metric": "clip", "reason": "no weights"}],
        "findings": [finding],
        "pedigree": manifest()["pedigree"],
        "values": {},
    }


def load_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    Manifest.load(folder / "manifest.json")


def load_rows(folder: Path, text: str) -> None:
    (folder / "rows.jsonl").write_text(text + "\n")
    row_log(folder).read()


def load_features(folder: Path, text: str) -> None:
    (folder / "features.jsonl").write_text(text + "\n")
    feature_log(folder).read()


def load_summary(folder: Path, text: str) -> None:
    (folder / "metrics-toy4d-v2.json").write_text(text)
    Summary.load(folder, "toy4d-v2")


Load = Callable[[Path, str], None]
KINDS: dict[str, tuple[Document, Load]] = {
    "manifest": (manifest(), load_manifest),
    "row": (row(), load_rows),
    "feature": (features(), load_features),
    "metrics": (summary(), load_summary),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whole_documents_are_read(kind: str, tmp_path: Path) -> None:
    document, load = KINDS[kind]
    jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{kind}.schema.json").read_text())).validate(
        document
    )
    load(tmp_path, json.dumps(document))


def _places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a document, but of what may be anything."""
    if path:
        yield path
    if path in (("config",), ("values",)):
        return
    for key in (
        document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    ):
        yield from _places(document[key], (*path, key))


# What later versions and other authors may write: the schema describes what this version writes.
LENIENT = {("view", '"x"'), ("pedigree", "{}"), ("pedigree", '{"a": 1}'), ("pedigree.code", "{}")}
LENIENT |= {("pedigree.code", '{"a": 1}'), ("pedigree.finished", '"x"'), ("pedigree.weights.lpips-vgg", '"x"')}
LENIENT |= {("key", '"x"'), ("keys.0", '"x"'), ("measured.0", '"x"'), ("values", '{"a": 1}'), ("command", '""')}
LENIENT |= {("views", "[]")}  # a run of no views shows none
UNREAD = {"values"}  # of a summary, for people


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_schema_refuses_is_not_read(kind: str, tmp_path: Path) -> None:
    document, load = KINDS[kind]
    validator = jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{kind}.schema.json").read_text()))
    refused = 0
    for path in _places(document):
        dotted = ".".join(map(str, path))
        for wrong in WRONG:
            if path[0] in UNREAD or (dotted, json.dumps(wrong)) in LENIENT:
                continue
            changed = copy.deepcopy(document)
            place = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = wrong
            if validator.is_valid(changed):
                continue
            with pytest.raises(DataError) as told:
                load(tmp_path, json.dumps(changed))
            assert str(tmp_path) in str(told.value), dotted
            assert len(str(told.value)) < len(str(tmp_path)) + 400
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("kind", KINDS)
def test_missing_and_further_fields_are_refused(kind: str, tmp_path: Path) -> None:
    document, load = KINDS[kind]
    later = {
        "scene_digest",
        "assumed",
        "artefacts",
        "variant_of",
        "stages",
        "values",
    }  # earlier versions did not write them, or nobody reads them
    for key in document.keys() - later:
        with pytest.raises(DataError):
            load(tmp_path, json.dumps({name: value for name, value in document.items() if name != key}))
    if kind != "metrics":
        with pytest.raises(DataError):
            load(tmp_path, json.dumps({**document, "further": 1}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text", ["", "{", "null", "5", '"x"', "[]", "{}", "NaN", "[" * 100_000, '{"a":' * 5000, "\0"]
)
def test_what_is_no_document_at_all(kind: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        KINDS[kind][1](tmp_path, text)


PATHS = ["/etc", "../x", "work/../../x", "work//x", "work/", ".", "", "a\\\\b", "C:/x", "x\x00", "x/./y", 7]


@pytest.mark.parametrize("path", PATHS)
def test_artefacts_lie_below_their_run(path: Any, tmp_path: Path) -> None:
    document = {**manifest(), "artefacts": [artefact(path=path)]}
    with pytest.raises(DataError, match="artefacts"):
        load_manifest(tmp_path, json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "mesh"},
        {"name": "a/b"},
        {"title": ""},
        {"stride": 0},
        {"stride": True},
        {"note": None},
        {"further": 1},
    ],
)
def test_artefacts_have_the_types_of_the_schema(change: Document, tmp_path: Path) -> None:
    document = {**manifest(), "artefacts": [artefact(**change)]}
    with pytest.raises(DataError, match="artefacts"):
        load_manifest(tmp_path, json.dumps(document))
    load_manifest(tmp_path, json.dumps({**manifest(), "artefacts": [artefact(path=None, note="has none.")]}))


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    view = {"azimuth_deg": 0.0, "elevation_deg": 0.0}
    for change in ({"dataset": name}, {"method": name}, {"scene": name}, {"views": [{"name": name, **view}]}):
        with pytest.raises(
            DataError, match=r"manifest\.json: not a manifest .*; delete the run folder and run again"
        ):
            load_manifest(tmp_path, json.dumps({**manifest(), **change}))
    for load, document in ((load_rows, row()), (load_features, features())):
        with pytest.raises(DataError, match="not a record"):
            load(tmp_path, json.dumps({**document, "view": name}))


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    for value in ("nan", "NaN", "1", "Infinity", True, None, [1], 10**400):
        with pytest.raises(DataError, match="not a record"):
            load_rows(tmp_path, json.dumps({**row(), "value": value}))
    for text in ("NaN", "Infinity", "1e999"):
        with pytest.raises(DataError):
            load_rows(tmp_path, json.dumps(row()).replace("1.0", text))
    load_rows(tmp_path, json.dumps({**row(), "value": "-inf"}))


def test_sources_are_those_of_methods() -> None:
    assert set(record_checks.SOURCES) == set(get_args(Source))


# ---- counts ----


@pytest.mark.parametrize("stated", [10**9, 10**5, 5, 3, 1])
def test_frames_are_compared_with_the_pictures(stated: int, tmp_path: Path) -> None:
    folder = tmp_path / "pred" / "input"
    folder.mkdir(parents=True)
    for n in range(4):
        (folder / f"{n}.png").touch()
    load_manifest(tmp_path, json.dumps(manifest()))
    with pytest.raises(DataError, match=r"manifest\.json: not a manifest .*frames"):
        load_manifest(tmp_path, json.dumps({**manifest(), "frames": stated}))


def test_a_picture_that_is_missing_in_between_is_no_fault_of_the_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "pred" / "input"
    folder.mkdir(parents=True)
    for n in (0, 1, 3):
        (folder / f"{n}.png").touch()
    load_manifest(tmp_path, json.dumps(manifest()))


@pytest.mark.parametrize(
    "name", ["manifest.json", "rows.jsonl", "features.jsonl", "metrics-toy4d-v2.json", "baseline.json"]
)
def test_files_without_end_are_refused_at_once(name: str, tmp_path: Path) -> None:
    """A sparse file of 8 GB takes no disk, and must not take memory either."""
    with (tmp_path / name).open("wb") as stream:
        stream.truncate(8 * 2**30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read: dict[str, Callable[[], object]] = {
        "manifest.json": lambda: Manifest.load(tmp_path / name),
        "rows.jsonl": lambda: row_log(tmp_path).read(),
        "features.jsonl": lambda: feature_log(tmp_path).read(),
        "metrics-toy4d-v2.json": lambda: Summary.load(tmp_path, "toy4d-v2"),
        "baseline.json": lambda: load_document(tmp_path / name, "baseline"),
    }
    with pytest.raises(DataError, match=name):
        read[name]()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_manifest_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(DataError, match="regular file"):
        Manifest.load(tmp_path / "manifest.json")


# ---- on the command line ----


@pytest.fixture(scope="module")
def finished(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two rows on one tiny scene, scored once."""
    from mvtokenflow.cli.mvtf_eval import main

    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MVTF_WEIGHTS", str(folder / "none"))
        words = ["table1", *GRID, "--root", str(folder / "data"), "--runs", str(folder / "runs"), "--jobs", "1"]
        patch.setattr("sys.argv", ["mvtf-eval", *words])
        with suppress(SystemExit):
            main()
    assert list((folder / "runs").glob("*/*/*/*/metrics-*.json"))
    return folder


GRID = (
    "--dataset",
    "tinyscenes:Tiny",
    "--methods",
    "white,copy-input",
    "--scenes",
    "ant",
    "--protocol",
    "toy4d-v1",
)


@pytest.mark.parametrize(
    "change",
    [
        {"pedigree": []},
        {"config": [1]},
        {"views": [{}]},
        {"views": [{"name": "../../../../x", "azimuth_deg": 0, "elevation_deg": 0}]},
        {"frames": 10**9},
        {"scene": "bee"},
        {"method": "white"},
        {"config_hash": "ab" * 32},
        {"seed": True},
        {"schema": True},
    ],
    ids=str,
)
def test_commands_refuse_such_a_manifest(
    change: Document, finished: Path, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    shutil.copytree(finished / "runs", tmp_path / "runs")
    (path,) = (tmp_path / "runs").glob("*/copy-input/ant/*/manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    grid = (*GRID, "--root", finished / "data", "--runs", tmp_path / "runs")
    row_grid = (*GRID[:2], "--scenes", "ant", *grid[6:])
    for command in (
        ("report", *grid, "-o", tmp_path / "site", "--tables", "table1"),
        ("table1", *grid, "--jobs", 1),
        ("explain", "table1", "copy-input", "psnr", *row_grid),
    ):
        ended = cli(*command)
        assert ended.code == 2, command[0]
        assert f"{path}: not a manifest" in ended.err
        assert ended.err.rstrip().endswith("delete the run folder and run again")
        assert "Traceback" not in ended.err
    assert not (tmp_path / "site").exists()


def test_the_stages_of_a_manifest_round_trip(tmp_path: Path) -> None:
    fields = {key: value for key, value in manifest().items() if key not in ("schema", "stages")}
    Manifest(**fields, stages=[Stage(name="a", wall_s=1, peak_mib=2)]).save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path / "manifest.json").stages == (Stage(name="a", wall_s=1, peak_mib=2),)
