"""Interface of a field to what draws its pictures at times of a clip."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from mvtokenflow.splat.field import Render
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.views.cameras import Cameras

WHITE = (1.0, 1.0, 1.0)


class TimedField(Protocol):
    """A field whose pictures can be drawn at any time of the clip."""

    def render(
        self,
        cameras: Cameras,
        t: float,
        *,
        background: Sequence[float] = WHITE,
        flow_to: float | None = None,
    ) -> Render:
        """Render pictures at time t in [0, 1], and the flow to another time where the field has one."""
        ...


@runtime_checkable
class MovingGaussians(TimedField, Protocol):
    """A field of Gaussians, the same ones at all times."""

    def at(self, t: float) -> Gaussians:
        """Return the Gaussians at time t in [0, 1]."""
        ...
