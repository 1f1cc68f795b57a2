"""Meshes of Gaussians: a sphere's surface, colours and sides, and glTF files in which moments play."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gltf_validator import validated
from moving import moving_field
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.splat.field import DynamicField, Render
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.splat.io import save_field
from mvtokenflow.splat.mesh import Mesh, surface_mesh
from mvtokenflow.splat.mesh_files import export_meshes, meshes_as_gltf, read_mesh

Mvtf = Callable[..., Any]  # of tests/conftest.py
RADIUS, CELLS, COUNT = 0.5, 40, 8000


def sphere(height: float = 0.0) -> Gaussians:
    """Opaque Gaussians on a sphere: red above its middle, blue below."""
    generator = torch.Generator().manual_seed(0)
    points = RADIUS * torch.nn.functional.normalize(torch.randn(COUNT, 3, generator=generator), dim=-1)
    colors = torch.where(points[:, 2:] > 0, torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9]))
    return Gaussians(
        means=points + torch.tensor([0.0, 0.0, height]),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(COUNT, 4),
        scales=torch.full((COUNT, 3), 0.015),
        opacities=torch.full((COUNT,), 0.95),
        colors=colors,
    )


class Rising:
    """A sphere that rises, as `MovingGaussians`."""

    def at(self, t: float) -> Gaussians:
        return sphere(0.2 * t)

    def render(
        self, cameras: Any, t: float, *, background: Sequence[float] = (1, 1, 1), flow_to: float | None = None
    ) -> Render:
        raise AssertionError("a mesh is made of Gaussians")


@pytest.fixture(scope="module")
def ball() -> Mesh:
    return surface_mesh(sphere(), cells=CELLS)


def test_the_mesh_of_a_sphere_is_a_closed_sphere(ball: Mesh) -> None:
    far = np.linalg.norm(ball.vertices, axis=-1)
    assert np.abs(far - RADIUS).max() < 0.05  # a cell is 0.027
    assert np.abs(far - RADIUS).mean() < 0.025
    outwards = np.einsum("ij,ij->i", ball.vertices, ball.normals) / far
    assert outwards.mean() > 0.95
    assert (outwards > 0).mean() > 0.995
    a, b, c = (ball.vertices[ball.faces[:, corner]].astype(float) for corner in range(3))
    volume = float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)
    assert volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.15)  # positive: counter-clockwise outside
    edges = np.sort(
        np.concatenate([ball.faces[:, [0, 1]], ball.faces[:, [1, 2]], ball.faces[:, [2, 0]]]), axis=1
    )
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_corners_have_the_colours_of_the_gaussians(ball: Mesh) -> None:
    for side, colour in (
        (ball.vertices[:, 2] > 0.1, (0.9, 0.1, 0.1)),
        (ball.vertices[:, 2] < -0.1, (0.1, 0.1, 0.9)),
    ):
        assert np.abs(ball.colours[side] - colour).mean() < 0.03


def test_floaters_are_left_out_and_their_absence_of_surface_is_an_error() -> None:
    ball, away = sphere(), sphere()
    away = replace(away, means=0.02 * away.means + torch.tensor([0.0, 0.0, 0.9]))
    few = slice(0, 30)
    both = Gaussians(
        means=torch.cat([ball.means, away.means[few]]),
        quats=torch.cat([ball.quats, away.quats[few]]),
        scales=torch.cat([ball.scales, away.scales[few]]),
        opacities=torch.cat([ball.opacities, away.opacities[few]]),
        colors=torch.cat([ball.colors, away.colors[few]]),
    )
    assert surface_mesh(both, cells=CELLS).vertices[:, 2].max() < 0.6
    with pytest.raises(DataError, match="opaque enough"):
        surface_mesh(replace(ball, opacities=torch.full((COUNT,), 0.01)), cells=16)
    with pytest.raises(ConfigError, match="choose 16 to 512"):
        surface_mesh(ball, cells=4)


def test_one_moment_is_shown_at_a_time(tmp_path: Path) -> None:
    gltf = pytest.importorskip("pygltflib", reason="pygltflib is not installed; it is in the extra `dev`")
    paths = export_meshes(Rising(), 3, tmp_path / "mesh", fps=4, source={"sha256": "0"}, cells=16)
    assert [path.name for path in paths] == ["0000.glb", "0001.glb", "0002.glb", "animated.glb"]
    document = gltf.GLTF2().load(str(paths[-1]))
    body = document.binary_blob()

    def table(number: int) -> Any:
        accessor = document.accessors[number]
        view = document.bufferViews[accessor.bufferView]
        return np.frombuffer(body, "<f4", view.byteLength // 4, view.byteOffset).reshape(accessor.count, -1)

    (animation,) = document.animations
    for time, shown in ((0.0, 0), (0.24, 0), (0.26, 1), (0.49, 1), (0.51, 2), (0.75, 2)):
        scales = {}
        for channel in animation.channels:
            sampler = animation.samplers[channel.sampler]
            assert (sampler.interpolation, channel.target.path) == ("STEP", "scale")
            key = int((table(sampler.input)[:, 0] <= time + 1e-6).sum()) - 1
            scales[channel.target.node] = table(sampler.output)[key].tolist()
        assert scales == {n: [float(n == shown)] * 3 for n in range(3)}
    heights = [table(mesh.primitives[0].attributes.POSITION)[:, 1].mean() for mesh in document.meshes]
    assert heights == pytest.approx([0, 0.1, 0.2], abs=0.04)  # Y is up


def test_what_is_written_is_kept_and_reads_back(tmp_path: Path, ball: Mesh) -> None:
    path = tmp_path / "x.glb"
    path.write_bytes(meshes_as_gltf([ball]))
    again = read_mesh(path)
    assert (again.faces == ball.faces).all()
    assert (again.vertices == ball.vertices).all()
    assert np.abs(again.colours - ball.colours).max() < 1e-3
    path.write_bytes(b"no mesh")
    with pytest.raises(DataError, match="delete it"):
        read_mesh(path)
    folder = tmp_path / "mesh"
    first = export_meshes(Rising(), 2, folder, fps=4, source={"sha256": "0"}, cells=16)
    kept = first[0].stat().st_mtime_ns
    first[1].unlink()
    assert export_meshes(Rising(), 2, folder, fps=4, source={"sha256": "0"}, cells=16) == first
    assert first[0].stat().st_mtime_ns == kept
    with pytest.raises(ConfigError):
        export_meshes(Rising(), 2, folder, fps=4, source={"sha256": "0"}, cells=20)


def test_the_khronos_validator_has_nothing_to_say(tmp_path: Path) -> None:
    paths = export_meshes(Rising(), 2, tmp_path / "mesh", fps=4, source={"sha256": "0"}, cells=16)
    for path in paths:
        assert validated(path) == []


def test_the_command_writes_meshes(mvtf: Mvtf, tmp_path: Path) -> None:
    field: DynamicField = moving_field(count=1000)
    with torch.no_grad():
        field.gaussians.logit_opacities.fill_(4.0)
    file, out = tmp_path / "field.safetensors", tmp_path / "out"
    save_field(file, field)
    code, printed, message = mvtf("export", file, "-o", out, "--mesh", "--frames", 2, "--cells", 16, "--json")
    assert code == 0, message
    (made,) = json.loads(printed)["outputs"]
    assert (made["kind"], made["frames"]) == ("mesh", 2)
    assert Path(made["path"]) == out / "mesh" / "animated.glb"
    assert Path(made["path"]).is_file()
    assert (
        mvtf("export", file, "-o", out, "--mesh", "--moment", 0.5, "--cells", 16, "--axes", "project")[0] == 0
    )
    assert [path.name for path in (out / "mesh_0.5").glob("*.glb")] == ["0000.glb"]
    vertices: Tensor = torch.from_numpy(read_mesh(out / "mesh_0.5" / "0000.glb").vertices.copy())
    assert vertices.abs().max() < 1.5
    code, _, message = mvtf("export", file, "-o", out, "--ply", "--cells", 16)
    assert code == 2
    assert "--cells belongs to --mesh" in message
