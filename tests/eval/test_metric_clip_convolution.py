"""Fast 3x3x3 convolutions of clips: those of torch, for every size, and the same in every batch."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.eval.metrics.compute.winograd3d import ClipConvolution


def _layer(inputs: int, outputs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, 3, 3, 3, generator=generator) / (27 * inputs) ** 0.5
    return weight, 0.1 * torch.randn(outputs, generator=generator)


def _clips(*shape: int) -> Tensor:
    clips = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return clips.contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("size", [(1, 1), (3, 4), (7, 7), (8, 13), (14, 14)])
@torch.inference_mode()
def test_they_are_those_of_torch(steps: int, size: tuple[int, int]) -> None:
    weight, bias = _layer(5, 6)
    clips = _clips(2, 5, steps, *size)
    expected = F.relu(F.conv3d(clips.double(), weight.double(), bias.double(), padding=1))
    found = ClipConvolution(weight, bias)(clips)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 5e-6  # measured 2e-6


@torch.inference_mode()
def test_a_clip_does_not_depend_on_those_beside_it() -> None:
    layer, clips = ClipConvolution(*_layer(4, 3)), _clips(3, 4, 4, 9, 9)
    whole = layer(clips)
    for position in range(3):
        assert torch.equal(layer(clips[position : position + 1]), whole[position : position + 1])


@torch.inference_mode()
def test_channels_stay_last_in_memory() -> None:
    made = ClipConvolution(*_layer(4, 8))(_clips(1, 4, 3, 8, 8))
    assert made.is_contiguous(memory_format=torch.channels_last_3d)
