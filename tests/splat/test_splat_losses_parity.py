"""Losses against SC-GS's own code and gsplat's depth normals, run in float64 (stored values)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mvtokenflow.splat.config import LossWeights
from mvtokenflow.splat.kernels import ssim
from mvtokenflow.splat.losses import arap, arap_edges, d_ssim, l1, normals_from_depth
from mvtokenflow.views.cameras import Cameras

DATA = Path(__file__).parents[1] / "data"
PICTURES = (
    "batch_2x3x32x40",
    "const_3x17x19",
    "mask_3x33x47",
    "rand_3x40x48",
    "same_3x20x24",
    "smooth_3x64x64",
    "tiny_3x7x9",
)
DEFORMATIONS = ("identity", "random2", "random4", "reflect", "rigid", "sheet", "sparse")
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
# Measured: float64 1e-14 (values), 9e-13 (gradients, of the largest); float32 3e-7 and 3e-5, but 5e-5 and
# 3e-4 on constant pictures, whose variances cancel.
VALUE = {torch.float64: 1e-9, torch.float32: 1e-4}
CONSTANT = 5e-4


def stored(file: str, case: str) -> dict[str, Tensor]:
    tensors = load_file(DATA / file)
    return {key.split("/")[1]: value for key, value in tensors.items() if key.startswith(f"{case}/")}


def tolerance(case: str, dtype: torch.dtype) -> float:
    return CONSTANT if case.startswith("const") and dtype == torch.float32 else VALUE[dtype]


def last(channels_first: Tensor) -> Tensor:
    return channels_first.movedim(-3, -1)


@PRECISIONS
@pytest.mark.parametrize("case", PICTURES)
def test_d_ssim_is_theirs(case: str, dtype: torch.dtype) -> None:
    given = stored("ssim.safetensors", case)
    image = last(given["img1"]).to(dtype).requires_grad_()
    loss = d_ssim(image, last(given["img2"]).to(dtype))
    (slope,) = torch.autograd.grad(loss, image)
    allowed = tolerance(case, dtype)
    assert loss.dtype == dtype
    assert abs(loss.item() - (1 - given["ssim"].item())) <= allowed
    expected = -last(given["g_img1"])
    if case.startswith("same"):  # the gradient of a maximum; float32 cancels to 2e-9
        assert float(slope.abs().max()) <= (1e-15 if dtype == torch.float64 else 1e-7)
    else:
        assert float((slope - expected).abs().max()) <= allowed * float(expected.abs().max())


@PRECISIONS
@pytest.mark.parametrize("case", PICTURES)
def test_convolutions_give_what_compiled_code_gives(case: str, dtype: torch.dtype) -> None:
    """The path that CUDA takes, run on the CPU."""
    given = stored("ssim.safetensors", case)
    x, y = (last(given[name]).to(dtype).reshape(-1, *last(given[name]).shape[-3:]) for name in ("img1", "img2"))
    value, gradient = ssim._convolved(x, y, True)
    twin, twin_gradient = ssim._compiled(x, y, True)
    allowed = tolerance(case, dtype)
    assert value.item() == pytest.approx(twin.item(), abs=allowed)
    scale = float(twin_gradient.abs().max())
    if case.startswith("same"):  # nothing but rounding, of slopes that would be 1e-3 for other pictures
        scale = 1e-3
    assert float((gradient - twin_gradient).abs().max()) <= allowed * scale
    assert ssim._convolved(x, y, False)[0].item() == value.item()
    assert ssim._compiled(x, y, False)[0].item() == twin.item()


@PRECISIONS
@pytest.mark.parametrize("case", PICTURES)
def test_total_with_the_papers_weights_is_theirs(case: str, dtype: torch.dtype) -> None:
    given = stored("ssim.safetensors", case)
    weights = LossWeights()
    image, target = last(given["img1"]).to(dtype).requires_grad_(), last(given["img2"]).to(dtype)
    total = weights.image * l1(image, target) + weights.d_ssim * d_ssim(image, target)
    assert total.item() == pytest.approx(given["total_08l1_02dssim"].item(), abs=tolerance(case, dtype))
    assert l1(image, target).item() == pytest.approx(given["l1"].item(), abs=VALUE[dtype])
    if "g_total" in given:
        (slope,) = torch.autograd.grad(total, image)
        differ = image.detach() != target  # at equality any subgradient of L1 is right
        expected = last(given["g_total"])
        error = (slope - expected)[differ].abs().max()
        assert float(error) <= VALUE[dtype] * float(expected.abs().max())


@PRECISIONS
@pytest.mark.parametrize("case", DEFORMATIONS)
def test_arap_is_theirs(case: str, dtype: torch.dtype) -> None:
    given = stored("splat_losses.safetensors", f"arap_{case}")
    sequence = given["seq"].to(dtype).requires_grad_()
    edges = torch.stack([given["ii"], given["jj"]])
    energy = arap(sequence, edges, reduction="sum")
    (slope,) = torch.autograd.grad(energy, sequence)
    # Measured: float64 4e-15 and 4e-15; float32 1e-6 of 30 and 2e-6 of 3.
    allowed = 1e-10 if case in ("identity", "rigid") else VALUE[dtype]
    assert abs(energy.item() - given["error"].item()) <= allowed * max(1.0, given["error"].item())
    scale = max(1.0, float(given["g_seq"].abs().max()))
    assert float((slope - given["g_seq"]).abs().max()) <= VALUE[dtype] * scale
    later = given["seq"].shape[0] - 1
    assert arap(sequence, edges).item() == pytest.approx(energy.item() / (later * edges.shape[1]), rel=1e-5)


@pytest.mark.parametrize("case", DEFORMATIONS)
def test_edges_are_theirs(case: str) -> None:
    given = stored("splat_losses.safetensors", f"arap_{case}")
    assert torch.equal(arap_edges(given["seq"][0]), torch.stack([given["ii"], given["jj"]]).long())


@PRECISIONS
def test_normals_from_depth_are_gsplats(dtype: torch.dtype) -> None:
    given = stored("splat_losses.safetensors", "depth_normal")
    depth = given["depth"].to(dtype).requires_grad_()
    cameras = Cameras(
        world_to_camera=given["viewmats"].to(dtype),
        intrinsics=given["Ks"].to(dtype),
        width=depth.shape[2],
        height=depth.shape[1],
        kind="pinhole",
    )
    normal, valid = normals_from_depth(depth, torch.ones_like(depth), cameras)
    (slope,) = torch.autograd.grad((normal * given["w"].to(dtype)).sum(), depth)
    assert bool(valid[:, 1:-1, 1:-1].all())
    assert int(valid.sum()) == valid[:, 1:-1, 1:-1].numel()
    # Measured: 3e-8 in float64, because the stored poses are rotations to seven digits only and gsplat inverts
    # them where we transpose; 3e-7 in float32.
    allowed = 1e-7 if dtype == torch.float64 else 2e-6
    assert float((normal.detach() - given["normals_world"]).abs().max()) <= allowed
    assert float((slope - given["d_depth"]).abs().max()) <= allowed * float(given["d_depth"].abs().max())
