"""The input's pose, as the prior's network estimates it, and a camera with that lens.

Era3D's network regresses, for each frame, the camera's elevation and 24 mm over the focal length of a sensor
32 mm wide. In its training the input was rendered with lenses of 35 to 135 mm from the distance at which the
picture is as wide as the prior's own orthographic views at the object's centre, or without perspective (0).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.multiview.preprocess import Crop
from mvtokenflow.views.cameras import Cameras, orbit

SENSOR_MM = 32.0
SHORTEST_MM, LONGEST_MM = 35.0, 135.0  # range of lenses in the training
STEEP_DEG = 10.0
_SCALE_MM = 24.0


@dataclass(frozen=True, kw_only=True)
class InputPose:
    """Pose estimates of the input for F frames.

    Attributes:
        elevation_deg: (F,) elevation of the input's camera, positive above the horizon.
        lens: (F,) 24 mm over the focal length; 0 is orthographic.
    """

    elevation_deg: tuple[float, ...]
    lens: tuple[float, ...]

    @classmethod
    def of(cls, pose: Tensor) -> "InputPose":
        """Convert the (F, 2) of `MultiviewFrames.pose`."""
        values = pose.detach().double().cpu()
        elevation, lens = torch.rad2deg(values[:, 0]).tolist(), values[:, 1].tolist()
        return cls(elevation_deg=tuple(elevation), lens=tuple(lens))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], name: str) -> "InputPose":
        """Read fields written by `to_dict`; `name` names them in messages.

        Raises:
            DataError: other fields, or values that are no numbers.
        """
        try:
            elevation = tuple(float(value) for value in fields["elevation_deg"])
            lens = tuple(float(value) for value in fields["lens"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{name}: not the pose of an input ({error}); make the run again") from error
        if not elevation or len(elevation) != len(lens):
            raise DataError(f"{name}: {len(elevation)} elevations and {len(lens)} lenses; make the run again")
        return cls(elevation_deg=elevation, lens=lens)

    def to_dict(self) -> dict[str, list[float]]:
        """Return the fields as JSON-able lists."""
        return {"elevation_deg": list(self.elevation_deg), "lens": list(self.lens)}

    @property
    def elevation(self) -> float:
        """Median elevation over the frames, in degrees."""
        return median(self.elevation_deg)

    @property
    def is_steep(self) -> bool:
        """Return whether the elevation is too high or low for the prior's level views to match the input."""
        return abs(self.elevation) > STEEP_DEG

    @property
    def focal_mm(self) -> float | None:
        """Focal length from the median of `lens`, on a sensor 32 mm wide; None where there is no perspective.

        A value nearer 0 than to the training's longest lens is none; beyond the shortest it is the shortest.
        """
        lens = median(self.lens)
        if lens < _SCALE_MM / LONGEST_MM / 2:
            return None
        return _SCALE_MM / min(lens, _SCALE_MM / SHORTEST_MM)


def read_pose(report: Path) -> InputPose | None:
    """Read the pose from the report beside generated views (`views.json` of a run); None if it has none.

    Raises:
        DataError: the file is damaged.
    """
    pose = read_json(report, dict, "make the run again", "cannot be read").get("pose")
    return None if pose is None else InputPose.from_dict(pose, f"{report}: pose")


def lens_cameras(
    focal_mm: float, crop: Crop, height: int, width: int, azimuth_deg: float, elevation_deg: float = 0.0
) -> Cameras:
    """Build a camera (1,) of the field's world with the estimated lens of the input.

    At azimuth and elevation 0 it sees the plane through the origin where the prior's front view sees it. The
    distance is 2 f / 32: a picture is 2 world units wide there. The principal point is the crop's middle.

    Args:
        focal_mm: f, of a sensor as wide as the prior's square picture and 32 mm.
        crop: position of that picture in the frames.
        height, width: size of the frames in pixels.
    """
    radius = 2 * focal_mm / SENSOR_MM
    camera = orbit((azimuth_deg,), elevation_deg, size=crop.size, kind="pinhole", radius=radius)
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]], dtype=torch.float64) * crop.size
    first, last, middle = crop.to_frame(corners)
    intrinsics = torch.eye(3, dtype=torch.float64)
    intrinsics[(0, 1), (0, 1)] = focal_mm / SENSOR_MM * (last - first)
    intrinsics[:2, 2] = middle
    return replace(camera, intrinsics=intrinsics[None].to(camera.intrinsics), width=width, height=height)
