"""Training targets: the pictures of a multiview video and its front video, colours premultiplied."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mvtokenflow.splat.schedule import nearest_times
from mvtokenflow.views.cameras import Cameras
from mvtokenflow.views.video import FrontVideo, MultiviewVideo, ViewFlow


@dataclass(frozen=True)
class FrontTargets:
    """Training targets from a front video, colours premultiplied once.

    Attributes:
        premultiplied: (F, H, W, 3) rgb · alpha. alpha: (F, H, W, 1).
        camera: (1,). flow_camera: (1,), whose pixel grid the flow uses, or None for the view's own.
        times: F floats in [0, 1].
        cells: for each frame of the multiview video, the front frames that are nearest to it in time.
    """

    premultiplied: Tensor
    alpha: Tensor
    camera: Cameras
    flow_camera: Cameras | None
    times: tuple[float, ...]
    cells: Sequence[Sequence[int]]

    @classmethod
    def of(cls, front: FrontVideo, times: Sequence[float]) -> "FrontTargets":
        """Build the targets of a front video for a multiview video with frames at `times`."""
        own = tuple(front.times.tolist())
        return cls(
            premultiplied=front.rgb * front.alpha,
            alpha=front.alpha,
            camera=front.camera,
            flow_camera=front.flow_camera,
            times=own,
            cells=nearest_times(times, own),
        )

    def rgb(self, frames: Sequence[int], background: Tensor) -> Tensor:
        """Composite pictures (n, 1, H, W, 3) onto a background (3,)."""
        return (self.premultiplied[list(frames)] + background * (1 - self.alpha[list(frames)]))[:, None]

    def draw(self, chosen: Sequence[int], generator: torch.Generator) -> list[int]:
        """Draw one front frame for each chosen frame, with equal odds among those nearest to it in time.

        Args:
            generator: on the CPU; one number is drawn from it where there are several.
        """
        cells = [self.cells[frame] for frame in chosen]
        return [
            cell[int(torch.randint(len(cell), (), generator=generator))] if len(cell) > 1 else cell[0]
            for cell in cells
        ]

    def at(self, time: float) -> int:
        """Return the index of the front frame nearest to a time."""
        return min(range(len(self.times)), key=lambda frame: abs(self.times[frame] - time))


@dataclass(frozen=True)
class Targets:
    """Training targets from a multiview video: the front view first, colours premultiplied once.

    Attributes:
        premultiplied: (T, V, H, W, 3) rgb · alpha. alpha: (T, V, H, W, 1).
        normals: (T, V, H, W, 3) and known (T, V, H, W) bool where they are unit; or None.
        cameras: (V,). order: index in the video of each of these views.
        flow: flow of view 0, or None. front: targets of view 0's colours and mask instead, or None.
        times: T floats in [0, 1].
    """

    premultiplied: Tensor
    alpha: Tensor
    normals: Tensor | None
    known: Tensor | None
    cameras: Cameras
    order: tuple[int, ...]
    flow: ViewFlow | None
    front: FrontTargets | None
    times: tuple[float, ...]

    @classmethod
    def of(cls, video: MultiviewVideo) -> "Targets":
        """Build the targets of a video, on its device."""
        order = list(range(video.views))
        named = video.flow if video.flow is not None else video.front
        if named is not None:
            order = [named.view, *(view for view in order if view != named.view)]
        normals = None if video.normals is None else video.normals[:, order]
        times = tuple(video.times.tolist())
        return cls(
            premultiplied=video.rgb[:, order] * video.alpha[:, order],
            alpha=video.alpha[:, order],
            normals=normals,
            known=None if normals is None else normals.square().sum(-1) > 0.5,
            cameras=video.cameras[order],
            order=tuple(order),
            flow=None if video.flow is None else replace(video.flow, view=0),
            front=None if video.front is None else FrontTargets.of(video.front, times),
            times=times,
        )

    def rgb(self, frames: Sequence[int], background: Tensor) -> Tensor:
        """Composite pictures (n, V, H, W, 3) onto a background (3,)."""
        chosen = list(frames)
        return self.premultiplied[chosen] + background * (1 - self.alpha[chosen])


def by_weight(weights: Sequence[float]) -> list[tuple[float, list[int]]]:
    """Group positions of equal weight, with their share of the sum of all weights; weight 0 is left out."""
    total, found = sum(weights), []
    for weight in dict.fromkeys(weights):
        if weight > 0:
            same = [index for index, other in enumerate(weights) if other == weight]
            found.append((weight * len(same) / total, same))
    return found
