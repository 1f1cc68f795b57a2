"""Anchored attention: numbers of STAG4D (`data/rival_stag4d`, `conftest.rival`), and a small network."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.multiview.attention import SdpaProcessor
from mvtokenflow.multiview.passes import Step, check_passes
from mvtokenflow.tokenflow.anchor import Anchor, anchored, anchored_attention

Numbers = Callable[[str, str], tuple[dict[str, Tensor], dict[str, Any]]]
STEP = Step(index=0, count=4, timestep=999, frames=4, views=2, halves=2, chunk=2)


def attention(channels: int, heads: int) -> Attention:
    made: Any = Attention(query_dim=channels, heads=heads, dim_head=channels // heads)
    made.set_processor(SdpaProcessor())
    attn: Attention = made.requires_grad_(False).eval()
    return attn


class Network(torch.nn.Module):
    """Two self-attention layers with a skip each, on tokens (halves f V, L, C)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = torch.nn.ModuleList(torch.nn.ModuleDict({"attn1": attention(8, 2)}) for _ in range(2))

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = tokens + block["attn1"](tokens)  # type: ignore[index]
        return tokens


def run(network: Network, controller: Anchor, tokens: Tensor, step: Step = STEP) -> Tensor:
    """Run one noise level on tokens (halves, F, V, L, C)."""
    out = torch.full_like(tokens, torch.nan)
    passes = controller.passes(step)
    check_passes(passes, step)
    for current in passes:
        chosen = list(current.frames)
        with controller.running(step, current):
            out[:, chosen] = network(tokens[:, chosen].flatten(0, 2)).view_as(out[:, chosen])
    return out


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("case", ["anchor_attention", "anchor_attention_half", "anchor_attention_mid"])
def test_attention_of_stag4d(rival: Numbers, case: str, dtype: torch.dtype) -> None:
    given, says = rival("stag4d", case)
    tolerance = {torch.float64: 1e-11, torch.float32: 1e-5}[dtype]
    config = says["config"]
    attn: Any = attention(config["channels"], config["heads"]).to(dtype)
    weights = {"q": attn.to_q.weight, "k": attn.to_k.weight, "v": attn.to_v.weight, "o": attn.to_out[0].weight}
    for name, weight in (weights | {"o_bias": attn.to_out[0].bias}).items():
        weight.copy_(given[f"in/{name}"])
    tensors = {name: given[f"in/{name}"].to(dtype) for name in ("frame0", "frame1", "reference0", "reference1")}
    first, second = (torch.cat([tensors[f"frame{n}"], tensors[f"reference{n}"]], dim=1) for n in (0, 1))
    found = {
        "frame0": attn(tensors["frame0"], second * 0 + first),
        "frame1_alone": attn(tensors["frame1"], second),
        "frame1": anchored_attention(attn, tensors["frame1"], second, first, count=config["mixed_tokens"]),
    }
    for name, value in found.items():
        gap = float((value.double() - given[f"out/{name}"]).abs().max())
        assert gap <= tolerance * float(given[f"out/{name}"].abs().max()), name


def test_more_tokens_than_there_are_mixes_all() -> None:
    own, anchor = noise(1, 3, 2), noise(1, 3, 2, seed=2)
    assert torch.equal(anchored(own, anchor, count=9), anchored(own, anchor))
    assert torch.equal(anchored(own, anchor, count=2)[:, 2:], own[:, 2:])
    assert torch.equal(anchored(own, anchor, share=0.0), own)
    with pytest.raises(ValueError, match="differ"):
        anchored(own, anchor[:, :1])


def test_equal_frames_stay_what_they_are_without_an_anchor() -> None:
    network = Network()
    tokens = noise(2, 1, 2, 5, 8).expand(2, 4, 2, 5, 8)
    plain = network(tokens.flatten(0, 2)).view_as(tokens)
    with Anchor(network) as controller:
        torch.testing.assert_close(run(network, controller, tokens), plain, atol=2e-6, rtol=0)


@pytest.mark.parametrize("frame", [0, 2])
def test_the_anchor_is_not_changed_and_the_others_follow_it(frame: int) -> None:
    network, tokens = Network(), noise(2, 4, 2, 5, 8)
    plain = network(tokens.flatten(0, 2)).view_as(tokens)
    with Anchor(network, frame) as controller:
        found = run(network, controller, tokens)
        alone = run(network, controller, tokens, replace(STEP, chunk=1))
    torch.testing.assert_close(found[:, frame], plain[:, frame], atol=2e-6, rtol=0)
    torch.testing.assert_close(found, alone, atol=2e-6, rtol=0)
    layers: list[Any] = [block["attn1"] for block in network.blocks]  # type: ignore[index]
    other = (frame + 1) % 4
    own, anchor = tokens[:, other].flatten(0, 1), tokens[:, frame].flatten(0, 1)
    for layer in layers:
        mixed = anchored_attention(layer, own, own, anchor)
        own, anchor = own + mixed, anchor + layer(anchor)
    torch.testing.assert_close(found[:, other].flatten(0, 1), own, atol=2e-6, rtol=0)


def test_frames_with_independent_noise_vary_less() -> None:
    network = Network()
    tokens = noise(2, 1, 2, 5, 8) + 0.5 * noise(2, 8, 2, 5, 8, seed=3)
    step = replace(STEP, frames=8)
    attended = [network(tokens.flatten(0, 2)).view_as(tokens) - tokens]
    with Anchor(network) as controller:
        attended.append(run(network, controller, tokens, step) - tokens)
    free, tied = (part[:, 1:].var(dim=1).mean() for part in attended)
    assert float(tied) < 0.8 * float(free)


def test_processors_return_and_wrong_use_is_refused() -> None:
    network = Network()
    before = [module.processor for module in network.modules() if isinstance(module, Attention)]
    with pytest.raises(ConfigError, match="frame 4"), Anchor(network, 4) as controller:
        controller.passes(STEP)
    assert [module.processor for module in network.modules() if isinstance(module, Attention)] == before
    with pytest.raises(ValueError, match="not installed"), controller.running(STEP, controller.passes):  # type: ignore[arg-type]
        pass
    with pytest.raises(ConfigError, match="share is 2"):
        Anchor(network, share=2.0)
    with Anchor(network) as controller:
        *_, last = controller.passes(STEP)
        with pytest.raises(ValueError, match="before the anchor has run"), controller.running(STEP, last):
            network(noise(8, 5, 8))
