"""`mvtf-eval score` gives what Consistent4D's own scripts gave on the same pictures, to their last digits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mvtokenflow.base.errors import WeightsMissingError
from mvtokenflow.eval.records.rows import row_log
from mvtokenflow.weights import ledger as weights

OBJECTS = ("bluejay", "trex", "trexpale")
# Measured by whoever made the fixture: float32 sums in another order, and SSIM in float32 on [0, 255] upstream.
TOLERANCES = {"psnr": 1e-4, "ssim": 5e-4, "lpips": 1e-5, "clip": 1e-5}
FVD_TOLERANCE = 1e-5  # relative
# One clip of the 12 is at 1.02e-5 here; the fixture's makers saw 2e-6 between float32 and float64 of the mean.
CLIP_FVD_TOLERANCE = 3e-5
Score = Callable[..., dict[str, Any]]


@pytest.fixture
def expected(shared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "parity/metrics_c4d/expected.json").read_text())
    return found


@pytest.fixture
def score(shared: Path, cli: Any, tmp_path: Path) -> Score:
    """Score the fixture; the document `--json` prints."""
    root = shared / "parity/metrics_c4d"

    def run(protocol: str, *arguments: object) -> dict[str, Any]:
        outcome = cli(
            "score",
            root / "pred",
            "--gt",
            root / "gt",
            "--protocol",
            protocol,
            "--clip",
            shared / "parity/tiny_clip",
            "--record",
            tmp_path / protocol,
            "--jobs",
            1,
            "--json",
            *arguments,
        )
        assert outcome.code == 0, outcome.err
        document: dict[str, Any] = json.loads(outcome.out)
        return document

    return run


def need(*names: str) -> None:
    for name in names:
        try:
            weights.resolve(name)
        except WeightsMissingError as missing:
            pytest.skip(str(missing))


def check(
    document: dict[str, Any], expected: dict[str, Any], name: str, fp64: str, without: tuple[str, ...] = ()
) -> None:
    """One object, or the average over all, against the published scripts and the float64 value of SSIM."""
    found = document["average"] if name == "average" else document["objects"][name]
    for metric, tolerance in TOLERANCES.items():
        if metric in without:
            continue
        assert found[metric] == pytest.approx(expected["image_level"][metric][name], abs=tolerance), metric
    assert found["fvd_c4d"] == pytest.approx(expected["video_level"][name], rel=FVD_TOLERANCE)
    assert found["ssim"] == pytest.approx(expected["variants"][fp64][name], abs=1e-6)


def test_one_object_agrees_with_the_published_scripts(
    score: Score, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but LPIPS, whose 64 pictures take half a minute; it is in the slow test over all objects."""
    need("i3d-kinetics400")
    monkeypatch.setenv("MVTF_WEIGHTS_LPIPS_VGG", str(tmp_path / "none"))
    document = score("c4d-v1", "--objects", "trexpale")
    check(document, expected, "trexpale", "ssim_fp64_crop5_max_range", without=("lpips",))
    assert document["average"] == document["objects"]["trexpale"]
    assert [entry["metric"] for entry in document["missing"]] == ["lpips"]
    rows = {(r.metric, r.view, r.frame): r.value for r in row_log(tmp_path / "c4d-v1").read()}
    for view, values in enumerate(expected["per_frame"]["psnr"]["trexpale"]):  # every frame, not only the means
        measured = [rows["psnr", f"eval_{view}", frame] for frame in range(len(values))]
        assert measured == pytest.approx(values, abs=TOLERANCES["psnr"])
    for view, value in enumerate(expected["per_view"]["trexpale"]["fvd"]):
        assert rows["fvd_c4d", f"eval_{view}", None] == pytest.approx(value, rel=CLIP_FVD_TOLERANCE)


def test_the_fixed_protocol_is_the_fixed_variant_and_needs_no_force(
    score: Score, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    document = score("c4d-fixed-v1", "--objects", "trexpale")
    found, variants = document["objects"]["trexpale"], expected["variants"]
    assert found["psnr"] == pytest.approx(variants["psnr_255"]["trexpale"], abs=1e-6)
    assert found["ssim"] == pytest.approx(variants["ssim_fp64_nocrop_255"]["trexpale"], abs=1e-6)
    assert found["clip"] == pytest.approx(expected["image_level"]["clip"]["trexpale"], abs=1e-5)
    assert found["lpips"] is None
    assert {entry["metric"] for entry in document["missing"]} == {"lpips", "fvd_c4d"}
    assert all("weights fetch" in entry["reason"] for entry in document["missing"])


@pytest.mark.slow
def test_all_objects_agree_with_the_published_scripts(
    score: Score, expected: dict[str, Any], tmp_path: Path
) -> None:
    need("lpips-vgg", "i3d-kinetics400")
    document = score("c4d-v1", "--jobs", 2)
    for name in (*OBJECTS, "average"):
        check(document, expected, name, "ssim_fp64_crop5_max_range")
    assert document["missing"] == []
    rows = {(r.metric, r.object, r.view, r.frame): r.value for r in row_log(tmp_path / "c4d-v1").read()}
    for metric in ("psnr", "lpips", "clip"):
        for name in OBJECTS:
            for view, values in enumerate(expected["per_frame"][metric][name]):
                measured = [rows[metric, name, f"eval_{view}", frame] for frame in range(len(values))]
                assert measured == pytest.approx(values, abs=TOLERANCES[metric]), (metric, name, view)


@pytest.mark.slow
def test_all_objects_under_the_fixed_protocol_are_the_fixed_variants(
    score: Score, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    document, variants = score("c4d-fixed-v1"), expected["variants"]
    for name in (*OBJECTS, "average"):
        found = document["average"] if name == "average" else document["objects"][name]
        assert found["psnr"] == pytest.approx(variants["psnr_255"][name], abs=1e-6)
        assert found["ssim"] == pytest.approx(variants["ssim_fp64_nocrop_255"][name], abs=1e-6)
