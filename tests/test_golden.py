"""What others rely on, byte for byte: signatures, schemas, documents, layouts of folders, shipped weights.

A test that fails here says that a published form changed. If it was meant to, rewrite the file with

    python tests/test_golden.py

and say in the commit and in CHANGELOG.md what changed and why.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from settings import few_steps

from mvtokenflow.eval.protocols import PROTOCOLS, readings

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "data" / "golden"
WRITE = "MVTF_WRITE_GOLDEN"
# Weights are identified by content, wherever they lie in the package.
SHIPPED = ("prior.safetensors", "clip.safetensors")


def signatures() -> Mapping[str, str]:
    """Every signature string: of all protocols and metrics, and of the other readings of each protocol."""
    found = {}
    for name, protocol in PROTOCOLS.items():
        for spec in protocol.metrics:
            found[f"{name} {spec.key}"] = protocol.signature(spec)
        for label, reading in readings(protocol):
            for spec in reading.metrics:
                found[f"{name}, {label}, {spec.key}"] = reading.signature(spec)
    return found


def schemas() -> Mapping[str, str]:
    """sha256 of the published schemas of records."""
    return {path.name: _sha(path) for path in sorted((ROOT / "docs" / "schemas").glob("*.json"))}


def weights() -> Mapping[str, str]:
    """sha256 of the weights in the package."""
    found = {path.name: path for path in (ROOT / "mvtokenflow").rglob("*.safetensors")}
    return {name: _sha(found[name]) for name in SHIPPED}


def shape(document: Any) -> Any:
    """A document with its values replaced by their types; of a list its first entry, of tables all fields."""
    if isinstance(document, Mapping):
        return {name: shape(value) for name, value in sorted(document.items())}
    if isinstance(document, Sequence) and not isinstance(document, str):
        return [shape(document[0])] if document else []
    return type(document).__name__


def _sha(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


FACTS: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "signatures": signatures,
    "schemas": schemas,
    "weights": weights,
}


def _wanted(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def _write(name: str, facts: Any) -> None:
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / f"{name}.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("name", FACTS)
def test_published_forms_stay_as_they_are(name: str) -> None:
    assert FACTS[name]() == _wanted(name)


def _score(layout: Callable[..., Path], cli: Callable[..., Any], folder: Path) -> Any:
    """The document of `mvtf-eval score --json` on pictures of conftest, without any weights."""
    reference, prediction = layout(folder / "gt"), layout(folder / "pred", shift=1)
    done = cli("score", prediction, "--gt", reference, "--record", folder / "rec", "--jobs", 1, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    for entry in document["missing"]:
        entry["reason"] = ""  # sentences may be said better
    rows = (folder / "rec" / "rows.jsonl").read_text().splitlines()
    document["first row"] = json.loads(rows[0])
    return document


def _table(tiny: Any, cli: Callable[..., Any], folder: Path) -> Any:
    """The form of the document of `mvtf-eval table2 --json`."""
    given = ("table2", "--dataset", "tinyscenes:Tiny", "--root", folder / "data", "--runs", folder / "runs")
    done = cli(*given, "--methods", "white,ground-truth", "--scenes", "ant", "--jobs", 1, "--json")
    assert done.code in (0, 2), done.err
    return shape(json.loads(done.out))


def _runs(folder: Path) -> list[str]:
    """Files of a runs folder, hashes left out of their names and pictures counted by their folder."""
    names = set()
    for path in folder.rglob("*"):
        if path.is_file():
            parts = [
                part.split("-")[0] if part.startswith("seed") else part
                for part in path.relative_to(folder).parts
            ]
            last = "<n>.png" if path.suffix == ".png" else parts[-1]
            last = "<events>" if last.startswith("events.") else last
            names.add("/".join([*parts[:-1], last]))
    return sorted(names)


def test_documents_and_folders(
    tiny: Any,
    layout: Callable[..., Path],
    cli: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    found = {
        "score --json": _score(layout, cli, tmp_path),
        "table2 --json": _table(tiny, cli, tmp_path),
        "runs": _runs(tmp_path / "runs"),
    }
    if WRITE in os.environ:
        _write("documents", found)
    assert found == _wanted("documents")


def test_layout_of_the_stages(prior_file: Path, tmp_path: Path) -> None:
    """Of a run of the whole method, which the pages and other people's scripts read."""
    from mvtokenflow.datasets.toy4d.render import render
    from mvtokenflow.datasets.toy4d.stream import six_views
    from mvtokenflow.datasets.toy4d.toys import make_toy
    from mvtokenflow.media.video import Clip
    from mvtokenflow.method.pipeline import run

    picture = render(make_toy("fish", 7), six_views(64)[:1], [0.0, 0.5, 1.0])
    clip = Clip(
        rgb=torch.from_numpy(picture.rgb[:, 0]), alpha=torch.from_numpy(picture.alpha[:, 0]), name="toy"
    )
    run(clip, replace(few_steps(prior_file), stride=1), tmp_path, 0)
    found = {"files": _runs(tmp_path)}
    if WRITE in os.environ:
        _write("stages", found)
    assert found == _wanted("stages")


if __name__ == "__main__":
    for fact, make in FACTS.items():
        _write(fact, make())
    os.environ[WRITE] = "1"
    sys.exit(pytest.main([__file__, "-q"]))
