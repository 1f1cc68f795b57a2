"""Small fields of rivals in their own files: planes that move Gaussians, and a radiance field."""

from collections.abc import Sequence
from pathlib import Path

import torch
from moving import moving_field

from mvtokenflow.distill.cascade import TimedCascade
from mvtokenflow.distill.cascade import save as save_cascade
from mvtokenflow.distill.fields import PlaneField, plane_deformation, save_rival_field
from mvtokenflow.radiance.cascade import CascadeField, CascadeLevel
from mvtokenflow.radiance.occupancy import Occupancy


def write_planes(path: Path, times: Sequence[float]) -> PlaneField:
    """Write a field of DreamGaussian4D: the Gaussians of `moving_field`, moved by random planes."""
    deformation = plane_deformation((4, 4, 4, 4), (1,), 4, 8, "residual")
    deformation.initialise(torch.Generator().manual_seed(0))
    still = moving_field().gaussians
    still = type(still)(**{**{n: v.detach() for n, v in still.named().items()}, "hyper": torch.zeros(300, 0)})
    field = PlaneField(still, deformation, times, 2 / 64)
    facts = {"clock": list(times), "pixel": 2 / 64, "resolution": (4, 4, 4, 4), "factors": (1,), "channels": 4}
    save_rival_field(path, field, "dg4d", {**facts, "width": 8, "heads": "residual"})
    return field


def write_radiance(path: Path, times: Sequence[float]) -> TimedCascade:
    """Write a field of Consistent4D: a blob of random colours."""
    cascade = CascadeField([CascadeLevel(resolution=(4, 4, 4, 3), channels=3, width=8)])
    cascade.initialise(torch.Generator().manual_seed(0))
    field = TimedCascade(cascade, Occupancy(torch.ones(4, 4, 4), cascade.radius), times, 16)
    save_cascade(path, field)
    return field
