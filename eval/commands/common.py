"""What all verbs share: where talk goes, progress, and how a folder of options is read."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mvtokenflow.eval.scoring import Options

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Device = Annotated[str, typer.Option(help="Torch device of the networks, cpu or cuda.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Worker processes; one per core by default.")]
WeightsPath = Annotated[
    list[str] | None,
    typer.Option("--weights", metavar="NAME=PATH", help="Use this file or folder for the weights NAME."),
]
RunsRoot = Annotated[Path, typer.Option("--runs", help="Folder of all runs.")]


def say(text: str) -> None:
    """Talk goes to stderr; stdout is data."""
    typer.echo(text, err=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A reporter (stage, done, total) that draws one bar per stage with its ETA on stderr."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        try:
            yield report
        except KeyboardInterrupt:
            bars.stop()
            say("interrupted; run the same command again to go on where it stopped")
            raise


def weights_paths(pairs: Sequence[str] | None) -> Mapping[str, Path]:
    """`NAME=PATH` options as a mapping.

    Raises:
        ConfigError: no "=" in one of them, or no such weights.
    """
    from mvtokenflow.errors import ConfigError
    from mvtokenflow.eval.weights import entry

    paths = {}
    for pair in pairs or ():
        name, separator, path = pair.partition("=")
        if not separator:
            raise ConfigError(f"--weights {pair}: write NAME=PATH, for example lpips-vgg=/data/vgg.safetensors")
        paths[entry(name).name] = Path(path)
    return paths


def options(device: str, jobs: int | None, weights: Sequence[str] | None, force: bool = False) -> "Options":
    """The measuring options of a command line.

    Raises:
        ConfigError: no such device here, or malformed weights.
    """
    from mvtokenflow.eval.scoring import Options
    from mvtokenflow.eval.workers import default_jobs

    if device != "cpu":
        _check_device(device)
    return Options(
        device=device, jobs=jobs or default_jobs(device), weights=weights_paths(weights), force=force
    )


def _check_device(device: str) -> None:
    """Raise a ConfigError now where torch would fail after the work is done."""
    import torch

    from mvtokenflow.errors import ConfigError

    try:
        torch.cuda.get_device_name(torch.device(device))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {device}: not on this machine ({reason}); use cpu or cuda") from error


def fetch_weights(names: Sequence[str]) -> None:
    """Fetch what can be had of the named weights; what cannot is said once and left missing."""
    from mvtokenflow.errors import UserError, WeightsMissingError
    from mvtokenflow.eval import weights

    for name in dict.fromkeys(names):
        try:
            weights.resolve(name)
            continue
        except WeightsMissingError:
            say(f"fetching {name} ({weights.entry(name).files[0].bytes / 1e6:.0f} MB)")
        try:
            weights.fetch(name)
        except UserError as error:
            say(f"{name} stays missing: {error}")
