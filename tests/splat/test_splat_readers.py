"""Exported Gaussians opened by programs of others: plyfile, gsply, pygltflib, and Khronos' glTF validator."""

from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import pytest
import torch
from gltf_validator import validated
from moving import moving_field

from mvtokenflow.splat.formats import EXTENSION, USUAL, Axes, Format, turned, write_gaussians
from mvtokenflow.splat.gaussians import SH_C0, Gaussians

DEGREES = (None, 1, 3)


def moment(degree: int | None) -> Gaussians:
    with torch.no_grad():
        return moving_field(**({} if degree is None else {"sh_degree": degree})).at(0.5)


def expected(gaussians: Gaussians, axes: Axes) -> dict[str, Any]:
    """What a file in these axes holds, as activated values; colours as harmonics (N, K, 3)."""
    held = turned(gaussians, axes).low_passed()
    colors = held.colors if held.sh_degree is not None else ((held.colors - 0.5) / SH_C0)[:, None]
    quats = torch.nn.functional.normalize(held.quats, dim=-1)
    values = {"means": held.means, "quats": quats, "scales": held.scales, "opacities": held.opacities}
    return {name: value.numpy() for name, value in {**values, "sh": colors}.items()}


def assert_alike(found: dict[str, Any], wanted: dict[str, Any], **tolerances: float) -> None:
    for name, want in wanted.items():
        value = np.asarray(found[name], np.float32).reshape(want.shape)
        if name == "quats":
            value = value * np.sign((value * want).sum(-1, keepdims=True))
        assert np.abs(value - want).max() <= tolerances.get(name, 1e-5), name


@pytest.mark.parametrize("axes", ["project", "viewer", "gltf"])
@pytest.mark.parametrize("degree", DEGREES)
def test_plyfile_reads_ply(tmp_path: Path, degree: int | None, axes: Axes) -> None:
    path = tmp_path / "x.ply"
    write_gaussians(path, moment(degree), "ply", axes)
    rows = plyfile.PlyData.read(str(path))["vertex"]

    def columns(name: str, count: int) -> Any:
        return np.stack([rows[f"{name}_{place}"] for place in range(count)], axis=-1)

    bands = (degree or 0) + 1
    rest = columns("f_rest", 3 * (bands**2 - 1)).reshape(len(rows), 3, -1) if degree else np.empty((300, 3, 0))
    sh = np.concatenate([columns("f_dc", 3)[..., None], rest], axis=-1).transpose(0, 2, 1)
    found = {
        "means": np.stack([rows[axis] for axis in "xyz"], axis=-1),
        "quats": columns("rot", 4),
        "scales": np.exp(columns("scale", 3)),
        "opacities": 1 / (1 + np.exp(-rows["opacity"])),
        "sh": sh,
    }
    assert_alike(found, expected(moment(degree), axes))


@pytest.mark.parametrize("degree", DEGREES)
def test_gsply_reads_ply_and_spz(tmp_path: Path, degree: int | None) -> None:
    gsply = pytest.importorskip("gsply", reason="the extra `formats` is not installed")
    readers: dict[Format, Any] = {"ply": gsply.plyread, "spz": gsply.read_spz}
    for kind, read in readers.items():
        path = tmp_path / f"x.{kind}"
        write_gaussians(path, moment(degree), kind)
        seen = read(str(path))
        rest = np.empty((300, 0, 3)) if seen.shN is None else seen.shN.reshape(300, -1, 3)
        found = {
            "means": seen.means,
            "quats": seen.quats / np.linalg.norm(seen.quats, axis=-1, keepdims=True),
            "scales": np.exp(seen.scales),
            "opacities": 1 / (1 + np.exp(-seen.opacities)),
            "sh": np.concatenate([seen.sh0.reshape(-1, 1, 3), rest], axis=1),
        }
        coarse = {"means": 3e-4, "quats": 4e-3, "scales": 4e-2, "opacities": 3e-3, "sh": 7e-2}
        assert_alike(found, expected(moment(degree), USUAL[kind]), **(coarse if kind == "spz" else {}))


@pytest.mark.parametrize("degree", DEGREES)
def test_pygltflib_reads_glb(tmp_path: Path, degree: int | None) -> None:
    gltf = pytest.importorskip("pygltflib", reason="pygltflib is not installed; it is in the extra `dev`")
    path = tmp_path / "x.glb"
    write_gaussians(path, moment(degree), "glb")
    document = gltf.GLTF2().load(str(path))
    assert document.extensionsUsed == [EXTENSION]
    (primitive,) = document.meshes[0].primitives
    assert primitive.mode == gltf.POINTS
    assert primitive.extensions[EXTENSION] == {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    body, names = document.binary_blob(), vars(primitive.attributes)

    def column(name: str) -> Any:
        accessor = document.accessors[names[name]]
        view = document.bufferViews[accessor.bufferView]
        raw = np.frombuffer(body, "<f4", view.byteLength // 4, view.byteOffset)
        return raw.reshape(accessor.count, -1)

    order = [
        f"{EXTENSION}:SH_DEGREE_{band}_COEF_{place}"
        for band in range((degree or 0) + 1)
        for place in range(2 * band + 1)
    ]
    found = {
        "means": column("POSITION"),
        "quats": column(f"{EXTENSION}:ROTATION")[:, [3, 0, 1, 2]],
        "scales": column(f"{EXTENSION}:SCALE"),
        "opacities": column(f"{EXTENSION}:OPACITY"),
        "sh": np.stack([column(name) for name in order], axis=1),
    }
    assert_alike(found, expected(moment(degree), "gltf"))


@pytest.mark.parametrize("degree", DEGREES)
def test_the_khronos_validator_finds_no_error_but_that_it_does_not_know_the_extension(
    tmp_path: Path, degree: int | None
) -> None:
    """It takes names that an extension defines for invalid (KhronosGroup/glTF-Validator#252).

    The same file with the names of applications, which begin with an underscore, has no error at all.
    """
    path, plain = tmp_path / "x.glb", tmp_path / "plain.glb"
    write_gaussians(path, moment(degree), "glb")
    for message in validated(path):
        if message["severity"] == 0:
            assert message["code"] == "MESH_PRIMITIVE_INVALID_ATTRIBUTE"
            assert f"/attributes/{EXTENSION}:" in message["pointer"]
    plain.write_bytes(path.read_bytes().replace(b'"' + EXTENSION.encode() + b":", b'"_HR_GAUSSIAN_SPLATTING_'))
    codes = [(message["severity"], message["code"]) for message in validated(plain)]
    assert [code for code in codes if code[0] < 2] == []  # neither errors nor warnings
    assert (2, "UNSUPPORTED_EXTENSION") in codes
