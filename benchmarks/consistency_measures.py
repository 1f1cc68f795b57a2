"""Truth and measurements of `consistency.py`: toy4d scenes in the prior's views."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvtokenflow.datasets.toy4d.render import render, render_flow
from mvtokenflow.datasets.toy4d.scenes import scene_toy
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.eval.metrics.compute import i3d
from mvtokenflow.eval.metrics.compute.lpips import Features, LpipsNetwork
from mvtokenflow.eval.metrics.motion import temporal_flickering
from mvtokenflow.eval.metrics.normal_error import normal_angle, normal_angles
from mvtokenflow.eval.metrics.psnr import psnr
from mvtokenflow.eval.metrics.warp import warp_error
from mvtokenflow.flow.ops import warp
from mvtokenflow.media.pictures import to_uint8
from mvtokenflow.weights.ledger import load

SAMPLES = 3  # rays per pixel and axis of the true pictures
CAP_DB = 100.0  # PSNR of equal pictures
_LPIPS_EVERY = 2  # frames

Clip = NDArray[np.uint8]
Normals = NDArray[np.float32]
Packed = NDArray[np.int8]


@dataclass(frozen=True)
class Truth:
    """Ground truth of a scene: F frames in V views of S pixels.

    Attributes:
        rgb: (F, V, S, S, 3) on white. alpha: (F, V, S, S). normal: (F, V, S, S, 3) world.
        flow, visible: (F-1, V, S, S, 2) and (F-1, V, S, S), to the next frame.
    """

    rgb: Clip
    alpha: NDArray[np.float32]
    normal: Normals
    flow: NDArray[np.float32]
    visible: NDArray[np.bool_]


def render_truth(scene: str, times: Sequence[float], size: int) -> Truth:
    """Render the scene in the prior's cameras."""
    toy, cameras = scene_toy(scene), six_views(size)
    picture = render(toy, cameras, times, samples=SAMPLES)
    motion = render_flow(toy, cameras, times[:-1], times[1:])
    on_white = np.clip(picture.rgb * picture.alpha + 1 - picture.alpha, 0, 1)
    return Truth(
        rgb=to_uint8(on_white),
        alpha=picture.alpha[..., 0],
        normal=picture.normal,
        flow=motion.flow,
        visible=motion.visible,
    )


def unit(pictures: Clip) -> Tensor:
    """Convert uint8 to float32 in [0, 1]."""
    return torch.from_numpy(pictures.astype(np.float32) / 255)


def packed(normals: NDArray[Any]) -> Packed:
    """Pack unit or zero vectors into bytes, to a third of a degree."""
    return np.asarray(np.rint(127 * normals), np.int8)


def unpacked(normals: Packed) -> Normals:
    """Unpack vectors, the inverse of `packed`."""
    vectors = normals.astype(np.float32)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1), np.float32)


def measure_pictures(rgb: Clip, normals: Packed, truth: Truth) -> dict[str, list[float]]:
    """Measure values per view, means over frames; see the columns of `consistency.py`."""
    vectors = unpacked(normals)
    out: dict[str, list[float]] = {}
    for view in range(rgb.shape[1]):
        frames, flow, seen = rgb[:, view] / 255.0, truth.flow[:, view], truth.visible[:, view]
        errors = normal_angles(vectors[:, view], truth.normal[:, view])
        decibels = [psnr(a, b) for a, b in zip(rgb[:, view], truth.rgb[:, view], strict=True)]
        sharp, true_sharp = (_gradients(of[:, view], truth.alpha[:, view]) for of in (rgb, truth.rgb))
        row = {
            "warp": 255 * np.nanmean(warp_error(frames, flow, seen).mae),
            "flicker": 255 * (1 - temporal_flickering(frames).mean()),
            "psnr": np.mean(np.minimum(decibels, CAP_DB)),
            # A view without any common surface has no angle; 90 degrees is the value of chance.
            "normal": np.nan_to_num(errors.mean_deg, nan=90.0).mean(),
            "normal_warp": _normal_warp(vectors[:, view], flow, seen),
            "iou": errors.mask_iou.mean(),
            "detail": sharp / true_sharp,
        }
        for name, value in row.items():
            out.setdefault(name, []).append(float(value))
    return out


def measure_lpips(network: LpipsNetwork, rgb: Clip, wanted: Sequence[Sequence[Features]]) -> list[float]:
    """Measure LPIPS per view, over the frames of `lpips_targets`."""
    frames = rgb[::_LPIPS_EVERY]
    return [
        float(
            np.mean(
                [
                    network.distance(network.features(a[view]), b[view])
                    for a, b in zip(frames, wanted, strict=True)
                ]
            )
        )
        for view in range(rgb.shape[1])
    ]


def lpips_targets(network: LpipsNetwork, rgb: Clip) -> list[list[Features]]:
    """Compute features of the true views, by selected frame and view."""
    return [[network.features(view) for view in frame] for frame in rgb[::_LPIPS_EVERY]]


def measure_logits(network: i3d.InceptionI3d, rgb: Clip, kind: str) -> NDArray[np.float32]:
    """Compute I3D logits (V, 400) of each view's clip, prepared as for `fvd` or `fvd_c4d`."""
    rows = []
    for view in range(rgb.shape[1]):
        frames = list(rgb[:, view])
        if kind == "fvd_c4d":
            found = i3d.logits(network, i3d.prepare_c4d(frames)[None], 1)
        else:
            found = i3d.logits(network, i3d.prepare_bilinear(frames)[None], 2)
        rows.append(found[0].numpy())
    return np.stack(rows)


@lru_cache(maxsize=1)
def lpips_network() -> LpipsNetwork:
    """Load LPIPS with the evaluation's weights."""
    return LpipsNetwork("vgg", load("lpips-vgg"))


@lru_cache(maxsize=1)
def i3d_network() -> i3d.InceptionI3d:
    """Load I3D with the evaluation's weights."""
    return i3d.build(load("i3d-kinetics400"))


def _normal_warp(normals: Normals, flow: NDArray[np.float32], seen: NDArray[np.bool_]) -> float:
    later = warp(torch.from_numpy(normals[1:]), torch.from_numpy(flow)).numpy()
    length = np.linalg.norm(later, axis=-1, keepdims=True)
    on = seen & (length[..., 0] > 0.5) & normals[:-1].any(axis=-1)
    if not on.any():
        return 0.0
    aligned = np.where(on[..., None], later / np.maximum(length, 0.5), 0)
    return float(normal_angle(aligned, np.where(on[..., None], normals[:-1], 0))[on].mean())


def _gradients(pictures: Clip, alpha: NDArray[np.float32]) -> float:
    values, inside = pictures.astype(np.float64), alpha > 0.99
    across = np.abs(np.diff(values, axis=2)).mean(-1)[inside[:, :, 1:] & inside[:, :, :-1]].sum()
    down = np.abs(np.diff(values, axis=1)).mean(-1)[inside[:, 1:] & inside[:, :-1]].sum()
    return float(across + down)
