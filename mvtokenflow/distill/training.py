"""A training step by score distillation: what is rendered, which losses, one optimizer step.

A method derives from `SdsTraining` and states its plan of a step, its field at some frames, its own loss terms
and what happens after a step. `splat.training_loop.train` runs it, with checkpoints and records.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mvtokenflow.distill.source import Shown, Source, sized_cameras
from mvtokenflow.distill.teacher import Look, Teacher
from mvtokenflow.guidance.steps import ReferenceWeights, reference_losses
from mvtokenflow.splat.field import Render, render_gaussians
from mvtokenflow.splat.gaussians import GaussianModel, Gaussians

ADAM_EPS = 1e-15
PREVIEW_LEVEL = 500  # of the published schedules
Group = tuple[str, Sequence[nn.Parameter], float]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a step renders.

    Attributes:
        reference: frames compared with the input. distilled: frames whose views are distilled.
        level: of distillation, in the published schedules' levels, 0 to 999.
        side: of all pictures in pixels. share: weight of the reference losses, 0 to 1.
    """

    reference: Sequence[int]
    distilled: Sequence[int]
    level: int
    side: int
    share: float = 1.0


@dataclass
class Rendered:
    """Renderings of a step, for what a method does after it.

    Attributes:
        reference, distilled: one for each frame of the plan.
    """

    reference: list[Render] = field(default_factory=list)
    distilled: list[Render] = field(default_factory=list)


class SdsTraining(ABC):
    """State of a training stage by score distillation (`splat.training_loop.Trainable`).

    Args:
        source: the clip. teacher: what is distilled; `sds_weight` is the weight of its loss.
        weights: of the losses against the input.
        generator: on the CPU, source of all random draws.

    Attributes:
        parts: modules whose state is kept, by name; a `GaussianModel` may change its size.
        betas: of Adam.
    """

    betas = (0.9, 0.999)

    def __init__(
        self,
        source: Source,
        teacher: Teacher,
        *,
        sds_weight: float,
        weights: ReferenceWeights,
        generator: torch.Generator,
    ) -> None:
        self.source, self.teacher = source, teacher
        self.sds_weight, self.weights = sds_weight, weights
        self.generator = generator
        self.device = source.front.device
        self.pixel = float(source.camera.pixel_size().max())
        self.parts: dict[str, nn.Module] = {}
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(()))])

    # ---- what a method states ----

    @abstractmethod
    def plan(self, number: int) -> Plan:
        """Plan step `number`, counted from 0, with draws from the generator."""

    @abstractmethod
    def gaussians(self, frames: Sequence[int]) -> list[Gaussians]:
        """Return the field at frames."""

    @abstractmethod
    def groups(self) -> list[Group]:
        """List parameters with their learning rates, by name."""

    def rates(self, number: int) -> Mapping[str, float]:
        """Return the learning rates, by group, that differ from the first ones at a step."""
        return {}

    def own_terms(self, number: int, plan: Plan) -> dict[str, Tensor]:
        """Compute the method's own loss terms, weighted."""
        return {}

    def after_step(self, number: int, rendered: Rendered) -> None:  # noqa: B027  (most methods do nothing)
        """Change the field after the optimizer's step, e.g. add Gaussians."""

    def extra_state(self) -> dict[str, Any]:
        """Return what else resuming needs."""
        return {}

    def restore_extra(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Restore what `extra_state` returned."""

    # ---- a step ----

    def start(self) -> None:
        """Build the optimizer; call it once the parts are there."""
        groups = [{"name": name, "params": list(params), "lr": rate} for name, params, rate in self.groups()]
        self.optimizer = torch.optim.Adam(groups, betas=self.betas, eps=ADAM_EPS)

    def step(self, number: int) -> dict[str, Tensor]:
        """Run optimizer step `number`; the terms are weighted, `loss` is their sum."""
        now = self.rates(number)
        for group in self.optimizer.param_groups:
            group["lr"] = now.get(group["name"], group["lr"])
        plan = self.plan(number)
        terms, rendered = self.terms(plan)
        terms |= self.own_terms(number, plan)
        loss = torch.stack(list(terms.values())).sum()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.after_step(number, rendered)
        return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}

    def terms(self, plan: Plan) -> tuple[dict[str, Tensor], Rendered]:
        """Render a plan and compute the reference and distillation losses, weighted."""
        shown, rendered = self.source.compared(plan.side), Rendered()
        frames = list(dict.fromkeys([*plan.reference, *plan.distilled]))
        moments = dict(zip(frames, self.gaussians(frames), strict=True))
        terms: dict[str, Tensor] = {}
        if plan.reference:
            # At the clip's own size, under the low-pass of the views' pixels, as the field is drawn later.
            pixel = self.pixel if shown is self.source.own else None
            rendered.reference = [
                render_gaussians(replace(moments[frame], pixel=pixel), shown.camera) for frame in plan.reference
            ]
            terms["reference"] = plan.share * self._against_input(shown, plan.reference, rendered.reference)
        for frame in plan.distilled:
            look = self.teacher.look(frame, self.generator)
            seen = render_gaussians(moments[frame], sized_cameras(look.cameras, plan.side))
            rendered.distilled.append(seen)
            level = self.teacher.levels.of(plan.level)
            part = self.teacher.loss(look, seen, level, self.generator)
            part = part * (self.sds_weight / len(plan.distilled))
            terms["sds"] = terms["sds"] + part if "sds" in terms else part
        return terms, rendered

    def _against_input(self, shown: Shown, frames: Sequence[int], seen: Sequence[Render]) -> Tensor:
        chosen = list(frames)
        rgb = torch.cat([one.rgb for one in seen]).clamp(0, 1)
        alpha = torch.cat([one.alpha for one in seen])
        found = reference_losses(rgb, shown.rgb[chosen], alpha, shown.alpha[chosen], self.weights)
        return found.mean()

    # ---- records and state ----

    @torch.no_grad()
    def preview(self) -> tuple[Tensor, Tensor]:
        """Return what the teacher pulls to, and renderings (V, S, S, 3), of the middle frame.

        It draws from a generator of its own.
        """
        draws = torch.Generator().manual_seed(0)
        frame = (len(self.source) - 1) // 2
        look = self.teacher.look(frame, draws)
        seen = render_gaussians(self.gaussians([frame])[0], look.cameras)
        return self.pulled_to(look, seen, draws), seen.rgb.clamp(0, 1)

    def pulled_to(self, look: Look, seen: Render, draws: torch.Generator) -> Tensor:
        """Return what the teacher makes of renderings, (V, S, S, 3) in [0, 1].

        Of a teacher with fixed views, whose first one is the front, that one is the input.
        """
        wanted = self.teacher.clean(look, seen, self.teacher.levels.of(PREVIEW_LEVEL), draws)
        if look.azimuth is None and look.reference == 0:
            wanted = torch.cat([self.source.front[look.frame : look.frame + 1], wanted[1:]])
        return wanted

    def size(self) -> int:
        """Return the number of Gaussians."""
        return sum(len(part) for part in self.parts.values() if isinstance(part, GaussianModel))

    def state(self) -> dict[str, Any]:
        """Return everything a killed stage needs to resume bit for bit."""
        return {
            "parts": {name: dict(part.state_dict()) for name, part in self.parts.items()},
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "extra": self.extra_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state returned by `state`."""
        for name, part in self.parts.items():
            load_part(part, state["parts"][name])
        self.start()
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.restore_extra(state["extra"])


def load_part(part: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a module's state; a `GaussianModel` takes the number of Gaussians of the state."""
    if isinstance(part, GaussianModel):
        part.assign(state)
    else:
        part.load_state_dict(dict(state))


def gaussian_groups(model: GaussianModel, rates: Mapping[str, float]) -> list[Group]:
    """Groups of a model's parameters, those that `rates` names."""
    named = model.named()
    return [(name, [named[name]], rate) for name, rate in rates.items()]


def seen_gradients(rendered: Sequence[Render], count: int) -> tuple[Tensor, Tensor]:
    """Norm (N,) of the sum over pictures of the gradients by position in the picture, and who was seen (N,).

    Positions are in NDC units (the picture is 2 wide), so that the picture's size does not matter.
    """
    total: Tensor | None = None
    seen: Tensor | None = None
    for one in rendered:
        gradient = one.meta["means2d"].grad
        if gradient is None:
            continue
        half = gradient.new_tensor([one.meta["width"] / 2, one.meta["height"] / 2])
        part, shown = (gradient * half).sum(0), (one.meta["radii"] > 0).all(-1).any(0)
        total = part if total is None else total + part
        seen = shown if seen is None else seen | shown
    if total is None or seen is None:
        return torch.zeros(count), torch.zeros(count, dtype=torch.bool)
    return torch.linalg.vector_norm(total, dim=-1), seen
