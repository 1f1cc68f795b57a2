"""Rows with a known answer give it, imports are checked, and methods that break their contract are refused."""

import dataclasses
import importlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.errors import ConfigError, DataError, WeightsMissingError
from mvtokenflow.baselines.catalogue import KNOWN_ANSWERS, method_named
from mvtokenflow.baselines.imported import ImportedRenderings
from mvtokenflow.baselines.method import Rendering
from mvtokenflow.baselines.published import PUBLISHED
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.eval.metrics.compute.flow import estimate_clip_flow
from mvtokenflow.eval.metrics.compute.silhouette import silhouettes
from mvtokenflow.eval.metrics.flow_error import end_point_error
from mvtokenflow.eval.metrics.fvd_c4d import FvdC4d, fvd_c4d
from mvtokenflow.eval.metrics.lpips import Lpips
from mvtokenflow.eval.metrics.motion import motion_magnitude
from mvtokenflow.eval.metrics.normal_error import normal_angles
from mvtokenflow.eval.metrics.psnr import Psnr
from mvtokenflow.eval.metrics.spec import Networks, Picture
from mvtokenflow.eval.metrics.ssim import Ssim
from mvtokenflow.eval.metrics.warp import warp_error
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.tables.render import Job, prediction_digest, render
from mvtokenflow.eval.tables.specs import TABLES
from mvtokenflow.weights import ledger as weights

Frames = NDArray[np.uint8]
DATA = Path(__file__).parents[1] / "data" / "tables_tiny"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DATA)
    return importlib.import_module("tinyscenes")


@pytest.fixture
def scene(tiny: ModuleType, tmp_path: Path) -> Scene:
    found: Scene = tiny.Tiny(tmp_path / "data").scene("ant")
    return found


def quiet(stage: str, done: int, total: int) -> None:
    assert 0 <= done <= total


def rendered(name: str, scene: Scene, tmp_path: Path, seed: int = 0) -> Mapping[str, Rendering]:
    return method_named(name).render(scene, seed, tmp_path / "work", quiet)


def truth_of(scene: Scene, view: str = "input") -> Frames:
    folder = scene.root / view
    return np.stack(
        [np.asarray(Image.open(path)) for path in sorted(folder.iterdir(), key=lambda p: int(p.stem))]
    )


def value(spec: Any, pred: Frames, gt: Frames, networks: Networks | None = None) -> float:
    networks = networks or Networks({})
    pairs = zip(pred, gt, strict=True)
    return float(np.mean([spec.measure_frame(Picture(p), Picture(g), networks) for p, g in pairs]))


def warp(frames: Frames, tiny: ModuleType, view: str = "input") -> float:
    known = tiny.truth(view)
    unit = frames.astype(np.float32) / 255
    return 255 * float(np.mean(warp_error(unit, known.flow, known.visible).mae))


def motion(frames: Frames) -> float:
    flow, visible = estimate_clip_flow(frames.astype(np.float32) / 255, silhouettes(frames))
    return float(np.mean(motion_magnitude(flow, visible)))


def test_reference_pictures_of_mixed_sizes_are_refused_by_name(scene: Scene, tmp_path: Path) -> None:
    odd = scene.views[0].frames[1]
    Image.new("RGB", (5, 7)).save(odd)
    with pytest.raises(DataError, match=rf"{odd}: 5x7 pixels, but .*; make all frames one size"):
        rendered("ground-truth", scene, tmp_path)


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_every_row_keeps_the_contract(name: str, scene: Scene, tmp_path: Path) -> None:
    method = method_named(name)
    assert method.name == name
    assert Path(name).name == name, "it becomes a folder"
    views = method.render(scene, 0, tmp_path / "work", quiet)
    assert set(views) == {"input", "eval_0", "eval_1", "eval_2", "eval_3"}
    for rendering in views.values():
        assert rendering.rgb.shape == (4, 32, 32, 3)
        assert rendering.rgb.dtype == np.uint8
    again = method.render(scene, 0, tmp_path / "work", quiet)
    assert all(np.array_equal(views[v].rgb, again[v].rgb) for v in views), "one seed, one result"
    assert method.source == "oracle", "the pre-flight lets it pass and no table ranks it"
    assert method.uses_truth == (name != "copy-input")


def test_ground_truth_is_perfect(scene: Scene, tiny: ModuleType, tmp_path: Path) -> None:
    for view, rendering in rendered("ground-truth", scene, tmp_path).items():
        gt = truth_of(scene, view)
        assert np.array_equal(rendering.rgb, gt)
        assert value(Psnr(cap=None), rendering.rgb, gt) == np.inf
        assert value(Psnr(), rendering.rgb, gt) == 100
        assert value(Ssim(), rendering.rgb, gt) == 1
        assert warp(rendering.rgb, tiny, view) == 0
        known = tiny.truth(view)
        assert rendering.flow is not None
        assert rendering.normal is not None
        assert np.max(end_point_error(rendering.flow, known.flow)) == 0
        assert np.max(normal_angles(rendering.normal, known.normal).mean_deg) == pytest.approx(0, abs=1e-3)


def test_ground_truth_has_no_perceptual_distance(scene: Scene, tmp_path: Path) -> None:
    try:
        networks = Networks({"lpips-vgg": weights.resolve("lpips-vgg")})
    except WeightsMissingError as missing:
        pytest.skip(str(missing))
    gt = truth_of(scene)
    lpips = {
        name: value(Lpips(), rendered(name, scene, tmp_path)["input"].rgb, gt, networks)
        for name in ("ground-truth", "blurred", "white")
    }
    assert lpips["ground-truth"] == 0
    assert 0 < lpips["blurred"] < lpips["white"]


def test_shuffled_frames_keep_the_pictures_and_lose_the_motion(
    scene: Scene, tiny: ModuleType, tmp_path: Path
) -> None:
    for view, rendering in rendered("shuffled-frames", scene, tmp_path, seed=3).items():
        gt = truth_of(scene, view)
        assert Counter(f.tobytes() for f in rendering.rgb) == Counter(f.tobytes() for f in gt)
        assert rendering.rgb.mean((0, 1, 2)) == pytest.approx(gt.mean((0, 1, 2)))
    orders = [
        tuple(next(i for i, g in enumerate(truth_of(scene, view)) if np.array_equal(f, g)) for f in r.rgb)
        for seed in range(6)
        for view, r in rendered("shuffled-frames", scene, tmp_path, seed).items()
    ]
    assert len(set(orders)) > 6, "seeds and views are shuffled in their own ways"
    wrong = [rendered("shuffled-frames", scene, tmp_path, seed)["input"].rgb for seed in range(6)]
    assert max(warp(frames, tiny) for frames in wrong) > 20
    assert all(warp(f, tiny) > 0 or np.array_equal(f, truth_of(scene)) for f in wrong)


def test_shuffled_frames_are_far_away_as_a_video(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        networks = Networks({"i3d-kinetics400": weights.resolve("i3d-kinetics400")})
    except WeightsMissingError as missing:
        pytest.skip(str(missing))
    monkeypatch.setenv("TINY_FRAMES", "16")
    scene = tiny.Tiny(tmp_path / "long").scene("ant")
    gt = truth_of(scene, "eval_3")
    spec = FvdC4d()
    theirs = spec.logits(list(gt), networks)
    assert fvd_c4d(theirs, theirs) == 0
    shuffled = rendered("shuffled-frames", scene, tmp_path)["eval_3"].rgb
    assert fvd_c4d(spec.logits(list(shuffled), networks), theirs) > 1


def test_one_frame_lag_is_the_truth_one_frame_late(scene: Scene, tiny: ModuleType, tmp_path: Path) -> None:
    gt, late = truth_of(scene), rendered("one-frame-lag", scene, tmp_path)["input"].rgb
    assert np.array_equal(late[1:], gt[:-1])
    assert np.array_equal(late[0], gt[0])
    assert 0 < warp(late, tiny) < 100
    assert value(Psnr(), late[1:], gt[1:]) < 30


def test_first_frame_does_not_move(scene: Scene, tmp_path: Path) -> None:
    still = rendered("first-frame", scene, tmp_path)["input"].rgb
    assert all(np.array_equal(frame, truth_of(scene)[0]) for frame in still)
    assert motion(still) == 0
    # the block slides by 1 px a frame; the estimate of a 16-px block of noise is good to a few hundredths
    assert motion(truth_of(scene)) == pytest.approx(1, abs=0.1)


def test_mirrored_and_white(scene: Scene, tmp_path: Path) -> None:
    gt = truth_of(scene, "eval_0")
    assert np.array_equal(rendered("mirrored", scene, tmp_path)["eval_0"].rgb[:, :, ::-1], gt)
    assert rendered("white", scene, tmp_path)["eval_0"].rgb.min() == 255


def test_blurred_keeps_the_mean_and_loses_detail(scene: Scene, tmp_path: Path) -> None:
    gt, soft = truth_of(scene), rendered("blurred", scene, tmp_path)["input"].rgb
    assert soft.mean() == pytest.approx(gt.mean(), abs=1)
    assert value(Psnr(), soft, gt) < 40
    detail = [np.abs(np.diff(frames.astype(int), axis=2)).mean() for frames in (soft, gt)]
    assert detail[0] < 0.9 * detail[1]


def test_copy_input_shows_the_input_everywhere_and_never_looks_at_other_views(
    scene: Scene, tmp_path: Path
) -> None:
    expected = truth_of(scene)
    for view in scene.views:
        for path in view.frames:
            path.unlink()
    views = rendered("copy-input", scene, tmp_path)
    assert len(views) == 5
    assert all(np.array_equal(rendering.rgb, expected) for rendering in views.values())


def test_method_names_are_resolved_or_explained(tiny: ModuleType) -> None:
    assert method_named("tinyscenes:NATIVE") is tiny.NATIVE
    with pytest.raises(ConfigError, match=r"no method 'whit'\. Did you mean 'white'\?"):
        method_named("whit")
    for place in ("no_such_package:X", "tinyscenes:NOTHING", "tinyscenes:", ":X"):
        with pytest.raises(ConfigError, match="cannot import"):
            method_named(place)
    with pytest.raises(ConfigError, match="has no 'source'"):
        method_named("tinyscenes:Tiny")


# Contract of renderings


def job(tiny: ModuleType, method: Any, root: Path) -> Job:
    return Job(dataset=tiny.Tiny(root / "data"), method=method, scene="ant", seed=0, root=root / "runs")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("float", r"native on ant, input: renderings must be \(T, H, W, 3\) uint8, got .*float32"),
        ("rgba", r"must be \(T, H, W, 3\) uint8, got \(4, 32, 32, 4\)"),
        ("nan-normal", "NaN or infinity in its normal"),
        ("inf-flow", "NaN or infinity in its flow"),
        ("flow-shape", r"flow must be \(3, 32, 32, 2\), got \(4, 32, 32, 2\)"),
        ("normal-shape", r"normal must be \(4, 32, 32, 3\), got \(4, 16, 16, 3\)"),
    ],
)
def test_renderings_that_break_the_contract_are_refused(
    fault: str, says: str, tiny: ModuleType, tmp_path: Path
) -> None:
    broken = job(tiny, tiny.Native(fault=fault), tmp_path)
    with pytest.raises(DataError, match=says):
        render(broken, quiet, {})
    assert not (broken.folder() / "manifest.json").exists(), "an unfinished run stays unfinished"


def test_a_finished_run_is_never_rendered_again(tiny: ModuleType, tmp_path: Path) -> None:
    folder = render(job(tiny, tiny.NATIVE, tmp_path), quiet, {})
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert render(job(tiny, tiny.NATIVE, tmp_path), quiet, {}) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert render(job(tiny, tiny.DARKER, tmp_path), quiet, {}) != folder, "another config is another run"


def test_the_digest_of_a_rendering_binds_names_and_pixels_and_ignores_torn_files(
    tiny: ModuleType, tmp_path: Path
) -> None:
    pred = render(job(tiny, method_named("ground-truth"), tmp_path), quiet, {}) / "pred"
    digest = prediction_digest(pred)
    (pred / "input" / ".2.png.x1y2.png").write_bytes(b"torn by kill -9")
    assert prediction_digest(pred) == digest
    (pred / "input" / "0.png").rename(pred / "input" / "9.png")
    assert prediction_digest(pred) != digest
    (pred / "input" / "9.png").rename(pred / "input" / "0.png")
    assert prediction_digest(pred) == digest
    (pred / "input.flow.npz").unlink()
    assert prediction_digest(pred) != digest


# Imported renderings


@pytest.fixture
def theirs(tiny: ModuleType, tmp_path: Path) -> ImportedRenderings:
    for name in ("ant", "bee"):
        tiny.Tiny(tmp_path / "theirs").scene(name)
    return ImportedRenderings(name="theirs", root=tmp_path / "theirs")


def test_an_import_is_the_files_as_they_are(theirs: ImportedRenderings, scene: Scene, tmp_path: Path) -> None:
    views = theirs.render(scene, 0, tmp_path, quiet)
    assert set(views) == {"input", "eval_0", "eval_1", "eval_2", "eval_3"}
    assert all(np.array_equal(r.rgb, truth_of(scene, v)) for v, r in views.items())


@pytest.mark.parametrize("link", ["scene", "view"])
@pytest.mark.parametrize("ending", [".png", ".PNG"])
def test_other_files_behind_links_and_with_large_endings_are_another_run(
    tmp_path: Path, link: str, ending: str
) -> None:
    stored = tmp_path / "stored" / "ant" / "eval_0"
    stored.mkdir(parents=True)
    place = tmp_path / "theirs" / ("ant" if link == "scene" else "ant/eval_0")
    place.parent.mkdir(parents=True)
    place.symlink_to(stored.parent if link == "scene" else stored)
    configs = []
    for level in (1, 2):
        Image.new("RGB", (8, 8), (level, level, level)).save(stored / f"0{ending}", format="png")
        configs.append(ImportedRenderings(name="theirs", root=tmp_path / "theirs").config())
    assert configs[0] != configs[1]


def test_other_files_are_another_run(theirs: ImportedRenderings) -> None:
    first = theirs.config()
    assert theirs.config() == first
    path = theirs.root / "ant" / "eval_0" / "1.png"
    pixels = np.array(Image.open(path))
    pixels[0, 0] = 1
    Image.fromarray(pixels).save(path)
    second = theirs.config()
    path.rename(path.with_name("7.png"))
    assert len({str(c) for c in (first, second, theirs.config())}) == 3


def test_views_that_were_not_rendered_are_left_out(
    theirs: ImportedRenderings, scene: Scene, tmp_path: Path
) -> None:
    for view in ("input", "eval_2"):
        (theirs.root / "ant" / view).rename(tmp_path / view)
    assert set(theirs.render(scene, 0, tmp_path, quiet)) == {"eval_0", "eval_1", "eval_3"}


def test_imports_that_would_be_paired_wrongly_are_refused(
    theirs: ImportedRenderings, scene: Scene, tiny: ModuleType, tmp_path: Path
) -> None:
    folder = theirs.root / "ant" / "eval_1"
    (folder / "3.png").unlink()
    assert len(theirs.render(scene, 0, tmp_path, quiet)["eval_1"].rgb) == 3, "a shorter clip is told later"
    (folder / "1.png").unlink()
    with pytest.raises(DataError, match="eval_1: frame 1 is missing"):
        theirs.render(scene, 0, tmp_path, quiet)
    (folder / "0.png").rename(folder / "1.png")
    with pytest.raises(DataError, match="eval_1: frame 0 is missing"):
        theirs.render(scene, 0, tmp_path, quiet)
    Image.new("RGB", (16, 24)).save(folder / "0.png")
    with pytest.raises(DataError, match=r"eval_1: pictures of 16x24 and 32x32; write one size"):
        theirs.render(scene, 0, tmp_path, quiet)
    for view in ("input", "eval_0", "eval_1", "eval_2", "eval_3"):
        (theirs.root / "ant" / view).rename(tmp_path / f"gone-{view}")
    with pytest.raises(DataError, match="no view folders"):
        theirs.render(scene, 0, tmp_path, quiet)
    with pytest.raises(DataError, match="no such folder"):
        ImportedRenderings(name="x", root=tmp_path / "nowhere").config()


def test_imports_are_paired_with_a_reference_that_has_gaps(
    theirs: ImportedRenderings, scene: Scene, tmp_path: Path
) -> None:
    """As many frames by position are refused; equal numbers are the truth itself."""
    view = scene.views[0]
    kept = [path for path in view.frames if path.stem != "1"]
    gapped = dataclasses.replace(
        scene, views=[dataclasses.replace(view, frames=kept), *scene.views[1:]], content="gapped"
    )
    folder = theirs.root / "ant" / view.name
    (folder / "1.png").unlink()
    made = theirs.render(gapped, 0, tmp_path, quiet)[view.name]
    assert np.array_equal(made.rgb, np.stack([np.array(Image.open(path)) for path in kept]))
    (folder / "2.png").rename(folder / "1.png")
    with pytest.raises(DataError, match=f"{view.name}: frame 1 is not in the reference; number frames as it"):
        theirs.render(gapped, 0, tmp_path, quiet)


# Published numbers


def test_published_numbers_fit_a_column_of_their_table() -> None:
    for number in PUBLISHED:
        columns = {column.metric for column in TABLES[number.table].columns}
        assert number.metric in columns, number
        assert number.arxiv
        assert number.where
        assert number.protocol
    keys = [(n.table, n.method, n.metric) for n in PUBLISHED]
    assert len(set(keys)) == len(keys)
    assert {metric.key for p in PROTOCOLS.values() for metric in p.metrics} >= {
        n.metric for n in PUBLISHED if n.table != "table4"
    }


def test_frames_are_named_after_their_references(tiny: ModuleType, tmp_path: Path) -> None:
    found: Scene = tiny.Tiny(tmp_path / "data").scene("ant")
    renamed = [  # a dataset that counts from 5; from the last on, so that no name is taken
        path.rename(path.with_stem(str(int(path.stem) + 5))) for path in reversed(found.views[0].frames)
    ][::-1]
    view = dataclasses.replace(found.views[0], frames=renamed)
    scene = dataclasses.replace(found, views=[view, *found.views[1:]])
    dataset = SimpleNamespace(name="counted", scene=lambda name: scene, scene_names=lambda: ["ant"])
    one = Job(dataset=dataset, method=method_named("white"), scene="ant", seed=0, root=tmp_path / "runs")
    pred = render(one, lambda stage, done, total: None, {}) / "pred"
    assert {path.name for path in (pred / "eval_0").iterdir()} == {"5.png", "6.png", "7.png", "8.png"}
    assert {path.name for path in (pred / "input").iterdir()} == {"0.png", "1.png", "2.png", "3.png"}
