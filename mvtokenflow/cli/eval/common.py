"""Options that the commands of `mvtf-eval` share, and functions that read them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvtokenflow.base.options import check_there
from mvtokenflow.base.terminal import chosen_device, print_message

if TYPE_CHECKING:
    from mvtokenflow.eval.score.scoring import Options

Jobs = Annotated[int | None, typer.Option(min=1, help="Worker processes; one per core by default.")]
WeightsPath = Annotated[
    list[str] | None,
    typer.Option("--weights", metavar="NAME=PATH", help="Use this file or folder for the weights NAME."),
]
JOBS_PER_CORE = 4  # at most: each is a process that holds torch and the networks
RunsRoot = Annotated[Path, typer.Option("--runs", help="Folder of all runs.")]


def check_jobs(jobs: int | None) -> None:
    """Refuse more processes than this machine could run side by side.

    Raises:
        ConfigError: more than `JOBS_PER_CORE` for each core.
    """
    import os

    from mvtokenflow.base.errors import ConfigError

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = JOBS_PER_CORE * cores
    if jobs is not None and jobs > most:
        raise ConfigError(
            f"--jobs {jobs}: at most {most} on this machine, {JOBS_PER_CORE} for each of its {cores} cores"
        )


def check_weights(pairs: Sequence[str] | None) -> dict[str, Path]:
    """Parse `NAME=PATH` options; the names are checked by `weights_paths`, which imports torch.

    Raises:
        ConfigError: no "=" in one of them.
        DataError: nothing is at a path.
    """
    from mvtokenflow.base.errors import ConfigError

    paths = {}
    for pair in pairs or ():
        name, separator, path = pair.partition("=")
        if not separator:
            raise ConfigError(f"--weights {pair}: write NAME=PATH, for example lpips-vgg=/data/vgg.safetensors")
        check_there(Path(path), f"give --weights {name} the file or folder of these weights")
        paths[name] = Path(path)
    return paths


def weights_paths(pairs: Sequence[str] | None) -> Mapping[str, Path]:
    """Parse `NAME=PATH` options into a mapping by names of the ledger.

    Raises:
        ConfigError: no such weights; otherwise as `check_weights`.
        DataError: as `check_weights`.
    """
    from mvtokenflow.weights.ledger import entry

    return {entry(name).name: path for name, path in check_weights(pairs).items()}


def options(device: str, jobs: int | None, weights: Sequence[str] | None, force: bool = False) -> "Options":
    """Build the measuring options of a command line.

    Raises:
        ConfigError: no such device here, too many processes, or malformed weights.
    """
    from mvtokenflow.eval.engine.local import default_jobs
    from mvtokenflow.eval.score.scoring import Options

    check_jobs(jobs)
    device = chosen_device(device)
    return Options(
        device=device, jobs=jobs or default_jobs(device), weights=weights_paths(weights), force=force
    )


def fetch_weights(names: Sequence[str]) -> None:
    """Fetch the named weights where possible; those that cannot be fetched are reported and stay missing."""
    from mvtokenflow.base.errors import UserError, WeightsMissingError
    from mvtokenflow.weights import ledger as weights

    for name in dict.fromkeys(names):
        try:
            weights.resolve(name)
            continue
        except WeightsMissingError:
            print_message(f"fetching {name} ({weights.entry(name).bytes / 1e6:.0f} MB)")
        try:
            weights.fetch(name)
        except UserError as error:
            print_message(f"{name} stays missing: {error}")
