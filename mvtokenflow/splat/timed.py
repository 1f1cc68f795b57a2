"""Interface of a field to what draws its pictures at times of a clip."""

from typing import Protocol

from mvtokenflow.splat.field import Render
from mvtokenflow.views.cameras import Cameras


class TimedField(Protocol):
    """A field whose pictures can be drawn at any time of the clip."""

    def render(self, cameras: Cameras, t: float, *, flow_to: float | None = None) -> Render:
        """Render pictures at time t in [0, 1], and the flow to another time where the field has one."""
        ...
