"""A triangle mesh of Gaussians at one moment: depth seen from all round, fused, and its zero level.

Depth maps of orthographic cameras on a sphere are fused into a truncated signed distance (Curless and Levoy,
SIGGRAPH 1996), and marching cubes finds its surface (`skimage`). Depth of Gaussians is an expectation, so the
surface is that of the opaque parts, smoothed by about a cell; thin and half transparent parts get lost or torn.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.splat.field import Render, render_gaussians
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.views.cameras import Cameras, orbit

MOST_CELLS = 512  # of the volume's side
_USUAL_CELLS = (48, 160)  # at least and at most, where a field's training pixel asks for others
_ROUND = tuple((azimuth, elevation) for elevation in (-35, 0, 35) for azimuth in range(0, 360, 45))
_CAPS = tuple((azimuth, elevation) for elevation in (-80, 80) for azimuth in range(0, 360, 90))
_PIXELS = 2  # of a depth map for each cell
_BAND = 3.0  # cells; distances are cut off there
_JUMP = 3.0  # cells; depth that differs more from a neighbour's is of no surface
_SOLID = 0.5  # alpha of an object's pixels
_SPECK = 0.01  # of all triangles; smaller pieces are floaters
_MARGIN = 1.08  # of the volume round the Gaussians that are seen
_SEEN = 0.05  # opacity
_RADIUS = 4.0  # distance of the cameras, in half sides of the volume


@dataclass(frozen=True)
class Mesh:
    """Triangles with colours of the corners.

    Attributes:
        vertices: (V, 3) float32, world units. normals: (V, 3) float32, unit, outwards.
        colours: (V, 3) float32, sRGB in [0, 1]. faces: (F, 3) uint32, counter-clockwise from outside.
    """

    vertices: NDArray[np.float32]
    normals: NDArray[np.float32]
    colours: NDArray[np.float32]
    faces: NDArray[np.uint32]


@torch.no_grad()
def surface_mesh(gaussians: Gaussians, *, cells: int | None = None) -> Mesh:
    """Compute the surface of Gaussians as a mesh.

    Args:
        cells: of the volume along each side, which spans what is seen; None has cells as large as the training
            pixel, within 48 and 160 of them.

    Raises:
        ConfigError: fewer than 16 cells or more than `MOST_CELLS`.
        DataError: nothing is opaque enough to have a surface.
    """
    if cells is not None and not 16 <= cells <= MOST_CELLS:
        raise ConfigError(f"a mesh of {cells} cells; choose 16 to {MOST_CELLS}")
    seen = gaussians.means[gaussians.opacities > _SEEN]
    if not len(seen):
        raise DataError("no Gaussian is opaque enough to have a surface")
    half = _MARGIN * float(torch.quantile(seen.norm(dim=-1), 0.999))
    if cells is None:
        fine = _USUAL_CELLS[1] if gaussians.pixel is None else round(2 * half / gaussians.pixel)
        cells = min(max(fine, _USUAL_CELLS[0]), _USUAL_CELLS[1])
    cameras = _cameras(half, _PIXELS * cells).to(gaussians.means.device)
    pictures = [
        render_gaussians(gaussians, cameras[n : n + 1], background=(0.0, 0.0, 0.0)) for n in range(len(cameras))
    ]
    volume = fused_depth(pictures, half, cells)
    if not volume.min() < 0 < volume.max():
        raise DataError("no part is opaque enough to have a surface")
    step = 2 * half / cells
    corners, faces, _, _ = marching_cubes(volume, 0.0, gradient_direction="descent")  # type: ignore[no-untyped-call]
    corners, faces = _large_parts(np.asarray(corners), np.asarray(faces))
    vertices = np.asarray((corners + 0.5) * step - half, np.float32)
    normals = _normals(vertices, faces)
    colours = _colours(torch.from_numpy(vertices), torch.from_numpy(normals), pictures, 2 * step)
    return Mesh(vertices, normals, colours, np.asarray(faces, np.uint32))


def fused_depth(pictures: list[Render], half: float, cells: int) -> NDArray[np.float32]:
    """Fuse depth maps into signed distances (cells, cells, cells), in cells, cut off at `_BAND`; x, y, z.

    A picture lowers nothing behind what it sees; where it sees no object, there is none along the whole ray.
    What no picture sees is inside.
    """
    step = 2 * half / cells
    axis = (torch.arange(cells) + 0.5) * step - half
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    points = points.to(pictures[0].depth)
    total = torch.zeros(len(points), device=points.device)
    weight = torch.zeros_like(total)
    for picture in pictures:
        pixels, z = (value[0] for value in picture.cameras.project(points[None]))
        depth, known, solid = (_at(pixels, value) for value in _surface_of(picture, step))
        apart = torch.where(solid > 0, (depth - z) / step, _BAND)
        used = (apart >= -_BAND) & ((known > 0) | (solid == 0))
        total += torch.where(used, apart.clamp(-_BAND, _BAND), 0.0)
        weight += used
    fused = torch.where(weight > 0, total / weight.clamp_min(1), -_BAND)
    volume: NDArray[np.float32] = fused.reshape(cells, cells, cells).cpu().numpy()
    for face in (volume[0], volume[-1], volume[:, 0], volume[:, -1], volume[:, :, 0], volume[:, :, -1]):
        face[:] = _BAND  # so that the surface is closed
    return volume


def _cameras(half: float, size: int) -> Cameras:
    azimuths, elevations = zip(*(*_ROUND, *_CAPS), strict=True)
    return orbit(azimuths, list(elevations), size=size, kind="ortho", radius=_RADIUS * half, half_width=half)


def _surface_of(picture: Render, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return depth (H, W), where it belongs to one surface, and where there is an object, as floats."""
    depth, solid = picture.depth[0, ..., 0], picture.alpha[0, ..., 0] >= _SOLID
    near = torch.where(solid, -depth, -torch.inf)
    far = torch.where(solid, depth, -torch.inf)
    highest, lowest = (F.max_pool2d(value[None, None], 3, 1, 1)[0, 0] for value in (far, near))
    return depth, (solid & (highest + lowest <= 2 * _JUMP * step)).float(), solid.float()


def _at(pixels: Tensor, values: Tensor) -> Tensor:
    """Read values (H, W) at the pixels (N, 2) that places lie in; 0 outside."""
    height, width = values.shape
    x, y = (pixels.floor().long() + 1).unbind(-1)
    padded = F.pad(values, (1, 1, 1, 1))
    return padded[y.clamp(0, height + 1), x.clamp(0, width + 1)]


def _large_parts(
    corners: NDArray[np.float32], faces: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Leave out pieces of less than `_SPECK` of the triangles."""
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(corners),) * 2)
    piece = connected_components(graph, directed=False)[1][faces[:, 0]]
    kept = faces[np.bincount(piece)[piece] >= _SPECK * len(faces)]
    used, numbers = np.unique(kept, return_inverse=True)
    return corners[used], numbers.reshape(-1, 3).astype(np.int32)


def _normals(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return unit normals of corners: the mean of their triangles', weighted by area."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    across = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, faces[:, corner], across)
    length = np.linalg.norm(total, axis=-1, keepdims=True)
    return np.asarray(np.where(length > 0, total / np.maximum(length, 1e-20), (0, 0, 1)), np.float32)


def _colours(vertices: Tensor, normals: Tensor, pictures: list[Render], reach: float) -> NDArray[np.float32]:
    """Average what the pictures show of each corner (V, 3); those that none shows take the nearest one's."""
    device = pictures[0].rgb.device
    vertices, normals = vertices.to(device), normals.to(device)
    total, weight = torch.zeros_like(vertices), torch.zeros(len(vertices), 1, device=device)
    for picture in pictures:
        pixels, z = (value[0] for value in picture.cameras.project(vertices[None]))
        facing = -(normals @ picture.cameras.world_to_camera[0, 2, :3].to(normals)).clamp(max=0)
        alpha, depth = _at(pixels, picture.alpha[0, ..., 0]), _at(pixels, picture.depth[0, ..., 0])
        seen = (alpha >= _SOLID) & ((z - depth).abs() <= reach)
        share = torch.where(seen, facing.square(), 0.0)[:, None]
        rgb = torch.stack([_at(pixels, picture.rgb[0, ..., band]) for band in range(3)], dim=-1)
        total += share * rgb / alpha.clamp_min(_SOLID)[:, None]
        weight += share
    colours = (total / weight.clamp_min(1e-9)).clamp(0, 1).cpu().numpy()
    known = (weight[:, 0] > 1e-3).cpu().numpy()
    if known.any():
        places = vertices.cpu().numpy()
        nearest = cKDTree(places[known]).query(places[~known])[1]
        colours[~known] = colours[known][nearest]
    return np.asarray(colours, np.float32)
