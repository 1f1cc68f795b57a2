"""The rasterizers against gsplat's own projection and a dense float64 compositor (stored values)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mvtokenflow.splat.kernels.sh import sh_colors
from mvtokenflow.splat.rasterize import Backend, RasterizeMode, RenderMode, rasterize

DATA = Path(__file__).parents[1] / "data"
SCENES = (
    "s0_pinhole_c3",
    "s1_pinhole_c7",
    "s2_ortho_c3",
    "s3_ortho_c7",
    "s4_pinhole_antialiased_c3",
    "s5_opaque_c3",
    "s6_edge_c4_nobg",
    "s7_ortho_perview_rgbED",
    "s8_ties_pinhole_rgbD",
)
INPUTS = ("means", "quats", "scales", "opacities", "colors", "backgrounds")
# Of each tensor's largest value. Measured: float64 3e-13; float32 1.2e-5 (cpu), 7e-5 (reference).
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
BACKENDS = pytest.mark.parametrize("backend", ["reference", "cpu"])


def scene_of(file: Path, scene: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = load_file(file)
    config = json.loads(file.with_suffix(".json").read_text())["scenes"][scene]
    return {key.split("/")[1]: value for key, value in tensors.items() if key.startswith(f"{scene}/")}, config


def render_and_differentiate(
    stored: Mapping[str, Tensor], config: Mapping[str, Any], backend: Backend, dtype: torch.dtype
) -> dict[str, Tensor]:
    """All outputs and gradients under the names of the stored file."""
    given = {name: stored[name].to(dtype).requires_grad_() for name in INPUTS if name in stored}
    render, alpha, meta = rasterize(
        given["means"],
        given["quats"],
        given["scales"],
        given["opacities"],
        given["colors"],
        stored["viewmats"].to(dtype),
        stored["Ks"].to(dtype),
        config["width"],
        config["height"],
        camera_model=config["camera_model"],
        render_mode=cast(RenderMode, config["render_mode"]),
        backgrounds=given.get("backgrounds"),
        rasterize_mode=cast(RasterizeMode, config["rasterize_mode"]),
        near_plane=config["near_plane"],
        far_plane=config["far_plane"],
        eps2d=config["eps2d"],
        backend=backend,
    )
    for name in ("conics", "opacities"):
        meta[name].retain_grad()
    loss = (render * stored["w_render"].to(dtype)).sum() + (alpha * stored["w_alpha"].to(dtype)).sum()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    found = {f"d_{name}": cast(Tensor, tensor.grad) for name, tensor in given.items()}
    found |= {"out_render": render, "out_alpha": alpha, "proj_radii": meta["radii"], "loss": loss[None]}
    found |= {f"proj_{name}": meta[name] for name in ("means2d", "depths", "conics")}
    found |= {"proj_opac_view": meta["opacities"], "d_means2d": meta["means2d"].grad}
    found |= {"d_conics": meta["conics"].grad, "d_opac_view": meta["opacities"].grad}
    if backend == "cpu":
        found["absgrad_means2d"] = meta["means2d"].absgrad
    return {name: value.detach() for name, value in found.items()}


def assert_parity(stored: dict[str, Tensor], found: dict[str, Tensor], dtype: torch.dtype) -> None:
    inside = stored["pixmask"].bool()  # 0: a pair so close to a threshold that rounding decides
    for name, value in found.items():
        expected = stored[name]
        if name == "proj_radii":
            assert torch.equal(value, expected)
            continue
        if name.startswith("out_"):
            value, expected = value[inside], expected[inside]
        if name == "d_quats":  # a gradient grows as the quaternion shrinks: compare on the unit sphere
            length = stored["quats"].double().norm(dim=-1, keepdim=True)
            value, expected = value * length, expected * length
        error = (value.double() - expected).abs().max() / expected.abs().max()
        assert error < TOLERANCE[dtype], f"{name}: {error:.2e} of the largest value"


@PRECISIONS
@BACKENDS
@pytest.mark.parametrize("scene", SCENES)
def test_every_stored_scene(shared: Path, scene: str, backend: Backend, dtype: torch.dtype) -> None:
    stored, config = scene_of(shared / "parity" / "gsplat_raster.safetensors", scene)
    assert_parity(stored, render_and_differentiate(stored, config, backend, dtype), dtype)


@PRECISIONS
@BACKENDS
def test_exact_depth_ties_are_blended_by_index(backend: Backend, dtype: torch.dtype) -> None:
    """The one scene kept with the repository: pinhole, colour and depth, equal depths everywhere."""
    stored, config = scene_of(DATA / "splat_raster.safetensors", "s8_ties_pinhole_rgbD")
    assert_parity(stored, render_and_differentiate(stored, config, backend, dtype), dtype)


@PRECISIONS
@pytest.mark.parametrize("degree", range(4))
def test_spherical_harmonics(degree: int, dtype: torch.dtype) -> None:
    tensors = load_file(DATA / "splat_raster.safetensors")
    directions = tensors["sh/dirs"].to(dtype).requires_grad_()
    coefficients = tensors["sh/coeffs"].to(dtype).requires_grad_()
    colors = sh_colors(degree, directions, coefficients)
    (colors * tensors["sh/w"].to(dtype)).sum().backward()  # type: ignore[no-untyped-call]  # torch: untyped
    found = {"colors": colors, "d_coeffs": coefficients.grad, "d_dirs": directions.grad}
    for name, value in found.items():
        expected = tensors[f"sh/deg{degree}_{name}"]
        if value is None:  # degree 0 does not depend on the direction
            assert degree == 0
            assert not expected.any()
            continue
        error = (value.detach().double() - expected).abs().max() / expected.abs().max()
        assert error < TOLERANCE[dtype], name
