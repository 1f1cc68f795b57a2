"""Adaptive density control: add Gaussians where picture gradients are large, remove those without effect.

After 3D Gaussian Splatting (Kerbl et al. 2023) with its published thresholds, but adding changes the picture as
little as possible: a clone shares its parent's opacity and a split keeps mass and extent.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mvtokenflow.base.errors import DataError
from mvtokenflow.splat.config import OPACITY_FLOOR, DensityConfig
from mvtokenflow.splat.gaussians import PARAMETERS, GaussianModel
from mvtokenflow.splat.kernels.rotations import rotation_matrices

SPLIT_SHRINK = 1.6  # as in 3DGS: each half has 1/1.6 of the length of the whole
CLONE_SHIFT = 0.1  # standard deviations between a clone and its parent, so that they separate


@dataclass(frozen=True)
class Statistics:
    """Gradients of N Gaussians by picture position, summed since the last densification.

    Attributes:
        gradients: (N,) sum over views of gradient norms in NDC units. views: (N,) number of views that saw it.
    """

    gradients: Tensor
    views: Tensor

    @classmethod
    def empty(cls, model: GaussianModel) -> "Statistics":
        """Return zero statistics for the Gaussians of `model`."""
        zeros = torch.zeros_like(model.logit_opacities, requires_grad=False)
        return cls(gradients=zeros, views=zeros.clone())

    def accumulate(self, meta: Mapping[str, Any], *, absolute: bool = False, renders: int = 1) -> "Statistics":
        """Return the statistics with the views of one `rasterize` call added; call it after the backward pass.

        Thresholds are made for a loss that is the mean over one picture. A mean over `renders` calls of C
        cameras each has gradients smaller by that factor, which is undone here.

        Args:
            meta: the meta of `rasterize`. absolute: use `absgrad`.
            renders: calls of `rasterize` that the loss is a mean over, e.g. the times of a training step.

        Raises:
            DataError: it has no gradient (no backward pass yet), or belongs to another number of Gaussians.
        """
        means2d: Tensor = meta["means2d"]
        gradient = getattr(means2d, "absgrad", None) if absolute else means2d.grad
        if gradient is None:
            raise DataError("the render has no gradient by means2d; call this after the backward pass")
        if gradient.shape[1:] != (*self.gradients.shape, 2):
            raise DataError(
                f"the render shows {gradient.shape[1]} Gaussians, the statistics have {len(self.gradients)}"
            )
        half = gradient.new_tensor([meta["width"] / 2, meta["height"] / 2])
        norms = torch.linalg.vector_norm(gradient * half, dim=-1) * (meta["n_cameras"] * renders)
        seen = (meta["radii"] > 0).all(-1)
        return Statistics(
            gradients=self.gradients + torch.where(seen, norms, 0.0).sum(0),
            views=self.views + seen.sum(0),
        )

    @property
    def mean(self) -> Tensor:
        """Compute the mean gradient norm (N,) over the views that saw each Gaussian; 0 where none did."""
        return self.gradients / self.views.clamp_min(1)


@dataclass(frozen=True)
class Change:
    """Numbers of Gaussians that one step of density control added and removed."""

    cloned: int = 0
    split: int = 0
    pruned: int = 0
    reset: bool = False


def control_density(
    step: int,
    model: GaussianModel,
    optimizer: torch.optim.Optimizer,
    statistics: Statistics,
    config: DensityConfig,
    generator: torch.Generator,
    *,
    extent: float = 1.0,
) -> tuple[Statistics, Change]:
    """Apply density control after training step `step` (counted from 1); most steps change nothing.

    The parameters of `model` are replaced in place and in `optimizer`, whose moments follow the surviving
    Gaussians and are zero for new ones.

    Args:
        optimizer: holds any of the model's parameters, in any grouping.
        generator: draws where clones go, on the model's device.
        extent: size of the scene in world units that `grow_scale` and `prune_scale` are shares of. The
            default is the half width of the cube that Era3D's cameras frame; 3DGS takes the cameras' spread,
            which carries no information about an object seen by ortho cameras.

    Returns:
        The statistics to continue with, and the change.

    Raises:
        DataError: every Gaussian would be removed.
    """
    change = Change()
    if config.start < step < config.stop and step % config.every == 0:
        change = densify(model, optimizer, statistics.mean, config, generator, extent=extent)
        too_large = config.prune_scale if 0 < config.reset_every < step else math.inf
        pruned = prune(model, optimizer, opacity=config.prune_opacity, scale=too_large * extent)
        change = replace(change, pruned=pruned)
        statistics = Statistics.empty(model)
    if config.reset_every and 0 < step < config.stop and step % config.reset_every == 0:
        reset_opacity(model, optimizer, config.reset_opacity)
        change = replace(change, reset=True)
    return statistics, change


@dataclass(frozen=True)
class Marked:
    """Which of N Gaussians density control would change, before any is added.

    Attributes:
        clone, split, prune: (N,) bool.
    """

    clone: Tensor
    split: Tensor
    prune: Tensor


def relative_threshold(gradients: Tensor, share: float = 0.025) -> Tensor:
    """Return the gradient that a share of the seen Gaussians reaches (STAG4D's adaptive densification).

    The value at place `int(share * n)` of the n non-zero gradients, falling.

    Args:
        gradients: (N,), 0 or more. share: in [0, 1).

    Raises:
        DataError: all gradients are 0.
    """
    seen = gradients[gradients > 0]
    if not len(seen):
        raise DataError("no Gaussian has a gradient; densify after a step in which some were seen")
    return seen.sort(descending=True).values[int(share * len(seen))]


def mark_by_share(
    gradients: Tensor,
    log_scales: Tensor,
    logit_opacities: Tensor,
    *,
    share: float = 0.025,
    grow_scale: float = 0.1,
    prune_opacity: float = 0.01,
    prune_scales: tuple[float, float] = (0.001, 0.1),
) -> Marked:
    """Mark what STAG4D clones, splits and prunes; the defaults are the published values.

    Args:
        gradients: (N,), see `Statistics.mean`. log_scales: (N, 3). logit_opacities: (N,).
        share: of the seen Gaussians that grow. grow_scale: of the longest axis in world units; longer ones are
            split. prune_scales: Gaussians whose longest axis lies outside are removed.
    """
    wanted = gradients >= relative_threshold(gradients, share)
    longest = log_scales.exp().amax(-1)
    least, most = prune_scales
    faint = logit_opacities.sigmoid() < prune_opacity
    return Marked(
        clone=wanted & (longest <= grow_scale),
        split=wanted & (longest > grow_scale),
        prune=faint | (longest > most) | (longest < least),
    )


@torch.no_grad()
def densify(
    model: GaussianModel,
    optimizer: torch.optim.Optimizer,
    gradients: Tensor,
    config: DensityConfig,
    generator: torch.Generator,
    *,
    extent: float = 1.0,
) -> Change:
    """Clone small Gaussians with large gradients and split large ones; arguments as for `control_density`.

    A clone and its parent both get opacity `1 - sqrt(1 - o)`, so that together they cover what the parent
    did. A split replaces a Gaussian by two along its longest axis that together have its mass and variance.
    """
    count = len(model)
    wanted = gradients >= config.grow_gradient
    room = max(0, config.max_count - count)
    if int(wanted.sum()) > room:
        strongest = gradients.argsort(descending=True, stable=True)[:room]
        wanted = torch.zeros_like(wanted).index_fill(0, strongest, True) & wanted
    small = model.log_scales.exp().amax(-1) <= config.grow_scale * extent
    clones, splits = (wanted & small).nonzero()[:, 0], (wanted & ~small).nonzero()[:, 0]
    if len(clones) + len(splits) == 0:
        return Change()
    values = {name: value.detach().clone() for name, value in model.named().items()}
    values["logit_opacities"][clones] = _share(values["logit_opacities"][clones], 0.5)
    cloned = {name: value[clones] for name, value in values.items()}
    drawn = torch.randn(len(clones), 3, generator=generator, device=gradients.device, dtype=gradients.dtype)
    cloned["means"] = cloned["means"] + CLONE_SHIFT * _to_world(cloned, drawn)
    wholes = {name: value[splits] for name, value in values.items()}
    kept = torch.cat([(~wanted).nonzero()[:, 0], clones]).sort().values
    parts = [{name: value[kept] for name, value in values.items()}, cloned, *_halves(wholes)]
    added = len(clones) + 2 * len(splits)
    _replace(
        model,
        optimizer,
        {name: torch.cat([part[name] for part in parts]) for name in PARAMETERS},
        lambda moment: torch.cat([moment[kept], moment.new_zeros(added, *moment.shape[1:])]),
    )
    return Change(cloned=len(clones), split=len(splits))


@torch.no_grad()
def prune(
    model: GaussianModel,
    optimizer: torch.optim.Optimizer,
    *,
    opacity: float = 0.005,
    scale: float = math.inf,
) -> int:
    """Remove Gaussians fainter than `opacity` or with an axis longer than `scale` world units; return how many.

    Raises:
        DataError: none would be left.
    """
    keep = (model.logit_opacities.sigmoid() >= opacity) & (model.log_scales.exp().amax(-1) <= scale)
    if bool(keep.all()):
        return 0
    if not bool(keep.any()):
        raise DataError(
            f"all {len(model)} Gaussians are fainter than {opacity} or larger than {scale}; check the masks "
            "and the extent of the scene, or lower density.prune_opacity"
        )
    removed = len(model) - int(keep.sum())
    keep_only(model, optimizer, keep.nonzero()[:, 0])
    return removed


@torch.no_grad()
def keep_only(model: GaussianModel, optimizer: torch.optim.Optimizer, kept: Tensor) -> None:
    """Keep the Gaussians of the indices (n,), in that order, in the model and in the optimizer's moments."""
    values = {name: value[kept] for name, value in model.named().items()}
    _replace(model, optimizer, values, lambda moment: moment[kept])


@torch.no_grad()
def reset_opacity(model: GaussianModel, optimizer: torch.optim.Optimizer, opacity: float = 0.02) -> None:
    """Cap all opacities at `opacity` and clear their moments, so that only needed Gaussians grow back.

    Opacities below `OPACITY_FLOOR` are raised to it: fainter Gaussians could get no gradient at all and would
    neither grow back nor be pruned.
    """
    logits = model.logit_opacities
    logits.copy_(logits.sigmoid().clamp(OPACITY_FLOOR, opacity).logit())
    for name, moment in optimizer.state.get(logits, {}).items():
        if _is_moment(moment, logits):
            optimizer.state[logits][name] = torch.zeros_like(moment)


def _share(logits: Tensor, share: float) -> Tensor:
    """Return logit opacities with `share` of the optical depth `-log(1 - opacity)`."""
    clear = share * torch.nn.functional.logsigmoid(-logits)
    return torch.log(-torch.expm1(clear)) - clear


def _to_world(values: Mapping[str, Tensor], local: Tensor) -> Tensor:
    """Convert vectors (n, 3) from standard deviations along Gaussians' axes to world units."""
    axes = rotation_matrices(values["quats"])
    return (axes @ (values["log_scales"].exp() * local)[..., None])[..., 0]


def _halves(wholes: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Split each Gaussian into two along its longest axis that keep its variance and optical mass.

    With a length of 1/s of the whole, halves at ±sqrt(1 - 1/s²) standard deviations have its variance, and
    s/2 of its optical depth each have its mass.
    """
    longest = torch.nn.functional.one_hot(wholes["log_scales"].argmax(-1), 3).to(wholes["means"])
    shift = _to_world(wholes, longest) * math.sqrt(1 - SPLIT_SHRINK**-2)
    half = dict(wholes)
    half["log_scales"] = wholes["log_scales"] - longest * math.log(SPLIT_SHRINK)
    half["logit_opacities"] = _share(wholes["logit_opacities"], SPLIT_SHRINK / 2)
    return [half | {"means": wholes["means"] - shift}, half | {"means": wholes["means"] + shift}]


def _is_moment(value: Any, parameter: Tensor) -> bool:
    """Return whether an optimizer's state is kept per entry of the parameter; its step count is not."""
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _replace(
    model: GaussianModel,
    optimizer: torch.optim.Optimizer,
    values: Mapping[str, Tensor],
    follow: Callable[[Tensor], Tensor],
) -> None:
    """Give the model new values, and the optimizer the new parameters with moments mapped by `follow`."""
    before = model.named()
    model.assign(values)
    renamed = {id(before[name]): (before[name], new) for name, new in model.named().items()}
    for group in optimizer.param_groups:
        for index, parameter in enumerate(group["params"]):
            if id(parameter) not in renamed:
                continue
            old, new = renamed[id(parameter)]
            group["params"][index] = new
            state = optimizer.state.pop(old, None)
            if state is not None:
                optimizer.state[new] = {
                    name: follow(value) if _is_moment(value, old) else value for name, value in state.items()
                }
