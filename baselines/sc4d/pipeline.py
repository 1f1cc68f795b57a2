"""SC4D from a clip to a field: control points as Gaussians, then fine Gaussians that follow them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.baselines.job import Job
from mvtokenflow.baselines.sc4d.settings import Sc4dSettings
from mvtokenflow.distill.fields import ControlField, PointField, save_rival_field
from mvtokenflow.distill.stored import SC4D_CONTROL, SC4D_POINTS, load_control, load_points
from mvtokenflow.distill.training import Group, Plan, Rendered, SdsTraining, gaussian_groups
from mvtokenflow.guidance.levels import ClippedRamp, staircase
from mvtokenflow.guidance.steps import ReferenceWeights
from mvtokenflow.splat.adaptive_start import BallDraws, adaptive_start, ball_start
from mvtokenflow.splat.config import DensityConfig
from mvtokenflow.splat.control import farthest_points
from mvtokenflow.splat.density import densify, keep_only, prune
from mvtokenflow.splat.field import Render
from mvtokenflow.splat.gaussians import GaussianModel, Gaussians, gap_squared
from mvtokenflow.splat.losses import alignment_loss, arap, common_edges
from mvtokenflow.splat.schedule import log_linear
from mvtokenflow.splat.timenet import TimeNet

START_RADIUS = 0.5  # of the ball of points
START_OPACITY = 0.05
PRUNE_OPACITY = 0.01
PRUNE_SCALE = 0.4  # longest axis, world units
RIGID_TIMES = 8  # random times of the rigidity loss
RATES = {"logit_opacities": 0.05, "features_dc": 0.01}
FINE_RATES = {**RATES, "log_scales": 0.005, "quats": 0.005}


class _Sc4dTraining(SdsTraining):
    """What both stages share: one random frame a step, compared with the input and distilled."""

    def __init__(self, job: Job, settings: Sc4dSettings, ramp: ClippedRamp, purpose: str) -> None:
        super().__init__(
            job.source,
            job.teacher(settings.distill),
            sds_weight=settings.distill.sds_weight,
            weights=ReferenceWeights(colour=settings.colour, mask=settings.mask),
            generator=job.draws(purpose),
        )
        self.settings, self.ramp = settings, ramp

    def plan(self, number: int) -> Plan:
        """Draw the frame; see `SdsTraining`."""
        frame = int(torch.randint(len(self.source), (), generator=self.generator))
        side = min(staircase(number, self.settings.sides, self.settings.before), self.source.size)
        return Plan(
            reference=(frame,), distilled=(frame,), level=min(self.ramp.level(number + 1), 999), side=side
        )

    def _rigidity(self, points: Tensor, network: TimeNet) -> Tensor | None:
        """Rigidity of control points over random times; it trains the network alone. None without edges."""
        times = torch.rand(RIGID_TIMES, generator=self.generator).to(points)
        rest = points.detach()
        sequence = rest + network(rest, times[:, None, None]).translation
        edges = common_edges(sequence.detach(), radius=self.settings.rigid_radius)
        if not edges.shape[1]:
            return None
        return self.settings.rigidity * arap(sequence, edges, "sum")


class PointTraining(_Sc4dTraining):
    """First stage."""

    def __init__(self, job: Job, settings: Sc4dSettings) -> None:
        stage = settings.first
        ramp = ClippedRamp(low=stage.levels[0], high=stage.levels[1], steps=stage.steps)
        super().__init__(job, settings, ramp, "points")
        self.stage = stage
        self.field = _start_points(job, settings, self.generator)
        self.parts = {"gaussians": self.field.gaussians, "network": self.field.network}
        self._gradients = torch.zeros(len(self.field.gaussians), device=self.device)
        self._seen = torch.zeros_like(self._gradients)
        self.start()

    def gaussians(self, frames: Sequence[int]) -> list[Gaussians]:
        """Return the points at frames; see `SdsTraining`."""
        return self.field.at_frames(frames)

    def groups(self) -> list[Group]:
        """List the parameters; see `SdsTraining`."""
        model = self.field.gaussians
        return [
            *gaussian_groups(model, {"means": self.stage.means, **RATES}),
            ("radius", [self.field.log_radius], 0.01),
            ("network", list(self.field.network.parameters()), self.stage.network),
        ]

    def rates(self, number: int) -> Mapping[str, float]:
        """Let the rate of positions fall; see `SdsTraining`."""
        stage = self.stage
        return {"means": log_linear(stage.means, stage.means_final, number + 1, stage.means_steps)}

    def own_terms(self, number: int, plan: Plan) -> dict[str, Tensor]:
        """Keep control points rigid once they are reduced; see `SdsTraining`."""
        if number + 1 <= self.stage.reduce_at or not self.settings.rigidity:
            return {}
        rigid = self._rigidity(self.field.gaussians.means, self.field.network)
        return {} if rigid is None else {"arap": rigid}

    def after_step(self, number: int, rendered: Rendered) -> None:
        """Densify, then reduce to the control points; see `SdsTraining`."""
        step, stage = number + 1, self.stage
        first, last, every = stage.densify
        if step <= max(last, stage.reduce_at):
            self._accumulate(rendered.distilled)
        if first <= step <= last and step % every == 0:
            self._densify()
        if step == stage.reduce_at:
            self._reduce()
        if step == stage.steps:
            prune(self.field.gaussians, self.optimizer, opacity=PRUNE_OPACITY)

    def extra_state(self) -> dict[str, Any]:
        """Return radius and gradients; see `SdsTraining`."""
        return {"radius": self.field.log_radius.detach(), "gradients": self._gradients, "seen": self._seen}

    def restore_extra(self, state: Mapping[str, Any]) -> None:
        """Restore radius and gradients; see `SdsTraining`."""
        with torch.no_grad():
            self.field.log_radius.copy_(state["radius"])
        self._gradients, self._seen = state["gradients"], state["seen"]

    def _accumulate(self, renders: Sequence[Render]) -> None:
        for one in renders:
            half = one.meta["means2d"].new_tensor([one.meta["width"] / 2, one.meta["height"] / 2])
            norms = torch.linalg.vector_norm(one.meta["means2d"].grad * half, dim=-1)
            shown = (one.meta["radii"] > 0).all(-1)
            self._gradients = self._gradients + (norms * shown).sum(0)
            self._seen = self._seen + shown.sum(0)

    def _densify(self) -> None:
        model, stage = self.field.gaussians, self.stage
        with torch.no_grad():
            # Spheres have no longest axis: a drawn orientation decides along which one is split.
            model.log_scales.copy_(self.field.log_radius.expand_as(model.log_scales))
            model.quats.copy_(torch.randn(model.quats.shape, generator=self.generator))
        settings = DensityConfig(
            grow_gradient=stage.grow_gradient,
            grow_scale=stage.split_radius,
            max_count=stage.max_points,
        )
        drawn = torch.Generator(self.device).manual_seed(
            int(torch.randint(2**62, (), generator=self.generator))
        )
        densify(model, self.optimizer, self._gradients / self._seen.clamp_min(1), settings, drawn)
        radius = float(self.field.log_radius.detach().exp())
        if radius <= PRUNE_SCALE:
            prune(model, self.optimizer, opacity=PRUNE_OPACITY)
        self._gradients = torch.zeros(len(model), device=self.device)
        self._seen = torch.zeros_like(self._gradients)

    def _reduce(self) -> None:
        model, wanted = self.field.gaussians, self.settings.control_points
        if len(model) > wanted:
            upstream = self.settings.fps == "upstream"
            kept = farthest_points(model.means, wanted, upstream=upstream)
            keep_only(model, self.optimizer, kept.sort().values)
        self._gradients = torch.zeros(len(model), device=self.device)
        self._seen = torch.zeros_like(self._gradients)


class ControlTraining(_Sc4dTraining):
    """Second stage.

    Args:
        points: the first stage's result; where its points are at each frame is what alignment holds on to.
    """

    def __init__(self, job: Job, settings: Sc4dSettings, points: PointField) -> None:
        stage = settings.second
        ramp = ClippedRamp(low=stage.levels[0], high=stage.levels[1], steps=stage.steps)
        super().__init__(job, settings, ramp, "control")
        self.stage = stage
        self.field = _start_control(job, settings, points, self.generator)
        frames = len(self.source)
        with torch.no_grad():
            self.anchors = points.positions([frame / frames for frame in range(frames)])
        self.parts = {"gaussians": self.field.gaussians, "network": self.field.network}
        self.start()

    def gaussians(self, frames: Sequence[int]) -> list[Gaussians]:
        """Return the Gaussians at frames; see `SdsTraining`."""
        return self.field.at_frames(frames)

    def groups(self) -> list[Group]:
        """List the parameters; see `SdsTraining`."""
        stage, field = self.stage, self.field
        return [
            *gaussian_groups(field.gaussians, {"means": stage.means, **FINE_RATES}),
            ("nodes", [field.nodes], stage.nodes),
            ("radii", [field.log_radii], stage.radii),
            ("network", list(field.network.parameters()), stage.network),
        ]

    def rates(self, number: int) -> Mapping[str, float]:
        """Let the rates of positions and of the network fall; see `SdsTraining`."""
        stage, step = self.stage, number + 1
        return {
            "means": log_linear(stage.means, stage.means_final, step, stage.steps, stage.means_hold),
            "network": log_linear(stage.network, stage.network_final, step, stage.steps),
        }

    def own_terms(self, number: int, plan: Plan) -> dict[str, Tensor]:
        """Align control points with the first stage, and keep them rigid at first; see `SdsTraining`."""
        terms: dict[str, Tensor] = {}
        if self.settings.alignment:
            (frame,) = plan.reference
            now = self.field.positions([frame / len(self.source)])[0]
            terms["alignment"] = self.settings.alignment * alignment_loss(now, self.anchors[frame])
        if number + 1 < self.stage.rigid_until and self.settings.rigidity:
            rigid = self._rigidity(self.field.nodes, self.field.network)
            if rigid is not None:
                terms["arap"] = rigid
        return terms

    def after_step(self, number: int, rendered: Rendered) -> None:
        """Remove faint and large Gaussians; see `SdsTraining`."""
        if (number + 1) % self.stage.prune_every == 0:
            prune(self.field.gaussians, self.optimizer, opacity=PRUNE_OPACITY, scale=PRUNE_SCALE)

    def extra_state(self) -> dict[str, Any]:
        """Return control points and radii; see `SdsTraining`."""
        return {"nodes": self.field.nodes.detach(), "radii": self.field.log_radii.detach()}

    def restore_extra(self, state: Mapping[str, Any]) -> None:
        """Restore control points and radii; see `SdsTraining`."""
        with torch.no_grad():
            self.field.nodes.copy_(state["nodes"])
            self.field.log_radii.copy_(state["radii"])


def fit(job: Job, settings: Sc4dSettings) -> ControlField:
    """Fit both stages, or what is missing of them.

    Raises:
        DataError: too few points are left for a Gaussian's control points.
    """
    facts = {"clock": job.clock, "pixel": job.pixel, "width": settings.width, "depth": settings.depth}
    points = job.stage(
        "points",
        settings.first.steps,
        lambda: PointTraining(job, settings),
        lambda path, training: save_rival_field(path, training.field, SC4D_POINTS, facts),
        load_points,
    )
    if len(points.gaussians) < settings.neighbours:
        raise DataError(
            f"{job.workdir}: the first stage kept {len(points.gaussians)} points, a Gaussian follows "
            f"{settings.neighbours}; take another seed, or check the masks"
        )
    return job.stage(
        "control",
        settings.second.steps,
        lambda: ControlTraining(job, settings, points),
        lambda path, training: save_rival_field(
            path, training.field, SC4D_CONTROL, facts | {"neighbours": settings.neighbours}
        ),
        load_control,
        offset=settings.first.steps,
    )


def _start_points(job: Job, settings: Sc4dSettings, generator: torch.Generator) -> PointField:
    """Place points in a ball, of the size of the gaps between them; the network starts without motion."""
    model = ball_start(settings.first.start_points, START_RADIUS, START_OPACITY, generator).to(job.device)
    network = TimeNet(settings.width, settings.depth)
    network.initialise(generator)
    log_radius = 0.5 * gap_squared(model.means.detach()).mean().log()
    return PointField(model, log_radius, network.to(job.device), job.clock, job.pixel)


def _start_control(
    job: Job, settings: Sc4dSettings, points: PointField, generator: torch.Generator
) -> ControlField:
    """Place fine Gaussians around the first stage's points, whose network goes on."""
    nodes = points.gaussians.means.detach()
    log_radii = points.log_radius.detach().expand(len(nodes))
    draws = BallDraws.draw(len(nodes), settings.second.each, generator)
    drawn = BallDraws(*(getattr(draws, name).to(nodes) for name in ("angle", "cosine", "radius", "colour")))
    values = dict(adaptive_start(nodes, log_radii.exp(), drawn))
    values["features_dc"] = values["features_dc"][:, None]
    model = GaussianModel(
        **values,
        features_rest=nodes.new_zeros(len(values["means"]), 0, 3),
        hyper=nodes.new_zeros(len(values["means"]), 0),
    )
    network = TimeNet(settings.width, settings.depth).to(nodes)
    network.load_state_dict(points.network.state_dict())
    return ControlField(model, nodes, log_radii, network, settings.neighbours, job.clock, job.pixel)
