"""Teachers: diffusion models that pictures of a field are distilled from, and the small prior as one.

In one step a teacher names the cameras that are rendered (`look`), and compares what they see with its own
prediction from the noised pictures (`loss`). The small prior predicts six fixed views of one frame together, so
a look is one frame in all six views; the published methods take one to four views drawn at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mvtokenflow.distill.source import resized
from mvtokenflow.guidance.conditions import nearest_condition
from mvtokenflow.guidance.levels import LEVELS, check_levels, equivalent_levels, scaled_linear_alphabars
from mvtokenflow.guidance.sds import add_noise, distillation_loss_x0
from mvtokenflow.multiview.passes import Step
from mvtokenflow.multiview.prior import COLOUR, MultiviewPrior, encode_normals
from mvtokenflow.multiview.sampler import predict_clean
from mvtokenflow.splat.field import Render
from mvtokenflow.views.cameras import Cameras, orbit

# Published weights hold for latents of 4 x 32 x 32 numbers a picture; the small prior has 3 x 64 x 64.
LATENTS_UPSTREAM = 4 * 32 * 32
INPUT_SHARE = 0.6  # how often the input conditions views that another reference is nearer to (STAG4D)


@dataclass(frozen=True)
class Look:
    """What one step distils.

    Attributes:
        frame: index of the frame. cameras: (C,) to be rendered on white.
        reference: index of the picture that conditions the teacher; 0 is the input.
        elevation, azimuth: (C,) of the cameras in degrees, above is positive; None where a teacher's views are
            fixed.
    """

    frame: int
    cameras: Cameras
    reference: int = 0
    elevation: Tensor | None = None
    azimuth: Tensor | None = None


@dataclass(frozen=True)
class Reference:
    """Pictures (T, S, S, 3) of all frames from one azimuth in degrees, that may condition the teacher."""

    azimuth: float
    pictures: Tensor


class Teacher(Protocol):
    """A diffusion model that pictures are distilled from.

    Attributes:
        levels: the teacher's noise level for each of the 1000 of the published schedules.
    """

    @property
    def levels(self) -> "Levels": ...

    def look(self, frame: int, draws: torch.Generator) -> Look:
        """Draw the cameras of a step, and what conditions the teacher."""
        ...

    def loss(self, look: Look, seen: Render, level: int, draws: torch.Generator) -> Tensor:
        """Compute the distillation loss of rendered pictures, a mean over pictures."""
        ...

    def clean(self, look: Look, seen: Render, level: int, draws: torch.Generator) -> Tensor:
        """Predict clean pictures (C, S, S, 3) in [0, 1] from noised ones; for previews."""
        ...


@dataclass(frozen=True)
class Levels:
    """Levels of a teacher that are as noisy as those of the published schedules, and not below a floor.

    Attributes:
        table: the teacher's level for each published one, 0 to 999. floor: lowest level used.
    """

    table: tuple[int, ...]
    floor: int = 0

    @classmethod
    def matched(cls, alphabars: Tensor, floor: int = 0) -> "Levels":
        """Match the levels of a schedule with alphabars (n,) to Stable Diffusion's by equal alphabar."""
        return cls(tuple(equivalent_levels(range(LEVELS), scaled_linear_alphabars(), alphabars)), floor)

    def of(self, level: int) -> int:
        """Return the teacher's level for a published one."""
        return max(self.table[level], self.floor)


class PriorTeacher:
    """A multiview prior as a teacher: it distils all its views of one frame from a picture of that frame.

    The front colour is known from the input, and has no latents; it gets no gradient from here. Normals are the
    field's own, without gradient: the prior denoises them beside the colours, and no rival has a loss on them.

    Args:
        prior: the small prior, or another `MultiviewPrior`. front: (T, S, S, 3) the input on white.
        references: pictures from other azimuths that may condition it as well (STAG4D).
        floor: lowest noise level used. generator: on the CPU; draws for the image encoder.

    Raises:
        ConfigError: the floor is no level of the prior's schedule, or one without weight.
    """

    def __init__(
        self,
        prior: MultiviewPrior,
        front: Tensor,
        *,
        references: Sequence[Reference] = (),
        floor: int = 0,
        generator: torch.Generator,
    ) -> None:
        self.prior = prior
        self.alphabars: Tensor = prior.scheduler.alphas_cumprod
        check_levels([floor] if floor else [], self.alphabars)
        self._levels = Levels.matched(self.alphabars, floor)
        self.azimuths = (0.0, *(reference.azimuth for reference in references))
        self._given = [self._encoded(one, generator) for one in (front, *(r.pictures for r in references))]

    @property
    def levels(self) -> Levels:
        """Return the levels by equal alphabar."""
        return self._levels

    def look(self, frame: int, draws: torch.Generator) -> Look:
        """Choose what conditions a step, by an azimuth drawn at random; see `Teacher`."""
        reference = 0
        if len(self.azimuths) > 1:
            azimuth = 360 * float(torch.rand((), generator=draws)) - 180
            reference = choose_reference(azimuth, self.azimuths, draws)
        return Look(frame, turned(self.prior.cameras, self.azimuths[reference]), reference)

    def loss(self, look: Look, seen: Render, level: int, draws: torch.Generator) -> Tensor:
        """Compute the distillation loss of all views; see `Teacher`."""
        latents = self._latents(look, seen)
        predicted = self._predicted(look, latents.detach(), level, draws)
        views, numbers = latents.shape[2], latents[0, 0, 0].numel()
        pulled = views - 1  # all but the front
        alphabar = float(self.alphabars[level])
        whole = distillation_loss_x0(latents[COLOUR], predicted[COLOUR], alphabar, pulled)
        return whole * (LATENTS_UPSTREAM / numbers)

    def clean(self, look: Look, seen: Render, level: int, draws: torch.Generator) -> Tensor:
        """Predict clean pictures of all views; see `Teacher`."""
        front, _, _ = self._picked(look)
        predicted = self._predicted(look, self._latents(look, seen).detach(), level, draws)
        decoded = self.prior.codec.decode(predicted, front)
        return decoded[COLOUR, 0].movedim(1, -1)

    def _encoded(self, pictures: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return pictures (T, 3, S, S), condition (2, T, V, c', h, w) and labels (T, E), computed once."""
        first = pictures.movedim(-1, 1)
        with torch.no_grad():
            labels = self.prior.image_encoder.class_labels(first, generator)
            return first, self.prior.codec.condition(first), labels

    def _picked(self, look: Look) -> tuple[Tensor, Tensor, Tensor]:
        front, condition, labels = self._given[look.reference]
        one = slice(look.frame, look.frame + 1)
        return front[one], condition[:, one], labels[one]

    def _latents(self, look: Look, seen: Render) -> Tensor:
        """Encode renderings to latents (2, 1, V, c, h, w); the gradient flows to colours alone."""
        front, _, _ = self._picked(look)
        with torch.no_grad():
            turned_back = _about_vertical(seen.normal, -self.azimuths[look.reference])
            maps = encode_normals(turned_back, seen.alpha, self.prior.background)
        both = torch.stack([resized(maps, self.prior.size), resized(seen.rgb.clamp(0, 1), self.prior.size)])
        return self.prior.codec.encode(both.movedim(-1, 2)[:, None], front)

    @torch.no_grad()
    def _predicted(self, look: Look, latents: Tensor, level: int, draws: torch.Generator) -> Tensor:
        noise = torch.randn(latents.shape, generator=draws).to(latents)
        alphabar = float(self.alphabars[level])
        step = Step(index=0, count=1, timestep=level, frames=1, views=latents.shape[2], halves=1, chunk=1)
        _, condition, labels = self._picked(look)
        noisy = add_noise(latents, noise, alphabar)
        return predict_clean(self.prior, noisy, condition, labels, step, alphabar)


def choose_reference(azimuth: float, azimuths: Sequence[float], draws: torch.Generator) -> int:
    """Choose the picture that conditions a view, by the rule of STAG4D.

    The nearest picture is taken, but in `INPUT_SHARE` of the cases the input.

    Args:
        azimuth: of the view, degrees. azimuths: of the pictures; the first is the input's.
        draws: on the CPU; one number is drawn where there are several pictures.
    """
    if len(azimuths) == 1:
        return 0
    nearest = nearest_condition(azimuth, azimuths[1:], azimuths[0])
    draw = float(torch.rand((), generator=draws))
    return 0 if nearest is None or draw >= 1 - INPUT_SHARE else nearest + 1


def turned(cameras: Cameras, azimuth_deg: float) -> Cameras:
    """Turn cameras about the vertical axis, so that a camera at azimuth a is then at a + `azimuth_deg`."""
    if not azimuth_deg:
        return cameras
    straight = orbit((0.0, azimuth_deg), size=1, kind="ortho", radius=0.0).world_to_camera
    # x seen by the camera at 0 of a world turned back is what the camera at `azimuth_deg` sees of the world
    back = straight[0].T @ straight[1]
    return Cameras(
        world_to_camera=cameras.world_to_camera @ back.to(cameras.world_to_camera),
        intrinsics=cameras.intrinsics,
        width=cameras.width,
        height=cameras.height,
        kind=cameras.kind,
    )


def _about_vertical(vectors: Tensor, angle_deg: float) -> Tensor:
    """Turn vectors (..., 3) counter-clockwise about the vertical axis."""
    if not angle_deg:
        return vectors
    angle = torch.deg2rad(torch.tensor(angle_deg, dtype=vectors.dtype))
    cosine, sine = float(angle.cos()), float(angle.sin())
    x, y, z = vectors.unbind(-1)
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y, z], dim=-1)
