"""The method at a size at which it works and takes seconds: toy4d, the shipped prior, few frames and steps.

Imported by name ("smallmethod:METHOD").
"""

from dataclasses import replace

from mvtokenflow.baselines.mvtokenflow import Native
from mvtokenflow.method.config import MethodConfig, mini
from mvtokenflow.small.config import small_sampling
from mvtokenflow.splat.training_config import StageConfig


def settings(static: int, coarse: int, refine: int, points: int) -> MethodConfig:
    """`mini` with every fourth frame, 8 sampling steps, and these steps of the reconstruction."""
    whole = mini()
    return replace(
        whole,
        stride=4,
        sampling=replace(small_sampling(steps=8), chunk=4),
        reconstruction=replace(
            whole.reconstruction,
            static=StageConfig(iterations=static),
            coarse=StageConfig(iterations=coarse),
            refine=StageConfig(iterations=refine),
            points=points,
        ),
    )


METHOD = Native(name="method", base=settings(60, 120, 60, 1000))
VIEWS = Native(name="views", left_out=("refinement",), true_views=True, base=settings(100, 200, 0, 1500))
