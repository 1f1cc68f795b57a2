"""The small prior's interface as a teacher: levels, looks, and the gradient of its loss."""

import pytest
import torch
from oracle import Truth, oracle_prior, toy_truth

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.distill.source import Source, resized, sized_cameras
from mvtokenflow.distill.teacher import LATENTS_UPSTREAM, PriorTeacher, Reference, turned
from mvtokenflow.small.prior import six_cameras
from mvtokenflow.splat.field import Render
from mvtokenflow.views.cameras import Cameras, orbit


@pytest.fixture(scope="module")
def truth() -> Truth:
    return toy_truth(frames=3)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def teacher(truth: Truth, references: tuple[Reference, ...] = (), floor: int = 0) -> PriorTeacher:
    return PriorTeacher(oracle_prior(truth), truth.at(0), references=references, floor=floor, generator=draws())


def seen(truth: Truth, cameras: Cameras, azimuths: tuple[float, ...], frame: int, shift: float = 0.0) -> Render:
    places = [truth.azimuths.index(angle % 360) for angle in azimuths]
    rgb = (truth.pictures[frame, places] * (1 - shift)).requires_grad_()
    alpha = truth.alpha[frame, places]
    return Render(rgb=rgb, alpha=alpha, depth=3 * torch.ones_like(alpha), cameras=cameras, meta={})


def test_levels_are_those_of_equal_alphabar(truth: Truth) -> None:
    levels = teacher(truth).levels
    assert [levels.of(t) for t in (980, 950, 800, 600, 500, 200, 20)] == [950, 941, 875, 734, 644, 324, 79]
    floored = teacher(truth, floor=644).levels
    assert [floored.of(t) for t in (980, 500, 20)] == [950, 644, 644]
    with pytest.raises(ConfigError, match="999"):
        teacher(truth, floor=999)


def test_the_gradient_is_a_weighted_difference_from_the_truth(truth: Truth) -> None:
    """Latents are 2 x - 1 here, the prediction is the truth: the gradient is known."""
    taught, level = teacher(truth), 700
    look = taught.look(1, draws())
    azimuths = (0.0, 45.0, 90.0, 180.0, 270.0, 315.0)
    at = seen(truth, look.cameras, azimuths, frame=1, shift=0.25)
    torch.autograd.backward(taught.loss(look, at, level, draws()))
    alphabar = taught.alphabars[level]
    right = truth.pictures[1, [truth.azimuths.index(angle) for angle in azimuths]]
    factor = (alphabar * (1 - alphabar)).sqrt() / 5 * LATENTS_UPSTREAM / (3 * 32 * 32)
    wanted = factor * 2 * (2 * at.rgb.detach() - 2 * right)
    assert at.rgb.grad is not None
    assert torch.allclose(at.rgb.grad, wanted, atol=1e-6)


def test_nothing_pulls_at_the_truth(truth: Truth) -> None:
    taught = teacher(truth)
    look = taught.look(0, draws())
    at = seen(truth, look.cameras, (0.0, 45.0, 90.0, 180.0, 270.0, 315.0), frame=0)
    assert float(taught.loss(look, at, 800, draws()).detach()) < 1e-9
    assert torch.allclose(taught.clean(look, at, 800, draws()), at.rgb.detach(), atol=1e-6)


def test_references_turn_the_cameras_and_the_truth_with_them(truth: Truth) -> None:
    taught = teacher(truth, (Reference(45.0, truth.at(45)), Reference(315.0, truth.at(315))))
    looks = [taught.look(0, draws(seed)) for seed in range(400)]
    share = [sum(look.reference == k for look in looks) / len(looks) for k in range(3)]
    assert share[0] > 0.6  # near the input always, elsewhere in 0.6 of the cases
    assert all(0.1 < one < 0.25 for one in share[1:])
    look = next(look for look in looks if look.reference == 1)
    expected = orbit((45.0, 90.0, 135.0, 225.0, 315.0, 0.0), size=32, kind="ortho", radius=3.0)
    assert torch.allclose(look.cameras.world_to_camera, expected.world_to_camera, atol=1e-6)
    at = seen(truth, look.cameras, (45.0, 90.0, 135.0, 225.0, 315.0, 0.0), frame=0)
    assert float(taught.loss(look, at, 800, draws()).detach()) < 1e-9


def test_cameras_turn_about_the_vertical() -> None:
    cameras = six_cameras(16)
    assert torch.equal(turned(cameras, 0.0).world_to_camera, cameras.world_to_camera)
    once = turned(cameras, 90.0)
    assert torch.allclose(once.world_to_camera[0], cameras.world_to_camera[2], atol=1e-6)


def test_another_size_sees_the_same() -> None:
    cameras = six_cameras(64)
    point = torch.tensor([[0.3, -0.2, 0.5]])
    large, _ = cameras.project(point)
    small, _ = sized_cameras(cameras, 16).project(point)
    assert torch.allclose(large / 4, small)
    pictures = torch.rand(2, 64, 64, 3, generator=draws())
    assert torch.allclose(resized(pictures, 32)[0, 0, 0], pictures[0, :2, :2].mean((0, 1)))
    assert resized(pictures, 128).shape == (2, 128, 128, 3)


def test_a_source_has_one_square_size() -> None:
    with pytest.raises(ValueError, match="do not fit together"):
        Source(
            front=torch.zeros(2, 8, 8, 3),
            alpha=torch.zeros(2, 8, 9, 1),
            camera=six_cameras(8)[:1],
            times=torch.tensor([0.0, 1.0]),
        )
    with pytest.raises(ValueError, match="8 pixels"):
        Source(
            front=torch.zeros(2, 8, 8, 3),
            alpha=torch.zeros(2, 8, 8, 1),
            camera=six_cameras(16)[:1],
            times=torch.tensor([0.0, 1.0]),
        )
