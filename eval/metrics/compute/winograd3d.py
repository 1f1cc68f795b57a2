"""3x3x3 convolutions of clips on the CPU: Winograd's minimal filtering within pictures, plain sums over time.

They take a quarter of the multiplications of the direct form (`winograd`), and about half its time.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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
        for clip, out in zip(tiles, made, strict=True):
            self._convolve(clip, (height, width), out)
        joined = made.view(batch, steps, rows, columns, TILE, TILE, -1).transpose(3, 4)
        whole = joined.reshape(batch, steps, rows * TILE, columns * TILE, -1)[:, :, :height, :width]
        return whole.permute(0, 4, 1, 2, 3)

    def _convolve(self, clip: Tensor, size: tuple[int, int], out: Tensor) -> None:
        """Convolve a clip's tiles (T, n, 16, I), of pictures of this size, to `out` (T, n, 16, O)."""
        outside = torch.zeros(_PRODUCTS, clip.shape[1], clip.shape[3])
        before, here = outside, _transformed(clip[0], size)
        products = torch.empty(_PRODUCTS, clip.shape[1], out.shape[3])
        for step in range(len(clip)):
            after = _transformed(clip[step + 1], size) if step + 1 < len(clip) else outside
            torch.bmm(before, self._slices[0], out=products)
            products.baddbmm_(here, self._slices[1]).baddbmm_(after, self._slices[2])
            transform_output(products.numpy(), self._bias, out[step].numpy())
            before, here = here, after


def _transformed(tiles: Tensor, size: tuple[int, int]) -> Tensor:
    """Transform all tiles (n, 16, C) of a picture to (36, n, C)."""
    count, _, channels = tiles.shape
    stored = np.arange(count, dtype=np.int32).reshape(-1, -(-size[1] // TILE))
    places = np.argwhere(stored >= 0).astype(np.int32)
    no_background = np.zeros((1, 1, channels), np.float32)
    pixels = (np.zeros(length, np.int32) for length in size)  # of the background, read for their numbers alone
    out = torch.empty(_PRODUCTS, count, channels)
    transform_input(tiles.numpy(), stored, no_background, *pixels, places, out.numpy())
    return out
