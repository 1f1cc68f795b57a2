"""One optimizer step of a reconstruction: choice of frames, renderings and loss terms."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mvtokenflow.splat import losses
from mvtokenflow.splat.config import DensityConfig
from mvtokenflow.splat.density import Statistics, control_density
from mvtokenflow.splat.field import DynamicField, Render, render_gaussians
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.splat.normals import normals_from_depth
from mvtokenflow.splat.schedule import carried_pairs, draw_partners, exponential, sample_frames
from mvtokenflow.splat.targets import Targets, by_weight
from mvtokenflow.splat.training_config import LearningRates, ReconstructionConfig, Stage

_ADAM_EPS = 1e-15  # 3DGS: gradients of single Gaussians are tiny


@dataclass(frozen=True)
class _Moment:
    """Renderings of one time of a step.

    Attributes:
        pictures: the views in order whose colours count: all of them, or all but the front.
        normals: those of all views in order; empty if normals do not count.
        flow: (1, H, W, 2) of the front view, or None.
        front: the front video's picture, or None.
    """

    pictures: list[Render]
    normals: list[Render]
    flow: Tensor | None
    front: Render | None = None


class Training:
    """State of one training stage: field, optimizer and random numbers.

    Attributes:
        field: the field in training. optimizer: Adam with one group per kind of parameter.
        generator: on the CPU, source of all random draws.
    """

    def __init__(
        self,
        field: DynamicField,
        targets: Targets,
        config: ReconstructionConfig,
        stage: Stage,
        generator: torch.Generator,
    ) -> None:
        self.field = field
        self.generator = generator
        device = targets.alpha.device
        self._device_generator = (
            generator if device.type == "cpu" else torch.Generator(device).manual_seed(generator.initial_seed())
        )
        self._targets = targets
        self._config = config
        self._stage: Stage = stage
        self._white = torch.ones(3, device=targets.alpha.device)
        weights = config.weights_of(len(targets.order))
        self._weights = tuple(weights[view] for view in targets.order)
        pairs = () if targets.flow is None or not config.weights.flow else targets.flow.pairs
        self._flows = carried_pairs(pairs, config.flow_gap, backward=config.flow_backward)
        self._statistics = Statistics.empty(field.gaussians)
        self.optimizer = make_optimizer(field, config.rates)

    def step(self, number: int) -> dict[str, Tensor]:
        """Run optimizer step `number`, counted from 0.

        Returns:
            The loss terms (scalars without gradient) by their names in `LossWeights`, and their weighted sum
            `loss`.
        """
        stage = self._config.stage(self._stage)
        self._set_rates(number / max(stage.iterations - 1, 1))
        chosen = self._choose_frames()
        background = self._background()
        terms, renders = self._terms(number, chosen, background)
        weights = self._config.weights
        loss = sum((getattr(weights, name) * term for name, term in terms.items()), torch.zeros(()))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        density, counted = self._config.density, self._config.steps_before(self._stage) + number + 1
        if density is not None and self._stage != "refine" and counted <= density.stop:
            self._control_density(counted, density, renders, len(chosen))
        return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}

    def size(self) -> int:
        """Return the number of Gaussians."""
        return len(self.field.gaussians)

    @torch.no_grad()
    def preview(self) -> tuple[Tensor, Tensor]:
        """Return targets and renderings (V, H, W, 3) on white of the middle frame (static: the keyframe)."""
        frame = self._config.keyframe_of(len(self._targets.times))
        moment = self.field.at(self._targets.times[frame])
        seen = render_gaussians(moment, self._targets.cameras, background=self._white)
        return self._targets.rgb([frame], self._white)[0], seen.rgb

    def _control_density(
        self, step: int, density: DensityConfig, renders: Sequence[Render], count: int
    ) -> None:
        for render in renders:
            # the loss is a mean over all views and times, whatever the number of calls that rendered them
            meta = render.meta | {"n_cameras": len(self._targets.cameras)}
            self._statistics = self._statistics.accumulate(meta, absolute=density.absolute, renders=count)
        self._statistics, _ = control_density(
            step,
            self.field.gaussians,
            self.optimizer,
            self._statistics,
            density,
            self._device_generator,
            extent=self._config.extent,
        )

    def _choose_frames(self) -> list[int]:
        count = len(self._targets.times)
        if self._stage == "static":
            return [self._config.keyframe_of(count)]
        return sample_frames(count, self._config.times_per_step, self._config.adjacent, self.generator)

    def _background(self) -> Tensor:
        if self._config.background == "white":
            return self._white
        return torch.rand(3, generator=self.generator).to(self._white)

    def _terms(
        self, number: int, chosen: list[int], background: Tensor
    ) -> tuple[dict[str, Tensor], list[Render]]:
        """Compute the loss terms, and the renders whose gradients show where Gaussians are missing."""
        targets, weights = self._targets, self._config.weights
        times = [targets.times[frame] for frame in chosen]
        partners = draw_partners(chosen, self._flows, self.generator)
        inputs = self._choose_inputs(chosen)
        shown = [] if targets.front is None else [targets.front.times[frame] for frame in inputs]
        every = list(dict.fromkeys([*times, *shown]))  # those of the views first
        degree = number // self._config.sh_every if self._stage == "static" else self._config.field.sh_degree
        gaussians, path = self.field.moments(every)
        at = dict(zip(every, (moment.truncated(degree) for moment in gaussians), strict=True))
        moments = []
        for position, time in enumerate(times):
            after = at[times[partners[position]]].means if position in partners else None
            moments.append(self._render(at[time], background, after))
        if targets.front is not None and inputs:
            pictures = [render_gaussians(at[t], targets.front.camera, background=background) for t in shown]
            moments = [replace(m, front=picture) for m, picture in zip(moments, pictures, strict=True)]
        terms = self._colour_terms(moments, chosen, inputs, background)
        if any(moment.flow is not None for moment in moments):
            terms["flow"] = self._flow_term(moments, chosen, partners)
        if targets.normals is not None and weights.normal:
            terms["normal"] = self._normal_term(moments, chosen)
        # a single control point has no edges
        if path is not None and path.shape[1] > 1 and weights.arap and len(chosen) > 1:
            path = path[: len(times)]
            terms["arap"] = losses.arap(path, losses.arap_edges(path[0].detach()))
        fronts = [moment.front for moment in moments if moment.front is not None]
        return terms, [*(render for moment in moments for render in moment.pictures), *fronts]

    def _choose_inputs(self, chosen: list[int]) -> list[int]:
        """Choose a front-video frame for each chosen frame; a static stage takes the keyframe's own."""
        front = self._targets.front
        if front is None or not self._weights[0]:
            return []
        if self._stage == "static":
            return [front.at(self._targets.times[frame]) for frame in chosen]
        return front.draw(chosen, self.generator)

    def _render(self, gaussians: Gaussians, background: Tensor, after: Tensor | None) -> _Moment:
        """Render all views at one time; the front separately where it carries flow, so that no other must."""
        cameras, front = self._targets.cameras, self._targets.front
        if front is None and after is None:
            whole = [render_gaussians(gaussians, cameras, background=background)]
            return _Moment(whole, whole, None)
        if front is None:
            first = render_gaussians(gaussians, cameras[:1], background=background, flow_to=after)
            others = self._render_others(gaussians, background)
            return _Moment([first, *others], [first, *others], first.flow)
        # The front's colours are compared in the front video; the view is drawn for normals and flow only.
        others = self._render_others(gaussians, background)
        flow = None
        if after is not None and front.flow_camera is not None:
            flow, after = render_gaussians(gaussians, front.flow_camera, flow_to=after).flow, None
        if after is None and not self._has_normals:
            return _Moment(others, [], flow)
        first = render_gaussians(gaussians, cameras[:1], background=background, flow_to=after)
        return _Moment(others, [first, *others], first.flow if flow is None else flow)

    def _render_others(self, gaussians: Gaussians, background: Tensor) -> list[Render]:
        """Render all views but the front one."""
        cameras = self._targets.cameras[1:]
        return [render_gaussians(gaussians, cameras, background=background)] if len(cameras) else []

    @property
    def _has_normals(self) -> bool:
        return self._targets.normals is not None and self._config.weights.normal > 0

    def _colour_terms(
        self, moments: Sequence[_Moment], chosen: list[int], inputs: list[int], background: Tensor
    ) -> dict[str, Tensor]:
        """Compute colour and mask terms: means over the frames of the step and, by weight, over the views."""
        targets, first = self._targets, 0 if self._targets.front is None else 1
        weights, total = self._weights[first:], sum(self._weights)
        terms: dict[str, Tensor] = {}
        parts = [part for moment in moments for part in moment.pictures]
        if parts and sum(weights):
            grid = (len(chosen), len(weights), targets.cameras.height, targets.cameras.width)
            rgb = torch.cat([part.rgb for part in parts]).reshape(*grid, 3)
            alpha = torch.cat([part.alpha for part in parts]).reshape(*grid, 1)
            wanted, mask = targets.rgb(chosen, background)[:, first:], targets.alpha[chosen][:, first:]
            for share, views in by_weight(weights):
                seen = (rgb, alpha, wanted, mask)
                if len(views) < len(weights):
                    seen = (rgb[:, views], alpha[:, views], wanted[:, views], mask[:, views])
                _add(terms, _compared(*seen), share * sum(weights) / total)
        if targets.front is not None and inputs:
            pictures = [moment.front for moment in moments if moment.front is not None]
            rgb, alpha = (torch.stack([getattr(one, name) for one in pictures]) for name in ("rgb", "alpha"))
            wanted, mask = targets.front.rgb(inputs, background), targets.front.alpha[inputs][:, None]
            _add(terms, _compared(rgb, alpha, wanted, mask), self._weights[0] / total)
        return terms

    def _flow_term(self, moments: Sequence[_Moment], chosen: list[int], partners: Mapping[int, int]) -> Tensor:
        truth = self._targets.flow
        assert truth is not None
        index = [self._flows[chosen[here], chosen[there]] for here, there in partners.items()]
        rendered = torch.cat([moment.flow for moment in moments if moment.flow is not None])
        return losses.flow_loss(rendered, truth.flow[index], truth.visible[index], self._targets.cameras.width)

    def _normal_term(self, moments: Sequence[_Moment], chosen: list[int]) -> Tensor:
        assert self._targets.normals is not None
        assert self._targets.known is not None
        parts = [part for moment in moments for part in moment.normals]
        seen = [normals_from_depth(part.depth, part.alpha, part.cameras) for part in parts]
        normals, valid = torch.cat([n for n, _ in seen]), torch.cat([v for _, v in seen])
        known = self._targets.known[chosen].flatten(0, 1)
        weights = None
        if len(set(self._weights)) > 1:
            weights = normals.new_tensor(self._weights).repeat(len(chosen))[:, None, None]
        wanted = self._targets.normals[chosen].flatten(0, 1)
        return losses.normal_loss(normals, wanted, valid & known, weights)

    def _set_rates(self, progress: float) -> None:
        rates = self._config.rates
        now = {
            "means": exponential(rates.means, rates.means_final, progress),
            "network": exponential(rates.network, rates.network_final, progress),
        }
        for group in self.optimizer.param_groups:
            group["lr"] = now.get(group["name"], group["lr"])

    def state(self) -> dict[str, Any]:
        """Return everything a killed stage needs to resume bit for bit."""
        return {
            "gaussians": {name: value.detach() for name, value in self.field.gaussians.named().items()},
            "control": {} if self.field.control is None else self.field.control.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "device generator": self._device_generator.get_state(),
            "statistics": asdict(self._statistics),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state returned by `state`."""
        self.field.gaussians.assign(state["gaussians"])
        if self.field.control is not None:
            self.field.control.load_state_dict(state["control"])
        self.optimizer = make_optimizer(self.field, self._config.rates)
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self._device_generator.set_state(state["device generator"].cpu())
        self._statistics = Statistics(**state["statistics"])


def _compared(rgb: Tensor, alpha: Tensor, wanted: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Compute the loss terms of pictures (n, K, H, W, 3) and alphas (n, K, H, W, 1)."""
    return {
        "image": losses.l1(rgb, wanted),
        "d_ssim": losses.d_ssim(rgb, wanted),
        "mask": losses.mask_loss(alpha, mask),
    }


def _add(terms: dict[str, Tensor], more: Mapping[str, Tensor], share: float) -> None:
    """Add a share of each term to `terms`; a share of 1 keeps the value to the last bit."""
    for name, value in more.items():
        part = value if share == 1 else share * value
        terms[name] = terms[name] + part if name in terms else part


def make_optimizer(field: DynamicField, rates: LearningRates) -> torch.optim.Adam:
    """Build Adam over all parameters, one group per kind, named as fields of `LearningRates` or parameters."""
    model = field.gaussians
    chosen: dict[str, tuple[Sequence[nn.Parameter], float]] = {
        "means": ([model.means], rates.means),
        "log_scales": ([model.log_scales], rates.scales),
        "quats": ([model.quats], rates.quats),
        "logit_opacities": ([model.logit_opacities], rates.opacities),
        "features_dc": ([model.features_dc], rates.features),
        "features_rest": ([model.features_rest], rates.rest),
        "hyper": ([model.hyper], rates.hyper),
    }
    if field.control is not None:
        nodes = [field.control.hyper, field.control.log_radii, field.control.weight_logits]
        chosen["nodes"] = (nodes, rates.nodes)
        chosen["network"] = (list(field.control.network.parameters()), rates.network)
    groups = [{"name": name, "params": list(params), "lr": rate} for name, (params, rate) in chosen.items()]
    return torch.optim.Adam(groups, eps=_ADAM_EPS, fused=True)
