"""Fields and .ply files: what is written is what is read, and bad files are named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.splat.config import FieldConfig
from mvtokenflow.splat.field import DynamicField, render_gaussians
from mvtokenflow.splat.gaussians import GaussianModel, Gaussians
from mvtokenflow.splat.io import load_field, read_ply, save_field, write_ply
from mvtokenflow.views.cameras import orbit

CAMERAS = orbit((0.0, 90.0), size=24, kind="ortho", radius=2.0)


def made(*, dynamic: bool = True, sh_degree: int = 0) -> DynamicField:
    generator = torch.Generator().manual_seed(0)
    config = FieldConfig(
        control_points=6, hyper_dim=2, width=16, depth=6, sh_degree=sh_degree, background=(0.0, 0.5, 1.0)
    )
    points, colors = torch.randn(40, 3, generator=generator) * 0.3, torch.rand(40, 3, generator=generator)
    field = DynamicField.from_points(config, points, colors)
    field.gaussians.quats.data = torch.randn(40, 4, generator=generator)
    field.gaussians.features_rest.data = torch.randn(field.gaussians.features_rest.shape, generator=generator)
    if dynamic:
        field = field.with_control_points(generator=generator)
        assert field.control is not None
        field.control.network.gaussian_warp.weight.data = torch.randn(3, 16, generator=generator)
    return field


@pytest.mark.parametrize("sh_degree", [0, 2])
@pytest.mark.parametrize("dynamic", [False, True])
def test_field_comes_back_exactly(tmp_path: Path, dynamic: bool, sh_degree: int) -> None:
    field, path = made(dynamic=dynamic, sh_degree=sh_degree), tmp_path / "field.safetensors"
    save_field(path, field)
    again = load_field(path)
    assert again.config == field.config
    assert again.is_dynamic == dynamic
    assert torch.equal(again.render(CAMERAS, 0.3).rgb, field.render(CAMERAS, 0.3).rgb)
    for name, value in field.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["field.safetensors"]


def test_half_precision_is_half_the_size_and_looks_the_same(tmp_path: Path) -> None:
    field = made()
    for name, half in (("full", False), ("half", True)):
        save_field(tmp_path / name, field, half=half)
    sizes = [(tmp_path / name).stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.65 * sizes[0]
    full, half_field = load_field(tmp_path / "full"), load_field(tmp_path / "half")
    assert half_field.gaussians.means.dtype == torch.float32
    difference = (full.render(CAMERAS, 0.0).rgb - half_field.render(CAMERAS, 0.0).rgb).detach().abs().max()
    assert float(difference) < 0.02


@pytest.mark.parametrize("sh_degree", [None, 0, 1, 3])
def test_ply_comes_back(tmp_path: Path, sh_degree: int | None) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    bands = () if sh_degree is None else ((sh_degree + 1) ** 2,)
    gaussians = Gaussians(
        means=draw(9, 3) - 0.5,
        quats=torch.nn.functional.normalize(draw(9, 4) - 0.5, dim=-1),
        scales=draw(9, 3) * 0.1 + 1e-3,
        opacities=draw(9),
        colors=draw(9, *bands, 3),
        sh_degree=sh_degree,
    )
    write_ply(tmp_path / "a.ply", gaussians)
    again = read_ply(tmp_path / "a.ply")
    assert again.sh_degree == (sh_degree or None)
    for name in ("means", "quats", "scales", "opacities"):
        torch.testing.assert_close(getattr(again, name), getattr(gaussians, name), rtol=1e-5, atol=1e-6)
    first, second = render_gaussians(gaussians, CAMERAS), render_gaussians(again, CAMERAS)
    torch.testing.assert_close(first.rgb, second.rgb, rtol=0, atol=1e-5)


def test_ply_has_the_columns_and_raw_values_of_3dgs(tmp_path: Path) -> None:
    field = made(dynamic=False, sh_degree=1)
    model = field.gaussians
    write_ply(tmp_path / "a.ply", field.at(0.0))
    file = PlyData.read(tmp_path / "a.ply")
    vertex = file["vertex"].data
    rest = [f"f_rest_{index}" for index in range(9)]
    expected = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity"]
    expected += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert list(vertex.dtype.names) == expected
    assert file.byte_order == "<"
    assert not file.text

    def close(column: str, values: Tensor) -> None:
        np.testing.assert_allclose(vertex[column], values.detach().numpy(), rtol=1e-5, atol=1e-6)

    close("opacity", model.logit_opacities)
    close("scale_2", model.log_scales[:, 2])
    close("f_dc_1", model.features_dc[:, 0, 1])
    close("f_rest_1", model.features_rest[:, 1, 0])  # the second band of red
    close("f_rest_3", model.features_rest[:, 0, 1])  # the first band of green
    close("rot_0", torch.nn.functional.normalize(model.quats, dim=-1)[:, 0])  # w first


def test_opaque_and_invisible_gaussians_stay_finite(tmp_path: Path) -> None:
    model = GaussianModel.from_points(torch.eye(3), torch.eye(3))
    gaussians = replace(model.activated(), opacities=torch.tensor([0.0, 0.5, 1.0]))
    write_ply(tmp_path / "a.ply", gaussians)
    again = read_ply(tmp_path / "a.ply").opacities
    torch.testing.assert_close(again, gaussians.opacities, rtol=0, atol=1e-6)


def stored_field(tmp_path: Path, **changes: Any) -> Path:
    """A field's file with tensors or metadata changed; None removes."""
    path = tmp_path / "field.safetensors"
    save_field(path, made())
    tensors = load_file(path)
    metadata: dict[str, str] = {}
    with safe_open(path, framework="pt") as stored:
        metadata |= stored.metadata()
    for name, value in changes.items():
        if name == "metadata":
            metadata = value
        elif value is None:
            del tensors[name.replace("__", ".")]
        else:
            tensors[name.replace("__", ".")] = value
    save_file(tensors, path, metadata)
    return path


NO_CONTROL = '{"version": "2", "pixel": null, "config": {"background": [1, 1, 1], "control_points": 0}}'


def test_files_that_do_not_state_their_pixel_are_told_it(tmp_path: Path) -> None:
    """Version 1 of the format, which knew no training pixel."""
    old = json.dumps({"version": "1", "config": made().config.to_dict()})
    path = stored_field(tmp_path, metadata={"mvtokenflow-field": old})
    with pytest.raises(DataError, match="--fit-size 64"):
        load_field(path)
    field = load_field(path, pixel=2 / 64)
    assert field.pixel == 2 / 64
    assert torch.equal(field.gaussians.means, made().gaussians.means)


def test_equal_fields_are_equal_files(tmp_path: Path) -> None:
    """Whatever the order in which a library walks its hash tables."""
    first = stored_field(tmp_path).read_bytes()
    for attempt in range(8):
        save_field(tmp_path / f"{attempt}.safetensors", made())
        assert (tmp_path / f"{attempt}.safetensors").read_bytes() == first


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metadata": {"format": "something"}}, "not a field of this project"),
        ({"metadata": {"mvtokenflow-field": '{"version": "3"}'}}, "version 3"),
        ({"metadata": {"mvtokenflow-field": "{"}}, "damaged"),
        ({"metadata": {"mvtokenflow-field": NO_CONTROL}}, "control_points is 0"),
        ({"gaussians__means": None}, "gaussians.means"),
        ({"gaussians__means": torch.ones(3, 3)}, "has the shape"),
        ({"control__network__linear__0__weight": None}, "linear.0.weight"),
        ({"control__log_radii": torch.ones(5)}, "log_radii"),
        ({"gaussians__logit_opacities": torch.full((40,), torch.nan)}, "logit_opacities holds NaN"),
    ],
)
def test_damaged_fields_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = stored_field(tmp_path, **changes)
    with pytest.raises(DataError, match=said) as raised:
        load_field(path)
    assert str(path) in str(raised.value)


def test_files_that_are_no_fields_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_field(tmp_path / "none.safetensors")
    cut = stored_field(tmp_path)
    cut.write_bytes(cut.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read as safetensors"):
        load_field(cut)


@pytest.mark.parametrize(
    ("part", "value"), [("means", torch.nan), ("colors", torch.inf), ("scales", torch.nan)]
)
def test_gaussians_that_are_not_finite_are_not_written(tmp_path: Path, part: str, value: float) -> None:
    gaussians = made().at(0.0)
    broken = getattr(gaussians, part).detach().clone()
    broken.view(-1)[0] = value
    with pytest.raises(DataError, match=rf"a\.ply: the Gaussians' {part} hold NaN"):
        write_ply(tmp_path / "a.ply", replace(gaussians, **{part: broken}))
    assert not (tmp_path / "a.ply").exists()


def test_a_flat_gaussian_can_be_written(tmp_path: Path) -> None:
    gaussians = made().at(0.0)
    scales = gaussians.scales.detach().clone()
    scales[0, 2] = 0.0
    write_ply(tmp_path / "a.ply", replace(gaussians, scales=scales))
    assert read_ply(tmp_path / "a.ply").scales[0, 2] < 1e-30


def write_columns(path: Path, names: list[str], value: float = 0.0) -> Path:
    rows = np.full(4, value, dtype=[(name, "f4") for name in names])
    PlyData([PlyElement.describe(rows, "vertex")]).write(path)
    return path


def test_bad_plys_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    with pytest.raises(DataError, match=r"a\.ply: no such file"):
        read_ply(path)
    path.write_text("not a ply")
    with pytest.raises(DataError, match=r"a\.ply: cannot be read as a \.ply"):
        read_ply(path)
    with pytest.raises(DataError, match="not a point cloud"):
        read_ply(write_columns(path, ["x", "y", "z", "red"]))
    columns = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2"]
    columns += ["rot_0", "rot_1", "rot_2", "rot_3"]
    with pytest.raises(DataError, match="has 2 f_rest"):
        read_ply(write_columns(path, [*columns, "f_rest_0", "f_rest_1"]))
    with pytest.raises(DataError, match="NaN"):
        read_ply(write_columns(path, columns, np.nan))
    write_ply(path, made().at(0.0))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="cannot be read"):
        read_ply(path)


def _table(count: int, **values: float) -> np.ndarray:
    names = ("x", "y", "z", "opacity", *(f"f_dc_{n}" for n in range(3)), *(f"scale_{n}" for n in range(3)))
    rows = np.zeros(count, [(name, "f4") for name in (*names, *(f"rot_{n}" for n in range(4)))])
    rows["rot_0"] = 1
    for name, value in values.items():
        rows[name] = value
    return rows


def _ply(path: Path, *elements: tuple[str, np.ndarray]) -> Path:
    PlyData([PlyElement.describe(rows, name) for name, rows in elements], byte_order="<").write(str(path))
    return path


@pytest.mark.parametrize("sh_degree", [None, 2])
def test_no_gaussians_are_a_whole_file(tmp_path: Path, sh_degree: int | None) -> None:
    zeros = torch.zeros
    colors = zeros(0, 3) if sh_degree is None else zeros(0, 9, 3)
    none = Gaussians(
        means=zeros(0, 3),
        quats=zeros(0, 4),
        scales=zeros(0, 3),
        opacities=zeros(0),
        colors=colors,
        sh_degree=sh_degree,
    )
    write_ply(tmp_path / "none.ply", none)
    again = read_ply(tmp_path / "none.ply")
    assert (len(again), again.colors.shape, again.sh_degree) == (0, colors.shape, sh_degree)
    assert len(read_ply(_ply(tmp_path / "empty.ply", ("vertex", _table(0))))) == 0


def test_a_compressed_ply_is_named_as_one(tmp_path: Path) -> None:
    packed = np.zeros(2, [(f"packed_{name}", "u4") for name in ("position", "rotation", "scale", "color")])
    chunks = np.zeros(1, [("min_x", "f4"), ("max_x", "f4")])
    for elements in (
        [("vertex", packed)],
        [("chunk", chunks), ("vertex", packed)],
        [("vertex", _table(1)), ("chunk", chunks)],
    ):
        with pytest.raises(DataError, match=r"a\.ply: is compressed .*; export it as an uncompressed \.ply$"):
            read_ply(_ply(tmp_path / "a.ply", *elements))


def test_scales_that_cannot_be_drawn_are_refused_and_tiny_ones_are_kept(tmp_path: Path) -> None:
    for scale in (31.0, 89.0, 3e38):
        with pytest.raises(DataError, match=r"a\.ply: a scale is e\^.* which cannot be drawn"):
            read_ply(_ply(tmp_path / "a.ply", ("vertex", _table(2, scale_1=scale))))
    tiny = read_ply(_ply(tmp_path / "a.ply", ("vertex", _table(2, scale_1=-200.0)))).scales
    assert bool((tiny > 0).all())
    assert tiny[0].tolist() == [1.0, torch.finfo(torch.float32).tiny, 1.0]
