"""Loading of fields that the rivals fit, by the kind that their file names."""

from pathlib import Path

import torch

from mvtokenflow.base.damaged import damage, parse_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.tensor_files import read_tensors
from mvtokenflow.distill.cascade import KIND as CASCADE
from mvtokenflow.distill.cascade import load as load_cascade
from mvtokenflow.distill.fields import (
    FORMAT,
    ControlField,
    GaussianField,
    PlaneField,
    PointField,
    empty_gaussians,
    load_rival_field,
    plane_deformation,
)
from mvtokenflow.splat.timed import TimedField
from mvtokenflow.splat.timenet import TimeNet

SC4D_POINTS, SC4D_CONTROL = "sc4d-points", "sc4d-control"
_CURE = "copy it again, or run the method again"


def stored_kind(path: Path) -> str | None:
    """Return the kind of a rival's field that a file holds; None for another safetensors file.

    Raises:
        DataError: no such file, or a damaged one.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the field.safetensors of a run")
    metadata, _ = read_tensors(path, "cannot be read as safetensors", _CURE)
    if FORMAT not in metadata:
        return None
    with damage(path, "the field is damaged", _CURE):
        return str(parse_json(metadata[FORMAT])["kind"])


def load_stored_field(path: Path, device: str | torch.device = "cpu") -> TimedField:
    """Load the field of any rival.

    Raises:
        DataError: as `load_rival_field`, or a kind that no method here writes.
    """
    if stored_kind(path) == CASCADE:
        return load_cascade(path).to(device)
    return load_gaussian_field(path).to(device)


def load_gaussian_field(path: Path) -> GaussianField:
    """Load the field of a rival that moves Gaussians.

    Raises:
        DataError: as `load_rival_field`, or a field of another kind: a radiance field has no Gaussians.
    """
    kind = stored_kind(path)
    if kind == SC4D_POINTS:
        return load_points(path)
    if kind == SC4D_CONTROL:
        return load_control(path)
    if kind in ("stag4d", "dg4d"):
        return load_planes(path, kind)
    if kind == CASCADE:
        raise DataError(f"{path}: a radiance field, which has no Gaussians; look at its pictures instead")
    raise DataError(f"{path}: no field of Gaussians that a method here writes; give a field.safetensors")


def load_points(path: Path) -> PointField:
    """Load the field of SC4D's first stage.

    Raises:
        DataError: as `load_rival_field`.
    """
    facts, tensors = load_rival_field(path, SC4D_POINTS)
    with damage(path, "the field is damaged", _CURE):
        field = PointField(
            empty_gaussians(len(tensors["gaussians.means"])),
            tensors["log_radius"],
            TimeNet(facts["width"], facts["depth"]),
            facts["clock"],
            facts["pixel"],
        )
        field.load_state_dict(tensors)
    return field


def load_control(path: Path) -> ControlField:
    """Load the field of SC4D's second stage.

    Raises:
        DataError: as `load_rival_field`.
    """
    facts, tensors = load_rival_field(path, SC4D_CONTROL)
    with damage(path, "the field is damaged", _CURE):
        field = ControlField(
            empty_gaussians(len(tensors["gaussians.means"])),
            tensors["nodes"],
            tensors["log_radii"],
            TimeNet(facts["width"], facts["depth"]),
            facts["neighbours"],
            facts["clock"],
            facts["pixel"],
        )
        field.load_state_dict(tensors)
    return field


def load_planes(path: Path, kind: str) -> PlaneField:
    """Load a field of STAG4D or DreamGaussian4D.

    Raises:
        DataError: as `load_rival_field`.
    """
    facts, tensors = load_rival_field(path, kind)
    with damage(path, "the field is damaged", _CURE):
        deformation = plane_deformation(
            facts["resolution"], facts["factors"], facts["channels"], facts["width"], facts["heads"]
        )
        model = empty_gaussians(len(tensors["gaussians.means"]))
        field = PlaneField(model, deformation, facts["clock"], facts["pixel"])
        field.load_state_dict(tensors)
    return field
