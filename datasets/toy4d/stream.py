"""Endless seeded stream of toys in Era3D's six cameras, for training the small prior."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.datasets.toy4d.build import Draw
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.toys import HELD_OUT_PLAN, PLANS, SEEDS, TRAINED_PLANS, make_toy
from mvtokenflow.views.cameras import Cameras, orbit

Split = Literal["train", "validation"]

SIX_AZIMUTHS = (0.0, 45.0, 90.0, 180.0, 270.0, 315.0)
RADIUS = 3.0


def six_views(size: int) -> Cameras:
    """Build Era3D's cameras front, front-right, right, back, left, front-left: ortho, elevation 0."""
    return orbit(SIX_AZIMUTHS, size=size, kind="ortho", radius=RADIUS)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pictures of B toys at T times in six views, in bytes.

    Attributes:
        rgb: (B, T, 6, H, W, 3) uint8, straight; white where alpha is 0.
        alpha: (B, T, 6, H, W, 1) uint8.
        normal: (B, T, 6, H, W, 3) int8, 127 times the unit world normal at the pixel centre; 0 outside.
        times: (B, T) in [0, 1), ascending.
        captions, plans, seeds: one of each toy.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    normal: NDArray[np.int8]
    times: NDArray[np.float64]
    captions: tuple[str, ...]
    plans: tuple[str, ...]
    seeds: tuple[int, ...]

    def floats(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return rgb and alpha in [0, 1] and normals of unit length (0 outside), as float32."""
        normal = self.normal.astype(np.float32)
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1)
        one = np.float32(255)
        return self.rgb.astype(np.float32) / one, self.alpha.astype(np.float32) / one, normal


@dataclass(frozen=True, kw_only=True)
class ToyStream:
    """Random access to an endless sequence of batches; `batch(i)` depends only on the settings and `i`.

    Resume a training run at the next index; give each worker its own indices. Every item is a
    new toy: plan uniform over `plans`, seed uniform over the split's range, yaw as in `toys.make_toy`
    (nine in ten within ±40° of the input camera), times uniform over the clip.

    Attributes:
        seed: selects the sequence.
        batch_size: B, toys per batch.
        times: T, times per toy.
        size: picture width and height in pixels.
        samples: rays per pixel and axis for colour and coverage.
        split: "train", or "validation": toys of the same plans that training never sees.
        plans: trained plans to draw from; the held-out plan is refused.
    """

    seed: int
    batch_size: int
    times: int = 1
    size: int = 64
    samples: int = 2
    split: Split = "train"
    plans: Sequence[str] = TRAINED_PLANS
    _cameras: Cameras = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.split not in ("train", "validation"):
            raise ConfigError(f"the stream has splits train and validation, not {self.split!r}")
        for plan in self.plans:
            choose("body plan", plan, PLANS)
            if plan == HELD_OUT_PLAN:
                raise ConfigError(f"'{plan}' is held out of training; leave it out of `plans`")
        if not self.plans or min(self.batch_size, self.times, self.size, self.samples) < 1:
            raise ConfigError("a stream needs a plan, and batch_size, times, size and samples of at least 1")
        object.__setattr__(self, "_cameras", six_views(self.size))

    def item(self, number: int) -> tuple[str, int, NDArray[np.float64]]:
        """Return plan, toy seed and times (T,) of one toy of the sequence, counted from 0 across batches."""
        key = hashlib.sha256(f"toy4d/{self.split}/{self.seed}/{number}".encode()).digest()
        draw = Draw(int.from_bytes(key[:16], "little"))
        seeds = SEEDS[self.split]
        plan, seed = draw.choice(self.plans), seeds[int(draw.unit() * len(seeds))]
        return plan, seed, np.array(sorted(draw.unit() for _ in range(self.times)))

    def batch(self, index: int) -> Batch:
        """Render batch `index`, counted from 0.

        Raises:
            IndexError: a negative index.
        """
        if index < 0:
            raise IndexError(f"batches count from 0, got {index}")
        shape = (self.batch_size, self.times, len(SIX_AZIMUTHS), self.size, self.size)
        rgb, alpha = np.empty((*shape, 3), np.uint8), np.empty((*shape, 1), np.uint8)
        normal = np.empty((*shape, 3), np.int8)
        items = [self.item(index * self.batch_size + k) for k in range(self.batch_size)]
        captions = []
        for k, (plan, seed, times) in enumerate(items):
            toy = make_toy(plan, seed)
            picture = render(toy, self._cameras, times, samples=self.samples)
            rgb[k] = picture.rgb * 255 + 0.5
            alpha[k] = picture.alpha * 255 + 0.5
            normal[k] = np.rint(picture.normal * 127)
            captions.append(toy.caption)
        return Batch(
            rgb=rgb,
            alpha=alpha,
            normal=normal,
            times=np.stack([times for _, _, times in items]),
            captions=tuple(captions),
            plans=tuple(plan for plan, _, _ in items),
            seeds=tuple(seed for _, seed, _ in items),
        )

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """Yield batches from `start` on, endlessly."""
        while True:
            yield self.batch(start)
            start += 1

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()
