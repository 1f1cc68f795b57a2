"""Temporal metrics on clips whose motion is known exactly."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.clip import clip_t
from mvtokenflow.eval.metrics.compute.flow import (
    chain_flow,
    estimate_clip_flow,
    estimate_flow_dis,
    forward_backward_visible,
)
from mvtokenflow.eval.metrics.motion import motion_magnitude, motion_normalised, temporal_flickering
from mvtokenflow.eval.metrics.warp import warp_error, warp_error_in_context

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
HEIGHT, WIDTH, FRAMES = 24, 31, 10  # H != W catches swapped axes


def constant_flow(velocity: tuple[float, float], pairs: int) -> tuple[Floats, Mask]:
    return np.broadcast_to(np.array(velocity, float), (pairs, HEIGHT, WIDTH, 2)).copy(), np.ones(
        (pairs, HEIGHT, WIDTH), bool
    )


def texture_clip(velocity: tuple[int, int], frames: int = FRAMES) -> Floats:
    """Random texture that moves by whole pixels; it wraps around, so its rim is not what the flow says."""
    texture = 0.25 + 0.5 * np.random.default_rng(0).random((HEIGHT, WIDTH, 3))
    return np.stack([np.roll(texture, (velocity[1] * t, velocity[0] * t), (0, 1)) for t in range(frames)])


def interior(velocity: tuple[int, int], pairs: int) -> Mask:
    """Pixels whose target lies in the picture under a whole-pixel shift."""
    y, x = np.indices((HEIGHT, WIDTH))
    x, y = x + velocity[0], y + velocity[1]
    inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
    return np.broadcast_to(inside, (pairs, HEIGHT, WIDTH)).copy()


def ramp_clip(velocity: tuple[float, float]) -> Floats:
    """A bilinear function of x and y that moves by fractions of a pixel: bilinear sampling is exact on it."""
    y, x = np.indices((HEIGHT, WIDTH)).astype(float)
    frames = []
    for t in range(FRAMES):
        u, v = x - velocity[0] * t, y - velocity[1] * t
        frames.append(
            np.stack([0.4 + 0.004 * u, 0.5 + 0.003 * v, 0.4 + 0.002 * u - 0.003 * v + 1e-4 * u * v], -1)
        )
    return np.stack(frames)


@pytest.mark.parametrize("velocity", [(3, -1), (-2, 0), (0, 2)])
def test_translating_texture_scores_zero(velocity: tuple[int, int]) -> None:
    flow, visible = constant_flow(velocity, FRAMES - 1)
    error = warp_error(texture_clip(velocity).astype(np.float32), flow.astype(np.float32), visible)
    assert error.mae.shape == (FRAMES - 1,)
    assert error.mae.max() < 1e-6
    assert error.rmse.max() < 1e-6
    # What leaves the picture is not compared, even though the mask called it visible.
    assert (error.pixels == interior(velocity, 1).sum()).all()


@pytest.mark.parametrize("velocity", [(0.37, -1.61), (-2.25, 0.5)])
def test_subpixel_motion_scores_zero(velocity: tuple[float, float]) -> None:
    error = warp_error(ramp_clip(velocity), *constant_flow(velocity, FRAMES - 1))
    assert error.mae.max() < 1e-12
    assert error.rmse.max() < 1e-12


@pytest.mark.parametrize("wrong", [(-3, 1), (-1, 3), (3, 1), (0, 0)])
def test_wrong_sign_or_swapped_axes_are_punished(wrong: tuple[int, int]) -> None:
    error = warp_error(texture_clip((3, -1)), *constant_flow(wrong, FRAMES - 1))
    assert error.mae.min() > 0.1  # two independent texels differ by 0.5/3 on average


@pytest.mark.parametrize("amplitude", [0.01, 0.2])
def test_flicker_of_known_amplitude(amplitude: float) -> None:
    """Brightness alternates by +-a: every pair differs by 2a, whatever the picture."""
    velocity = (3, -1)
    sign = np.where(np.arange(FRAMES) % 2, -1.0, 1.0)[:, None, None, None]
    frames = texture_clip(velocity) + amplitude * sign
    error = warp_error(frames, *constant_flow(velocity, FRAMES - 1))
    np.testing.assert_allclose(error.mae, 2 * amplitude, rtol=1e-12)
    np.testing.assert_allclose(error.rmse, 2 * amplitude, rtol=1e-12)
    # Over an even span both frames have the same sign: only the long-range flow is blind to it.
    flow, visible = chain_flow(*constant_flow(velocity, FRAMES - 1), span=2)
    assert warp_error(frames, flow, visible).mae.max() < 1e-12


def test_noise_of_known_deviation() -> None:
    """Independent noise of deviation s in each frame gives sqrt(2) s (RMSE) and 2 s / sqrt(pi) (MAE)."""
    velocity, deviation = (1, 0), 0.02
    noise = np.random.default_rng(1).normal(0, deviation, (FRAMES, HEIGHT, WIDTH, 3))
    error = warp_error(texture_clip(velocity) + noise, *constant_flow(velocity, FRAMES - 1))
    # 9 pairs x 720 pixels x 3 channels: standard error about 0.5 %.
    assert error.rmse.mean() == pytest.approx(np.sqrt(2) * deviation, rel=0.02)
    assert error.mae.mean() == pytest.approx(2 * deviation / np.sqrt(np.pi), rel=0.02)


def test_occluded_pixels_are_never_read() -> None:
    velocity = (3, -1)
    frames = texture_clip(velocity)
    flow, visible = constant_flow(velocity, FRAMES - 1)
    frames[5, 10:14, 12:18] = 1.0  # something else passes in front in frame 5
    hit = warp_error(frames, flow, visible)
    assert hit.mae[4] > 0.01
    assert hit.mae[5] > 0.01
    visible[4, 11:15, 9:15] = False  # where frame 4's points land on it
    visible[5, 10:14, 12:18] = False
    flow[~visible] = np.nan
    clean = warp_error(frames, flow, visible)
    assert clean.mae.max() < 1e-12
    assert clean.pixels[4] == hit.pixels[4] - 24


def test_nothing_visible_has_no_value() -> None:
    flow, visible = constant_flow((1, 0), FRAMES - 1)
    visible[2] = False
    error = warp_error(texture_clip((1, 0)), flow, visible)
    assert error.pixels[2] == 0
    assert np.isnan([error.mae[2], error.rmse[2]]).all()
    assert np.isfinite(np.delete(error.mae, 2)).all()


def test_floor_and_static_trap() -> None:
    """A frozen clip looks perfect to flickering, but not to the reference's motion."""
    velocity = (3, -1)
    reference = texture_clip(velocity)
    frozen = np.repeat(reference[:1], FRAMES, axis=0)
    context = warp_error_in_context(frozen, reference, *constant_flow(velocity, FRAMES - 1))
    assert context.floor.mae.max() < 1e-12
    assert context.prediction.mae.min() > 0.1
    np.testing.assert_array_equal(context.prediction.mae, context.static.mae)
    assert (temporal_flickering(frozen) == 1).all()
    assert temporal_flickering(reference).max() < 0.9
    # Judged by its own motion the frozen clip has error 0 at motion 0: no value, not a win.
    still, everywhere = constant_flow((0, 0), FRAMES - 1)
    error = warp_error(frozen, still, everywhere).mae
    assert error.max() == 0
    assert np.isnan(motion_normalised(error, motion_magnitude(still, everywhere))).all()


def test_blur_gets_under_the_floor() -> None:
    """The documented weakness: where the reference itself flickers, smoothing scores better than the truth."""
    velocity = (3, -1)
    noise = np.random.default_rng(5).normal(0, 0.03, (FRAMES, HEIGHT, WIDTH, 3))
    reference = texture_clip(velocity) + noise
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 2.0) for frame in reference])
    context = warp_error_in_context(blurred, reference, *constant_flow(velocity, FRAMES - 1))
    assert (context.prediction.mae < context.floor.mae).all()
    assert (context.floor.mae < context.static.mae).all()


@pytest.mark.parametrize("span", [1, 2, 8, 9])
def test_long_range_flow_of_a_translation(span: int) -> None:
    velocity = (0.75, -0.5)
    flow, visible = chain_flow(*constant_flow(velocity, FRAMES - 1), span=span)
    assert flow.shape == (FRAMES - span, HEIGHT, WIDTH, 2)
    assert visible.any()
    np.testing.assert_allclose(
        flow[visible], np.array(velocity) * span + np.zeros((visible.sum(), 2)), atol=1e-12
    )
    assert (flow[~visible] == 0).all()
    assert warp_error(ramp_clip(velocity), flow, visible).mae.max() < 1e-12


def test_long_range_flow_follows_a_rotation() -> None:
    """Chained flow of a rotation about (12, 9): sampling is exact, the flow being linear in x and y."""
    angle, centre = np.deg2rad(4.0), np.array([12.0, 9.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    y, x = np.indices((HEIGHT, WIDTH)).astype(float)
    offset = np.stack([x, y], -1) - centre
    step = np.repeat((offset @ (turn - np.eye(2)).T)[None], 8, axis=0)
    flow, visible = chain_flow(step, np.ones(step.shape[:3], bool), span=8)
    expected = offset @ (np.linalg.matrix_power(turn, 8) - np.eye(2)).T
    assert visible[0].sum() > 300
    np.testing.assert_allclose(flow[0][visible[0]], expected[visible[0]], atol=1e-10)


def test_long_range_visibility_is_lost_on_the_way() -> None:
    flow, visible = constant_flow((2, 0), 3)
    visible[1, 10, 12] = False  # hidden for one step, back later
    flow[~visible] = np.nan
    chained, seen = chain_flow(flow, visible, span=3)
    assert (chained[seen] == [6, 0]).all()
    expected = interior((4, 0), 1)  # the second flow must still be known at x + 4
    expected[0, 10, 10] = False
    np.testing.assert_array_equal(seen, expected)


def test_long_range_flow_does_not_bleed_across_outlines() -> None:
    """An object at 2.3 px/frame on a still background: every surviving flow is the object's own."""
    velocity, span = 2.3, 4
    columns = np.arange(WIDTH)
    on_object = np.stack(
        [
            np.broadcast_to((columns >= 3 + velocity * t) & (columns <= 12 + velocity * t), (HEIGHT, WIDTH))
            for t in range(4)
        ]
    )
    flow = np.where(on_object[..., None], [velocity, 0.0], 0.0)
    chained, seen = chain_flow(flow, on_object, span)
    np.testing.assert_allclose(chained[seen], [[velocity * span, 0.0]] * int(seen.sum()), atol=1e-12)
    assert 8 * HEIGHT <= seen.sum() <= 10 * HEIGHT  # one column lost at each edge, not one per step


def test_motion_magnitude_and_normalisation() -> None:
    flow, mask = constant_flow((3, -4), 4)
    flow[:, :, WIDTH // 2 :] = np.nan
    mask[:, :, WIDTH // 2 :] = False
    mask[3] = False
    motion = motion_magnitude(flow, mask)
    np.testing.assert_allclose(motion[:3], 5)
    assert np.isnan(motion[3])
    error = np.array([0.1, 0.2, 0.0, 0.3])
    np.testing.assert_allclose(motion_normalised(error, motion)[:3], [0.02, 0.04, 0])
    assert np.isnan(motion_normalised(error, motion)[3])
    # A hundredth of a pixel is estimation noise, not motion to divide by.
    assert np.isnan(motion_normalised(np.array([0.1]), np.array([0.01])))[0]


def test_clip_t_is_the_cosine_of_neighbours() -> None:
    embeddings = np.array([[3.0, 0.0], [5.0, 5.0], [0.0, 0.1], [0.0, -2.0]])
    np.testing.assert_allclose(clip_t(embeddings), [np.sqrt(0.5), np.sqrt(0.5), -1], atol=1e-15)
    with pytest.raises(DataError, match="frame 1"):
        clip_t(np.array([[1.0, 0.0], [0.0, 0.0]]))


def test_flickering_is_one_minus_mean_absolute_difference() -> None:
    frames = np.zeros((3, 4, 5, 3), np.float32)
    frames[1] = 0.25
    frames[2, :2] = 0.25
    np.testing.assert_allclose(temporal_flickering(frames), [0.75, 0.875])


def smooth_pair() -> tuple[Floats, Floats, tuple[float, float]]:
    big = cv2.GaussianBlur(np.random.default_rng(2).random((90, 110)), (0, 0), 2.0)
    big = (big - big.min()) / (big.max() - big.min())
    return big[10:74, 10:90], big[8:72, 13:93], (-3.0, 2.0)  # content moves by (-3, +2)


def test_dis_recovers_a_shift_with_the_right_sign() -> None:
    gray0, gray1, shift = smooth_pair()
    flow = estimate_flow_dis(gray0, gray1)
    assert flow.shape == (64, 80, 2)
    # Measured: 99 % of the interior within 0.031 px, all of it within 0.053.
    wrong = np.abs(flow[6:-6, 6:-6] - shift).max(axis=-1)
    assert np.quantile(wrong, 0.99) < 0.1


def test_dis_does_not_depend_on_threads() -> None:
    gray0, gray1, _ = smooth_pair()
    before, flows = cv2.getNumThreads(), []
    try:
        for threads in (1, 2, 5):
            cv2.setNumThreads(threads)
            flows.append(estimate_flow_dis(gray0, gray1))
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(flows[0], flows[1])
    np.testing.assert_array_equal(flows[0], flows[2])


def test_forward_backward_check() -> None:
    """A square moves right by 6 over a still background and covers a strip of it."""
    forward, backward = np.zeros((20, 40, 2)), np.zeros((20, 40, 2))
    forward[5:15, 10:20, 0] = 6
    backward[5:15, 16:26, 0] = -6
    visible = forward_backward_visible(forward, backward)
    expected = np.ones((20, 40), bool)
    expected[5:15, 20:26] = False  # background that the square covers in the second frame
    np.testing.assert_array_equal(visible, expected)
    forward[0, 39, 0] = 1  # leaves the picture
    assert not forward_backward_visible(forward, backward)[0, 39]


def test_estimated_flow_serves_as_reference() -> None:
    """On a moving textured disc the estimated flow explains the motion: floor far below the static trap."""
    texture = cv2.GaussianBlur(np.random.default_rng(3).random((64, 64, 3)), (0, 0), 1.5)
    texture = (texture - texture.min()) / (texture.max() - texture.min())
    y, x = np.indices((64, 64))
    frames, masks = [], []
    for t in range(5):
        mask = (x - 24 - 3 * t) ** 2 + (y - 32) ** 2 < 15**2
        frames.append(np.where(mask[..., None], np.roll(texture, 3 * t, 1), 1.0))
        masks.append(mask)
    clip, foreground = np.stack(frames).astype(np.float32), np.stack(masks)
    flow, visible = estimate_clip_flow(clip, foreground)
    assert (visible <= foreground[:-1]).all()
    assert visible.sum() > 0.9 * foreground[:-1].sum()
    assert motion_magnitude(flow, visible) == pytest.approx(np.full(4, 3.0), abs=0.05)
    context = warp_error_in_context(clip, clip, flow, visible)
    # Measured: floor 0.0004, static 0.13 to 0.18.
    assert context.floor.mae.max() < 0.1 * context.static.mae.max()


def test_contract_breaches_are_refused() -> None:
    frames = texture_clip((1, 0))
    flow, visible = constant_flow((1, 0), FRAMES - 1)
    with pytest.raises(ValueError, match="divide 8-bit"):
        warp_error((frames * 255).astype(np.uint8), flow, visible)
    with pytest.raises(DataError, match="frame 3"):
        warp_error(np.where(np.arange(FRAMES)[:, None, None, None] == 3, 1.5, frames), flow, visible)
    with pytest.raises(ValueError, match="do not fit"):
        warp_error(frames[: FRAMES - 1], flow, visible)
    with pytest.raises(ValueError, match="boolean visible"):
        warp_error(frames, flow, visible.astype(np.float32))
    with pytest.raises(ValueError, match="differ in shape"):
        warp_error_in_context(frames[:, :-1], frames, flow, visible)
    flow[2, 4, 4] = np.nan
    with pytest.raises(DataError, match="flow 2"):
        warp_error(frames, flow, visible)
    with pytest.raises(ValueError, match="span"):
        chain_flow(*constant_flow((1, 0), 3), span=4)
    with pytest.raises(ValueError, match="12x12"):
        estimate_flow_dis(np.zeros((8, 40)), np.zeros((8, 40)))
