"""Gaussians in .ply files: columns before activation, with cut-off files named by their bytes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData
from torch import Tensor

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import DataError
from mvtokenflow.media.pictures import check_file
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.splat.io import read_ply

_HEADER_BYTES = 2**16  # of a .ply; those of Gaussians have about 500
_AGAIN = "copy or export it again"
_SIZES = {"char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "double": 8} | {
    "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "float64": 8
}  # fmt: skip


def read_columns(path: Path, names: Sequence[str]) -> Tensor:
    """Read columns of the vertices of a .ply, (N, len(names)) float32.

    Raises:
        DataError: no such file, not a .ply, cut off, empty, a column missing, or NaN.
    """
    check_length(path)
    with damage(path, "cannot be read as a .ply", _AGAIN):
        vertex = PlyData.read(path)["vertex"].data
    missing = [name for name in names if name not in (vertex.dtype.names or ())]
    if missing:
        raise DataError(f"{path}: lacks the columns {', '.join(missing)}; {_AGAIN}")
    table = np.stack([np.asarray(vertex[name], np.float32) for name in names], axis=1)
    if not len(table):
        raise DataError(f"{path}: holds no Gaussian; {_AGAIN}")
    if not np.isfinite(table).all():
        raise DataError(f"{path}: holds NaN or infinite values; train it again")
    return torch.from_numpy(table)


def columns_of(path: Path) -> set[str]:
    """Return the names of the columns that the header of a .ply states; none if it is no .ply."""
    return set(re.findall(r"^property \w+ (\w+)\s*$", _header(path) or "", re.MULTILINE))


def is_gaussians(path: Path) -> bool:
    """Return whether a file is a .ply with the columns of 3D Gaussian Splatting."""
    return columns_of(path) >= {"x", "y", "z", "f_dc_0", "opacity", "scale_0", "rot_0"}


def check_length(path: Path) -> None:
    """Compare a file's length with what its header states.

    Raises:
        DataError: no readable file, no .ply, or one that is cut off.
    """
    check_file(path)
    header = _header(path)
    if header is None:
        raise DataError(f"{path}: no .ply header in its {path.stat().st_size} bytes; {_AGAIN}")
    if "format binary" not in header:
        return  # text is counted while it is parsed
    stated = len(header)
    for count, properties in re.findall(r"^element \w+ (\d+)\s*\n((?:property .*\n)*)", header, re.MULTILINE):
        kinds = re.findall(r"^property (\w+) \w+\s*$", properties, re.MULTILINE)
        stated += int(count) * sum(_SIZES.get(kind, 0) for kind in kinds)
    held = path.stat().st_size
    if held < stated:
        raise DataError(f"{path}: cut off, {held} of {stated} bytes; {_AGAIN}")


def _header(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        start = stream.read(_HEADER_BYTES)
    end = start.find(b"end_header\n")
    if not start.startswith(b"ply") or end < 0:
        return None
    return start[: end + len(b"end_header\n")].decode("latin-1")


def read_gaussians(path: Path) -> Gaussians:
    """Read the Gaussians of a 3DGS .ply; raises as `read_columns` and `splat.io.read_ply`."""
    check_length(path)
    found = read_ply(path)
    if not len(found):
        raise DataError(f"{path}: holds no Gaussian; {_AGAIN}")
    return found


@dataclass(frozen=True)
class Raw:
    """Gaussians with their scales and rotations before activation, to which deformations are added.

    Attributes:
        rest: activated, as stored. log_scales: (N, 3). quats: (N, 4) wxyz of any length.
    """

    rest: Gaussians
    log_scales: Tensor
    quats: Tensor

    def moved(self, means: Tensor, log_scales: Tensor, quats: Tensor) -> Gaussians:
        """Return the Gaussians at other places: (N, 3), (N, 3) and (N, 4), before activation."""
        unit = torch.nn.functional.normalize(quats, dim=-1)
        return replace(self.rest, means=means, scales=log_scales.exp(), quats=unit)


def read_raw(path: Path) -> Raw:
    """Read the Gaussians of a 3DGS .ply and their values before activation; raises as `read_gaussians`."""
    columns = read_columns(path, [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))])
    return Raw(read_gaussians(path), columns[:, :3], columns[:, 3:])
