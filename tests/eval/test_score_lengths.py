"""Frames that are missing, or not the same for all: no value of other frames, and no end of a whole table."""

import shutil
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.errors import ProtocolError
from mvtokenflow.base.files import digest_json
from mvtokenflow.datasets.folder import FolderDataset
from mvtokenflow.eval.metrics.clip import ClipTime
from mvtokenflow.eval.metrics.fvd import FvdSet
from mvtokenflow.eval.metrics.fvd_c4d import FvdC4d
from mvtokenflow.eval.metrics.psnr import Psnr
from mvtokenflow.eval.metrics.spec import MetricSpec, Networks
from mvtokenflow.eval.metrics.ssim import Ssim
from mvtokenflow.eval.metrics.warp import WarpError
from mvtokenflow.eval.protocols import PROTOCOLS, Protocol
from mvtokenflow.eval.records.aggregate import clip_lengths, kind_of
from mvtokenflow.eval.records.rows import FeatureRow, Row, row_log
from mvtokenflow.eval.records.summary import Summary
from mvtokenflow.eval.score import scoring
from mvtokenflow.eval.score.pairs import Plan, plan_folder, plan_scene
from mvtokenflow.eval.score.pictures import ClipFiles
from mvtokenflow.eval.score.preflight import refuse_if_strict
from mvtokenflow.eval.score.units import Settings, UnitScorer, units_of

Layout = Callable[..., Path]
VIEWS = ("input", "eval_0", "eval_1", "eval_2", "eval_3")
REFVIEW, STRICT, LAX = PROTOCOLS["refview-v1"], PROTOCOLS["toy4d-v1"], PROTOCOLS["c4d-v1"]
BETWEEN = next(spec for spec in REFVIEW.metrics if spec.needs == "views")


class MeanGrey:
    """Stands for a network of any kind: it sees the mean grey of a picture."""

    weights: str | None = None

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        return torch.tensor([[1.0, float(image.mean())] for image in images])

    def of(self, pictures: Sequence[NDArray[np.uint8]], pool: int, resize: str) -> NDArray[np.float64]:
        return np.array([float(len(pictures)), float(np.mean(pictures))])


class Stub(Networks):
    """Gives one network in place of every other."""

    network = MeanGrey()

    def get(self, name: Hashable, load: Callable[[], Any]) -> Any:
        return self.network


def measured(
    plans: Mapping[str, Plan], spec: MetricSpec, protocol: Protocol = STRICT
) -> dict[str, list[Row | FeatureRow]]:
    """The records of one metric by label; the object is called cat."""
    shas = {spec.weights: "0" * 64} if spec.weights else {}
    settings = Settings(protocol=protocol, specs=(spec,), weights_sha=shas)
    scorer = UnitScorer(settings)
    scorer.networks = Stub({})
    found: dict[str, list[Row | FeatureRow]] = {label: [] for label in plans}
    for unit in units_of("cat", plans, settings):
        scorer.score(unit, {}, lambda label, records: found[label].extend(records), lambda frames: None)
    return found


def planned(prediction: Path, reference: Path, protocol: Protocol) -> Plan:
    """The views of a folder, called cat, paired with those of a reference folder."""
    scene = FolderDataset(reference.parent).reference(reference.name)
    return plan_scene(replace(scene, name="cat"), prediction, protocol)


def copied(reference: Path, prediction: Path, frames: int, step: int = 3) -> Path:
    """The first frames of every view, a little darker."""
    for view in reference.iterdir():
        (prediction / view.name).mkdir(parents=True)
        for number in range(frames):
            pixels = np.array(Image.open(view / f"{number}.png"))
            Image.fromarray(np.maximum(pixels, step) - np.uint8(step)).save(
                prediction / view.name / f"{number}.png"
            )
    return prediction


# ---- views without reference


@pytest.fixture
def clip(layout: Layout, tmp_path: Path) -> tuple[Path, Path]:
    """(prediction with five views of 4 frames, reference that has the input view alone)."""
    prediction = layout(tmp_path / "pred", views=VIEWS, frames=4)
    shutil.copytree(prediction / "cat" / "input", tmp_path / "gt" / "cat" / "input")
    return prediction, tmp_path / "gt"


def test_a_reference_of_the_input_view_alone_is_enough_for_what_lies_between_views(
    clip: tuple[Path, Path],
) -> None:
    plan = plan_folder(*clip, REFVIEW)
    assert [len(pair.reference) for pair in plan.pairs["cat"]] == [4, 0, 0, 0, 0]
    rows = measured({"a": plan}, BETWEEN, REFVIEW)["a"]
    assert [row.frame for row in rows if isinstance(row, Row)] == [0, 1, 2, 3]


def test_a_view_without_reference_must_have_the_frames_of_the_input_view(clip: tuple[Path, Path]) -> None:
    prediction, reference = clip
    (prediction / "cat" / "eval_2" / "1.png").unlink()
    for plan in (
        plan_folder(*clip, REFVIEW, force=True),
        planned(prediction / "cat", reference / "cat", REFVIEW),
    ):
        with pytest.raises(ProtocolError, match="eval_2: 3 frames, not the 4 of the rendered input view"):
            refuse_if_strict(plan.findings, REFVIEW, force=False)
        rows = measured({"a": plan}, BETWEEN, REFVIEW)["a"]
        assert [row.frame for row in rows if isinstance(row, Row)] == [0, 2, 3], "forced: what all views have"


def test_views_without_reference_are_numbered_from_0_and_the_input_as_its_video(
    clip: tuple[Path, Path],
) -> None:
    for root in clip:
        for number in (3, 2, 1, 0):
            path = root / "cat" / "input" / f"{number}.png"
            path.rename(path.with_name(f"{number + 5}.png"))
    plan = plan_folder(*clip, REFVIEW)
    assert {pair.names for pair in plan.pairs["cat"]} == {(5, 6, 7, 8)}


# ---- methods of different length


def test_methods_of_different_length_share_no_reference(layout: Layout, tmp_path: Path) -> None:
    """In either order each gets the values that it gets alone."""
    reference = layout(tmp_path / "gt", views=VIEWS, frames=4) / "cat"
    plans = {
        name: planned(copied(reference, tmp_path / name, frames), reference, LAX)
        for name, frames in (("short", 2), ("long", 4))
    }
    assert all("forced" not in finding.problem for plan in plans.values() for finding in plan.findings)
    for spec in (Psnr(), FvdSet(frames=2)):
        alone = {name: measured({name: plan}, spec, LAX)[name] for name, plan in plans.items()}
        assert len(alone["long"]) == 2 * len(alone["short"]) > 0
        for order in (("short", "long"), ("long", "short")):
            assert measured({name: plans[name] for name in order}, spec, LAX) == alone


def test_a_gap_shifts_nobody_elses_reference(layout: Layout, tmp_path: Path) -> None:
    """Forced under a strict protocol, a method without frame 1 was compared with what another one has there."""
    reference = layout(tmp_path / "gt", views=VIEWS, frames=4) / "cat"
    whole, gap = (copied(reference, tmp_path / name, 4) for name in ("whole", "gap"))
    for view in VIEWS:
        (gap / view / "1.png").unlink()
    plans = {name: planned(root, reference, STRICT) for name, root in (("whole", whole), ("gap", gap))}
    spec = Psnr()
    together = measured(plans, spec)
    assert together == {name: measured({name: plan}, spec)[name] for name, plan in plans.items()}
    assert {row.frame for row in together["gap"] if isinstance(row, Row)} == {0, 2, 3}


# ---- exact geometry


def test_exact_flow_is_cut_to_the_frames_of_a_short_prediction(tiny: ModuleType, tmp_path: Path) -> None:
    scene = tiny.Tiny(tmp_path / "data").scene("ant")
    reference, cat, spec = tmp_path / "gt", replace(scene, name="cat"), WarpError()
    for view in VIEWS:
        shutil.copytree(scene.root / view, reference / view)
    plans = {n: plan_scene(cat, copied(reference, tmp_path / f"{n}", n), STRICT) for n in (3, 4)}
    found = {n: measured({"a": plan}, spec)["a"] for n, plan in plans.items()}
    values = {n: {(r.view, r.frame): r.value for r in rows if isinstance(r, Row)} for n, rows in found.items()}
    assert len(values[4]) == 4 * 3
    assert values[3] == {place: value for place, value in values[4].items() if place[1] != 2}


def test_exact_flow_fits_no_frames_with_gaps(tiny: ModuleType, tmp_path: Path) -> None:
    scene = tiny.Tiny(tmp_path / "data").scene("ant")
    reference = tmp_path / "gt"
    for view in VIEWS:
        shutil.copytree(scene.root / view, reference / view)
    prediction = copied(reference, tmp_path / "pred", 4)
    for view in VIEWS:
        (prediction / view / "1.png").unlink()
    plan = plan_scene(replace(scene, name="cat"), prediction, STRICT)
    assert not any(pair.gapless for pair in plan.pairs["cat"])
    assert measured({"a": plan}, WarpError()) == {"a": []}


# ---- what a row says


def test_a_clip_shorter_than_its_reference_says_both_lengths(layout: Layout, tmp_path: Path) -> None:
    reference = layout(tmp_path / "gt", views=VIEWS, frames=3) / "cat"
    signatures = {}
    for frames in (2, 3):
        plan = planned(copied(reference, tmp_path / f"{frames}", frames), reference, LAX)
        rows = measured({"a": plan}, FvdC4d(), LAX)["a"]
        signatures[frames] = rows[0].signature
    assert signatures[2].endswith("|clip:2/3")
    assert signatures[3].endswith("|clip:3")
    assert kind_of(signatures[2]) == kind_of(signatures[3])
    assert clip_lengths(signatures[2]) == ["2/3"]


def test_cosines_over_time_are_of_pictures_at_the_protocols_size(layout: Layout, tmp_path: Path) -> None:
    reference = layout(tmp_path / "gt", views=VIEWS) / "cat"
    spec = next(spec for spec in REFVIEW.metrics if spec.key == "clip_t")
    assert isinstance(spec, ClipTime)
    seen: list[tuple[int, ...]] = []

    class Watching(MeanGrey):
        def embed(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
            seen.extend(image.shape for image in images)
            return super().embed(images)

    networks = Stub({})
    networks.network = Watching()
    for protocol in (REFVIEW, STRICT):
        (pair,) = [one for one in planned(reference, reference, protocol).pairs["cat"] if one.view == "input"]
        spec.measure_clip(ClipFiles(pair, protocol.size, {}), networks)
    assert seen == [(512, 512, 3)] * 2 + [(48, 48, 3)] * 2


def test_what_a_network_computed_on_another_kind_of_device_is_another_record() -> None:
    def key(device: str, spec: MetricSpec) -> str:
        return Settings(protocol=STRICT, specs=(spec,), device=device).key(spec, "cat", "input", 0)

    lpips = next(spec for spec in STRICT.metrics if spec.key == "lpips")
    assert key("cuda", lpips) == key("cuda:1", lpips) != key("cpu", lpips)
    assert key("cuda", Psnr()) == key("cpu", Psnr()), "no network"
    # as every record so far has it
    assert key("cpu", lpips) == digest_json(["cat", "input", 0])


def test_values_of_several_devices_name_them_all(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = layout(tmp_path / "gt", views=VIEWS) / "cat"
    plan = planned(copied(reference, tmp_path / "pred", 2), reference, STRICT)
    plan = replace(plan, findings=[])
    folder = tmp_path / "run"
    earlier: Summary | None = None
    for device, spec in (("fast", Psnr()), ("cpu", Ssim()), ("cpu", Ssim())):
        rows = [r for r in measured({"a": plan}, spec)["a"] if isinstance(r, Row)]
        row_log(folder).append(rows)
        monkeypatch.setattr(scoring, "pedigree", lambda kind, weights, d=device: {"device": d, "weights": {}})
        settings = Settings(protocol=STRICT, specs=(spec,))
        keys = {row.key for row in rows}
        earlier = scoring._summarise(folder, keys, settings, (), plan, earlier)
    assert earlier is not None
    assert earlier.pedigree["device"] == "cpu + fast"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_signatures_name_the_size_that_is_looked_at(name: str) -> None:
    protocol = PROTOCOLS[name]
    for spec in protocol.metrics:
        native = protocol.size is None or spec.key in ("fvd", "fvd_c4d")
        wanted = "native" if native else f"{protocol.size}.pil-bicubic"
        assert f"|res:{wanted}|" in protocol.signature(spec)
