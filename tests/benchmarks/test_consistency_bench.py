"""The measurement of the consistency steps: rows differ in what they say, and run once."""

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.flow.ops import warp
from mvtokenflow.media.pictures import to_uint8
from mvtokenflow.method.config import mini
from mvtokenflow.multiview.sampler import generate
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small.codec import PatchCodec, place_planes
from mvtokenflow.small.config import small_sampling, small_unet_config
from mvtokenflow.small.prior import load_small_prior, save_small_prior, six_cameras

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SIZE = 16


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("consistency")


@pytest.fixture
def report(bench: ModuleType) -> ModuleType:
    return importlib.import_module("consistency_report")


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    config = small_unet_config((8, 16), (1, 2))
    torch.manual_seed(0)
    unet = MultiviewUNet.from_config(config)
    means = torch.rand(2, 6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    scales = torch.full((2, 6), 0.25)
    scales[1, 0] = 0
    codec = PatchCodec(means=means, scales=scales, places=place_planes(six_cameras(SIZE), 4), patch=4)
    path = tmp_path / "prior.safetensors"
    save_small_prior(path, unet.state_dict(), config, codec, {"samples": "0"})
    return path


def test_rows_are_paired_measured_and_kept(bench: ModuleType, untrained: Path, tmp_path: Path) -> None:
    names = ("truth", "frozen", "mean", "independent", "shared", "keyframes", "all-exact:tau=1")
    job = bench.Job(
        scene="fish-01",
        names=names,
        seeds=(0,),
        measures=("pictures",),
        study=bench.Study(prior=untrained, frames=3, stride=4, steps=2),
        parts=tmp_path / "parts",
    )
    bench.run_job(job)
    summary = bench.collect([job])
    value = {name: {k: v["mean"] for k, v in row["values"].items()} for name, row in summary["rows"].items()}
    assert value["truth"]["psnr"] == 100
    assert value["truth"]["detail"] == value["truth"]["iou"] == 1
    assert value["truth"]["normal"] < 0.4  # normals are kept in bytes
    assert value["frozen"]["flicker"] == 0 < value["truth"]["flicker"]
    # The same noise in every frame leaves only what the input moves.
    assert value["shared"]["flicker"] < 0.5 * value["independent"]["flicker"]
    assert value["keyframes"] != value["shared"]
    assert value["all-exact:tau=1"] != value["keyframes"]
    assert 0 <= summary["rows"]["all-exact:tau=1"]["tokens"]["own_4"] < 1

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").rglob("*.*")}
    assert len(kept) == 2 * len(names)
    bench.run_job(job)
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").rglob("*.*")}
    bench.write_strips([job], tmp_path, 1)
    assert (tmp_path / "fish-01-view1.png").exists()


def test_exact_flow_leads_to_the_keyframes_and_still_flow_nowhere(bench: ModuleType) -> None:
    study = bench.Study(prior=Path("none"), frames=5, stride=2)
    truth = bench.render_truth("fish-01", study.times, 32)
    exact = bench.make_flows(bench.find("all-exact"), "fish-01", study.times, truth)
    still = bench.make_flows(bench.find("all-still"), "fish-01", study.times, truth)
    assert exact.views == still.views == tuple(range(6))
    assert bench.make_flows(bench.find("front-dis"), "fish-01", study.times, truth).views == (0,)
    assert bench.make_flows(bench.find("keyframes"), "fish-01", study.times, truth) is None
    assert not still.flow.any()
    pictures = torch.from_numpy(truth.rgb.astype(np.float32))

    def error(flows: object) -> float:
        moved = warp(pictures[0], flows.flow[0, 2])  # type: ignore[attr-defined]  # a KeyframeFlow
        return float((moved - pictures[2]).abs()[exact.visible[0, 2]].mean())

    assert error(exact) < 0.6 * error(still)


def test_changed_variants_are_compared_to_the_plain_one(bench: ModuleType) -> None:
    changed = bench.find("front-exact:tau=0.25,interval=8,fallback=warped,share_noise=False")
    assert changed.against == ("front-exact",)
    assert not changed.share_noise
    assert (changed.tokens.tau, changed.tokens.interval, changed.tokens.fallback) == (0.25, 8, "warped")
    with pytest.raises(ConfigError, match="tau"):
        bench.find("front-exact:taus=1")
    with pytest.raises(ConfigError, match="no token flow"):
        bench.find("shared:tau=1")
    with pytest.raises(ConfigError, match="front-exact"):
        bench.find("front-exakt")
    with pytest.raises(ConfigError, match="32"):
        bench.Study(prior=Path("none"), frames=18, stride=2)


def test_rows_that_differ_behind_the_decimal_point_are_kept_apart(
    bench: ModuleType, untrained: Path, tmp_path: Path
) -> None:
    names = ("all-exact:tau=0.17", "all-exact:tau=0.5", "all-exact:tau=0.5,interval=2")
    study = bench.Study(prior=untrained, frames=4, stride=4, steps=2)
    job = bench.Job(
        scene="fish-01",
        names=("truth", *names),
        seeds=(0,),
        measures=("pictures",),
        study=study,
        parts=tmp_path / "parts",
    )
    jobs = (job, replace(job, study=replace(study, steps=3)))
    paths = {
        bench.cell_path(one, name, seed, kind)
        for one in jobs
        for name in names
        for seed in (0, 1)
        for kind in ("json", "npz")
    }
    assert len(paths) == len(jobs) * len(names) * 2 * 2
    assert {path.suffix for path in paths} == {".json", ".npz"}

    bench.run_job(job)
    assert len(list(job.parts.rglob("*.*"))) == 2 * (1 + len(names))
    truth = bench.render_truth("fish-01", study.times, SIZE)
    prior = load_small_prior(untrained)
    made = {}
    for name in names:
        variant = bench.find(name)
        flows = bench.make_flows(variant, "fish-01", study.times, truth)
        rgb, _, _ = bench.sample(prior, study, variant, truth, flows, seed=0)
        with np.load(bench.cell_path(job, name, 0, "npz")) as arrays:
            assert np.array_equal(arrays["rgb"], rgb)
        made[name] = rgb.tobytes()
    assert len(set(made.values())) == len(made)

    outs = [tmp_path / name for name in ("tau=0.5", "tau=0.17", "a.json")]
    assert [bench.parts_folder(out).name for out in outs] == ["tau=0.5.parts", "tau=0.17.parts", "a.parts"]


def test_noise_that_is_not_shared_is_drawn_for_every_frame(bench: ModuleType, untrained: Path) -> None:
    for word, value in (("false", False), ("False", False), ("FALSE", False), ("true", True), ("True", True)):
        assert bench.find(f"keyframes:share_noise={word}").share_noise is value
    study = bench.Study(prior=untrained, frames=3, stride=4, steps=2)
    truth = bench.render_truth("fish-01", study.times, SIZE)
    prior = load_small_prior(untrained)

    def rgb(name: str) -> Any:
        return bench.sample(prior, study, bench.find(name), truth, None, seed=0)[0]

    sampling = replace(small_sampling(study.steps, study.jump), chunk=study.chunk, share_noise=False)
    front = torch.from_numpy(truth.rgb[:, 0]).float() / 255
    wanted = to_uint8(generate(prior, front, sampling, torch.Generator().manual_seed(0)).rgb.numpy())
    assert np.array_equal(rgb("shared:share_noise=false"), wanted)
    assert not np.array_equal(rgb("shared"), wanted)
    assert not np.array_equal(rgb("keyframes:share_noise=false"), rgb("keyframes"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("share_noise=maybe", "share_noise is 'maybe'; expected true or false"),
        ("share_noise=0", "share_noise is '0'; expected true or false"),
        ("share_noise=", "share_noise is ''; expected true or false"),
        ("share_noise", "write it as name=value"),
        ("literal_lambda=1", "literal_lambda is '1'; expected true or false"),
        ("tau=1/6", "tau is '1/6'; expected a finite number"),
        ("tau=1.5", "tau is 1.5; expected a share"),
        ("interval=2.5", "interval is '2.5'; expected a whole number"),
        ("fallback=none", "fallback is 'none'; expected own or warped"),
    ],
)
def test_settings_of_another_type_are_refused(bench: ModuleType, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bench.find(f"all-exact:{setting}")


def test_rows_that_nothing_sampled_have_no_settings(bench: ModuleType) -> None:
    with pytest.raises(ConfigError, match="'truth' is not sampled"):
        bench.find("truth:share_noise=false")


def test_rows_keep_their_attention_when_the_preset_changes(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = mini()
    changed = replace(changed, token_flow=replace(changed.token_flow, enlarged="all"))
    monkeypatch.setattr("mvtokenflow.method.config.mini", lambda: changed)
    rows = importlib.import_module("consistency_rows")
    assert rows._tokens(propagation="none").enlarged == "keyframes+own"
    assert bench.find("all-frames").tokens.enlarged == "all"


def test_differences_are_of_scenes_and_sets(report: ModuleType) -> None:
    draws = np.random.default_rng(0)
    scenes = [f"scene-{k}" for k in range(8)]
    base = {scene: float(draws.normal(20, 5)) for scene in scenes}
    records = {
        "first": {s: {"warp": dict.fromkeys(range(6), base[s]), "report": {}} for s in scenes},
        "second": {
            s: {"warp": dict.fromkeys(range(6), base[s] - 1), "report": {"own_16": 0.25}} for s in scenes
        },
    }
    clips = {scene: draws.normal(size=(5, 400)) for scene in scenes}
    logits = {
        "truth": clips,
        "first": {s: clip + 1 for s, clip in clips.items()},
        "second": clips,
    }
    found = report.summarise(records | {"truth": records["first"]}, logits, {"second": ("first", "absent")})
    warped, sets = found["differences"]
    assert warped["mean"] == pytest.approx(-1)
    assert warped["low"] == pytest.approx(-1)
    assert warped["falls"] == 8
    assert warped["p"] == 2 / 2**8
    assert sets["mean"] == pytest.approx(-400)  # 400 logits, each shifted by 1
    assert sets["high"] < 0
    assert found["rows"]["second"]["tokens"] == {"own_16": 0.25}
    text = report.markdown(found, {name: name for name in found["rows"]})
    assert "| second − first | **-1.000** [-1.000, -1.000] p=0.0078 | **-400.0**" in text
