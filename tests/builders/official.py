"""Folders as published programs leave them: a few Gaussians, tiny networks under the original names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mvtokenflow.media.video import write_video
from mvtokenflow.radiance.cascade import CascadeField, CascadeLevel
from mvtokenflow.radiance.heads import PlaneDeformation
from mvtokenflow.splat.timenet import TimeNet

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


SIZE = 32  # of pictures and videos


def dg4d(folder: Path, files: int, *, normals: bool = False, name: str = "toy") -> Path:
    """DreamGaussian4D: the marker moves to its right by 0.02 a file."""
    for number in range(files):
        gaussians = marker()
        gaussians["means"][:, 0] += 0.02 * number
        write_ply(folder / f"{name}_frames" / f"{number:03d}.ply", gaussians)
    write_ply(folder / f"{name}_model.ply", marker(), normals=normals)
    return folder


NODES = ("c_x", "c_y", "c_z", "c_radius")


def nodes() -> Tensor:
    """Control points of `sc4d`: positions and logarithms of radii, (6, 4)."""
    return torch.cat([drawn((6, 3), 3, 0.4), torch.full((6, 1), -1.5)], 1)


def sc4d(folder: Path, stages: tuple[str, ...] = ("s1", "s2")) -> TimeNet:
    """SC4D: two stages with one network; `nodes` are the control points of the second."""
    net = TimeNet(width=16)
    net.initialise(generator())
    with torch.no_grad():
        net.get_parameter("pts_layers.2.weight").copy_(drawn((3, 16), 1, 0.1))
        net.get_parameter("rot_layers.2.weight").copy_(drawn((4, 16), 2, 0.1))
    for stage in stages:
        write_ply(folder / stage / "point_cloud.ply", marker())
        save_state(folder / stage / "timenet.pth", net.state_dict())
    if "s2" in stages:
        write_columns(
            folder / "s2/point_cloud_c.ply", [(n, v.numpy()) for n, v in zip(NODES, nodes().T, strict=True)]
        )
    return net


def deformation(folder: Path, more: dict[str, Tensor] | None = None) -> PlaneDeformation:
    """The three files of a deformation by planes, with parameters that pictures do not depend on."""
    network = PlaneDeformation((5, 6, 7, 3), (1, 2), 2, 8, heads="plain")
    network.initialise(generator(4))
    state = {f"deformation_net.{name}": value for name, value in network.state_dict().items()}
    state |= {
        "deformation_net.grid.aabb": torch.tensor([[1.6] * 3, [-1.6] * 3]),
        "deformation_net.opacity_deform.1.weight": torch.zeros(8, 8),
        "timenet.0.weight": torch.zeros(2, 2),
        "time_poc": torch.zeros(4),
        **(more or {}),
    }
    save_state(folder / "deformation.pth", state)
    save_state(folder / "deformation_table.pth", torch.ones(4, dtype=torch.bool))
    save_state(folder / "deformation_accum.pth", torch.zeros(4, 3))
    return network


def consistent4d(folder: Path, settings: Any = None) -> CascadeField:
    """Consistent4D: a checkpoint of Lightning with two levels, whose `settings` are any object."""
    levels = [
        CascadeLevel(resolution=(4, 5, 6, 3), channels=3, width=8),
        CascadeLevel(resolution=(8, 7, 6, 4), channels=3, width=8),
    ]
    field = CascadeField(levels)
    field.initialise(generator(5))
    with torch.no_grad():
        for seed, (name, parameter) in enumerate(field.named_parameters()):
            if name.startswith("grids."):  # a field that differs from side to side and in time
                parameter.copy_(1 + drawn(parameter.shape, seed, 0.5))
            elif name.startswith("feature_network."):
                parameter.mul_(2)
    state = {f"geometry.{name}": value for name, value in field.state_dict().items()}
    state["geometry.bbox"] = torch.tensor([[-1.0] * 3, [1.0] * 3])
    state["renderer.estimator.binaries"] = torch.ones(1, 8, 8, 8, dtype=torch.bool)
    document = {
        "epoch": 0,
        "state_dict": state,
        "hyper_parameters": settings,
        "optimizer_states": [{"lr": 0.01}],
    }
    save_state(folder / "ckpts/last.ckpt", document)
    (folder / "configs").mkdir(parents=True)
    (folder / "configs/parsed.yaml").write_text("name: x\nsystem_type: consistent4d-system\n")
    return field


def stag4d(folder: Path) -> PlaneDeformation:
    """STAG4D: the marker and its deformation."""
    write_ply(folder / "model.ply", marker())
    return deformation(folder)


def gen4d(folder: Path) -> PlaneDeformation:
    """4DGen: two iterations, of which the later one is whole."""
    last = folder / "point_cloud/iteration_300"
    write_ply(folder / "point_cloud/iteration_20/point_cloud.ply", marker())
    write_ply(last / "point_cloud.ply", marker())
    return deformation(last)


def clip(tone: int, frames: int, size: int = SIZE) -> NDArray[np.uint8]:
    """A grey square of one tone on white that falls from frame to frame."""
    pictures = np.full((frames, size, size, 3), 255, np.uint8)
    for t in range(frames):
        pictures[t, 8 + t % 8 : 20 + t % 8, 8:24] = tone
    return pictures


def diffusion2(folder: Path) -> Path:
    """Diffusion²: view k has the tone 10 k."""
    for k in range(21):
        for n, picture in enumerate(clip(10 * k, 25)):
            path = folder / f"view_{k:02d}" / f"frame_{n:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
        (folder / f"view_{k:02d}/frame_all.mp4").write_bytes(b"a video beside the frames is not read")
    save_state(folder / "ref_multiview.pth", {})
    return folder


SV4D = {f"v{k:03d}": 20 * k for k in range(1, 9)} | {"t000": 1, "diag": 2, "process_input": 3}
SV4D2 = {f"v{k:03d}": 40 * k for k in range(1, 5)} | {"process_input": 3}


def sv4d(folder: Path, parts: dict[str, int], frames: int = 21, run: str = "000000") -> Path:
    """SV4D: videos of these parts, each with a tone."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, level in parts.items():
        write_video(folder / f"{run}_{part}.mp4", clip(level, frames), 10)
    return folder


def consistent4d_video(folder: Path, frames: int, more: int = 0) -> Path:
    """Consistent4D with `--validate`: four views one after another, [colours | normals | depth] each."""
    long = np.concatenate([clip(level, frames) for level in (20, 80, 140, 200)] + [clip(90, more)] * (more > 0))
    (folder / "save").mkdir(parents=True, exist_ok=True)
    write_video(folder / "save/it10000-val.mp4", np.concatenate([long, 255 - long, long], axis=2), 10)
    write_video(folder / "save/it2000-val.mp4", np.concatenate([long[:2]] * 3, axis=2), 10)
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "configs/parsed.yaml").write_text("name: x\nsystem_type: consistent4d-system\n")
    return folder


def l4gm(folder: Path) -> Path:
    """L4GM: four views side by side in a video of 12 frames."""
    wide = np.concatenate([clip(level, 12) for level in (20, 80, 140, 200)], axis=2)
    folder.mkdir(parents=True, exist_ok=True)
    write_video(folder / "wo_interp_toy_fixed.mp4", wide, 15)
    Image.fromarray(wide[0]).save(folder / "toy_orig.png")
    return folder
