"""Reading and writing fields (one safetensors file) and Gaussians (one standard 3DGS .ply per moment)."""

import json
import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from plyfile import PlyData, PlyElement
from torch import Tensor

from mvtokenflow.base.damaged import damage, parse_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import atomic_path
from mvtokenflow.base.tensor_files import read_tensors, write_tensors
from mvtokenflow.splat.config import FieldConfig
from mvtokenflow.splat.control import ControlPoints
from mvtokenflow.splat.field import DynamicField, deform_network
from mvtokenflow.splat.gaussians import PARAMETERS, SH_C0, GaussianModel, Gaussians
from mvtokenflow.splat.kernels.constants import MAX_DEGREE

FORMAT = "mvtokenflow-field"
_CURE = "delete it and run the command that wrote it again"
VERSION = "2"  # version 1 did not state the training pixel
_GEOMETRY = ("x", "y", "z", "opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4)))
_DC = tuple(f"f_dc_{channel}" for channel in range(3))
_PACKED = re.compile(r"packed_|chunk\Z|codebook")  # names of columns and elements in compressed layouts
_LARGEST = 30.0  # logarithm of a scale; the squares of larger ones overflow in projection
_NORMALS = ("nx", "ny", "nz")  # always 0: some viewers expect the columns


def save_field(path: Path, field: DynamicField, *, half: bool = False, rate: float | None = None) -> None:
    """Write a field and its config atomically.

    Args:
        path: the .safetensors file; an existing one is replaced.
        half: store float16. A unit-sized object is then exact to about 5e-4, good for viewing, not for
            training on.
        rate: frames per second of the clip that the field was fitted to, at which results play.
    """
    dtype = torch.float16 if half else torch.float32
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in field.state_dict().items()}
    # One entry only: safetensors writes several in random order, and equal fields must be equal files.
    facts = {"version": VERSION, "config": field.config.to_dict(), "pixel": field.pixel}
    if rate is not None:
        facts["rate"] = rate
    metadata = {FORMAT: json.dumps(facts)}
    write_tensors(path, tensors, metadata)


def field_rate(path: Path) -> float | None:
    """Read the frames per second of the clip that a field was fitted to; None where its file states none.

    Raises:
        DataError: the file cannot be read, or states a rate that is not one.
    """
    metadata, _ = read_tensors(path, "cannot be read as safetensors", _CURE, names=False)
    with damage(path, "the field is damaged", _CURE):
        rate = parse_json(metadata.get(FORMAT, "{}")).get("rate")
        if rate is not None and not (isinstance(rate, int | float) and 0 < rate <= 1000):
            raise ValueError(f"its rate is {rate!r}")
        return None if rate is None else float(rate)


def load_field(path: Path, device: torch.device | str = "cpu", *, pixel: float | None = None) -> DynamicField:
    """Load a field written by `save_field`, in float32.

    Args:
        pixel: side of the training pixel in world units, for files of version 1, which do not state it: 2 / 64
            of a field fitted to pictures of 64 pixels whose cameras span [-1, 1]. Other files state their own.

    Raises:
        DataError: no such file, not a field, a newer version, tensors missing, of wrong shape or not finite; a
            file of version 1 without `pixel`.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a field written by save_field")
    metadata, tensors = read_tensors(path, "cannot be read as safetensors", _CURE)
    if FORMAT not in metadata:
        raise DataError(f"{path}: not a field of this project; expected a file written by save_field")
    with damage(path, "the field is damaged", _CURE):
        facts = parse_json(metadata[FORMAT])
        if not isinstance(facts, dict):
            raise TypeError("its settings are no object")
    if facts.get("version") not in ("1", VERSION):
        raise DataError(
            f"{path}: has version {facts.get('version')}, this program reads 1 to {VERSION}; "
            "upgrade the program"
        )
    if facts["version"] == "1" and pixel is None:
        raise DataError(
            f"{path}: written before fields stated the size of the pictures that they were fitted to, without "
            "which they look too thin or too thick; state it "
            "(`mvtf render --fit-size 64` for the preset mini, 512 for paper)"
        )
    tensors = {name: value.to(device, torch.float32) for name, value in tensors.items()}
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise DataError(f"{path}: {name} holds NaN or infinite values; train the field again")
    with damage(path, "the field is damaged", _CURE):
        settings = facts["config"]
        config = FieldConfig(**settings | {"background": tuple(settings["background"])})
        model = GaussianModel(**{name: tensors.pop(f"gaussians.{name}") for name in PARAMETERS})
        own = pixel if facts["version"] == "1" else facts["pixel"]
        field = DynamicField(config, model, _control_points(config, tensors), pixel=own)
    return field.to(device)


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Write Gaussians atomically as a standard 3DGS .ply file: values before activation.

    Columns x y z nx ny nz f_dc_0..2 f_rest_* opacity scale_0..2 rot_0..3, float32 little endian: logit
    opacity, logarithm of scale, wxyz quaternion; f_rest runs over bands within a colour channel. The low-pass
    of the training pixel is part of the scales, so that viewers which add that of their own pixel, as all of
    3DGS do, show the object right at several times the size of the fit, and a little too thick at its own.

    Raises:
        DataError: a value is not finite; no file is written.
    """
    gaussians = gaussians.low_passed()
    host = {
        "means": gaussians.means,
        "opacity": gaussians.opacities.logit(torch.finfo(torch.float32).eps),
        "scales": gaussians.scales.clamp_min(torch.finfo(torch.float32).tiny).log(),
        "quats": gaussians.quats,
        "colors": gaussians.colors,
    }
    arrays = {name: value.detach().float().cpu().numpy() for name, value in host.items()}
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise DataError(f"{path}: the Gaussians' {name} hold NaN or infinite values; train the field again")
    colors = arrays["colors"]
    if gaussians.sh_degree is None:
        colors = ((colors - 0.5) / SH_C0)[:, None]
    rest = colors[:, 1:].transpose(0, 2, 1).reshape(len(gaussians), 3 * (colors.shape[1] - 1))
    columns = [
        arrays["means"],
        np.zeros((len(gaussians), 3), np.float32),
        colors[:, 0],
        rest,
        arrays["opacity"][:, None],
        arrays["scales"],
        arrays["quats"],
    ]
    names = (*_GEOMETRY[:3], *_NORMALS, *_DC, *_rest_names(rest.shape[1]), *_GEOMETRY[3:])
    table = np.concatenate(columns, axis=1).astype("<f4")
    rows = table.view([(name, "<f4") for name in names])[:, 0]
    with atomic_path(path) as temporary:
        PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(temporary)


def read_ply(path: Path) -> Gaussians:
    """Read the Gaussians of a 3DGS .ply file, activated, float32; plain colours where it has no f_rest.

    Raises:
        DataError: no such file, not a .ply, a compressed one, columns missing, values that are not finite, or
            scales that cannot be drawn.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file; give a .ply of 3D Gaussians")
    with damage(path, "cannot be read as a .ply", "export it again"):
        held = PlyData.read(path)
        vertex = held["vertex"].data
    names = set(vertex.dtype.names or ())
    packed = [name for name in (*(element.name for element in held), *names) if _PACKED.match(name)]
    if packed:
        raise DataError(f"{path}: is compressed (it has {min(packed)}); export it as an uncompressed .ply")
    missing = [name for name in (*_GEOMETRY, *_DC) if name not in names]
    if missing:
        raise DataError(
            f"{path}: lacks the columns {', '.join(missing)}; give a 3D Gaussian Splatting .ply, "
            "not a point cloud"
        )
    rest_count = sum(name.startswith("f_rest_") for name in names)
    degrees = {3 * ((degree + 1) ** 2 - 1): degree for degree in range(MAX_DEGREE + 1)}
    if rest_count not in degrees or not names.issuperset(_rest_names(rest_count)):
        raise DataError(
            f"{path}: has {rest_count} f_rest columns; expected 0, 9, 24 or 45, numbered from 0 without gaps"
        )
    geometry, dc, rest = (_columns(vertex, part) for part in (_GEOMETRY, _DC, _rest_names(rest_count)))
    if not all(bool(part.isfinite().all()) for part in (geometry, dc, rest)):
        raise DataError(f"{path}: holds NaN or infinite values; export it again")
    if bool((geometry[:, 4:7] > _LARGEST).any()):
        raise DataError(
            f"{path}: a scale is e^{float(geometry[:, 4:7].max()):.4g}, which cannot be drawn; scale_0..2 are "
            "logarithms, export it again"
        )
    bands = torch.cat([dc[:, None], rest.reshape(len(dc), 3, rest_count // 3).transpose(1, 2)], dim=1)
    degree = degrees[rest_count]
    return Gaussians(
        means=geometry[:, :3],
        quats=torch.nn.functional.normalize(geometry[:, 7:11], dim=-1),
        scales=geometry[:, 4:7].exp().clamp_min(torch.finfo(torch.float32).tiny),
        opacities=geometry[:, 3].sigmoid(),
        colors=bands if degree else (SH_C0 * dc + 0.5).clamp_min(0.0),
        sh_degree=degree or None,
    )


def _control_points(config: FieldConfig, tensors: dict[str, Tensor]) -> ControlPoints | None:
    """Build control points from a file's remaining tensors; None where none remain.

    Raises:
        RuntimeError: names or shapes do not fit (torch's strict loading).
    """
    if not tensors:
        return None
    state = {name.removeprefix("control."): value for name, value in tensors.items()}
    points = ControlPoints(
        state["positions"], deform_network(config), hyper_dim=config.hyper_dim, neighbours=config.neighbours
    )
    points.to(state["positions"].device).load_state_dict(state)
    return points


def _rest_names(count: int) -> tuple[str, ...]:
    return tuple(f"f_rest_{index}" for index in range(count))


def _columns(vertex: NDArray[np.void], names: tuple[str, ...]) -> Tensor:
    """Stack columns of a .ply vertex into a tensor (N, len(names)) float32."""
    table = np.empty((len(vertex), len(names)), np.float32)
    for index, name in enumerate(names):
        table[:, index] = vertex[name]
    return torch.from_numpy(table)
