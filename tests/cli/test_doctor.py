"""`mvtf doctor` and `mvtf-eval doctor`: what is here, what is missing, and the command that gets it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mvtokenflow.base import machine
from mvtokenflow.method.config import PRESETS


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without any weights of others."""
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "rembg"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def _checks(run: Any, *words: str) -> dict[str, Any]:
    done = run("doctor", *words, "--json")
    assert done.code == 0, done.err
    return {entry["check"]: entry for entry in json.loads(done.out)}


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_says_what_it_costs(mvtf: Any, preset: str) -> None:
    checks = _checks(mvtf, "--preset", preset)
    assert checks["cost"]["found"]
    assert ("weights prior-toy4d" in checks) == (preset != "paper")


def test_the_mini_preset_has_what_it_needs(mvtf: Any) -> None:
    checks = _checks(mvtf)
    assert checks["weights prior-toy4d"]["ok"]
    assert not {"weights era3d", "weights raft-large", "weights lpips-vgg"} & set(checks)
    assert checks["cost"]["found"].startswith("about 3 minutes a scene")


def test_the_paper_preset_lists_weights_with_size_source_licence_and_command(mvtf: Any) -> None:
    checks = _checks(mvtf, "--preset", "paper")
    assert {"accelerator", "compiler for gsplat", "disk", "cost", "package rembg"} <= set(checks)
    era3d, raft = checks["weights era3d"], checks["weights raft-large"]
    assert not era3d["ok"]
    assert not raft["ok"]
    for words in ("missing, for `mvtf run --preset paper`", "4,000 MB", "Hugging Face Hub", "AGPL-3.0"):
        assert words in era3d["found"]
    assert "21 MB, https://download.pytorch.org/models/raft_large" in raft["found"]
    assert era3d["fix"] == (
        "mvtf-eval weights fetch era3d; without network, mvtf-eval weights pack it on another machine or set "
        "MVTF_WEIGHTS_ERA3D"
    )
    assert checks["cost"]["found"].count("not measured") == 2


def test_the_harness_lists_every_network(cli: Any) -> None:
    from mvtokenflow.weights.ledger import WEIGHTS

    checks = _checks(cli)
    assert {f"weights {name}" for name in WEIGHTS} <= set(checks)
    assert "compiler for gsplat" in checks


def test_lines_for_people_and_wrong_presets(mvtf: Any) -> None:
    done = mvtf("doctor", "--preset", "paper")
    assert done.code == 0
    assert "\nmissing weights era3d: missing, for" in done.out
    done = mvtf("doctor", "--preset", "papr")
    assert done.code == 2
    assert "no preset 'papr'. Did you mean 'paper'?" in done.err


@pytest.mark.parametrize("missing", ["nvcc", "c++", "ninja", None])
def test_the_compiler_of_gsplat(missing: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def which(name: str) -> str | None:
        gone = {missing, "g++"} if missing == "c++" else {missing}
        return None if name in gone else f"/bin/{name}"

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(shutil, "which", which)
    for variable in ("CUDA_HOME", "CUDA_PATH", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    check = machine.cuda_compiler()
    assert check.ok == (missing is None)
    if missing is None:
        assert check.found == "/bin/nvcc, /bin/c++, /bin/ninja"
    else:
        assert check.found == f"no {missing}"
        assert "CUDA toolkit 13.0" in check.fix


def test_nvcc_is_found_in_the_folder_of_the_toolkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").touch()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "nvcc" else f"/bin/{name}")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert machine.cuda_compiler().found.startswith(str(tmp_path / "bin" / "nvcc"))


def test_a_torch_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    check = machine.cuda_compiler()
    assert (check.ok, check.found) == (False, "this torch is built without CUDA")


def test_too_little_room_is_said_with_what_is_needed(tmp_path: Path) -> None:
    check = machine.disk(tmp_path / "not" / "there", 1e9)
    assert not check.ok
    assert f"free at {tmp_path}" in check.found
    assert check.fix == "make room: 1e+09 GiB are needed"


def test_a_method_names_any_weights_of_the_ledger(
    tiny: Any, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are fetched with those of the metrics, and noted in the manifest."""
    (tmp_path / "needy.py").write_text(
        "from tinyscenes import Native\n"
        "class Needy(Native):\n"
        "    def weights(self):\n"
        "        return ('prior-toy4d',)\n"
        "METHOD = Needy(name='needy')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr("mvtokenflow.cli.eval.tables.fetch_weights", asked.extend)
    place = ("--dataset", "tinyscenes:Tiny", "--root", tmp_path / "data", "--runs", tmp_path / "runs")
    chosen = ("--methods", "needy:METHOD", "--scenes", "ant", "--protocol", "toy4d-v1", "--jobs", 1)
    done = cli("table1", *place, *chosen, "--fetch-weights")
    assert done.code == 0, done.err
    assert "lpips-vgg" in asked
    assert asked[-1] == "prior-toy4d"
    (manifest,) = (tmp_path / "runs").rglob("manifest.json")
    weights = json.loads(manifest.read_text())["pedigree"]["weights"]
    assert weights == {"prior-toy4d": "6f2e82971833043c5898d2bd004e3e9ac6bb610fb57aff8285cdacc76ad1e8c9"}
