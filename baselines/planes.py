"""What STAG4D and DreamGaussian4D share: parameters and files of fields that planes deform."""

from pathlib import Path
from typing import Protocol

from mvtokenflow.distill.fields import PlaneField, save_rival_field
from mvtokenflow.distill.training import Group, gaussian_groups


class PlaneSettings(Protocol):
    """Sizes of the planes and first learning rates, as both methods' settings have them."""

    @property
    def resolution(self) -> tuple[int, int, int, int]: ...
    @property
    def factors(self) -> tuple[int, ...]: ...
    @property
    def channels(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def means(self) -> float: ...
    @property
    def colours(self) -> float: ...
    @property
    def opacities(self) -> float: ...
    @property
    def scales(self) -> float: ...
    @property
    def quats(self) -> float: ...
    @property
    def planes(self) -> float: ...
    @property
    def network(self) -> float: ...


def plane_groups(field: PlaneField, settings: PlaneSettings) -> list[Group]:
    """List the parameters of the Gaussians, the planes and their network with their first learning rates."""
    rates = {
        "means": settings.means,
        "features_dc": settings.colours,
        "logit_opacities": settings.opacities,
        "log_scales": settings.scales,
        "quats": settings.quats,
    }
    named = field.deformation.named_parameters()
    network = [parameter for name, parameter in named if not name.startswith("grid.")]
    return [
        *gaussian_groups(field.gaussians, rates),
        ("planes", list(field.deformation.grid.parameters()), settings.planes),
        ("network", network, settings.network),
    ]


def save_planes(path: Path, field: PlaneField, kind: str, settings: PlaneSettings) -> None:
    """Write a field atomically, with the sizes that it is built from."""
    facts = {
        "clock": field.clock,
        "pixel": field.pixel,
        "resolution": settings.resolution,
        "factors": settings.factors,
        "channels": settings.channels,
        "width": settings.width,
        "heads": field.deformation.kind,
    }
    save_rival_field(path, field, kind, facts)
