"""State shared by the attention processors of token flow: the current pass, and plans for filling frames."""

from collections.abc import Mapping
from math import isqrt

import torch

from mvtokenflow.flow.keyframes import KeyframeFlow
from mvtokenflow.multiview.passes import Pass, Step
from mvtokenflow.tokenflow.config import TokenFlowConfig
from mvtokenflow.tokenflow.warp import FramePlan, plan_frames


class TokenFlowState:
    """State of token flow, set by the controller before each network call and read by the processors.

    Attributes:
        config: settings.
        flows: flow of the propagated views, or None.
        current, step: the current pass and its noise level; None between two network calls.
        propagating: whether that level propagates tokens.
        record_bytes: peak size of the records so far.
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
        """Set the pass that the network will run on next."""
        self.step, self.current = step, current
        self.propagating = self.config.propagates(step.index, step.count)

    def end(self) -> None:
        """Clear the pass, after the network has run or failed."""
        self.step, self.current = None, None

    def note_record(self, held: int) -> None:
        """Update the peak size of the records, in bytes."""
        self.record_bytes = max(self.record_bytes, held)

    def plan(self, frame: int, tokens: int, device: torch.device) -> FramePlan:
        """Return the plan for filling `frame` on a square grid of `tokens` tokens.

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
        """Mean share of tokens that keep their own attention, by side of the token grid."""
        return {
            side: sum(plan.own_share for plan in plans.values()) / len(plans)
            for side, plans in self._plans.items()
            if plans
        }

    def forget_plans(self) -> None:
        """Drop the plans of all grids."""
        self._plans.clear()
