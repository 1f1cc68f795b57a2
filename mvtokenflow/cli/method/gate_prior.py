"""`mvtf gate-prior`: may a small prior ship? Scores it on unseen toys, writes weights with their verdict."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mvtokenflow.base import terminal as talk

if TYPE_CHECKING:
    from torch import Tensor


def unseen(plans: tuple[str, ...], count: int, size: int, seed: int) -> "Tensor":
    """(2, N, V, 3, S, S) uint8: toys of the validation range of seeds, plans in turn, at random times."""
    import numpy as np

    from mvtokenflow.datasets.toy4d.render import render
    from mvtokenflow.datasets.toy4d.stream import six_views
    from mvtokenflow.datasets.toy4d.toys import SEEDS, make_toy
    from mvtokenflow.small.training.data import Views, training_pictures

    draw, seeds = np.random.default_rng(seed), SEEDS["validation"]
    shots = [
        render(
            make_toy(plans[k % len(plans)], seeds[int(draw.integers(len(seeds)))]),
            six_views(size),
            [float(draw.random())],
        )
        for k in range(count)
    ]
    rgb, alpha, normal = (
        np.concatenate([getattr(shot, name) for shot in shots]) for name in ("rgb", "alpha", "normal")
    )
    views = Views(
        rgb=(rgb * 255 + 0.5).astype(np.uint8),
        alpha=(alpha * 255 + 0.5).astype(np.uint8),
        normal=np.rint(normal * 127).astype(np.int8),
    )
    return training_pictures(views)


def keep_weights(source: Path, target: Path) -> None:
    """Write the weights of a prior or a training checkpoint to `target`, unless it has them already.

    Raises:
        ConfigError: it has other weights.
    """
    from tempfile import TemporaryDirectory

    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.small.training.export import export

    if not target.exists():
        export(source, target)
        return
    with TemporaryDirectory() as folder:
        made = Path(folder) / target.name
        export(source, made)
        if not _same_tensors(made, target):
            raise ConfigError(f"{target}: holds other weights than {source}; give another folder")


def _same_tensors(a: Path, b: Path) -> bool:
    """Files are not compared by their bytes: the order of their metadata is not fixed."""
    import torch

    from mvtokenflow.base.errors import DataError
    from mvtokenflow.base.tensor_files import read_tensors

    try:
        (_, one), (_, other) = (read_tensors(path, "damaged", "delete it") for path in (a, b))
    except DataError:  # a damaged file is another one
        return False
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


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
    device: talk.Device = "cpu",
    as_json: talk.Json = False,
) -> None:
    """Compare DDIM samples with copying the input and with the mean picture; exit code 1 if they lose.

    Example: mvtf gate-prior runs/prior/checkpoint.safetensors -o runs/prior/gate
    """
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.base.files import sha256_file, write_json
    from mvtokenflow.base.seeds import check_seed
    from mvtokenflow.datasets.toy4d.toys import HELD_OUT_PLAN, TRAINED_PLANS
    from mvtokenflow.media.pictures import write_png
    from mvtokenflow.small import gate
    from mvtokenflow.small import prior as small_prior
    from mvtokenflow.small.config import JUMP, small_sampling
    from mvtokenflow.workdir.lock import working_in

    talk.check_device(device)
    check_seed(seed)
    if toys < 2 or steps < 1:
        raise ConfigError("--toys must be at least 2 and --steps at least 1")
    file = small_prior.WEIGHTS if weights is None else weights
    sampling = {
        "mean": small_sampling(1),
        "judged": small_sampling(steps, JUMP if jump is None else jump),
    }
    with nullcontext() if out is None else working_in(out):
        if out is not None:
            keep_weights(file, out / "prior.safetensors")
            file = out / "prior.safetensors"
        prior = small_prior.load_small_prior(file, device)
        result: dict[str, Any] = {}
        for name, plans, count in (
            ("unseen", TRAINED_PLANS, toys),
            ("held_out_plan", (HELD_OUT_PLAN,), max(2, toys // 3)),
        ):
            pictures = unseen(plans, count, prior.size, seed)
            result[name], answers = gate.evaluate(prior, pictures, sampling, "judged", seed)
            if out is not None:
                for kind, answer in answers.items():
                    write_png(out / f"{name}-{kind}.png", gate.sheet(pictures, answer))
        result["weights_sha256"] = sha256_file(file)
        result["passed"] = result["unseen"]["passed"]
        if out is not None:
            write_json(out / "prior.json", result)
    if as_json:
        talk.print_json(result)
    for name, check in result["unseen"]["checks"].items():
        margin, error = check["margin"], check["standard_error"]
        talk.say(f"{'passed' if check['passed'] else 'FAILED'}: {name} by {margin:+.2f} ± {error:.2f}")
    if not result["passed"]:
        raise typer.Exit(1)
