"""The published JSON Schemas against files the harness really writes, and against broken ones."""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mvtokenflow.eval.records.rows import FeatureRow, Manifest, Row, Stage, feature_log
from mvtokenflow.eval.records.summary import Summary
from mvtokenflow.workdir.artefacts import Artefact
from mvtokenflow.workdir.provenance import pedigree

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = ROOT / "docs" / "schemas"
SHA = "0" * 64
Cli = Callable[..., Any]
Layout = Callable[..., Path]


def _schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text())


def _strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def _check(name: str, document: Any) -> None:
    jsonschema.Draft202012Validator(_schema(name)).validate(document)


@pytest.fixture
def scored(tmp_path: Path, layout: Layout, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Any]:
    """The records of a scored folder, without any weights, and the document that was printed."""
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    reference, prediction = layout(tmp_path / "gt"), layout(tmp_path / "pred", shift=1)
    done = cli("score", prediction, "--gt", reference, "--record", tmp_path / "rec", "--jobs", 1, "--json")
    assert done.code == 0, done.err
    return tmp_path / "rec", _strict(done.out)


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.name)
def test_schemas_are_valid_schemas_and_named_in_the_page(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))
    assert f"schemas/{path.name}" in (ROOT / "docs/records.md").read_text()


def test_what_score_writes_and_prints(scored: tuple[Path, Any]) -> None:
    folder, printed = scored
    _check("score", printed)
    assert _strict((folder / "score-c4d-fixed-v1.json").read_text()) == printed
    summary = _strict((folder / "metrics-c4d-fixed-v1.json").read_text())
    _check("metrics", summary)
    assert summary["findings"], "two frames are not the standard 32, so something was noted"
    assert summary["missing"]
    rows = [_strict(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 4 * 2 * 2  # views, frames, PSNR and SSIM
    for row in rows:
        _check("row", row)


def test_infinite_values_are_text(tmp_path: Path, layout: Layout, cli: Cli, monkeypatch: Any) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    same = layout(tmp_path / "gt")
    arguments = ("--protocol", "c4d-v1", "--record", tmp_path / "rec", "--jobs", 1, "--json")
    done = cli("score", same, "--gt", same, *arguments)
    assert done.code == 0, done.err
    document = _strict(done.out)
    _check("score", document)
    assert document["average"]["psnr"] is None
    assert any(entry["metric"] == "psnr" and "infinite" in entry["reason"] for entry in document["missing"])
    rows = [_strict(line) for line in (tmp_path / "rec" / "rows.jsonl").read_text().splitlines()]
    assert {row["value"] for row in rows if row["metric"] == "psnr"} == {"inf"}
    for row in rows:
        _check("row", row)
    _check("metrics", _strict((tmp_path / "rec" / "metrics-c4d-v1.json").read_text()))


def test_a_run_folder(tmp_path: Path, layout: Layout, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    scenes = layout(tmp_path / "scenes", views=("eval_0", "eval_1", "eval_2", "eval_3"))
    angles = {f"eval_{i}": {"azimuth_deg": a, "elevation_deg": 0} for i, a in enumerate((-75, 15, 105, 195))}
    (scenes / "cat" / "views.json").write_text(json.dumps(angles))
    _write_input(scenes / "cat")
    arguments = ("--methods", "ground-truth,white", "--runs", tmp_path / "runs", "--jobs", 1, "--no-quoted")
    done = cli("table2", "--dataset", scenes, *arguments, "--json")
    assert done.code == 0, done.err
    table = _strict(done.out)
    named = re.findall(r"`(\w+)`", (ROOT / "docs/records.md").read_text().split("## table JSON")[1])
    written = {*table, *table["columns"][0], *table["rows"][0], *table["rows"][0]["cells"][0]}
    assert written <= set(named)
    manifests = sorted(tmp_path.glob("runs/*/*/*/seed0-*/manifest.json"))
    assert len(manifests) == 2
    for path in manifests:
        manifest = _strict(path.read_text())
        _check("manifest", manifest)
        assert path.parent.name == f"seed0-{manifest['config_hash'][:10]}"
        assert [view["name"] for view in manifest["views"]] == ["input", *angles]
        _check("metrics", _strict((path.parent / "metrics-c4d-fixed-v1.json").read_text()))
        lines = (path.parent / "rows.jsonl").read_text().splitlines()
        assert lines
        for line in lines:
            _check("row", _strict(line))


def _write_input(scene: Path) -> None:
    """An input clip with alpha, from the pictures of eval_0."""
    from PIL import Image, ImageChops

    folder = scene / "input"
    folder.mkdir()
    for path in (scene / "eval_0").glob("*.png"):
        picture = Image.open(path).convert("RGB")
        white = Image.new("RGB", picture.size, (255, 255, 255))
        alpha = ImageChops.difference(picture, white).convert("L").point(lambda level: 255 if level else 0)
        picture.putalpha(alpha)
        picture.save(folder / path.name)


def _feature_row() -> FeatureRow:
    return FeatureRow(
        key=SHA,
        object="cat",
        view="eval_0",
        clip=0,
        metric="fvd",
        signature="fvd|v:1",
        pred=[0.5, -1.0],
        reference=[0.25, 2.0],
    )


def _manifest() -> Manifest:
    return Manifest(
        dataset="toy4d",
        method="mine",
        source="native",
        uses_truth=False,
        scene="quadruped-01",
        tags=["quadruped"],
        seed=3,
        config={"steps": 40},
        config_hash=SHA,
        reference_root="scenes/quadruped-01",
        views=[{"name": "input", "azimuth_deg": 0.0, "elevation_deg": 0.0}],
        frames=32,
        prediction_digest=SHA,
        pedigree=pedigree("cpu", {"lpips-vgg": SHA}),
        stages=(Stage(name="coarse", wall_s=1.5, peak_mib=700.0),),
        scene_digest=SHA,
        assumed=("cameras at distance 2",),
        artefacts=(
            Artefact(kind="views", name="views", title="First pass", path="work/views", stride=2),
            Artefact(kind="views", name="again", title="Second pass", path=None, note="has none: why."),
        ),
        variant_of="mvtokenflow",
    )


def test_features_as_written_to_the_log(tmp_path: Path) -> None:
    feature_log(tmp_path).append([_feature_row()])
    (line,) = (tmp_path / "features.jsonl").read_text().splitlines()
    _check("feature", _strict(line))
    assert feature_log(tmp_path).read() == [_feature_row()]


def test_a_manifest_with_stages_and_weights(tmp_path: Path) -> None:
    _manifest().save(tmp_path / "manifest.json")
    _check("manifest", _strict((tmp_path / "manifest.json").read_text()))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("row", Row), ("feature", FeatureRow), ("manifest", Manifest)],
    ids=lambda value: str(value),
)
def test_schemas_and_page_have_the_fields_of_the_code(name: str, kind: Any) -> None:
    schema = _schema(name)
    expected = {field.name for field in fields(kind)} | {"schema"}
    later = (
        {"scene_digest", "assumed", "artefacts", "variant_of"} if kind is Manifest else set()
    )  # earlier versions did not write it
    assert set(schema["properties"]) == set(schema["required"]) | later == expected
    page = (ROOT / "docs/records.md").read_text()
    assert all(f"`{field}`" in page for field in expected)


def test_summary_fields_are_in_its_schema_and_page() -> None:
    page = (ROOT / "docs/records.md").read_text()
    properties = set(_schema("metrics")["properties"])
    assert properties == {field.name for field in fields(Summary)} | {"schema", "values"}
    assert all(f"`{name}`" in page for name in properties)
    for name in _schema("manifest")["properties"]["pedigree"]["properties"]:
        assert f"`{name}`" in page


def test_the_readme_shows_a_valid_score_document() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    _check("score", _strict(block))


def _drop(key: str) -> Callable[[Any], None]:
    return lambda document: document.pop(key)


def _put(key: str, value: Any) -> Callable[[Any], None]:
    return lambda document: document.__setitem__(key, value)


@pytest.mark.parametrize(
    "spoil",
    [
        *(_drop(key) for key in ("schema", "key", "signature", "frame")),
        _put("schema", 2),
        _put("value", "nan"),
        _put("value", None),
        _put("view", "front"),
        _put("frame", -1),
        _put("key", "abc"),
        _put("extra", 1),
    ],
)
def test_the_row_schema_refuses_broken_rows(spoil: Callable[[Any], None]) -> None:
    row = Row(key=SHA, object="cat", view="*", frame=None, metric="psnr", value=float("-inf"), signature="psnr")
    document = _strict(row.to_json())
    _check("row", document)
    broken = copy.deepcopy(document)
    spoil(broken)
    with pytest.raises(jsonschema.ValidationError):
        _check("row", broken)
