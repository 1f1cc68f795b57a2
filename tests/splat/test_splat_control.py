"""Control points: SC-GS's numbers and gradients, and what skinning must keep."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.splat.control import (
    ControlPoints,
    blend,
    deform,
    farthest_points,
    neighbours,
    quaternion_product,
    skin,
    skinning,
    spacing,
)
from mvtokenflow.splat.deform import DeformNetwork, NodeMotion, encode
from mvtokenflow.splat.kernels.rotations import rotation_matrices

STORED = load_file(Path(__file__).parents[1] / "data" / "scgs_deform.safetensors")
CASES = ("lbs_local_hyper8", "lbs_nolocal_hyper0", "lbs_local_hyper2_rotabs_mask")
# Of each tensor's largest value. Measured: float64 2e-15.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
TRAINED = {
    "nodes": "nodes",
    "node_radius_log": "node_radius_log",
    "node_weight_logit": "node_weight_logit",
    "feature": "feature",
    "node_d_xyz": "node_d_xyz",
    "node_d_rotation": "node_d_rotation",
    "node_d_scaling": "node_d_scaling",
    "node_local_rotation": "node_local_rotation",
}


def stored(case: str, dtype: torch.dtype) -> dict[str, Tensor]:
    picked = {key.split("/", 1)[1]: value for key, value in STORED.items() if key.startswith(f"{case}/")}
    return {
        name: value.to(dtype) if value.is_floating_point() else value.long() for name, value in picked.items()
    }


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype, name: str) -> None:
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(
        found, expected, rtol=0, atol=TOLERANCE[dtype] * max(scale, 1e-6), msg=lambda text: f"{name}: {text}"
    )


def motion_of(tensors: Mapping[str, Tensor]) -> NodeMotion:
    names = ("node_d_xyz", "node_d_rotation", "node_d_scaling", "node_local_rotation")
    return NodeMotion(*(tensors[name] for name in names))


def random_motion(nodes: Tensor, *times: int, generator: torch.Generator) -> NodeMotion:
    def draw(width: int) -> Tensor:
        return torch.randn(*times, len(nodes), width, generator=generator, dtype=nodes.dtype) * 0.3

    return NodeMotion(draw(3), draw(4), draw(3), draw(4))


def rigid_motion(positions: Tensor, quat: Tensor, shift: Tensor) -> NodeMotion:
    """All control points turned about the origin by a unit quaternion, then shifted."""
    local = (quat - quat.new_tensor([1.0, 0.0, 0.0, 0.0])).expand(len(positions), 4)
    moved = positions @ rotation_matrices(quat).T + shift
    return NodeMotion(moved - positions, local, torch.zeros_like(positions), local)


@PRECISIONS
@pytest.mark.parametrize("case", CASES)
def test_skinning_and_its_gradients_are_those_of_scgs(case: str, dtype: torch.dtype) -> None:
    given = stored(case, dtype)
    trained = {name: given[name].requires_grad_() for name in TRAINED}
    points = given["x"].requires_grad_()
    residual = "rotabs" not in case
    hyper = trained["feature"] if trained["feature"].shape[1] else None
    placed = (points, trained["nodes"], trained["node_radius_log"], trained["node_weight_logit"])
    weighting = skinning(*placed, hyper=hyper, detach_positions=True)
    found = skin(
        *placed,
        motion_of(trained),
        hyper=hyper,
        local_frame="nolocal" not in case,
        rotation_as_residual=residual,
        motion_mask=given["motion_mask"],
        detach_positions=True,
    )
    assert torch.equal(weighting.indices, given["nn_idx"])
    assert_close(weighting.weights, given["nn_weight"], dtype, "weights")
    names = ("d_xyz", "d_rotation", "d_scaling")
    for name, value in zip(names, found, strict=True):
        assert_close(value, given[f"out_{name}"], dtype, name)
    deformed = deform(
        points, given["gs_rotation"], given["gs_scaling_log"].exp(), found, rotation_as_residual=residual
    )
    for name, value in zip(("means", "quats", "scales"), deformed, strict=True):
        assert_close(value, given[f"deformed_{name}"], dtype, name)
    loss = sum(
        ((value * given[f"w_{name}"]).sum() for name, value in zip(names, found, strict=True)),
        start=points.new_zeros(()),
    )
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert_close(loss[None], given["loss"], dtype, "loss")
    assert points.grad is None
    for name, tensor in trained.items():
        if f"g_{name}" in given:
            gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
            assert_close(gradient, given[f"g_{name}"], dtype, f"gradient by {name}")


@PRECISIONS
@pytest.mark.parametrize("case", ["mlp_blender", "mlp_real"])
def test_network_is_that_of_scgs(case: str, dtype: torch.dtype) -> None:
    given = stored(case, dtype)
    network = DeformNetwork(32, 8, time_network=case == "mlp_blender").to(dtype)
    state = {name.removeprefix("state/"): value for name, value in given.items() if name.startswith("state/")}
    network.load_state_dict(state, strict=True)
    assert_close(encode(given["x"], 10), given["x_emb"], dtype, "x_emb")
    assert_close(encode(given["t"], network.time_bands), given["t_emb"], dtype, "t_emb")
    found = network(given["x"], given["t"])
    for name in ("d_xyz", "d_rotation", "d_scaling", "local_rotation"):
        value = getattr(
            found, {"d_xyz": "translation", "d_scaling": "scaling", "d_rotation": "rotation"}.get(name, name)
        )
        assert_close(value, given[f"out_{name}"], dtype, name)


def test_parameter_shapes_are_those_of_scgs() -> None:
    shapes = {name: tuple(value.shape) for name, value in DeformNetwork().state_dict().items()}
    assert shapes["timenet.0.weight"] == (256, 13)
    assert shapes["timenet.2.weight"] == (30, 256)
    assert shapes["linear.0.weight"] == (256, 93)
    assert shapes["linear.5.weight"] == (256, 349)
    real = {name: tuple(value.shape) for name, value in DeformNetwork(time_network=False).state_dict().items()}
    assert real["linear.0.weight"] == (256, 84)
    assert real["linear.5.weight"] == (256, 340)


@pytest.mark.parametrize(("depth", "joined"), [(3, 2), (5, 3), (6, 4), (8, 5), (9, 5), (10, 6)])
def test_the_inputs_come_in_again_at_half_the_depth_as_in_scgs(depth: int, joined: int) -> None:
    def widths(network: DeformNetwork) -> list[int]:
        return [network.state_dict()[f"linear.{index}.weight"].shape[1] for index in range(depth)]

    made = DeformNetwork(8, depth)
    assert widths(made) == [93, *(8 + 93 * (index == joined) for index in range(1, depth))]
    made(torch.zeros(4, 3), torch.zeros(1))  # and the layers are fed so
    last = DeformNetwork(8, depth, skip_after=depth - 2)
    assert widths(last)[-1] == 8 + 93


def test_networks_without_room_for_the_inputs_are_refused() -> None:
    for depth, skip in ((2, None), (5, 4), (8, -1)):
        with pytest.raises(ConfigError, match="expected 0 to depth - 2"):
            DeformNetwork(8, depth, skip_after=skip)


def test_without_local_frames_there_is_no_head_for_them_as_in_scgs() -> None:
    network = DeformNetwork(8, 4, local_frame=False)
    network.initialise(torch.Generator().manual_seed(0))
    assert not any(name.startswith("local_rotation") for name in network.state_dict())
    motion = network(torch.rand(5, 3), torch.full((2, 1, 1), 0.5))
    assert motion.local_rotation.shape == (2, 5, 4)
    assert not motion.local_rotation.any()
    assert motion.translation.any()


def test_farthest_points_are_those_of_scgs() -> None:
    points, expected = STORED["fps/points"], STORED["fps/idx"].long()
    assert torch.equal(farthest_points(points, 64, int(expected[0])), expected)


def test_farthest_points_take_the_first_of_equals_and_refuse_too_many() -> None:
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert farthest_points(corners, 4).tolist() == [0, 3, 1, 2]
    with pytest.raises(DataError, match="5 points were asked for of 4"):
        farthest_points(corners, 5)


def test_neighbours_are_nearest_first_far_from_the_origin_too() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.rand(200, 3, generator=generator), torch.rand(40, 3, generator=generator)
    expected = torch.cdist(queries.double(), keys.double()).topk(4, largest=False).indices
    assert torch.equal(neighbours(queries, keys, 4), expected)
    assert torch.equal(neighbours(queries + 100, keys + 100, 1), expected[:, :1])
    with pytest.raises(DataError, match="41 neighbours"):
        neighbours(queries, keys, 41)


def test_initial_network_hardly_moves_and_is_decided_by_its_generator() -> None:
    def network(seed: int) -> DeformNetwork:
        made = DeformNetwork(64, 8)
        made.initialise(torch.Generator().manual_seed(seed))
        return made

    global_state = torch.get_rng_state()
    first, again, other = network(0), network(0), network(1)
    assert torch.equal(torch.get_rng_state(), global_state)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.gaussian_warp.weight, other.gaussian_warp.weight)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(2))
    motion = first(points, torch.full((1,), 0.3))
    assert 0 < float(motion.translation.detach().abs().max()) < 1e-3
    assert float(motion.local_rotation.detach().abs().max()) < 1e-2


def test_times_are_batched() -> None:
    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(12, 3, generator=generator, dtype=torch.float64)
    network = DeformNetwork(16, 6)
    network.initialise(generator)
    points = ControlPoints(positions, network.double(), hyper_dim=2, neighbours=3)
    gaussians = torch.rand(30, 3, generator=generator, dtype=torch.float64)
    weighting = points.skinning(gaussians, torch.zeros(30, 2, dtype=torch.float64))
    together = blend(gaussians, positions, points.motion([0.1, 0.7]), weighting)
    for index, time in enumerate((0.1, 0.7)):
        alone = blend(gaussians, positions, points.motion([time]), weighting)
        for several, single in zip(together, alone, strict=True):
            torch.testing.assert_close(several[index], single[0], rtol=0, atol=1e-15)


@pytest.mark.parametrize("residual", [False, True])
def test_rigid_motion_of_control_points_is_one_of_gaussians(residual: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    nodes, points = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (20, 80))
    quats = torch.randn(80, 4, generator=generator, dtype=torch.float64)
    quat = torch.nn.functional.normalize(torch.tensor([0.3, -0.8, 0.4, 0.2], dtype=torch.float64), dim=0)
    shift = torch.tensor([0.4, -0.1, 2.0], dtype=torch.float64)
    motion = rigid_motion(nodes, quat, shift)
    found = skin(
        points, nodes, torch.zeros(20).double(), torch.zeros(20).double(), motion, rotation_as_residual=residual
    )
    means, turned, _ = deform(points, quats, torch.ones(80, 3), found, rotation_as_residual=residual)
    rotation = rotation_matrices(quat)
    torch.testing.assert_close(means, points @ rotation.T + shift, rtol=0, atol=1e-12)
    if not residual:  # SC-GS's residual on the quaternion cannot express one rotation for all
        torch.testing.assert_close(
            rotation_matrices(turned), rotation @ rotation_matrices(quats), rtol=0, atol=1e-12
        )


def test_quaternion_product_is_that_of_rotations() -> None:
    generator = torch.Generator().manual_seed(4)
    left, right = (torch.randn(10, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    product = rotation_matrices(quaternion_product(left, right))
    torch.testing.assert_close(product, rotation_matrices(left) @ rotation_matrices(right), rtol=0, atol=1e-12)


def test_skinning_does_not_depend_on_the_order_of_control_points_or_gaussians() -> None:
    generator = torch.Generator().manual_seed(5)
    nodes, points = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (25, 60))
    radii, logits = (torch.randn(25, generator=generator, dtype=torch.float64) for _ in range(2))
    motion = random_motion(nodes, generator=generator)
    first = skin(points[:, :3], nodes, radii, logits, motion, hyper=points[:, 3:])
    order, turn = torch.randperm(25, generator=generator), torch.randperm(60, generator=generator)
    mixed = NodeMotion(*(part[order] for part in motion))
    second = skin(points[turn, :3], nodes[order], radii[order], logits[order], mixed, hyper=points[turn, 3:])
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one[turn], other, rtol=0, atol=1e-12)


def test_exact_gradients_reach_positions() -> None:
    generator = torch.Generator().manual_seed(6)
    nodes, points = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (10, 15))
    radii, logits = (torch.randn(10, generator=generator, dtype=torch.float64) * 0.3 for _ in range(2))
    motion = random_motion(nodes, 2, generator=generator)
    inputs = [part.requires_grad_() for part in (points, nodes, radii, logits, *motion)]

    def run(
        points: Tensor, nodes: Tensor, radii: Tensor, logits: Tensor, *motion: Tensor
    ) -> tuple[Tensor, ...]:
        moved = NodeMotion(*motion)
        return tuple(skin(points[:, :3], nodes, radii, logits, moved, hyper=points[:, 3:]))

    assert torch.autograd.gradcheck(run, inputs)


def test_half_a_turn_turns_the_gradient() -> None:
    """The reason for exact gradients: with SC-GS's, a turned Gaussian is pushed the wrong way."""
    nodes = torch.eye(3, dtype=torch.float64)
    point = torch.tensor([[0.3, 0.2, 0.1]], dtype=torch.float64, requires_grad=True)
    half_turn = rigid_motion(nodes, torch.tensor([0.0, 0.0, 0.0, 1.0]).double(), torch.zeros(3).double())
    zeros = torch.zeros(3, dtype=torch.float64)
    for detached, sign in ((False, -1.0), (True, 1.0)):
        found = skin(point, nodes, zeros, zeros, half_turn, detach_positions=detached)
        (gradient,) = torch.autograd.grad((point + found.translation)[0, 0], point)
        torch.testing.assert_close(gradient, torch.tensor([[sign, 0.0, 0.0]]).double(), rtol=0, atol=1e-12)


def test_radii_start_at_the_spacing() -> None:
    grid = torch.stack(torch.meshgrid(*[torch.arange(4.0)] * 3, indexing="ij"), -1).reshape(-1, 3) * 0.25
    torch.testing.assert_close(spacing(grid, 3), torch.full((64,), 0.25))
    points = ControlPoints(grid, DeformNetwork(8, 6), hyper_dim=0, neighbours=3)
    torch.testing.assert_close(points.log_radii.exp(), torch.full((64,), 0.25))
    with pytest.raises(ConfigError, match="3 neighbours of 2"):
        ControlPoints(grid[:2], DeformNetwork(8, 6), hyper_dim=0, neighbours=3)
