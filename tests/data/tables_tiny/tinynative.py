"""The method's rows with an untrained prior and next to no iterations: every stage runs, nothing is good.

The prior's file is named by `TINY_PRIOR`. Imported by name ("tinynative:FULL"), as a third party's rows are.
"""

import os
from dataclasses import replace

from mvtokenflow.baselines.mvtokenflow import Native
from mvtokenflow.method.config import MethodConfig, mini
from mvtokenflow.splat.training_config import StageConfig


def settings() -> MethodConfig:
    """`mini`, tiny."""
    small, few = mini(), StageConfig(iterations=3)
    field = replace(small.reconstruction.field, control_points=8)
    return replace(
        small,
        prior=os.environ["TINY_PRIOR"],
        sampling=replace(small.sampling, steps=2, timesteps=(999, 100)),
        stride=1,
        token_flow=replace(small.token_flow, interval=2, tau=0.5),
        reconstruction=replace(
            small.reconstruction, static=few, coarse=few, refine=few, points=200, field=field
        ),
    )


FULL = Native(name="tiny-full", base=settings())
NO_FLOW_LOSS = Native(name="tiny-no-flow-loss", left_out=("flow-loss",), base=settings())
