"""Files for other viewers: read again by readers of their own, turned back, and drawn."""

import json
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moving import moving_field
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.splat.field import render_gaussians
from mvtokenflow.splat.formats import AXES, FORMATS, USUAL, Axes, Format, splat_loss, turned, write_gaussians
from mvtokenflow.splat.gaussians import SH_C0, Gaussians
from mvtokenflow.splat.io import read_ply, save_field
from mvtokenflow.views.cameras import orbit

Mvtf = Callable[..., Any]  # of tests/conftest.py
BACK: dict[Axes, Axes] = {"project": "project", "viewer": "gltf", "gltf": "viewer"}


def tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32))


def read_splat(path: Path) -> Gaussians:
    """antimatter15's layout: float32 position and scale, RGBA, quaternion around 128."""
    raw = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 32)
    floats, rgba, quats = raw[:, :24].copy().view("<f4"), raw[:, 24:28], raw[:, 28:]
    return Gaussians(
        means=tensor(floats[:, :3]),
        quats=torch.nn.functional.normalize(tensor(quats) - 128, dim=-1),
        scales=tensor(floats[:, 3:]),
        opacities=tensor(rgba[:, 3]) / 255,
        colors=tensor(rgba[:, :3]) / 255,
    )


def parts_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """JSON and buffer of a .glb whose lengths add up."""
    raw = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", raw)
    assert (magic, version, length) == (b"glTF", 2, len(raw))
    size, kind = struct.unpack_from("<I4s", raw, 12)
    assert kind == b"JSON"
    body, name = struct.unpack_from("<I4s", raw, 20 + size)
    assert (name, 28 + size + body) == (b"BIN\0", len(raw))
    return json.loads(raw[20 : 20 + size]), raw[28 + size :]


def read_glb(path: Path) -> Gaussians:
    document, body = parts_of(path)
    (primitive,) = document["meshes"][0]["primitives"]

    def column(name: str) -> Tensor:
        accessor = document["accessors"][primitive["attributes"][name]]
        view = document["bufferViews"][accessor["bufferView"]]
        return tensor(
            np.frombuffer(body, "<f4", view["byteLength"] // 4, view["byteOffset"]).reshape(
                accessor["count"], -1
            )
        )

    name = "KHR_gaussian_splatting"
    assert name in document["extensionsUsed"]
    assert name in primitive["extensions"]
    low, high = (tensor(document["accessors"][0][end]) for end in ("min", "max"))
    assert torch.equal(column("POSITION").amin(0), low)
    assert torch.equal(column("POSITION").amax(0), high)
    return Gaussians(
        means=column("POSITION"),
        quats=column(f"{name}:ROTATION")[:, [3, 0, 1, 2]],
        scales=column(f"{name}:SCALE"),
        opacities=column(f"{name}:OPACITY")[:, 0],
        colors=(column(f"{name}:SH_DEGREE_0_COEF_0") * SH_C0 + 0.5).clamp_min(0),
    )


def read_spz(path: Path) -> Gaussians:
    gsply = pytest.importorskip("gsply", reason="the extra `formats` is not installed")
    read = gsply.read_spz(str(path))
    return Gaussians(
        means=tensor(read.means),
        quats=torch.nn.functional.normalize(tensor(read.quats), dim=-1),
        scales=tensor(read.scales).exp(),
        opacities=tensor(read.opacities).reshape(-1).sigmoid(),
        colors=(tensor(read.sh0).reshape(-1, 3) * SH_C0 + 0.5).clamp_min(0),
    )


READERS: dict[Format, Callable[[Path], Gaussians]] = {
    "ply": read_ply,
    "splat": read_splat,
    "spz": read_spz,
    "glb": read_glb,
}


@torch.no_grad()
def drawn(gaussians: Gaussians) -> Tensor:
    cameras = orbit([20.0, 130.0], 15.0, size=128, kind="pinhole", radius=3.0)
    return render_gaussians(gaussians, cameras).rgb.clamp(0, 1)


@pytest.mark.parametrize(("kind", "least"), [("ply", 80), ("splat", 40), ("spz", 50), ("glb", 80)])
def test_a_file_read_by_another_reader_draws_the_same_picture(tmp_path: Path, kind: Format, least: int) -> None:
    if kind == "spz":
        pytest.importorskip("gsply", reason="the extra `formats` is not installed")
    with torch.no_grad():
        moment = moving_field().at(0.5)
    path = tmp_path / f"x.{kind}"
    write_gaussians(path, moment, kind)
    read = turned(READERS[kind](path), BACK[USUAL[kind]])
    error = float((drawn(read) - drawn(moment.low_passed())).square().mean())
    assert -10 * np.log10(error + 1e-12) >= least


def test_a_splat_makes_up_for_colours_above_one(tmp_path: Path) -> None:
    """By opacity and size, and closer to the picture than colours that are only cut."""
    with torch.no_grad():
        moment = moving_field().at(0.5)
    highlights = torch.arange(300)[:, None] % 50 == 0
    bright = replace(moment, colors=moment.colors.where(~highlights, 1.25))
    assert splat_loss(moment) is None
    said = splat_loss(bright)
    assert said is not None
    assert "2.00% of the colours' values are above 1, up to 1.25" in said
    for name, gaussians in (("made up", bright), ("cut", replace(bright, colors=bright.colors.clamp(0, 1)))):
        write_gaussians(tmp_path / name, gaussians, "splat")
    wanted = drawn(bright.low_passed())
    made_up, cut = (
        float((drawn(turned(read_splat(tmp_path / name), "gltf")) - wanted).square().mean())
        for name in ("made up", "cut")
    )
    assert made_up < 0.7 * cut, (made_up, cut)
    harmonic = moving_field(sh_degree=1).at(0.5)
    assert "spherical harmonics are left out" in str(splat_loss(harmonic))


@pytest.mark.parametrize("axes", AXES)
def test_turned_gaussians_look_alike_from_the_turned_side(axes: Axes) -> None:
    """View-dependent colours as well; and up is up: Z here, -y in 3DGS, Y in glTF."""
    with torch.no_grad():
        moment = moving_field(sh_degree=3).at(0.5)
    moved = turned(moment, axes)
    up = turned(replace(moment, means=torch.tensor([[0.0, 0.0, 1.0]]).expand(300, 3)), axes).means[0]
    expected = {"project": [0, 0, 1], "viewer": [0, -1, 0], "gltf": [0, 1, 0]}
    assert up.tolist() == pytest.approx(expected[axes], abs=1e-6)
    again = turned(moved, BACK[axes])
    assert torch.allclose(drawn(again), drawn(moment), atol=1e-4)
    cameras = orbit([20.0], 15.0, size=64, kind="pinhole", radius=3.0)
    rotation = torch.linalg.lstsq(moment.means, moved.means).solution  # from rows to rows
    poses = cameras.world_to_camera.clone()
    poses[:, :3, :3] = poses[:, :3, :3] @ rotation
    with torch.no_grad():
        here = render_gaussians(moment, cameras).rgb
        there = render_gaussians(moved, replace(cameras, world_to_camera=poses)).rgb
    assert torch.allclose(here, there, atol=1e-3)


def test_harmonics_are_written_band_by_band(tmp_path: Path) -> None:
    with torch.no_grad():
        moment = moving_field(sh_degree=2).at(0.5)
    write_gaussians(tmp_path / "x.glb", moment, "glb")
    document, _ = parts_of(tmp_path / "x.glb")
    names = [name for name in document["meshes"][0]["primitives"][0]["attributes"] if "SH_DEGREE" in name]
    assert [name.rpartition("SH_DEGREE_")[2] for name in names] == [
        *("0_COEF_0", "1_COEF_0", "1_COEF_1", "1_COEF_2"),
        *(f"2_COEF_{place}" for place in range(5)),
    ]


def test_wrong_gaussians_formats_and_axes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        moment = moving_field().at(0.5)
    bad = replace(moment, means=torch.full_like(moment.means, torch.nan))
    for kind in FORMATS:
        if kind != "spz":
            with pytest.raises(DataError, match="NaN or infinite"):
                write_gaussians(tmp_path / f"x.{kind}", bad, kind)
    with pytest.raises(ConfigError, match="choose ply, splat, spz, glb"):
        write_gaussians(tmp_path / "x.obj", moment, "obj")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="choose project, viewer, gltf"):
        write_gaussians(tmp_path / "x.ply", moment, "ply", "unity")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "gsply", None)
    with pytest.raises(ConfigError, match=r"pip install 'mvtokenflow\[formats\]'"):
        write_gaussians(tmp_path / "x.spz", moment, "spz")
    assert list(tmp_path.iterdir()) == []


def test_export_writes_sequences_and_single_moments(mvtf: Mvtf, tmp_path: Path) -> None:
    field, out = tmp_path / "field.safetensors", tmp_path / "out"
    save_field(field, moving_field())
    code, printed, message = mvtf("export", field, "-o", out, "--glb", "--splat", "--frames", 3, "--json")
    assert code == 0, message
    assert [(one["kind"], one["frames"]) for one in json.loads(printed)["outputs"]] == [
        ("splat", 3),
        ("glb", 3),
    ]
    assert sorted(path.name for path in (out / "glb").glob("*.glb")) == ["0000.glb", "0001.glb", "0002.glb"]
    once = ["export", field, "-o", out, "--glb", "--moment", 0.5, "--axes", "project"]
    assert mvtf(*once)[0] == 0
    assert (out / "glb_0.5" / "0000.glb").is_file()
    code, _, message = mvtf("export", field, "-o", out, "--glb", "--moment", 0.5)
    assert code == 2  # other axes are there
    for wrong in (["--moment", 0.5], ["--glb", "--moment", 2], ["--glb", "--axes", "unity"]):
        code, _, message = mvtf("export", field, "-o", out, *wrong)
        assert code == 2, message
