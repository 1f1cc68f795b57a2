"""Results that are rendered: the same field through our own functions is the known answer."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from official import (
    COLOURS,
    NODES,
    consistent4d,
    deformation,
    dg4d,
    marker,
    nodes,
    sc4d,
    write_columns,
    write_ply,
)
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines.importers.contract import Given, Wanted
from mvtokenflow.baselines.importers.folder import checked_scenes
from mvtokenflow.baselines.importers.writing import Import
from mvtokenflow.media.pictures import Pixels
from mvtokenflow.radiance.cascade import CascadeField
from mvtokenflow.radiance.heads import moved
from mvtokenflow.radiance.quadrature import Rays, box_span, composite, pixel_rays, points_on, sample_rays
from mvtokenflow.splat.field import render_gaussians
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.splat.timenet import follow, radial_skinning
from mvtokenflow.views.cameras import Cameras, orbit

Cli = Callable[..., Any]
AZIMUTHS = {"input": 0.0, "eval_0": -75.0, "eval_1": 15.0, "eval_2": 105.0, "eval_3": 195.0}
SIZE, FRAMES = 40, 3
THREE = Given(frames=FRAMES)


def wanted(frames: int = FRAMES) -> list[Wanted]:
    numbers = tuple(range(frames))
    return [
        Wanted(name=name, azimuth_deg=azimuth, width=SIZE, height=SIZE, numbers=numbers)
        for name, azimuth in AZIMUTHS.items()
    ]


def opened(folder: Path, given: Given = THREE, frames: int = FRAMES, kind: str = "auto") -> Import:
    (found,) = checked_scenes(folder, lambda scene: wanted(frames), None, given, scene="it", kind=kind)
    return found


def camera(azimuth: float, radius: float) -> Cameras:
    return orbit((azimuth,), size=SIZE, kind="pinhole", radius=radius, fov_deg=49.1)


def ours(points: Tensor) -> Tensor:
    """DreamGaussian's world as ours: (x, -z, y)."""
    return torch.stack([points[..., 0], -points[..., 2], points[..., 1]], -1)


def seen(means: Tensor, log_scales: Tensor, azimuth: float, radius: float) -> Pixels:
    """Spheres, so that turning their world needs no rotation of theirs, at a place in DreamGaussian's world."""
    count = len(means)
    gaussians = Gaussians(
        means=ours(means),
        quats=torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4),
        scales=log_scales.exp(),
        opacities=torch.full((count,), 4.0).sigmoid(),
        colors=torch.from_numpy(COLOURS[:count]),
    )
    rgb = render_gaussians(gaussians, camera(azimuth, radius)).rgb[0]
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def assert_same(made: Pixels, known: Pixels) -> None:
    assert np.abs(made.astype(int) - known.astype(int)).max() <= 1
    assert known.min() < 128, "there is something to see"


def centre(picture: Pixels, colour: int) -> tuple[float, float]:
    """Column and row of a colour's middle, in shares of the picture."""
    others = [c for c in range(3) if c != colour]
    mask = picture[..., colour].astype(int) - picture[..., others].max(-1) > 60
    rows, columns = np.nonzero(mask)
    return columns.mean() / SIZE, rows.mean() / SIZE


def values() -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in marker().items()}


# ---- DreamGaussian4D and sequences of anybody's ----


def test_dg4d_takes_every_fourth_file(tmp_path: Path) -> None:
    found = opened(dg4d(tmp_path, 4 * FRAMES))
    assert found.record["kind"] == "dg4d"
    assert found.record["radius"] == 1.5
    assert found.record["time"] == "frame n is file 4 n of 12"
    for index in range(FRAMES):
        means = values()["means"] + torch.tensor([0.08 * index, 0, 0])
        for view, azimuth in AZIMUTHS.items():
            assert_same(found.opened.draw(view, index), seen(means, values()["log_scales"], azimuth, 1.5))
    assert opened(dg4d(tmp_path / "dg", 4 * FRAMES, normals=True)).record["radius"] == 2.0
    assert opened(tmp_path, Given(frames=12), 12).record["time"] == "frame n is file 1 n of 12"


def test_azimuths_turn_the_right_way(tmp_path: Path) -> None:
    """Red is right and green above from the front; a camera on the right sees the front on its left."""
    draw = opened(dg4d(tmp_path, 4 * FRAMES)).opened.draw
    red, green = centre(draw("input", 0), 0), centre(draw("input", 0), 1)
    assert red[0] > 0.6
    assert green[1] < 0.4
    assert abs(green[0] - 0.5) < 0.05
    assert centre(draw("eval_2", 0), 2)[0] < 0.4  # +105 degrees
    assert centre(draw("eval_0", 0), 2)[0] > 0.6  # -75 degrees


def test_elevation_is_positive_above(tmp_path: Path) -> None:
    above = [Wanted(name="up", azimuth_deg=0.0, elevation_deg=40.0, width=SIZE, height=SIZE)]
    (found,) = checked_scenes(dg4d(tmp_path, 4 * FRAMES), lambda scene: above, None, THREE)
    assert found.scene == "toy"
    # What stands in front is seen lower from above.
    assert centre(found.opened.draw("up", 0), 2)[1] > 0.6


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "toy_frames/005.ply").unlink(), "005.ply is missing"),
        (lambda f: (f / "toy_frames/011.ply").unlink(), "11 files for 3 frames, expected 12 or 3"),
        (lambda f: _cut(f / "toy_frames/004.ply"), r"004.ply: cut off, \d+ of \d+ bytes"),
        (lambda f: _nan(f / "toy_frames/008.ply"), "008.ply: holds NaN"),
        (lambda f: (f / "toy_model.ply").unlink(), "dg4d lacks toy_model.ply beside toy_frames"),
    ],
)
def test_damaged_frames_of_dg4d(tmp_path: Path, spoil: Callable[[Path], Any], said: str) -> None:
    spoil(dg4d(tmp_path, 4 * FRAMES))
    with pytest.raises(DataError, match=said):
        opened(tmp_path)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _nan(path: Path) -> None:
    gaussians = marker()
    gaussians["means"][1, 1] = np.nan
    write_ply(path, gaussians)


def test_a_sequence_of_anybodys_uses_the_datasets_cameras(tmp_path: Path) -> None:
    for number in range(1, FRAMES + 1):
        write_ply(tmp_path / f"frame_{number:04d}.ply", marker())
    ortho = orbit((30.0,), size=SIZE, kind="ortho", radius=2.0)
    view = Wanted(name="side", azimuth_deg=30.0, width=SIZE, height=SIZE, cameras=ortho, numbers=(0, 1, 2))
    (found,) = checked_scenes(tmp_path, lambda scene: [view], None, Given(), scene="it")
    assert found.record["kind"] == "ply"
    assert found.record["cameras"] == "the dataset's"
    assert found.record["remarks"] == ["numbered from 1, written from 0"]
    plain = values()
    gaussians = Gaussians(
        means=plain["means"],
        quats=torch.tensor([[1.0, 0, 0, 0]]).expand(4, 4),
        scales=plain["log_scales"].exp(),
        opacities=plain["logits"][:, 0].sigmoid(),
        colors=torch.from_numpy(COLOURS),
    )
    known = (render_gaussians(gaussians, ortho).rgb[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    assert_same(found.opened.draw("side", 2), known)
    theirs = Given(world="dreamgaussian", radius=1.5)
    (turned,) = checked_scenes(tmp_path, lambda scene: [view], None, theirs, scene="it")
    assert "the dataset's has no perspective" in turned.record["remarks"][1]
    assert_same(turned.opened.draw("side", 0), seen(plain["means"], plain["log_scales"], 30.0, 1.5))
    (tmp_path / "frame_0002.ply").unlink()
    with pytest.raises(DataError, match="frame 2 is missing"):
        checked_scenes(tmp_path, lambda scene: [view], None, Given(), scene="it")


# ---- SC4D ----


def test_sc4d_follows_its_control_points(tmp_path: Path) -> None:
    net = sc4d(tmp_path / "toy")
    found = opened(tmp_path / "toy")
    assert (found.record["kind"], found.record["radius"], found.record["time"]) == ("sc4d", 2.0, "n / 3")
    plain, control = values(), nodes()
    weighting = radial_skinning(plain["means"], control[:, :3], control[:, 3])
    pictures = []
    for index in range(FRAMES):
        motion = net(control[:, :3], torch.tensor([[index / FRAMES]]))
        means, _ = follow(plain["means"], plain["quats"], control[:, :3], motion, weighting)
        known = seen(means.detach(), plain["log_scales"], -75.0, 2.0)
        assert_same(found.opened.draw("eval_0", index), known)
        pictures.append(known)
    assert (pictures[0] != pictures[2]).any(), "it moves"


def test_sc4d_first_stage(tmp_path: Path) -> None:
    net = sc4d(tmp_path, ("s1",))
    found = opened(tmp_path)
    assert "the first stage of SC4D only" in found.record["remarks"]
    means = values()["means"] + net(values()["means"], torch.tensor([[1 / 3]])).translation.detach()
    assert_same(found.opened.draw("eval_1", 1), seen(means, values()["log_scales"], 15.0, 2.0))


def test_sc4d_asks_how_many_frames_there_were(tmp_path: Path) -> None:
    sc4d(tmp_path)
    with pytest.raises(ConfigError, match=r"fitted to 32 frames by default, the dataset has 3; .*--frames 3"):
        opened(tmp_path, Given())
    assert opened(tmp_path, Given(), 32).record["frames"] == 32
    fewer = opened(tmp_path, Given(frames=2))
    assert fewer.record["remarks"] == ["2 of 3 frames"]
    assert fewer.record["numbers"] == [0, 1]


def test_what_a_kind_does_not_mind_is_refused(tmp_path: Path) -> None:
    sc4d(tmp_path)
    with pytest.raises(
        ConfigError, match="nearest is stated, which results of sc4d do not need; they take frames"
    ):
        opened(tmp_path, replace(THREE, nearest_deg=5.0))
    wider = opened(tmp_path, replace(THREE, fov_deg=60.0))
    assert wider.record["fov_deg"] == 60.0
    assert (wider.opened.draw("input", 0) != opened(tmp_path).opened.draw("input", 0)).any()


def test_damaged_results_of_sc4d(tmp_path: Path) -> None:
    sc4d(tmp_path)
    write_columns(tmp_path / "s2/point_cloud_c.ply", [(n, np.zeros(3, np.float32)) for n in NODES])
    with pytest.raises(DataError, match=r"point_cloud_c.ply: 3 control points"):
        opened(tmp_path)
    (tmp_path / "s2/point_cloud_c.ply").unlink()
    with pytest.raises(DataError, match=r"point_cloud_c.ply: not there"):
        opened(tmp_path)
    for stage in ("s1", "s2"):
        (tmp_path / stage / "timenet.pth").unlink()
    with pytest.raises(DataError, match=r"sc4d lacks s2/ or s1/ with point_cloud.ply and timenet.pth"):
        opened(tmp_path)


# ---- STAG4D and 4DGen ----


@pytest.mark.parametrize("kind", ["stag4d", "4dgen"])
def test_gaussians_moved_by_planes(tmp_path: Path, kind: str) -> None:
    root = tmp_path / ("toy8000" if kind == "stag4d" else "run/point_cloud/iteration_300")
    network = deformation(root)
    if kind == "4dgen":
        write_ply(tmp_path / "run/point_cloud/iteration_20/point_cloud.ply", marker())
    write_ply(root / ("model.ply" if kind == "stag4d" else "point_cloud.ply"), marker())
    found = opened(tmp_path / ("toy8000" if kind == "stag4d" else "run"))
    assert found.record["kind"] == kind
    assert ("iteration 300" in found.record["remarks"]) == (kind == "4dgen")
    plain = values()
    for index in range(FRAMES):
        motion = network(plain["means"], [index / FRAMES])
        means, scales, quats = (
            part[0].detach() for part in moved(plain["means"], plain["log_scales"], plain["quats"], motion)
        )
        made = found.opened.draw("eval_2", index)
        turned = Gaussians(
            means=means,
            quats=torch.nn.functional.normalize(quats, dim=-1),
            scales=scales.exp(),
            opacities=plain["logits"][:, 0].sigmoid(),
            colors=torch.from_numpy(COLOURS),
        )
        assert_same(made, (_in_theirs(turned, 105.0).clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def _in_theirs(gaussians: Gaussians, azimuth: float) -> Tensor:
    """Rendered by a camera written down in DreamGaussian's world: at (sin a, 0, cos a), y up."""
    angle = np.radians(azimuth)
    back = np.array([np.sin(angle), 0, np.cos(angle)])
    right, down = np.array([np.cos(angle), 0, -np.sin(angle)]), np.array([0, -1.0, 0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, down, -back])
    pose[2, 3] = 2.0
    made = replace(camera(0.0, 2.0), world_to_camera=torch.tensor(pose[None], dtype=torch.float32))
    return render_gaussians(gaussians, made).rgb[0]


def test_stag4d_has_thirty_frames_of_thirty_two(tmp_path: Path) -> None:
    deformation(tmp_path / "toy8000")
    write_ply(tmp_path / "toy8000/model.ply", marker())
    (found,) = checked_scenes(tmp_path, lambda scene: wanted(32), ["fox", "toy"], Given())
    assert (found.scene, found.record["frames"], found.record["time"]) == ("toy", 30, "n / 30")
    assert "30 of 32 frames" in found.record["remarks"]
    with pytest.raises(ConfigError, match="fitted to 30 frames by default, the dataset has 12"):
        opened(tmp_path / "toy8000", Given(), 12)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"deformation_net.static_mlp.0.weight": torch.zeros(2)}, "has deformation_net.static_mlp.0.weight"),
        (
            {"deformation_net.grid.aabb": torch.tensor([[1.6, 1, 1], [-1.6, -1, -1]])},
            "no cube around the origin",
        ),
        ({"deformation_net.feature_out.0.bias": torch.full((8,), np.nan)}, "feature_out.0.bias holds NaN"),
        ({"deformation_net.pos_deform.1.weight": torch.zeros(3, 3)}, "not a deformation by planes"),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, more: dict[str, Tensor], said: str) -> None:
    deformation(tmp_path, more)
    write_ply(tmp_path / "model.ply", marker())
    with pytest.raises(DataError, match=said):
        opened(tmp_path)
    (tmp_path / "deformation_table.pth").unlink()
    with pytest.raises(DataError, match=r"stag4d lacks deformation_table.pth"):
        opened(tmp_path)


# ---- Consistent4D ----


@pytest.fixture
def settings_class(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class of a configuration library, as Lightning stores one, that must not be needed to read the file."""
    module = ModuleType("omegaconf.dictconfig")

    class DictConfig:
        pass

    DictConfig.__module__, DictConfig.__qualname__ = "omegaconf.dictconfig", "DictConfig"
    vars(module)["DictConfig"] = DictConfig
    monkeypatch.setitem(sys.modules, "omegaconf", ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", module)
    return DictConfig


def known_radiance(field: CascadeField, azimuth: float, time: float) -> Pixels:
    """By finer steps along our own rays; threestudio's (x, y, z) is our (y, -x, z)."""
    origins, directions = (part[0].flatten(0, 1) for part in pixel_rays(camera(azimuth, 2.0)))
    rays = Rays(*(torch.stack([-v[:, 1], v[:, 0], v[:, 2]], -1) for v in (origins, directions)))
    samples = sample_rays(*box_span(rays, 1.0), 500)
    with torch.no_grad():
        points = points_on(rays, samples.at).flatten(0, 1)
        found = field(points, torch.full((len(points), 1), time))
    density = found.density[-1].reshape(samples.at.shape)
    colours = found.colours[-1].reshape(*samples.at.shape, 3)
    picture = composite(density, colours, samples.starts, samples.ends).colour.reshape(SIZE, SIZE, 3)
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def test_consistent4d_is_rendered_from_its_checkpoint(tmp_path: Path, settings_class: type) -> None:
    field = consistent4d(tmp_path, settings_class())
    sys.modules.pop("omegaconf.dictconfig")
    found = opened(tmp_path)
    assert (found.record["kind"], found.record["world"], found.record["time"]) == (
        "consistent4d",
        "threestudio",
        "2 n / 3 - 1",
    )
    made = found.opened.draw("eval_2", 1).astype(int)
    assert np.abs(made - known_radiance(field, 105.0, 2 / 3 - 1)).max() <= 3
    assert np.abs(made - known_radiance(field, -105.0, 2 / 3 - 1)).max() > 10, "a mirrored orbit would show"
    assert np.abs(made - known_radiance(field, 105.0, 1.0)).max() > 3, "and so would another time"


def test_empty_cells_are_not_drawn(tmp_path: Path) -> None:
    consistent4d(tmp_path)
    path = tmp_path / "ckpts/last.ckpt"
    document = torch.load(path)
    document["state_dict"]["renderer.estimator.binaries"][..., 4:] = False  # z above 0
    torch.save(document, path)
    picture = opened(tmp_path).opened.draw("input", 0)
    assert (picture[: SIZE // 2 - 3] == 255).all()
    assert (picture[SIZE // 2 + 3 :] < 250).any()


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    consistent4d(tmp_path, Wanted(name="x", azimuth_deg=0.0))
    with pytest.raises(
        DataError, match=r"last.ckpt: refused, .*it names mvtokenflow.baselines.importers.contract.Wanted"
    ):
        opened(tmp_path)
    shutil.rmtree(tmp_path / "ckpts")
    with pytest.raises(DataError, match=r"consistent4d lacks ckpts/last.ckpt"):
        opened(tmp_path)


# ---- through the command line ----


def test_a_table_renders_a_checkpoint(
    tmp_path: Path, tiny: ModuleType, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    tiny.Tiny(tmp_path / "data").scene("ant")
    dg4d(tmp_path / "logs", 16)
    for path in list((tmp_path / "logs").iterdir()):
        path.rename(path.with_name(path.name.replace("toy", "ant")))
    place = ("--dataset", "tinyscenes:Tiny", "--root", tmp_path / "data")
    refused = cli("import", tmp_path / "logs", "-o", tmp_path / "out", *place)
    assert refused.code == 2
    assert "--frames 4" in refused.err
    done = cli("import", tmp_path / "logs", "-o", tmp_path / "out", *place, "--frames", 4, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["ant"]["size"] == [32, 32]
    words = ("--methods", "ground-truth", "--scenes", "ant", "--import", f"dg={tmp_path / 'out'}", "--force")
    rest = ("--protocol", "toy4d-v1", "--no-quoted", "--jobs", 1, "--json", "--runs", tmp_path / "runs")
    table = cli("table2", *place, *words, *rest)
    assert table.code == 0, table.err
    notes = json.loads(table.out)["footnotes"]
    assert "dg was imported as dg4d: radius 1.5, as ant_model.ply has no normals, of LGM." in notes
