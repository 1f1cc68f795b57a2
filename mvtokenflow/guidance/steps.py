"""Composition of one training step of the published methods: what is rendered and how losses are added.

Pictures are (n, C, H, W) in [0, 1]. Frames of a video have times t / T.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from mvtokenflow.guidance.conditions import Condition, choose_condition, needs_draw
from mvtokenflow.guidance.levels import ramp, staircase


@dataclass(frozen=True, kw_only=True)
class Stag4dSteps:
    """Settings of a STAG4D step; the defaults are the published ones.

    Attributes:
        static_until: the last step of the static stage, which uses the middle frame alone.
        ramp_steps: steps over which the weight of the reference grows from 0 to 1.
        sides: sides of random views in pixels. before: they hold while step < before[k].
        densify: first and last step of the densification, and how many lie between two.
    """

    static_until: int = 700
    ramp_steps: int = 2000
    sides: tuple[int, ...] = (128, 256, 512)
    before: tuple[int, ...] = (600, 1200)
    densify: tuple[int, int, int] = (1200, 6000, 100)

    def densifies(self, step: int) -> bool:
        """Return whether Gaussians are added and removed after a step: one after every `every`-th."""
        start, stop, every = self.densify
        return start <= step <= stop and step % every == 1


@dataclass(frozen=True)
class StepItem:
    """One item of a STAG4D batch: a frame, seen from the input and from one random view.

    Attributes:
        stage: "coarse" without, "fine" with deformation.
        side: of the random view in pixels. time: in [0, 1). background: grey level of the random view, 0 or 1.
        condition: what conditions the distillation of the random view.
        frame: index. step_ratio: weight of the reference losses.
    """

    stage: str
    side: int
    time: float
    background: float
    condition: Condition
    frame: int
    step_ratio: float


def stag4d_items(
    step: int,
    azimuths: Sequence[float],
    elevations: Sequence[float],
    frames: Sequence[int],
    draw: Callable[[], float],
    count: int,
    settings: Stag4dSteps = Stag4dSteps(),  # frozen
) -> list[StepItem]:
    """List the items of a STAG4D step from its random draws.

    Args:
        step: counted from 1.
        azimuths, elevations: of the random views, degrees, negative elevation above.
        frames: drawn frames, read only once the static stage is over.
        draw: gives uniform numbers in [0, 1): for each item one for the condition, unless the input always
            conditions its azimuth, then one for the background.
        count: number of frames of the video.
    """
    static = step <= settings.static_until
    items = []
    for number, (azimuth, elevation) in enumerate(zip(azimuths, elevations, strict=True)):
        frame = count // 2 if static else frames[number]
        condition = choose_condition(azimuth, elevation, draw() if needs_draw(azimuth) else 0.0)
        items.append(
            StepItem(
                stage="coarse" if static else "fine",
                side=staircase(step, settings.sides, settings.before),
                time=frame / count,
                background=1.0 if draw() > 0.5 else 0.0,
                condition=condition,
                frame=frame,
                step_ratio=ramp(step, settings.ramp_steps),
            )
        )
    return items


@dataclass(frozen=True, kw_only=True)
class ReferenceWeights:
    """Weights of the squared errors of colour and mask against the input, before the ramp over the steps.

    STAG4D 20000 and 5000, DreamGaussian4D 10000 and 1000, SC4D 5000 and 500 without a ramp.
    """

    colour: float
    mask: float


STAG4D_REFERENCE = ReferenceWeights(colour=20000, mask=5000)
DG4D_REFERENCE = ReferenceWeights(colour=10000, mask=1000)
SC4D_REFERENCE = ReferenceWeights(colour=5000, mask=500)


def reference_losses(
    pictures: Tensor, targets: Tensor, alphas: Tensor, masks: Tensor, weights: ReferenceWeights
) -> Tensor:
    """Weighted squared errors (n,) of n pictures (n, C, H, W) and alphas (n, 1, H, W), means over each.

    Raises:
        ValueError: shapes differ.
    """
    if pictures.shape != targets.shape or alphas.shape != masks.shape:
        raise ValueError(
            f"pictures {tuple(pictures.shape)} and {tuple(targets.shape)}, alphas {tuple(alphas.shape)} and "
            f"{tuple(masks.shape)}; expected equal shapes"
        )
    colour = (pictures - targets).square().flatten(1).mean(-1)
    mask = (alphas - masks).square().flatten(1).mean(-1)
    return weights.colour * colour + weights.mask * mask


def stag4d_loss(reference: Tensor, distillation: Tensor, regularisation: Tensor, step_ratio: float) -> Tensor:
    """Add the losses of a STAG4D step: sums over the batch, without a division.

    Args:
        reference: (n,), see `reference_losses`. distillation: (n,) losses of the random views.
        regularisation: of the planes, one number.
    """
    return step_ratio * reference.sum() + distillation.sum() + regularisation


def dg4d_loss(reference: Tensor, distillation: Tensor, step_ratio: float, pictures: int) -> Tensor:
    """Add the losses of a DreamGaussian4D step: the mean over frames, and distillation by its pictures.

    Args:
        reference: (T,), see `reference_losses`. distillation: its sum over all random views.
        pictures: number of random views, frames times views of each.
    """
    return step_ratio * reference.mean() + distillation / pictures
