"""A training run of the small prior: sittings, processes, checkpoints, cooldowns and evaluations.

OUT/checkpoint.safetensors      everything a run needs to go on bit for bit; its curve beside it (.jsonl)
OUT/prior.safetensors           the averaged weights
OUT/evaluation.jsonl, samples-<n>.png   the gate's scores during training
OUT/cooldown/                   the same of the run that was branched off with a falling rate
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, multiprocessing
from torch import distributed as dist

from mvtokenflow.base.damaged import read_json_lines
from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import write_text
from mvtokenflow.base.progress import Progress
from mvtokenflow.media.pictures import write_png
from mvtokenflow.multiview.unet import MultiviewUNet
from mvtokenflow.small.codec import PatchCodec, place_planes
from mvtokenflow.small.config import PATCH
from mvtokenflow.small.prior import six_cameras
from mvtokenflow.small.training import state as training_state
from mvtokenflow.small.training.config import PriorTraining
from mvtokenflow.small.training.data import Source
from mvtokenflow.small.training.lesson import Lesson
from mvtokenflow.small.training.loop import PriorTrainer
from mvtokenflow.workdir.lock import working_in

Picture = NDArray[np.uint8]
SAVE_MINUTES = 5.0  # between checkpoints


class Subject(Protocol):
    """What is learnt, from which objects, and how it is judged; picklable."""

    def source(self, seed: int, batch: int, size: int) -> Source[Any]:
        """Batches of training objects at `size` pixels; other objects under another seed."""
        ...

    def codec(self, training: PriorTraining, size: int) -> PatchCodec:
        """Return the codec of a new run."""
        ...

    def first_weights(self) -> Mapping[str, Tensor] | None:
        """Trained weights that a new run goes on from; None draws them."""
        ...

    def lesson(self, codec: PatchCodec, training: PriorTraining) -> Lesson[Any]:
        """Return what the network is trained on, on the codec's device."""
        ...

    def judge(self, unet: MultiviewUNet, codec: PatchCodec, size: int) -> tuple[dict[str, Any], Picture | None]:
        """Return JSON-able scores of a network on objects that training never shows, and a picture."""
        ...

    def export(self, checkpoint: Path, weights: Path) -> None:
        """Write the weights file of a checkpoint's averaged weights."""
        ...


@dataclass(frozen=True, kw_only=True)
class PriorRun:
    """What every process of a run has to know; picklable.

    Attributes:
        out: folder of the run, absolute.
        subject: what is learnt.
        training, unet: settings of the training and of the network.
        size: of the pictures.
        samples: objects after which the constant phase ends.
        cooldown: objects over which the rate falls to 0, in a branch of the run; None trains the run itself.
        minutes: after which this sitting stops; None for no limit.
        device, dtype: of the network, and of its mixed precision.
        workers: rendering processes; 0 renders in between steps.
        compile: whether to run the network through torch.compile.
        evaluate: objects between evaluations; 0 for none.
    """

    out: Path
    subject: Subject
    training: PriorTraining
    unet: dict[str, Any]
    size: int
    samples: int
    cooldown: int | None
    minutes: float | None
    device: str
    dtype: str
    workers: int
    compile: bool
    evaluate: int

    @property
    def folder(self) -> Path:
        """Return the folder of this branch of the run."""
        return self.out if self.cooldown is None else self.out / "cooldown"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def weights(self) -> Path:
        """Return the file of averaged weights."""
        return self.folder / "prior.safetensors"

    @property
    def started_from(self) -> Path | None:
        """Return the checkpoint to go on from, None at the very start."""
        trunk = self.out / "checkpoint.safetensors"
        return next((path for path in (self.checkpoint, trunk) if path.exists()), None)


def _trainer(run: PriorRun) -> PriorTrainer:
    """Return the trainer of a run, at its latest checkpoint if there is one."""
    device = torch.device(run.device)
    codec = _codec(run).to(device)
    trainer = PriorTrainer(
        config=run.training,
        unet_config=run.unet,
        codec=codec,
        lesson=run.subject.lesson(codec, run.training),
        source=run.subject.source(run.training.seed, run.training.batch, run.size),
        device=device,
        dtype=getattr(torch, run.dtype),
        workers=run.workers,
        compile=run.compile,
    )
    if run.started_from is not None:
        trainer.resume(run.started_from)
    elif (first := run.subject.first_weights()) is not None:
        trainer.start_from(first)
    if run.cooldown is not None and trainer.state.cooldown is None:
        trainer.state.cooldown = (trainer.state.samples, run.cooldown)
    return trainer


def _check_cooldown(run: PriorRun) -> None:
    """Refuse to go on with a cooldown over another number of objects: its rate fell for that one."""
    if run.cooldown is None or not run.checkpoint.exists():
        return
    _, counters, _ = training_state.read(run.checkpoint)
    _, length = counters["cooldown"]
    if length != run.cooldown:
        raise ConfigError(
            f"{run.folder}: holds a cooldown over {length} toys, {run.cooldown} were asked for; give "
            f"--cooldown {length} to go on with it, or move the folder away to branch off anew"
        )


def _codec(run: PriorRun) -> PatchCodec:
    """From the checkpoint, or that of a new run."""
    if run.started_from is None:
        return run.subject.codec(run.training, run.size)
    _, _, tensors = training_state.read(run.started_from)
    return PatchCodec(
        means=tensors["codec.means"],
        scales=tensors["codec.scales"],
        places=place_planes(six_cameras(run.size), PATCH),
        patch=PATCH,
    )


def _process(rank: int, world: int, meeting: Path, run: PriorRun) -> None:
    """Train in a process other than the first, until process 0 stops."""
    os.setsid()  # Ctrl-C in the terminal reaches process 0 alone, which decides when all stop
    torch.set_num_threads(1)
    with _group(rank, world, meeting):
        trainer = _trainer(run)
        trainer.run(_until(run, trainer))


@contextmanager
def _group(rank: int, world: int, meeting: Path) -> Iterator[None]:
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world, timeout=timedelta(hours=1)
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _until(run: PriorRun, trainer: PriorTrainer) -> int:
    return run.samples if trainer.state.cooldown is None else sum(trainer.state.cooldown)


def _lead(run: PriorRun, report: Progress | None) -> PriorTrainer:
    """Process 0: trains, saves every `SAVE_MINUTES` and at the end."""
    trainer = _trainer(run)
    began = saved = time.monotonic()
    scored = trainer.state.samples
    with _stop_signals() as stopped:

        def at_snap() -> bool:
            nonlocal saved, scored
            if run.evaluate and trainer.state.samples - scored >= run.evaluate:
                _evaluate(trainer, run)
                scored = trainer.state.samples
            now = time.monotonic()
            if now - saved > 60 * SAVE_MINUTES:
                trainer.save(run.checkpoint)
                saved = now
            return stopped() or (run.minutes is not None and now - began > 60 * run.minutes)

        trainer.run(_until(run, trainer), at_snap, report)
    trainer.save(run.checkpoint)
    return trainer


def _evaluate(trainer: PriorTrainer, run: PriorRun) -> None:
    """Judge the averaged weights on unseen objects: a line of evaluation.jsonl, perhaps a picture."""
    unet = MultiviewUNet.from_config(run.unet)
    unet.load_state_dict(trainer.state.average)
    unet.to(trainer.device).eval()
    record, picture = run.subject.judge(unet, trainer.codec, run.size)
    log = run.folder / "evaluation.jsonl"
    cure = "move it away; training goes on without its earlier points"
    points = read_json_lines(log, cure, lambda point: int(point["samples"])) if log.exists() else []
    earlier = [point for point in points if point["samples"] < trainer.state.samples]
    point = {"samples": trainer.state.samples, **record}
    write_text(log, "".join(json.dumps(line) + "\n" for line in (*earlier, point)))
    if picture is not None:
        write_png(run.folder / f"samples-{trainer.state.samples}.png", picture)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """While inside, Ctrl-C and termination only set what is yielded."""
    hits: list[int] = []
    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(name, lambda number, _: hits.append(number)) for name in names]
    try:
        yield lambda: bool(hits)
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


def train_prior(run: PriorRun, processes: int = 1, report: Progress | None = None) -> PriorTrainer:
    """Run one sitting of a training: train, save the checkpoint, and write the averaged weights.

    Ctrl-C and termination end the sitting at the next point where a checkpoint can be written.

    Args:
        processes: of one thread each, on a CPU; 1 trains in this one.
        report: called with ("train", objects, all objects).

    Returns:
        the trainer, at the checkpoint.

    Raises:
        ConfigError: a cooldown without a checkpoint to start from, or of another length than begun.
        DataError: another process works in the folder; a damaged checkpoint.
    """
    if run.cooldown is not None and run.started_from is None:
        raise ConfigError(f"{run.out}: no checkpoint to cool down from; train first, without --cooldown")
    with working_in(run.out):  # a cooldown too: all its processes start from the trunk's checkpoint
        _check_cooldown(run)
        trainer = _train(run, processes, report)
        run.subject.export(run.checkpoint, run.weights)
    return trainer


def is_done(run: PriorRun, trainer: PriorTrainer) -> bool:
    """Return whether no further sitting is needed."""
    return trainer.state.samples >= _until(run, trainer)


def _train(run: PriorRun, processes: int, report: Progress | None) -> PriorTrainer:
    """Train in `processes` processes of one thread each (CPU), or in one."""
    if processes == 1:
        return _lead(run, report)
    torch.set_num_threads(1)
    run.folder.mkdir(parents=True, exist_ok=True)
    meeting = run.folder / f".meeting-{os.getpid()}"
    meeting.unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_process, args=(rank, processes, meeting, run), daemon=True)
        for rank in range(1, processes)
    ]
    for other in others:
        other.start()
    try:
        with _group(0, processes, meeting):
            return _lead(run, report)
    finally:
        meeting.unlink(missing_ok=True)
        for other in others:
            other.join(timeout=60)
            other.kill()
