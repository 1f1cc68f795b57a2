"""Score distillation: numbers of the published methods (`data/rival_*`, see `conftest.rival`) and levels."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.guidance.cameras import BatchMode, batch_angles, batch_frames, batch_mode
from mvtokenflow.guidance.conditions import (
    GENERATED_AZIMUTHS_DEG,
    choose_condition,
    nearest_condition,
    pose_embedding,
    stable_zero123_last,
)
from mvtokenflow.guidance.levels import (
    ClippedRamp,
    RandomBand,
    check_levels,
    equivalent_levels,
    linear,
    ramp,
    scaled_linear_alphabars,
    staircase,
)
from mvtokenflow.guidance.sds import (
    add_noise,
    clean_from_noise,
    distillation_loss_eps,
    distillation_loss_x0,
    guided,
    noise_from_clean,
)
from mvtokenflow.guidance.steps import (
    DG4D_REFERENCE,
    STAG4D_REFERENCE,
    Stag4dSteps,
    dg4d_loss,
    reference_losses,
    stag4d_items,
    stag4d_loss,
)
from mvtokenflow.small.schedule import noise_schedule
from mvtokenflow.splat.schedule import log_linear
from mvtokenflow.views.cameras import orbit, to_threestudio

Numbers = Callable[[str, str], tuple[dict[str, Tensor], dict[str, Any]]]
ALPHABARS = scaled_linear_alphabars()
C4D_LEVELS = RandomBand(low=(0.8, 0.2), high=(0.98, 0.25), steps=5000)
STAG4D_LEVELS = RandomBand(low=(0.5, 0.02), high=(0.95, 0.5), steps=3000)


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Equal up to a share of the largest expected value."""
    assert found.shape == expected.shape
    assert float((found.detach() - expected).abs().max()) <= tolerance * float(expected.abs().max())


def gradient(loss: Tensor, by: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, by)
    return found


# ---- distillation ----


def test_distillation_of_consistent4d(rival: Numbers) -> None:
    given, _ = rival("consistent4d", "sds")
    levels = given["in/t"]
    close(ALPHABARS[levels].double(), given["out/alphas_t"], 0)
    ab = given["out/alphas_t"]
    latents = given["in/latents"].requires_grad_()
    close(add_noise(latents.detach(), given["in/noise"], ab), given["out/noisy"], 1e-14)
    predicted = guided(given["in/eps_uncond"], given["in/eps_cond"], 5)
    loss = distillation_loss_eps(latents, predicted, given["in/noise"], ab, divisor=len(latents))
    close(loss[None], given["out/loss"], 1e-10)
    close(gradient(loss, latents), given["out/grad"], 1e-10)
    close(pose_embedding(-given["in/elevation"], given["in/azimuth"]), given["out/pose"], 1e-10)


@pytest.mark.parametrize(("name", "divisor"), [("sc4d", 2), ("dg4d", 1), ("stag4d", 1)])
def test_distillation_of_the_others(rival: Numbers, name: str, divisor: int) -> None:
    """Their alphabars and losses are float32, so 1e-5."""
    given, says = rival(name, "sds")
    if name == "stag4d":
        level = int(given["in/t"])
    else:
        low, high = says["config"].get("bounds", (20, 980))
        steps = 1000
        level = ClippedRamp(low=low, high=high, steps=steps).level(round(says["config"]["step_ratio"] * steps))
        assert level == int(given["out/timestep"])
    pictures = given["in/pred"].requires_grad_()
    latents = 2 * pictures - 1
    predicted = guided(given["in/eps_uncond"], given["in/eps_cond"], 5)
    loss = distillation_loss_eps(
        latents, predicted, given["in/noise"], float(ALPHABARS[level]), divisor=divisor
    )
    close(loss[None], given["out/loss"], 1e-5)
    if "out/grad_by_latents" in given:
        (by_latents,) = torch.autograd.grad(loss, latents, retain_graph=True)
        close(by_latents, given["out/grad_by_latents"], 1e-5)
    close(gradient(loss, pictures), given["out/grad_by_pred"], 1e-5)


def test_poses(rival: Numbers) -> None:
    elevation, azimuth = torch.tensor([10.0, -5.0]).double(), torch.tensor([35.0, -120.0]).double()
    close(pose_embedding(elevation, azimuth), rival("sc4d", "sds")[0]["out/pose"], 1e-7)
    last = stable_zero123_last(torch.zeros(2).double())
    close(pose_embedding(elevation, azimuth, last), rival("dg4d", "sds")[0]["out/pose"], 1e-7)
    given, says = rival("stag4d", "sds")
    turned = [
        torch.tensor([says["config"][f"relative_{angle}"]]).double() for angle in ("elevation", "azimuth")
    ]
    close(pose_embedding(*turned), given["out/embedding"][:, 3:], 1e-7)


def test_the_two_forms_have_one_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    latents, noise, clean = (torch.randn(3, 2, 4, 4, generator=generator).double() for _ in range(3))
    ab = torch.tensor([0.02, 0.5, 0.9]).double()
    noisy = add_noise(latents, noise, ab)
    predicted = noise_from_clean(noisy, clean, ab)
    close(clean_from_noise(noisy, predicted, ab), clean, 1e-12)
    latents.requires_grad_()
    by_noise = gradient(distillation_loss_eps(latents, predicted, noise, ab, 7), latents)
    by_clean = gradient(distillation_loss_x0(latents, clean, ab, 7), latents)
    close(by_clean, by_noise, 1e-12)
    step = 1e-6 * torch.randn(latents.shape, generator=generator).double()
    plain = latents.detach()
    difference = [float(distillation_loss_x0(plain + sign * step, clean, ab, 7)) for sign in (1, -1)]
    assert difference[0] - difference[1] == pytest.approx(2 * float((by_clean * step).sum()), rel=1e-6)


# ---- levels and rates ----


def test_levels_of_consistent4d(rival: Numbers) -> None:
    _, says = rival("consistent4d", "schedules")
    for step, orient, bounds in zip(says["steps"], says["orient"], says["t_bounds"], strict=True):
        assert list(C4D_LEVELS.bounds(step)) == bounds
        assert linear(1.0, 20.0, ramp(step, 5000)) == orient
    for case in ("losses_sds_random_views", "losses_sds_sequence"):
        _, says = rival("consistent4d", case)
        expected = (says["terms_float32"]["min_step"], says["terms_float32"]["max_step"])
        assert C4D_LEVELS.bounds(says["config"]["step"]) == expected


def test_levels_and_rates_of_stag4d(rival: Numbers) -> None:
    _, says = rival("stag4d", "schedules")
    assert [[step, *STAG4D_LEVELS.bounds(step)] for step, *_ in says["t_bounds"]] == says["t_bounds"]
    densified = [step for step in range(1, 8001) if Stag4dSteps().densifies(step)]
    assert densified == list(range(1201, 5902, 100))
    assert log_linear(2e-3, 2e-5, 1000, 2000) == pytest.approx(2e-4, rel=1e-14)
    assert log_linear(1.6e-2, 1.6e-3, 8000, 2000) == pytest.approx(1.6e-3, rel=1e-14)


def test_levels_and_rates_of_sc4d(rival: Numbers) -> None:
    _, says = rival("sc4d", "schedules")
    stages = {
        "stage1": ClippedRamp(low=600, high=800, steps=1500),
        "stage2": ClippedRamp(low=200, high=800, steps=5000),
    }
    for stage, schedule in stages.items():
        assert [[step, schedule.level(step)] for step, _ in says["timestep"][stage]] == says["timestep"][stage]
    assert [[step, staircase(step, (128, 256, 512), (200, 300))] for step, _ in says["resolution"]] == says[
        "resolution"
    ]
    first = says["stage1"]["xyz"]
    assert {step: log_linear(0.01, 2e-4, int(step), 500) for step in first} == first
    second = says["stage2"]
    assert [log_linear(2e-4, 2e-6, step, 5000, hold=1000) for step in second["steps"]] == second["xyz"]
    assert [log_linear(2e-4, 2e-6, step, 5000) for step in second["steps"]] == second["timenet"]


def test_levels_of_dg4d(rival: Numbers) -> None:
    _, says = rival("dg4d", "schedules")
    schedule = ClippedRamp(low=20, high=980, steps=500)
    assert [[step, schedule.level(step)] for step, _ in says["timestep"]] == says["timestep"]
    assert [[step, staircase(step, (128, 256, 512), (150, 300))] for step, _ in says["resolution"]] == says[
        "resolution"
    ]


def test_drawn_levels_cover_the_band() -> None:
    generator = torch.Generator().manual_seed(0)
    band = RandomBand(low=(0.01, 0.01), high=(0.012, 0.012), steps=1)
    assert {band.draw(5, generator) for _ in range(100)} == {10, 11, 12}


def test_equal_noise_in_the_small_prior() -> None:
    target = noise_schedule().alphas_cumprod
    levels = (980, 950, 900, 850, 800, 700, 600, 500, 250, 200, 20)
    mapped = equivalent_levels(levels, ALPHABARS, target)
    assert mapped == [950, 941, 922, 901, 875, 812, 734, 644, 381, 324, 79]
    check_levels(mapped, target)
    assert equivalent_levels(levels, ALPHABARS, ALPHABARS) == list(levels)


@pytest.mark.parametrize("level", [998, 999])
def test_levels_without_weight_are_refused(level: int) -> None:
    alphabars = noise_schedule().alphas_cumprod
    check_levels([997], alphabars)
    with pytest.raises(ConfigError, match="change nothing"):
        check_levels([500, level], alphabars)


@pytest.mark.parametrize("level", [-1, 1000])
def test_levels_outside_are_refused(level: int) -> None:
    with pytest.raises(ConfigError, match="not one of the 1000"):
        check_levels([level], ALPHABARS)
    with pytest.raises(ConfigError, match="not one of the 1000"):
        equivalent_levels([level], ALPHABARS, ALPHABARS)


def test_schedules_out_of_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="low <= high"):
        RandomBand(low=(0.5, 0.3), high=(0.9, 0.2), steps=10)
    with pytest.raises(ConfigError, match="low <= high"):
        ClippedRamp(low=800, high=600, steps=10)
    with pytest.raises(ConfigError, match="1 or more"):
        RandomBand(low=(0.5, 0.3), high=(0.9, 0.4), steps=0)
    with pytest.raises(ConfigError, match="1 or more"):
        ClippedRamp(low=0, high=600, steps=0)


# ---- conditions, steps, cameras ----


@pytest.mark.parametrize("case", ["step_fine", "step_coarse"])
def test_step_of_stag4d(rival: Numbers, case: str) -> None:
    given, says = rival("stag4d", case)
    config = says["config"]
    draws: Iterator[float] = iter(config["uniform_draws"])
    drawn = (config["drawn_azimuth"], config["drawn_elevation"], config["drawn_frames"])
    items = stag4d_items(config["step"], *drawn, lambda: next(draws), count=len(given["in/targets"]))
    assert list(draws) == []
    table = [
        {
            "stage": item.stage,
            "resolution": item.side,
            "time": item.time,
            "background": item.background,
            "condition": "input" if item.condition.picture is None else item.condition.picture,
            "elevation": item.condition.elevation,
            "azimuth": item.condition.azimuth,
            "frame": item.frame,
            "step_ratio": item.step_ratio,
        }
        for item in items
    ]
    assert table == says["calls"]
    pictures, alphas = given["in/pictures"].requires_grad_(), given["in/alphas"].requires_grad_()
    frames = [item.frame for item in items]
    targets = given["in/targets"][frames], given["in/masks"][frames]
    reference = reference_losses(pictures[0::2], targets[0], alphas[0::2], targets[1], STAG4D_REFERENCE)
    distillation = given["in/sds"] * pictures[1::2].flatten(1).sum(-1)
    loss = stag4d_loss(reference, distillation, given["in/reg"][0], items[0].step_ratio)
    close(loss[None], given["out/loss"], 1e-10)
    by_pictures, by_alphas = torch.autograd.grad(loss, (pictures, alphas))
    close(by_pictures, given["out/g_pictures"], 1e-10)
    close(by_alphas, given["out/g_alphas"], 1e-10)


def test_conditions_of_stag4d(rival: Numbers) -> None:
    _, says = rival("stag4d", "conditions")
    assert tuple(says["picture_azimuth"]) == GENERATED_AZIMUTHS_DEG
    for azimuth, picture in says["examples"]:
        chosen = choose_condition(azimuth, 0, draw=0.0)
        assert chosen.picture == picture
        assert chosen.elevation == -says["picture_elevation_negative_above"][picture]
        assert choose_condition(azimuth, 0, draw=0.4).picture is None
    assert choose_condition(29, 5, draw=0.0) == choose_condition(29, 5, draw=0.9)


def test_nearest_condition_of_views_at_any_azimuth() -> None:
    chosen = {azimuth: nearest_condition(azimuth, (45.0, 315.0)) for azimuth in (0, 22, 30, 135, 190, 250, -30)}
    assert chosen == {0: None, 22: None, 30: 0, 135: 0, 190: 1, 250: 1, -30: 1}


def test_pictures_that_are_not_centres_of_sectors_are_refused() -> None:
    with pytest.raises(ConfigError, match="equal sectors"):
        choose_condition(100, 0, 0.0, azimuths=(45.0, 90.0), elevations=(0.0, 0.0))


def test_step_of_dg4d(rival: Numbers) -> None:
    given, says = rival("dg4d", "step")
    inputs = {name: given[f"in/{name}"].requires_grad_() for name in ("reference", "alpha", "novel")}
    masks = given["in/masks"]
    reference = reference_losses(
        inputs["reference"], given["in/targets"], inputs["alpha"], masks, DG4D_REFERENCE
    )
    distillation = given["in/sds"][0] * inputs["novel"].sum()
    step_ratio = ramp(says["config"]["step"], says["config"]["iterations"])
    loss = dg4d_loss(reference, distillation, step_ratio, len(inputs["novel"]))
    assert says["calls"]["step_ratio"] == step_ratio
    assert says["calls"]["pictures"] == len(inputs["novel"])
    sides = {call["resolution"] for call in says["calls"]["order"]}
    assert sides == {staircase(says["config"]["step"], (128, 256, 512), (150, 300))}
    close(loss[None], given["out/loss"], 1e-10)
    for name, found in zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True):
        close(found, given[f"out/g_{name}"], 1e-10)


def test_reference_losses_refuse_other_shapes() -> None:
    picture, alpha = torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)
    with pytest.raises(ValueError, match="equal shapes"):
        reference_losses(picture, picture[:1], alpha, alpha, DG4D_REFERENCE)


MODES: dict[int, BatchMode] = {1: "views", 2: "arc", 3: "times"}


@pytest.mark.parametrize("kind", ["angle", "sphere"])
@pytest.mark.parametrize("mode", MODES)
def test_cameras_of_consistent4d(rival: Numbers, mode: int, kind: str) -> None:
    """Angles exact; poses to float32's last digits."""
    _, says = rival("consistent4d", f"cameras/mode{mode}_{kind}")
    elevation, azimuth = batch_angles(
        MODES[mode],
        says["uniform_elevation"],
        says["uniform_azimuth"],
        uniform_angle=says["branch_draw"] < 0.5,
        size=4,
        arc_draw=says["interval_draw"],
    )
    assert elevation.tolist() == says["elevation_deg"]
    assert azimuth.tolist() == says["azimuth_deg"]
    cameras = orbit(azimuth.tolist(), elevation.tolist(), size=4, kind="pinhole", radius=2.0)
    poses = to_threestudio(cameras.world_to_camera)
    close(poses[0], torch.tensor(says["c2w_first"]), 1e-6)
    close(poses[:, :3, 3], torch.tensor(says["positions"]), 1e-6)


def test_batches_of_consistent4d() -> None:
    draws = (0.0, 0.499, 0.5, 0.624, 0.625, 0.749, 0.75, 0.999)
    assert [batch_mode(draw) for draw in draws] == [
        mode for mode in (*MODES.values(), "same") for _ in range(2)
    ]
    assert batch_frames("times", 3, 4, 32) == [3, 5, 7, 9]
    assert batch_frames("times", 3, 4, 10) == [3, 4, 5, 6]
    assert batch_frames("arc", 3, 4, 32) == [3, 3, 3, 3]
    with pytest.raises(ConfigError, match="start earlier"):
        batch_frames("times", 28, 4, 32)
    with pytest.raises(ConfigError, match="draws of each angle"):
        batch_angles("arc", [0.1], [0.1], uniform_angle=True, size=4)
