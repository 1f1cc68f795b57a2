"""Optical flow: warping and composition as arithmetic, estimates and visibility against toy4d's geometry."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.files import sha256_file
from mvtokenflow.datasets.toy4d.render import render, render_flow
from mvtokenflow.datasets.toy4d.scenes import FRAMES, scene_toy
from mvtokenflow.datasets.toy4d.stream import RADIUS
from mvtokenflow.flow import ops
from mvtokenflow.flow.estimate import (
    DisEstimator,
    RaftEstimator,
    estimate_flow,
    load_estimator,
    load_raft,
)
from mvtokenflow.flow.keyframes import (
    KeyframeFlow,
    enclosing,
    estimate_keyframe_flow,
    keyframe_flow,
    keyframes,
)
from mvtokenflow.media.video import Clip
from mvtokenflow.multiview.config import SquareConfig
from mvtokenflow.multiview.preprocess import square_clip
from mvtokenflow.views.cameras import orbit
from mvtokenflow.weights import ledger
from mvtokenflow.weights.package_index import DownloadError


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def constant(height: int, width: int, dx: float, dy: float) -> Tensor:
    return torch.tensor([dx, dy], dtype=torch.float32).expand(height, width, 2).clone()


@lru_cache
def toy(scene: str, size: int) -> tuple[Tensor, Tensor]:
    """Front view of a scene: frames (T, H, W, 3) on white and alpha (T, H, W)."""
    cameras = orbit((0.0,), size=size, kind="ortho", radius=RADIUS)
    picture = render(scene_toy(scene), cameras, [n / (FRAMES - 1) for n in range(FRAMES)], samples=3)
    rgb, alpha = torch.from_numpy(picture.rgb[:, 0]), torch.from_numpy(picture.alpha[:, 0])
    return (rgb * alpha + 1 - alpha).clamp(0, 1), alpha[..., 0]


@lru_cache
def exact(scene: str, size: int, source: int, target: int) -> tuple[Tensor, Tensor]:
    """Flow (H, W, 2) and visibility (H, W) between two frames of the front view."""
    cameras = orbit((0.0,), size=size, kind="ortho", radius=RADIUS)
    times = ([source / (FRAMES - 1)], [target / (FRAMES - 1)])
    motion = render_flow(scene_toy(scene), cameras, *times)
    return torch.from_numpy(motion.flow[0, 0]), torch.from_numpy(motion.visible[0, 0])


def test_warp_fetches_whole_pixels_exactly_on_any_grid() -> None:
    target = noise(3, 20, 13, 5)
    warped = ops.warp(target, constant(20, 13, 4, -3).expand(3, 20, 13, 2))
    torch.testing.assert_close(
        warped[:, 3:, :-4], target[:, :-3, 4:], atol=2e-6, rtol=0
    )  # rounding of positions
    nearest = ops.warp(target, constant(20, 13, 4, -3).expand(3, 20, 13, 2), "nearest")
    assert torch.equal(nearest[:, 3:, :-4], target[:, :-3, 4:])


def test_warp_interpolates_between_pixel_centres_and_keeps_the_border_outside() -> None:
    ramp = torch.arange(8.0).expand(6, 8)[..., None]
    torch.testing.assert_close(ops.warp(ramp, constant(6, 8, 0.25, 0))[:, :-1, 0], ramp[:, :-1, 0] + 0.25)
    assert torch.equal(ops.warp(ramp, constant(6, 8, 100, 0)), torch.full((6, 8, 1), 7.0))


def test_warp_of_half_precision_samples_at_full_precision() -> None:
    """Positions in half precision would be off by 1/8 pixel at 512 px."""
    target = torch.arange(512.0).expand(1, 512)[..., None].contiguous()
    flow = constant(1, 512, 0.25, 0).half()
    torch.testing.assert_close(ops.warp(target, flow)[:, :-1], target[:, :-1] + 0.25, atol=1e-3, rtol=0)


def test_warp_refuses_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        ops.warp(noise(8, 8, 3), constant(8, 9, 0, 0))


def test_compose_adds_translations_and_loses_what_leaves_the_picture() -> None:
    first, second = constant(16, 16, 3, 0), constant(16, 16, 2, -1)
    seen = torch.ones(16, 16, dtype=torch.bool)
    flow, kept = ops.compose(first, seen, second, seen)
    torch.testing.assert_close(flow[:, :13], constant(16, 13, 5, -1))
    assert kept[:, :13].all()
    assert not kept[:, 13:].any()


def test_compose_interpolates_only_what_is_seen() -> None:
    """Beside an outline the unseen neighbour's flow must not bleed in."""
    second = constant(8, 8, 1, 0)
    second[:, 4:] = 1000.0
    second_seen = torch.zeros(8, 8, dtype=torch.bool)
    second_seen[:, :4] = True
    flow, kept = ops.compose(constant(8, 8, 0.4, 0), torch.ones(8, 8, dtype=torch.bool), second, second_seen)
    torch.testing.assert_close(flow[:, :4], constant(8, 4, 1.4, 0))
    assert kept[:, :4].all()
    assert not kept[:, 4:].any()


def test_round_trip_bound_is_sundarams() -> None:
    """|f + b|² against 0.01 (|f|² + |b|²) + 0.5, on either side of the bound."""
    forward = constant(40, 40, 10, 0)
    bound = (0.01 * (100 + 100) + 0.5) ** 0.5
    for error, kept in ((0.9 * bound, True), (1.1 * bound, False)):
        backward = constant(40, 40, -10, error)
        assert bool(ops.round_trip(forward, backward)[:, :30].all()) is kept
        assert not ops.round_trip(forward, backward)[:, 30:].any()  # leaves the picture


@pytest.mark.parametrize(("height", "width"), [(16, 8), (64, 32), (32, 16)])
def test_resize_rescales_values(height: int, width: int) -> None:
    resized = ops.resize(constant(32, 16, 4, -2), height, width)
    torch.testing.assert_close(resized, constant(height, width, 4 * width / 16, -2 * height / 32))


def test_visibility_of_exact_flow_agrees_with_exact_visibility() -> None:
    """The check sees no depth, only two flows and two masks; it errs along outlines."""
    agree, total = 0, 0
    for scene in ("quadruped-01", "crab-02"):
        _, alpha = toy(scene, 64)
        for a, b in ((4, 8), (13, 16), (12, 8), (25, 31)):
            there, truth = exact(scene, 64, a, b)
            back, _ = exact(scene, 64, b, a)
            mask = alpha[a] > 0.5
            seen = ops.visible(there, back, mask, alpha[b] > 0.5)
            agree += int((seen == truth)[mask].sum())
            total += int(mask.sum())
    assert agree / total > 0.95  # measured: 0.9523, 388 of 8136 pixels differ


@pytest.mark.parametrize(("size", "near", "far"), [(64, 0.3, 0.75), (128, 0.4, 1.4)])
def test_dis_end_point_error_on_toys(size: int, near: float, far: float) -> None:
    """Mean over visible pixels in pixels; the motion itself is 4 times as long."""
    errors: dict[bool, list[float]] = {True: [], False: []}
    still: list[float] = []
    for scene in ("quadruped-01", "fish-01", "robot-01"):
        frames, _ = toy(scene, size)
        pairs = [(8, 9), (20, 21), (2, 0), (4, 8), (12, 8), (25, 31), (23, 16)]
        flows = estimate_flow(frames, pairs, DisEstimator())
        for (a, b), flow in zip(pairs, flows, strict=True):
            truth, seen = exact(scene, size, a, b)
            errors[abs(a - b) <= 2].append(float((flow - truth).norm(dim=-1)[seen].mean()))
            still.append(float(truth.norm(dim=-1)[seen].mean()))
    assert np.mean(errors[True]) < near
    assert np.mean(errors[False]) < far
    assert np.mean(errors[True] + errors[False]) < 0.5 * np.mean(still)


def test_dis_refuses_broken_pictures() -> None:
    good = noise(1, 16, 16, 3)
    with pytest.raises(DataError, match="at least one of 12 px"):
        DisEstimator().estimate(noise(1, 8, 16, 3), noise(1, 8, 16, 3))
    with pytest.raises(DataError, match="target picture 0: holds NaN"):
        DisEstimator().estimate(good, good * float("nan"))
    with pytest.raises(ValueError, match="must both be"):
        DisEstimator().estimate(good, good[:, :8])


def test_raft_runs_on_any_size_and_gives_flow_of_that_size() -> None:
    """Weights are random: only the path through enlarging, padding and back is tested."""
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)  # torchvision initialises from the global generator
    estimator = RaftEstimator(raft_small(weights=None), "raft_small", updates=2)
    flow = estimator.estimate(noise(2, 36, 44, 3), noise(2, 36, 44, 3, seed=1))
    assert flow.shape == (2, 36, 44, 2)
    assert torch.isfinite(flow).all()
    assert not flow.requires_grad
    # The last refinement of the enlarged pictures, scaled back.
    again = estimator.estimate(noise(2, 36, 44, 3), noise(2, 36, 44, 3, seed=1))
    assert torch.equal(flow, again)


def test_raft_weights_from_a_file_and_what_is_refused(tmp_path: Path) -> None:
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    network = raft_small(weights=None)
    path = tmp_path / "raft_small.pth"
    torch.save(network.state_dict(), path)
    loaded = load_estimator("raft_small", path)
    assert loaded.name == "raft_small"
    pictures = noise(1, 128, 128, 3), noise(1, 128, 128, 3, seed=1)
    assert torch.equal(loaded.estimate(*pictures), RaftEstimator(network, "raft_small").estimate(*pictures))

    with pytest.raises(WeightsCorruptError, match="not the weights of raft_large"):
        load_raft("raft_large", path)
    with pytest.raises(
        WeightsMissingError, match=r"absent.pth: no such weights file; to get it, run `mvtf-eval"
    ):
        load_raft("raft_small", tmp_path / "absent.pth")
    path.write_bytes(b"not weights")
    with pytest.raises(WeightsCorruptError, match="not a file of weights"):
        load_raft("raft_small", path)
    with pytest.raises(ConfigError, match="Did you mean 'raft_large'"):
        load_estimator("raft_larg")


def test_raft_without_network_says_how_to_get_the_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither the weights folder nor torchvision's has them, and their publisher can't be reached."""

    def refuse(*arguments: object, **options: object) -> None:
        raise DownloadError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("mvtokenflow.weights.sources.download", refuse)
    with pytest.raises(
        WeightsMissingError,
        match=r"raft-small: not fetched.*weights pack.*MVTF_WEIGHTS_RAFT_SMALL.*estimator 'dis'",
    ):
        load_raft("raft_small")


def test_raft_in_the_folder_of_torchvision_is_found_and_others_of_its_name_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torchvision.models import optical_flow

    torch.manual_seed(0)
    network = optical_flow.raft_small(weights=None)
    published = optical_flow.Raft_Small_Weights.DEFAULT.url.rpartition("/")[2]
    path = tmp_path / "hub" / "checkpoints" / published
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "weights"))
    with pytest.raises(WeightsCorruptError, match="not the pinned raft-small"):
        load_raft("raft_small")
    entry = ledger.WEIGHTS["raft-small"]
    pinned = replace(entry, files=(replace(entry.files[0], sha256=sha256_file(path)),))
    monkeypatch.setattr(ledger, "WEIGHTS", {entry.name: pinned})
    pictures = noise(1, 128, 128, 3), noise(1, 128, 128, 3, seed=1)
    assert torch.equal(
        load_raft("raft_small").estimate(*pictures), RaftEstimator(network, "raft_small").estimate(*pictures)
    )
    assert not (tmp_path / "weights").exists()


def test_the_ledger_pins_what_torchvision_publishes() -> None:
    from torchvision.models import optical_flow

    for name, published in (
        ("raft-large", optical_flow.Raft_Large_Weights.DEFAULT),
        ("raft-small", optical_flow.Raft_Small_Weights.DEFAULT),
    ):
        (file,) = ledger.WEIGHTS[name].files
        assert file.sources[0].address == published.url
        assert published.url.endswith(f"-{file.sha256[:8]}.pth")  # torchvision's own check
        assert file.bytes / 2**20 == pytest.approx(published.meta["_file_size"], abs=6e-4)


def test_keyframes_end_with_the_last_frame() -> None:
    assert keyframes(32, 8) == (0, 8, 16, 24, 31)
    assert keyframes(25, 8) == (0, 8, 16, 24)
    assert keyframes(1, 8) == (0,)
    with pytest.raises(ValueError, match="interval"):
        keyframes(8, 0)


def test_every_frame_is_enclosed_and_keyframes_by_themselves() -> None:
    pairs = enclosing(10, (0, 4, 9))
    assert pairs == [(0, 0), (0, 1), (0, 1), (0, 1), (1, 1), (1, 2), (1, 2), (1, 2), (1, 2), (2, 2)]
    with pytest.raises(ValueError, match="from 0 to 9"):
        enclosing(10, (0, 4))


def shifting_square(frames: int, side: int, dx: int) -> tuple[Tensor, KeyframeFlow]:
    """A square that moves by dx pixels a frame, and its exact flow to keyframes 0 and the last frame."""
    alpha = torch.zeros(frames, 1, side, side)
    for n in range(frames):
        alpha[n, 0, 8:24, 8 + n * dx : 24 + n * dx] = 1

    def between(n: int, key: int) -> tuple[Tensor, Tensor]:
        return constant(side, side, (key - n) * dx, 0)[None], alpha[n] > 0.5

    return alpha, keyframe_flow(between, alpha, (0, frames - 1), (0,))


@pytest.mark.parametrize("side", [64, 32, 16, 8])
def test_pooled_flow_is_in_tokens_of_each_level(side: int) -> None:
    """A pure 8 px shift of 64 px: 8, 4, 2 and 1 tokens, unmixed with the still background."""
    _, flows = shifting_square(3, 64, 8)
    motion = flows.pooled(side)
    expected = 8 * side / 64
    moving = motion.flow[0, 1, 0][motion.on_object[1, 0]]
    assert torch.equal(moving, torch.tensor([-expected, 0.0]).expand_as(moving))
    assert torch.equal(motion.flow[1, 1, 0][motion.on_object[1, 0]], -moving)
    assert not motion.flow[0, 1, 0][~motion.on_object[1, 0]].any()
    assert not motion.flow[:, 0][0].any()  # the first frame is its own keyframe


def test_pooled_flow_at_the_outline_is_that_of_the_object() -> None:
    """Tokens of 8 px of which 6 are object: plain averaging would give 3/4 of the motion."""
    alpha = torch.zeros(2, 1, 32, 32)
    alpha[0, 0, :, :22], alpha[1, 0, :, :26] = 1, 1
    flows = keyframe_flow(
        lambda n, key: (constant(32, 32, (key - n) * 4.0, 0)[None], alpha[n] > 0.5), alpha, (0, 1), (0,)
    )
    assert not flows.flow.any()  # both frames are keyframes
    wide = alpha[[0, 0, 1]]
    flows = keyframe_flow(
        lambda n, key: (constant(32, 32, (key - n) * 4.0, 0)[None], wide[n] > 0.5), wide, (0, 2), (0,)
    )
    pooled = flows.pooled(4)
    assert torch.equal(pooled.flow[1, 1, 0, :, 2], torch.tensor([[0.5, 0.0]]).expand(4, 2))
    assert not pooled.flow[1, 1, 0, :, 3].any()


def test_pooled_visibility_needs_half_or_all_of_the_object_pixels() -> None:
    alpha = torch.ones(3, 1, 8, 8)
    seen = torch.ones(1, 8, 8, dtype=torch.bool)
    seen[:, :, 0] = False  # a quarter of the left tokens of 4 px
    seen[:, :4, 4:7] = False  # three quarters of the upper right one
    flows = keyframe_flow(lambda n, key: (constant(8, 8, 0, 0)[None], seen), alpha, (0, 2), (0,))
    assert flows.pooled(2).visible[0, 1, 0].tolist() == [[True, False], [True, True]]
    assert flows.pooled(2, share=1.0).visible[0, 1, 0].tolist() == [[False, False], [False, True]]
    assert flows.pooled(2).visible[:, 0].all()


def test_estimated_keyframe_flow_is_close_to_the_exact_one() -> None:
    frames, alpha = toy("robot-01", 64)
    flows = estimate_keyframe_flow(frames[:9], alpha[:9], keyframes(9, 8), DisEstimator())
    errors, right, found = [], 0, 0
    for n in range(1, 8):
        for side, key in enumerate((0, 8)):
            truth, seen = exact("robot-01", 64, n, key)
            kept = flows.visible[side, n, 0]
            errors.append(float((flows.flow[side, n, 0] - truth).norm(dim=-1)[kept & seen].mean()))
            right += int((kept & seen).sum())
            found += int(kept.sum())
    assert np.mean(errors) < 0.35  # measured: 0.22
    assert right / found > 0.97  # precision of visibility, measured: 0.99
    outside = alpha[:9, None] == 0
    assert not flows.flow[:, outside].any()
    assert not flows.visible[:, outside].any()
    assert flows.views == (0,)


def test_flow_of_square_pictures_lives_on_the_crop() -> None:
    """One box for the clip: exact flow of the frame, moved onto the crop and scaled, is what is estimated."""
    frames, alpha = toy("robot-01", 128)
    some = slice(8, 12)
    clip = Clip(rgb=frames[some], alpha=alpha[some, ..., None], name="robot")
    square = square_clip(clip, SquareConfig(size=64, crop_size=60))
    flows = estimate_keyframe_flow(square.front, square.alpha[..., 0], (0, 3), DisEstimator())
    crop = square.crops[0]
    centres = torch.stack(torch.meshgrid(torch.arange(64), torch.arange(64), indexing="xy"), dim=-1) + 0.5
    for n, key in ((1, 0), (1, 3), (2, 0), (2, 3)):
        truth, seen = exact("robot-01", 128, 8 + n, 8 + key)
        column, row = crop.to_frame(centres).floor().long().clamp(0, 127).unbind(-1)
        moved = crop.to_square(crop.to_frame(centres) + truth[row, column]) - centres
        kept = flows.visible[int(key == 3), n, 0] & seen[row, column]
        error = (flows.flow[int(key == 3), n, 0] - moved).norm(dim=-1)[kept].mean()
        assert kept.sum() > 300
        assert error < 0.3  # measured: 0.07 to 0.15 px


class GapBlind:
    """Exact for neighbouring frames, useless for longer gaps: what chaining is for."""

    name = "gap-blind"

    def __init__(self, frames: Tensor, dx: float) -> None:
        self.frames, self.dx = frames, dx

    def index(self, picture: Tensor) -> int:
        return int((self.frames == picture).flatten(1).all(dim=1).nonzero()[0])

    def estimate(self, source: Tensor, target: Tensor) -> Tensor:
        flows = []
        for first, second in zip(source, target, strict=True):
            gap = self.index(second) - self.index(first)
            moved = gap * self.dx if abs(gap) == 1 else 20.0
            flows.append(constant(first.shape[0], first.shape[1], moved, 0))
        return torch.stack(flows)


def test_long_gaps_are_chained_when_the_direct_flow_fails() -> None:
    alpha, truth = shifting_square(5, 64, 4)
    frames = (noise(5, 64, 64, 3) * alpha[:, 0, ..., None]).contiguous()
    estimated = estimate_keyframe_flow(frames, alpha[:, 0], (0, 4), GapBlind(frames, 4.0))
    assert set(estimated.chained) == {(2, 0), (3, 0), (1, 4), (2, 4)}  # neighbours need no chain
    assert torch.equal(estimated.flow, truth.flow)
    assert torch.equal(estimated.visible, truth.visible)


def test_keyframe_flow_refuses_shapes_and_views_that_do_not_fit() -> None:
    alpha, flows = shifting_square(3, 64, 4)
    with pytest.raises(ValueError, match="views"):
        KeyframeFlow(keyframes=(0, 2), views=(0, 1), flow=flows.flow, visible=flows.visible, alpha=alpha)
    with pytest.raises(ValueError, match="keyframes must increase"):
        KeyframeFlow(keyframes=(0, 1), views=(0,), flow=flows.flow, visible=flows.visible, alpha=alpha)
    with pytest.raises(ValueError, match="expected flow"):
        KeyframeFlow(keyframes=(0, 2), views=(0,), flow=flows.flow[:1], visible=flows.visible, alpha=alpha)
