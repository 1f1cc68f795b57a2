"""Means: by name, with exact sums, and honest about what they cover."""

import math
import random

import pytest

from mvtokenflow.eval.records.aggregate import mean, object_values, signature_of
from mvtokenflow.eval.records.rows import Row


def row(name: str, view: str, frame: int | None, value: float, signature: str = "psnr|v:1") -> Row:
    key = f"{name}/{view}/{frame}/{value}/{signature}"
    return Row(key=key, object=name, view=view, frame=frame, metric="psnr", value=value, signature=signature)


def test_the_mean_does_not_depend_on_order() -> None:
    values = [random.Random(5).uniform(0, 50) * 10 ** (i % 17 - 8) for i in range(500)]
    expected = mean(values)
    for seed in range(20):
        random.Random(seed).shuffle(values)
        assert mean(values) == expected
    assert mean([1e16, 1.0, -1e16]) == 1 / 3
    assert mean([math.inf, 1.0]) == math.inf
    with pytest.raises(ValueError, match="nothing"):
        mean([])


def test_frames_then_views_then_objects() -> None:
    rows = [row("cat", "eval_0", frame, value) for frame, value in enumerate((10.0, 20.0, 60.0))]
    rows += [row("cat", "eval_1", 0, 50.0)]
    (value,) = object_values(rows, "psnr").values()
    assert value.views == {"eval_0": 30.0, "eval_1": 50.0}
    assert value.value == 40.0, "a view counts once, however many frames it has"
    assert value.frames == {"eval_0": 3, "eval_1": 1}


def test_order_of_rows_does_not_matter_and_others_are_ignored() -> None:
    rows = [
        row(name, view, f, f * 1.1) for name in ("cat", "dog") for view in ("eval_0", "input") for f in (0, 1)
    ]
    expected = object_values(rows, "psnr")
    assert list(expected) == ["cat", "dog"]
    assert object_values(reversed(rows), "psnr") == expected
    assert object_values(rows, "ssim") == {}
    only = object_values(rows, "psnr", views=("input",))
    assert only["cat"].views == {"input": pytest.approx(0.55)}
    assert object_values(rows, "psnr", views=("eval_3",)) == {}


def test_a_frame_measured_again_counts_once_with_its_last_value() -> None:
    rows = [row("cat", "eval_0", 0, 10.0), row("cat", "eval_0", 1, 30.0), row("cat", "eval_0", 0, 20.0)]
    assert object_values(rows, "psnr")["cat"].value == 25.0


def test_the_signature_says_what_a_mean_covers() -> None:
    rows = [row("cat", v, f, 1.0) for v in ("eval_0", "eval_1") for f in range(3)]
    rows += [row("dog", v, f, 1.0) for v in ("eval_0", "eval_1") for f in range(2)]
    assert signature_of(object_values(rows, "psnr")) == "psnr|v:1|frames:2,3|views:2|objects:2"
    clips = [row("cat", "eval_0", None, 1.0, "fvd|clip:8"), row("dog", "eval_0", None, 1.0, "fvd|clip:32")]
    assert signature_of(object_values(clips, "psnr")) == "fvd|clip:8,32|views:1|objects:2"


def test_values_measured_differently_stay_apart_in_the_signature() -> None:
    mixed = [row("cat", "eval_0", 0, 1.0, "a|v:1"), row("dog", "eval_0", 0, 1.0, "b|v:1")]
    assert signature_of(object_values(mixed, "psnr")) == (
        "a|v:1|frames:1|views:1|objects:2 + b|v:1|frames:1|views:1|objects:2"
    )
