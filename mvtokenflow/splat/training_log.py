"""Training records of a reconstruction: losses as JSON lines, TensorBoard, preview pictures, progress."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from mvtokenflow.base.files import naming
from mvtokenflow.base.progress import Progress
from mvtokenflow.media.pictures import write_png
from mvtokenflow.splat.previews import psnr, strip
from mvtokenflow.workdir.folder import LossLog

Watch = Callable[[str, Mapping[str, float]], None]

BOARD = "tensorboard"  # folder
LOG_EVERY = 20
PREVIEWS = 5  # per stage, evenly spaced, the last one at its end


class Shown(Protocol):
    """What records need of a training stage; see `training_loop.Trainable`."""

    def preview(self) -> tuple[Tensor, Tensor]:
        """Return targets and renderings (V, H, W, 3) in [0, 1] on white, of one moment."""
        ...

    def size(self) -> int:
        """Return the number of Gaussians; 0 where the field has none."""
        ...


class TrainingLog:
    """Records of one training stage; a context manager, since TensorBoard's file must be closed."""

    def __init__(
        self,
        workdir: Path,
        stage: str,
        total: int,
        offset: int,
        done: int,
        progress: Progress | None,
        watch: Watch | None,
        every: int = LOG_EVERY,
    ) -> None:
        """Continue after step `done` of `total`; later records of a killed run are dropped.

        Args:
            offset: steps of the stages before, since TensorBoard has one time axis.
            every: steps between rows of losses.
        """
        self._folder = workdir / stage
        self._stage = stage
        self._total = total
        self._progress, self._watch = progress, watch
        self._every = every
        self._lines = LossLog(self._folder / "losses.jsonl", done)
        self._offset = offset
        self._board = SummaryWriter(str(workdir / BOARD), purge_step=self._offset + done + 1)
        self._report(done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with naming(self._folder.parent / BOARD):
            self._board.close()

    def record(self, step: int, terms: Mapping[str, Tensor], training: Shown, seconds: float) -> None:
        """Record a finished step, counted from 1; costly records are written at intervals."""
        with naming(self._folder.parent / BOARD):  # errors in our own files name the file already
            self._record(step, terms, training, seconds)

    def _record(self, step: int, terms: Mapping[str, Tensor], training: Shown, seconds: float) -> None:
        last = step == self._total
        if step % max(self._total // PREVIEWS, 1) == 0 or last:
            self._preview(step, training)
        if step == 1 or step % self._every == 0 or last:
            row = {name: round(float(value), 7) for name, value in terms.items()}
            counts = {"step": step, "gaussians": training.size(), "seconds": round(seconds, 2)}
            self._lines.append(counts | row)
            for name, value in row.items():
                self._board.add_scalar(f"{self._stage}/{name}", value, self._offset + step)
            self._board.add_scalar(f"{self._stage}/gaussians", counts["gaussians"], self._offset + step)
            if self._watch is not None:
                self._watch(self._stage, counts | row)
        self._report(step)

    def _report(self, step: int) -> None:
        if self._progress is not None:
            self._progress(self._stage, step, self._total)

    @torch.no_grad()
    def _preview(self, step: int, training: Shown) -> None:
        """Write views of the middle frame (static stage: the keyframe) beside their targets, on white."""
        targets, rendered = training.preview()
        picture = strip(targets, rendered)
        write_png(self._folder / f"preview_{step:05d}.png", picture)
        at = self._offset + step
        self._board.add_image(f"{self._stage}/preview", picture, at, dataformats="HWC")
        self._board.add_scalar(f"{self._stage}/psnr", psnr(rendered, targets), at)
