"""Folders as published programs leave them: a few Gaussians, tiny networks under the original names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
C0 = 0.28209479177387814
COLOURS = np.array([[0.9, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.9], [0.4, 0.4, 0.4]], np.float32)


def marker() -> dict[str, Floats]:
    """Four Gaussians in DreamGaussian's world: red on the right (+x), green above (+y), blue in front (+z)."""
    means = np.array([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [-0.1, -0.2, 0]], np.float32)
    return {
        "means": means,
        "log_scales": np.log(np.full((4, 3), 0.12, np.float32)),
        "quats": np.tile(np.array([2.0, 0, 0, 0], np.float32), (4, 1)),  # not normalised
        "logits": np.full((4, 1), 4.0, np.float32),
        "dc": (COLOURS - 0.5) / C0,
    }


def write_ply(path: Path, values: Mapping[str, Floats], *, normals: bool = True) -> Path:
    """A 3DGS .ply as the original writes it, without the product's own writer."""
    count = len(values["means"])
    columns: list[tuple[str, Floats]] = [
        *zip("xyz", values["means"].T, strict=True),
        *([(f"n{axis}", np.zeros(count, np.float32)) for axis in "xyz"] if normals else []),
        *((f"f_dc_{i}", values["dc"][:, i]) for i in range(3)),
        ("opacity", values["logits"][:, 0]),
        *((f"scale_{i}", values["log_scales"][:, i]) for i in range(3)),
        *((f"rot_{i}", values["quats"][:, i]) for i in range(4)),
    ]
    return write_columns(path, columns)


def write_columns(path: Path, columns: Sequence[tuple[str, Floats]]) -> Path:
    """A binary .ply with one float column for each name."""
    count = len(columns[0][1])
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    header = "\n".join([*lines, *(f"property float {name}" for name, _ in columns), "end_header\n"])
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.stack([values for _, values in columns], 1).astype("<f4")
    path.write_bytes(header.encode() + table.tobytes())
    return path


def save_state(path: Path, state: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(shape: Sequence[int], seed: int, size: float = 1.0) -> Tensor:
    return torch.randn(tuple(shape), generator=generator(seed)) * size
