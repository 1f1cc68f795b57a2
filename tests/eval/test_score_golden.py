"""Stored values on procedural pictures: what an installation without the reference pictures can check.

`data/score_golden.json` names the producer of each value. PSNR is its closed form in float64; SSIM and LPIPS
come from torchmetrics and the lpips package, which the slow tests here run again; the FVD of Consistent4D's
script has no package, its value is ours as of the day it agreed with the published scripts
(`test_score_parity.py`).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lpips as lpips_package
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from mvtokenflow.base.errors import WeightsMissingError
from mvtokenflow.weights import ledger as weights

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "score_golden.json").read_text())
PROTOCOLS = ("c4d-v1", "c4d-fixed-v1")
Pixels = NDArray[np.uint8]


@pytest.fixture
def folders(tmp_path: Path, layout: Any) -> tuple[Path, Path]:
    """A prediction two pixels off, at 48 px, of 2 frames in 4 views."""
    return layout(tmp_path / "pred", shift=2), layout(tmp_path / "gt")


def squashed(path: Path) -> Pixels:
    return np.asarray(Image.open(path).resize((512, 512), Image.Resampling.BICUBIC))


def pairs(folders: tuple[Path, Path]) -> Iterator[list[tuple[Pixels, Pixels]]]:
    """By view, the squashed pictures of prediction and reference."""
    pred, gt = folders
    for view in sorted((gt / "cat").iterdir()):
        yield [
            (squashed(pred / "cat" / view.name / f"{frame}.png"), squashed(view / f"{frame}.png"))
            for frame in (0, 1)
        ]


def tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].double()


def reference_psnr(pred: Pixels, gt: Pixels, protocol: str) -> float:
    span = float(gt.max()) - float(gt.min()) if protocol == "c4d-v1" else 255.0
    return float(10 * np.log10(span**2 / np.mean((pred.astype(np.float64) - gt) ** 2)))


def torchmetrics_psnr(pred: Pixels, gt: Pixels, protocol: str) -> float:
    span = float(gt.max()) - float(gt.min()) if protocol == "c4d-v1" else 255.0
    return float(peak_signal_noise_ratio(tensor(pred), tensor(gt), data_range=span))


def reference_ssim(pred: Pixels, gt: Pixels, protocol: str) -> float:
    x, y = tensor(pred), tensor(gt)
    span = float(max(x.max() - x.min(), y.max() - y.min())) if protocol == "c4d-v1" else 255.0
    _, full = structural_similarity_index_measure(x, y, data_range=span, return_full_image=True)
    return float((full[..., 5:-5, 5:-5] if protocol == "c4d-v1" else full).mean())


def lpips_vgg() -> Any:
    """The lpips package with our copy of its weights; nothing is downloaded."""
    try:
        state = weights.load("lpips-vgg")
    except WeightsMissingError as missing:
        pytest.skip(str(missing))
    with torch.device("meta"):
        model = lpips_package.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    model.scaling_layer = lpips_package.ScalingLayer()
    named = model.state_dict()
    for key in named:
        if key.startswith("net.slice"):
            named[key] = state["features." + key.split(".", 2)[2]]
        elif key.startswith("lin"):
            number = key.split(".")[1] if key.startswith("lins.") else key[3]
            named[key] = state[f"lin{number}.model.1.weight"]
    model.load_state_dict(named, assign=True, strict=True)
    return model.eval()


def mean(folders: tuple[Path, Path], measure: Any) -> float:
    return float(np.mean([np.mean([measure(pred, gt) for pred, gt in view]) for view in pairs(folders)]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_stored_psnr_is_its_closed_form(folders: tuple[Path, Path], protocol: str) -> None:
    stored = GOLDEN["values"][protocol]["psnr"]
    assert mean(folders, lambda p, g: reference_psnr(p, g, protocol)) == pytest.approx(stored, rel=1e-12)
    # torchmetrics keeps the range in float32: 3e-8 here
    assert mean(folders, lambda p, g: torchmetrics_psnr(p, g, protocol)) == pytest.approx(stored, rel=1e-7)


@pytest.mark.slow  # torchmetrics' double convolutions take seconds a picture
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_stored_ssim_is_what_torchmetrics_gives(folders: tuple[Path, Path], protocol: str) -> None:
    stored = GOLDEN["values"][protocol]["ssim"]
    assert mean(folders, lambda p, g: reference_ssim(p, g, protocol)) == pytest.approx(stored, abs=1e-10)


@pytest.mark.slow
def test_the_stored_lpips_is_what_the_package_gives(folders: tuple[Path, Path]) -> None:
    model = lpips_vgg()

    def measure(pred: Pixels, gt: Pixels) -> float:
        with torch.inference_mode():
            return float(model(*(tensor(side).float() / 127.5 - 1 for side in (pred, gt))))

    for protocol in PROTOCOLS:
        assert mean(folders, measure) == pytest.approx(GOLDEN["values"][protocol]["lpips"], abs=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_score_gives_the_stored_values(
    folders: tuple[Path, Path], protocol: str, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = GOLDEN["values"][protocol]
    if protocol == "c4d-fixed-v1":  # its LPIPS and FVD are c4d-v1's; once is enough
        monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    arguments = ["--gt", folders[1], "--protocol", protocol, "--record", tmp_path / "r", "--jobs", 1, "--json"]
    outcome = cli("score", folders[0], *arguments)
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    absent = {entry["metric"] for entry in document["missing"]}
    assert {"psnr", "ssim"}.isdisjoint(absent)
    # the networks run in float32, whose sums differ between processors: 3e-7 and 2e-6 here
    tolerances = {"psnr": 1e-9, "ssim": 1e-9, "lpips": 1e-5, "fvd_c4d": 1e-4}
    for metric in tolerances.keys() - absent:
        assert document["objects"]["cat"][metric] == pytest.approx(stored[metric], rel=tolerances[metric]), (
            metric
        )
    for metric, signature in document["signatures"].items():
        assert signature.startswith(f"{metric}|v:1|")
        size = "native" if metric == "fvd_c4d" else "512.pil-bicubic"  # I3D's own squash takes the files' size
        assert f"|p:{protocol}|res:{size}|" in signature
        assert signature.endswith(("frames:2|views:4|objects:1", "clip:2|views:4|objects:1"))
