"""The trainer: it learns, it is deterministic, a killed run ends bit for bit like one that was not."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.settings import overridden
from mvtokenflow.datasets.toy4d.scenes import render_scene
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.splat import training_step
from mvtokenflow.splat.config import DensityConfig, FieldConfig
from mvtokenflow.splat.density import Change, Statistics, control_density
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.io import load_field
from mvtokenflow.splat.schedule import (
    carried_pairs,
    draw_partners,
    exponential,
    nearest_times,
    sample_frames,
)
from mvtokenflow.splat.targets import Targets
from mvtokenflow.splat.trainer import reconstruct, refine
from mvtokenflow.splat.training_config import (
    ReconstructionConfig,
    StageConfig,
    mini,
    paper,
    preset,
)
from mvtokenflow.splat.training_step import Training
from mvtokenflow.views.cameras import Cameras, orbit
from mvtokenflow.views.video import FrontVideo, MultiviewVideo, ViewFlow

SIZE, FRAMES = 32, 4
STEPS = 20
CONFIG = ReconstructionConfig(
    static=StageConfig(iterations=STEPS),
    coarse=StageConfig(iterations=STEPS),
    refine=StageConfig(iterations=STEPS),
    field=FieldConfig(control_points=16, hyper_dim=2, width=16, depth=6),
    density=DensityConfig(start=4, stop=18, every=5, grow_gradient=1e-5, max_count=400, reset_every=0),
    points=300,
    times_per_step=2,
    background="random",
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def video() -> MultiviewVideo:
    """Four frames of a toy, with normals and a flow that says it stands still."""
    times = [n / (FRAMES - 1) for n in range(FRAMES)]
    seen = render_scene("bird-01", six_views(SIZE), times, samples=2)
    visible = torch.from_numpy(seen.alpha[:-1, 0, ..., 0] > 0.5)
    flow = ViewFlow.forward(0, torch.zeros(FRAMES - 1, SIZE, SIZE, 2), visible)
    return MultiviewVideo(
        rgb=torch.from_numpy(seen.rgb).clamp(0, 1),
        alpha=torch.from_numpy(seen.alpha),
        cameras=six_views(SIZE),
        normals=torch.from_numpy(seen.normal),
        flow=flow,
    )


def run(video: MultiviewVideo, folder: Path, config: ReconstructionConfig = CONFIG) -> DynamicField:
    return reconstruct(video, config, folder, torch.Generator().manual_seed(0), checkpoint_every=3)


def same(one: DynamicField, other: DynamicField) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(video: MultiviewVideo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DynamicField]:
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, run(video, folder)


def test_losses_fall_and_every_term_is_there(trained: tuple[Path, DynamicField]) -> None:
    folder, field = trained
    assert field.is_dynamic
    static, coarse = rows(folder / "static"), rows(folder / "coarse")
    assert static[-1]["loss"] < 0.8 * static[0]["loss"]
    assert static[-1]["gaussians"] > 300  # densified
    assert {"image", "d_ssim", "mask", "normal"} <= static[0].keys()
    assert "arap" not in static[0]
    assert {"image", "d_ssim", "mask", "normal", "arap"} <= coarse[-1].keys()
    assert [row["step"] for row in coarse] == [1, 20]
    assert sorted(path.name for path in (folder / "coarse").iterdir()) == [
        "field.safetensors",
        "losses.jsonl",
        *(f"preview_{step:05d}.png" for step in (4, 8, 12, 16, 20)),
    ]
    assert any((folder / "tensorboard").iterdir())


def test_a_second_run_is_the_same_to_the_last_bit(
    video: MultiviewVideo, trained: tuple[Path, DynamicField], tmp_path: Path
) -> None:
    assert same(run(video, tmp_path / "again"), trained[1])
    other = reconstruct(video, CONFIG, tmp_path / "other", torch.Generator().manual_seed(1))
    assert not same(other, trained[1])


class StoppedError(Exception):
    """Ends a run at a chosen step, as a kill would: nothing is cleaned up behind it."""


@pytest.mark.parametrize(("stage", "step"), [("static", 2), ("static", 13), ("coarse", 0), ("coarse", 11)])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(
    video: MultiviewVideo, trained: tuple[Path, DynamicField], tmp_path: Path, stage: str, step: int
) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if (name, done) == (stage, step):
            raise StoppedError

    folder = tmp_path / "run"
    with pytest.raises(StoppedError):
        reconstruct(video, CONFIG, folder, torch.Generator().manual_seed(0), stop, checkpoint_every=3)
    assert same(run(video, folder), trained[1])
    for name in ("static", "coarse"):
        mine, theirs = rows(folder / name), rows(trained[0] / name)
        for row in (*mine, *theirs):
            del row["seconds"]
        assert mine == theirs


def test_a_finished_stage_is_read_not_redone(video: MultiviewVideo, trained: tuple[Path, DynamicField]) -> None:
    folder, field = trained
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    stages: list[str] = []
    again = reconstruct(
        video, CONFIG, folder, torch.Generator().manual_seed(0), lambda stage, done, total: stages.append(stage)
    )
    assert same(again, field)
    assert not stages
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_another_config_video_or_seed_is_refused(
    video: MultiviewVideo, trained: tuple[Path, DynamicField], tmp_path: Path
) -> None:
    folder = trained[0]
    with pytest.raises(ConfigError, match=r"config\.points is 300 there, 301 here"):
        run(video, folder, replace(CONFIG, points=301))
    with pytest.raises(ConfigError, match="video is"):
        run(video.head(3), folder)
    with pytest.raises(ConfigError, match="seed is"):
        reconstruct(video, CONFIG, folder, torch.Generator().manual_seed(1))
    with pytest.raises(ConfigError, match="what is"):
        refine(trained[1], video, CONFIG, folder, torch.Generator().manual_seed(0))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"no run\.json"):
        run(video, tmp_path)


def test_refinement_goes_on_from_a_field_and_leaves_it_alone(
    video: MultiviewVideo, trained: tuple[Path, DynamicField], tmp_path: Path
) -> None:
    field = trained[1]
    kept = {name: value.clone() for name, value in field.state_dict().items()}
    better = refine(field, video, CONFIG, tmp_path / "refined", torch.Generator().manual_seed(0))
    assert all(torch.equal(value, kept[name]) for name, value in field.state_dict().items())
    assert rows(tmp_path / "refined" / "refine")[-1]["loss"] < rows(trained[0] / "coarse")[0]["loss"]
    with pytest.raises(ConfigError, match="start is"):
        refine(better, video, CONFIG, tmp_path / "refined", torch.Generator().manual_seed(0))
    static = DynamicField(field.config, field.gaussians)
    with pytest.raises(ConfigError, match="dynamic field"):
        refine(static, video, CONFIG, tmp_path / "other", torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("views", "points"), [(1, 16), (2, 1)])
def test_one_view_with_flow_and_one_control_point_train(
    video: MultiviewVideo, tmp_path: Path, views: int, points: int
) -> None:
    few = replace(
        video,
        rgb=video.rgb[:, :views],
        alpha=video.alpha[:, :views],
        cameras=video.cameras[:views],
        normals=None,
    )
    short = StageConfig(iterations=2)
    field = replace(CONFIG.field, control_points=points, neighbours=min(points, 3))
    config = replace(CONFIG, static=short, coarse=short, field=field, adjacent=1.0)
    made = run(few, tmp_path / "run", config)
    assert made.control is not None
    assert len(made.control) == points
    terms = rows(tmp_path / "run" / "coarse")[-1].keys()
    assert "flow" in terms
    assert ("arap" in terms) == (points > 1)


def test_inputs_that_cannot_work_are_refused(video: MultiviewVideo, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="frames 0 to 3"):
        run(video, tmp_path / "a", replace(CONFIG, keyframe=4))
    empty = replace(video, alpha=torch.zeros_like(video.alpha))
    with pytest.raises(DataError, match="inside all 6 masks"):
        run(empty, tmp_path / "b")
    folder = tmp_path / "c" / "static"

    def stop(name: str, done: int, total: int) -> None:
        if done == 5:
            raise StoppedError

    with pytest.raises(StoppedError):
        reconstruct(video, CONFIG, tmp_path / "c", torch.Generator().manual_seed(0), stop, checkpoint_every=3)
    (folder / "checkpoint.pt").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"checkpoint\.pt: damaged"):
        run(video, tmp_path / "c")


def trainings(
    video: MultiviewVideo, field: DynamicField, *configs: ReconstructionConfig
) -> list[dict[str, torch.Tensor]]:
    """The terms of a first coarse step under several configurations."""
    found = []
    for config in configs:
        generator = torch.Generator().manual_seed(3)
        training = Training(copy.deepcopy(field), Targets.of(video), config, "coarse", generator)
        found.append(training.step(0))
    return found


def test_density_is_counted_over_the_stages_and_leaves_the_refinement_alone(
    video: MultiviewVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def note(step: int, *args: Any, **named: Any) -> tuple[Statistics, Change]:
        steps.append(step)
        return control_density(step, *args, **named)

    monkeypatch.setattr(training_step, "control_density", note)
    few = StageConfig(iterations=6)
    density = DensityConfig(start=1, stop=10, every=4, grow_gradient=0.0, max_count=330, reset_every=0)
    config = replace(CONFIG, static=few, coarse=few, refine=few, density=density)
    field = run(video, tmp_path / "a", config)
    assert steps == list(range(1, 11))
    assert rows(tmp_path / "a" / "static")[-1]["gaussians"] == len(field.gaussians) == 330
    refine(
        field,
        video,
        replace(config, density=replace(density, stop=100)),
        tmp_path / "b",
        torch.Generator().manual_seed(0),
    )
    assert len(steps) == 10


def test_weights_of_views_keep_the_scale_and_leave_views_out(
    video: MultiviewVideo, trained: tuple[Path, DynamicField], tmp_path: Path
) -> None:
    config = replace(CONFIG, density=None)
    plain, even, uneven = trainings(
        video,
        trained[1],
        config,
        replace(config, view_weights=(2.0,) * 6),
        replace(config, view_weights=(3.0, 0.0, 0.0, 0.0, 0.0, 1.0)),
    )
    assert all(torch.equal(plain[name], even[name]) for name in plain)
    ends = [
        trainings(video, trained[1], replace(config, view_weights=tuple(float(v == k) for v in range(6))))[0]
        for k in (0, 5)
    ]
    for name in ("image", "d_ssim", "mask"):
        mixed = 0.75 * ends[0][name] + 0.25 * ends[1][name]
        assert uneven[name].item() == pytest.approx(mixed.item(), rel=1e-5), name
    noise = video.rgb.clone()
    noise[:, 2] = torch.rand(noise[:, 2].shape, generator=torch.Generator().manual_seed(0))
    without = replace(config, view_weights=(1.0, 1.0, 0.0, 1.0, 1.0, 1.0))
    kept, spoilt = (trainings(v, trained[1], without)[0] for v in (video, replace(video, rgb=noise)))
    assert all(torch.equal(kept[name], spoilt[name]) for name in kept)
    with pytest.raises(ConfigError, match="view_weights has 2 numbers for 6 views"):
        run(video, tmp_path / "run", replace(config, view_weights=(1.0, 1.0)))
    assert not (tmp_path / "run").exists()
    for bad in ((1.0, -1.0), (0.0, 0.0), (1.0, float("nan")), ()):
        with pytest.raises(ConfigError, match="view_weights"):
            replace(config, view_weights=bad)


def test_flows_that_are_not_taken_change_nothing(
    video: MultiviewVideo, trained: tuple[Path, DynamicField]
) -> None:
    """Neighbours forward, as before there were other pairs, to the last bit; others only if asked for."""
    every = tuple((a, b) for a in range(FRAMES) for b in range(FRAMES) if a != b)
    flow = ViewFlow(
        view=0,
        pairs=every,
        flow=torch.zeros(len(every), SIZE, SIZE, 2),
        visible=video.alpha[[a for a, _ in every], 0, ..., 0] > 0.5,
    )
    forward = replace(CONFIG, density=None, adjacent=1.0, flow_gap=1, flow_backward=False)
    (plain,) = trainings(video, trained[1], forward)
    more, both = trainings(replace(video, flow=flow), trained[1], forward, replace(forward, flow_backward=True))
    assert all(torch.equal(plain[name], more[name]) for name in plain)
    assert both["flow"] != plain["flow"]
    assert both["image"] == plain["image"]


def front_of(video: MultiviewVideo, camera: Cameras | None = None) -> FrontVideo:
    """The first view as a video of its own."""
    return FrontVideo(
        view=0,
        rgb=video.rgb[:, 0],
        alpha=video.alpha[:, 0],
        camera=video.cameras[:1] if camera is None else camera,
        times=video.times,
    )


def test_a_front_video_that_is_the_front_view_changes_nothing(
    video: MultiviewVideo, trained: tuple[Path, DynamicField]
) -> None:
    config = replace(CONFIG, density=None, adjacent=1.0)
    for weights in (None, (1.0, 0.7, 0.4, 1.0, 0.7, 0.4)):
        weighed = replace(config, view_weights=weights)
        (plain,) = trainings(video, trained[1], weighed)
        (other,) = trainings(replace(video, front=front_of(video)), trained[1], weighed)
        assert plain.keys() == other.keys()
        for name in plain:
            assert other[name].item() == pytest.approx(plain[name].item(), rel=1e-4, abs=1e-6), name


def test_with_a_front_video_the_views_own_colours_do_not_count(
    video: MultiviewVideo, trained: tuple[Path, DynamicField]
) -> None:
    config = replace(CONFIG, density=None)
    front, spoilt = front_of(video), video.rgb.clone()
    spoilt[:, 0] = 1 - spoilt[:, 0]
    found = [
        trainings(replace(video, rgb=rgb, front=front), trained[1], config)[0] for rgb in (video.rgb, spoilt)
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    (other,) = trainings(replace(video, front=replace(front, rgb=1 - front.rgb)), trained[1], config)
    assert other["image"] > found[0]["image"]


def test_every_frame_of_a_front_video_is_drawn_and_the_keyframes_own_in_the_static_stage(
    video: MultiviewVideo,
) -> None:
    times = torch.linspace(0, 1, 2 * FRAMES - 1)
    rgb, alpha = (torch.repeat_interleave(part[:, 0], 2, dim=0)[:-1] for part in (video.rgb, video.alpha))
    front = FrontVideo(view=0, rgb=rgb, alpha=alpha, camera=video.cameras[:1], times=times)
    targets = Targets.of(replace(video, front=front)).front
    assert targets is not None
    assert targets.cells == [[0, 1], [2, 3], [4, 5], [6]]
    generator = torch.Generator().manual_seed(0)
    assert {frame for _ in range(40) for frame in targets.draw(range(FRAMES), generator)} == set(range(7))
    assert targets.at(1 / 3) == 2


def test_a_run_with_a_front_video_goes_on_bit_for_bit(video: MultiviewVideo, tmp_path: Path) -> None:
    camera = orbit((0.0,), size=SIZE + 8, kind="pinhole", radius=3.0, fov_deg=49.1)
    seen = render_scene("bird-01", camera, [n / 6 for n in range(7)], samples=2)
    front = FrontVideo(
        view=0,
        rgb=torch.from_numpy(seen.rgb[:, 0]).clamp(0, 1),
        alpha=torch.from_numpy(seen.alpha[:, 0]),
        camera=camera,
        times=torch.arange(7) / 6,
        flow_camera=replace(orbit((0.0,), size=SIZE, kind="pinhole", radius=3.0, fov_deg=49.1)),
    )
    whole = replace(video, front=front)
    field = run(whole, tmp_path / "whole")
    assert not same(field, run(video, tmp_path / "without"))
    assert {"image", "flow", "normal"} <= rows(tmp_path / "whole" / "coarse")[0].keys()

    def stop(name: str, done: int, total: int) -> None:
        if (name, done) == ("coarse", 11):
            raise StoppedError

    with pytest.raises(StoppedError):
        reconstruct(
            whole, CONFIG, tmp_path / "stopped", torch.Generator().manual_seed(0), stop, checkpoint_every=3
        )
    with pytest.raises(ConfigError, match="video is"):
        run(video, tmp_path / "stopped")
    assert same(run(whole, tmp_path / "stopped"), field)


CHILD = """
import sys
from pathlib import Path
import torch
from mvtokenflow.views.folder import read_multiview
from mvtokenflow.splat.targets import Targets
from mvtokenflow.splat.trainer import reconstruct
from mvtokenflow.base.settings import overridden
from mvtokenflow.splat.training_config import mini
config = overridden(mini(), sys.argv[3:])
reconstruct(read_multiview(Path(sys.argv[1])), config, Path(sys.argv[2]), torch.Generator().manual_seed(0),
            checkpoint_every=5)
"""


@pytest.mark.slow
def test_kill_9_at_any_time_changes_nothing(video: MultiviewVideo, tmp_path: Path) -> None:
    from mvtokenflow.views.folder import write_multiview

    write_multiview(tmp_path / "mv", video)
    settings = ("static.iterations=30", "coarse.iterations=60", "points=300", "field.control_points=16")

    def start(folder: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", CHILD, str(tmp_path / "mv"), str(tmp_path / folder), *settings]
        return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"})

    assert start("whole").wait() == 0
    for kill in range(6):
        process = start("killed")
        # every life gets past another checkpoint, then dies a little later each time
        checkpoints = [tmp_path / "killed" / stage / "checkpoint.pt" for stage in ("static", "coarse")]
        before = [path.stat().st_mtime_ns for path in checkpoints if path.exists()]
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            if [path.stat().st_mtime_ns for path in checkpoints if path.exists()] != before:
                time.sleep(0.03 * kill)
                break
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert start("killed").wait() == 0
    for stage in ("static", "coarse"):
        name = Path(stage) / "field.safetensors"
        assert same(load_field(tmp_path / "whole" / name), load_field(tmp_path / "killed" / name))


def adjacent_pairs(chosen: list[int]) -> list[tuple[int, int]]:
    """Positions of neighbouring frames: the flow pairs of a step when only they, forward, are taken."""
    return [(i, i + 1) for i in range(len(chosen) - 1) if chosen[i + 1] == chosen[i] + 1]


def test_sampling_has_the_stated_odds() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [sample_frames(16, 2, 0.5, generator) for _ in range(4000)]
    assert all(len(set(draw)) == 2 and draw == sorted(draw) and 0 <= draw[0] <= draw[1] < 16 for draw in draws)
    # windows: 1/2 + 1/2 · 15/120 of all pairs; four standard errors
    share = sum(bool(adjacent_pairs(draw)) for draw in draws) / len(draws)
    assert share == pytest.approx(0.5625, abs=4 * (0.25 / 4000) ** 0.5)
    assert {draw[0] for draw in draws} == set(range(15))
    assert all(
        adjacent_pairs(sample_frames(9, 4, 1.0, generator)) == [(0, 1), (1, 2), (2, 3)] for _ in range(20)
    )
    assert sample_frames(3, 8, 0.0, generator) == [0, 1, 2]
    assert adjacent_pairs([0, 2, 3, 7]) == [(1, 2)]


def test_neighbours_forward_are_the_pairs_of_a_step_and_nothing_is_drawn() -> None:
    every = [(a, b) for a in range(9) for b in range(9) if a != b]
    pairs = carried_pairs(every, 1, backward=False)
    assert sorted(pairs) == [(n, n + 1) for n in range(8)]
    assert all(every[index] == pair for pair, index in pairs.items())
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        chosen = sample_frames(9, 4, 0.5, generator)
        before = generator.get_state()
        assert draw_partners(chosen, pairs, generator) == dict(adjacent_pairs(chosen))
        assert torch.equal(generator.get_state(), before)


def test_frames_within_the_gap_are_partners_both_ways_with_equal_odds() -> None:
    every = [(a, b) for a in range(9) for b in range(9) if a != b]
    near = carried_pairs(every, 3, backward=True)
    assert sorted(near) == [(a, b) for a, b in every if abs(a - b) <= 3]
    generator = torch.Generator().manual_seed(0)
    draws = [draw_partners([0, 2, 5, 8], near, generator) for _ in range(1000)]
    assert {frozenset(draw) for draw in draws} == {frozenset(range(4))}
    assert {(draw[0], draw[3]) for draw in draws} == {(1, 2)}  # their only ones
    back = sum(draw[1] == 0 for draw in draws) / len(draws)
    assert back == pytest.approx(0.5, abs=4 * (0.25 / 1000) ** 0.5)
    assert draw_partners([0, 4, 8], near, generator) == {}


def test_every_frame_of_a_finer_clip_belongs_to_the_nearest_coarse_one() -> None:
    coarse = (torch.tensor([0, 2, 4, 5]) / 5).tolist()
    assert nearest_times(coarse, (torch.arange(6) / 5).tolist()) == [[0, 1], [2, 3], [4], [5]]
    assert nearest_times([0.0, 0.4, 1.0], [0.1, 0.9]) == [[0], [0], [1]]


def test_learning_rates_fall_log_linearly() -> None:
    assert exponential(1e-2, 1e-4, 0.0) == pytest.approx(1e-2)
    assert exponential(1e-2, 1e-4, 0.5) == pytest.approx(1e-3)
    assert exponential(1e-2, 1e-4, 1.0) == pytest.approx(1e-4)


def test_the_papers_numbers() -> None:
    config = paper()
    assert config.density is not None
    assert config.density.stop == config.steps_before("refine") == 15_000
    assert config.density.reset_every == 3_000
    assert [config.stage(stage).iterations for stage in ("static", "coarse", "refine")] == [
        5000,
        10_000,
        15_000,
    ]
    assert (config.field.control_points, config.field.neighbours) == (512, 3)
    assert config.rates.network == 3e-4
    weights = config.weights
    assert (weights.image, weights.mask, weights.d_ssim) == (0.8, 2, 0.2)
    assert (weights.arap, weights.normal, weights.flow) == (1, 1, 1)


def test_settings_are_overridden_by_name() -> None:
    config = overridden(
        mini(),
        [
            "static.iterations=7",
            "weights.flow=0",
            "keyframe=3",
            "background=random",
            "density.max_count=99",
            "view_weights=1,0.7,0.4,1,0.7,0.4",
        ],
    )
    assert config.static.iterations == 7
    assert config.weights.flow == 0
    assert config.keyframe == 3
    assert config.background == "random"
    assert config.density is not None
    assert config.density.max_count == 99
    assert config.weights_of(6) == (1, 0.7, 0.4, 1, 0.7, 0.4)
    assert overridden(config, ["density=none", "keyframe=none", "view_weights=none"]) == replace(
        config, density=None, keyframe=None, view_weights=None
    )
    assert overridden(config, ["field.background=0,0.5,1"]).field.background == (0.0, 0.5, 1.0)
    assert overridden(config, ["density=None", "keyframe=NULL"]).density is None
    assert overridden(config, ["background=Random"]).background == "random"
    for word, value in (("true", True), ("True", True), ("FALSE", False), ("false", False)):
        assert overridden(config, [f"field.time_network={word}"]).field.time_network is value
    assert mini() == preset("mini")
    names = ("control_points", "neighbours")  # neither fits without the other
    both = overridden(config, [f"field.{name}={2}" for name in names])
    assert (both.field.control_points, both.field.neighbours) == (2, 2)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("points", "write it as name=value"),
        ("point=3", "Did you mean 'points'"),
        ("static.iteration=3", "Did you mean 'iterations'"),
        ("points=many", "points is 'many'; expected a whole number"),
        ("points=1", "points is 1; expected 4 to"),
        ("background=black", "expected white or random"),
        ("field=3", "field is a group"),
        ("points.x=3", "single value"),
        ("field=none,field.width=3", "set as a whole and"),
        ("field.width=3,field=none", "set as a whole and"),
        ("weights.flow=-1", "weight flow"),
        ("flow_gap=0", "flow_gap is 0; expected 1 or more"),
        ("flow_backward=both", "true or false"),
        ("rates.means=nan", "rates.means is 'nan'; expected a finite"),
        ("field.depth_tolerance=inf", "expected a finite number"),
        ("field.time_network=maybe", "field.time_network is 'maybe'; expected true or false"),
        ("field.time_network=0", "true or false"),
        ("field.time_network=none", "true or false"),
        ("points=none", "points is 'none'; expected a whole number"),
        ("background=", "expected white or random"),
    ],
)
def test_settings_that_make_no_sense_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overridden(mini(), assignment.split(","))


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ConfigError, match="Known: mini, paper"):
        preset("tiny")
