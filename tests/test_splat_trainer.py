"""The trainer: it learns, it is deterministic, a killed run ends bit for bit like one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvtokenflow.datasets.toy4d.dataset import render_scene
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.errors import ConfigError, DataError
from mvtokenflow.overrides import overridden
from mvtokenflow.splat.density import DensityConfig
from mvtokenflow.splat.field import DynamicField, FieldConfig
from mvtokenflow.splat.io import load_field
from mvtokenflow.splat.schedule import adjacent_pairs, exponential, sample_frames
from mvtokenflow.splat.trainer import reconstruct, refine
from mvtokenflow.splat.training_config import (
    ReconstructionConfig,
    StageConfig,
    mini,
    paper,
    preset,
)
from mvtokenflow.splat.views import MultiviewVideo, ViewFlow

SIZE, FRAMES = 32, 4
STEPS = 20
CONFIG = ReconstructionConfig(
    static=StageConfig(
        iterations=STEPS,
        density=DensityConfig(start=4, stop=18, every=5, grow_gradient=1e-5, max_count=400, reset_every=0),
    ),
    coarse=StageConfig(iterations=STEPS),
    refine=StageConfig(iterations=STEPS),
    field=FieldConfig(control_points=16, hyper_dim=2, width=16, depth=6),
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
    flow = ViewFlow(
        view=0,
        flow=torch.zeros(FRAMES - 1, SIZE, SIZE, 2),
        visible=torch.from_numpy(seen.alpha[:-1, 0, ..., 0] > 0.5),
    )
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


CHILD = """
import sys
from pathlib import Path
import torch
from mvtokenflow.splat.multiview_video import read_multiview
from mvtokenflow.splat.trainer import reconstruct
from mvtokenflow.overrides import overridden
from mvtokenflow.splat.training_config import mini
config = overridden(mini(), sys.argv[3:])
reconstruct(read_multiview(Path(sys.argv[1])), config, Path(sys.argv[2]), torch.Generator().manual_seed(0),
            checkpoint_every=5)
"""


@pytest.mark.slow
def test_kill_9_at_any_time_changes_nothing(video: MultiviewVideo, tmp_path: Path) -> None:
    from mvtokenflow.splat.multiview_video import write_multiview

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


def test_learning_rates_fall_log_linearly() -> None:
    assert exponential(1e-2, 1e-4, 0.0) == pytest.approx(1e-2)
    assert exponential(1e-2, 1e-4, 0.5) == pytest.approx(1e-3)
    assert exponential(1e-2, 1e-4, 1.0) == pytest.approx(1e-4)


def test_the_papers_numbers() -> None:
    config = paper()
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
            "static.density.max_count=99",
        ],
    )
    assert config.static.iterations == 7
    assert config.weights.flow == 0
    assert config.keyframe == 3
    assert config.background == "random"
    assert config.static.density is not None
    assert config.static.density.max_count == 99
    assert overridden(config, ["static.density=none", "keyframe=none"]).keyframe is None
    assert overridden(config, ["field.background=0,0.5,1"]).field.background == (0.0, 0.5, 1.0)
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
        ("points=1", "points is 1; expected 4 or more"),
        ("background=black", "expected white or random"),
        ("field=3", "field is a group"),
        ("points.x=3", "single value"),
        ("field=none,field.width=3", "set as a whole and"),
        ("field.width=3,field=none", "set as a whole and"),
        ("weights.flow=-1", "weight flow"),
        ("rates.means=nan", "rates.means is 'nan'; expected a finite"),
        ("field.depth_tolerance=inf", "expected a finite number"),
        ("field.time_network=maybe", "true or false"),
    ],
)
def test_settings_that_make_no_sense_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overridden(mini(), assignment.split(","))


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ConfigError, match="Known: mini, paper"):
        preset("tiny")
