"""The method end to end with an untrained small prior: stages, switches, resume, refusals."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvtokenflow.base.errors import ConfigError, DataError, WeightsMissingError
from mvtokenflow.base.settings import overridden
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.datasets.toy4d.toys import make_toy
from mvtokenflow.flow.estimate import DisEstimator
from mvtokenflow.media.video import Clip
from mvtokenflow.method.config import SWITCHES, MethodConfig, mini, paper, preset, without
from mvtokenflow.method.pipeline import GivenViews, run
from mvtokenflow.method.prepare import Input, input_flow, near_pairs, prepare
from mvtokenflow.method.priors import prior_digest, prior_name
from mvtokenflow.multiview.kept_steps import KeptSteps
from mvtokenflow.splat.training_config import StageConfig
from mvtokenflow.splat.training_config import paper as fit_paper
from mvtokenflow.views.cameras import orbit
from mvtokenflow.views.video import MultiviewVideo
from mvtokenflow.workdir.store import StageStore

SIZE, FRAMES = 64, 5


@pytest.fixture(scope="module")
def clip() -> Clip:
    picture = render(make_toy("quadruped", 7), six_views(SIZE)[:1], [n / (FRAMES - 1) for n in range(FRAMES)])
    return Clip(
        rgb=torch.from_numpy(picture.rgb[:, 0]), alpha=torch.from_numpy(picture.alpha[:, 0]), name="toy"
    )


@pytest.fixture
def config(prior_file: Path) -> MethodConfig:
    """`mini` with next to no iterations."""
    small = mini()
    few = StageConfig(iterations=3)
    field = replace(small.reconstruction.field, control_points=8)
    return replace(
        small,
        prior=str(prior_file),
        sampling=replace(small.sampling, steps=2, timesteps=(999, 100)),
        stride=1,
        token_flow=replace(small.token_flow, interval=2, tau=0.5),
        reconstruction=replace(
            small.reconstruction, static=few, coarse=few, refine=few, points=200, field=field
        ),
    )


def _dot() -> Clip:
    """Two frames that show a square."""
    alpha = torch.zeros(2, 16, 16, 1)
    alpha[:, 4:12, 4:12] = 1
    return Clip(rgb=torch.zeros(2, 16, 16, 3), alpha=alpha, name="dot")


def _state(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.suffix in (".png", ".safetensors", ".npz")
    }


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_interrupted_pass_goes_on_at_its_noise_level(
    clip: Clip, config: MethodConfig, tmp_path: Path, eta: float
) -> None:
    config = replace(config, sampling=replace(config.sampling, eta=eta), refinement=False)
    run(clip, config, tmp_path / "whole", 0)
    steps: list[tuple[str, int]] = []

    def interrupt(stage: str, done: int, total: int) -> None:
        steps.append((stage, done))
        if (stage, done) == ("denoise", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(clip, config, tmp_path / "parts", 0, progress=interrupt)
    state = tmp_path / "parts" / "views.steps.safetensors"
    kept = state.read_bytes()
    state.write_bytes(kept[:-9])
    with pytest.raises(DataError, match=r"views\.steps\.safetensors: damaged state of a sampling run"):
        run(clip, config, tmp_path / "parts", 0)
    state.write_bytes(kept)
    steps.clear()
    run(clip, config, tmp_path / "parts", 0, progress=lambda stage, done, total: steps.append((stage, done)))
    assert [done for stage, done in steps if stage == "denoise"] == [2]
    assert _state(tmp_path / "parts") == _state(tmp_path / "whole")


def test_the_state_of_other_inputs_is_not_taken_up(tmp_path: Path) -> None:
    latents, pose = torch.rand(2, 3, 4), torch.rand(3, 2)
    kept = KeptSteps(tmp_path / "views.steps.safetensors", "a key")
    assert kept.read() is None
    kept.keep(3, latents, pose)
    found = kept.read()
    assert found is not None
    assert found[0] == 3
    assert torch.equal(found[1], latents)
    assert found[2] is not None
    assert torch.equal(found[2], pose)
    assert replace(kept, key="another").read() is None
    kept.drop()
    assert kept.read() is None


def test_runs_all_stages_and_never_again(clip: Clip, config: MethodConfig, tmp_path: Path) -> None:
    seen: list[str] = []
    result = run(clip, config, tmp_path / "a", 0, progress=lambda stage, done, total: seen.append(stage))
    assert [cost.stage for cost in result.costs] == ["views", "coarse", "regenerated", "refined"]
    assert all(cost.finished and cost.seconds > 0 and cost.peak_mib > 100 for cost in result.costs)
    assert {"denoise", "static", "coarse", "refine"} <= set(seen)
    assert result.field.is_dynamic
    assert 0 < result.front_iou < 0.9  # this prior has not learned outlines
    assert json.loads((tmp_path / "a" / "views.json").read_text())["made_by"] == prior_name(config)
    report = json.loads((tmp_path / "a" / "views.json").read_text())["token_flow"]
    assert report["own_share"]  # some token grid was propagated
    assert report["passes"] == {"all": 2}  # one per step, in parts
    before, stamps = _state(tmp_path / "a"), (tmp_path / "a" / "stages.json").stat().st_mtime_ns
    seen.clear()
    again = run(clip, config, tmp_path / "a", 0, progress=lambda stage, done, total: seen.append(stage))
    assert not seen
    assert again.costs == result.costs
    assert (tmp_path / "a" / "stages.json").stat().st_mtime_ns == stamps
    assert _state(tmp_path / "a") == before


def test_a_killed_run_ends_like_one_that_was_not(clip: Clip, config: MethodConfig, tmp_path: Path) -> None:
    run(clip, config, tmp_path / "whole", 0)

    for stage in ("decode", "coarse", "refine"):

        def kill(name: str, done: int, total: int, at: str = stage) -> None:
            if name == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(clip, config, tmp_path / stage, 0, progress=kill)
        run(clip, config, tmp_path / stage, 0)
        assert _state(tmp_path / stage) == _state(tmp_path / "whole"), stage


def test_the_prior_gives_the_input_in_the_front_view(clip: Clip, config: MethodConfig, tmp_path: Path) -> None:
    """The first picture of the first view is the clip's, at its own time."""
    from mvtokenflow.views.folder import read_multiview

    run(clip, without(config, "refinement"), tmp_path, 0)
    given = prepare(clip, config)
    video = read_multiview(tmp_path / "views")
    assert not (tmp_path / "refined").exists()
    assert given.times.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert video.clock is not None  # `mvtf reconstruct` of the folder needs them too
    assert torch.equal(video.clock, given.times)
    assert prepare(clip, replace(config, stride=3)).times.tolist() == [0.0, 0.75, 1.0]
    shown = video.rgb[:, 0] * video.alpha[:, 0] + 1 - video.alpha[:, 0]
    inside = video.alpha[:, 0, ..., 0] > 0.05
    assert inside.sum() > 100
    # Straight colours and alpha are rounded to 8 bits, and colours that no straight one gives are clamped.
    assert (shown - given.front).abs()[inside & (given.front.min(-1).values < 1)].median() < 0.5 / 255
    assert (shown - given.front).abs()[video.alpha[:, 0, ..., 0] == 1].max() < 1.01 / 255


def test_independent_noise_is_the_only_difference_of_its_preset() -> None:
    shared, own = mini().to_dict(), preset("mini-independent").to_dict()
    assert (shared["sampling"].pop("share_noise"), own["sampling"].pop("share_noise")) == (True, False)
    assert shared == own


@pytest.mark.parametrize("part", sorted(SWITCHES))
def test_every_switch_changes_the_settings_and_names_another_run(part: str, config: MethodConfig) -> None:
    changed = without(config, part)
    assert changed.to_dict() != config.to_dict()
    weights = changed.fitted().weights
    assert (weights.flow == 0) == (part in ("flow", "flow-loss"))
    assert (weights.normal == 0) == (part == "normal")
    for second, propagated in ((False, "front"), (True, "all")):
        tokens = changed.tokens(second)
        assert tokens.propagation == ("none" if part in ("flow", "propagation") else propagated)
        assert (tokens.enlarged == "off") == (part == "enlarged-attention")


def test_what_flow_does_not_change_is_not_generated_twice(
    clip: Clip, config: MethodConfig, tmp_path: Path
) -> None:
    """Without propagation both passes draw the same views from the same noise."""
    bare = without(config, "propagation")
    assert bare.tokens(second_pass=True) == bare.tokens(second_pass=False)
    result = run(clip, bare, tmp_path / "a", 0)
    assert [cost.stage for cost in result.costs] == ["views", "coarse", "refined"]
    run(clip, without(bare, "regeneration"), tmp_path / "b", 0)
    assert _state(tmp_path / "a") == _state(tmp_path / "b")
    never = replace(config, token_flow=replace(config.token_flow, tau=0.2))  # of two steps none
    assert [cost.stage for cost in run(clip, never, tmp_path / "c", 0).costs] == ["views", "coarse", "refined"]


def test_the_input_itself_may_be_the_front_through_its_own_camera(
    clip: Clip, config: MethodConfig, tmp_path: Path
) -> None:
    """It is part of what a fit is of: of its folder, its key in the store, and what goes on after a kill."""
    camera = orbit((0.0,), size=SIZE, kind="pinhole", radius=2.0, fov_deg=49.1)
    bare = replace(without(config, "regeneration"), front="input")
    store = StageStore(tmp_path / "store", ("mvtokenflow.method.pipeline",))
    found = run(clip, bare, tmp_path / "whole", 0, camera=camera, store=store)
    assert [cost.stage for cost in found.costs] == ["views", "coarse", "refined"]

    def kill(name: str, done: int, total: int) -> None:
        if name == "refine" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(clip, bare, tmp_path / "killed", 0, camera=camera, progress=kill)
    run(clip, bare, tmp_path / "killed", 0, camera=camera)
    assert _state(tmp_path / "killed") == _state(tmp_path / "whole")
    with pytest.raises(ConfigError, match=r"camera"):
        run(clip, bare, tmp_path / "whole", 0)
    run(clip, bare, tmp_path / "ortho", 0, store=store)
    run(clip, replace(bare, front="generated"), tmp_path / "generated", 0, store=store)
    whole = _state(tmp_path / "whole")
    for name in ("ortho", "generated"):
        mine = _state(tmp_path / name)
        assert all(mine[file] == content for file, content in whole.items() if file.startswith("views"))
        assert mine["coarse/coarse/field.safetensors"] != whole["coarse/coarse/field.safetensors"]
    turned = orbit((90.0,), size=SIZE, kind="ortho", radius=2.0)
    with pytest.raises(DataError, match="not level"):
        run(clip, bare, tmp_path / "turned", 0, camera=turned)
    assert not (tmp_path / "turned").exists()


def test_refuses_the_folder_of_another_run(clip: Clip, config: MethodConfig, tmp_path: Path) -> None:
    run(clip, without(config, "refinement"), tmp_path, 0)
    with pytest.raises(ConfigError, match="belongs to another run"):
        run(clip, without(config, "refinement"), tmp_path, 1)


def test_a_keyframe_the_video_lacks_is_told_before_anything_is_made(
    clip: Clip, config: MethodConfig, tmp_path: Path
) -> None:
    late = replace(config, reconstruction=replace(config.reconstruction, keyframe=FRAMES))
    with pytest.raises(ConfigError, match="keyframe is 5, the video has frames 0 to 4"):
        run(clip, late, tmp_path / "a", 0)
    assert not (tmp_path / "a").exists()


def test_a_seed_that_a_later_stage_would_not_take_is_refused_at_once(
    clip: Clip, config: MethodConfig, tmp_path: Path
) -> None:
    for seed in (-1, 2**63):
        with pytest.raises(ConfigError, match=f"the seed is {seed}"):
            run(clip, config, tmp_path / "out", seed)
    assert not (tmp_path / "out").exists()


def test_presets_and_bad_settings(tmp_path: Path) -> None:
    assert preset("paper") == paper()
    assert paper().reconstruction.field.control_points == 512
    assert paper().front == "input"
    assert paper().reconstruction.field.sh_degree == 0, "generated views disagree"
    assert fit_paper().field.sh_degree == 3, "filmed ones do not"
    with pytest.raises(ConfigError, match="mini"):
        preset("minni")
    with pytest.raises(ConfigError, match="generate_every"):
        replace(mini(), stride=0)
    with pytest.raises(ConfigError, match="enlarged"):
        replace(mini(), token_flow=replace(mini().token_flow, enlarged="off"))
    for propagation in ("none", "all"):
        with pytest.raises(ConfigError, match=r"token_flow.propagation is .*token_propagation off"):
            replace(mini(), token_flow=replace(mini().token_flow, propagation=propagation))
    with pytest.raises(ConfigError, match="one crop box"):
        replace(mini(), square=replace(mini().square, per_frame=True))
    with pytest.raises(ConfigError, match="steps is 20, but 4 timesteps are named"):
        replace(mini().sampling, steps=20)
    with pytest.raises(ConfigError, match="front is 'back'; expected input or generated"):
        overridden(mini(), ["front=back"])
    weights = replace(mini().reconstruction, view_weights=(1.0, 2.0))
    with pytest.raises(ConfigError, match="view_weights has 2 numbers for 6 views"):
        run(_dot(), replace(mini(), reconstruction=weights), tmp_path / "never", 0)
    assert not (tmp_path / "never").exists()
    with pytest.raises(ConfigError, match="flow"):
        without(mini(), "flows")
    with pytest.raises(ConfigError, match="guidance is inf"):
        replace(mini().sampling, guidance=float("inf"))
    with pytest.raises(ConfigError, match="depth_tolerance is inf"):
        replace(mini().reconstruction.field, depth_tolerance=float("inf"))
    with pytest.raises(WeightsMissingError, match="train-prior"):
        prior_name(replace(mini(), prior=str(tmp_path / "none.safetensors")))


def test_flow_of_the_input_is_in_its_squares_pixels(clip: Clip) -> None:
    """A clip that moves right by two pixels a frame."""
    picture = clip.on_background()[0]
    alpha = clip.alpha[0]
    moved = Clip(
        rgb=torch.stack([picture.roll(2 * n, dims=1) for n in range(3)]),
        alpha=torch.stack([alpha.roll(2 * n, dims=1) for n in range(3)]),
        name="shifted",
    )
    given, estimator = prepare(moved, replace(mini(), stride=1)), DisEstimator()
    flow = input_flow(given.front, given.alpha, near_pairs(3, 1, backward=False), estimator)
    assert flow.pairs == ((0, 1), (1, 2))
    assert flow.visible.float().mean() > 0.05
    assert (flow.flow[flow.visible].mean(0) - torch.tensor([2.0, 0.0])).abs().max() < 0.3
    assert not flow.flow[given.alpha[:-1, ..., 0] == 0].any()
    every = input_flow(given.front, given.alpha, near_pairs(3, 8, backward=True), estimator)
    assert every.pairs == ((0, 1), (1, 2), (1, 0), (2, 1), (0, 2), (2, 0))
    assert torch.equal(every.flow[:2], flow.flow)
    assert torch.equal(every.visible[:2], flow.visible)
    for (source, target), moved_by, seen in zip(every.pairs, every.flow, every.visible, strict=True):
        expected = torch.tensor([2.0 * (target - source), 0.0])
        assert (moved_by[seen].mean(0) - expected).abs().max() < 0.4, (source, target)


def test_given_views_cover_the_input_and_an_empty_one_is_not_kept(
    clip: Clip, config: MethodConfig, tmp_path: Path
) -> None:
    def made(alpha_of_one: float | None) -> GivenViews:
        def make(given: Input) -> MultiviewVideo:
            views = six_views(SIZE)
            picture = render(make_toy("quadruped", 7), views, given.times.tolist())
            alpha = torch.from_numpy(picture.alpha).clone()
            if alpha_of_one is not None:
                alpha[2, 3] = alpha_of_one
            return MultiviewVideo(rgb=torch.from_numpy(picture.rgb), alpha=alpha, cameras=views)

        return GivenViews(name=f"toy with {alpha_of_one}", make=make)

    square = replace(config.square, crop_size=-1)  # the clip is what the front camera sees
    given = replace(without(config, "refinement", "normal"), square=square)
    assert run(clip, given, tmp_path / "whole", 0, given=made(None)).front_iou > 0.99
    with pytest.raises(DataError, match="no object in view 3 of frame 2; take another seed"):
        run(clip, given, tmp_path / "empty", 0, given=made(0.001))
    assert not (tmp_path / "empty" / "views").exists()


def test_weights_of_a_checkpoint_tell_it_from_another_of_its_name(tmp_path: Path) -> None:
    config = replace(mini(), prior=str(tmp_path))
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.parent.mkdir()
    found = []
    for stamp, content in enumerate((b"one", b"two", b"one")):
        weights.write_bytes(content)
        os.utime(weights, (stamp, stamp))
        found.append(prior_digest(config))
    assert found[0] == found[2] != found[1]
    assert prior_name(config) == str(tmp_path)
