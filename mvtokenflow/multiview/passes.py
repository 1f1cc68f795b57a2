"""Which frames the denoiser sees together, and the hook through which frames are made to agree.

At every noise level the sampler runs the network over all frames in a few *passes* of whole frames. Without a
controller, frames are independent and passes only bound memory. A controller (token flow) orders them:
keyframes in one pass, whose attention it records, then the other frames, which it fills from the record; or all
frames in one pass, which goes through the network in parts that meet in attention.

Inside a pass of f frames the network's batch is n = (d G + q) V + v with G = halves * f groups and
q = half * f + position of the frame in the pass; half 0 is unconditional and half 1 conditional, with
guidance, and there is one half without. The module `attn1` of every block then sees (G V, 2 L, C) paired
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
        frames, views: of the whole video.
        halves: 2 with guidance, 1 without.
        chunk: frames that fit into working memory at once.
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
    """Frames that the network runs on together.

    Attributes:
        frames: by index into the video.
        role: the controller's word for the pass.
        chunk: frames that are worked on at once; every layer then runs on part after part of the pass, and a
            processor of `attn1` may let them see each other. None is all.
    """

    frames: tuple[int, ...]
    role: str = "plain"
    chunk: int | None = None

    @property
    def parts(self) -> list[tuple[int, ...]]:
        """Frames of each part, in order."""
        return [tuple(self.frames[position] for position in part) for part in self._positions()]

    def groups(self, halves: int) -> list[list[int]] | None:
        """Groups q of the network's batch in each part; None if there is but one call with all."""
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
    """Orders the passes of a step and knows, through `running`, what the network is being called for.

    Calls per step: `passes` once, then for each pass, in order, `running` around the network's call.
    Both are called with the same `step`. A controller installs its attention processors itself.
    """

    def passes(self, step: Step) -> Sequence[Pass]:
        """Passes that cover every frame exactly once. A pass may exceed `step.chunk` if it must."""
        ...

    def running(self, step: Step, current: Pass) -> AbstractContextManager[object]:
        """Entered before the network runs on `current`, left after."""
        ...


def plain_passes(step: Step) -> list[Pass]:
    """All frames in order, `step.chunk` at a time."""
    starts = range(0, step.frames, step.chunk)
    return [Pass(tuple(range(start, min(start + step.chunk, step.frames)))) for start in starts]


def check_passes(passes: Sequence[Pass], step: Step) -> None:
    """Raise a ConfigError unless the passes cover every frame of the video exactly once."""
    covered = sorted(frame for current in passes for frame in current.frames)
    if covered != list(range(step.frames)):
        raise ConfigError(
            f"step {step.index}: the passes cover frames {covered}, the video has 0 to {step.frames - 1}; "
            "each must be in exactly one pass"
        )
