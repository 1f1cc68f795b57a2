"""Cameras assumed for datasets that do not state them."""

import math
from dataclasses import dataclass, replace

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.views.cameras import CameraKind, Cameras, orbit


@dataclass(frozen=True, kw_only=True)
class AssumedCamera:
    """Cameras on a level circle that look at its centre; square pixels, principal point in the middle.

    Attributes:
        distance: from the centre, in world units.
        fov_deg: full vertical field of view.
        kind: an orthographic camera sees as much as the pinhole camera does at the centre.
    """

    distance: float = 2.0
    fov_deg: float = 49.1
    kind: CameraKind = "pinhole"

    def __post_init__(self) -> None:
        if not self.distance > 0 or not 0 < self.fov_deg < 180:
            raise ConfigError(
                f"distance is {self.distance}, fov_deg is {self.fov_deg}; expected more than 0, and 0 to 180"
            )

    def at(self, azimuth_deg: float, width: int, height: int) -> Cameras:
        """Return the camera (1,) at an azimuth, for pictures of `width` x `height` pixels."""
        made = orbit(
            (azimuth_deg,),
            size=height,
            kind=self.kind,
            radius=self.distance,
            half_width=self.distance * math.tan(math.radians(self.fov_deg / 2)),
            fov_deg=self.fov_deg,
        )
        intrinsics = made.intrinsics.clone()
        intrinsics[:, 0, 2] = width / 2
        return replace(made, intrinsics=intrinsics, width=width)

    def __str__(self) -> str:
        if self.kind == "ortho":
            return "orthographic"
        return (
            f"pinhole, at distance {self.distance:g}, with a vertical field of view of {self.fov_deg:g} degrees"
        )
