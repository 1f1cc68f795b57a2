"""A small field that moves, for tests."""

from typing import Any

import torch

from mvtokenflow.splat.config import FieldConfig
from mvtokenflow.splat.field import DynamicField

PIXEL = 2 / 64


def moving_field(seed: int = 0, count: int = 300, nodes: int = 8, **settings: Any) -> DynamicField:
    """Build a ball of Gaussians that control points move by up to a fifth of its size, always the same."""
    generator = torch.Generator().manual_seed(seed)
    points = 0.35 * torch.randn(count, 3, generator=generator).clamp(-1.5, 1.5)
    colors = 0.5 + 0.35 * torch.sin(3 * points) + 0.1 * torch.rand(count, 3, generator=generator)
    config = FieldConfig(control_points=nodes, **{"hyper_dim": 2, "width": 16, "neighbours": 3} | settings)
    field = DynamicField.from_points(config, points, colors, pixel=PIXEL)
    with torch.no_grad():
        model = field.gaussians
        model.logit_opacities.copy_(3 * torch.rand(count, generator=generator) - 0.5)
        model.log_scales.add_(0.5 * torch.randn(count, 3, generator=generator) - 1.1)
        model.quats.copy_(torch.randn(count, 4, generator=generator))
        model.features_rest.copy_(0.15 * torch.randn(model.features_rest.shape, generator=generator))
    field = field.with_control_points(generator=generator)
    with torch.no_grad():
        for value in field.control.network.parameters() if field.control else ():
            value.add_(0.02 * torch.randn(value.shape, generator=generator))
    return field
