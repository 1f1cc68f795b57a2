"""Videos of one object seen by several fixed cameras, in memory."""

import json
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mvtokenflow.cameras import Cameras
from mvtokenflow.errors import DataError
from mvtokenflow.files import digest


@dataclass(frozen=True, kw_only=True)
class ViewFlow:
    """Optical flow of one view, from every frame to the next.

    Attributes:
        view: index of the view.
        flow: (T-1, H, W, 2) float32, (dx, dy) in pixels on the grid of frame n: x(n+1) = x + flow[n](x).
        visible: (T-1, H, W) bool, True where the flow can be trusted: on the object and not occluded in n+1.
    """

    view: int
    flow: Tensor
    visible: Tensor


@dataclass(frozen=True, kw_only=True)
class MultiviewVideo:
    """T frames of one object in V fixed views.

    Attributes:
        rgb: (T, V, H, W, 3) float32 in [0, 1], straight (not premultiplied).
        alpha: (T, V, H, W, 1) float32 in [0, 1].
        cameras: (V,) of pictures W x H.
        normals: (T, V, H, W, 3) unit normals in the world frame, 0 where there is none; or None.
        flow: optical flow of one view (the front), or None.
        clock: (T,) increasing times of the frames in [0, 1]; None spaces them evenly.
        name: what messages call it.

    Raises:
        ValueError: shapes that do not fit together.
    """

    rgb: Tensor
    alpha: Tensor
    cameras: Cameras
    normals: Tensor | None = None
    flow: ViewFlow | None = None
    clock: Tensor | None = None
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
            expected = (grid[0] - 1, *grid[2:])
            shapes = tuple(self.flow.flow.shape), tuple(self.flow.visible.shape)
            if shapes != ((*expected, 2), expected) or not 0 <= self.flow.view < grid[1]:
                raise ValueError(f"{self.name}: flow and visible {shapes} of view {self.flow.view} do not fit")

        clock = self.clock
        if clock is not None and (clock.shape != grid[:1] or not bool((clock.diff() > 0).all())):
            raise ValueError(f"{self.name}: clock {clock} is not {grid[0]} increasing times")

    def __len__(self) -> int:
        return int(self.rgb.shape[0])

    @property
    def views(self) -> int:
        """V."""
        return int(self.rgb.shape[1])

    @property
    def times(self) -> Tensor:
        """(T,) float32 on the CPU: the clock, or n / (T-1) in [0, 1]; a single frame is at 0."""
        if self.clock is not None:
            return self.clock.float().cpu()
        return torch.linspace(0, 1, len(self)) if len(self) > 1 else torch.zeros(1)

    def to(self, device: torch.device | str) -> "MultiviewVideo":
        """The same on another device."""
        flow = self.flow
        if flow is not None:
            flow = replace(flow, flow=flow.flow.to(device), visible=flow.visible.to(device))
        cameras = replace(
            self.cameras,
            world_to_camera=self.cameras.world_to_camera.to(device),
            intrinsics=self.cameras.intrinsics.to(device),
        )
        normals = None if self.normals is None else self.normals.to(device)
        return replace(
            self,
            rgb=self.rgb.to(device),
            alpha=self.alpha.to(device),
            cameras=cameras,
            normals=normals,
            flow=flow,
        )

    def head(self, frames: int) -> "MultiviewVideo":
        """The first `frames` frames.

        Raises:
            DataError: it has fewer.
        """
        if not 1 <= frames <= len(self):
            raise DataError(f"{self.name}: has {len(self)} frames, {frames} were asked for; ask for fewer")
        flow = self.flow
        if flow is not None:
            flow = replace(flow, flow=flow.flow[: frames - 1], visible=flow.visible[: frames - 1])
        normals = None if self.normals is None else self.normals[:frames]
        clock = None if self.clock is None else self.clock[:frames]
        return replace(
            self, rgb=self.rgb[:frames], alpha=self.alpha[:frames], normals=normals, flow=flow, clock=clock
        )

    def with_room(self, extent: float) -> "MultiviewVideo":
        """The same, orthographic cameras moved back until the cube of half side `extent` lies before them.

        Their pictures do not depend on the distance, but nothing behind a camera is rendered.
        """
        if self.cameras.kind != "ortho":
            return self
        poses = self.cameras.world_to_camera.clone()
        poses[:, 2, 3] = poses[:, 2, 3].clamp_min(2 * extent)  # the corners are √3 away; some room to move
        return replace(self, cameras=replace(self.cameras, world_to_camera=poses))

    def resized(self, size: int) -> "MultiviewVideo":
        """Square pictures of `size` pixels by area averages: colours and normals weighted by alpha.

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
        if self.clock is not None:
            parts["clock"] = self.clock
        described = json.dumps(self.cameras.to_dict(), sort_keys=True).encode()
        arrays = ((name, value.cpu().contiguous().numpy().tobytes()) for name, value in parts.items())
        return digest([("shape", str(tuple(self.rgb.shape)).encode()), ("cameras", described), *arrays])


def _area(pictures: Tensor, size: int) -> Tensor:
    """Area average of (..., H, W, C) down to (..., size, size, C)."""
    flat = pictures.reshape(-1, *pictures.shape[-3:]).movedim(-1, 1)
    small = torch.nn.functional.interpolate(flat, size=(size, size), mode="area")
    return small.movedim(1, -1).reshape(*pictures.shape[:-3], size, size, pictures.shape[-1])
