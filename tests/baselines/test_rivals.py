"""Rivals as rows: settings, exact resume, rendering, what they leave behind."""

import pickle
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import Truth, oracle_prior, toy_truth
from rivals import few_consistent4d, few_dg4d, few_sc4d, few_stag4d, job_of, scene_of, silent, small_row

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines import rival as rival_module
from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.baselines.consistent4d import pipeline as consistent4d
from mvtokenflow.baselines.dg4d import pipeline as dg4d
from mvtokenflow.baselines.job import Job
from mvtokenflow.baselines.method import Configurable, Costed, Documented, Setup, Weighted
from mvtokenflow.baselines.names import METHODS, RIVALS
from mvtokenflow.baselines.rival import Rival
from mvtokenflow.baselines.sc4d import pipeline as sc4d
from mvtokenflow.baselines.stag4d import pipeline as stag4d
from mvtokenflow.baselines.stag4d.settings import Densify
from mvtokenflow.distill.fields import PlaneField, frame_at, load_rival_field
from mvtokenflow.distill.stored import load_points
from mvtokenflow.radiance.planes import signed_time
from mvtokenflow.radiance.render import render_cascade
from mvtokenflow.views.cameras import orbit

FITS: dict[str, tuple[Callable[[Job, Any], Any], Callable[[], Any], str]] = {
    "consistent4d": (consistent4d.fit, few_consistent4d, "fit"),
    "sc4d": (sc4d.fit, few_sc4d, "control"),
    "stag4d": (stag4d.fit, few_stag4d, "fit"),
    "dg4d": (dg4d.fit, few_dg4d, "dynamic"),
}
NAMES = tuple(FITS)
# Reports of progress until a run is killed, one run after another: in every stage.
KILLS = {"consistent4d": (4, 5), "sc4d": (3, 9, 5), "stag4d": (3, 9, 5), "dg4d": (3, 9, 5, 7)}


@pytest.fixture(scope="module")
def truth() -> Truth:
    return toy_truth(frames=3, size=32)


class _KilledError(Exception):
    pass


class _Death:
    """Progress that raises at the n-th report of a training stage."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, stage: str, done: int, total: int, /) -> None:
        self.left -= 1
        if self.left < 0:
            raise _KilledError


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_ends_like_one_that_was_not(name: str, truth: Truth, tmp_path: Path) -> None:
    fit, settings, last = FITS[name]
    whole = fit(job_of(truth, tmp_path / "whole", every=2), settings())
    killed = tmp_path / "killed"
    for after in KILLS[name]:
        with pytest.raises(_KilledError):
            fit(replace(job_of(truth, killed, every=2), progress=_Death(after)), settings())
    resumed = fit(job_of(truth, killed, every=2), settings())
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    for run in ("whole", "killed"):
        assert not list((tmp_path / run).rglob("checkpoint.pt"))
    lines = [(tmp_path / run / last / "losses.jsonl").read_text().count("\n") for run in ("whole", "killed")]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("name", NAMES)
def test_other_seeds_are_other_fields_and_a_finished_one_is_read(
    name: str, truth: Truth, tmp_path: Path
) -> None:
    fit, settings, last = FITS[name]
    one = fit(job_of(truth, tmp_path / "0"), settings())
    two = fit(job_of(truth, tmp_path / "1", seed=1), settings())
    key = "cascade.grids.0.0" if name == "consistent4d" else "gaussians.means"
    assert not torch.equal(one.state_dict()[key][:20], two.state_dict()[key][:20])
    path = tmp_path / "0" / last / "field.safetensors"
    before = path.stat().st_mtime_ns
    again = fit(job_of(truth, tmp_path / "0"), settings())
    assert path.stat().st_mtime_ns == before
    assert torch.equal(again.state_dict()[key], one.state_dict()[key])


def test_a_damaged_field_is_named(truth: Truth, tmp_path: Path) -> None:
    stag4d.fit(job_of(truth, tmp_path), few_stag4d())
    path = tmp_path / "fit" / "field.safetensors"
    with pytest.raises(DataError, match=r"field\.safetensors: the field is damaged"):
        load_rival_field(path, "dg4d")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"field\.safetensors.*delete it"):
        stag4d.load(path)


# ---- signature parts that need few steps ----


def test_consistent4d_alternates_and_renders_every_level(truth: Truth, tmp_path: Path) -> None:
    settings = replace(few_consistent4d(), interpolation_share=0.0)
    training = consistent4d.CascadeTraining(job_of(truth, tmp_path), settings)
    plans = [training.plan(number) for number in range(4)]
    assert [(len(plan.reference), len(plan.distilled)) for plan in plans] == [(1, 0), (0, 1)] * 2
    for number, wanted in ((0, {"reference", "mask"}), (1, {"sds"}), (2, {"reference", "mask"})):
        assert set(training.step(number)) >= wanted
    training.field.zero_grad()
    terms, _ = training.terms(training.plan(4))
    torch.autograd.backward(terms["reference"])
    for level in range(2):
        grad = training.field.feature_network[level].layers[0].weight.grad  # type: ignore[union-attr, index]
        assert grad is not None
        assert bool(grad.any())


def test_cells_of_every_frame_are_kept_whatever_the_last_updates_saw(truth: Truth, tmp_path: Path) -> None:
    training = consistent4d.CascadeTraining(job_of(truth, tmp_path), few_consistent4d())
    training.step(0)
    training.occupancy = replace(training.occupancy, values=torch.zeros_like(training.occupancy.values))
    field = training.result(training.source.times.tolist())
    times = torch.tensor([signed_time(1, 3)])
    camera = training.source.camera
    with torch.no_grad():
        whole = render_cascade(training.field, camera, times, 12).rgb[-1]
    assert torch.allclose(field.render(camera, 0.5).rgb, whole, atol=0.02)


def test_steps_for_interpolation_are_not_distilled(truth: Truth, tmp_path: Path) -> None:
    settings = replace(few_consistent4d(), interpolation_share=1.0, batch=3)
    training = consistent4d.CascadeTraining(job_of(truth, tmp_path), settings)
    for number in (1, 3, 5, 7, 9):
        found = set(training.step(number))
        assert "interpolation" in found
        assert "sds" not in found


def test_a_cascade_whose_second_level_adds_nothing_renders_two_equal_levels(
    truth: Truth, tmp_path: Path
) -> None:
    training = consistent4d.CascadeTraining(job_of(truth, tmp_path), few_consistent4d())
    with torch.no_grad():
        for network in (training.field.density_network[1], training.field.feature_network[1]):
            network.layers[-1].weight.zero_()  # type: ignore[union-attr, index]
        seen = training._seen(training.source.camera, [1])
    assert torch.equal(seen.rgb[0], seen.rgb[1])
    assert float((seen.opacity[0] > 0.5).float().mean()) > 0.01


def test_the_first_stage_of_sc4d_has_one_radius(truth: Truth, tmp_path: Path) -> None:
    training = sc4d.PointTraining(job_of(truth, tmp_path), few_sc4d())
    terms, _ = training.terms(training.plan(0))
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    assert training.field.log_radius.grad is not None
    assert training.field.log_radius.numel() == 1
    assert float(training.field.log_radius.grad) != 0
    assert training.field.gaussians.log_scales.grad is None
    (moment,) = training.field.at_frames([0])
    assert torch.equal(moment.scales, moment.scales[:1, :1].expand_as(moment.scales))


def test_fine_gaussians_start_near_control_points(truth: Truth, tmp_path: Path) -> None:
    job, settings = job_of(truth, tmp_path), few_sc4d()
    sc4d.fit(job, settings)
    points = load_points(tmp_path / "points" / "field.safetensors")
    training = sc4d.ControlTraining(job, settings, points)
    nodes, means = training.field.nodes, training.field.gaussians.means
    nearest = torch.cdist(means, nodes).amin(1)
    assert float(nearest.detach().max()) <= float(points.log_radius.detach().exp()) + 1e-5


def test_dg4d_starts_as_the_static_field_and_moves_by_its_last_layers_first(
    truth: Truth, tmp_path: Path
) -> None:
    job, settings = job_of(truth, tmp_path), few_dg4d()
    training = dg4d.Dg4dTraining(job, settings, dg4d.static_start(job, settings))
    still, moved = training.field.at_frames([0], still=True)[0], training.field.at_frames([0, 1.5, 2])
    for moment in moved:
        assert torch.equal(moment.means, still.means)
        assert torch.equal(moment.scales, still.scales)
    terms, _ = training.terms(training.plan(0))
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    grown = {
        key
        for key, value in training.field.deformation.named_parameters()
        if value.grad is not None and bool(value.grad.any())
    }
    assert grown == {
        f"{head}.feature_out.1.{kind}"
        for head in ("pos_deform", "scales_deform", "rotations_deform")
        for kind in ("weight", "bias")
    }


def test_dg4d_compares_the_whole_video_and_distils_all_frames_within_a_cycle(
    truth: Truth, tmp_path: Path
) -> None:
    job, settings = job_of(truth, tmp_path), replace(few_dg4d(), distilled_frames=1)
    training = dg4d.Dg4dTraining(job, settings, dg4d.static_start(job, settings))
    plans = [training.plan(number) for number in range(6)]
    assert all(list(plan.reference) == [0, 1, 2] for plan in plans)
    for cycle in (plans[:3], plans[3:]):
        assert sorted(frame for plan in cycle for frame in plan.distilled) == [0, 1, 2]


def test_stag4d_sees_the_middle_frame_alone_at_first(truth: Truth, tmp_path: Path) -> None:
    training = stag4d.Stag4dTraining(job_of(truth, tmp_path), replace(few_stag4d(), static_steps=4), [])
    assert [tuple(training.plan(number).reference) for number in range(4)] == [(1,)] * 4
    (still,) = training.gaussians([1])
    assert torch.equal(still.means, training.field.gaussians.means)
    training.plan(4)
    (moving,) = training.gaussians([1])
    assert not torch.equal(moving.means, training.field.gaussians.means), "random heads make it jump"


def test_densification_by_share_adds_as_many_as_it_says(truth: Truth, tmp_path: Path) -> None:
    settings = replace(few_stag4d(), points=200, densify=Densify(start=1, stop=9, every=1, prune_scales=(0, 9)))
    training = stag4d.Stag4dTraining(job_of(truth, tmp_path), replace(settings, static_steps=9), [])
    training.step(0)
    assert training.size() == 200 + int(0.025 * 200) + 1  # the one at the threshold grows too


def test_a_reference_that_the_prior_does_not_draw_is_refused(truth: Truth, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="references has 60"):
        stag4d.fit(job_of(truth, tmp_path), replace(few_stag4d(), references=(60.0,)))


# ---- fields ----


def test_times_between_frames_are_fractions_of_a_frame() -> None:
    clock = (0.0, 0.25, 1.0)
    assert [frame_at(clock, t) for t in (0.0, 0.25, 0.625, 1.0)] == [0.0, 1.0, 1.5, 2.0]


def test_pictures_of_any_size_have_the_low_pass_of_the_fit(truth: Truth, tmp_path: Path) -> None:
    field = stag4d.fit(job_of(truth, tmp_path), few_stag4d())
    assert isinstance(field, PlaneField)
    assert field.pixel == pytest.approx(2 / 32)
    large = field.render(orbit((0.0,), size=128, kind="ortho", radius=3.0), 0.4).rgb
    small = field.render(orbit((0.0,), size=32, kind="ortho", radius=3.0), 0.4).rgb
    means = torch.nn.functional.avg_pool2d(large.movedim(-1, 1), 4).movedim(1, -1)
    assert float((means - small).abs().mean()) < 0.01


# ---- rows ----

DISTILLED = [name for name in RIVALS if name != "diffusion2"]  # its own tests are in test_diffusion2.py


@pytest.mark.parametrize("name", DISTILLED)
def test_every_rival_is_a_row_with_both_presets(name: str) -> None:
    for preset in ("mini", "paper"):
        row = method_named(name, Setup(preset=preset, device="cpu"))
        assert isinstance(row, Rival)
        for wanted in (Configurable, Costed, Weighted, Documented):
            assert isinstance(row, wanted)
        described = row.config()
        assert described[name] == row.settings.to_dict()
        own = preset == "paper"  # with their own teachers, prior and cameras are as published
        assert ({"prior", "cameras"} <= set(described["exchanged"])) != own
        assert bool(row.weights()) == own
    with pytest.raises(ConfigError, match="preset"):
        method_named(name, Setup(preset="large"))


@pytest.mark.parametrize("name", METHODS)
def test_every_row_can_be_sent_to_a_worker_process(name: str) -> None:
    row = method_named(name)
    assert pickle.loads(pickle.dumps(row)) == row


@pytest.mark.parametrize("name", DISTILLED)
def test_settings_out_of_range_are_refused(name: str) -> None:
    row = method_named(name, Setup(preset="mini"))
    assert isinstance(row, Rival)
    settings: Any = row.settings
    with pytest.raises(ConfigError, match="sds_weight"):
        replace(settings.distill, sds_weight=-1.0)
    with pytest.raises(ConfigError, match="stride"):
        replace(settings.distill, stride=0)
    for one in fields(settings):
        if one.type == "float":
            with pytest.raises(ConfigError, match=one.name):
                replace(settings, **{one.name: float("nan")})


@pytest.mark.parametrize("name", NAMES)
def test_a_row_renders_every_view_and_lists_what_it_leaves(
    name: str, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rival_module, "loaded_prior", lambda prior, device: oracle_prior(truth))
    row = small_row(name, FITS[name][1]())
    made = row.render(scene_of(truth, tmp_path), 0, tmp_path / "work", silent)
    assert list(made) == ["input", "eval_0", "eval_1"]
    for rendering in made.values():
        assert rendering.rgb.shape == (3, 32, 32, 3)
        assert rendering.normal is not None
        if name == "consistent4d":
            assert rendering.flow is None  # a radiance field has no flow
        else:
            assert rendering.flow is not None
            assert rendering.flow.shape == (2, 32, 32, 2)
    kinds = {artefact.kind for artefact in row.artefacts(tmp_path / "work")}
    assert {"losses", "previews", "field", "costs"} <= kinds
    assert ("views" in kinds) == (name in ("stag4d", "dg4d"))
    assert {cost.stage for cost in row.costs(tmp_path / "work")} >= {"render", FITS[name][2]}
    with pytest.raises(ConfigError, match="belongs to another run"):
        row.render(scene_of(truth, tmp_path), 1, tmp_path / "work", silent)
