"""Linear layers whose initial values come from a given generator, never from the global one."""

import math

import torch
from torch import Tensor, nn


def zero_linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Build a linear layer of zeros."""
    layer = nn.Linear(inputs, outputs, bias=bias, device="meta")
    layer.weight = nn.Parameter(torch.zeros(outputs, inputs))
    if bias:
        layer.bias = nn.Parameter(torch.zeros(outputs))
    return layer


@torch.no_grad()
def fill_uniform(tensor: Tensor, bound: float, generator: torch.Generator) -> None:
    """Fill a tensor uniformly in ±bound, drawn on the generator's device."""
    tensor.copy_((2 * torch.rand(tensor.shape, generator=generator) - 1) * bound)


def fill_default(layer: nn.Linear, generator: torch.Generator) -> None:
    """Draw what torch gives a new linear layer: weights, then biases, uniform in ±1/sqrt(inputs)."""
    bound = 1 / math.sqrt(layer.in_features)
    fill_uniform(layer.weight, bound, generator)
    if layer.bias is not None:
        fill_uniform(layer.bias, bound, generator)


def fill_xavier(layer: nn.Linear, generator: torch.Generator) -> None:
    """Draw Xavier-uniform weights in ±sqrt(6 / (inputs + outputs)), then torch's default biases."""
    fill_uniform(layer.weight, math.sqrt(6 / (layer.in_features + layer.out_features)), generator)
    if layer.bias is not None:
        fill_uniform(layer.bias, 1 / math.sqrt(layer.in_features), generator)
