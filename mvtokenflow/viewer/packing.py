"""Moving Gaussians as data of a viewer's page, format `mvtf4d` version 1: a header and a deflated stream.

Two kinds: "skinned", canonical Gaussians with control points that move them, and "moments", the Gaussians of
each stored moment. docs/viewer.md describes both for other programs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.splat.control import Skinning
from mvtokenflow.splat.deform import NodeMotion
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.splat.kernels.constants import ALPHA_MIN
from mvtokenflow.viewer.rotations import pack_quaternions
from mvtokenflow.viewer.sections import Kind, Section, exact, join, quantised

FORMAT, VERSION = "mvtf4d", 1
MAX_BYTES = 16 * 2**20  # of a stream; a page of text takes a third more
_FLOOR = 0.02  # scales are stored from this share of the training pixel, whose low-pass hides smaller ones
_FINE = 6.0  # logarithms of scales that differ by more are stored in 16 bits
_QUANTILE, _RIM_QUANTILE = 0.999, 0.95


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Data of one method: the header, JSON-able, and the deflated sections that it lists."""

    header: Mapping[str, Any]
    stream: bytes

    @property
    def label(self) -> str:
        """Name that the page shows."""
        return str(self.header["label"])


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The stored frames.

    Attributes:
        times: of the frames in [0, 1], increasing. fps: frames per second of playing.

    Raises:
        DataError: no frame, times that do not increase, or no rate.
    """

    times: tuple[float, ...]
    fps: float = 8.0

    def __post_init__(self) -> None:
        if not self.times or any(late <= early for early, late in pairwise(self.times)):
            raise DataError(f"the times of frames are {list(self.times)}; expected increasing ones")
        if not 0 < self.fps <= 1000:
            raise DataError(f"the rate is {self.fps} frames per second; expected more than 0, up to 1000")


@dataclass(frozen=True, kw_only=True)
class Skin:
    """Gaussians that follow control points, at T times.

    Attributes:
        still: canonical. raw_quats: (N, 4) wxyz before normalising, which `rotation` "residual" adds to.
        nodes: (M, 3). skinning: of N Gaussians.
        motion: of the nodes, (T, M, ·), raw outputs of the network.
        rotation, local_frame: as of `FieldConfig`.
        moved: (T, N, 3), where the Gaussians then are; for the extent of the picture.
    """

    still: Gaussians
    raw_quats: Tensor
    nodes: Tensor
    skinning: Skinning
    motion: NodeMotion
    moved: Tensor
    rotation: Literal["frame", "residual"] = "frame"
    local_frame: bool = True


def pack_skin(skin: Skin, label: str, timing: Timing) -> Packed:
    """Pack Gaussians that follow control points.

    Raises:
        DataError: more than 16 MiB, no Gaussian that can be seen, or values that are not finite.
    """
    kept = _kept(skin.still.means, skin.still.opacities, label)
    still, residual = _chosen(skin.still, kept), skin.rotation == "residual"
    weights = skin.skinning.weights[kept]
    count, neighbours = len(skin.nodes), weights.shape[1]
    channels = [skin.motion.translation, skin.motion.local_rotation, skin.motion.scaling]
    motion = torch.cat(channels + ([skin.motion.rotation] if residual else []), dim=-1)
    quats = (
        exact("quats", _array(skin.raw_quats[kept]), "f32")
        if residual
        else exact("quats", pack_quaternions(_array(still.quats)), "u32")
    )
    sections = [
        quantised("means", _array(still.means), "u16"),
        quats,
        _log_scales(_array(still.scales), still.pixel),
        *_looks(still),
        exact("indices", _array(skin.skinning.indices[kept]), _whole(count)),
        quantised("weights", _array(weights), "u8" if neighbours <= 64 else "u16", (0.0, float(weights.max()))),
        exact("nodes", _array(skin.nodes), "f32"),
        quantised("motion", _array(motion.reshape(-1, motion.shape[-1])), "u16", difference=count),
    ]
    header = {
        "kind": "skinned",
        "count": len(still),
        "nodes": count,
        "neighbours": neighbours,
        "rotation": skin.rotation,
        "local_frame": skin.local_frame,
        "linked": True,
        **_facts(still, label, timing, list(skin.moved[:, kept])),
    }
    return _packed(header, sections)


def pack_moments(moments: Sequence[Gaussians], label: str, timing: Timing) -> Packed:
    """Pack the Gaussians of each frame.

    Where all frames have as many Gaussians with equal opacities and colours, they are taken for the same ones
    that move ("linked"): looks are stored once, and the page shows times between frames, and flow.

    Raises:
        DataError: as `pack_skin`, or another number of moments than of times.
    """
    if len(moments) != len(timing.times):
        raise DataError(f"{label}: {len(moments)} moments at {len(timing.times)} times; give one each")
    linked = _are_linked(moments)
    if linked:
        kept = _kept(moments[0].means, moments[0].opacities, label)
        shown = [_chosen(moment, kept) for moment in moments]
    else:
        shown = [_chosen(moment, _kept(moment.means, moment.opacities, label)) for moment in moments]
    counts = [len(moment) for moment in shown]
    whole = Gaussians(
        means=torch.cat([moment.means for moment in shown]),
        quats=torch.cat([moment.quats for moment in shown]),
        scales=torch.cat([moment.scales for moment in shown]),
        opacities=torch.cat([moment.opacities for moment in shown]),
        colors=torch.cat([moment.colors for moment in shown]),
        sh_degree=shown[0].sh_degree,
        pixel=shown[0].pixel,
    )
    sections = [
        quantised("means", _array(whole.means), "u16", difference=counts[0] if linked else 0),
        exact("quats", pack_quaternions(_array(whole.quats)), "u32"),
        _log_scales(_array(whole.scales), whole.pixel),
        *_looks(shown[0] if linked else whole),
    ]
    places = [moment.means for moment in shown]
    header = {"kind": "moments", "counts": counts, "linked": linked, **_facts(whole, label, timing, places)}
    return _packed(header, sections)


def _packed(header: Mapping[str, Any], sections: Sequence[Section]) -> Packed:
    made = Packed(
        header={
            "format": FORMAT,
            "version": VERSION,
            **header,
            "sections": [section.described() for section in sections],
        },
        stream=join(sections),
    )
    if len(made.stream) > MAX_BYTES:
        raise DataError(
            f"{made.label}: its {len(header['times'])} frames take {len(made.stream) / 2**20:.0f} MiB, a page "
            f"holds {MAX_BYTES >> 20} of one method; show fewer frames of it"
        )
    return made


def _facts(seen: Gaussians, label: str, timing: Timing, places: Sequence[Tensor]) -> dict[str, Any]:
    """Return the entries of the header that both kinds have; `places` are the centres (N, 3) at each frame."""
    reach = torch.cat(list(places)).norm(dim=1)
    far = [] if len({len(place) for place in places}) > 1 else list(pairwise(places))
    steps = torch.cat([(late - early).norm(dim=1) for early, late in far]) if far else torch.zeros(1)
    return {
        "label": label,
        "times": list(timing.times),
        "fps": timing.fps,
        "sh_degree": seen.sh_degree or 0,
        "pixel": seen.pixel,
        "extent": _quantile(reach, _QUANTILE),
        "step": _quantile(steps, _RIM_QUANTILE),
    }


def _quantile(values: Tensor, share: float) -> float:
    return float(np.quantile(_array(values), share))


def _kept(means: Tensor, opacities: Tensor, label: str) -> Tensor:
    """Return indices of the Gaussians that are drawn, along a Morton curve."""
    seen = (opacities >= ALPHA_MIN).nonzero()[:, 0]
    if not len(seen):
        raise DataError(f"{label}: no Gaussian can be seen; all are fainter than 1/255")
    if not bool(means.isfinite().all()):
        raise DataError(f"{label}: the centres hold NaN or infinite values; train the field again")
    return seen[torch.from_numpy(_morton(_array(means[seen]))).to(seen.device)]


def _morton(points: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the order of points (N, 3) along a Morton curve, which keeps neighbours together."""
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    cells = ((points - low) / np.where(span > 0, span, 1.0) * 1023).astype(np.uint64)
    codes = np.zeros(len(points), np.uint64)
    for bit in range(10):
        for axis in range(3):
            codes |= (cells[:, axis] >> np.uint64(bit) & np.uint64(1)) << np.uint64(3 * bit + axis)
    return np.argsort(codes, kind="stable")


def _chosen(gaussians: Gaussians, kept: Tensor) -> Gaussians:
    return replace(
        gaussians,
        means=gaussians.means[kept],
        quats=gaussians.quats[kept],
        scales=gaussians.scales[kept],
        opacities=gaussians.opacities[kept],
        colors=gaussians.colors[kept],
    )


def _are_linked(moments: Sequence[Gaussians]) -> bool:
    first = moments[0]
    return all(
        other.opacities.shape == first.opacities.shape
        and other.colors.shape == first.colors.shape
        and torch.equal(other.opacities, first.opacities)
        and torch.equal(other.colors, first.colors)
        for other in moments[1:]
    )


def _looks(seen: Gaussians) -> list[Section]:
    """Store opacities, and colours or their spherical harmonics."""
    opacities = quantised("opacities", _array(seen.opacities), "u8", (0.0, 1.0))
    colours = _array(seen.colors)
    if seen.sh_degree is not None:
        return [opacities, quantised("sh", colours.reshape(len(colours), -1), "u8")]
    bounds = (min(0.0, float(colours.min())), max(1.0, float(colours.max())))
    return [opacities, quantised("colours", colours, "u8", bounds)]


def _log_scales(scales: NDArray[np.floating], pixel: float | None) -> Section:
    least = np.finfo(np.float32).tiny if pixel is None else _FLOOR * pixel
    logs = np.log(np.maximum(scales, least))
    low, high = float(logs.min()), float(logs.max())
    return quantised("log_scales", logs, "u16" if high - low > _FINE else "u8", (low, high))


def _whole(count: int) -> Kind:
    """Return the type of indices below `count`."""
    return "u8" if count <= 2**8 else "u16" if count <= 2**16 else "u32"


def _array(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.detach().cpu().numpy()
    if array.dtype.kind == "f" and not math.isfinite(float(np.abs(array).sum(dtype=np.float64))):
        raise DataError("the Gaussians hold NaN or infinite values; train the field again")
    return array
