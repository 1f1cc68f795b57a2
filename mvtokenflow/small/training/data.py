"""Pictures as the small prior is trained on them, from renderings of objects, and the order of batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mvtokenflow.multiview.prior import COLOUR, NORMAL, encode_normals

Held = TypeVar("Held")
Held_co = TypeVar("Held_co", covariant=True)


class Batch(Protocol[Held_co]):
    """Objects as they are rendered, in bytes."""

    def tensors(self) -> Held_co:
        """Return what a lesson (`training.lesson`) takes of them."""
        ...


class Source(Protocol[Held_co]):
    """An endless sequence of distinct batches; batch `index` is the same in every process and at any time."""

    def __call__(self, index: int) -> Batch[Held_co]:
        """Batch `index`, from 0."""
        ...


@dataclass(frozen=True, kw_only=True)
class Views:
    """B objects in V views.

    Attributes:
        rgb: (B, V, S, S, 3) uint8, straight.
        alpha: (B, V, S, S, 1) uint8.
        normal: (B, V, S, S, 3) int8, 127 times the unit world normal, 0 outside.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    normal: NDArray[np.int8]

    def tensors(self) -> Tensor:
        """Return `training_pictures` (2, B, V, 3, S, S) uint8."""
        return training_pictures(self)


def training_pictures(views: Views) -> Tensor:
    """Return (2, B, V, 3, S, S) uint8: normal maps on mid grey (domain 0) and colours on white (domain 1).

    Normal maps are those of `encode_normals` with background 0.5 and the pixel's coverage as alpha.
    """
    alpha = views.alpha.astype(np.float32) / 255
    world = torch.from_numpy(views.normal.astype(np.float32) / 127)
    normals = encode_normals(world, torch.from_numpy(alpha), 0.5)
    pictures = np.empty((2, *views.rgb.shape), np.uint8)
    pictures[NORMAL] = np.rint(normals.numpy() * 255)
    pictures[COLOUR] = np.rint(views.rgb * alpha + 255 * (1 - alpha))
    return torch.from_numpy(pictures).movedim(-1, 3)


class _Batches(Dataset[Held], Generic[Held]):
    def __init__(self, source: Source[Held]) -> None:
        self.source = source

    def __getitem__(self, index: int) -> Held:
        return self.source(index).tensors()


def batches(
    source: Source[Held], start: int, stride: int, workers: int, limit: int | None = None
) -> Iterator[Held]:
    """Tensors of batches start, start + stride, ... in order, rendered by `workers` processes.

    Args:
        workers: 0 renders in this process: right on a CPU, where a batch costs a few per cent of a step.
        limit: stop after so many.
    """
    order = islice(count(start, stride), limit)
    context = "spawn" if workers else None  # forking after the device is in use breaks CUDA
    loader = DataLoader(
        _Batches(source),
        sampler=_Order(order),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=context,
    )
    yield from loader


class _Order:
    """DataLoader wants a sampler with a length only where its own length is asked for."""

    def __init__(self, indices: Iterator[int]) -> None:
        self.indices = indices

    def __iter__(self) -> Iterator[int]:
        return self.indices
