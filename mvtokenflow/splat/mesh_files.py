"""Meshes of a field as glTF: one file per moment, and one in which all moments play.

FOLDER/<n>.glb        the mesh of frame n
FOLDER/animated.glb   one node per frame, of which an animation shows one at a time (its scale is 1, others' 0)

Colours of corners are what the Gaussians show, light included, so the material is unlit (KHR_materials_unlit).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mvtokenflow.base.files import write_bytes
from mvtokenflow.base.progress import Progress
from mvtokenflow.splat.export import frame_times
from mvtokenflow.splat.formats import Axes, turned
from mvtokenflow.splat.glb import INDICES, VERTICES, Tables, glb_bytes, read_glb
from mvtokenflow.splat.mesh import Mesh, surface_mesh
from mvtokenflow.splat.timed import MovingGaussians
from mvtokenflow.workdir.folder import claim

UNLIT = "KHR_materials_unlit"
_MATERIAL = {
    "pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 1},
    "extensions": {UNLIT: {}},
}


@torch.no_grad()
def export_meshes(
    field: MovingGaussians,
    frames: int | Sequence[float],
    folder: Path,
    *,
    fps: float,
    source: Mapping[str, Any],
    axes: Axes = "gltf",
    cells: int | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the mesh of every frame and the animation of all; existing frames are kept.

    Args:
        frames: number of evenly spaced frames, or their times in [0, 1].
        fps: frames per second of the animation.
        axes: as of `formats.turned`. cells: as of `surface_mesh`.

    Returns:
        the files of the frames, and last the animation, if there are two frames or more.

    Raises:
        ConfigError: other axes or a wrong number of cells, or the folder holds another export.
        DataError: a moment has no surface.
    """
    times = frame_times(frames)
    claim(
        folder,
        {
            "field": dict(source),
            "frames": frames if isinstance(frames, int) else times,
            "axes": axes,
            "cells": cells,
        },
    )
    paths = [folder / f"{n:04d}.glb" for n in range(len(times))]
    for done, (path, time) in enumerate(zip(paths, times, strict=True), 1):
        if not path.exists():
            mesh = surface_mesh(turned(field.at(time), axes), cells=cells)
            write_bytes(path, meshes_as_gltf([mesh]))
        if progress is not None:
            progress(folder.name, done, len(paths))
    if len(paths) < 2:
        return paths
    animated = folder / "animated.glb"
    write_bytes(animated, meshes_as_gltf([read_mesh(path) for path in paths], fps=fps))
    return [*paths, animated]


def meshes_as_gltf(meshes: Sequence[Mesh], *, fps: float = 8.0) -> bytes:
    """Build a .glb of one node per mesh; of several, an animation shows each for 1 / fps seconds."""
    tables = Tables()
    document: dict[str, Any] = {
        "extensionsUsed": [UNLIT],
        "scene": 0,
        "scenes": [{"nodes": list(range(len(meshes)))}],
        "nodes": [
            {"mesh": n, "name": f"frame {n}", **({} if n == 0 else {"scale": [0, 0, 0]})}
            for n in range(len(meshes))
        ],
        "materials": [_MATERIAL],
        "meshes": [{"primitives": [_primitive(mesh, tables)]} for mesh in meshes],
    }
    if len(meshes) > 1:
        document["animations"] = [_turns(len(meshes), fps, tables)]
    return glb_bytes(document, tables)


def read_mesh(path: Path) -> Mesh:
    """Read the only mesh of a file of `meshes_as_gltf`.

    Raises:
        DataError: not such a file.
    """
    _, (positions, normals, colours, faces) = read_glb(path)
    return Mesh(
        positions, normals, _displayed((colours[:, :3] / 65535).astype(np.float32)), faces.reshape(-1, 3)
    )


def _primitive(mesh: Mesh, tables: Tables) -> dict[str, Any]:
    """Add the tables of a mesh; colours as glTF wants them, linear, in 16 bits with alpha."""
    linear = np.column_stack([_linear(mesh.colours), np.ones(len(mesh.colours), np.float32)])
    attributes = {
        "POSITION": tables.add(mesh.vertices, target=VERTICES, ranged=True),
        "NORMAL": tables.add(mesh.normals, target=VERTICES),
        "COLOR_0": tables.add(np.rint(linear * 65535).astype(np.uint16), target=VERTICES, normalized=True),
    }
    indices = tables.add(mesh.faces.reshape(-1), target=INDICES)
    return {"attributes": attributes, "indices": indices, "material": 0}


def _turns(count: int, fps: float, tables: Tables) -> dict[str, Any]:
    """Build an animation in which each of `count` nodes has scale 1 while its frame lasts, else 0."""
    samplers, channels = [], []
    for n in range(count):
        keys = {0.0: 0.0, n / fps: 1.0, (n + 1) / fps: float(n == count - 1)}  # the last one stays to the end
        seconds = np.array(list(keys), np.float32)
        scales = np.repeat(np.array(list(keys.values()), np.float32)[:, None], 3, axis=1)
        samplers.append(
            {
                "input": tables.add(seconds, ranged=True),
                "output": tables.add(scales),
                "interpolation": "STEP",
            }
        )
        channels.append({"sampler": n, "target": {"node": n, "path": "scale"}})
    return {"name": "clip", "samplers": samplers, "channels": channels}


def _linear(srgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert sRGB in [0, 1] to linear light (IEC 61966-2-1)."""
    return np.asarray(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4), np.float32)


def _displayed(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Invert `_linear`."""
    return np.asarray(
        np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055), np.float32
    )
