"""Training of the small CLIP: contrastive in pictures and texts at once, seeded, resumed exactly.

Two pictures of every toy come with one text each. Pictures are drawn to all texts that are true of them
(CLIP's symmetric loss with soft targets, for many toys share a caption), and to the other picture of their
toy (supervised contrastive loss, Khosla et al. 2020), so that views of one object embed alike.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mvtokenflow.base.damaged import damage, parse_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import digest_json
from mvtokenflow.base.progress import Progress
from mvtokenflow.base.settings import require
from mvtokenflow.base.tensor_files import read_checkpoint, write_checkpoint
from mvtokenflow.small.clip import SmallClip, SmallClipConfig

UNSTATED = -1


@dataclass(frozen=True, kw_only=True)
class PictureTextBatch:
    """P = 2 B pictures and texts of B toys; pictures 2 k and 2 k + 1 show toy k.

    Attributes:
        pictures: (P, 3, S, S) uint8.
        texts: P texts; text i was written for picture i.
        facts: (P, A) integer codes of what each picture shows (caption, noun, view, kind of picture).
        claims: (P, A) codes of what each text says of them, `UNSTATED` where it names none.
    """

    pictures: Tensor
    texts: tuple[str, ...]
    facts: Tensor
    claims: Tensor

    def truth(self) -> Tensor:
        """Return (P, P) bool: text j is true of picture i, because all it states holds there."""
        stated = self.claims[None] != UNSTATED
        return ((self.claims[None] == self.facts[:, None]) | ~stated).all(-1)


@dataclass(frozen=True, kw_only=True)
class SmallClipTraining:
    """Settings of a run; with the batches they determine its result.

    Attributes:
        seed: of the initial values and the augmentation.
        steps: optimiser steps; the learning rate warms up over `warmup` of them and falls to 0 as a cosine.
        learning_rate, weight_decay: of AdamW; matrices decay, biases, norms and the scale do not.
        image_temperature: of the loss between pictures.
        crop: largest relative change of scale, and shift in half pictures.
        jitter: largest relative change of brightness, and of each channel at a third of it; small
            against the distance between colour words.
    """

    seed: int = 0
    steps: int = 450
    warmup: int = 40
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    image_temperature: float = 0.1
    crop: float = 0.12
    jitter: float = 0.06

    def __post_init__(self) -> None:
        require(self.steps >= 1, "small CLIP: steps", self.steps, "at least 1")
        require(0 <= self.warmup < self.steps, "small CLIP: warmup", self.warmup, "0 to less than all steps")
        for name in ("learning_rate", "image_temperature"):
            require(getattr(self, name) > 0, f"small CLIP: {name}", getattr(self, name), "a positive number")
        for name in ("weight_decay", "jitter"):
            require(getattr(self, name) >= 0, f"small CLIP: {name}", getattr(self, name), "0 or more")
        require(0 <= self.crop < 0.5, "small CLIP: crop", self.crop, "0 to less than 0.5")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        share = (step - self.warmup) / (self.steps - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def text_loss(images: Tensor, texts: Tensor, truth: Tensor, scale: Tensor) -> Tensor:
    """Compute CLIP's symmetric cross entropy with targets spread evenly over true pairs.

    Args:
        images, texts: (P, E) unit embeddings.
        truth: (P, P) bool, text j true of picture i; every row and column holds one.
        scale: the inverse temperature.
    """
    logits = scale * images @ texts.T
    target = truth.to(logits.dtype)
    rows = F.cross_entropy(logits, target / target.sum(1, keepdim=True))
    columns = F.cross_entropy(logits.T, (target / target.sum(0, keepdim=True)).T)
    return 0.5 * (rows + columns)


def image_loss(images: Tensor, temperature: float) -> Tensor:
    """Cross entropy of finding a toy's other picture: (P, E) unit embeddings, rows 2 k and 2 k + 1 of toy k."""
    count = len(images)
    logits = images @ images.T / temperature
    logits = logits.masked_fill(torch.eye(count, dtype=torch.bool, device=images.device), -torch.inf)
    partner = torch.arange(count, device=images.device) ^ 1
    return F.cross_entropy(logits, partner)


def augment(pictures: Tensor, settings: SmallClipTraining, generator: torch.Generator) -> Tensor:
    """Random scale, shift and colour gain per picture, (P, 3, S, S) in [0, 1]; the border is continued."""
    count = len(pictures)

    def symmetric(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator).to(pictures.device) * 2 - 1

    theta = torch.zeros(count, 2, 3, device=pictures.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 + settings.crop * symmetric()
    theta[:, :, 2] = settings.crop * symmetric(2)
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    gain = 1 + settings.jitter * (symmetric(1, 1, 1) + symmetric(3, 1, 1) / 3)
    return (moved * gain).clamp(0, 1)


class SmallClipTrainer:
    """One run in a folder: `checkpoint.pt` (atomic, exact to resume) and its learning curve.

    Args:
        config, settings: of the run.
        batches: the batch of a step, a function of the step alone.
        workdir: the run's folder. A checkpoint of other settings there is refused.
        device: torch device of the network.

    Raises:
        DataError: the checkpoint is damaged or belongs to other settings.
    """

    def __init__(
        self,
        config: SmallClipConfig,
        settings: SmallClipTraining,
        batches: Callable[[int], PictureTextBatch],
        workdir: Path,
        device: str = "cpu",
    ) -> None:
        self.settings = settings
        self.batches = batches
        self.model = SmallClip(config, settings.seed).to(device)
        self.model.network.visual.to(memory_format=torch.channels_last)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))
        self.step = 0
        self.seconds = 0.0
        self.curve: list[list[float]] = []  # step, text loss, image loss: means over 50 steps
        self._window: list[float] = [0.0, 0.0, 0.0]  # sums since, and of how many steps
        self._file = workdir / "checkpoint.pt"
        self._identity = digest_json([asdict(config), asdict(settings), repr(batches)])
        if self._file.exists():
            self._restore()

    @property
    def finished(self) -> bool:
        return self.step >= self.settings.steps

    def run(self, seconds: float | None, progress: Progress) -> None:
        """Train to the last step, or for `seconds`; the state is saved every 100 steps and at the end."""
        deadline = None if seconds is None else time.monotonic() + seconds
        self.model.train()
        while not self.finished and (deadline is None or time.monotonic() < deadline):
            began = time.monotonic()
            self._window = [a + b for a, b in zip(self._window, (*self._advance(), 1.0), strict=True)]
            self.step += 1
            self.seconds += time.monotonic() - began
            if self.step % 50 == 0:
                *sums, count = self._window
                self.curve.append([float(self.step), *(round(value / count, 4) for value in sums)])
                self._window = [0.0, 0.0, 0.0]
            if self.step % 100 == 0:
                self._save()
            progress("train small CLIP", self.step, self.settings.steps)
        self._save()
        self.model.eval()

    def _advance(self) -> tuple[float, float]:
        batch = self.batches(self.step)
        generator = torch.Generator().manual_seed((self.settings.seed * 1_000_003 + self.step) % 2**63)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(self.step)
        pictures = augment(batch.pictures.to(self.model.device).float() / 255, self.settings, generator)
        images = self.model.embed_images(pictures)
        texts = self.model.embed_texts(batch.texts)
        scale = self.model.network.logit_scale
        first = text_loss(images, texts, batch.truth().to(images.device), scale.exp())
        second = image_loss(images, self.settings.image_temperature)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(first + second)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            scale.clamp_(0, math.log(100))  # CLIP's bound on the inverse temperature
        return first.item(), second.item()

    def _save(self) -> None:
        state = {
            "identity": self._identity,
            "step": self.step,
            "seconds": self.seconds,
            "curve": json.dumps([self.curve, self._window]),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        write_checkpoint(self._file, state)

    def _restore(self) -> None:
        cure = "delete it to start again"
        state = read_checkpoint(self._file, "cpu", cure)
        with damage(self._file, "damaged checkpoint", cure):
            self._take(state)

    def _take(self, state: Any) -> None:
        identity = state["identity"]
        if identity != self._identity:
            raise DataError(f"{self._file}: a run of other settings; give each run its own folder")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.curve, self._window = parse_json(state["curve"])


@torch.no_grad()
def set_class_moments(model: SmallClip, fronts: Tensor) -> None:
    """Fit `class_mean` and `class_std` to training front pictures (N, 3, S, S) in [0, 1]."""
    embedded = torch.cat([model.embed_images(part) for part in torch.split(fronts, 128)])
    model.class_mean.copy_(embedded.mean(0))
    model.class_std.copy_(embedded.std(0))


def nearest_share(queries: NDArray[np.floating[Any]], gallery: NDArray[np.floating[Any]]) -> float:
    """Share of rows of `queries` (N, E) whose nearest row of `gallery` (N, E), by distance, is row i itself."""
    square = (queries**2).sum(1)[:, None] + (gallery**2).sum(1) - 2 * queries @ gallery.T
    return float((square.argmin(1) == np.arange(len(queries))).mean())
