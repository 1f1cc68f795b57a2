"""`mvtf train-clip`: train the small CLIP on toy4d pictures and captions."""

from pathlib import Path
from typing import Annotated

import typer

from mvtokenflow.base.device import AUTO
from mvtokenflow.base.options import Device, Json
from mvtokenflow.base.terminal import chosen_device, print_json, print_message, progress
from mvtokenflow.cli.method.common import check_minutes


def train_clip(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; run again to go on.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps of the whole run.")] = 450,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long; run again to go on.")] = None,
    toys: Annotated[int, typer.Option(help="Toys per step, two pictures and texts each.")] = 64,
    seed: Annotated[int, typer.Option(help="Names the run; equal seeds give equal weights.")] = 0,
    device: Device = AUTO,
    as_json: Json = False,
) -> None:
    """Train the small CLIP on toy4d pictures and captions: clip.safetensors, scores.json.

    Example: mvtf train-clip -o runs/clip --minutes 30
    """
    check_minutes(minutes)
    device = chosen_device(device)
    from mvtokenflow.small.toys import clip

    with progress() as report:
        trainer = clip.train_clip(
            out,
            steps=steps,
            minutes=minutes,
            toys=toys,
            seed=seed,
            device=device,
            progress=report,
            say=print_message,
        )
    if not trainer.finished:
        if as_json:
            print_json({"step": trainer.step, "steps": steps})
        print_message(f"{trainer.step} of {steps} steps; run the same command again to go on")
        return
    scores = out / clip.SCORES_FILE
    if as_json:
        from mvtokenflow.base.damaged import read_json

        print_json(read_json(scores, dict, "delete it and run the same command again"))
    print_message(f"wrote {out / clip.WEIGHTS_FILE} and {scores}")
