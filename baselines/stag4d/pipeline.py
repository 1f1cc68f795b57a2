"""STAG4D from a clip to a field: anchored views of all frames, then Gaussians fitted with several pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.baselines.job import Job
from mvtokenflow.baselines.planes import plane_groups, save_planes
from mvtokenflow.baselines.stag4d.settings import Stag4dSettings
from mvtokenflow.distill.fields import PlaneField, plane_deformation
from mvtokenflow.distill.stored import load_planes
from mvtokenflow.distill.teacher import Reference
from mvtokenflow.distill.training import Group, Plan, Rendered, SdsTraining, seen_gradients
from mvtokenflow.guidance.levels import RandomBand, ramp, staircase
from mvtokenflow.guidance.steps import ReferenceWeights
from mvtokenflow.radiance.planes import plane_regularisation
from mvtokenflow.splat.adaptive_start import ball_start
from mvtokenflow.splat.config import DensityConfig
from mvtokenflow.splat.density import densify, keep_only, relative_threshold
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.splat.losses import axis_ratio_loss
from mvtokenflow.splat.schedule import log_linear
from mvtokenflow.tokenflow.anchor import Anchor
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG

KIND = "stag4d"
START_RADIUS, START_OPACITY = 0.5, 0.1
MAX_GAUSSIANS = 1_000_000


class Stag4dTraining(SdsTraining):
    """The fit: one frame a step against the input, its views distilled from the input or a generated view.

    Args:
        references: generated views that may condition the teacher.
    """

    def __init__(self, job: Job, settings: Stag4dSettings, references: Sequence[Reference]) -> None:
        super().__init__(
            job.source,
            job.teacher(settings.distill, references),
            sds_weight=settings.distill.sds_weight,
            weights=ReferenceWeights(colour=settings.colour, mask=settings.mask),
            generator=job.draws("fit"),
        )
        self.settings = settings
        self.band = RandomBand(low=settings.level_low, high=settings.level_high, steps=settings.level_steps)
        model = ball_start(settings.points, START_RADIUS, START_OPACITY, self.generator).to(self.device)
        deformation = plane_deformation(
            settings.resolution, settings.factors, settings.channels, settings.width, "plain"
        )
        deformation.initialise(self.generator)
        self.field = PlaneField(model, deformation.to(self.device), job.clock, job.pixel)
        self.parts = {"gaussians": model, "deformation": self.field.deformation}
        self._gradients = torch.zeros(len(model), device=self.device)
        self._seen = torch.zeros_like(self._gradients)
        self._still = True
        self.start()

    def plan(self, number: int) -> Plan:
        """Draw the frame, the middle one at first, and the level; see `SdsTraining`."""
        settings, count, step = self.settings, len(self.source), number + 1
        self._still = step <= settings.static_steps
        frame = count // 2 if self._still else int(torch.randint(count, (), generator=self.generator))
        return Plan(
            reference=(frame,),
            distilled=(frame,),
            level=self.band.draw(step, self.generator),
            side=min(staircase(step, settings.sides, settings.before), self.source.size),
            share=ramp(step, settings.ramp_steps),
        )

    def gaussians(self, frames: Sequence[int]) -> list[Gaussians]:
        """Return the Gaussians at frames, without deformation in the static steps; see `SdsTraining`."""
        return self.field.at_frames(frames, still=self._still)

    def groups(self) -> list[Group]:
        """List the parameters; see `SdsTraining`."""
        return plane_groups(self.field, self.settings)

    def rates(self, number: int) -> Mapping[str, float]:
        """Let the rates of positions, planes and network fall; see `SdsTraining`."""
        settings = self.settings
        ends = {
            "means": (settings.means, settings.means_final),
            "planes": (settings.planes, settings.planes_final),
            "network": (settings.network, settings.network_final),
        }
        return {name: log_linear(*pair, number + 1, settings.rate_steps) for name, pair in ends.items()}

    def own_terms(self, number: int, plan: Plan) -> dict[str, Tensor]:
        """Smooth the planes once they are in use, and penalise long axes; see `SdsTraining`."""
        settings, terms = self.settings, dict[str, Tensor]()
        if not self._still:
            terms["planes"] = plane_regularisation(
                self.field.deformation.grid.levels(), space=settings.space, time=settings.time, l1=settings.l1
            )
        if settings.scale_loss == "meant":
            terms["axes"] = axis_ratio_loss(self.field.gaussians.log_scales)
        return terms

    def after_step(self, number: int, rendered: Rendered) -> None:
        """Clone and split the Gaussians with the largest gradients; see `SdsTraining`."""
        step, when = number + 1, self.settings.densify
        if step > when.stop:
            return
        gradients, seen = seen_gradients([*rendered.reference, *rendered.distilled], len(self._gradients))
        self._gradients = self._gradients + gradients * seen
        self._seen = self._seen + seen
        if step >= when.start and step % when.every == 0:
            self._densify()

    def extra_state(self) -> dict[str, Any]:
        """Return the gradients since the last densification; see `SdsTraining`."""
        return {"gradients": self._gradients, "seen": self._seen}

    def restore_extra(self, state: Mapping[str, Any]) -> None:
        """Restore these gradients; see `SdsTraining`."""
        self._gradients, self._seen = state["gradients"], state["seen"]

    def _forget(self) -> None:
        self._gradients = torch.zeros(len(self.field.gaussians), device=self.device)
        self._seen = torch.zeros_like(self._gradients)

    def _densify(self) -> None:
        model, when = self.field.gaussians, self.settings.densify
        mean = self._gradients / self._seen.clamp_min(1)
        if bool((mean > 0).any()):
            settings = DensityConfig(
                grow_gradient=float(relative_threshold(mean, when.share)),
                grow_scale=when.grow_scale,
                max_count=MAX_GAUSSIANS,
            )
            seed = int(torch.randint(2**62, (), generator=self.generator))
            densify(model, self.optimizer, mean, settings, torch.Generator(self.device).manual_seed(seed))
        with torch.no_grad():
            longest = model.log_scales.exp().amax(-1)
            least, most = when.prune_scales
            keep = (model.logit_opacities.sigmoid() >= when.prune_opacity) & (longest <= most)
            keep &= longest >= least
        if not bool(keep.any()):
            raise DataError(
                f"all {len(model)} Gaussians are faint or of a size outside {least:g} to {most:g}; check the "
                "masks, or change densify.prune_scales"
            )
        if not bool(keep.all()):
            keep_only(model, self.optimizer, keep.nonzero()[:, 0])
        self._forget()


def fit(job: Job, settings: Stag4dSettings) -> PlaneField:
    """Generate the views, then fit the field, or what is missing of them."""
    references = multiple_references(job, settings)
    return job.stage(
        "fit",
        settings.steps,
        lambda: Stag4dTraining(job, settings, references),
        lambda path, training: save_planes(path, training.field, KIND, settings),
        lambda path: load_planes(path, KIND),
    )


def multiple_references(job: Job, settings: Stag4dSettings) -> list[Reference]:
    """Generate the views of all frames, and return those that condition the teacher.

    Raises:
        ConfigError: the prior has no view at one of the azimuths.
    """
    if not settings.references:
        return []
    controller = Anchor(job.prior.unet) if settings.anchor else None
    video = job.views("views", slice(None), settings.sampling, controller)
    white = video.rgb * video.alpha + 1 - video.alpha
    places = [view_at(azimuth) for azimuth in settings.references]
    return [
        Reference(azimuth, white[:, place]) for azimuth, place in zip(settings.references, places, strict=True)
    ]


def view_at(azimuth: float) -> int:
    """Return the index of the prior's view at an azimuth in degrees.

    Raises:
        ConfigError: it has none there.
    """
    if azimuth not in ERA3D_AZIMUTHS_DEG[1:]:
        raise ConfigError(
            f"references has {azimuth:g}, the prior generates views at "
            f"{', '.join(f'{angle:g}' for angle in ERA3D_AZIMUTHS_DEG[1:])} degrees"
        )
    return ERA3D_AZIMUTHS_DEG.index(azimuth)


def load(path: Path) -> PlaneField:
    """Load a finished field."""
    return load_planes(path, KIND)
