"""`mvtf train-prior`: train the small multiview prior on toy4d, in one or several sessions."""

from pathlib import Path
from typing import Annotated

import typer

from mvtokenflow.base.device import AUTO
from mvtokenflow.base.options import Device, Json, check_there
from mvtokenflow.base.terminal import chosen_device
from mvtokenflow.cli.method.common import check_minutes
from mvtokenflow.cli.method.training import check_counts, trained


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
    device: Device = AUTO,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16 (mixed precision).")] = "bfloat16",
    processes: Annotated[int, typer.Option(help="Processes of one thread each, CPU only.")] = 1,
    workers: Annotated[int, typer.Option(help="Rendering processes; 0 renders in between steps.")] = 0,
    evaluate_every: Annotated[
        int, typer.Option(help="Toys between evaluations with pictures; 0 for none.")
    ] = 10_000,
    compile_: Annotated[bool, typer.Option("--compile", help="Compile the network (minutes, once).")] = False,
    as_json: Json = False,
) -> None:
    """Train the small multiview prior on toy4d: checkpoint.safetensors, its curve, prior.safetensors.

    Example: mvtf train-prior -o runs/prior --processes 2 --minutes 60
    """
    check_there(config, "give --config a TOML file with tables [unet] and [training]")
    check_minutes(minutes)
    if device == AUTO and processes > 1:  # which is asked for on a CPU only
        device = "cpu"
    check_counts(dtype, device, processes, workers, evaluate_every, samples, cooldown)
    device = chosen_device(device)
    from dataclasses import asdict, replace

    from mvtokenflow.small.config import SIZE
    from mvtokenflow.small.toys.prior import Toys
    from mvtokenflow.small.training.config import read_prior_config
    from mvtokenflow.small.training.sittings import PriorRun

    unet, training = read_prior_config(config)
    if batch is not None:
        training = replace(training, batch=batch)
    run = PriorRun(
        out=out.absolute(),
        subject=Toys(),
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
        evaluate=evaluate_every,
    )
    trained(run, processes, "toys", as_json, {"training": asdict(training)})
