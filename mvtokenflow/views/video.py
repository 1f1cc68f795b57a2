"""Multiview videos in memory: one object seen by several fixed cameras."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import digest
from mvtokenflow.views.cameras import Cameras


@dataclass(frozen=True, kw_only=True)
class ViewFlow:
    """Optical flow of one view between pairs of frames.

    Attributes:
        view: index of the view.
        pairs: P different pairs (source, target) of frames, at least one.
        flow: (P, H, W, 2) float32, (dx, dy) in pixels on the grid of the source: `x(target) = x + flow[p](x)`.
        visible: (P, H, W) bool, True where the flow is reliable: on the object, not occluded in the target.
    """

    view: int
    pairs: tuple[tuple[int, int], ...]
    flow: Tensor
    visible: Tensor

    @classmethod
    def forward(cls, view: int, flow: Tensor, visible: Tensor) -> "ViewFlow":
        """Build flow from every frame to the next, from flow (T-1, H, W, 2) and visible (T-1, H, W)."""
        pairs = tuple((n, n + 1) for n in range(len(flow)))
        return cls(view=view, pairs=pairs, flow=flow, visible=visible)

    def taken(self, keep: Sequence[int]) -> "ViewFlow":
        """Select pairs by their positions."""
        chosen = list(keep)
        pairs = tuple(self.pairs[index] for index in chosen)
        return replace(self, pairs=pairs, flow=self.flow[chosen], visible=self.visible[chosen])


@dataclass(frozen=True, kw_only=True)
class FrontVideo:
    """Input video that replaces one view's colours and mask as training targets.

    It has its own resolution, its own frames and its own camera. Normals and the grid of the flow remain those
    of the view.

    Attributes:
        view: index of the view whose colours and mask it replaces.
        rgb: (F, H, W, 3) float32 in [0, 1], straight. alpha: (F, H, W, 1) float32 in [0, 1].
        camera: (1,) of pictures W x H, in the world of the views.
        flow_camera: (1,) of pictures of the views' size, with the pixel grid that the flow was estimated on;
            None is the view's own camera.
        times: (F,) increasing, in [0, 1] of the views' times.

    Raises:
        ValueError: shapes that do not fit together.
    """

    view: int
    rgb: Tensor
    alpha: Tensor
    camera: Cameras
    times: Tensor
    flow_camera: Cameras | None = None

    def __post_init__(self) -> None:
        grid = tuple(self.alpha.shape[:-1])
        if len(grid) != 3 or self.rgb.shape != (*grid, 3) or self.alpha.shape[-1] != 1:
            raise ValueError(
                f"rgb must be (F, H, W, 3) and alpha (F, H, W, 1), got {tuple(self.rgb.shape)} and "
                f"{tuple(self.alpha.shape)}"
            )
        if (self.camera.height, self.camera.width) != grid[1:] or len(self.camera) != 1:
            raise ValueError(
                f"{len(self.camera)} cameras of {self.camera.width}x{self.camera.height} for pictures of "
                f"{grid[2]}x{grid[1]}"
            )
        times = self.times
        inside = bool(((times >= 0) & (times <= 1)).all())
        if times.shape != grid[:1] or not inside or not bool((times.diff() > 0).all()):
            raise ValueError(f"times {times} are not {grid[0]} increasing times in [0, 1]")

    def to(self, device: torch.device | str) -> "FrontVideo":
        """Return the video on another device."""
        return replace(
            self,
            rgb=self.rgb.to(device),
            alpha=self.alpha.to(device),
            camera=self.camera.to(device),
            flow_camera=None if self.flow_camera is None else self.flow_camera.to(device),
        )

    def parts(self) -> dict[str, bytes]:
        """Return everything a reconstruction depends on, as named bytes for a digest."""
        cameras = [None if one is None else one.to_dict() for one in (self.camera, self.flow_camera)]
        described = {"view": self.view, "shape": list(self.rgb.shape), "cameras": cameras}
        arrays = {"rgb": self.rgb, "alpha": self.alpha, "times": self.times}
        return {
            "front": json.dumps(described, sort_keys=True).encode(),
            **{f"front {name}": _bytes(value) for name, value in arrays.items()},
        }


@dataclass(frozen=True, kw_only=True)
class MultiviewVideo:
    """Video of one object in V fixed views: T frames with colours, alpha and optional normals and flow.

    Attributes:
        rgb: (T, V, H, W, 3) float32 in [0, 1], straight (not premultiplied).
        alpha: (T, V, H, W, 1) float32 in [0, 1].
        cameras: (V,) of pictures W x H.
        normals: (T, V, H, W, 3) unit normals in the world frame, 0 where there is none; or None.
        flow: optical flow of one view (the front), or None.
        clock: (T,) increasing times of the frames in [0, 1]; None spaces them evenly.
        front: input video of the view with the flow, fitted in place of that view's own colours; not part of
            a multiview folder.
        name: name in messages.

    Raises:
        ValueError: shapes that do not fit together.
    """

    rgb: Tensor
    alpha: Tensor
    cameras: Cameras
    normals: Tensor | None = None
    flow: ViewFlow | None = None
    clock: Tensor | None = None
    front: FrontVideo | None = None
    name: str = "video"

    def __post_init__(self) -> None:
        grid = self.rgb.shape[:-1]
        if self.rgb.ndim != 5 or self.rgb.shape[-1] != 3 or self.alpha.shape != (*grid, 1):
            raise ValueError(
                f"{self.name}: rgb must be (T, V, H, W, 3) and alpha (T, V, H, W, 1), got "
                f"{tuple(self.rgb.shape)} and {tuple(self.alpha.shape)}"
            )
        if (len(self.cameras), self.cameras.height, self.cameras.width) != tuple(grid[1:]):
            raise ValueError(
                f"{self.name}: {len(self.cameras)} cameras of {self.cameras.width}x{self.cameras.height} for "
                f"{grid[1]} views of {grid[3]}x{grid[2]}"
            )
        if self.normals is not None and self.normals.shape != self.rgb.shape:
            raise ValueError(f"{self.name}: normals {tuple(self.normals.shape)}, expected {tuple(grid)} + (3,)")
        if self.flow is not None:
            _check_flow(self.flow, tuple(grid), self.name)
        if self.front is not None and not 0 <= self.front.view < grid[1]:
            raise ValueError(f"{self.name}: a front video of view {self.front.view}; there are {grid[1]} views")
        if self.front is not None and self.flow is not None and self.front.view != self.flow.view:
            raise ValueError(
                f"{self.name}: the front video is of view {self.front.view}, the flow of {self.flow.view}"
            )
        clock = self.clock
        if clock is not None and (clock.shape != grid[:1] or not bool((clock.diff() > 0).all())):
            raise ValueError(f"{self.name}: clock {clock} is not {grid[0]} increasing times")

    def __len__(self) -> int:
        return int(self.rgb.shape[0])

    @property
    def views(self) -> int:
        """Return the number of views V."""
        return int(self.rgb.shape[1])

    @property
    def times(self) -> Tensor:
        """Times (T,) float32 on the CPU: the clock, or n / (T-1) in [0, 1]; a single frame is at 0."""
        if self.clock is not None:
            return self.clock.float().cpu()
        return torch.linspace(0, 1, len(self)) if len(self) > 1 else torch.zeros(1)

    def to(self, device: torch.device | str) -> "MultiviewVideo":
        """Return the video on another device."""
        flow = self.flow
        if flow is not None:
            flow = replace(flow, flow=flow.flow.to(device), visible=flow.visible.to(device))
        normals = None if self.normals is None else self.normals.to(device)
        return replace(
            self,
            rgb=self.rgb.to(device),
            alpha=self.alpha.to(device),
            cameras=self.cameras.to(device),
            normals=normals,
            flow=flow,
            front=None if self.front is None else self.front.to(device),
        )

    def head(self, frames: int) -> "MultiviewVideo":
        """Return the first `frames` frames.

        Raises:
            DataError: the video has fewer frames.
            ValueError: it has a front video, which would be longer.
        """
        if self.front is not None:
            raise ValueError(f"{self.name}: take the first frames before the front video is added")
        if not 1 <= frames <= len(self):
            raise DataError(f"{self.name}: has {len(self)} frames, {frames} were asked for; ask for fewer")
        flow = self.flow
        if flow is not None:
            kept = [index for index, pair in enumerate(flow.pairs) if max(pair) < frames]
            flow = flow.taken(kept) if kept else None
        normals = None if self.normals is None else self.normals[:frames]
        clock = None if self.clock is None else self.clock[:frames]
        return replace(
            self, rgb=self.rgb[:frames], alpha=self.alpha[:frames], normals=normals, flow=flow, clock=clock
        )

    def with_room(self, extent: float) -> "MultiviewVideo":
        """Move orthographic cameras back until the cube of half side `extent` lies in front of them.

        Their pictures do not depend on the distance, but nothing behind a camera is rendered.
        """
        front = self.front
        if front is not None:
            front = replace(front, camera=_with_room(front.camera, extent))
        return replace(self, cameras=_with_room(self.cameras, extent), front=front)

    def resized(self, size: int) -> "MultiviewVideo":
        """Shrink to square pictures of `size` pixels by area averages; colours and normals weighted by alpha.

        Flow is averaged over its visible pixels and scaled; a pixel is visible if more than half of it was.

        Raises:
            DataError: the pictures are not square, or smaller than `size`.
        """
        width, height = self.cameras.width, self.cameras.height
        if width != height or size > width or size < 1:
            raise DataError(
                f"{self.name}: pictures of {width}x{height} cannot become {size}x{size}; crop or enlarge"
            )
        if size == width:
            return self
        scale = size / width
        alpha = _area(self.alpha, size)
        rgb = _area(self.rgb * self.alpha, size) / alpha.clamp_min(1e-6)
        rgb = torch.where(alpha > 0, rgb.clamp(0, 1), 1.0)
        normals, flow = self.normals, self.flow
        if normals is not None:
            mean = _area(normals * self.alpha, size)
            solid = (alpha > 0.5) & (mean.norm(dim=-1, keepdim=True) > 1e-3)
            normals = torch.where(solid, torch.nn.functional.normalize(mean, dim=-1), 0.0)
        if flow is not None:
            seen = flow.visible[..., None].float()
            share = _area(seen, size)
            moved = _area(flow.flow * seen, size) / share.clamp_min(1e-6) * scale
            visible = share[..., 0] > 0.5
            flow = replace(flow, flow=torch.where(visible[..., None], moved, 0.0), visible=visible)
        intrinsics = self.cameras.intrinsics.clone()
        intrinsics[:, :2] *= scale
        cameras = replace(self.cameras, intrinsics=intrinsics, width=size, height=size)
        return replace(self, rgb=rgb, alpha=alpha, cameras=cameras, normals=normals, flow=flow)

    def digest(self) -> str:
        """Hex sha256 of everything a reconstruction depends on; names and devices do not matter."""
        parts = {"rgb": self.rgb, "alpha": self.alpha}
        if self.normals is not None:
            parts["normals"] = self.normals
        if self.flow is not None:
            parts |= {f"flow {self.flow.view}": self.flow.flow, "visible": self.flow.visible}
            parts["pairs"] = torch.tensor(self.flow.pairs)
        if self.clock is not None:
            parts["clock"] = self.clock
        described = json.dumps(self.cameras.to_dict(), sort_keys=True).encode()
        arrays = [(name, _bytes(value)) for name, value in parts.items()]
        front = [] if self.front is None else self.front.parts().items()
        return digest([("shape", str(tuple(self.rgb.shape)).encode()), ("cameras", described), *arrays, *front])


def _check_flow(flow: ViewFlow, grid: tuple[int, ...], name: str) -> None:
    """Check that the flow fits a video of (T, V, H, W); raise a ValueError if not."""
    expected = (len(flow.pairs), *grid[2:])
    shapes = tuple(flow.flow.shape), tuple(flow.visible.shape)
    if shapes != ((*expected, 2), expected) or not 0 <= flow.view < grid[1]:
        raise ValueError(f"{name}: flow and visible {shapes} of view {flow.view} do not fit")
    inside = all(0 <= frame < grid[0] for pair in flow.pairs for frame in pair)
    if not flow.pairs or not inside or any(a == b for a, b in flow.pairs):
        raise ValueError(f"{name}: flow between {flow.pairs}; expected different frames of 0 to {grid[0] - 1}")
    if len(set(flow.pairs)) != len(flow.pairs):
        raise ValueError(f"{name}: flow of a pair of frames is there twice")


def _with_room(cameras: Cameras, extent: float) -> Cameras:
    """Move orthographic cameras back out of the cube of half side `extent`; keep others as they are."""
    if cameras.kind != "ortho":
        return cameras
    poses = cameras.world_to_camera.clone()
    poses[:, 2, 3] = poses[:, 2, 3].clamp_min(2 * extent)  # the corners are √3 away; the rest is slack
    return replace(cameras, world_to_camera=poses)


def _bytes(values: Tensor) -> bytes:
    return values.cpu().contiguous().numpy().tobytes()


def _area(pictures: Tensor, size: int) -> Tensor:
    """Average (..., H, W, C) over areas down to (..., size, size, C)."""
    flat = pictures.reshape(-1, *pictures.shape[-3:]).movedim(-1, 1)
    small = torch.nn.functional.interpolate(flat, size=(size, size), mode="area")
    return small.movedim(1, -1).reshape(*pictures.shape[:-3], size, size, pictures.shape[-1])
