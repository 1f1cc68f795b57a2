"""Consistent4D from a clip to a field: steps against the input and steps of distillation, in turn."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.baselines.consistent4d.settings import Consistent4dSettings
from mvtokenflow.baselines.job import Job
from mvtokenflow.distill.cascade import TimedCascade, load, save
from mvtokenflow.distill.source import sized_cameras
from mvtokenflow.distill.training import Group, Plan, Rendered, SdsTraining
from mvtokenflow.flow.estimate import DisEstimator
from mvtokenflow.flow.interpolate import FlowInterpolator
from mvtokenflow.guidance.levels import RandomBand, staircase
from mvtokenflow.guidance.steps import ReferenceWeights
from mvtokenflow.radiance.cascade import CascadeField, CascadeLevel
from mvtokenflow.radiance.losses import (
    CascadeWeights,
    Interpolator,
    colour_loss,
    hard_mask,
    interpolation_consistency,
    is_reference_step,
    linear_interpolator,
    mask_loss,
    normal_smoothness,
    orientation_loss,
)
from mvtokenflow.radiance.occupancy import Occupancy
from mvtokenflow.radiance.planes import signed_time
from mvtokenflow.radiance.render import LevelPictures, occupied_at, refreshed, render_cascade
from mvtokenflow.splat.field import Render
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.views.cameras import Cameras, orbit

JITTER = 1e-2  # of the points whose normals are compared, world units
LOG_EVERY = 21  # steps; odd, since steps of two kinds alternate and rows would else all be of one
ORBIT_RADIUS = 3.0  # of orthographic cameras, so that it does not matter


class CascadeTraining(SdsTraining):
    """The fit; all levels are rendered and supervised, each by itself."""

    betas = (0.9, 0.99)

    def __init__(self, job: Job, settings: Consistent4dSettings) -> None:
        super().__init__(
            job.source,
            job.teacher(settings.distill),
            sds_weight=settings.sds * settings.distill.sds_weight,
            weights=ReferenceWeights(colour=settings.colour, mask=settings.mask),
            generator=job.draws("fit"),
        )
        self.settings = settings
        half = max(settings.steps // 2, 1)
        self.band = RandomBand(low=settings.level_low, high=settings.level_high, steps=half)
        self.losses = CascadeWeights(
            colour=settings.colour,
            mask=settings.mask,
            interpolation=settings.interpolation,
            smoothness=settings.smoothness,
            orientation=(*settings.orientation, half),
        )
        levels = [
            CascadeLevel(resolution=one, channels=settings.channels, width=settings.width)
            for one in settings.resolutions
        ]
        self.field = CascadeField(levels)
        self.field.initialise(self.generator)
        self.field.to(self.device)
        self.occupancy = Occupancy.full(settings.occupancy, self.field.radius)
        self.interpolator: Interpolator = linear_interpolator
        if settings.interpolator == "dis":
            self.interpolator = FlowInterpolator(DisEstimator())
        self.parts = {"field": self.field}
        self.number = 0
        self.start()

    def plan(self, number: int) -> Plan:
        """Draw the frame of a step that compares with the input, or of one that distils."""
        frame = int(torch.randint(len(self.source), (), generator=self.generator))
        side = min(staircase(number, self.settings.sides, self.settings.before), self.source.size)
        self.number = number
        if is_reference_step(number):
            return Plan(reference=(frame,), distilled=(), level=0, side=side)
        level = self.band.draw(number, self.generator)
        return Plan(reference=(), distilled=(frame,), level=level, side=side)

    def gaussians(self, frames: Sequence[int]) -> list[Gaussians]:
        """Raise a TypeError: the field has no Gaussians."""
        raise TypeError("a radiance field has no Gaussians")

    def groups(self) -> list[Group]:
        """List the parameters, all of one rate."""
        return [("field", list(self.field.parameters()), self.settings.rate)]

    def terms(self, plan: Plan) -> tuple[dict[str, Tensor], Rendered]:
        """Render a step and compute its losses, weighted; see `SdsTraining`."""
        if self.number % self.settings.occupancy_every == 0:
            length = 2 * self.field.radius / self.settings.samples
            decay = self.settings.occupancy_decay if self.number else 0.0  # nothing is known before
            self.occupancy = refreshed(
                self.field,
                self.occupancy,
                length,
                self.generator,
                decay,
                self.settings.occupancy_draws,
            )
        if plan.reference:
            terms, seen = self._reference(plan)
        elif float(torch.rand((), generator=self.generator)) < self.settings.interpolation_share:
            terms, seen = self._interpolated(plan)
        else:
            terms, seen = self._distilled(plan)
        return terms | self._regularised(seen), Rendered()

    def _seen(self, cameras: Cameras, frames: Sequence[int]) -> LevelPictures:
        times = torch.tensor([signed_time(frame, len(self.source)) for frame in frames])
        return render_cascade(
            self.field,
            cameras,
            times,
            self.settings.samples,
            occupancy=self.occupancy,
            generator=self.generator,
        )

    def _reference(self, plan: Plan) -> tuple[dict[str, Tensor], LevelPictures]:
        wanted = self.source.sized(plan.side)
        (frame,) = plan.reference
        seen = self._seen(wanted.camera, plan.reference)
        mask = hard_mask(wanted.alpha[frame])[None]
        shown = self._supervised(seen)
        colour = colour_loss(seen.rgb[shown], wanted.rgb[frame][None], mask)
        weights = self.losses.at(self.number)
        return {
            "reference": weights["colour"] * colour.sum(),
            "mask": weights["mask"] * mask_loss(seen.opacity[shown], mask).sum(),
        }, seen

    def _supervised(self, seen: LevelPictures) -> slice:
        """Return the levels that have losses on pictures."""
        return slice(None) if self.settings.deep else slice(len(seen.rgb) - 1, None)

    def _distilled(self, plan: Plan) -> tuple[dict[str, Tensor], LevelPictures]:
        (frame,) = plan.distilled
        look = self.teacher.look(frame, self.generator)
        cameras = sized_cameras(look.cameras, plan.side)
        seen = self._seen(cameras, [frame] * len(cameras))
        level = self.teacher.levels.of(plan.level)
        parts = [
            self.teacher.loss(look, _as_render(seen, one, cameras), level, self.generator)
            for one in range(len(seen.rgb))[self._supervised(seen)]
        ]
        return {"sds": self.sds_weight * torch.stack(parts).sum()}, seen

    def _interpolated(self, plan: Plan) -> tuple[dict[str, Tensor], LevelPictures]:
        """Render a sequence along an arc or in time; its middle follows an interpolation of its ends."""
        (frame,) = plan.distilled
        count, batch = len(self.source), self.settings.batch
        azimuth, step, kind = (float(value) for value in torch.rand(3, generator=self.generator))
        step_frames = max(1, count // 16)
        if kind < 0.5 or count < batch:
            low, high = self.settings.arc
            jump = low + (high - low) * step
            cameras = _level_cameras([360 * azimuth + jump * n for n in range(batch)], plan.side)
            frames = [frame] * batch
        else:
            start = int(step * (count - step_frames * (batch - 1)))
            frames = [start + n * step_frames for n in range(batch)]
            azimuths = self.teacher.look(frame, self.generator).cameras
            chosen = int(azimuth * len(azimuths))
            cameras = sized_cameras(azimuths[[chosen] * batch], plan.side)
        seen = self._seen(cameras, frames)
        loss = interpolation_consistency(seen.rgb[self._supervised(seen)], self.interpolator)
        return {"interpolation": self.losses.at(self.number)["interpolation"] * loss.sum()}, seen

    def _regularised(self, seen: LevelPictures) -> dict[str, Tensor]:
        """Compute the losses on normals from a draw of the samples."""
        samples, weights = seen.samples, self.losses.at(self.number)
        count = min(self.settings.regularised, len(samples.points))
        if not count or not (weights["smoothness"] or weights["orientation"]):
            return {}
        chosen = torch.randperm(len(samples.points), generator=self.generator)[:count]
        points, times = samples.points[chosen].detach(), samples.times[chosen]
        moved = points + JITTER * torch.randn(points.shape, generator=self.generator).to(points)
        normals, others = self.field.normals(points, times), self.field.normals(moved, times)
        whole = len(samples.points) / count
        facing = torch.stack(
            [
                orientation_loss(
                    samples.weights[level][chosen, None], normals[level], samples.directions[chosen], opacity
                )
                for level, opacity in enumerate(seen.opacity)
            ]
        )
        smooth = torch.stack([normal_smoothness(one, two) for one, two in zip(normals, others, strict=True)])
        return {
            "orientation": weights["orientation"] * whole * facing.sum(),
            "smoothness": weights["smoothness"] * smooth.sum(),
        }

    @torch.no_grad()
    def preview(self) -> tuple[Tensor, Tensor]:
        """Return what the teacher pulls to, and renderings of the last level; see `SdsTraining`."""
        draws = torch.Generator().manual_seed(0)
        frame = (len(self.source) - 1) // 2
        look = self.teacher.look(frame, draws)
        times = torch.full((len(look.cameras),), signed_time(frame, len(self.source)))
        made = render_cascade(self.field, look.cameras, times, self.settings.samples, occupancy=self.occupancy)
        return self.pulled_to(look, _as_render(made, -1, look.cameras), draws), made.rgb[-1].clamp(0, 1)

    def extra_state(self) -> dict[str, Any]:
        """Return the occupied cells."""
        return {"occupied": self.occupancy.values}

    def restore_extra(self, state: Mapping[str, Any]) -> None:
        """Restore the occupied cells."""
        self.occupancy = Occupancy(state["occupied"], self.field.radius)

    def result(self, clock: Sequence[float]) -> TimedCascade:
        """Return the field with the cells that hold something at a frame or between two."""
        frames = len(self.source)
        times = [signed_time(half / 2, frames) for half in range(2 * frames - 1)]
        length = 2 * self.field.radius / self.settings.samples
        occupied = occupied_at(self.field, times, self.settings.occupancy, length)
        return TimedCascade(self.field, occupied, clock, self.settings.samples)


def fit(job: Job, settings: Consistent4dSettings) -> TimedCascade:
    """Fit the field, or what is missing of it."""
    return job.stage(
        "fit",
        settings.steps,
        lambda: CascadeTraining(job, settings),
        lambda path, training: save(path, training.result(job.clock)),
        load,
        log_every=LOG_EVERY,
    )


def _as_render(seen: LevelPictures, level: int, cameras: Cameras) -> Render:
    return Render(
        rgb=seen.rgb[level],
        alpha=seen.opacity[level],
        depth=seen.depth[level].detach(),
        cameras=cameras,
        meta={},
    )


def _level_cameras(azimuths: Sequence[float], side: int) -> Cameras:
    """Orthographic cameras at elevation 0."""
    return orbit(azimuths, size=side, kind="ortho", radius=ORBIT_RADIUS)
