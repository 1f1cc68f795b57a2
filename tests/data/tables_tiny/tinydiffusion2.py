"""Diffusion²'s row with next to no iterations, the shipped models; imported by name ("tinydiffusion2:ROW")."""

from dataclasses import replace

from mvtokenflow.baselines.diffusion2.row import Diffusion2
from mvtokenflow.baselines.diffusion2.settings import Diffusion2Settings, MatrixSampling, mini
from mvtokenflow.splat.training_config import StageConfig


def settings() -> Diffusion2Settings:
    """`mini`, tiny, with the linear video model."""
    base, few = mini(), StageConfig(iterations=3)
    field = replace(base.reconstruction.field, control_points=8)
    return replace(
        base,
        stride=2,
        sampling=MatrixSampling(timesteps=(999, 100), renoised=1, least=0.9),
        reconstruction=replace(base.reconstruction, static=few, coarse=few, points=200, field=field),
    )


ROW = Diffusion2(name="tiny-diffusion2", base=settings())
