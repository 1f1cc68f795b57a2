"""Era3D's network: parity with the original on stored weights, and what its structure implies."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from safetensors.torch import load_file
from torch import Tensor

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.multiview.attention import MultiviewBlock, MultiviewTransformer, pair_domains
from mvtokenflow.multiview.parts import Part
from mvtokenflow.multiview.unet import MultiviewUNet

DATA = Path(__file__).parents[1] / "data"
VIEWS = 6
SMALL: dict[str, Any] = {
    "in_channels": 5,
    "out_channels": 3,
    "block_out_channels": [16, 24],
    "down_block_types": ["CrossAttnDownBlockMV2D", "CrossAttnDownBlockMV2D"],
    "up_block_types": ["CrossAttnUpBlockMV2D", "CrossAttnUpBlockMV2D"],
    "layers_per_block": 1,
    "attention_head_dim": [2, 3],
    "cross_attention_dim": 10,
    "projection_class_embeddings_input_dim": 7,
    "norm_num_groups": 4,
    "regress_elevation": False,
    "regress_focal_length": False,
}


def taken(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def small(seed: int = 0, **changes: Any) -> MultiviewUNet:
    """A network with random weights everywhere, also where training starts from zero."""
    torch.manual_seed(seed)
    network = MultiviewUNet.from_config(SMALL | changes)
    for name, parameter in network.named_parameters():
        if "attn_mv.to_out" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


def inputs(groups: int = 2, size: tuple[int, int] = (8, 4), seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = 2 * groups * VIEWS
    return {
        "sample": torch.randn(count, 5, *size, generator=generator),
        "timestep": torch.tensor(345),
        "encoder_hidden_states": torch.randn(count, 4, 10, generator=generator),
        "class_labels": torch.randn(count, 7, generator=generator),
    }


def grouped(batch: Tensor) -> Tensor:
    """(domain, group, view, ...) of a batch."""
    return batch.view(2, -1, VIEWS, *batch.shape[1:])


@pytest.fixture(scope="session")
def tiny(shared: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    folder = shared / "parity"
    notes = json.loads((folder / "era3d_unet_tiny.json").read_text())
    config = notes["config"] | {"regress_hidden_dim": notes["regress_hidden_dim"]}
    return config, load_file(folder / "era3d_unet_tiny.safetensors")


@torch.no_grad()
def test_original_network(tiny: tuple[dict[str, Any], dict[str, Tensor]]) -> None:
    config, tensors = tiny
    network = MultiviewUNet.from_config(config).eval()
    network.load_state_dict(taken(tensors, "state_dict."), strict=True)
    given: dict[str, Any] = taken(tensors, "input.")
    output = network(**given)
    assert output.pose is not None
    # Measured 6.3e-6 and 1.8e-7; the original itself is 7e-6 from its float64 run.
    torch.testing.assert_close(output.sample, tensors["output.sample"], atol=3e-5, rtol=0)
    torch.testing.assert_close(output.pose, tensors["output.pose_pred"], atol=2e-6, rtol=0)

    wide = {name: x.double() if x.is_floating_point() else x for name, x in given.items()}
    output = network.double()(**wide)
    # Measured 1.8e-14 and 1e-15.
    torch.testing.assert_close(output.sample, tensors["output_f64.sample"], atol=1e-12, rtol=0)
    torch.testing.assert_close(output.pose, tensors["output_f64.pose_pred"], atol=1e-12, rtol=0)


@torch.no_grad()
def test_original_network_without_pose(tiny: tuple[dict[str, Any], dict[str, Tensor]]) -> None:
    config, tensors = tiny
    network = MultiviewUNet.from_config(config | {"regress_elevation": False, "regress_focal_length": False})
    pose_parts = ("camera_embedding", "elevation_regressor", "focal_regressor")
    weights = taken(tensors, "state_dict.")
    network.load_state_dict({name: x for name, x in weights.items() if not name.startswith(pose_parts)})
    output = network(**taken(tensors, "input."))
    assert output.pose is None
    torch.testing.assert_close(output.sample, tensors["output_noregress.sample"], atol=3e-5, rtol=0)


@torch.no_grad()
def test_original_block() -> None:
    tensors = taken(load_file(DATA / "era3d_block_tiny.safetensors"), "block.")
    block = MultiviewBlock(32, 4, 24, VIEWS)
    block.load_state_dict(taken(tensors, "state_dict."))
    seen = taken(tensors, "input.")
    tokens = pair_domains(seen["hidden_states"]).flatten(1, 2)
    context = pair_domains(seen["encoder_hidden_states"]).flatten(0, 1)
    mixed = block(tokens, context, height=5)
    unpaired = mixed.view(12, 2, 25, 32).transpose(0, 1).flatten(0, 1)
    # Measured 1.4e-6.
    torch.testing.assert_close(unpaired, tensors["output.hidden_states"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_original_spatial_transformer() -> None:
    tensors = taken(load_file(DATA / "era3d_block_tiny.safetensors"), "transformer2d.")
    transformer = MultiviewTransformer(32, 4, 24, VIEWS, layers=1, groups=8, linear=True)
    transformer.load_state_dict(taken(tensors, "state_dict."))
    seen = taken(tensors, "input.")
    context = pair_domains(seen["encoder_hidden_states"]).flatten(0, 1)
    part = Part(features=seen["hidden_states"], embedding=torch.zeros(1), context=context)
    transformer([part])
    torch.testing.assert_close(part.features, tensors["output.hidden_states"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("regress", "count", "size"), [(True, 838, 947_664_646), (False, 802, 919_783_684)])
def test_released_weights_fit(regress: bool, count: int, size: int) -> None:
    keys = json.loads((DATA / "era3d_unet_keys.json").read_text())
    with torch.device("meta"):
        network = MultiviewUNet.from_config(
            keys["config"] | {"regress_elevation": regress, "regress_focal_length": regress}
        )
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert len(shapes) == count
    assert sum(parameter.numel() for parameter in network.parameters()) == size
    pose_parts = () if regress else ("camera_embedding", "elevation_regressor", "focal_regressor")
    assert shapes == {
        name: shape for name, shape in keys["state_dict"].items() if not name.startswith(pose_parts)
    }


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (4, 12), (7, 5)])
@pytest.mark.parametrize("linear", [True, False])
def test_is_stable_diffusion_when_views_are_alone_and_domains_equal(
    size: tuple[int, int], linear: bool
) -> None:
    """Joint attention over two equal pictures is self-attention, and a new row-wise layer adds its bias 0."""
    torch.manual_seed(0)
    network = MultiviewUNet.from_config(SMALL | {"use_linear_projection": linear}).eval()
    for name, parameter in network.named_parameters():
        if "attn_mv.to_out.0.bias" in name:
            torch.nn.init.zeros_(parameter)
    make_stock: Any = UNet2DConditionModel  # diffusers carries no types
    stock = make_stock(
        in_channels=5,
        out_channels=3,
        block_out_channels=(16, 24),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(2, 3),
        cross_attention_dim=10,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=7,
        norm_num_groups=4,
        use_linear_projection=linear,
    ).eval()
    stock.load_state_dict(
        {name: x for name, x in network.state_dict().items() if "attn_mv" not in name and "norm_mv" not in name}
    )
    given = inputs(groups=1, size=size)
    for name in ("sample", "encoder_hidden_states", "class_labels"):
        given[name] = torch.cat([given[name][:VIEWS]] * 2)
    # Measured 1.2e-6.
    torch.testing.assert_close(network(**given).sample, stock(**given).sample, atol=1e-5, rtol=0)


@torch.no_grad()
def test_groups_are_independent() -> None:
    network = small(regress_elevation=True, regress_focal_length=True, regress_hidden_dim=6)
    given = inputs(groups=2)
    both = network(**given)
    assert both.pose is not None
    alone = {name: x if name == "timestep" else grouped(x)[:, 1].flatten(0, 1) for name, x in given.items()}
    one = network(**alone)
    assert one.pose is not None
    torch.testing.assert_close(grouped(both.sample)[:, 1].flatten(0, 1), one.sample, atol=1e-5, rtol=0)
    torch.testing.assert_close(both.pose[1:], one.pose, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 4), (4, 8)])
def test_row_attention_stays_in_its_row_and_domain(size: tuple[int, int]) -> None:
    """Checked on the block, because convolutions and joint attention mix rows and domains around it."""
    height, width = size
    torch.manual_seed(0)
    block = MultiviewBlock(8, 2, 10, VIEWS)
    projection: Any = block.attn_mv.to_out[0]
    torch.nn.init.normal_(projection.weight)
    tokens = torch.randn(VIEWS, 2, height, width, 8)
    moved = tokens.clone()
    moved[2, 1, 3] += 1.0  # view 2, colour, row 3
    change = block._across_views(moved.flatten(1, 3), height) - block._across_views(
        tokens.flatten(1, 3), height
    )
    touched = change.view(VIEWS, 2, height, width, 8).abs().amax(dim=(3, 4)) > 1e-6
    expected = torch.zeros(VIEWS, 2, height, dtype=torch.bool)
    expected[:, 1, 3] = True
    assert torch.equal(touched, expected)


@torch.no_grad()
@pytest.mark.parametrize("source", [(0, 0, 1), (1, 1, 4)])
def test_every_view_and_domain_of_a_group_is_seen(source: tuple[int, int, int]) -> None:
    network, given = small(), inputs(groups=2)
    before = network(**given).sample
    grouped(given["sample"])[source] += 0.5
    change = grouped(network(**given).sample - before).abs().amax(dim=(3, 4, 5))
    assert (change[:, source[1]] > 1e-5).all()
    assert (change[:, 1 - source[1]] < 1e-5).all()


@torch.no_grad()
def test_noise_levels_may_differ_between_pictures() -> None:
    network, given = small(), inputs(groups=1)
    levels = torch.arange(12) * 50
    mixed = network(**given | {"timestep": levels}).sample
    assert not torch.allclose(mixed, network(**given).sample, atol=1e-3)
    torch.testing.assert_close(
        network(**given | {"timestep": torch.full((12,), 345)}).sample, network(**given).sample
    )


def test_gradient_reaches_every_parameter() -> None:
    network = small(regress_elevation=True, regress_focal_length=True, regress_hidden_dim=6).train()
    output = network(**inputs())
    assert output.pose is not None
    (output.sample.square().mean() + output.pose.square().mean()).backward()
    idle = [name for name, x in network.named_parameters() if x.grad is None or not x.grad.abs().max() > 0]
    assert idle == []


def test_pose_does_not_steer_the_trunk() -> None:
    network = small(regress_elevation=True, regress_focal_length=True, regress_hidden_dim=6)
    given = inputs()
    pose = network(**given).pose
    assert pose is not None
    pose.sum().backward()
    reached = {name.split(".")[0] for name, x in network.named_parameters() if x.grad is not None}
    assert reached == {"elevation_regressor", "focal_regressor"}


def test_training_starts_from_views_that_are_alone() -> None:
    torch.manual_seed(0)
    network = MultiviewUNet.from_config(SMALL)
    outputs = [x for name, x in network.named_parameters() if name.endswith("attn_mv.to_out.0.weight")]
    assert len(outputs) == 7
    assert all(not x.any() for x in outputs)


@torch.no_grad()
def test_processors_can_be_exchanged() -> None:
    network, given = small(), inputs()
    before = network(**given).sample
    kept = dict(network.attn_processors)
    names = {name.rsplit(".", 2)[-2] for name in kept}
    assert names == {"attn1", "attn_mv", "attn2"}
    stock: Any = AttnProcessor2_0  # diffusers carries no types
    network.set_attn_processor({name: stock() for name in kept})
    torch.testing.assert_close(network(**given).sample, before, atol=1e-5, rtol=0)
    network.set_attn_processor(dict(kept))
    assert torch.equal(network(**given).sample, before)


@pytest.mark.slow
def test_compiles_into_one_graph() -> None:
    network, given = small(regress_elevation=True, regress_focal_length=True, regress_hidden_dim=6), inputs()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    expected, output = network(**given), compiled(**given)
    torch.testing.assert_close(output.sample, expected.sample, atol=1e-5, rtol=0)


@torch.no_grad()
def test_channels_last_gives_the_same() -> None:
    network, given = small(), inputs()
    expected = network(**given).sample
    given["sample"] = given["sample"].to(memory_format=torch.channels_last)
    output = network.to(memory_format=torch.channels_last)(**given).sample
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"selfattn_block": "rowwise"}, "selfattn_block is 'rowwise', expected 'self_rowwise'"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ({"view_count": 4}, "unknown key 'view_count'"),
        ({"regress_elevation": True}, "both or neither"),
        ({"layers_per_block": [1, 1, 1]}, "layers_per_block"),
        ({"attention_head_dim": [5, 3]}, "multiples"),
        ({"up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}, "AttnUpBlock2D"),
        ({"class_embed_type": "timestep"}, "class_embed_type"),
    ],
)
def test_other_networks_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MultiviewUNet.from_config(SMALL | change)


def test_bookkeeping_of_training_is_ignored() -> None:
    extra: dict[str, Any] = {
        "decay": 0.9999,
        "optimization_step": 40000,
        "use_ema_warmup": False,
        "_class_name": "x",
    }
    plain, noted = small(), small(**extra)
    assert plain.config == noted.config


def test_missing_class_labels_are_named() -> None:
    given = inputs()
    del given["class_labels"]
    with pytest.raises(ValueError, match="class_labels"):
        small()(**given)


@torch.no_grad()
def test_network_without_class_labels() -> None:
    given = inputs()
    del given["class_labels"]
    assert small(class_embed_type=None)(**given).sample.shape == (24, 3, 8, 4)
