"""3x3x3 convolutions of clips on the CPU: Winograd's minimal filtering within pictures, plain sums over time.

They take a quarter of the multiplications of the direct form (`winograd`) and, in I3D, .6 of its time; the
transformed kernels take four times the memory of the plain ones.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.eval.metrics.compute.vgg import no_border, tile_places
from mvtokenflow.eval.metrics.compute.winograd import (
    TILE,
    transform_input,
    transform_output,
    transform_weight,
)

_PRODUCTS = (TILE + 2) ** 2  # matrix products of a tile


class ClipConvolution:
    """relu(convolution + bias) with a 3x3x3 kernel, stride 1 and zeros around the clip; for inference."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Transform the kernel (O, I, 3, 3, 3); `bias` is (O,). Both float32 on the CPU."""
        self._slices = [transform_weight(weight[:, :, step]) for step in range(3)]
        self._bias = bias.detach().numpy()

    def __call__(self, clips: Tensor) -> Tensor:
        """Compute (B, O, T, H, W) of clips (B, I, T, H, W), both with channels last in memory."""
        batch, channels, steps, height, width = clips.shape
        rows, columns = -(-height // TILE), -(-width // TILE)
        pictures = F.pad(
            clips.permute(0, 2, 3, 4, 1), (0, 0, 0, columns * TILE - width, 0, rows * TILE - height)
        )
        split = pictures.reshape(batch, steps, rows, TILE, columns, TILE, channels)
        tiles = split.transpose(3, 4).reshape(batch, steps, rows * columns, TILE * TILE, channels)
        made = torch.empty(batch, steps, rows * columns, TILE * TILE, len(self._bias))
        transform = _transform_of(height, width, channels)
        for clip, out in zip(tiles, made, strict=True):
            self._convolve(clip, transform, out)
        joined = made.view(batch, steps, rows, columns, TILE, TILE, -1).transpose(3, 4)
        whole = joined.reshape(batch, steps, rows * TILE, columns * TILE, -1)[:, :, :height, :width]
        return whole.permute(0, 4, 1, 2, 3)

    def _convolve(self, clip: Tensor, transform: Callable[[Tensor], Tensor], out: Tensor) -> None:
        """Convolve a clip's tiles (T, n, 16, I) to `out` (T, n, 16, O)."""
        outside = torch.zeros(_PRODUCTS, clip.shape[1], clip.shape[3])
        before, here = outside, transform(clip[0])
        products = torch.empty(_PRODUCTS, clip.shape[1], out.shape[3])
        for step in range(len(clip)):
            after = transform(clip[step + 1]) if step + 1 < len(clip) else outside
            torch.bmm(before, self._slices[0], out=products)
            products.baddbmm_(here, self._slices[1]).baddbmm_(after, self._slices[2])
            transform_output(products.numpy(), self._bias, out[step].numpy())
            before, here = here, after


def _transform_of(height: int, width: int, channels: int) -> Callable[[Tensor], Tensor]:
    """Return what transforms all tiles (n, 16, C) of a picture of this size to (36, n, C)."""
    whole = np.ones((height, width), bool)
    places, index = tile_places(whole)
    border = no_border(whole, channels)

    def transform(tiles: Tensor) -> Tensor:
        out = torch.empty(_PRODUCTS, len(tiles), channels)
        transform_input(tiles.numpy(), index, border.table, border.rows, border.columns, places, out.numpy())
        return out

    return transform
