"""Passes: which frames the denoiser processes together, and the controller interface that couples them.

At every noise level the sampler runs the network over all frames in a few *passes* of whole frames. Without a
controller, frames are independent and passes only bound memory. A controller (token flow) orders them:
keyframes in one pass, whose attention it records, then the other frames, which it fills from the record; or all
frames in one pass, split into parts that are coupled by attention.

Inside a pass of f frames the network's batch is n = (d G + q) V + v with G = halves * f groups and
q = half * f + position of the frame in the pass. With guidance, half 0 is unconditional and half 1 conditional;
without, there is one half. The module `attn1` of every block then sees (G V, 2 L, C) paired
tokens: for each group and view, the L = h w tokens of the normal map, then those of the colour picture.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from mvtokenflow.base.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Step:
    """One noise level of a sampling run.

    Attributes:
        index: 0 is the noisiest; `count` levels in all.
        timestep: training timestep of the level.
        frames, views: their numbers in the whole video.
        halves: 2 with guidance, 1 without.
        chunk: number of frames that fit into working memory.
    """

    index: int
    count: int
    timestep: int
    frames: int
    views: int
    halves: int
    chunk: int


@dataclass(frozen=True)
class Pass:
    """Frames that the network processes together.

    Attributes:
        frames: by index into the video.
        role: the controller's name for the pass.
        chunk: frames that are processed at once; every layer then runs on one part after another, and a
            processor of `attn1` may couple them. None is all.
    """

    frames: tuple[int, ...]
    role: str = "plain"
    chunk: int | None = None

    @property
    def parts(self) -> list[tuple[int, ...]]:
        """Return the frames of each part, in order."""
        return [tuple(self.frames[position] for position in part) for part in self._positions()]

    def groups(self, halves: int) -> list[list[int]] | None:
        """Groups q of the network's batch in each part; None if there is a single call with all."""
        if self.chunk is None:
            return None
        count = len(self.frames)
        return [
            [half * count + position for half in range(halves) for position in part]
            for part in self._positions()
        ]

    def _positions(self) -> list[range]:
        size = self.chunk or len(self.frames)
        return [range(start, min(start + size, len(self.frames))) for start in range(0, len(self.frames), size)]


class Controller(Protocol):
    """Orders the passes of a step and, through `running`, receives what each network call is for.

    Calls per step: `passes` once, then for each pass, in order, `running` around the network's call.
    Both are called with the same `step`. A controller installs its attention processors itself.
    """

    def passes(self, step: Step) -> Sequence[Pass]:
        """Return passes that cover every frame exactly once; a pass may exceed `step.chunk` if it must."""
        ...

    def running(self, step: Step, current: Pass) -> AbstractContextManager[object]:
        """Return a context manager that is entered before the network runs on `current` and left after."""
        ...


def plain_passes(step: Step) -> list[Pass]:
    """Return passes over all frames in order, `step.chunk` frames each."""
    starts = range(0, step.frames, step.chunk)
    return [Pass(tuple(range(start, min(start + step.chunk, step.frames)))) for start in starts]


def check_passes(passes: Sequence[Pass], step: Step) -> None:
    """Check that the passes cover every frame of the video exactly once; raise a ConfigError if not."""
    covered = sorted(frame for current in passes for frame in current.frames)
    if covered != list(range(step.frames)):
        raise ConfigError(
            f"step {step.index}: the passes cover frames {covered}, the video has 0 to {step.frames - 1}; "
            "each must be in exactly one pass"
        )
