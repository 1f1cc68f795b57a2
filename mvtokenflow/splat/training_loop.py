"""The loop of a training stage: steps, checkpoints, records; it can be killed and goes on bit for bit."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.progress import Progress
from mvtokenflow.base.tensor_files import write_checkpoint
from mvtokenflow.splat.training_log import LOG_EVERY, Shown, TrainingLog, Watch
from mvtokenflow.workdir.folder import REDO, load_checkpoint

CHECKPOINT_EVERY = 250
CHECKPOINT_FILE = "checkpoint.pt"


class Trainable(Shown, Protocol):
    """State of a training stage: parameters, optimizer and random numbers."""

    def step(self, number: int) -> Mapping[str, Tensor]:
        """Run optimizer step `number`, counted from 0; return its loss terms by name, and their sum `loss`."""
        ...

    def state(self) -> dict[str, Any]:
        """Return everything that a killed stage needs to resume bit for bit."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        ...


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """Where and how long a stage is trained.

    Attributes:
        workdir: of the run; the stage has the folder `workdir / stage`.
        stage: name. total: number of steps. offset: steps of the stages before, for TensorBoard's time axis.
        progress: called with (stage, steps done, total). watch: called with the stage and the logged terms.
        checkpoint_every: steps between checkpoints. log_every: steps between rows of losses.
    """

    workdir: Path
    stage: str
    total: int
    offset: int = 0
    progress: Progress | None = None
    watch: Watch | None = None
    checkpoint_every: int = CHECKPOINT_EVERY
    log_every: int = LOG_EVERY

    @property
    def folder(self) -> Path:
        """Folder of the stage."""
        return self.workdir / self.stage

    def clear(self) -> None:
        """Remove the checkpoint; call it once the stage's result is written."""
        (self.folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def train(training: Trainable, run: StageRun, device: torch.device) -> None:
    """Run the steps of a stage, those after its checkpoint if there is one.

    The checkpoint is left in place: the caller writes the result and then calls `run.clear`.

    Raises:
        DataError: a damaged checkpoint, or a fit that diverges.
    """
    checkpoint = run.folder / CHECKPOINT_FILE
    done, seconds = 0, 0.0
    state = load_checkpoint(checkpoint, device)
    if state is not None:
        with damage(checkpoint, "damaged checkpoint", REDO):
            training.restore(state)
            done, seconds = int(state["step"]), float(state["seconds"])
    log = TrainingLog(
        run.workdir, run.stage, run.total, run.offset, done, run.progress, run.watch, run.log_every
    )
    began = time.perf_counter() - seconds
    with log:
        for number in range(done, run.total):
            try:
                terms = training.step(number)
            except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # not in its list of names
                raise DataError(
                    f"{run.folder}: the fit diverged at step {number + 1}: control points at infinity; "
                    "lower the learning rates, or delete the folder if its checkpoint was damaged"
                ) from error
            log.record(number + 1, terms, training, time.perf_counter() - began)
            if (number + 1) % run.checkpoint_every == 0 and number + 1 < run.total:
                passed = {"step": number + 1, "seconds": time.perf_counter() - began}
                write_checkpoint(checkpoint, training.state() | passed)
