"""The examples of the documents, executed as they are printed."""

import contextlib
import importlib
import inspect
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mvtokenflow.eval.gate.recipe import Recipe, write_baseline
from mvtokenflow.eval.records.rows import row_log
from mvtokenflow.eval.score.scoring import Options

ROOT = Path(__file__).resolve().parents[1]
Cli = Callable[..., Any]
Layout = Callable[..., Path]
VIEWS = ("input", "eval_0", "eval_1", "eval_2", "eval_3")


def _modules() -> dict[str, str]:
    """The modules of CONTRIBUTING.md: python blocks by the file name in their first line."""
    blocks = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    return dict(blocks)


MODULES = _modules()


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The examples as modules that can be imported; a folder for what they write. No weights, no cache."""
    folder = tmp_path / "examples"
    folder.mkdir()
    for name, code in MODULES.items():
        (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    for name in ("LPIPS_VGG", "LPIPS_ALEX", "I3D_KINETICS400", "CLIP_VIT_B32_OPENAI"):
        monkeypatch.delenv(f"MVTF_WEIGHTS_{name}", raising=False)
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)


def test_the_guide_holds_the_examples_tested_here() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(MODULES) == text.count("```python")
    assert {"mean_frame", "npz_views", "spheres", "sharpness", "test_metric_sharpness"} <= set(MODULES)


def test_the_method_is_a_measured_row_on_the_dataset(examples: Path, cli: Cli) -> None:
    done = cli(
        "table1",
        "--dataset",
        "spheres:Spheres",
        "--root",
        examples / "spheres",
        "--methods",
        "mean_frame:METHOD,ground-truth",
        "--scenes",
        "red",
        "--runs",
        examples / "runs",
        "--jobs",
        1,
        "--no-quoted",
        "--json",
    )
    assert done.code == 0, done.err
    table = json.loads(done.out)
    keys = [column["key"] for column in table["columns"]]
    rows = {row["label"]: row for row in table["rows"]}
    assert {label: row["group"] for label, row in rows.items()} == {
        "mean-frame": "measured",
        "ground-truth": "oracle",
    }
    cells = {label: dict(zip(keys, row["cells"], strict=True)) for label, row in rows.items()}
    assert cells["ground-truth"]["ssim"]["value"] == 1.0
    assert cells["mean-frame"]["ssim"]["value"] < 0.99
    assert cells["mean-frame"]["motion"]["value"] == 0.0  # it shows one picture at all times
    assert cells["mean-frame"]["warp"]["value"] > 10 * cells["mean-frame"]["warp_floor"]["value"]
    assert "weights fetch lpips-vgg" in cells["mean-frame"]["lpips"]["reason"]


def test_the_dataset_answers_wrong_names_and_moves_the_spot_with_the_camera(examples: Path) -> None:
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.datasets.catalogue import open_dataset

    data = open_dataset("spheres:Spheres", examples / "spheres")
    with pytest.raises(ConfigError, match="Did you mean 'red'"):
        data.scene("rod")
    scene = data.scene("red")
    clip = scene.clip()
    assert len(clip) == len(scene.input.frames)
    assert set(clip.alpha.flatten().tolist()) == {0.0, 1.0}
    # The spot is at the front at time 0: a camera further right sees it further left.
    columns = {}
    for view in (scene.input, *scene.views):
        yellow = np.asarray(Image.open(view.frames[0]))[..., :3] == (240, 220, 120)
        spots = np.nonzero(yellow.all(-1))[1]
        columns[view.azimuth_deg] = spots.mean() if len(spots) else None
    assert columns[15.0] is not None
    assert columns[0.0] is not None
    assert columns[-75.0] is not None
    assert columns[15.0] < columns[0.0] < columns[-75.0]
    assert columns[105.0] is None  # behind


def test_the_importer_reads_a_program_of_its_own(examples: Path, cli: Cli) -> None:
    from mvtokenflow.datasets.catalogue import open_dataset

    scene = open_dataset("spheres:Spheres", examples / "spheres").scene("red")
    views = [scene.input, *scene.views]
    pictures = np.stack([[np.asarray(Image.open(path).convert("RGB")) for path in v.frames] for v in views])
    (examples / "results" / "red").mkdir(parents=True)
    path = examples / "results" / "red" / "result.npz"
    np.savez(path, pictures=pictures, azimuths=np.array([view.azimuth_deg for view in views]))
    words = ("--dataset", "spheres:Spheres", "--root", examples / "spheres", "--kind", "npz_views:NPZ_VIEWS")
    done = cli("import", examples / "results", "-o", examples / "out", *words)
    assert done.code == 0, done.err
    for view, frames in zip(views, pictures, strict=True):
        written = [
            np.asarray(Image.open(examples / f"out/red/{view.name}/{n}.png")) for n in range(len(frames))
        ]
        assert (np.stack(written) == frames).all()
    record = json.loads((examples / "out/red/import.json").read_text())
    assert (record["kind"], record["views"]["eval_0"]["from"]) == ("npz-views", "view 1")
    path.write_bytes(path.read_bytes()[:-100])
    cut = cli("import", examples / "results", "-o", examples / "other", *words)
    assert cut.code == 2
    assert "result.npz" in cut.err
    lost = cli("import", examples / "spheres", "-o", examples / "other", *words)
    assert lost.code == 2
    assert "npz-views lacks result.npz" in lost.err


def test_the_metric_is_scored_under_a_protocol_of_its_own(examples: Path, layout: Layout, cli: Cli) -> None:
    reference, prediction = layout(examples / "gt", views=VIEWS), layout(examples / "pred", views=VIEWS)
    for path in prediction.rglob("*.png"):
        Image.open(path).filter(ImageFilter.GaussianBlur(2)).save(path)
    found = {}
    for name, folder in (("blurred", prediction), ("same", reference)):
        words = ("--gt", reference, "--protocol", "sharpness:SHARP", "--record", examples / name, "--jobs", 1)
        done = cli("score", folder, *words, "--json")
        assert done.code == 0, done.err
        found[name] = json.loads(done.out)
        rows = row_log(examples / name).read()
        assert len(rows) == 5 * 2 * 2  # views, frames, metrics
        assert {row.signature for row in rows if row.metric == "sharpness"} == {
            "sharpness|v:1|p:c4d-sharp-v1|res:512.pil-bicubic|agg:frame>view>object>set"
        }
    assert found["same"]["average"] == {"psnr": 100.0, "sharpness": 1.0}
    assert found["blurred"]["average"]["sharpness"] < 0.9


def test_the_metric_has_a_column_and_a_floor_in_the_gate(
    examples: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(examples)  # the gate opens a dataset without a root
    grid = ("--dataset", "spheres:Spheres", "--root", examples / "spheres", "--methods", "blurred,ground-truth")
    more = ("--scenes", "red", "--protocol", "sharpness:SHARP", "--runs", examples / "runs", "--jobs", 1)
    done = cli("table2", *grid, *more, "--no-quoted", "--json")
    assert done.code == 0, done.err
    table = json.loads(done.out)
    assert [column["title"] for column in table["columns"]] == ["PSNR", "Sharpness"]
    assert [column["better"] for column in table["columns"]] == ["higher", "higher"]
    values = {row["label"]: row["cells"][1]["value"] for row in table["rows"]}
    assert values["ground-truth"] == 1.0 > values["blurred"]
    explained = cli("explain", "table2", "blurred", "Sharpness", *grid[:4], *more[:-2], "--json")
    assert explained.code == 0, explained.err
    assert json.loads(explained.out)["value"] == values["blurred"]
    page = cli("report", *grid, *more[2:-2], "--tables", "table2", "-o", examples / "site")
    assert page.code == 0, page.err
    assert "Sharpness" in (examples / "site" / "index.html").read_text()
    recipe = Recipe(
        dataset="spheres:Spheres",
        methods="blurred",
        scenes="red",
        tables="table2",
        protocol="sharpness:SHARP",
    )
    baseline = examples / "baseline.json"
    write_baseline(baseline, recipe, examples / "gate", Options(), lambda *_: None)
    floors = {cell["metric"]: cell["tolerance"] for cell in json.loads(baseline.read_text())["cells"]}
    assert floors == {"psnr": 1e-3, "sharpness": 1e-5}
    refused = cli("regress", "--against", baseline, "--runs", examples / "gate")
    assert refused.code == 4
    assert "names the protocol 'sharpness:SHARP'" in refused.err or "names the dataset" in refused.err


def test_the_tests_of_the_metric_pass_and_would_notice(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = importlib.import_module("test_metric_sharpness")
    cases = _cases(tests)
    assert len(cases) == 3
    for case in cases.values():
        case()
    monkeypatch.setattr(tests, "sharpness", lambda pred, gt: 1.0)
    with pytest.raises(AssertionError):
        cases["test_blur_lowers_it"]()
    with pytest.raises(pytest.fail.Exception):
        cases["test_a_flat_reference_is_refused"]()


def _cases(module: ModuleType) -> dict[str, Any]:
    return {name: f for name, f in inspect.getmembers(module, inspect.isfunction) if name.startswith("test_")}


def test_the_example_of_the_statistics_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/statistics.md").read_text(), re.S)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docs/statistics.md", "exec"), {})
    assert printed.getvalue() == "5 1 0.0625 True [0.125, 0.5]\n"
