"""Flat frames under c4d-v1: what has no mean or no value says so, and where."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.psnr import Psnr
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.records.aggregate import mean, object_values, without_mean
from mvtokenflow.eval.records.rows import Row
from mvtokenflow.eval.records.summary import score_json, why_missing

Layout = Callable[..., Path]


def row(name: str, view: str, frame: int, value: float) -> Row:
    return Row(
        key=f"{name}{view}{frame}",
        object=name,
        view=view,
        frame=frame,
        metric="psnr",
        value=value,
        signature="psnr|v:1",
    )


def reasons(rows: list[Row]) -> tuple[float | None, str]:
    """The average and what is said of it."""
    document = score_json(PROTOCOLS["c4d-v1"], rows, ())
    return document["average"]["psnr"], "; ".join(entry["reason"] for entry in document["missing"])


def test_infinite_in_both_directions_has_no_mean_and_names_the_object() -> None:
    rows = [
        row("ant", "eval_0", 0, math.inf),
        row("ant", "eval_1", 0, -math.inf),
        row("bee", "eval_0", 0, 20.0),
    ]
    assert without_mean(rows, "psnr") == ["ant"]
    assert list(object_values(rows, "psnr")) == ["bee"]
    assert "ant: infinite in frames that equal" in str(why_missing(Psnr(), rows, ()))
    assert why_missing(Psnr(), rows[:1] + rows[2:], ()) is None
    with pytest.raises(DataError, match="no mean"):
        mean([math.inf, -math.inf])


def test_averages_say_in_which_direction_they_are_infinite_and_why() -> None:
    up, down, some = (
        row("ant", "eval_0", 0, math.inf),
        row("bee", "eval_0", 0, -math.inf),
        row("c", "eval_0", 0, 9),
    )
    assert reasons([up, some]) == (None, "infinite: frames equal their reference in ant")
    assert reasons([down, some]) == (None, "minus infinite: the reference of frames is of one flat grey in bee")
    average, both = reasons([up, down, some])
    assert average is None
    assert "in ant; minus infinite" in both


def flatten(path: Path, grey: int) -> None:
    Image.fromarray(np.full((48, 48, 3), grey, np.uint8)).save(path)


def scored(cli: Any, tmp_path: Path, *arguments: object) -> Any:
    folders = tmp_path / "pred", "--gt", tmp_path / "gt", "--record", tmp_path / "r", "--jobs", 1
    return cli("score", *folders, "--protocol", "c4d-v1", *arguments)


@pytest.fixture
def folders(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    return layout(tmp_path / "pred") / "cat", layout(tmp_path / "gt") / "cat"


def test_a_flat_reference_beside_an_equal_frame_leaves_the_cell_missing(
    folders: tuple[Path, Path], tmp_path: Path, cli: Any
) -> None:
    flatten(folders[1] / "eval_0" / "1.png", 200)
    outcome = scored(cli, tmp_path, "--json")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert document["objects"]["cat"]["psnr"] is document["average"]["psnr"] is None
    assert any(m["metric"] == "psnr" and m["reason"].startswith("cat: infinite") for m in document["missing"])
    assert document["average"]["ssim"] is not None


def test_two_flat_frames_are_named_with_a_protocol_that_has_a_value(
    folders: tuple[Path, Path], tmp_path: Path, cli: Any
) -> None:
    for folder in folders:
        flatten(folder / "eval_2" / "1.png", 255)
    outcome = scored(cli, tmp_path)
    assert outcome.code == 2
    sentence = " ".join(outcome.err.split())
    assert "cat/eval_2/1.png: SSIM" in sentence.replace("eval_2/ 1.png", "eval_2/1.png")
    assert "under c4d-fixed-v1" in sentence
