"""What the command lines share: where talk goes, progress bars, and how an error ends a command."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mvtokenflow.names import printable
from mvtokenflow.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Device = Annotated[str, typer.Option(help="Torch device of the networks, cpu or cuda.")]


def say(text: str) -> None:
    """Talk goes to stderr; stdout is data."""
    typer.echo(printable(text), err=True)


def tell(text: str) -> None:
    """Lines of data for people on stdout, without characters that a terminal would act on."""
    typer.echo(printable(text))


def shown(text: str) -> "Text":
    """For rich: text that is neither console markup nor able to steer a terminal."""
    from rich.text import Text

    return Text(printable(text))


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def progress() -> Iterator[Progress]:
    """A reporter (stage, done, total) on stderr.

    A terminal gets one bar per stage with its ETA; a file or a pipe one line where a stage begins and one where
    it ends, as soon as it does.
    """
    from rich.console import Console

    console = Console(stderr=True)
    try:
        with _bars(console) if console.is_terminal else nullcontext(_lines()) as report:
            yield report
    except KeyboardInterrupt:
        say("interrupted; run the same command again to go on where it stopped")
        raise


@contextmanager
def _bars(console: "Console") -> Iterator[Progress]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(printable(stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def _lines() -> Progress:
    """Says "STAGE: 0/TOTAL" and "STAGE: TOTAL/TOTAL, H:MM:SS", which is the time since the last such end."""
    reached: dict[str, int] = {}
    ended = time.monotonic()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal ended
        before = reached.get(stage)
        reached[stage] = done
        if done < total and (before is None or before > done):  # the first time, or once more
            say(f"{stage}: 0/{total}")
        elif done >= total and before != done:
            now = time.monotonic()
            say(f"{stage}: {done}/{total}, {timedelta(seconds=round(now - ended))}")
            ended = now

    return report


def check_device(device: str) -> None:
    """Raise a ConfigError now where torch would fail after the work is done."""
    if device == "cpu":
        return
    import torch

    from mvtokenflow.errors import ConfigError

    try:
        torch.cuda.get_device_name(torch.device(device))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {device}: not on this machine ({reason}); use cpu or cuda") from error


def run(app: Callable[[], None]) -> None:
    """Run a command line: what the user can fix is one sentence on stderr and exit code 2."""
    try:
        app()
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        say(f"error: {sentence}")
        sys.exit(2)


def sentence_of(error: BaseException) -> str | None:
    """What an error tells the user to fix; None for those that are nobody's fault but the program's."""
    from mvtokenflow.errors import UserError

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and not (error.filename is None and error.errno is None):
        return f"{error.filename or 'output'}: {error.strerror}; make room or check permissions, then run again"
    torch = sys.modules.get("torch")  # not imported for this: without it, its memory cannot have run out
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        reason = ". ".join(str(error).split(". ")[:2])  # of a page on the allocator
        return (
            f"the device has too little memory ({reason}); run again on a larger one, or in a new folder with "
            "smaller pictures, fewer frames or `mvtf run --set sampling.chunk=1`"
        )
    return None
