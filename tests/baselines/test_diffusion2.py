"""Diffusion² as a row: what it finds with a faultless prior, resume, record, command line."""

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from oracle import Truth, oracle_prior, toy_truth

from mvtokenflow.base.errors import ConfigError, WeightsMissingError
from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.baselines.diffusion2.pipeline import SmallModels, run
from mvtokenflow.baselines.diffusion2.row import Diffusion2
from mvtokenflow.baselines.diffusion2.sampler import sample_matrix
from mvtokenflow.baselines.diffusion2.settings import Diffusion2Settings, MatrixSampling, mini, paper
from mvtokenflow.baselines.method import Configurable, Costed, Documented, Setup, Weighted
from mvtokenflow.multiview.config import SquareConfig
from mvtokenflow.small.video_linear import LinearVideo, Moments
from mvtokenflow.splat.previews import psnr
from mvtokenflow.splat.training_config import StageConfig
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, orbit

DATA = Path(__file__).parents[1] / "data" / "tables_tiny"
FAR = 0.5  # of a clip: frames that far apart have nothing in common


def slow_moments() -> Moments:
    """Of pictures of unit variance that change slowly and whose anchor is exact."""
    lags = torch.linspace(0, 1, 9, dtype=torch.float64)
    decay = (-((lags / FAR).square())).exp().expand(2, 6, -1).contiguous()
    return Moments(lags=lags, frames=decay, anchor=decay, anchor_square=torch.ones(2, 6, dtype=torch.float64))


def small_settings(static: int = 3, moving: int = 3) -> Diffusion2Settings:
    """Four frames of 32 pixels."""
    base = mini()
    fit = replace(
        base.reconstruction,
        static=StageConfig(iterations=static),
        coarse=StageConfig(iterations=moving),
        points=1500,
        field=replace(base.reconstruction.field, control_points=32),
    )
    return replace(
        base,
        square=SquareConfig(size=32, crop_size=-1),
        stride=1,
        sampling=MatrixSampling(timesteps=(999, 734, 381, 40), renoised=1, least=0.9),
        reconstruction=fit,
    )


@pytest.fixture(scope="module")
def truth() -> Truth:
    return toy_truth()


def oracle_models(truth: Truth) -> SmallModels:
    return SmallModels(prior=oracle_prior(truth), video=LinearVideo(slow_moments()), names={"prior": "oracle"})


def test_the_matrix_of_a_faultless_prior_is_the_scene(truth: Truth) -> None:
    made = sample_matrix(
        oracle_prior(truth),
        LinearVideo(slow_moments()),
        truth.at(0),
        truth.clip.times,
        small_settings().sampling,
        torch.Generator().manual_seed(0),
    )
    places = [truth.azimuths.index(angle) for angle in ERA3D_AZIMUTHS_DEG]
    assert psnr(made.rgb, truth.pictures[:, places]) > 35
    assert float(((made.alpha > 0.5) == (truth.alpha[:, places] > 0.5)).float().mean()) > 0.98


@pytest.mark.slow
def test_it_finds_the_scene_that_a_faultless_prior_shows(truth: Truth, tmp_path: Path) -> None:
    field, _ = run(truth.clip, small_settings(300, 500), oracle_models(truth), tmp_path, 0)
    cameras = orbit(ERA3D_AZIMUTHS_DEG, size=32, kind="ortho", radius=3.0)
    with torch.no_grad():
        found = torch.tensor(
            [
                [psnr(one, truth.at(angle)[frame]) for one, angle in zip(seen, ERA3D_AZIMUTHS_DEG, strict=True)]
                for frame, time in enumerate(truth.clip.times.tolist())
                for seen in [field.render(cameras, time).rgb]
            ]
        )
    assert float(found.mean()) > 30, found


class KilledError(Exception):
    """Stands for a signal that ends the process."""


@pytest.mark.parametrize("stage", ["denoise", "static", "coarse"])
def test_a_killed_run_ends_as_one_that_was_not(stage: str, truth: Truth, tmp_path: Path) -> None:
    def kill(name: str, done: int, total: int) -> None:
        if name == stage and done >= 2:
            raise KilledError

    settings, models = small_settings(), oracle_models(truth)
    run(truth.clip, settings, models, tmp_path / "whole", 0)
    with pytest.raises(KilledError):
        run(truth.clip, settings, models, tmp_path / "killed", 0, progress=kill)
    run(truth.clip, settings, models, tmp_path / "killed", 0)
    for name in ("views/view_1/2.png", "fit/static/field.safetensors", "fit/coarse/field.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    with pytest.raises(ConfigError, match="another run"):
        run(truth.clip, replace(settings, stride=2), models, tmp_path / "killed", 0)


# ---- the row ----


def test_the_row_states_what_it_is() -> None:
    row = method_named("diffusion2", Setup(device="cuda"))
    assert isinstance(row, Diffusion2)
    assert isinstance(row, Configurable)
    assert isinstance(row, Costed)
    assert isinstance(row, Documented)
    assert isinstance(row, Weighted)
    assert (row.name, row.source, row.uses_truth, row.setup.device) == ("diffusion2", "native", False, "cuda")
    small, large = row.config(), method_named("diffusion2", Setup(preset="paper")).config()
    assert small["diffusion2"] == mini().to_dict()
    assert large["diffusion2"] == paper().to_dict()
    assert set(small["exchanged"]) >= {"multiview model", "video model", "front", "fit"}
    assert all(len(value) == 64 for value in small["models"].values())
    assert large["models"] == {"prior": "sv3d", "video": "svd-xt"}
    assert "no learned video prior" in small["exchanged"]["video model"]
    learned = Diffusion2(base=replace(mini(), models="learned", video_file="none.safetensors")).config()
    assert "windows" in learned["exchanged"]["video model"]
    assert learned["models"]["video"] == "missing"
    with pytest.raises(ConfigError, match="belongs to the models learned"):
        replace(mini(), models="learned")
    with pytest.raises(ConfigError, match="no preset"):
        method_named("diffusion2", Setup(preset="huge"))


@pytest.fixture(scope="module")
def tiny() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DATA)
        importlib.import_module("tinydiffusion2")
        yield importlib.import_module("tinyscenes")


def test_the_row_in_a_table(
    cli: Any, tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    place = ["--dataset", "tinyscenes:Tiny", "--root", tmp_path / "data", "--runs", tmp_path / "runs"]
    how = ["--protocol", "toy4d-v1", "--scenes", "ant", "--jobs", 1, "--no-quoted", "--force", "--json"]
    outcome = cli("table1", *place, "--methods", "tinydiffusion2:ROW,white", *how)
    assert outcome.code == 0, outcome.err
    (manifest,) = (
        json.loads(path.read_text())
        for path in (tmp_path / "runs").rglob("manifest.json")
        if "diff" in str(path)
    )
    assert [stage["name"] for stage in manifest["stages"]] == ["views", "fit", "render"]
    assert {one["name"] for one in manifest["artefacts"]} >= {"views", "static", "coarse", "stages"}
    assert set(manifest["pedigree"]["weights"]) == {"prior", "video"}


def test_the_paper_preset_says_which_weights_it_needs(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    scene = tiny.Tiny(tmp_path).scene("ant")
    with pytest.raises(WeightsMissingError, match=r"sv3d.*mvtf-eval weights fetch sv3d"):
        method_named("diffusion2", Setup(preset="paper")).render(scene, 0, tmp_path / "w", lambda *given: None)
