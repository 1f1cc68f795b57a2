"""`mvtf train-video`: train the video denoiser of Diffusion² on toy4d, from the small prior's weights."""

from pathlib import Path
from typing import Annotated

import typer

from mvtokenflow.base.device import AUTO
from mvtokenflow.base.options import Device, Json, check_there
from mvtokenflow.base.terminal import chosen_device
from mvtokenflow.cli.method.common import check_minutes
from mvtokenflow.cli.method.training import check_counts, trained


def train_video(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; run again to go on.")],
    prior: Annotated[
        Path | None, typer.Option(help="prior.safetensors that it starts from; default: the shipped one.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Windows after which the constant phase ends.")] = 1_000_000,
    cooldown: Annotated[
        int | None,
        typer.Option(help="Branch off in DIR/cooldown and lower the rate to 0 over so many windows."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long; run again to go on.")] = None,
    device: Device = AUTO,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16 (mixed precision).")] = "bfloat16",
    processes: Annotated[int, typer.Option(help="Processes of one thread each, CPU only.")] = 1,
    workers: Annotated[int, typer.Option(help="Rendering processes; 0 renders in between steps.")] = 0,
    evaluate_every: Annotated[int, typer.Option(help="Windows between evaluations; 0 for none.")] = 1_600,
    as_json: Json = False,
) -> None:
    """Train the video denoiser on toy4d: checkpoint.safetensors, its curve, prior.safetensors.

    Example: mvtf train-video -o runs/video --minutes 45
    """
    check_there(prior, "give --prior a prior.safetensors of `mvtf train-prior`")
    check_minutes(minutes)
    if device == AUTO and processes > 1:  # which is asked for on a CPU only
        device = "cpu"
    check_counts(dtype, device, processes, workers, evaluate_every, samples, cooldown)
    device = chosen_device(device)
    from mvtokenflow.small.config import SIZE
    from mvtokenflow.small.prior import WEIGHTS
    from mvtokenflow.small.toys.video import TRAINING, ToyVideo, network_of
    from mvtokenflow.small.training.sittings import PriorRun

    run = PriorRun(
        out=out.absolute(),
        subject=ToyVideo(prior),
        training=TRAINING,
        unet=network_of(WEIGHTS if prior is None else prior),
        size=SIZE,
        samples=samples,
        cooldown=cooldown,
        minutes=minutes,
        device=device,
        dtype=dtype,
        workers=workers,
        compile=False,
        evaluate=evaluate_every,
    )
    trained(run, processes, "windows", as_json)
