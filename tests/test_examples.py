"""The programs of `examples/`, executed on tiny inputs, and the lines of Python in the README."""

import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from settings import few_steps

import mvtokenflow
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.datasets.toy4d.toys import make_toy
from mvtokenflow.media.pictures import read_rgb, read_rgba, write_png
from mvtokenflow.method.config import MethodConfig

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.usefixtures("one_thread")


def _example(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_and_listed() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    listed = set(re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\) \|", (EXAMPLES / "README.md").read_text(), re.M))
    assert listed == names
    text = Path(__file__).read_text()
    for name in names:
        assert f'_example("{name}"' in text
        assert (EXAMPLES / f"{name}.py").read_text().count("\n") < 80, f"{name} is not short"


def test_own_video(prior_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = render(make_toy("fish", 7), six_views(64)[:1], [0.0, 0.5, 1.0])
    for n, rgba in enumerate(np.concatenate((seen.rgb, seen.alpha), axis=-1)[:, 0]):
        write_png(tmp_path / "clip" / f"{n}.png", rgba)
    example = _example("own_video", monkeypatch)
    picture = example.main(tmp_path / "clip", tmp_path / "out", few_steps(prior_file), size=48)
    assert picture == tmp_path / "out" / "side.png"
    rgba = read_rgba(picture)
    assert rgba.shape == (48, 48, 4)
    assert rgba[..., 3].max() > 0, "the field is seen"
    assert (tmp_path / "out" / "index.html").is_file()


def test_score_a_folder(
    layout: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    reference, prediction = layout(tmp_path / "gt"), layout(tmp_path / "pred", shift=1)
    found = _example("score_a_folder", monkeypatch).main(prediction, reference, tmp_path / "record")
    assert set(found) == {"psnr", "ssim"}
    assert 10 < found["psnr"] < 40
    document = json.loads((tmp_path / "record" / "score-c4d-fixed-v1.json").read_text())
    assert document["average"]["psnr"] == found["psnr"]
    printed = capsys.readouterr().out
    assert f"psnr         {found['psnr']:.4f}" in printed
    assert "lpips        missing: " in printed


def test_rasterizer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 32), indexing="ij")
    disc = ((x**2 + y**2) < 0.4).float()[..., None]
    target = 1 - disc * torch.tensor([0.2, 0.7, 0.9])
    picture, losses = _example("rasterizer_alone", monkeypatch).fit(target, count=60, steps=60)
    assert picture.shape == target.shape
    assert losses[-1] < 0.2 * losses[0]


def test_own_method(
    tiny: Any, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    _example("own_method", monkeypatch)
    given = ("table2", "--dataset", "tinyscenes:Tiny", "--root", tmp_path / "data", "--runs", tmp_path / "runs")
    done = cli(*given, "--methods", "own_method:METHOD,ground-truth", "--scenes", "ant", "--jobs", 1, "--json")
    assert done.code == 0, done.err
    rows = {row["label"]: row for row in json.loads(done.out)["rows"] if row["group"] != "quoted"}
    assert set(rows) == {"card", "ground-truth"}
    folder = next((tmp_path / "runs").glob("tiny/card/ant/*/pred"))
    front, behind = (read_rgb(folder / view / "0.png") for view in ("input", "eval_3"))
    assert (front < 255).any()
    assert (behind != front).any()


def test_records_into_pandas(
    tiny: Any, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    given = ("table2", "--dataset", "tinyscenes:Tiny", "--root", tmp_path / "data", "--runs", tmp_path / "runs")
    done = cli(*given, "--methods", "white,ground-truth", "--scenes", "ant,bee", "--jobs", 1, "--json")
    assert done.code == 0, done.err
    example = _example("records_into_pandas", monkeypatch)
    table = example.by_method_and_view(tmp_path / "runs")
    assert list(table.index) == ["ground-truth", "white"]
    assert list(table.columns) == ["eval_0", "eval_1", "eval_2", "eval_3"]
    assert (table.loc["ground-truth"] == 100).all()
    worst = example.worst_frames(tmp_path / "runs", count=3)
    assert set(worst["method"]) == {"white"}
    assert len(worst) == 3
    assert worst["value"].is_monotonic_increasing
    assert worst["value"].max() < table.loc["white"].mean()


def test_the_card_is_narrow_from_the_side_and_mirrored_from_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    card = _example("own_method", monkeypatch).card
    frames = np.full((1, 9, 9, 3), 255, np.uint8)
    frames[0, 2:7, 1:4] = (200, 30, 30)
    assert (card(frames, 0.0) == frames).all()
    assert (card(frames, 180.0) == frames[:, :, ::-1]).all()
    wide, narrow = ((card(frames, a) < 255).any(axis=(0, 1, 3)).sum() for a in (0.0, 60.0))
    assert 0 < narrow < wide


def test_the_python_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a function of the same signature in place of the one that takes minutes."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    real = inspect.signature(mvtokenflow.make_asset)
    calls: list[inspect.BoundArguments] = []

    class Asset:
        field = turntable = Path("x")

        class result:  # noqa: N801
            front_iou = 1.0

    def make_asset(*positional: Any, **named: Any) -> Any:
        calls.append(real.bind(*positional, **named))
        return Asset

    monkeypatch.setattr(mvtokenflow, "make_asset", make_asset, raising=False)
    exec(compile(code, "README.md", "exec"), {})
    assert isinstance(calls[0].arguments["config"], MethodConfig)
    from mvtokenflow.method.asset import Asset as Real

    assert {"field", "turntable", "result"} <= set(Real.__dataclass_fields__)
