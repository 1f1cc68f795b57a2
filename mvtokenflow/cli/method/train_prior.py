"""`mvtf train-prior`: train the small multiview prior on toy4d, in as many sittings as it takes."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mvtokenflow.base import terminal as talk

if TYPE_CHECKING:
    from mvtokenflow.small.codec import PatchCodec
    from mvtokenflow.small.training.config import PriorTraining
    from mvtokenflow.small.training.data import Views
    from mvtokenflow.small.training.loop import PriorTrainer

EVALUATED = 12  # toys of an evaluation during training, two of each plan


@dataclass(frozen=True)
class ToySource:
    """Batches of the toy stream for training: batch i depends on the fields and i alone."""

    seed: int
    batch: int
    size: int
    split: str = "train"

    def __call__(self, index: int) -> "Views":
        from mvtokenflow.datasets.toy4d.stream import ToyStream
        from mvtokenflow.small.training.data import Views

        stream = ToyStream(seed=self.seed, batch_size=self.batch, size=self.size, split=self.split)  # type: ignore[arg-type]
        drawn = stream.batch(index)
        return Views(rgb=drawn.rgb[:, 0], alpha=drawn.alpha[:, 0], normal=drawn.normal[:, 0])


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every process of a run has to know; picklable."""

    out: Path
    training: "PriorTraining"
    unet: dict[str, Any]
    size: int
    samples: int
    cooldown: int | None
    minutes: float | None
    device: str
    dtype: str
    workers: int
    compile: bool
    save_minutes: float
    evaluate: int

    @property
    def folder(self) -> Path:
        """Where this branch of the run lives."""
        return self.out if self.cooldown is None else self.out / "cooldown"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def started_from(self) -> Path | None:
        """The checkpoint to go on from, None at the very start."""
        trunk = self.out / "checkpoint.safetensors"
        return next((path for path in (self.checkpoint, trunk) if path.exists()), None)


def build_trainer(run: Run) -> "PriorTrainer":
    """The trainer of a run, at its latest checkpoint if there is one."""
    import torch

    from mvtokenflow.small.clip import load_small_clip
    from mvtokenflow.small.training.loop import PriorTrainer

    device = torch.device(run.device)
    encoder = load_small_clip(device=device)
    with torch.no_grad():
        prompts = encoder.prompt_states()
    trainer = PriorTrainer(
        config=run.training,
        unet_config=run.unet,
        codec=_codec(run).to(device),
        encoder=encoder,
        prompts=prompts,
        source=ToySource(run.training.seed, run.training.batch, run.size),
        device=device,
        dtype=getattr(torch, run.dtype),
        workers=run.workers,
        compile=run.compile,
    )
    if run.started_from is not None:
        trainer.resume(run.started_from)
    if run.cooldown is not None and trainer.state.cooldown is None:
        trainer.state.cooldown = (trainer.state.samples, run.cooldown)
    return trainer


def check_cooldown(run: Run) -> None:
    """Refuse (ConfigError) to go on with a cooldown over another number of toys: its rate fell for that one."""
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.small.training import state as training_state

    if run.cooldown is None or not run.checkpoint.exists():
        return
    _, counters, _ = training_state.read(run.checkpoint)
    _, length = counters["cooldown"]
    if length != run.cooldown:
        raise ConfigError(
            f"{run.folder}: holds a cooldown over {length} toys, {run.cooldown} were asked for; give "
            f"--cooldown {length} to go on with it, or move the folder away to branch off anew"
        )


def _codec(run: Run) -> "PatchCodec":
    """From the checkpoint, or measured on other toys than those trained on."""
    from mvtokenflow.small.codec import PatchCodec, measure_codec, place_planes
    from mvtokenflow.small.config import PATCH
    from mvtokenflow.small.prior import six_cameras
    from mvtokenflow.small.training import state as training_state
    from mvtokenflow.small.training.data import batches

    cameras = six_cameras(run.size)
    if run.started_from is not None:
        _, _, tensors = training_state.read(run.started_from)
        return PatchCodec(
            means=tensors["codec.means"],
            scales=tensors["codec.scales"],
            places=place_planes(cameras, PATCH),
            patch=PATCH,
        )
    source = ToySource(run.training.seed + 1, 64, run.size)
    pictures = (part.float() / 255 for part in batches(source, 0, 1, 0, limit=-(-run.training.measured // 64)))
    return measure_codec(pictures, cameras, PATCH)


def _process(rank: int, world: int, meeting: Path, run: Run) -> None:
    """A process other than the first: trains until process 0 stops."""
    import torch

    os.setsid()  # Ctrl-C in the terminal reaches process 0 alone, which decides when all stop
    torch.set_num_threads(1)
    with _group(rank, world, meeting):
        trainer = build_trainer(run)
        trainer.run(_until(run, trainer))


@contextmanager
def _group(rank: int, world: int, meeting: Path) -> Iterator[None]:
    from datetime import timedelta

    from torch import distributed as dist

    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world, timeout=timedelta(hours=1)
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def _until(run: Run, trainer: "PriorTrainer") -> int:
    return run.samples if trainer.state.cooldown is None else sum(trainer.state.cooldown)


def _lead(run: Run) -> "PriorTrainer":
    """Process 0: trains, saves every `save_minutes` and at the end."""
    trainer = build_trainer(run)
    began = saved = time.monotonic()
    scored = trainer.state.samples
    with talk.progress() as report, _stop_signals() as stopped:

        def at_snap() -> bool:
            nonlocal saved, scored
            if run.evaluate and trainer.state.samples - scored >= run.evaluate:
                evaluate(trainer, run)
                scored = trainer.state.samples
            now = time.monotonic()
            if now - saved > 60 * run.save_minutes:
                trainer.save(run.checkpoint)
                saved = now
            return stopped() or (run.minutes is not None and now - began > 60 * run.minutes)

        trainer.run(_until(run, trainer), at_snap, report)
    trainer.save(run.checkpoint)
    return trainer


def evaluate(trainer: "PriorTrainer", run: Run) -> None:
    """Gate the averaged weights on a few unseen toys: a line of evaluation.jsonl and a sheet of pictures."""
    import json

    from mvtokenflow.base.damaged import read_json_lines
    from mvtokenflow.base.files import write_text
    from mvtokenflow.cli.method.gate_prior import unseen
    from mvtokenflow.datasets.toy4d.toys import TRAINED_PLANS
    from mvtokenflow.media.pictures import write_png
    from mvtokenflow.multiview.unet import MultiviewUNet
    from mvtokenflow.small import gate
    from mvtokenflow.small import prior as small_prior
    from mvtokenflow.small.clip import load_small_clip
    from mvtokenflow.small.config import small_sampling

    unet = MultiviewUNet.from_config(run.unet)
    unet.load_state_dict(trainer.state.average)
    unet.to(trainer.device).eval()
    prior = small_prior.assemble(unet, trainer.codec, load_small_clip(device=trainer.device), run.size)
    pictures = unseen(TRAINED_PLANS, EVALUATED, run.size, seed=1)
    sampling = {"mean": small_sampling(1), "judged": small_sampling()}
    record, answers = gate.evaluate(prior, pictures, sampling, "judged")
    log = run.folder / "evaluation.jsonl"
    cure = "move it away; training goes on without its earlier points"
    points = read_json_lines(log, cure, lambda point: int(point["samples"])) if log.exists() else []
    earlier = [point for point in points if point["samples"] < trainer.state.samples]
    point = {"samples": trainer.state.samples, **{key: record[key] for key in ("scores", "checks", "passed")}}
    write_text(log, "".join(json.dumps(line) + "\n" for line in (*earlier, point)))
    write_png(
        run.folder / f"samples-{trainer.state.samples}.png", gate.sheet(pictures, answers["judged"], EVALUATED)
    )


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


def train(run: Run, processes: int) -> "PriorTrainer":
    """Train in `processes` processes of one thread each (CPU), or in one."""
    if processes == 1:
        return _lead(run)
    import torch
    from torch import multiprocessing

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
            return _lead(run)
    finally:
        meeting.unlink(missing_ok=True)
        for other in others:
            other.join(timeout=60)
            other.kill()


def train_prior(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; run again to go on.")],
    config: Annotated[Path | None, typer.Option(help="TOML with [unet] and [training]; default small.")] = None,
    samples: Annotated[int, typer.Option(help="Toys after which the constant phase ends.")] = 1_000_000,
    cooldown: Annotated[
        int | None, typer.Option(help="Branch off in DIR/cooldown and lower the rate to 0 over so many toys.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Toys per step and process, instead of the config's.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long; run again to go on.")] = None,
    device: talk.Device = "cpu",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16 (mixed precision).")] = "bfloat16",
    processes: Annotated[int, typer.Option(help="Processes of one thread each, CPU only.")] = 1,
    workers: Annotated[int, typer.Option(help="Rendering processes; 0 renders in between steps.")] = 0,
    evaluate_every: Annotated[
        int, typer.Option(help="Toys between evaluations with pictures; 0 for none.")
    ] = 10_000,
    compile_: Annotated[bool, typer.Option("--compile", help="Compile the network (minutes, once).")] = False,
    as_json: talk.Json = False,
) -> None:
    """Train the small multiview prior on toy4d: checkpoint.safetensors, its curve, prior.safetensors.

    Example: mvtf train-prior -o runs/prior --processes 2 --minutes 60
    """
    from dataclasses import asdict, replace

    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.small.config import SIZE
    from mvtokenflow.small.training.config import read_prior_config
    from mvtokenflow.small.training.export import export
    from mvtokenflow.workdir.lock import working_in

    talk.check_device(device)
    if dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"--dtype {dtype}: choose float32 or bfloat16")
    if minutes is not None and not minutes > 0:  # NaN too
        raise ConfigError(f"--minutes {minutes}: must be positive")
    if (
        processes < 1
        or min(workers, evaluate_every) < 0
        or samples < 1
        or (cooldown is not None and cooldown < 1)
    ):
        raise ConfigError("--processes, --samples and --cooldown must be at least 1, the others at least 0")
    if processes > 1 and device != "cpu":
        raise ConfigError("--processes: several processes share the work on a CPU only; use --batch on a GPU")
    unet, training = read_prior_config(config)
    if batch is not None:
        training = replace(training, batch=batch)
    run = Run(
        out=out.absolute(),
        training=training,
        unet=unet,
        size=SIZE,
        samples=samples,
        cooldown=cooldown,
        minutes=minutes,
        device=device,
        dtype=dtype,
        workers=workers,
        compile=compile_,
        save_minutes=5.0,
        evaluate=evaluate_every,
    )
    if cooldown is not None and run.started_from is None:
        raise ConfigError(f"{out}: no checkpoint to cool down from; train first, without --cooldown")
    weights = run.folder / "prior.safetensors"
    with working_in(run.out):  # a cooldown too: all its processes start from the trunk's checkpoint
        check_cooldown(run)
        trainer = train(run, processes)
        export(run.checkpoint, weights)
    state = trainer.state
    last = state.curve[-1] if state.curve else {}
    if as_json:
        talk.print_json({"samples": state.samples, "last": last, "training": asdict(training)})
    done = state.samples >= _until(run, trainer)
    talk.say(f"{state.samples} toys; {'done' if done else 'run again to go on'}; wrote {weights}")
