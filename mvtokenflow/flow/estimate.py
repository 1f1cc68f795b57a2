"""Optical flow estimators behind one protocol: RAFT (torchvision) and DIS (OpenCV).

RAFT: Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow" (ECCV 2020), what the paper
uses (Sec. 3.1). DIS: Kroeger et al., "Fast Optical Flow using Dense Inverse Search" (ECCV 2016), needs no
weights and no GPU.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import DataError, WeightsCorruptError, WeightsMissingError
from mvtokenflow.base.files import choose, sha256_file
from mvtokenflow.base.tensor_files import load_torch
from mvtokenflow.flow.ops import resize
from mvtokenflow.weights import ledger

RaftName = Literal["raft_large", "raft_small"]

_DIS_MIN_SIDE = 12  # below, OpenCV has no scale to start from
_RAFT_MIN_SIDE = 128  # its coarsest correlation level needs two cells of 64 pixels
_RAFT_MULTIPLE = 8
_RAFT_BATCH = 8  # pairs at once; the correlation volume of one 512 px pair takes 90 MB
_LUMA = (0.299, 0.587, 0.114)  # Rec. 601


class FlowEstimator(Protocol):
    """Estimates the motion between two pictures."""

    @property
    def name(self) -> str:
        """Return the estimator's name in records."""

    def estimate(self, source: Tensor, target: Tensor) -> Tensor:
        """Estimate flow from each source to its target.

        Args:
            source, target: (P, H, W, 3) in [0, 1], on a plain background.

        Returns:
            (P, H, W, 2) float32 pixels (dx, dy) on the grid of the source, on its device.
        """


def estimate_flow(frames: Tensor, pairs: Sequence[tuple[int, int]], estimator: FlowEstimator) -> Tensor:
    """Estimate flow between pairs of frames of one clip.

    Args:
        frames: (T, H, W, 3) in [0, 1], on a plain background.
        pairs: P pairs (source, target) of frame indices.

    Returns:
        (P, H, W, 2) float32 pixels on the grid of the source frame.
    """
    sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
    return estimator.estimate(frames[sources], frames[targets])


class DisEstimator:
    """DIS with OpenCV's preset "medium", its finest level lowered from half to full resolution.

    On toy4d at 64 px this cuts the end-point error from 0.59 to 0.45 px; enlarging the pictures first gains
    another 3 % for four times the time, so it isn't done. The result does not depend on the number of threads.
    """

    name = "dis"

    def estimate(self, source: Tensor, target: Tensor) -> Tensor:
        """Estimate flow as `FlowEstimator` does, on luma of 8 bits, which DIS takes.

        Raises:
            DataError: pictures below 12 pixels, values that are NaN or outside [0, 1].
        """
        _check_pictures(source, target, _DIS_MIN_SIDE)
        luma = torch.tensor(_LUMA)
        first, second = (
            (picture.detach().float().cpu() @ luma * 255).round().to(torch.uint8).numpy()
            for picture in (source, target)
        )
        solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        solver.setFinestScale(0)
        blank = np.zeros((*first.shape[1:], 2), np.float32)
        flows = [solver.calc(a, b, blank.copy()) for a, b in zip(first, second, strict=True)]
        return torch.from_numpy(np.stack(flows)).to(source.device)


class RaftEstimator:
    """A RAFT network of torchvision. Small pictures are enlarged to the 128 px it needs."""

    def __init__(self, network: nn.Module, name: str, updates: int = 12) -> None:
        """`network` on the device to use; `updates` recurrent refinements, torchvision's number by default."""
        self.network = network.eval()
        self.name = name
        self.updates = updates

    @torch.no_grad()
    def estimate(self, source: Tensor, target: Tensor) -> Tensor:
        """Estimate flow as `FlowEstimator` does.

        Raises:
            DataError: empty pictures, values that are NaN or outside [0, 1].
        """
        _check_pictures(source, target, 1)
        height, width = source.shape[1:3]
        factor = max(1.0, _RAFT_MIN_SIDE / min(height, width))
        size = (round(height * factor), round(width * factor))
        device = next(self.network.parameters()).device
        flows = []
        for first, second in zip(
            torch.split(source, _RAFT_BATCH), torch.split(target, _RAFT_BATCH), strict=True
        ):
            inputs = [self._prepare(picture.to(device), size) for picture in (first, second)]
            flow = self.network(*inputs, num_flow_updates=self.updates)[-1]
            flow = flow[..., : size[0], : size[1]].permute(0, 2, 3, 1)
            flows.append(resize(flow, height, width).to(source.device))
        return torch.cat(flows)

    @staticmethod
    def _prepare(pictures: Tensor, size: tuple[int, int]) -> Tensor:
        """Convert to (P, 3, H', W') in [-1, 1], sides padded to the multiple of 8 that the network needs."""
        planes = pictures.float().permute(0, 3, 1, 2) * 2 - 1
        if planes.shape[-2:] != size:
            planes = F.interpolate(planes, size, mode="bilinear", align_corners=False)
        bottom, right = (-side % _RAFT_MULTIPLE for side in size)
        return F.pad(planes, (0, right, 0, bottom), mode="replicate")


def load_raft(
    name: RaftName = "raft_large", weights: Path | None = None, device: torch.device | str = "cpu"
) -> RaftEstimator:
    """Load RAFT with trained weights: a local file, or torchvision's own by the weights ledger.

    Args:
        name: raft_large (5.3 M parameters) or raft_small (1.0 M).
        weights: a state dict as torchvision publishes it (.pth); None uses torchvision's default weights,
            which the ledger finds, or downloads once, and checks.

    Raises:
        ConfigError: no such network.
        WeightsMissingError: the file is missing, or torchvision's can't be downloaded from here.
        WeightsCorruptError: the file is not a state dict of this network, or the download was damaged.
    """
    from torchvision.models import optical_flow

    build = choose(
        "flow network", name, {"raft_large": optical_flow.raft_large, "raft_small": optical_flow.raft_small}
    )
    network = build(weights=None)
    listed = name.replace("_", "-")
    if weights is None:
        try:
            state = ledger.load(listed, ledger.obtain(listed))
        except WeightsMissingError as error:
            raise WeightsMissingError(f"{error}; or use the flow estimator 'dis', which needs none") from error
    else:
        state = _read_state(weights, f"run `mvtf-eval weights fetch {listed}`")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsCorruptError(
            f"{weights or listed}: not the weights of {name} ({str(error).splitlines()[0]}); "
            f"run `mvtf-eval weights fetch {listed}`"
        ) from error
    return RaftEstimator(network.to(device), name)


def load_estimator(name: str, weights: Path | None = None, device: torch.device | str = "cpu") -> FlowEstimator:
    """Load an estimator by name: dis, raft_large or raft_small. Raises as `load_raft`."""
    raft: dict[str, RaftName | None] = {"dis": None, "raft_large": "raft_large", "raft_small": "raft_small"}
    network = choose("flow estimator", name, raft)
    return DisEstimator() if network is None else load_raft(network, weights, device)


def weights_digest(name: str, weights: Path | None = None) -> str | None:
    """Return the sha256, in hex, of an estimator's weights: the file's, or the ledger's; None for dis without.

    The ledger's weights need not be on this machine.
    """
    if weights is not None:
        return sha256_file(weights)
    return None if name == "dis" else ledger.entry(name.replace("_", "-")).files[0].sha256


def _read_state(path: Path, fetch: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsMissingError(f"{path}: no such weights file; to get it, {fetch}")
    with damage(path, "not a file of weights", fetch, WeightsCorruptError):
        state = load_torch(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsCorruptError(f"{path}: holds no state dict; {fetch}")
    return state


def _check_pictures(source: Tensor, target: Tensor, least: int) -> None:
    if source.ndim != 4 or source.shape[-1] != 3 or source.shape != target.shape:
        raise ValueError(
            f"source and target must both be (P, H, W, 3), got {tuple(source.shape)} and {tuple(target.shape)}"
        )
    if not len(source) or min(source.shape[1:3]) < least:
        raise DataError(
            f"{len(source)} pairs of {source.shape[2]} x {source.shape[1]} px; flow needs at least one "
            f"of {least} px"
        )
    for name, pictures in (("source", source), ("target", target)):
        good = ((pictures >= 0) & (pictures <= 1)).flatten(1).all(dim=1)  # False for NaN
        if not good.all():
            raise DataError(f"{name} picture {int(good.int().argmin())}: holds NaN or values outside [0, 1]")
