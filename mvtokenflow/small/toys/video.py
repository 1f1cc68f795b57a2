"""The toys that the video denoiser is trained and judged on."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvtokenflow.base.progress import Progress
from mvtokenflow.datasets.toy4d.build import Draw
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.stream import Split, ToyStream, six_views
from mvtokenflow.datasets.toy4d.toys import make_toy
from mvtokenflow.multiview.prior import COLOUR, MultiviewPrior
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small.codec import FRONT, PatchCodec
from mvtokenflow.small.config import SIZE
from mvtokenflow.small.prior import load_small_prior
from mvtokenflow.small.schedule import noise_schedule
from mvtokenflow.small.training.config import PriorTraining
from mvtokenflow.small.training.data import Source, Views, training_pictures
from mvtokenflow.small.training.export import export
from mvtokenflow.small.training.lesson import Lesson
from mvtokenflow.small.training.loop import clean_loss
from mvtokenflow.small.training.windows import Clips, ClipTensors, WindowLesson, window_example
from mvtokenflow.small.video import FORMAT, WINDOW, mean_pictures
from mvtokenflow.small.video_linear import Moments

VIEWS_OF_CLIP = 4  # windows made of a toy: with more the toys of a batch would be too few
_FRAME = (1 / 24, 1 / 11)  # between frames of a window, in clips; 17 frames of a clip are 1 / 16 apart
# A share of the last level would be lost: there the composition leaves the video denoiser out.
TRAINING = PriorTraining(batch=8, rate=2e-3, warmup=160, average=0.99, terminal=0.0)
_LEVELS = (200, 400, 600)
_JUDGED = 16  # toys of an evaluation during training
_MEASURED = 17  # times of a clip, as many as are generated of 32 frames
_MOMENTS_SEED = 2  # other toys than those of a training


@dataclass(frozen=True)
class ClipSource:
    """Batches of clips of the toy stream: batch i depends on the fields and i alone.

    Attributes:
        seed: selects the sequence.
        batch: windows per batch, `VIEWS_OF_CLIP` of each toy.
        size: of the pictures.
        split: "train", or "validation": toys that training never sees.
    """

    seed: int
    batch: int
    size: int
    split: Split = "train"

    def __call__(self, index: int) -> Clips:
        count = self.batch // VIEWS_OF_CLIP
        toys = ToyStream(seed=self.seed, batch_size=1, split=self.split)
        times, shown = [], []
        for number in range(index * count, (index + 1) * count):
            plan, seed, _ = toys.item(number)
            times.append(self.times(number))
            shown.append(_rendered(plan, seed, times[-1] % 1, self.size))
        return Clips(
            views=Views(
                rgb=np.concatenate([one.rgb for one in shown]),
                alpha=np.concatenate([one.alpha for one in shown]),
                normal=np.concatenate([one.normal for one in shown]),
            ),
            times=torch.from_numpy(np.stack(times)).float(),
        )

    def times(self, number: int) -> NDArray[np.float64]:
        """Times (7,) of a clip of the sequence: the anchor's at random, then a window at most a clip later."""
        key = hashlib.sha256(f"toy4d/{self.split}/windows/{self.seed}/{number}".encode()).digest()
        draw = Draw(int.from_bytes(key[:16], "little"))
        anchor, gap = draw.unit(), draw.uniform(*_FRAME)
        first = draw.choice(range(round(1 / gap) - WINDOW + 2))  # the last frame at most `1 / gap` frames later
        return np.array([anchor, *(anchor + gap * (first + k) for k in range(WINDOW))])


def network_of(prior_file: Path) -> dict[str, Any]:
    """Return the settings of a prior's network, as its file states them.

    Raises:
        WeightsMissingError, WeightsCorruptError: not a small prior.
    """
    return {**asdict(load_small_prior(prior_file).unet.config)}


@torch.no_grad()
def measure_moments(clips: int, size: int = SIZE, progress: Progress | None = None) -> Moments:
    """Measure the moments of the linear video denoiser on whole clips of training toys, with the shipped prior.

    Args:
        progress: called with ("measure", clips done, clips).
    """
    prior = load_small_prior()
    codec, views = prior.codec, len(prior.cameras)
    toys = ToyStream(seed=_MOMENTS_SEED, batch_size=1, times=1)
    draws = torch.Generator().manual_seed(0)
    frames, anchored = torch.zeros(2, 2, views, _MEASURED, dtype=torch.float64)
    square = torch.zeros(2, views, dtype=torch.float64)
    for number in range(clips):
        plan, seed, phase = toys.item(number)
        times = (phase[0] + np.arange(_MEASURED) / (_MEASURED - 1)) % 1
        views_of = _rendered(plan, seed, times, size)
        pictures = training_pictures(views_of).float() / 255
        front = pictures[COLOUR, :, FRONT]
        latents = codec.encode(pictures, front).double()
        anchor = codec.encode(mean_pictures(prior, front[:1], draws), front[:1])[:, 0].double()
        for lag in range(_MEASURED):
            pairs = latents[:, : _MEASURED - lag] * latents[:, lag:]
            frames[..., lag] += pairs.mean(dim=(1, 3, 4, 5))
            anchored[..., lag] += (anchor * latents[:, lag]).mean(dim=(2, 3, 4))
        square += anchor.square().mean(dim=(2, 3, 4))
        if progress is not None:
            progress("measure", number + 1, clips)
    lags = torch.arange(_MEASURED, dtype=torch.float64) / (_MEASURED - 1)
    return Moments(lags=lags, frames=frames / clips, anchor=anchored / clips, anchor_square=square / clips)


def _rendered(plan: str, seed: int, times: NDArray[np.float64], size: int) -> Views:
    """Render a toy at some times in the six views, in bytes."""
    picture = render(make_toy(plan, seed), six_views(size), times)
    return Views(
        rgb=(picture.rgb * 255 + 0.5).astype(np.uint8),
        alpha=(picture.alpha * 255 + 0.5).astype(np.uint8),
        normal=np.rint(picture.normal * 127).astype(np.int8),
    )


@dataclass(frozen=True)
class ToyVideo:
    """The video denoiser's subject, for `small.training.sittings.PriorRun`.

    Attributes:
        prior_file: weights of the prior that it starts from and whose codec and anchors it has; None is the
            shipped one.
    """

    prior_file: Path | None = None

    @cached_property
    def prior(self) -> MultiviewPrior:
        """Return the prior, on the CPU."""
        return load_small_prior(self.prior_file)

    def source(self, seed: int, batch: int, size: int) -> Source[ClipTensors]:
        """Batches of the training split."""
        return ClipSource(seed, batch, size)

    def codec(self, training: PriorTraining, size: int) -> PatchCodec:
        """Return the prior's codec."""
        codec = self.prior.codec
        assert isinstance(codec, PatchCodec)
        return codec

    def first_weights(self) -> Mapping[str, Tensor]:
        """Return the prior's weights."""
        return self.prior.unet.state_dict()

    def lesson(self, codec: PatchCodec, training: PriorTraining) -> Lesson[ClipTensors]:
        """Return windows of frames, and what the prior draws as their condition."""
        device = codec.means.device
        prior = self.prior if device.type == "cpu" else load_small_prior(self.prior_file, device)
        return WindowLesson(prior=prior, views=VIEWS_OF_CLIP)

    @torch.no_grad()
    def judge(self, unet: MultiviewUNet, codec: PatchCodec, size: int) -> tuple[dict[str, Any], None]:
        """Squared error of latents by level, mean over the views that the codec does not have already."""
        device = codec.means.device
        prior = self.prior if device.type == "cpu" else load_small_prior(self.prior_file, device)
        draws = torch.Generator(device).manual_seed(0)
        powers = noise_schedule().alphas_cumprod.to(device)
        errors: dict[str, list[Tensor]] = {str(level): [] for level in _LEVELS}
        for index in range(_JUDGED):
            held = ClipSource(1, VIEWS_OF_CLIP, size, "validation")(index).tensors()
            pictures = held.pictures.to(device).float() / 255
            views = torch.arange(pictures.shape[3], device=device)
            times = held.times.to(device)
            example = window_example(prior, pictures, times, torch.zeros_like(views), views, draws)
            noise = torch.randn(example.clean.shape, generator=draws, device=device)
            for level in _LEVELS:
                levels = torch.full((len(views),), level, device=device)
                given = (example.clean, example.condition, example.labels, example.prompts)
                loss = clean_loss(unet, *given, powers, levels, noise, snr_cap=float("inf"))
                plain = loss * (1 - powers[level])  # the weight of `clean_loss` without its cap
                errors[str(level)].append((plain * example.weights).mean() / example.weights.mean())
        found = {level: round(float(torch.stack(held).mean()), 5) for level, held in errors.items()}
        return {"clips": _JUDGED, "squared_error": found}, None

    def export(self, checkpoint: Path, weights: Path) -> None:
        """Write the averaged weights in the video denoiser's format; as `training.export`."""
        export(checkpoint, weights, FORMAT)
