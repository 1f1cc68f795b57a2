"""A method that is broken on purpose turns the gate red.

The faults are those that leave pictures plausible: a weight the wrong way round, signs of normals and flow, the
low-pass of another picture size.
"""

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.eval.gate import recipe as regression
from mvtokenflow.eval.gate.documents import load_document
from mvtokenflow.eval.score.scoring import Options
from mvtokenflow.splat import field, losses
from mvtokenflow.splat.gaussians import LOW_PASS, Gaussians
from mvtokenflow.tokenflow import warp as token_warp

DATA = Path(__file__).parents[1] / "data" / "tables_tiny"
SCENE = "bird-01"


def test_floors_are_those_of_training_for_every_row_that_trains() -> None:
    trained = {
        name: regression.is_trained(method_named(name)) for name in ("mvtokenflow", "true-views", "white")
    }
    assert trained == {"mvtokenflow": True, "true-views": True, "white": False}


@dataclass(frozen=True)
class Fault:
    """What is broken, for which row of `smallmethod`, and the cells (table, metric) that must tell."""

    row: str
    module: Any
    function: str
    broken: Callable[..., Callable[..., Any]]
    tells: frozenset[tuple[str, str]]


def _other_keyframe(right: Callable[..., float]) -> Callable[..., float]:
    def broken(frame: int, before: int, after: int, *, literal: bool = False) -> float:
        return right(frame, before, after, literal=not literal)

    return broken


def _flipped(right: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Of a loss (what is rendered, what it should be, ...)."""

    def broken(rendered: Tensor, target: Tensor, *more: Any) -> Tensor:
        return right(rendered, -target, *more)

    return broken


def _of_the_picture(right: Callable[..., Any]) -> Callable[..., Any]:
    """Of `field._low_passed`: 3DGS's filter over the picture's own pixel, whatever size the fit had."""

    def broken(gaussians: Gaussians, *more: Any) -> tuple[Gaussians, int, float]:
        return replace(gaussians, pixel=None), 1, LOW_PASS

    return broken


FAULTS = {
    "the farther keyframe weighs more": Fault(
        row="METHOD",
        module=token_warp,
        function="blend_weight",
        broken=_other_keyframe,
        tells=frozenset({("table1", "ssim")}),
    ),
    "normals point inwards": Fault(
        row="VIEWS",
        module=losses,
        function="normal_loss",
        broken=_flipped,
        tells=frozenset({("table3", "normal_deg"), ("table3", "psnr"), ("table1", "psnr")}),
    ),
    "flow runs backwards": Fault(
        row="VIEWS",
        module=losses,
        function="flow_loss",
        broken=_flipped,
        tells=frozenset({("table1", "psnr"), ("table3", "psnr"), ("table1", "motion")}),
    ),
    "the low-pass is the picture's": Fault(
        row="VIEWS",
        module=field,
        function="_low_passed",
        broken=_of_the_picture,
        tells=frozenset({("table1", "psnr"), ("table3", "psnr"), ("table1", "ssim")}),
    ),
}


@pytest.fixture(scope="module")
def rows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DATA)
        importlib.import_module("smallmethod")
        yield


@pytest.fixture(scope="module")
def baseline(rows: None, one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The baseline of a row, measured when first asked for: twice, by this process and one thread."""
    folder = tmp_path_factory.mktemp("baseline")

    def written(row: str) -> Path:
        path = folder / f"{row}.json"
        if not path.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(regression, "Options", lambda **options: Options())
                patch.setenv("MVTF_WEIGHTS", str(folder / "none"))
                recipe = regression.Recipe(
                    dataset="toy4d", methods=f"smallmethod:{row}", scenes=SCENE, tables="table1,table3"
                )
                regression.write_baseline(path, recipe, folder / "runs", Options(), lambda *progress: None)
        return path

    return written


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FAULTS))
def test_a_broken_method_turns_the_gate_red(
    name: str, baseline: Callable[[str], Path], cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = FAULTS[name]
    path = baseline(fault.row)
    cells = load_document(path, "baseline")["cells"]
    for cell in cells:
        assert cell["noise"]["worst"] == 0, "without the fault nothing moves"
    right, calls = getattr(fault.module, fault.function), 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return fault.broken(right)(*arguments, **options)

    monkeypatch.setattr(fault.module, fault.function, counted)
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    place = ("--against", path, "--trust-baseline", "--runs", tmp_path / "runs")
    ended = cli("regress", *place, "--jobs", 1, "--json")
    assert calls > 0
    assert ended.code == 1, ended.err
    report = json.loads(ended.out)
    red = {(cell["object"], cell["metric"]) for cell in report["cells"] if cell["outcome"] == "regressed"}
    assert fault.tells <= red, report["cells"]
