"""Files of fields that planes deform, which STAG4D and DreamGaussian4D share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvtokenflow.distill.fields import (
    PlaneField,
    empty_gaussians,
    load_rival_field,
    plane_deformation,
    save_rival_field,
)


def save_planes(path: Path, field: PlaneField, kind: str, facts: Mapping[str, Any]) -> None:
    """Write a field atomically.

    Args:
        facts: clock, pixel, and resolution, factors, channels, width and heads of the deformation.
    """
    save_rival_field(path, field, kind, facts)


def load_planes(path: Path, kind: str) -> PlaneField:
    """Load a field of `save_planes`.

    Raises:
        DataError: as `load_rival_field`.
    """
    facts, tensors = load_rival_field(path, kind)
    deformation = plane_deformation(
        facts["resolution"], facts["factors"], facts["channels"], facts["width"], facts["heads"]
    )
    model = empty_gaussians(len(tensors["gaussians.means"]))
    field = PlaneField(model, deformation, facts["clock"], facts["pixel"])
    field.load_state_dict(tensors)
    return field
