"""Gaussians of one moment as files of other viewers: .splat, .spz and .glb; and in other worlds' axes.

All hold the low-pass of the training pixel in their scales, as `io.write_ply`.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import atomic_path, write_bytes
from mvtokenflow.splat.control import quaternion_product
from mvtokenflow.splat.gaussians import SH_C0, Gaussians
from mvtokenflow.splat.glb import VERTICES, Tables, glb_bytes
from mvtokenflow.splat.io import write_ply
from mvtokenflow.splat.kernels.sh import sh_basis

Format = Literal["ply", "splat", "spz", "glb"]
Axes = Literal["project", "viewer", "gltf"]
FORMATS: tuple[Format, ...] = ("ply", "splat", "spz", "glb")
AXES: Mapping[Axes, tuple[float, float, float, float]] = {  # wxyz, from this project's world: Z up, front at -Y
    "project": (1.0, 0.0, 0.0, 0.0),
    "viewer": (0.5**0.5, 0.5**0.5, 0.0, 0.0),  # (x, -z, y): y down, z forward, the habit of 3DGS
    "gltf": (0.5**0.5, -(0.5**0.5), 0.0, 0.0),  # (x, z, -y): Y up, front to +Z
}
USUAL: Mapping[Format, Axes] = {"ply": "project", "splat": "viewer", "spz": "gltf", "glb": "gltf"}
_DIRECTIONS = 128  # from which rotated harmonics are found; 16 coefficients at most
EXTENSION = "KHR_gaussian_splatting"


def turned(gaussians: Gaussians, axes: Axes) -> Gaussians:
    """Return Gaussians in other axes: centres, orientations and spherical harmonics.

    Args:
        axes: "project" is Z up with the front at −Y; "viewer" has y down and z forward, as 3DGS; "gltf" has
            Y up and the front to +Z.

    Raises:
        ConfigError: other axes.
    """
    if axes not in AXES:
        raise ConfigError(f"axes are {axes!r}; choose {', '.join(AXES)}")
    quat = gaussians.means.new_tensor(AXES[axes])
    w, x, y, z = quat.tolist()
    rotation = gaussians.means.new_tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    colors = gaussians.colors
    if gaussians.sh_degree is not None:
        generator = torch.Generator().manual_seed(0)
        seen = torch.nn.functional.normalize(torch.randn(_DIRECTIONS, 3, generator=generator), dim=-1).double()
        here = sh_basis(gaussians.sh_degree, seen)
        there = sh_basis(gaussians.sh_degree, seen @ rotation.double().T)
        change = torch.linalg.lstsq(there, here).solution.to(colors)
        colors = torch.einsum("kj,njc->nkc", change, colors)
    return Gaussians(
        means=gaussians.means @ rotation.T,
        quats=quaternion_product(quat.expand_as(gaussians.quats), gaussians.quats),
        scales=gaussians.scales,
        opacities=gaussians.opacities,
        colors=colors,
        sh_degree=gaussians.sh_degree,
        pixel=gaussians.pixel,
    )


def write_gaussians(path: Path, gaussians: Gaussians, kind: Format, axes: Axes | None = None) -> None:
    """Write Gaussians atomically.

    Args:
        kind: "ply" of 3DGS; "splat", 32 bytes each, without harmonics; "spz" version 3; "glb", glTF with
            KHR_gaussian_splatting.
        axes: of the file; None is what readers of the kind expect, and for "ply" this project's.

    Raises:
        ConfigError: another kind or axes; "spz" without gsply.
        DataError: a value is not finite; no file is written.
    """
    writers: Mapping[str, Callable[[Path, Gaussians], None]] = {
        "ply": write_ply,
        "splat": write_splat,
        "spz": write_spz,
        "glb": write_glb,
    }
    if kind not in writers:
        raise ConfigError(f"the format is {kind!r}; choose {', '.join(writers)}")
    writers[kind](path, turned(gaussians, USUAL[kind] if axes is None else axes).low_passed())


def splat_loss(gaussians: Gaussians) -> str | None:
    """Return in one sentence what a .splat cannot hold of Gaussians; None if it holds everything."""
    lost = []
    plain = gaussians.sh_degree is None
    if not plain:
        lost.append("spherical harmonics are left out, so colours do not change with the direction")
    colors = gaussians.colors.detach() if plain else gaussians.colors[:, 0].detach() * SH_C0 + 0.5
    share = float((colors > 1 + 0.5 / 255).float().mean())
    if share > 0:
        lost.append(
            f"{share:.2%} of the colours' values are above 1, up to {float(colors.max()):.2f}, and are cut to "
            "1; opacities and sizes make up for part of the light"
        )
    return f".splat: {'; '.join(lost)}" if lost else None


def write_splat(path: Path, gaussians: Gaussians) -> None:
    """Write 32 bytes for each Gaussian: float32 centre and scales, RGBA and wxyz in 8 bits; largest first.

    A colour above 1 is cut to 1. The Gaussian becomes more opaque for it, and where that ends larger, so that
    as much light comes from it.
    """
    values = _values(gaussians, path)
    rows = np.zeros(
        len(gaussians), [("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)]
    )
    rgb = values["sh"][:, 0] * SH_C0 + 0.5
    held = rgb.clip(0, 1)
    gain = ((rgb * held).sum(axis=1) / (held**2).sum(axis=1).clip(1e-6)).clip(1)  # 1 where nothing is cut
    wanted = values["opacities"] * gain
    larger = np.sqrt(wanted.clip(1))  # on the picture, an area
    rows["mean"], rows["scale"] = values["means"], values["scales"] * larger[:, None]
    rows["rgba"] = np.rint(np.column_stack([held, wanted]).clip(0, 1) * 255)
    rows["quat"] = np.rint(values["quats"] * 128 + 128).clip(0, 255)
    weight = values["scales"].prod(axis=1) * values["opacities"]
    write_bytes(path, rows[np.argsort(-weight, kind="stable")].tobytes())


def write_spz(path: Path, gaussians: Gaussians) -> None:
    """Write Niantic's .spz, version 3, by gsply."""
    try:
        gsply = import_module("gsply")
    except ImportError as error:
        raise ConfigError(
            "writing .spz needs gsply, which is not installed; run `pip install 'mvtokenflow[formats]'`, or "
            "export another format"
        ) from error
    values = _values(gaussians, path)
    opacities = values["opacities"].clip(1e-6, 1 - 1e-6)
    data = gsply.GSData.from_arrays(
        means=values["means"],
        scales=np.log(values["scales"]),
        quats=values["quats"],
        opacities=np.log(opacities / (1 - opacities)),
        sh0=np.ascontiguousarray(values["sh"][:, 0]),
        shN=np.ascontiguousarray(values["sh"][:, 1:]),
    )
    with atomic_path(path) as temporary:
        gsply.write_spz(temporary, data)


def write_glb(path: Path, gaussians: Gaussians) -> None:
    """Write one glTF file with the extension KHR_gaussian_splatting; other readers see coloured points."""
    values = _values(gaussians, path)
    coefficients = values["sh"]
    rgba = np.column_stack([coefficients[:, 0] * SH_C0 + 0.5, values["opacities"]]).clip(0, 1)
    columns: dict[str, NDArray[np.float32]] = {
        "POSITION": values["means"],
        "COLOR_0": rgba.astype(np.float32),
        f"{EXTENSION}:ROTATION": values["quats"][:, [1, 2, 3, 0]],  # xyzw
        f"{EXTENSION}:SCALE": values["scales"],
        f"{EXTENSION}:OPACITY": values["opacities"],
    }
    bands = [
        (degree, place) for degree in range((gaussians.sh_degree or 0) + 1) for place in range(2 * degree + 1)
    ]
    for band, (degree, place) in enumerate(bands):
        columns[f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{place}"] = coefficients[:, band]
    tables = Tables()
    attributes = {
        name: tables.add(values, target=VERTICES, ranged=name == "POSITION") for name, values in columns.items()
    }
    splats = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    primitive = {"mode": 0, "attributes": attributes, "extensions": {EXTENSION: splats}}
    document = {
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
    }
    write_bytes(path, glb_bytes(document, tables))


def _values(gaussians: Gaussians, path: Path) -> dict[str, NDArray[np.float32]]:
    """Return float32 arrays; colours as harmonics (N, K, 3).

    Raises:
        DataError: a value is not finite, or there is no Gaussian.
    """
    colors = gaussians.colors
    if gaussians.sh_degree is None:
        colors = ((colors - 0.5) / SH_C0)[:, None]
    given = {
        "means": gaussians.means,
        "quats": torch.nn.functional.normalize(gaussians.quats, dim=-1),
        "scales": gaussians.scales.clamp_min(torch.finfo(torch.float32).tiny),
        "opacities": gaussians.opacities,
        "sh": colors,
    }
    if not len(gaussians):
        raise DataError(f"{path}: there is no Gaussian to write")
    arrays = {name: value.detach().float().cpu().numpy() for name, value in given.items()}
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise DataError(f"{path}: the Gaussians' {name} hold NaN or infinite values; train the field again")
    return arrays
