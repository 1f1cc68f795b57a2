"""What the attention processors of token flow share: the pass that runs, and how frames are filled."""

from collections.abc import Mapping
from math import isqrt

import torch

from mvtokenflow.flow.keyframes import KeyframeFlow
from mvtokenflow.multiview.passes import Pass, Step
from mvtokenflow.tokenflow.config import TokenFlowConfig
from mvtokenflow.tokenflow.warp import FramePlan, plan_frames


class TokenFlowState:
    """The state of token flow: set by the controller before each call of the network, read by the processors.

    Attributes:
        config: settings.
        flows: flow of the propagated views, or None.
        current, step: the pass that the network runs on and its noise level; None between two calls.
        propagating: whether that level propagates tokens.
        record_bytes: the most bytes of records held at once so far.
    """

    def __init__(self, config: TokenFlowConfig, flows: KeyframeFlow | None) -> None:
        self.config = config
        self.flows = flows
        self.current: Pass | None = None
        self.step: Step | None = None
        self.propagating = False
        self.record_bytes = 0
        self._plans: dict[int, Mapping[int, FramePlan]] = {}

    def begin(self, step: Step, current: Pass) -> None:
        """Set the pass that the network is about to run on."""
        self.step, self.current = step, current
        self.propagating = self.config.propagates(step.index, step.count)

    def end(self) -> None:
        """Clear the pass, after the network has run or failed."""
        self.step, self.current = None, None

    def note_record(self, held: int) -> None:
        """Note how many bytes of records are held at once."""
        self.record_bytes = max(self.record_bytes, held)

    def plan(self, frame: int, tokens: int, device: torch.device) -> FramePlan:
        """How `frame` is filled on a square grid of so many tokens.

        Raises:
            ValueError: the tokens form no square grid, or there is no flow.
        """
        side = isqrt(tokens)
        if side not in self._plans:
            if side**2 != tokens or self.flows is None:
                raise ValueError(f"{tokens} tokens are no square grid, or there is no flow")
            self._plans[side] = plan_frames(
                self.flows,
                side,
                device,
                literal_lambda=self.config.literal_lambda,
                interpolation=self.config.interpolation,
                own_where_hidden=self.config.fallback == "own",
                visible_share=self.config.visible_share,
            )
        return self._plans[side][frame]

    def own_shares(self) -> dict[int, float]:
        """By side of the token grid, the mean share of tokens left to their own attention."""
        return {
            side: sum(plan.own_share for plan in plans.values()) / len(plans)
            for side, plans in self._plans.items()
            if plans
        }

    def forget_plans(self) -> None:
        """Drop the plans of all grids."""
        self._plans.clear()
