"""Consistent4D's field as a function of a clip's time, and its file."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mvtokenflow.distill.fields import frame_at, load_rival_field, save_rival_field
from mvtokenflow.radiance.cascade import CascadeField, CascadeLevel
from mvtokenflow.radiance.occupancy import Occupancy
from mvtokenflow.radiance.planes import planes_of, signed_time
from mvtokenflow.radiance.render import render_cascade
from mvtokenflow.splat.field import Render
from mvtokenflow.splat.timed import WHITE
from mvtokenflow.views.cameras import Cameras

KIND = "consistent4d"


class TimedCascade(nn.Module):
    """A cascade of planes whose last level is drawn at times of a clip.

    Args:
        cascade: the field. occupancy: cells that hold something at some time.
        clock: times of the frames, increasing, in [0, 1]. samples: per ray.
    """

    occupied: Tensor

    def __init__(
        self, cascade: CascadeField, occupancy: Occupancy, clock: Sequence[float], samples: int
    ) -> None:
        super().__init__()
        self.cascade, self.clock, self.samples = cascade, tuple(clock), samples
        self.register_buffer("occupied", occupancy.values)

    @property
    def occupancy(self) -> Occupancy:
        """Return the cells that hold something."""
        return Occupancy(self.occupied, self.cascade.radius)

    @torch.no_grad()
    def render(
        self,
        cameras: Cameras,
        t: float,
        *,
        background: Sequence[float] = WHITE,
        flow_to: float | None = None,
    ) -> Render:
        """Render pictures at time t in [0, 1]; a radiance field has no flow."""
        frame = frame_at(self.clock, t)
        times = torch.full((len(cameras),), signed_time(frame, len(self.clock)))
        made = render_cascade(self.cascade, cameras, times, self.samples, occupancy=self.occupancy)
        rgb, alpha = made.rgb[-1], made.opacity[-1]  # on white
        rgb = rgb + (1 - alpha) * (rgb.new_tensor(tuple(background)) - 1)
        return Render(rgb=rgb, alpha=alpha, depth=made.depth[-1], cameras=cameras, meta={})


def save(path: Path, field: TimedCascade) -> None:
    """Write a field atomically."""
    levels = [
        {"resolution": _resolution(planes), "channels": planes[0].shape[1], "width": _width(network)}
        for planes, network in zip(planes_of(field.cascade.grids), field.cascade.density_network, strict=True)
    ]
    save_rival_field(path, field, KIND, {"clock": field.clock, "samples": field.samples, "levels": levels})


def load(path: Path) -> TimedCascade:
    """Load a field of `save`.

    Raises:
        DataError: as `distill.fields.load_rival_field`.
    """
    facts, tensors = load_rival_field(path, KIND)
    levels = [CascadeLevel(**level) for level in facts["levels"]]
    cascade = CascadeField(levels)
    field = TimedCascade(
        cascade, Occupancy(tensors["occupied"], cascade.radius), facts["clock"], facts["samples"]
    )
    field.load_state_dict(tensors)
    return field


def _resolution(planes: Sequence[Tensor]) -> list[int]:
    """Return the numbers of entries along x, y, z, t of six planes: xy is (y, x), zt is (t, z)."""
    (y, x), (t, z) = planes[0].shape[2:], planes[-1].shape[2:]
    return [x, y, z, t]


def _width(network: nn.Module) -> int:
    first = next(iter(network.parameters()))
    return int(first.shape[0])
