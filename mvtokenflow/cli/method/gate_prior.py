"""`mvtf gate-prior`: score a small prior on unseen toys, and write its weights with the result."""

from pathlib import Path
from typing import Annotated

import typer

from mvtokenflow.base.device import AUTO
from mvtokenflow.base.options import Device, Json, check_there
from mvtokenflow.base.terminal import chosen_device, print_json, print_message


def gate_prior(
    weights: Annotated[
        Path | None,
        typer.Argument(help="prior.safetensors or a training checkpoint; default: the shipped one."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for prior.safetensors, .json and sheets.")
    ] = None,
    toys: Annotated[
        int, typer.Option(help="Unseen toys; and a third as many of the plan never trained on.")
    ] = 48,
    steps: Annotated[int, typer.Option(help="DDIM steps that are judged.")] = 20,
    jump: Annotated[
        int | None, typer.Option(help="Noise level after the first step; default: the prior's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the toys and the noise.")] = 0,
    device: Device = AUTO,
    as_json: Json = False,
) -> None:
    """Compare DDIM samples with copying the input and with the mean picture; exit code 1 if they lose.

    Example: mvtf gate-prior runs/prior/checkpoint.safetensors -o runs/prior/gate
    """
    check_there(weights, "give a prior.safetensors or checkpoint.safetensors of `mvtf train-prior`")
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.base.seeds import check_seed
    from mvtokenflow.small.config import JUMP, small_sampling
    from mvtokenflow.small.toys.prior import gate_on_toys

    check_seed(seed)
    if toys < 2 or steps < 1:
        raise ConfigError("--toys must be at least 2 and --steps at least 1")
    device = chosen_device(device)
    judged = small_sampling(steps, JUMP if jump is None else jump)
    result = gate_on_toys(weights, out, judged, toys=toys, seed=seed, device=device)
    if as_json:
        print_json(result)
    for name, check in result["unseen"]["checks"].items():
        margin, error = check["margin"], check["standard_error"]
        print_message(f"{'passed' if check['passed'] else 'FAILED'}: {name} by {margin:+.2f} ± {error:.2f}")
    if not result["passed"]:
        raise typer.Exit(1)
