"""The method as rows: which rows there are, how clips are framed, what stages cost and who shares them."""

import importlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines import mvtokenflow as native
from mvtokenflow.baselines.catalogue import BOUNDS, KNOWN_ANSWERS, NATIVES, method_named
from mvtokenflow.baselines.method import Configurable, Costed, Rendering, Setup, Weighted
from mvtokenflow.baselines.mvtokenflow import Native, field_cameras, framed, is_front_camera
from mvtokenflow.cli.eval.grid import default_methods
from mvtokenflow.cli.eval.tables import ablated_rows
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.datasets.toy4d.dataset import Toy4DPinhole
from mvtokenflow.datasets.toy4d.scenes import view_cameras
from mvtokenflow.eval.records.rows import Run, load_runs
from mvtokenflow.media.video import Clip
from mvtokenflow.method.config import SWITCHES, MethodConfig, mini, paper
from mvtokenflow.method.pipeline import Result
from mvtokenflow.method.prepare import prepare
from mvtokenflow.multiview.pose import InputPose, lens_cameras
from mvtokenflow.multiview.preprocess import Crop
from mvtokenflow.small.prior import six_cameras
from mvtokenflow.splat.field import Render, render_gaussians
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.views.cameras import Cameras, orbit

DATA = Path(__file__).parents[1] / "data" / "tables_tiny"


# ---- which rows there are ----


@pytest.mark.parametrize("name", [*NATIVES, *BOUNDS])
def test_every_row_says_what_it_is(name: str) -> None:
    row = method_named(name, Setup(preset="paper", device="cuda", store=Path("s")))
    assert isinstance(row, Native)
    assert isinstance(row, Configurable)
    assert isinstance(row, Costed)
    assert isinstance(row, Weighted)
    assert row.name == name
    assert (row.source, row.uses_truth) == (("oracle", True) if name in BOUNDS else ("native", False))
    assert (row.setup.device, row.setup.store) == ("cuda", Path("s"))
    settings = row.settings
    assert settings.prior == paper().prior
    if name == "mvtokenflow":
        assert settings == paper()
    else:
        assert settings != paper()
    assert row.config()["mvtokenflow"] == settings.to_dict()


def test_one_row_for_each_switch_of_the_method() -> None:
    left_out = {method_named(name).left_out for name in NATIVES}  # type: ignore[attr-defined]  # all are Native
    assert left_out == {(), *((part,) for part in SWITCHES)}


def test_configurations_differ_between_rows_presets_and_priors_and_not_between_devices(
    prior_file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "prior.safetensors"
    other.write_bytes(prior_file.read_bytes() + b"more")
    rows = [method_named(name).config() for name in NATIVES]
    rows += [method_named("mvtokenflow", Setup(preset="paper")).config()]
    rows += [Native(name="x", base=replace(mini(), prior=str(path))).config() for path in (prior_file, other)]
    rows += [method_named("true-views").config()]
    texts = {json.dumps(row, sort_keys=True) for row in rows}
    assert len(texts) == len(rows)
    on_gpu = method_named("mvtokenflow", Setup(device="cuda", store=tmp_path)).config()
    assert json.dumps(on_gpu, sort_keys=True) in texts


def test_default_rows_of_the_tables() -> None:
    assert default_methods("table1", "toy4d") == default_methods("table2", "toy4d")
    assert default_methods("table1", "toy4d") == ("mvtokenflow", *KNOWN_ANSWERS)
    assert default_methods("table3", "toy4d") == (*NATIVES, "true-views")
    assert default_methods("table3", "consistent4d") == tuple(NATIVES)
    assert default_methods("table4", "toy4d") == tuple(NATIVES)


def test_dropped_parts_become_rows() -> None:
    assert ablated_rows(["enlarged-attention,flow", "normal"]) == [
        "mvtokenflow",
        "no-enlarged-attention",
        "no-flow",
        "no-normal",
    ]
    assert ablated_rows(["normal+flow", "flow+normal,refinement"]) == [
        "mvtokenflow",
        "no-flow+normal",
        "coarse",
    ]
    combined = method_named("no-flow+normal")
    assert isinstance(combined, Native)
    assert (combined.settings.flow_loss, combined.settings.token_propagation) == (False, False)
    assert combined.settings.normal_loss is False
    with pytest.raises(ConfigError, match="Did you mean 'normal'"):
        ablated_rows(["nrmal"])
    with pytest.raises(ConfigError, match="no part of the method ''"):
        ablated_rows(["normal,"])


# ---- framing ----


def _view(cameras: Cameras | None) -> View:
    return View(name="input", azimuth_deg=0, elevation_deg=0, cameras=cameras, frames=[])


def test_whole_frames_only_of_the_priors_own_front_camera() -> None:
    own = view_cameras()[0]
    assert is_front_camera(own)
    assert is_front_camera(six_cameras(64)[0])
    assert is_front_camera(orbit((0.0,), size=128, kind="ortho", radius=9.0)), "distance does not matter"
    for other in (
        view_cameras()[2],
        orbit((0.0,), 5.0, size=128, kind="ortho", radius=3.0),
        orbit((0.0,), size=128, kind="ortho", radius=3.0, half_width=1.1),
        orbit((0.0,), size=128, kind="pinhole", radius=3.0),
    ):
        assert not is_front_camera(other)
    shifted = own.world_to_camera.clone()
    shifted[:, 0, 3] += 0.1
    assert not is_front_camera(replace(own, world_to_camera=shifted))
    assert framed(mini(), _view(own)).square.crop_size == -1
    assert framed(paper(), _view(own)).square.crop_size == -1
    assert framed(mini(), _view(None)) == mini()
    assert mini().square.crop_size == 0.875 * mini().square.size
    assert framed(mini(), _view(view_cameras()[2])) == mini()


def test_a_field_of_a_video_with_perspective_is_fitted_to_the_video_itself() -> None:
    pinhole = _view(orbit((0.0,), size=128, kind="pinhole", radius=2.0, fov_deg=49.1))
    drawn = replace(mini(), front="generated")
    assert framed(drawn, pinhole) == replace(drawn, front="input")
    assert framed(mini(), pinhole) == mini()
    assert framed(paper(), pinhole) == paper()
    assert framed(drawn, _view(view_cameras()[0])).front == "generated"


# ---- a perspective input ----


def _no_progress(stage: str, done: int, total: int) -> None: ...


def _surface(scene: Scene, times: Sequence[int]) -> torch.Tensor:
    """(P, 3) points of the world on the scene's exact surface, as all of its views see it."""
    found = []
    for view in (scene.input, *scene.views):
        assert view.cameras is not None
        assert view.truth is not None
        pose, lens = view.cameras.world_to_camera[0].double(), view.cameras.intrinsics[0].double()
        y, x = torch.meshgrid(*[torch.arange(128.0, dtype=torch.float64) + 0.5] * 2, indexing="ij")
        for frame in times:
            z = torch.from_numpy(view.truth().depth[frame]).double()
            points = torch.stack(((x - lens[0, 2]) / lens[0, 0] * z, (y - lens[1, 2]) / lens[1, 1] * z, z), -1)
            found.append((points[z > 0] - pose[:3, 3]) @ pose[:3, :3])
    return torch.cat(found).float()


class _AtRest:
    """Black dots at the points, as a field."""

    def __init__(self, points: torch.Tensor) -> None:
        count = len(points)
        self.gaussians = Gaussians(
            means=points,
            quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
            scales=torch.full((count, 3), 0.002),
            opacities=torch.ones(count),
            colors=torch.zeros(count, 3),
        )

    def render(self, cameras: Cameras, time: float, flow_to: float | None = None) -> Render:
        return render_gaussians(self.gaussians, cameras)


def _overlap(view: View, made: Rendering) -> float:
    """Intersection over union of the exact mask of frame 0 and of the dots, where they are nearly black."""
    assert view.truth is not None
    seen, drawn = view.truth().depth[0] > 0, made.rgb[0].min(-1) < 25
    return float((seen & drawn).sum() / (seen | drawn).sum())


def test_a_perspective_input_is_covered_by_what_its_crop_is_reconstructed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known answer: the toy itself, where a perfect reconstruction of the crop has it, as Gaussians at rest."""
    scene = Toy4DPinhole(tmp_path).scene("bird-01")
    whole = scene.clip()
    still = Clip(rgb=whole.rgb[:1], alpha=whole.alpha[:1], name="still")
    scene = replace(scene, clip=lambda: still)

    def perfect(clip: Clip, config: MethodConfig, *given: Any, **more: Any) -> Result:
        crop = prepare(clip, config).crop
        assert crop.width < 128, "it is no picture of the prior's own camera"
        # pixels at the origin's distance, pixels of the square picture, half its width
        focal = 64 / math.tan(math.radians(49.1 / 2))
        scale = focal / 2.6 * (crop.scaled_width / crop.width) / 32
        across, down = ((crop.to_square(torch.tensor([64.0, 64.0])) - 32) / 32).tolist()
        points = _surface(scene, [0]) * scale + torch.tensor([across, 0.0, -down])
        return Result(field=_AtRest(points), crop=crop, costs=(), front_iou=1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(native, "run", perfect)
    made = Native(name="x", base=mini(), true_views=True).render(scene, 0, tmp_path / "work", _no_progress)
    # .905 to .933: the rasterizer's low-pass makes the dots half a pixel fatter all round
    right = {view.name: _overlap(view, made[view.name]) for view in (scene.input, *scene.views)}
    assert min(right.values()) > 0.9, right
    flat = replace(
        scene,
        views=[
            replace(v, cameras=orbit((v.azimuth_deg,), size=128, kind="ortho", radius=3, half_width=1.188))
            for v in scene.views
        ],
    )
    wrong = Native(name="x", base=mini(), true_views=True).render(flat, 0, tmp_path / "flat", _no_progress)
    for view in scene.views:
        flatter = _overlap(view, wrong[view.name])  # .024 to .053 less
        assert flatter < right[view.name] - 0.02, f"{view.name}: as good without perspective"


def test_views_without_cameras_have_the_lens_that_the_prior_estimates() -> None:
    """And stated ones, or none where nothing is estimated, stay as they are."""
    crop = Crop(left=12, top=-4, width=80, height=80, x=6, y=6, scaled_width=52, scaled_height=52, size=64)
    steep = InputPose(elevation_deg=(30.0,), lens=(24 / 50,))
    result = Result(field=_AtRest(torch.zeros(1, 3)), crop=crop, costs=(), front_iou=1.0, pose=steep)  # type: ignore[arg-type]
    unknown, side = _view(None), replace(_view(None), azimuth_deg=90.0)
    for view in (unknown, side):
        seen = field_cameras(view, unknown, result, (128, 160))
        want = lens_cameras(50.0, crop, 128, 160, view.azimuth_deg)
        torch.testing.assert_close(seen.intrinsics, want.intrinsics)
        torch.testing.assert_close(seen.world_to_camera, want.world_to_camera)
    assert field_cameras(side, unknown, replace(result, pose=None), (128, 160)).kind == "ortho"
    stated = _view(orbit((0.0,), size=128, kind="ortho", radius=3.0))
    assert field_cameras(stated, stated, result, (128, 128)).kind == "ortho"


# ---- a table ----


@pytest.fixture(scope="module")
def tiny(prior_file: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DATA)
        patch.setenv("TINY_PRIOR", str(prior_file))
        importlib.import_module("tinynative")
        yield importlib.import_module("tinyscenes")


def _runs(root: Path) -> dict[str, Run]:
    return {run.manifest.method: run for run in load_runs(root)}


def test_rows_of_a_table_share_stages_and_tell_what_they_cost(
    cli: Any, tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    place = ["--dataset", "tinyscenes:Tiny", "--root", tmp_path / "data", "--runs", tmp_path / "runs"]
    how = ["--protocol", "toy4d-v1", "--scenes", "ant", "--jobs", 1, "--no-quoted", "--force", "--json"]
    rows = ["--methods", "tinynative:FULL,tinynative:NO_FLOW_LOSS,white"]
    outcome = cli("table1", *place, *rows, *how)
    assert outcome.code == 0, outcome.err
    table = json.loads(outcome.out)
    keys = [column["key"] for column in table["columns"]]
    psnr = {row["label"]: row["cells"][keys.index("psnr")] for row in table["rows"]}
    assert all(psnr[name]["value"] is not None for name in ("tiny-full", "tiny-no-flow-loss", "white"))
    runs = _runs(tmp_path / "runs")
    full, ablated = runs["tiny-full"].manifest, runs["tiny-no-flow-loss"].manifest
    assert full.pedigree["weights"] == {"prior": full.config["views"]}
    assert runs["white"].manifest.pedigree["weights"] == {}
    stages = {stage.name: stage for stage in full.stages}
    assert list(stages) == ["views", "coarse", "regenerated", "refined", "render"]
    assert all(stage.wall_s > 0 and stage.peak_mib > 100 for stage in full.stages)
    shared = {stage.name: stage for stage in ablated.stages}
    assert shared["views"] == stages["views"], "taken from the other row, at its cost"
    assert shared["coarse"] != stages["coarse"]
    kept = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "runs" / ".stages").iterdir())
    assert kept == ["coarse"] * 2 + ["refined"] * 2 + ["regenerated"] * 2 + ["views"]
    identity = json.loads((runs["tiny-full"].folder / "work" / "run.json").read_text())
    assert identity["config"]["square"]["crop_size"] == 56, "the tiny scenes publish no camera"
    costs = json.loads(cli("table4", *place, *rows, *how).out)
    (minutes,) = (row["cells"][0]["value"] for row in costs["rows"] if row["label"] == "tiny-full")
    assert minutes == pytest.approx(sum(stage.wall_s for stage in full.stages) / 60)


def test_the_bound_is_for_scenes_that_can_be_seen_from_anywhere(tiny: ModuleType, tmp_path: Path) -> None:
    scene = tiny.Tiny(tmp_path).scene("ant")
    with pytest.raises(DataError, match="ant: not a scene of toy4d"):
        method_named("true-views").render(scene, 0, tmp_path / "work", lambda stage, done, total: None)
