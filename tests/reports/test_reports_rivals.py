"""Pages of runs of published methods, whose stages, losses and fields are not those of our own method."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from manifests import make_manifest
from oracle import oracle_prior, toy_truth
from rivals import OneToy, few_consistent4d, few_dg4d, few_sc4d, scene_of, silent, small_row

from mvtokenflow.baselines import rival as rival_module
from mvtokenflow.baselines.consistent4d import pipeline as consistent4d
from mvtokenflow.eval.records.rows import load_runs, run_folder
from mvtokenflow.eval.tables.render import Job, render
from mvtokenflow.reports.curves import charts
from mvtokenflow.reports.site import build_site

FEW: dict[str, Any] = {"consistent4d": few_consistent4d, "dg4d": few_dg4d, "sc4d": few_sc4d}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a scene with a run of each."""
    root = tmp_path_factory.mktemp("rivals")
    truth = toy_truth(frames=3, size=32)
    data = OneToy(scene_of(truth, root / "truth"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rival_module, "loaded_prior", lambda prior, device: oracle_prior(truth))
        patch.setattr(consistent4d, "LOG_EVERY", 3)
        for name, settings in FEW.items():
            few = settings()
            if name == "consistent4d":  # steps of two kinds, of which a few are logged
                few = replace(few, interpolation_share=0.0)
            row = small_row(name, few)
            render(Job(dataset=data, method=row, scene="toy", seed=0, root=root / "runs"), silent, {})
    runs = list(load_runs(root / "runs"))
    build_site([], runs, root / "site", scenes={("toys", "toy"): data.toy})
    return (root / "site" / "scenes" / "toys--toy.html").read_text()


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)
    assert found, name
    return str(found.group())


def training(page: str, name: str) -> str:
    """The part of the section of training that is about one run."""
    parts: list[str] = re.findall(r"<details.*?</details>", section(page, "training"), re.DOTALL)
    return next(part for part in parts if f"<summary>{name}</summary>" in part)


def curves(markup: str) -> set[str]:
    return set(re.findall(r"<figcaption>(\w+), at last", markup))


@pytest.mark.parametrize("name", FEW)
def test_strips_and_viewpoints_show_every_method(page: str, name: str) -> None:
    for part in ("strip", "viewpoints"):
        for view in ("input", "eval_0", "eval_1"):
            assert f'alt="{name}, {view}, frame 1"' in section(page, part)
    assert f'alt="normals of {name}, eval_0, frame 1"' in section(page, "viewpoints")


def test_flow_is_drawn_of_fields_that_have_one_and_the_others_are_named(page: str) -> None:
    flow = section(page, "flow")
    assert 'alt="flow of dg4d, eval_0, frame 1"' in flow
    assert 'alt="flow of sc4d, eval_0, frame 1"' in flow
    assert "flow of consistent4d" not in flow
    assert "Without flow of their own: consistent4d." in flow


def test_every_loss_has_a_curve_under_its_own_name(page: str) -> None:
    assert curves(training(page, "sc4d")) == {"loss", "reference", "sds"}
    assert curves(training(page, "dg4d")) == {"loss", "image", "d_ssim", "mask", "reference", "sds"}
    for stage in ("static", "dynamic"):
        assert f">{stage}</text>" in training(page, "dg4d")


def test_a_radiance_field_has_curves_of_both_kinds_of_steps_and_none_of_gaussians(page: str) -> None:
    """Steps against the input and steps of distillation alternate; a curve of their sums would only zigzag."""
    assert consistent4d.LOG_EVERY % 2 == 1
    found = curves(training(page, "consistent4d"))
    assert found == {"reference", "mask", "sds", "orientation", "smoothness"}


def test_stages_are_shown_with_what_they_were_fitted_to(page: str) -> None:
    for name, stages in (("consistent4d", ["field"]), ("sc4d", ["control points", "fine gaussians"])):
        part = training(page, name)
        for stage in stages:
            for view in range(6):
                assert f'alt="{name}, {stage}, view {view}"' in part
                assert f'alt="{name}, {stage}, targets, view {view}"' in part
    part = training(page, "dg4d")
    assert 'alt="dg4d, first frame, colour, azimuth 90"' in part
    assert 'alt="dg4d, dynamic field, view 5"' in part
    assert "targets, view" not in part, "the generated views are shown"


def test_no_method_passes_for_an_ablation_of_itself(page: str) -> None:
    assert '<section id="ablation"' not in page


def test_no_export_is_proposed_of_a_field_that_it_cannot_read(page: str) -> None:
    around = section(page, "around")
    assert "consistent4d has a field of its own kind" in around
    assert "field.safetensors" not in around


def test_costs_have_the_stages_of_all(page: str) -> None:
    table = re.findall(r"<table.*?</table>", section(page, "training"), re.DOTALL)[-1]
    stages = re.findall(r'<th scope="row">([\w-]+)</th>', table)
    assert {"fit", "points", "control", "first-frame", "static", "dynamic", "render", "all"} == set(stages)


def test_a_lone_method_is_told_how_published_ones_are_run(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "runs", "toy4d", "mine", "fish-01", 0, "a" * 64)
    folder.mkdir(parents=True)
    views = [{"name": "input", "azimuth_deg": 0.0, "elevation_deg": 0.0}]
    make_manifest(dataset="toy4d", scene="fish-01", views=views).save(folder / "manifest.json")
    build_site([], list(load_runs(tmp_path / "runs")), tmp_path / "site")
    page = (tmp_path / "site" / "scenes" / "toy4d--fish-01.html").read_text()
    assert "mvtf-eval table3 --methods mvtokenflow,rivals --scenes fish-01" in section(page, "strip")


# ---- curves ----


def test_sums_of_alternating_steps_are_left_out_and_their_terms_are_not() -> None:
    rows = [
        {"step": n, "loss": 9.0, "seconds": 1.0, "gaussians": 0.0, "ab"[n % 2]: 1.0 + n} for n in range(1, 6)
    ]
    assert [chart.name for chart in charts([("fit", rows)])] == ["b", "a"]


def test_sums_of_steps_whose_terms_come_and_go_once_are_drawn() -> None:
    rows = [{"step": n, "loss": 9.0, **({"late": 1.0 + n} if n > 3 else {"early": 1.0})} for n in range(1, 8)]
    assert [chart.name for chart in charts([("fit", rows)])] == ["loss", "early", "late"]


def test_a_single_value_is_no_curve() -> None:
    rows = [{"step": 1, "loss": 2.0, "once": 1.0}, {"step": 2, "loss": 1.0}]
    assert [chart.name for chart in charts([("fit", rows)])] == ["loss"]
