"""The network that moves control points over time (Huang et al. 2024, SC-GS)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.layers import fill_default, fill_uniform, zero_linear

_POINT_BANDS = 10
_TIME_BANDS = 10
_TIME_BANDS_NETWORK = 6
_TIME_WIDTH = (256, 30)  # hidden and output units of the time network
_HEAD_STD = {"gaussian_warp": 1e-5, "gaussian_rotation": 1e-5, "gaussian_scaling": 1e-8, "local_rotation": 1e-4}


class NodeMotion(NamedTuple):
    """Motion of M control points at some times, raw outputs of the network: zero is no motion.

    Attributes:
        translation: (..., M, 3) world units.
        rotation: (..., M, 4) added to the wxyz of Gaussians, or, plus (1, 0, 0, 0), multiplied onto it.
        scaling: (..., M, 3) added to the scales of Gaussians, world units.
        local_rotation: (..., M, 4); plus (1, 0, 0, 0) the wxyz of the control point's own frame.
    """

    translation: Tensor
    rotation: Tensor
    scaling: Tensor
    local_rotation: Tensor


def encode(values: Tensor, bands: int) -> Tensor:
    """Encode values sinusoidally, (..., D) to (..., D·(1 + 2·bands)).

    The value comes first, then sin and cos of 2^k times it, without π.
    """
    waves = [wave(values * 2.0**k) for k in range(bands) for wave in (torch.sin, torch.cos)]
    return torch.cat([values, *waves], dim=-1)


class DeformNetwork(nn.Module):
    """Multilayer perceptron that maps a control point and a time to its motion.

    Parameters carry SC-GS's names and shapes, so its checkpoints load. All are zero until `initialise` or
    `load_state_dict`.

    Args:
        width: hidden units. depth: hidden layers.
        skip_after: index of the layer after which the inputs are concatenated again, 0 to depth − 2; None is
            depth // 2, as in SC-GS, for 3 layers or more.
        time_network: True encodes time by 6 bands and a small network (SC-GS's `is_blender`), False by 10
            bands alone.
        local_frame: whether there is a head for `NodeMotion.local_rotation`, which is zero without (SC-GS's
            `local_frame`).

    Raises:
        ConfigError: `skip_after` is out of range.
    """

    def __init__(
        self,
        width: int = 256,
        depth: int = 8,
        *,
        skip_after: int | None = None,
        time_network: bool = True,
        local_frame: bool = True,
    ) -> None:
        super().__init__()
        self.skip_after = depth // 2 if skip_after is None else skip_after
        if not 0 <= self.skip_after <= depth - 2:
            raise ConfigError(
                f"skip_after is {self.skip_after} in a network of {depth} layers; expected 0 to depth - 2"
            )
        self.time_bands = _TIME_BANDS_NETWORK if time_network else _TIME_BANDS
        inputs = 3 * (1 + 2 * _POINT_BANDS)
        time_inputs = 1 + 2 * self.time_bands
        self.timenet: nn.Sequential | None = None
        if time_network:
            hidden, out = _TIME_WIDTH
            self.timenet = nn.Sequential(zero_linear(time_inputs, hidden), nn.ReLU(), zero_linear(hidden, out))
            time_inputs = out
        inputs += time_inputs
        layers = [zero_linear(inputs, width)]
        layers += [
            zero_linear(width + inputs if index == self.skip_after else width, width)
            for index in range(depth - 1)
        ]
        self.linear = nn.ModuleList(layers)
        self.gaussian_warp = zero_linear(width, 3)
        self.gaussian_scaling = zero_linear(width, 3)
        self.gaussian_rotation = zero_linear(width, 4)
        self.local_rotation = zero_linear(width, 4) if local_frame else None

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw SC-GS's initial weights: almost no motion at first; biases of the trunk are zero.

        `generator` lives on the CPU, so that the initial weights are the same on every device.
        """
        if self.timenet is not None:
            for layer in self.timenet:
                if isinstance(layer, nn.Linear):
                    fill_default(layer, generator)  # which SC-GS leaves here
        for layer in self.linear:
            assert isinstance(layer, nn.Linear)
            fill_uniform(layer.weight, math.sqrt(6 / layer.in_features), generator)
            layer.bias.zero_()
        for name, std in _HEAD_STD.items():
            head: nn.Linear | None = getattr(self, name)
            if head is None:
                continue
            drawn = torch.randn(head.weight.shape, generator=generator)
            head.weight.copy_(drawn * std)
            head.bias.zero_()

    def forward(self, points: Tensor, times: Tensor) -> NodeMotion:
        """Compute the motion of control points at given times.

        Args:
            points: (..., 3) canonical positions. times: (..., 1) in [0, 1]. Leading sizes broadcast: points
                (M, 3) and times (T, 1, 1) give (T, M, ·).
        """
        embedded_time = encode(times, self.time_bands)
        if self.timenet is not None:
            embedded_time = self.timenet(embedded_time)
        lead = (points[..., :1] + times).shape[:-1]
        embedded = [encode(points, _POINT_BANDS), embedded_time]
        inputs = torch.cat([part.expand(*lead, part.shape[-1]) for part in embedded], dim=-1)
        hidden = inputs
        for index, layer in enumerate(self.linear):
            hidden = torch.relu(layer(hidden))
            if index == self.skip_after:
                hidden = torch.cat([inputs, hidden], dim=-1)
        rotation = self.gaussian_rotation(hidden)
        local = self.local_rotation
        return NodeMotion(
            translation=self.gaussian_warp(hidden),
            rotation=rotation,
            scaling=self.gaussian_scaling(hidden),
            local_rotation=torch.zeros_like(rotation) if local is None else local(hidden),
        )
