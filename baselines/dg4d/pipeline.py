"""DreamGaussian4D from a clip to a field: static Gaussians of the first frame, then planes that deform them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mvtokenflow.baselines.dg4d.settings import Dg4dSettings
from mvtokenflow.baselines.job import Job
from mvtokenflow.baselines.planes import plane_groups, save_planes
from mvtokenflow.distill.fields import PlaneField, plane_deformation
from mvtokenflow.distill.stored import load_planes
from mvtokenflow.distill.training import Group, Plan, SdsTraining
from mvtokenflow.guidance.levels import ClippedRamp, ramp, staircase
from mvtokenflow.guidance.steps import ReferenceWeights
from mvtokenflow.method.artefacts import COSTS_FILE
from mvtokenflow.splat.adaptive_start import ball_start
from mvtokenflow.splat.config import FieldConfig, LossWeights
from mvtokenflow.splat.gaussians import GaussianModel, Gaussians
from mvtokenflow.splat.schedule import log_linear
from mvtokenflow.splat.trainer import fit_static
from mvtokenflow.splat.training_config import LearningRates, ReconstructionConfig, StageConfig
from mvtokenflow.workdir.cost import measured

KIND = "dg4d"
START_RADIUS, START_OPACITY = 0.5, 0.1


class Dg4dTraining(SdsTraining):
    """Dynamic stage: the whole video against the input, and some of its frames distilled, in every step.

    Args:
        start: the Gaussians of the first frame; they are trained on.
    """

    def __init__(self, job: Job, settings: Dg4dSettings, start: GaussianModel) -> None:
        super().__init__(
            job.source,
            job.teacher(settings.distill),
            sds_weight=settings.distill.sds_weight,
            weights=ReferenceWeights(colour=settings.colour, mask=settings.mask),
            generator=job.draws("dynamic"),
        )
        self.settings = settings
        self.ramp = ClippedRamp(low=settings.levels[0], high=settings.levels[1], steps=settings.steps)
        deformation = plane_deformation(
            settings.resolution, settings.factors, settings.channels, settings.width, settings.heads
        )
        deformation.initialise(self.generator)
        self.field = PlaneField(start, deformation.to(self.device), job.clock, job.pixel)
        self.parts = {"gaussians": start, "deformation": self.field.deformation}
        self._order: list[int] = []
        self.start()

    def plan(self, number: int) -> Plan:
        """Take all frames for the reference and an even subset for distillation; see `SdsTraining`."""
        settings, count = self.settings, len(self.source)
        cycle = max(1, -(-count // settings.distilled_frames))
        if number % cycle == 0 or len(self._order) != cycle:
            self._order = torch.randperm(cycle, generator=self.generator).tolist()
        distilled = range(self._order[number % cycle], count, cycle)
        reference: Sequence[int] = range(count)
        if not settings.whole_video:
            reference = [int(torch.randint(count, (), generator=self.generator))]
        return Plan(
            reference=reference,
            distilled=distilled,
            level=min(self.ramp.level(number + 1), 999),
            side=min(staircase(number, settings.sides, settings.before), self.source.size),
            share=ramp(number + 1, settings.steps),
        )

    def gaussians(self, frames: Sequence[int]) -> list[Gaussians]:
        """Return the deformed Gaussians at frames; see `SdsTraining`."""
        return self.field.at_frames(frames)

    def groups(self) -> list[Group]:
        """List the parameters; see `SdsTraining`."""
        return plane_groups(self.field, self.settings)

    def rates(self, number: int) -> Mapping[str, float]:
        """Let the rate of positions fall; see `SdsTraining`."""
        settings = self.settings
        return {"means": log_linear(settings.means, settings.means_final, number + 1, settings.steps)}

    def extra_state(self) -> dict[str, Any]:
        """Return the order of frames in this cycle; see `SdsTraining`."""
        return {"order": list(self._order)}

    def restore_extra(self, state: Mapping[str, Any]) -> None:
        """Restore the order of frames; see `SdsTraining`."""
        self._order = list(state["order"])


def fit(job: Job, settings: Dg4dSettings) -> PlaneField:
    """Fit the static Gaussians, then their deformation, or what is missing of them."""
    start = static_start(job, settings) if settings.start == "static" else _random_start(job, settings)
    return job.stage(
        "dynamic",
        settings.steps,
        lambda: Dg4dTraining(job, settings, start),
        lambda path, training: save_planes(path, training.field, KIND, settings),
        lambda path: load_planes(path, KIND),
        offset=settings.static_steps if settings.start == "static" else 0,
    )


def static_start(job: Job, settings: Dg4dSettings) -> GaussianModel:
    """Fit Gaussians to the prior's views of the first frame, starting from the hull of their masks."""
    video = job.views("first-frame", slice(0, 1), settings.sampling)
    config = ReconstructionConfig(
        static=StageConfig(iterations=settings.static_steps),
        coarse=StageConfig(iterations=0),
        refine=StageConfig(iterations=0),
        field=FieldConfig(sh_degree=0, hyper_dim=0),
        weights=LossWeights(normal=0.0, flow=0.0, arap=0.0),
        rates=LearningRates(means=2e-3, means_final=2e-4),
        points=settings.points,
        opacity=0.5,
        times_per_step=1,
    )
    with measured("static", job.workdir / COSTS_FILE, job.device):
        static = fit_static(
            video,
            config,
            job.workdir / "static-field",
            job.draws("static"),
            job.progress,
            checkpoint_every=job.checkpoint_every,
        )
    return static.gaussians


def _random_start(job: Job, settings: Dg4dSettings) -> GaussianModel:
    """Place grey Gaussians in a ball."""
    return ball_start(settings.points, START_RADIUS, START_OPACITY, job.draws("start")).to(job.device)
