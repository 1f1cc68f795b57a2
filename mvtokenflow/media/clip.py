"""A clip of one object in memory, and frames of a source before their object is cut out."""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from mvtokenflow.base.files import digest
from mvtokenflow.media.frame_times import clock, unevenness
from mvtokenflow.media.pictures import Pixels


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video of one object with its alpha.

    Attributes:
        rgb: (T, H, W, 3) float32 in [0, 1], straight (not premultiplied).
        alpha: (T, H, W, 1) float32 in [0, 1].
        name: name in messages.
        clock: (T,) float32 times of the frames, increasing from 0 to 1; None spaces them evenly.
        notes: assumptions made while reading, one sentence each.

    Raises:
        ValueError: shapes or times that do not fit together.
    """

    rgb: Tensor
    alpha: Tensor
    name: str
    clock: Tensor | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rgb.ndim != 4 or self.rgb.shape[-1] != 3 or self.alpha.shape != (*self.rgb.shape[:-1], 1):
            raise ValueError(
                f"clip {self.name}: rgb must be (T, H, W, 3) and alpha (T, H, W, 1), got "
                f"{tuple(self.rgb.shape)} and {tuple(self.alpha.shape)}"
            )
        clock = self.clock
        if clock is not None and (
            clock.shape != self.rgb.shape[:1]
            or (float(clock[0]), float(clock[-1])) != (0.0, 1.0)
            or not bool((clock.diff() > 0).all())
        ):
            raise ValueError(f"clip {self.name}: clock {clock} is not {len(self)} times increasing from 0 to 1")

    def __len__(self) -> int:
        return int(self.rgb.shape[0])

    @property
    def times(self) -> Tensor:
        """Times (T,) float32 in [0, 1]: the clock, or n / (T - 1); a single frame is at 0."""
        if self.clock is not None:
            return self.clock
        return torch.arange(len(self), dtype=torch.float32) / max(len(self) - 1, 1)

    def digest(self) -> str:
        """Hex sha256 of everything a run depends on; the name and the notes do not matter."""
        parts = {"rgb": self.rgb, "alpha": self.alpha}
        if self.clock is not None:
            parts["clock"] = self.clock
        return digest((name, part.contiguous().numpy().tobytes()) for name, part in parts.items())

    def on_background(self, value: float = 1.0) -> Tensor:
        """Composite over a constant grey `value` in [0, 1], (T, H, W, 3); 1 is white."""
        return self.rgb * self.alpha + value * (1 - self.alpha)


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Selected frames of a source with their numbers and time stamps.

    Attributes:
        pictures: (T, H, W[, C]) uint8.
        labels: name of each frame in messages.
        numbers: numbers of all frames of the source, in order, by which masks are paired; of a video, up to the
            last one that was decoded.
        whole: all frames of the source were counted; False if decoding ended at the last frame wanted.
        counted: the numbers are the source's own; else a video's, counted from 0.
        stamps: time stamps of the selected frames. tick: what these are rounded to, see `frame_times.clock`.
        unit: unit of the stamps.
        lossy: the pictures went through a lossy codec.
        notes: assumptions made.
        keep: positions of the selected frames in the source.
    """

    pictures: Pixels
    labels: list[str]
    numbers: list[int]
    whole: bool
    counted: bool
    stamps: list[int]
    tick: Fraction
    unit: str
    lossy: bool
    notes: tuple[str, ...]
    keep: slice

    @property
    def has_alpha(self) -> bool:
        """Whether a pixel is not opaque."""
        return self.pictures.shape[-1] == 4 and bool(self.pictures[..., 3].min() < 255)

    @property
    def rate(self) -> float | None:
        """Selected frames per second of the source, on average; None of a folder, which has no seconds."""
        length = (self.stamps[-1] - self.stamps[0]) * self.tick
        return None if self.counted or length <= 0 else float((len(self.stamps) - 1) / length)

    def clock(self, name: str) -> tuple[Tensor | None, tuple[str, ...]]:
        """Compute the frames' times as in `Clip.clock`, and a note if they are uneven."""
        stamps: list[Fraction | int] = list(self.stamps)
        if not self.counted:
            stamps = [stamp * self.tick for stamp in self.stamps]
        found = clock(name, stamps, self.tick)
        if found is None:
            return None, ()
        return found, (f"{name}: frames are {unevenness(stamps, self.unit)} and keep their own times",)
