"""The losses' invariants, gradients and bad inputs."""

import math

import numba
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.splat.config import LossWeights
from mvtokenflow.splat.losses import arap, arap_edges, d_ssim, flow_loss, l1, mask_loss, normal_loss


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(shape, generator=generator, dtype=torch.float64)
    return functional.normalize(vectors, dim=-1)


# ---- normals by weight ----


def test_normals_are_weighed_by_pixel() -> None:
    """A weighted mean over the valid pixels: of weights alike the plain one, of 0 as if not there."""
    rendered, target = unit(3, 5, 7, 3).requires_grad_(), unit(3, 5, 7, 3, seed=1)
    valid = draw(3, 5, 7, seed=2) > 0.3
    weights = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)[:, None, None]
    each = [normal_loss(rendered[n], target[n], valid[n]) * valid[n].sum() for n in range(3)]
    expected = (each[0] + 0.5 * each[2]) / (valid[0].sum() + 0.5 * valid[2].sum())
    assert normal_loss(rendered, target, valid, weights).item() == pytest.approx(expected.item(), abs=1e-12)
    alike = normal_loss(rendered, target, valid, torch.full((3, 1, 1), 0.2, dtype=torch.float64))
    assert alike.item() == pytest.approx(normal_loss(rendered, target, valid).item(), abs=1e-12)
    assert normal_loss(rendered, target, valid & False, weights).item() == 0
    assert gradcheck(lambda n: normal_loss(n, target, valid, weights), (rendered,), eps=1e-6, atol=1e-8)


# ---- D-SSIM ----


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 1), (12, 5, 3), (2, 7, 19, 3), (2, 1, 6, 9, 4)])
def test_d_ssim_gradient_is_that_of_finite_differences(shape: tuple[int, ...]) -> None:
    image, target = draw(*shape).requires_grad_(), draw(*shape, seed=1)
    assert gradcheck(lambda picture: d_ssim(picture, target), (image,), eps=1e-6, atol=1e-8, fast_mode=True)


def test_d_ssim_is_zero_for_equal_pictures_and_symmetric() -> None:
    a, b = draw(2, 20, 33, 3), draw(2, 20, 33, 3, seed=1)
    assert d_ssim(a, a).item() == pytest.approx(0, abs=1e-14)
    assert d_ssim(a, b).item() == pytest.approx(d_ssim(b, a).item(), abs=1e-14)
    assert 0 < d_ssim(a, b).item() < 2


def test_d_ssim_of_a_batch_is_the_mean_of_its_pictures_and_channels() -> None:
    a, b = draw(4, 15, 21, 3), draw(4, 15, 21, 3, seed=1)
    single = [d_ssim(a[n, ..., c : c + 1], b[n, ..., c : c + 1]) for n in range(4) for c in range(3)]
    assert d_ssim(a, b).item() == pytest.approx(torch.stack(single).mean().item(), abs=1e-13)


def test_d_ssim_flips_with_the_picture() -> None:
    a, b = draw(18, 23, 3), draw(18, 23, 3, seed=1)
    for axis in (0, 1):
        assert d_ssim(a.flip(axis), b.flip(axis)).item() == pytest.approx(d_ssim(a, b).item(), abs=1e-13)
    turned = d_ssim(a.transpose(0, 1), b.transpose(0, 1))
    assert turned.item() == pytest.approx(d_ssim(a, b).item(), abs=1e-13)


def test_d_ssim_does_not_depend_on_threads_or_on_the_gradient() -> None:
    a, b = (
        draw(5, 31, 17, 3, dtype=torch.float32).requires_grad_(),
        draw(5, 31, 17, 3, seed=1, dtype=torch.float32),
    )
    results = []
    before = numba.get_num_threads()
    try:
        for threads in {1, before}:
            numba.set_num_threads(threads)
            loss = d_ssim(a, b)
            (slope,) = torch.autograd.grad(3 * loss, a)
            results.append((loss.item(), slope))
    finally:
        numba.set_num_threads(before)
    first = results[0]
    assert all(value == first[0] and torch.equal(slope, first[1]) for value, slope in results)
    assert d_ssim(a.detach(), b).item() == first[0]


def test_d_ssim_takes_half_precision_and_noncontiguous_pictures() -> None:
    a, b = draw(3, 16, 20), draw(3, 16, 20, seed=1)
    expected = d_ssim(a.movedim(0, -1).contiguous(), b.movedim(0, -1).contiguous())
    assert d_ssim(a.movedim(0, -1), b.movedim(0, -1)).item() == expected.item()
    half = a.movedim(0, -1).bfloat16().requires_grad_()
    loss = d_ssim(half, b.movedim(0, -1).bfloat16())
    (slope,) = torch.autograd.grad(loss, half)
    assert loss.dtype == torch.float32
    assert slope.dtype == torch.bfloat16
    assert loss.item() == pytest.approx(expected.item(), abs=5e-3)  # bfloat16 has 8 bits


def test_d_ssim_descends() -> None:
    target = draw(24, 24, 3)
    image = draw(24, 24, 3, seed=1).requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.05)
    first = d_ssim(image, target).item()
    for _ in range(60):
        (image.grad,) = torch.autograd.grad(d_ssim(image, target), image)
        optimizer.step()
    assert d_ssim(image, target).item() < 0.05 * first


def test_d_ssim_refuses_what_it_cannot_compare() -> None:
    picture = draw(8, 8, 3)
    with pytest.raises(ValueError, match="must be equal"):
        d_ssim(picture, draw(8, 8, 1))
    with pytest.raises(ValueError, match="must be equal"):
        d_ssim(picture, picture.float())
    with pytest.raises(ValueError, match="no gradient by its target"):
        d_ssim(picture, draw(8, 8, 3).requires_grad_())


# ---- masks, normals, flow ----


def test_l1_and_mask_loss_are_means() -> None:
    zero, half = torch.zeros(2, 4, 5, 1), torch.full((2, 4, 5, 1), 0.5)
    assert l1(zero, half).item() == 0.5
    assert mask_loss(zero, half).item() == 0.25
    for loss in (l1, mask_loss):
        with pytest.raises(ValueError, match="must be equal"):
            loss(zero, half[:1])


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 180.0])
def test_normal_loss_is_one_minus_the_cosine(degrees: float) -> None:
    angle = math.radians(degrees)
    one = torch.tensor([0.0, 0.0, 1.0]).expand(2, 3, 4, 3)
    other = torch.tensor([math.sin(angle), 0.0, math.cos(angle)]).expand(2, 3, 4, 3)
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    assert normal_loss(one, other, valid).item() == pytest.approx(1 - math.cos(angle), abs=1e-6)


def test_normal_loss_does_not_depend_on_the_worlds_axes() -> None:
    one, other, valid = unit(2, 5, 5, 3), unit(2, 5, 5, 3, seed=1), draw(2, 5, 5) > 0.4
    turn = torch.linalg.qr(unit(3, 3)).Q
    expected = normal_loss(one, other, valid)
    assert normal_loss(one @ turn, other @ turn, valid).item() == pytest.approx(expected.item(), abs=1e-14)


def test_normal_loss_sees_valid_pixels_only() -> None:
    rendered, target = unit(1, 4, 4, 3).requires_grad_(), unit(1, 4, 4, 3, seed=1)
    valid = torch.zeros(1, 4, 4, dtype=torch.bool)
    valid[0, 1, 2] = True
    loss = normal_loss(rendered, target, valid)
    (slope,) = torch.autograd.grad(loss, rendered)
    assert loss.item() == pytest.approx(1 - float(rendered.detach()[0, 1, 2] @ target[0, 1, 2]), abs=1e-14)
    assert torch.equal(slope.abs().sum(-1) > 0, valid)
    nowhere = normal_loss(rendered, target, torch.zeros_like(valid))
    assert nowhere.item() == 0
    assert not torch.autograd.grad(nowhere, rendered)[0].any()


def test_normals_that_are_not_valid_may_be_nan() -> None:
    drawn = torch.rand(2, 1, 4, 4, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    rendered, target = functional.normalize(drawn, dim=-1)
    rendered.requires_grad_()
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    valid[0, 0] = False
    target[0, 0] = torch.nan
    loss = normal_loss(rendered, target, valid)
    (gradient,) = torch.autograd.grad(loss, rendered)
    assert torch.isfinite(loss)
    assert gradient.isfinite().all()
    assert not gradient[0, 0].any()
    assert gradient[0, 1:].all()


def test_flow_loss_is_in_widths_and_skips_occlusions() -> None:
    target = draw(1, 6, 8, 2) * 10
    flow = target + 4
    visible = draw(1, 6, 8, seed=2) > 0.5
    flow[~visible] = 1e6
    assert flow_loss(flow, target, visible, 8).item() == pytest.approx(0.5)
    # The same scene at twice the size has flows of twice the pixels.
    assert flow_loss(2 * flow, 2 * target, visible, 16).item() == pytest.approx(0.5)
    assert flow_loss(flow, target, torch.zeros_like(visible), 8).item() == 0
    with pytest.raises(ValueError, match="width is 0"):
        flow_loss(flow, target, visible, 0)
    with pytest.raises(ValueError, match="must be equal"):
        flow_loss(flow, target, visible[0], 8)


# ---- as rigid as possible ----


def cloud(points: int = 40) -> tuple[Tensor, Tensor]:
    points_ = draw(points, 3)
    return points_, arap_edges(points_, radius=0.3)


def test_arap_is_zero_for_rigid_motion_and_not_for_a_mirror_or_a_stretch() -> None:
    points, edges = cloud()
    turn = torch.linalg.qr(unit(3, 3)).Q
    turn = turn * torch.linalg.det(turn)
    moved = points @ turn + draw(3, seed=5)
    about_axis = points * torch.tensor([-1.0, -1.0, 1.0])  # leaves z bit-identical
    assert arap(torch.stack([points, moved, about_axis]), edges).item() < 1e-25
    assert arap(torch.stack([points, points * torch.tensor([-1.0, 1.0, 1.0])]), edges).item() > 1e-3
    stretched = arap(torch.stack([points, 1.1 * points]), edges)
    length = (points[edges[0]] - points[edges[1]]).square().sum(-1).mean()
    assert stretched.item() == pytest.approx(0.01 * length.item(), rel=1e-9)


def test_arap_gradient_is_that_of_finite_differences() -> None:
    points, edges = cloud(12)
    sequence = torch.stack([points, points + 0.1 * draw(12, 3, seed=1), points + 0.1 * draw(12, 3, seed=2)])

    def energy(later: Tensor) -> Tensor:
        return arap(torch.cat([sequence[:1], later]), edges, reduction="sum")

    # By the later times the best rotation is stationary, so leaving it out of the graph is exact.
    assert gradcheck(energy, (sequence[1:].clone().requires_grad_(),), eps=1e-6, atol=1e-7)


def test_arap_mean_does_not_grow_with_the_number_of_times() -> None:
    points, edges = cloud()
    bent = points + 0.05 * draw(40, 3, seed=1)
    once, often = torch.stack([points, bent]), torch.stack([points, bent, bent, bent])
    assert arap(often, edges).item() == pytest.approx(arap(once, edges).item(), rel=1e-12)
    assert arap(often, edges, "sum").item() == pytest.approx(3 * arap(once, edges, "sum").item(), rel=1e-12)


def test_arap_edges_keep_the_nearest_and_prune_the_far() -> None:
    points = torch.tensor([[0.0, 0, 0], [0.05, 0, 0], [0.09, 0, 0], [1, 0, 0], [1.05, 0, 0], [1.08, 0, 0]])
    edges = arap_edges(points, neighbours=4, always=1, radius=0.1)
    pairs = {(int(i), int(j)) for i, j in edges.T}
    assert pairs == {(a + s, b + s) for s in (0, 3) for a in range(3) for b in range(3) if a != b}
    assert {(int(i), int(j)) for i, j in arap_edges(points, 1).T} == {
        (0, 1),
        (1, 2),
        (2, 1),
        (3, 4),
        (4, 5),
        (5, 4),
    }
    assert arap_edges(points, neighbours=50, always=50).shape == (2, 30)  # no point is its own neighbour


def test_arap_refuses_bad_inputs() -> None:
    points, edges = cloud()
    with pytest.raises(ValueError, match="two times or more"):
        arap(points[None], edges)
    with pytest.raises(ValueError, match="one edge or more"):
        arap(torch.stack([points, points]), edges[:, :0])
    with pytest.raises(ValueError, match="expected 'mean' or 'sum'"):
        arap(torch.stack([points, points]), edges, "max")  # type: ignore[arg-type]


# ---- weights ----


def test_default_weights_are_the_papers() -> None:
    assert LossWeights() == LossWeights(image=0.8, mask=2.0, d_ssim=0.2, arap=1.0, normal=1.0, flow=1.0)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_weights_are_validated(value: float) -> None:
    with pytest.raises(ConfigError, match="loss weight flow"):
        LossWeights(flow=value)
