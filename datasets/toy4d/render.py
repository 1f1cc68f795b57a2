"""Rendering of pictures and exact geometry of a toy from any camera at any time; pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.datasets.toy4d import kernels, shading
from mvtokenflow.datasets.toy4d.toys import Toy
from mvtokenflow.views.cameras import Cameras

Array = NDArray[np.float32]
Times = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Render:
    """Pictures and geometry of one toy at T times in V cameras; float32 unless noted.

    Colour and coverage are averaged over samples² rays per pixel; everything else belongs to the one ray
    through the pixel centre, so a pixel with alpha below 1 may have geometry or not.

    Attributes:
        rgb: (T, V, H, W, 3) in [0, 1], straight: the mean over the covered samples, 1 where none is.
        alpha: (T, V, H, W, 1) in [0, 1].
        normal: (T, V, H, W, 3) unit, outward, world frame; 0 outside.
        depth: (T, V, H, W) camera z in world units; 0 outside.
        part: (T, V, H, W) int16 index into the toy's parts; −1 outside.
    """

    rgb: Array
    alpha: Array
    normal: Array
    depth: Array
    part: NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Exact motion from one time to another, T pairs by V cameras.

    Attributes:
        flow: (T, V, H, W, 2) float32 pixels (dx, dy) on the source grid; 0 outside the object.
        visible: (T, V, H, W) bool: inside the picture and not hidden at the target time; False outside.
    """

    flow: Array
    visible: NDArray[np.bool_]


@dataclass(frozen=True)
class _Camera:
    """Arrays of one camera for the kernels."""

    world_to_camera: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    ortho: bool
    width: int
    height: int

    def rays(self) -> NDArray[np.float64]:
        out: NDArray[np.float64] = kernels.camera_rays(self.world_to_camera, self.intrinsics, self.ortho)
        return out

    def boxes(self, toy: Toy, pose: NDArray[np.float64]) -> NDArray[np.float64]:
        out: NDArray[np.float64] = kernels.screen_boxes(
            toy.kinds,
            toy.sizes,
            pose,
            self.world_to_camera,
            self.intrinsics,
            self.ortho,
            self.width,
            self.height,
        )
        return out


def _unpack(cameras: Cameras) -> list[_Camera]:
    if cameras.world_to_camera.ndim != 3:
        raise ValueError(
            f"cameras must be one flat batch (V, 4, 4), got {tuple(cameras.world_to_camera.shape)}"
        )
    poses = cameras.world_to_camera.detach().cpu().double().numpy()
    intrinsics = cameras.intrinsics.detach().cpu().double().numpy()
    ortho = cameras.kind == "ortho"
    return [_Camera(p, k, ortho, cameras.width, cameras.height) for p, k in zip(poses, intrinsics, strict=True)]


def render(toy: Toy, cameras: Cameras, times: Times, *, samples: int = 2) -> Render:
    """Render colours, coverage and geometry of a toy.

    Args:
        toy: from `make_toy`.
        cameras: (V,) pinhole or ortho, any pose that keeps the toy in front of the camera.
        times: T times in [0, 1].
        samples: rays per pixel and axis for colour and coverage.
    """
    views = _unpack(cameras)
    shape = (len(times), len(views), cameras.height, cameras.width)
    rgba = np.empty((*shape, 4), np.float32)
    normal = np.empty((*shape, 3), np.float32)
    depth, part = np.empty(shape, np.float32), np.empty(shape, np.int16)
    rays = [view.rays() for view in views]
    for t, pose in enumerate(toy.poses(times)):
        for v, view in enumerate(views):
            scene = (toy.kinds, toy.sizes, pose)
            boxes = view.boxes(toy, pose)
            fine = kernels.trace(*scene, rays[v], boxes, view.width, view.height, samples)
            rgba[t, v] = shading.shade(
                *scene, toy.patterns, toy.pattern_args, toy.colors, rays[v], *fine, samples
            )
            z, ids = kernels.trace(*scene, rays[v], boxes, view.width, view.height, 1)
            normal[t, v] = kernels.world_normals(*scene, rays[v], z, ids)
            part[t, v] = ids
            depth[t, v] = np.where(ids >= 0, z, 0)
    return Render(rgb=rgba[..., :3], alpha=rgba[..., 3:], normal=normal, depth=depth, part=part)


def render_flow(toy: Toy, cameras: Cameras, times: Times, targets: Times) -> Flow:
    """Compute exact motion of each pixel centre's surface point from `times[i]` to `targets[i]`.

    Surface points move rigidly with their part. Visibility is decided by intersecting the target pose along
    the ray of the moved point, not by comparing with a rendered depth map.

    Args:
        toy, cameras: as for `render`.
        times, targets: T times each.
    """
    views = _unpack(cameras)
    shape = (len(times), len(views), cameras.height, cameras.width)
    flow, visible = np.empty((*shape, 2), np.float32), np.empty(shape, np.bool_)
    sources, ends = toy.poses(times), toy.poses(targets)
    for v, view in enumerate(views):
        rays = view.rays()
        for t, (pose, target) in enumerate(zip(sources, ends, strict=True)):
            scene = (toy.kinds, toy.sizes, pose)
            z, ids = kernels.trace(*scene, rays, view.boxes(toy, pose), view.width, view.height, 1)
            flow[t, v], visible[t, v] = kernels.flow(
                *scene,
                target,
                view.world_to_camera,
                view.intrinsics,
                view.ortho,
                rays,
                view.boxes(toy, target),
                z,
                ids,
            )
    return Flow(flow=flow, visible=visible)


def seen(toy: Toy, cameras: Cameras, times: Times, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which surface points nothing hides, (T, V, N), by intersection; pictures have no border here.

    Args:
        toy, cameras, times: as for `render`.
        points: (T, N, 3) world points on the toy's surface at each time.
    """
    views = _unpack(cameras)
    out = np.empty((len(times), len(views), points.shape[1]), np.bool_)
    for v, view in enumerate(views):
        for t, pose in enumerate(toy.poses(times)):
            out[t, v] = ~kernels.hidden(
                toy.kinds,
                toy.sizes,
                pose,
                view.world_to_camera,
                view.intrinsics,
                view.ortho,
                view.rays(),
                view.boxes(toy, pose),
                points[t],
            )
    return out
