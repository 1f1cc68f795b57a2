"""LPIPS v0.1 (Zhang et al. 2018) on AlexNet and VGG16: features of a picture, then distances between them.

The features of a picture are computed once and compared with as many others as needed: five methods that
share a ground truth cost six feature passes, not ten. On the CPU VGG16 runs on the object alone
(`vgg`); the numbers are those of the dense network within float32 rounding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from mvtokenflow.base.errors import ConfigError, DataError, WeightsCorruptError
from mvtokenflow.eval.metrics.compute import vgg
from mvtokenflow.eval.metrics.compute.precision import full_precision
from mvtokenflow.eval.metrics.compute.region import Colour, Image, Mask, check_image, flat_background
from mvtokenflow.eval.metrics.compute.winograd import TILE, tile_distance

Net = Literal["alex", "vgg"]
InputRange = Literal["[-1,1]", "[0,1]"]
Norm = Literal["inside", "outside"]
PerLayer = npt.NDArray[np.float64]

# The scaling layer of LPIPS v0.1: ImageNet's statistics for pictures in [-1, 1]
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)

# (convolution, stride, padding) and "pool" of AlexNet: 3x3 with stride 2; taps after every convolution
_ALEX = ((0, 4, 2), "pool", (3, 1, 2), "pool", (6, 1, 1), (8, 1, 1), (10, 1, 1))
_ALEX_TAPS = (0, 3, 6, 8, 10)
_ALEX_SMALLEST = 31
_VGG: tuple[tuple[int, int, int] | str, ...] = tuple(
    layer
    for number, stage in enumerate(vgg.STAGES)
    for layer in (("pool",) if number else ()) + tuple((i, 1, 1) for i in stage)
)
_VGG_TAPS = tuple(stage[-1] for stage in vgg.STAGES)


@dataclass(frozen=True, eq=False)
class Features:
    """Features of one picture; only the `LpipsNetwork` that made them can compare them.

    Attributes:
        height, width: of the picture in pixels.
        tiles: the VGG16 taps as stored tiles, or empty.
        dense: the taps (C, h, w), normalised, or empty.
        background: the flat colour around the tiles, None if all are stored.
    """

    height: int
    width: int
    tiles: Sequence[vgg.Tiles] = ()
    dense: Sequence[torch.Tensor] = ()
    background: Colour | None = None

    @property
    def nbytes(self) -> int:
        """Return the memory held, in bytes (backgrounds are shared and not counted)."""
        stored = sum(layer.data.nbytes + layer.index.nbytes + layer.places.nbytes for layer in self.tiles)
        return stored + sum(layer.nbytes for layer in self.dense)


class LpipsNetwork:
    """LPIPS between uint8 pictures, one value per pair.

    Safe to share between threads. With `device` "cpu" and VGG16 the memory is about 240 MB of transformed
    weights, and about 40 MB for the features of a 512-pixel picture whose object covers a fifth of it
    (130 MB if it covers everything).
    """

    def __init__(
        self,
        net: Net,
        state: Mapping[str, torch.Tensor],
        *,
        input_range: InputRange = "[-1,1]",
        norm: Norm = "inside",
        device: str | torch.device = "cpu",
        dense: bool = False,
    ) -> None:
        """
        Args:
            net: "vgg" (Consistent4D, 3DGS lineage) or "alex".
            state: `features.{i}.weight|bias` under torchvision's names and `lin{0..4}.model.1.weight`.
            input_range: "[-1,1]" feeds x/127.5 - 1, what the network expects; "[0,1]" feeds x/255, what
                the 3DGS-lineage scripts do (20-26 % lower values).
            norm: "inside" divides by sqrt(Σ v² + 1e-8) (torchmetrics from 1.2.1), "outside" by
                sqrt(Σ v²) + 1e-10 (the lpips package). They differ on all but dead pixels by rounding.
            device: "cpu" or a CUDA device, where TF32 is off (`full_precision`).
            dense: compute VGG16 everywhere on the CPU too (the plain network, for checks).

        Raises:
            ConfigError: an unknown net, range or norm.
            WeightsCorruptError: a tensor is missing or of another shape.
        """
        if (
            net not in ("alex", "vgg")
            or input_range not in ("[-1,1]", "[0,1]")
            or norm not in ("inside", "outside")
        ):
            raise ConfigError(
                f"no LPIPS with net '{net}', input range '{input_range}', norm '{norm}'; known: alex or vgg, "
                "[-1,1] or [0,1], inside or outside"
            )
        self.net = net
        self._layers, self._taps = (_ALEX, _ALEX_TAPS) if net == "alex" else (_VGG, _VGG_TAPS)
        _check_state(net, state)
        self._device = torch.device(device)
        self._smallest = _ALEX_SMALLEST if net == "alex" else vgg.SMALLEST
        self._table = _input_table(input_range)
        self._eps = (1e-8, 0.0) if norm == "inside" else (0.0, 1e-10)
        lin = [state[f"lin{i}.model.1.weight"].detach().flatten().float() for i in range(5)]
        self._lin = [weight.to(self._device) for weight in lin]
        self._tiled: vgg.TiledVgg | None = None
        self._state: dict[str, torch.Tensor] = {}
        if net == "vgg" and self._device.type == "cpu" and not dense:
            self._tiled = vgg.TiledVgg(state, self._table)
        else:
            self._state = {
                name: tensor.detach().to(self._device, torch.float32)
                for name, tensor in state.items()
                if name.startswith("features.")
            }

    def features(self, image: Image) -> Features:
        """Compute the features of a uint8 (H, W, 3) picture, at its own size.

        Raises:
            DataError: not RGB uint8, or smaller than the network takes (16 pixels VGG, 31 AlexNet).
        """
        check_image(image)
        height, width = image.shape[:2]
        if min(height, width) < self._smallest:
            raise DataError(
                f"LPIPS-{self.net} needs {self._smallest} pixels a side, got {width}x{height}; resize first"
            )
        if self._tiled is None:
            with full_precision():
                return Features(height, width, dense=self._dense(image))
        colour: Colour | None
        differs: Mask | None
        colour, differs = flat_background(image) or (None, None)
        return Features(height, width, tiles=self._tiled.taps(image, colour, differs), background=colour)

    def per_layer(self, pred: Features, gt: Features) -> PerLayer:
        """Compute the five layers' contributions (5,), float64; their sum is the LPIPS value. Symmetric.

        Raises:
            DataError: pictures of different sizes, or features of another kind of `LpipsNetwork`.
        """
        if (pred.height, pred.width) != (gt.height, gt.width):
            raise DataError(
                f"prediction is {pred.width}x{pred.height} and ground truth {gt.width}x{gt.height} pixels; "
                "resize both to the size of the protocol first"
            )
        if len(pred.tiles) != len(gt.tiles) or len(pred.dense) != len(gt.dense):
            raise DataError("these features were made by different LPIPS objects; make both with one")
        if self._tiled is None:
            with full_precision():
                return np.array([self._dense_layer(k, pred.dense[k], gt.dense[k]) for k in range(5)])
        return np.array([self._tile_layer(k, pred, gt) for k in range(5)])

    def distance(self, pred: Features, gt: Features) -> float:
        """Compute the LPIPS of two pictures: 0 for equal ones, larger is worse. Symmetric.

        Raises:
            DataError: as `per_layer`.
        """
        return float(self.per_layer(pred, gt).sum())

    @torch.inference_mode()
    def _dense(self, image: Image) -> list[torch.Tensor]:
        values = np.stack([self._table[image[..., c], c] for c in range(3)])
        x = torch.from_numpy(values)[None].to(self._device)
        taps = []
        for layer in self._layers:
            if isinstance(layer, str):
                x = F.max_pool2d(x, 3 if self.net == "alex" else 2, 2)
                continue
            index, stride, padding = layer
            weight, bias = self._state[f"features.{index}.weight"], self._state[f"features.{index}.bias"]
            x = F.conv2d(x, weight, bias, stride, padding).relu_()
            if index in self._taps:
                norm = (x.square().sum(dim=1, keepdim=True) + self._eps[0]).sqrt() + self._eps[1]
                taps.append((x / norm)[0])
        return taps

    @torch.inference_mode()
    def _dense_layer(self, layer: int, a: torch.Tensor, b: torch.Tensor) -> float:
        per_pixel = torch.einsum("chw,c->hw", (a - b).square(), self._lin[layer])
        return float(per_pixel.double().mean())

    def _tile_layer(self, layer: int, pred: Features, gt: Features) -> float:
        """Average over a layer: over tiles stored in either picture, and the background for all others."""
        a, b = pred.tiles[layer], gt.tiles[layer]
        weight = self._lin[layer].numpy()
        eps = tuple(np.float32(value) for value in self._eps)
        # backgrounds of one size share their layout; a picture without one has none to read
        layout = b.border if pred.background is None else a.border
        rows, columns = layout.rows, layout.columns
        either = (a.index >= 0) | (b.index >= 0)
        places = np.argwhere(either).astype(np.int32)
        tables = a.border.table, b.border.table
        total = float(
            tile_distance(
                a.data, a.index, tables[0], b.data, b.index, tables[1], rows, columns, places, weight, *eps
            )
        )
        if pred.background != gt.background and not either.all():
            total += _between_backgrounds(a.border, b.border, either, weight, self._eps)
        return total / (len(rows) * len(columns))


def _between_backgrounds(
    a: vgg.Border, b: vgg.Border, stored: Mask, weight: npt.NDArray[np.float32], eps: tuple[float, float]
) -> float:
    """Sum over the pixels outside the stored tiles of both pictures, which show backgrounds of two colours."""

    def unit(table: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        wide = table.astype(np.float64)
        norm = np.sqrt((wide * wide).sum(axis=-1, keepdims=True) + eps[0]) + eps[1]
        return np.asarray(wide / norm)

    distance = np.square(unit(a.table) - unit(b.table)) @ weight.astype(np.float64)
    height, width = len(a.rows), len(a.columns)
    outside = ~stored.repeat(TILE, axis=0).repeat(TILE, axis=1)[:height, :width]
    return float(distance[a.rows[:, None], a.columns[None]][outside].sum())


def _input_table(input_range: InputRange) -> npt.NDArray[np.float32]:
    """Return (256, 3): the first convolution's input for each grey level and channel, float32 arithmetic."""
    level = torch.arange(256, dtype=torch.float32)[:, None]
    level = level / 127.5 - 1 if input_range == "[-1,1]" else level / 255
    return np.asarray(((level - torch.tensor(_SHIFT)) / torch.tensor(_SCALE)).numpy())


def _check_state(net: Net, state: Mapping[str, torch.Tensor]) -> None:
    if net == "alex":
        kernels = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
        widths = [64, 192, 384, 256, 256]
    else:
        widths = [64, 128, 256, 512, 512]
        kernels, channels = {}, 3
        for stage, width in zip(vgg.STAGES, widths, strict=True):
            for index in stage:
                kernels[index] = (width, channels, 3)
                channels = width
    wanted: dict[str, tuple[int, ...]] = {}
    for index, (out, channels, side) in kernels.items():
        wanted[f"features.{index}.weight"] = (out, channels, side, side)
        wanted[f"features.{index}.bias"] = (out,)
    wanted |= {f"lin{i}.model.1.weight": (1, width, 1, 1) for i, width in enumerate(widths)}
    for name, shape in wanted.items():
        found = tuple(state[name].shape) if name in state else None
        if found != shape:
            raise WeightsCorruptError(
                f"LPIPS-{net}: tensor '{name}' should have shape {shape}, found {found or 'none'}; "
                "get the weights again with `mvtf-eval weights fetch`"
            )
