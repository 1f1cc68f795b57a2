"""Estimated flow between any two frames of a clip, chained over neighbours where that sees more."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mvtokenflow.flow.estimate import FlowEstimator, estimate_flow
from mvtokenflow.flow.ops import compose, round_trip, visible

CHAIN_ABOVE = 0.3  # share of the object whose direct flow fails the round trip


class ClipFlow:
    """Estimates and caches the flows of one clip.

    The direct estimate of a pair is used unless more than 30 % of the object fails the forward-backward check;
    then the flows of neighbouring frames are chained, and the better of the two is kept.

    Attributes:
        chained: pairs of frames whose flow is chained.
    """

    def __init__(self, frames: Tensor, mask: Tensor, estimator: FlowEstimator) -> None:
        """Take frames (F, H, W, 3) in [0, 1] on a plain background and the object's mask (F, H, W) bool."""
        self.chained: list[tuple[int, int]] = []
        self._frames, self._mask, self._estimator = frames, mask, estimator
        self._known: dict[tuple[int, int], Tensor] = {}

    def between(self, a: int, b: int) -> tuple[Tensor, Tensor]:
        """Return flow (H, W, 2) from frame a to frame b and where it is visible (H, W) bool."""
        there, back = self._both_ways(a, b)
        seen = visible(there, back, self._mask[a], self._mask[b])
        kept = round_trip(there, back)[self._mask[a]]
        if abs(b - a) > 1 and kept.numel() and 1 - kept.float().mean() > CHAIN_ABOVE:
            chained, chained_seen = self._chain(a, b)
            if chained_seen.sum() > seen.sum():
                self.chained.append((a, b))
                there, seen = chained, chained_seen
        return there, seen

    def of(self, pairs: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Return flow (P, H, W, 2) and visible (P, H, W) bool of many pairs; direct flows run together."""
        self._estimate(list(dict.fromkeys(way for a, b in pairs for way in ((a, b), (b, a)))))
        found = [self.between(a, b) for a, b in pairs]
        return torch.stack([flow for flow, _ in found]), torch.stack([seen for _, seen in found])

    def _estimate(self, pairs: Sequence[tuple[int, int]]) -> None:
        missing = [pair for pair in pairs if pair not in self._known]
        if missing:
            found = estimate_flow(self._frames, missing, self._estimator)
            self._known.update(zip(missing, found, strict=True))

    def _both_ways(self, a: int, b: int) -> tuple[Tensor, Tensor]:
        self._estimate([(a, b), (b, a)])
        return self._known[a, b], self._known[b, a]

    def _chain(self, a: int, b: int) -> tuple[Tensor, Tensor]:
        step = 1 if b > a else -1
        flow, seen = self._step(a, a + step)
        for middle in range(a + step, b, step):
            flow, seen = compose(flow, seen, *self._step(middle, middle + step))
        return flow, seen

    def _step(self, a: int, b: int) -> tuple[Tensor, Tensor]:
        there, back = self._both_ways(a, b)
        return there, visible(there, back, self._mask[a], self._mask[b])
