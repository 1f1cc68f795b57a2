"""What a rival's pipeline gets: the clip, the prior, the folder of the run; and how it runs a stage."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from mvtokenflow.base.progress import Progress
from mvtokenflow.base.seeds import check_seed
from mvtokenflow.baselines.rival_settings import LEDGER_NAMES, DistillSettings
from mvtokenflow.distill.source import Source
from mvtokenflow.distill.teacher import PriorTeacher, Reference, Teacher
from mvtokenflow.distill.zero123 import Zero123Teacher, load_zero123
from mvtokenflow.method.artefacts import COSTS_FILE
from mvtokenflow.method.generated import as_video, kept_views
from mvtokenflow.multiview.config import SamplingConfig
from mvtokenflow.multiview.passes import Controller
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.multiview.sampler import generate
from mvtokenflow.splat.training_log import LOG_EVERY
from mvtokenflow.splat.training_loop import StageRun, Trainable, train
from mvtokenflow.views.video import MultiviewVideo
from mvtokenflow.weights import ledger
from mvtokenflow.workdir.cost import measured

FIELD_FILE = "field.safetensors"
Field = TypeVar("Field", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a rival.

    Attributes:
        source: the clip. make_prior: loads the multiview prior, where it is needed. workdir: of the run.
        seed: all random numbers follow from it.
        progress: called with (stage, done, total).
    """

    source: Source
    make_prior: Callable[[], MultiviewPrior]
    workdir: Path
    seed: int
    progress: Progress | None = None
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @cached_property
    def prior(self) -> MultiviewPrior:
        """Return the multiview prior, loaded on first use."""
        return self.make_prior()

    @property
    def device(self) -> torch.device:
        """Device of the clip's pictures, on which everything is computed."""
        return self.source.front.device

    @property
    def pixel(self) -> float:
        """Side of a pixel of the pictures that are fitted, in world units."""
        return float(self.source.camera.pixel_size().max())

    @property
    def clock(self) -> tuple[float, ...]:
        """Times of the frames in [0, 1]."""
        return tuple(self.source.times.tolist())

    def draws(self, purpose: str) -> torch.Generator:
        """Return a generator on the CPU for one purpose, the same in every run of the seed."""
        drawn = hashlib.sha256(f"{self.seed} {purpose}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(drawn[:7], "big"))

    def teacher(self, settings: DistillSettings, references: Sequence[Reference] = ()) -> Teacher:
        """Build the teacher that the settings name.

        Raises:
            WeightsMissingError: Zero123 is not here; the message names the command that gets it.
        """
        if settings.teacher != "prior":
            name = LEDGER_NAMES[settings.teacher]
            networks = load_zero123(
                ledger.obtain(name),
                absolute_pose=settings.teacher == "stable-zero123",
                cure=ledger.entry(name).remedy,
                dtype=torch.float16 if self.device.type == "cuda" else torch.float32,
                device=self.device,
            )
            front, floor = self.source.front, settings.level_floor
            return Zero123Teacher(networks, front, settings.views, references=references, floor=floor)
        return PriorTeacher(
            self.prior,
            self.source.front,
            references=references,
            floor=settings.level_floor,
            generator=self.draws("labels"),
        )

    def views(
        self,
        name: str,
        frames: slice,
        sampling: SamplingConfig,
        controller: AbstractContextManager[Controller] | None = None,
    ) -> MultiviewVideo:
        """Return the prior's views of some frames, sampled once and kept in the folder `name`.

        Args:
            controller: couples the frames.
        """

        def make() -> MultiviewVideo:
            with nullcontext() if controller is None else controller as coupled:
                made = generate(
                    self.prior, self.source.front[frames], sampling, self.draws(name), coupled, self.progress
                )
            return as_video(made)

        with measured(name, self.workdir / COSTS_FILE, self.device):
            video = kept_views(self.workdir / name, make)
        return replace(video, clock=None).to(self.device)

    def stage(
        self,
        name: str,
        steps: int,
        begin: Callable[[], Trainable],
        save: Callable[[Path, Any], None],
        load: Callable[[Path], Field],
        offset: int = 0,
        log_every: int = LOG_EVERY,
    ) -> Field:
        """Return the field of a stage: read if finished, else trained, from its checkpoint if there is one."""
        run = StageRun(
            workdir=self.workdir,
            stage=name,
            total=steps,
            offset=offset,
            progress=self.progress,
            checkpoint_every=self.checkpoint_every,
            log_every=log_every,
        )
        path = run.folder / FIELD_FILE
        with measured(name, self.workdir / COSTS_FILE, self.device):
            if not path.exists():
                training = begin()
                train(training, run, self.device)
                save(path, training)
            run.clear()
            return load(path).to(self.device)
