"""Settings of the method for next to no work."""

from dataclasses import replace
from pathlib import Path

from mvtokenflow.method.config import MethodConfig, mini
from mvtokenflow.splat.training_config import StageConfig


def few_steps(prior: Path) -> MethodConfig:
    """Return `mini` with two sampling steps, two iterations a stage and few Gaussians."""
    small, few = mini(), StageConfig(iterations=2)
    return replace(
        small,
        prior=str(prior),
        sampling=replace(small.sampling, steps=2, timesteps=(999, 100)),
        token_flow=replace(small.token_flow, interval=2, tau=0.5),
        reconstruction=replace(
            small.reconstruction,
            static=few,
            coarse=few,
            refine=few,
            points=200,
            field=replace(small.reconstruction.field, control_points=8),
        ),
    )
