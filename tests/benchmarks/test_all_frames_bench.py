"""The benchmark of attention over all frames: what it counts, and that memory grows as it says."""

import importlib
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mvtokenflow.multiview.unet import MultiviewUNet

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CHANNELS, SIZE, VIEWS = (32, 32), 64, 6  # latents of 8 x 8
LAYERS = {8: 3, 4: 4}  # attn1 modules per side of the token grid: 1 down and 2 up, and 1 in the middle

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("all_frames")


def network(device: str) -> MultiviewUNet:
    """Era3D's inputs, small inside."""
    torch.manual_seed(0)
    with torch.device(device):
        unet = MultiviewUNet.from_config(
            {
                "block_out_channels": list(CHANNELS),
                "down_block_types": ["CrossAttnDownBlockMV2D"] * 2,
                "up_block_types": ["CrossAttnUpBlockMV2D"] * 2,
                "layers_per_block": 1,
                "attention_head_dim": [2, 2],
                "cross_attention_dim": 1024,
                "projection_class_embeddings_input_dim": 2048,
                "regress_hidden_dim": 4,
            }
        )
    return unet.eval().requires_grad_(False)


def case(bench: ModuleType, frames: int, **changes: Any) -> Any:
    given = {"frames": frames, "size": SIZE, "enlarged": "all", "halves": 1, "dtype": "float32"} | changes
    return bench.Case(**given)


def test_operations_of_attention_are_those_of_its_formula(bench: ModuleType) -> None:
    """Scores and mixing: two products of (frames 2 L)^2 C, per view; without enlargement within each frame."""
    unet, frames = network("meta"), 3
    together = bench.count(case(bench, frames), unet)
    apart = bench.count(case(bench, frames, enlarged="off"), unet)
    single = sum(4 * (2 * side**2) ** 2 * CHANNELS[0] * layers for side, layers in LAYERS.items())
    assert together.attention - apart.attention == VIEWS * single * (frames**2 - frames)
    # The same layers at the same sizes, whatever they are called for: keys and values are made once.
    assert together.dense == apart.dense == bench.count(case(bench, frames, chunk=frames), unet).dense


@pytest.mark.slow  # a script's own count; the products are counted above
def test_memory_grows_by_what_has_to_be_held(bench: ModuleType) -> None:
    """Per frame: latents, text and labels, features kept for the way up, features, tokens, keys and values."""
    unet, counts = network("meta"), (9, 13, 17)
    parts, whole = (
        [bench.count(case(bench, frames, chunk=chunk or frames), unet).held for frames in counts]
        for chunk in (1, 0)
    )
    (first, second), (whole_first, _) = (
        [(later - earlier) // 4 for earlier, later in pairwise(held)] for held in (parts, whole)
    )
    assert first == second
    pictures, plane = 2 * VIEWS, CHANNELS[0] * (SIZE // 8) ** 2
    # On the way down, in the first attention: the input's features and the layer's, tokens, keys, values.
    held = pictures * plane * 5 * 4
    given = pictures * 4 * (8 * 8 * 8 + 2 * 77 * 1024 + 2048 + 2 * 4 * CHANNELS[0])
    assert held < first < held + 2 * given
    assert whole_first > first + 4 * pictures * plane * 4


@pytest.mark.parametrize("propagation", ["none", "front", "all"])
def test_what_is_measured_is_the_same_in_parts(bench: ModuleType, propagation: str) -> None:
    unet = network("cpu")
    parts, whole = (
        bench.run_level(unet, case(bench, 3, propagation=propagation, chunk=chunk, halves=2), "cpu")
        for chunk in (1, 3)
    )
    assert parts.shape == (3, 2, 2 * VIEWS, 4, SIZE // 8, SIZE // 8)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)
    assert (parts[0] - parts[1]).abs().max() > 1e-3
