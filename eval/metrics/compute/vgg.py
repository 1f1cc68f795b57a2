"""VGG16 features of pictures on a flat background, computed only where the object reaches them (CPU).

Outside the object dilated by a layer's receptive field every activation is that of a picture of one colour,
border effects included. Those are known from a small picture of that colour, because a border reaches only a
few pixels into each layer: the middle is stretched. All other pixels are computed, in 4x4 tiles
(`winograd`). Nothing is approximated; a picture without a flat background is simply active everywhere.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Lock, local

import numpy as np
import torch

from mvtokenflow.eval.metrics.compute.region import Colour, Image, Mask
from mvtokenflow.eval.metrics.compute.winograd import (
    TILE,
    Float,
    Int,
    max_pool,
    transform_input,
    transform_output,
    transform_weight,
    unfold_image,
)

# Indices in torchvision's `vgg16().features`; LPIPS taps the activation after the last of each stage.
STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
STRIDE = 16
SMALLEST = 16

_SMALL = 13 * STRIDE  # conv5_3: 6 pixels from either border, one in the middle
_BLOCK_BYTES = 8 << 20  # of transformed tiles at a time, so that they stay in the cache
_BACKGROUNDS = 16


@dataclass(frozen=True, eq=False)
class Border:
    """Activations of a one-coloured picture: pixel (y, x) is `table[rows[y], columns[x]]`, (K, K', C)."""

    table: Float
    rows: Int
    columns: Int


@dataclass(frozen=True, eq=False)
class Tiles:
    """One layer: `data (n, 16, C)`, where each stored tile is (`places (n, 2)`: row, column; `index`: its
    number or -1), and what is everywhere else."""

    data: Float
    places: Int
    index: Int
    border: Border


Background = tuple[Border, ...]  # per convolution and, between stages, per pooling


def tile_places(active: Mask) -> tuple[Int, Int]:
    """Return tiles with an active pixel: (n, 2) places, and the (rows, columns) index with -1 elsewhere."""
    height, width = active.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    padded = np.zeros((rows * TILE, columns * TILE), bool)
    padded[:height, :width] = active
    any_active = padded.reshape(rows, TILE, columns, TILE).any(axis=(1, 3))
    places = np.argwhere(any_active).astype(np.int32)
    index = np.full((rows, columns), -1, np.int32)
    index[any_active] = np.arange(len(places), dtype=np.int32)
    return places, index


def dilate(mask: Mask) -> Mask:
    """Return True within the 3x3 surroundings of a true pixel."""
    tall = mask.copy()
    tall[1:] |= mask[:-1]
    tall[:-1] |= mask[1:]
    wide = tall.copy()
    wide[:, 1:] |= tall[:, :-1]
    wide[:, :-1] |= tall[:, 1:]
    return wide


def halve(mask: Mask) -> Mask:
    """Return True where any of 2x2 pixels is; pooling drops an odd last row or column."""
    height, width = mask.shape[0] // 2, mask.shape[1] // 2
    return np.asarray(mask[: 2 * height, : 2 * width].reshape(height, 2, width, 2).any(axis=(1, 3)))


def steps() -> Iterator[tuple[int | None, bool]]:
    """Return the layers in order: (index of the convolution or None for pooling, whether LPIPS uses it)."""
    for number, stage in enumerate(STAGES):
        if number:
            yield None, False
        for convolution in stage:
            yield convolution, convolution == stage[-1]


def _reaches() -> Iterator[int]:
    """Return how many pixels from a border still depend on it, per layer."""
    reach = 0
    for convolution, _ in steps():
        reach = (reach + 1) // 2 if convolution is None else reach + 1
        yield reach


def _halved(size: int, layers: int) -> int:
    for _ in range(layers):
        size //= 2
    return size


def _squeeze(length: int, reach: int) -> Int:
    """Return representative rows of a layer of `length` rows: both borders and one of the middle."""
    if length <= 2 * reach + 1:
        return np.arange(length, dtype=np.int32)
    return np.asarray(np.r_[: reach + 1, length - reach : length], np.int32)


def _stretch(length: int, kept: int, reach: int) -> Int:
    """Return for each of `length` rows its representative row (the inverse of `_squeeze`)."""
    if length <= 2 * reach + 1:
        return np.arange(length, dtype=np.int32)
    rows = np.full(length, reach, np.int32)
    rows[:reach] = np.arange(reach)
    rows[length - reach :] = np.arange(kept - reach, kept, dtype=np.int32)
    return rows


class _Scratch(local):
    """Reusable memory for temporary arrays, one set per thread: fresh pages cost an eighth of the time."""

    def __init__(self) -> None:
        self._buffers: dict[str, Float] = {}

    def array(self, name: str, *shape: int) -> Float:
        """Return an uninitialised array, valid until the next call with that name."""
        size = int(np.prod(shape))
        if name not in self._buffers or self._buffers[name].size < size:
            self._buffers[name] = np.empty(size, np.float32)
        return self._buffers[name][:size].reshape(shape)


def no_border(active: Mask, channels: int) -> Border:
    """Return a placeholder border for a layer whose tiles are all stored; it is never read."""
    rows, columns = (np.zeros(length, np.int32) for length in active.shape)
    return Border(np.zeros((1, 1, channels), np.float32), rows, columns)


class TiledVgg:
    """The five VGG16 layers of LPIPS as stored tiles and a border, on the CPU in float32."""

    def __init__(self, state: Mapping[str, torch.Tensor], table: Float) -> None:
        """
        Args:
            state: `features.{i}.weight|bias` as in torchvision.
            table: (256, 3), the network's input value of each grey level and channel.
        """
        first = state["features.0.weight"].detach().cpu().float()
        self._first = first.permute(2, 3, 1, 0).reshape(27, -1).contiguous()
        later = [i for stage in STAGES for i in stage if i]
        self._weights = {i: transform_weight(state[f"features.{i}.weight"].detach().cpu()) for i in later}
        self._biases = {i: state[f"features.{i}.bias"].detach().cpu().float() for i in (0, *later)}
        self._levels = table
        self._backgrounds: OrderedDict[tuple[Colour, int, int], Background] = OrderedDict()
        self._lock = Lock()
        self._scratch = _Scratch()

    def taps(self, image: Image, colour: Colour | None, differs: Mask | None) -> list[Tiles]:
        """Compute the five LPIPS layers of a uint8 (H, W, 3) picture.

        Args:
            colour, differs: its flat background and the mask (H, W) of other pixels (`flat_background`), or
                None for both.
        """
        height, width = image.shape[:2]
        background = None if colour is None else self._background(colour, height, width)
        active = np.ones((height, width), bool) if differs is None else differs
        values = np.stack([self._levels[image[..., c], c] for c in range(3)], axis=-1)
        return [
            tiles
            for (_, tapped), tiles in zip(steps(), self._layers(values, active, background), strict=True)
            if tapped
        ]

    @torch.inference_mode()
    def _layers(self, image: Float, active: Mask, background: Background | None) -> Iterator[Tiles]:
        """Yield all convolutions and poolings in order; data outside LPIPS layers last until the next layer."""
        tiles: Tiles | None = None
        channels = 0
        for number, (convolution, tapped) in enumerate(steps()):
            active = halve(active) if convolution is None else dilate(active)
            if convolution is not None:
                channels = len(self._biases[convolution])
            border = no_border(active, channels) if background is None else background[number]
            places, index = tile_places(active)
            shape = (len(places), TILE * TILE, channels)
            data = np.empty(shape, np.float32) if tapped else self._scratch.array(f"layer{number % 2}", *shape)
            if tiles is None:
                self._convolve_image(image, places, data)
            elif convolution is None:
                max_pool(tiles.data, tiles.index, border.table, border.rows, border.columns, places, data)
            else:
                self._convolve(convolution, tiles, places, data)
            tiles = Tiles(data, places, index, border)
            yield tiles

    def _convolve_image(self, image: Float, places: Int, out: Float) -> None:
        unfolded = self._scratch.array("unfolded", len(places), TILE * TILE, 27)
        unfold_image(image, places, unfolded)
        result = torch.from_numpy(out).view(len(places) * TILE * TILE, out.shape[2])
        torch.addmm(self._biases[0], torch.from_numpy(unfolded).view(-1, 27), self._first, out=result)
        result.relu_()

    def _convolve(self, convolution: int, tiles: Tiles, places: Int, out: Float) -> None:
        weight, bias = self._weights[convolution], self._biases[convolution].numpy()
        points, channels_in, channels_out = weight.shape
        block = max(_BLOCK_BYTES // (4 * points * (channels_in + channels_out)), 64)
        border = tiles.border
        for start in range(0, len(places), block):
            part = places[start : start + block]
            x = self._scratch.array("inputs", points, len(part), channels_in)
            y = self._scratch.array("products", points, len(part), channels_out)
            transform_input(tiles.data, tiles.index, border.table, border.rows, border.columns, part, x)
            torch.bmm(torch.from_numpy(x), weight, out=torch.from_numpy(y))
            transform_output(y, bias, out[start : start + len(part)])

    def _background(self, colour: Colour, height: int, width: int) -> Background:
        """Return the layers of a picture of one colour; the latest few are kept (under 2 MB each)."""
        key = (colour, height, width)
        with self._lock:
            if key not in self._backgrounds:
                self._backgrounds[key] = self._one_colour(*key)
            self._backgrounds.move_to_end(key)
            while len(self._backgrounds) > _BACKGROUNDS:
                self._backgrounds.popitem(last=False)
            return self._backgrounds[key]

    def _one_colour(self, colour: Colour, height: int, width: int) -> Background:
        # the same remainder modulo the network's stride: poolings drop the same rows
        small = [min(size, _SMALL + size % STRIDE) for size in (height, width)]
        image = np.empty((*small, 3), np.float32)
        image[:] = self._levels[list(colour), range(3)]
        layers = []
        poolings = 0
        all_tiles = self._layers(image, np.ones(image.shape[:2], bool), None)
        for (convolution, _), reach, tiles in zip(steps(), _reaches(), all_tiles, strict=True):
            poolings += convolution is None
            kept = [_squeeze(_halved(size, poolings), reach) for size in small]
            y, x = kept[0][:, None], kept[1][None]
            stretched = [
                _stretch(_halved(size, poolings), len(k), reach)
                for size, k in zip((height, width), kept, strict=True)
            ]
            table = tiles.data[tiles.index[y // TILE, x // TILE], y % TILE * TILE + x % TILE]
            layers.append(Border(np.ascontiguousarray(table), stretched[0], stretched[1]))
        return tuple(layers)
