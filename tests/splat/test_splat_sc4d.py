"""SC4D's network, skinning, start and losses: numbers of the original (`data/rival_sc4d`, `conftest.rival`)."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.splat.adaptive_start import BallDraws, adaptive_start
from mvtokenflow.splat.control import farthest_points, mirrored_indices
from mvtokenflow.splat.losses import alignment_loss, arap, common_edges
from mvtokenflow.splat.timenet import PointMotion, TimeNet, follow, radial_skinning, shared_scales

Numbers = Callable[[str, str], tuple[dict[str, Tensor], dict[str, Any]]]
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])


def close(found: Tensor, expected: Tensor, tolerance: float, name: str = "") -> None:
    """Equal up to a share of the largest expected value, at least of 1."""
    assert found.shape == expected.shape, name
    gap = float((found.detach().double() - expected).abs().max())
    assert gap <= tolerance * max(1.0, float(expected.abs().max())), f"{name}: {gap}"


def network(given: dict[str, Tensor], says: dict[str, Any], dtype: torch.dtype) -> TimeNet:
    config = says["config"]
    made = TimeNet(config["width"], config["depth"], config["skip_after_layer"]).to(dtype)
    made.load_state_dict(
        {key.removeprefix("in/w."): value for key, value in given.items() if key.startswith("in/w.")}
    )
    return made


def total(values: Iterable[Tensor]) -> Tensor:
    return torch.stack([value.sum() for value in values]).sum()


@DTYPES
def test_network(rival: Numbers, dtype: torch.dtype) -> None:
    given, says = rival("sc4d", "timenet")
    tolerance = {torch.float64: 1e-10, torch.float32: 2e-5}[dtype]
    timenet = network(given, says, dtype)
    points, times = given["in/points"].to(dtype), given["in/times"].to(dtype)
    found = timenet(points, times[:, None, None])
    close(timenet.encode(points, times[:1]), given["out/encoding"], tolerance)
    for name, value in zip(("translation", "quaternion"), found, strict=True):
        close(value, given[f"out/{name}"], tolerance, name)
        close(value[1], given[f"out/{name}_time1"], tolerance, name)
    loss = total([found.translation * given["in/a"].to(dtype), found.quaternion * given["in/b"].to(dtype)])
    close(loss[None], given["out/loss"], tolerance, "loss")
    names = dict(timenet.named_parameters())
    for name, value in zip(names, torch.autograd.grad(loss, list(names.values())), strict=True):
        close(value, given[f"out/g.{name}"], tolerance, name)


def test_new_network_does_not_move() -> None:
    timenet = TimeNet(8, 4, 1)
    timenet.initialise(torch.Generator().manual_seed(0))
    motion = timenet(torch.rand(5, 3), torch.tensor([[[0.3]], [[0.9]]]))
    assert torch.equal(motion.translation, torch.zeros(2, 5, 3))
    assert torch.equal(motion.quaternion, torch.tensor([1.0, 0, 0, 0]).expand(2, 5, 4))
    with pytest.raises(ConfigError, match="skip_after is 3"):
        TimeNet(8, 4, 3)


@DTYPES
def test_gaussians_follow_four_control_points(rival: Numbers, dtype: torch.dtype) -> None:
    given, says = rival("sc4d", "skinning")
    timenet = network(given, rival("sc4d", "timenet")[1], dtype)
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}[dtype]
    trained = {
        name: given[f"in/{name}"].to(dtype).requires_grad_()
        for name in ("xyz", "rotation", "c_xyz", "c_radius")
    }
    points, nodes = trained["xyz"], trained["c_xyz"]
    motion = timenet(nodes, torch.tensor([says["config"]["time"]], dtype=dtype))
    weighting = radial_skinning(points, nodes, trained["c_radius"][:, 0])
    assert torch.equal(weighting.indices, given["out/neighbours"])
    gaps = torch.linalg.vector_norm(points[:, None] - nodes[weighting.indices], dim=-1)
    close(gaps, given["out/distances"], tolerance)
    close(weighting.weights, given["out/weights"], tolerance, "weights")
    close(nodes + motion.translation, given["out/control_positions"], tolerance)
    found = follow(points, trained["rotation"], nodes, motion, weighting)
    for name, value in zip(("positions", "rotations"), found, strict=True):
        close(value, given[f"out/{name}"], tolerance, name)
    close(given["in/scaling"].to(dtype).exp(), given["out/scales"], tolerance)
    loss = total([found[0] * given["in/a"].to(dtype), found[1] * given["in/b"].to(dtype)])
    close(loss[None], given["out/loss"], tolerance, "loss")
    by = {f"g_{name}": value for name, value in trained.items()}
    by |= {f"g.w.{name}": value for name, value in timenet.named_parameters()}
    for name, value in zip(by, torch.autograd.grad(loss, list(by.values())), strict=True):
        close(value, given[f"out/{name}"], tolerance, name)


def test_several_times_are_each_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    points, nodes, quats = (
        torch.rand(7, 3, generator=generator),
        torch.rand(5, 3, generator=generator),
        torch.rand(7, 4),
    )
    motion = PointMotion(torch.rand(2, 5, 3, generator=generator), torch.rand(2, 5, 4, generator=generator))
    weighting = radial_skinning(points, nodes, torch.zeros(5), 3)
    both = follow(points, quats, nodes, motion, weighting)
    for time in range(2):
        alone = follow(points, quats, nodes, PointMotion(*(part[time] for part in motion)), weighting)
        for several, one in zip(both, alone, strict=True):
            torch.testing.assert_close(several[time], one)


def test_coarse_stage(rival: Numbers) -> None:
    given, says = rival("sc4d", "coarse_stage")
    shared, _ = rival("sc4d", "skinning")
    timenet = network(shared, rival("sc4d", "timenet")[1], torch.float64)
    points = given["in/xyz"].requires_grad_()
    radius = torch.tensor([[says["config"]["shared_log_radius"]]], dtype=torch.float64, requires_grad=True)
    moved = points + timenet(points, torch.tensor([says["config"]["time"]]).double()).translation
    scales = shared_scales(radius, len(points))
    close(moved, given["out/positions"], 1e-9)
    close(scales, given["out/scales"], 1e-9)
    found = torch.autograd.grad(total([moved * given["in/a"], scales * given["in/a"]]), (points, radius))
    close(found[0], given["out/g_xyz"], 1e-9)
    close(found[1], given["out/g_shared_log_radius"], 1e-9)


def test_alignment(rival: Numbers) -> None:
    given, says = rival("sc4d", "gaussian_alignment")
    now = given["in/now"].requires_grad_()
    loss = alignment_loss(now, given["in/then"])
    weight = says["config"]["weight"]
    close(loss[None], given["out/chamfer"], 1e-12)
    close(weight * loss[None], given["out/weighted"], 1e-12)
    (found,) = torch.autograd.grad(loss, now)
    scale = float((found * given["out/g_now"]).sum() / found.square().sum())
    assert scale in (pytest.approx(1), pytest.approx(weight))
    close(found * round(scale), given["out/g_now"], 1e-12)
    assert float(alignment_loss(given["in/then"][:3], given["in/then"])) == 0  # one-sided


def test_rigidity(rival: Numbers) -> None:
    given, _ = rival("sc4d", "arap")
    sequence = given["in/sequence"].requires_grad_()
    edges = common_edges(sequence)
    assert torch.equal(edges, given["out/edges"])
    error = arap(sequence, edges, "sum")
    close(error[None], given["out/error"], 1e-9)
    close(torch.autograd.grad(error, sequence)[0], given["out/g_sequence"], 1e-9)


def test_edges_go_by_index_and_not_by_distance() -> None:
    points = torch.tensor([[[0.0, 0, 0], [0.05, 0, 0], [0.09, 0, 0], [0.01, 0, 0]]])
    assert common_edges(points, neighbours=1).tolist() == [[0, 1, 2, 3], [1, 1, 1, 1]]
    apart = torch.cat([points, points + torch.tensor([0.0, 5, 0]) * torch.arange(4)[:, None]])
    assert common_edges(apart).shape == (2, 0)


def test_adaptive_start(rival: Numbers) -> None:
    """The original computes it in float32, so 1e-6."""
    given, _ = rival("sc4d", "ag_initialisation")
    draws = BallDraws(given["in/u_phi"], given["in/u_cos"], given["in/u_radius"], given["in/u_color"])
    found = adaptive_start(given["in/control"], given["in/radius"][:, 0], draws)
    expected = {
        "means": given["out/xyz"],
        "log_scales": given["out/log_scales"],
        "quats": given["out/quats"],
        "logit_opacities": given["out/logit_opacity"][:, 0],
        "features_dc": given["out/features_dc"][:, 0],
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        close(found[name], value, 1e-6, name)
    offsets = (found["means"].reshape(5, 6, 3) - given["in/control"][:, None]).norm(dim=-1)
    assert float(offsets.max()) <= float(given["in/radius"].mean())
    with pytest.raises(DataError, match="a radius each and 30 colours"):
        adaptive_start(given["in/control"], given["in/radius"][:2, 0], draws)


def test_drawn_start_fills_its_ball() -> None:
    draws = BallDraws.draw(2, 500, torch.Generator().manual_seed(0))
    means = adaptive_start(torch.zeros(2, 3), torch.tensor([0.1, 0.3]), draws)["means"]
    inside = (means[:500].norm(dim=-1) < 0.1).double().mean()  # an eighth of the volume of radius 0.2
    assert torch.equal(means[:500], means[500:])
    assert float(inside) == pytest.approx(1 / 8, abs=0.04)


def test_points_that_upstream_keeps(rival: Numbers) -> None:
    _, says = rival("sc4d", "fps_quirk")
    assert mirrored_indices(torch.tensor(says["farthest"]), says["n"]).tolist() == says["kept"]
    points = torch.rand(says["n"], 3, generator=torch.Generator().manual_seed(0))
    chosen = farthest_points(points, 4)
    assert farthest_points(points, 4, upstream=True).tolist() == [
        says["n"] - 1 - index for index in chosen.tolist()
    ]
