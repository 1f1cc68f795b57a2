"""One optimizer step of a reconstruction: which frames, what is rendered, what it is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mvtokenflow.cameras import Cameras
from mvtokenflow.splat import losses
from mvtokenflow.splat.density import DensityConfig, Statistics, control_density
from mvtokenflow.splat.field import DynamicField, Render, render_gaussians
from mvtokenflow.splat.gaussians import Gaussians
from mvtokenflow.splat.normals import normals_from_depth
from mvtokenflow.splat.schedule import adjacent_pairs, exponential, sample_frames
from mvtokenflow.splat.training_config import LearningRates, ReconstructionConfig, Stage
from mvtokenflow.splat.views import MultiviewVideo, ViewFlow

_ADAM_EPS = 1e-15  # 3DGS: gradients of single Gaussians are tiny


@dataclass(frozen=True)
class Targets:
    """A video as training wants it: the view with flow first, colours premultiplied once.

    Attributes:
        premultiplied: (T, V, H, W, 3) rgb · alpha. alpha: (T, V, H, W, 1).
        normals: (T, V, H, W, 3) and known (T, V, H, W) bool where they are unit; or None.
        cameras: (V,). flow: of view 0, or None. times: T floats in [0, 1].
    """

    premultiplied: Tensor
    alpha: Tensor
    normals: Tensor | None
    known: Tensor | None
    cameras: Cameras
    flow: ViewFlow | None
    times: tuple[float, ...]

    @classmethod
    def of(cls, video: MultiviewVideo) -> "Targets":
        """The targets of a video, on its device."""
        order = list(range(video.views))
        if video.flow is not None:
            order = [video.flow.view, *(view for view in order if view != video.flow.view)]
        normals = None if video.normals is None else video.normals[:, order]
        return cls(
            premultiplied=video.rgb[:, order] * video.alpha[:, order],
            alpha=video.alpha[:, order],
            normals=normals,
            known=None if normals is None else normals.square().sum(-1) > 0.5,
            cameras=video.cameras[order],
            flow=None if video.flow is None else replace(video.flow, view=0),
            times=tuple(video.times.tolist()),
        )

    def rgb(self, frames: Sequence[int], background: Tensor) -> Tensor:
        """(n, V, H, W, 3) pictures on a background (3,)."""
        chosen = list(frames)
        return self.premultiplied[chosen] + background * (1 - self.alpha[chosen])


class Training:
    """A field, its optimizer and the random numbers of one stage.

    Attributes:
        field: what is trained. optimizer: Adam with one group per kind of parameter.
        generator: on the CPU, of everything that is drawn.
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
        self._statistics = Statistics.empty(field.gaussians)
        self.optimizer = make_optimizer(field, config.rates)

    def step(self, number: int) -> dict[str, Tensor]:
        """Optimizer step `number`, counted from 0.

        Returns:
            the loss terms (scalars without gradient) by their names in `LossWeights`, and their weighted
            sum `loss`.
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
        if stage.density is not None and number < stage.density.stop:
            self._control_density(number + 1, stage.density, renders, len(chosen))
        return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}

    @torch.no_grad()
    def preview(self) -> tuple[Tensor, Tensor]:
        """The middle frame (of a static stage, its keyframe) on white: targets and renderings (V, H, W, 3)."""
        frame = self._config.keyframe_of(len(self._targets.times))
        moment = self.field.at(self._targets.times[frame])
        seen = render_gaussians(moment, self._targets.cameras, background=self._white)
        return self._targets.rgb([frame], self._white)[0], seen.rgb

    def _control_density(
        self, step: int, density: DensityConfig, renders: Sequence[Render], count: int
    ) -> None:
        for render in renders:
            # the loss is a mean over all views of all times, in however many calls they were rendered
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
        targets, weights = self._targets, self._config.weights
        times = [targets.times[frame] for frame in chosen]
        degree = number // self._config.sh_every if self._stage == "static" else self._config.field.sh_degree
        gaussians, path = self.field.moments(times)
        gaussians = [moment.truncated(degree) for moment in gaussians]
        following = dict(adjacent_pairs(chosen)) if targets.flow is not None and weights.flow else {}
        flows: list[tuple[int, Tensor]] = []
        parts: list[Render] = []
        for position, moment in enumerate(gaussians):
            after = following.get(position)
            renders = self._render(moment, background, None if after is None else gaussians[after].means)
            parts += renders
            if renders[0].flow is not None:
                flows.append((chosen[position], renders[0].flow))
        grid = (len(chosen), len(targets.cameras), targets.cameras.height, targets.cameras.width)
        rgb = torch.cat([part.rgb for part in parts]).reshape(*grid, 3)
        alpha = torch.cat([part.alpha for part in parts]).reshape(*grid, 1)
        wanted = targets.rgb(chosen, background)
        terms = {
            "image": losses.l1(rgb, wanted),
            "d_ssim": losses.d_ssim(rgb, wanted),
            "mask": losses.mask_loss(alpha, targets.alpha[chosen]),
        }
        if flows:
            terms["flow"] = self._flow_term(flows)
        if targets.normals is not None and weights.normal:
            terms["normal"] = self._normal_term(parts, chosen)
        # a single control point has no edges
        if path is not None and path.shape[1] > 1 and weights.arap and len(chosen) > 1:
            terms["arap"] = losses.arap(path, losses.arap_edges(path[0].detach()))
        return terms, parts

    def _render(self, gaussians: Gaussians, background: Tensor, after: Tensor | None) -> list[Render]:
        """All views in order; the first one apart where it carries flow, so that the others need not."""
        cameras = self._targets.cameras
        if after is None:
            return [render_gaussians(gaussians, cameras, background=background)]
        renders = [render_gaussians(gaussians, cameras[:1], background=background, flow_to=after)]
        if len(cameras) > 1:
            renders.append(render_gaussians(gaussians, cameras[1:], background=background))
        return renders

    def _flow_term(self, flows: Sequence[tuple[int, Tensor]]) -> Tensor:
        truth = self._targets.flow
        assert truth is not None
        frames = [frame for frame, _ in flows]
        rendered = torch.cat([flow for _, flow in flows])
        return losses.flow_loss(
            rendered, truth.flow[frames], truth.visible[frames], self._targets.cameras.width
        )

    def _normal_term(self, parts: Sequence[Render], chosen: list[int]) -> Tensor:
        assert self._targets.normals is not None
        assert self._targets.known is not None
        seen = [normals_from_depth(part.depth, part.alpha, part.cameras) for part in parts]
        normals, valid = torch.cat([n for n, _ in seen]), torch.cat([v for _, v in seen])
        known = self._targets.known[chosen].flatten(0, 1)
        return losses.normal_loss(normals, self._targets.normals[chosen].flatten(0, 1), valid & known)

    def _set_rates(self, progress: float) -> None:
        rates = self._config.rates
        now = {
            "means": exponential(rates.means, rates.means_final, progress),
            "network": exponential(rates.network, rates.network_final, progress),
        }
        for group in self.optimizer.param_groups:
            group["lr"] = now.get(group["name"], group["lr"])

    def state(self) -> dict[str, Any]:
        """Everything a killed stage needs to go on bit for bit."""
        return {
            "gaussians": {name: value.detach() for name, value in self.field.gaussians.named().items()},
            "control": {} if self.field.control is None else self.field.control.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "device generator": self._device_generator.get_state(),
            "statistics": asdict(self._statistics),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state` gave."""
        self.field.gaussians.assign(state["gaussians"])
        if self.field.control is not None:
            self.field.control.load_state_dict(state["control"])
        self.optimizer = make_optimizer(self.field, self._config.rates)
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self._device_generator.set_state(state["device generator"].cpu())
        self._statistics = Statistics(**state["statistics"])


def make_optimizer(field: DynamicField, rates: LearningRates) -> torch.optim.Adam:
    """Adam over all parameters, one group per kind, named as the fields of `LearningRates` or parameters."""
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
