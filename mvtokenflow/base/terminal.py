"""What the command lines share: where talk goes, progress bars, and how an error ends a command."""

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mvtokenflow.base.memory import ran_out
from mvtokenflow.base.names import printable
from mvtokenflow.base.progress import Progress

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
    with _bars(console) if console.is_terminal else nullcontext(_lines()) as report:
        yield _stopping(report)


def _stopping(report: Progress) -> Progress:
    """`report`, which ends the command where compiled code or a library has swallowed an interrupt."""

    def told(stage: str, done: int, total: int) -> None:
        if _interrupts:
            raise KeyboardInterrupt
        report(stage, done, total)

    return told


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

    from mvtokenflow.base.errors import ConfigError

    try:
        torch.cuda.get_device_name(torch.device(device))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {device}: not on this machine ({reason}); use cpu or cuda") from error


def run(app: Callable[[], None], refused: int = 2) -> None:
    """Run a command line: what the user can fix is one sentence on stderr and exit code `refused`.

    An interrupt is one line and exit code 130, whatever it was that it interrupted.
    """
    _soften()
    threading.excepthook = _told_by_thread
    with _noting_interrupts():
        try:
            _check_words(sys.argv[1:])
            app()
            unprinted = _flushed()
            if unprinted is not None:
                raise unprinted
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            _end(error, refused)


def _end(error: BaseException, refused: int) -> None:
    """End the command as the error that came out of it asks for."""
    unprinted = _flushed()
    if isinstance(error, SystemExit) and not error.code and unprinted is not None:
        error = unprinted
    if isinstance(error, SystemExit) and not error.code:
        raise error
    if _interrupts or isinstance(error, KeyboardInterrupt):
        say("interrupted; run the same command again to go on where it stopped")
        sys.exit(130)
    sentence = None if isinstance(error, SystemExit) else sentence_of(error)
    if sentence is None:
        raise error
    say(f"error: {sentence}")
    sys.exit(refused)


_NOWHERE = Path(os.devnull)
_interrupts: list[int] = []  # noted here, since compiled code turns the exception into others or loses it


@contextmanager
def _noting_interrupts() -> Iterator[None]:
    """Note interrupts while inside, where they are not ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before != signal.default_int_handler:
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        _interrupts.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _interrupts.clear()


def _soften() -> None:
    """Signs that a console's encoding lacks are replaced; where there is no stdout, nothing is printed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.stdout is None:
        sys.stdout = _NOWHERE.open("w")


def _told_by_thread(told: threading.ExceptHookArgs) -> None:
    """What the system refused a thread that writes (TensorBoard's), the main one meets as well, and says."""
    if not isinstance(told.exc_value, OSError):
        threading.__excepthook__(told)


def _flushed() -> OSError | None:
    """Print what is left, now, and say why that failed: later it would be a message of the interpreter's."""
    try:
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = _NOWHERE.open("w")  # what could not be written would be tried again
        return None if isinstance(error, BrokenPipeError) else error  # who read it has had enough
    return None


def _check_words(words: Sequence[str]) -> None:
    """Raise a ConfigError for names that no record could hold, before the work."""
    from mvtokenflow.base.errors import ConfigError

    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{word}: not UTF-8; rename the file or folder") from error


def sentence_of(error: BaseException) -> str | None:
    """What an error tells the user to fix; None for those that are nobody's fault but the program's."""
    from mvtokenflow.base.errors import UserError

    if isinstance(error, UserError):
        return str(error)
    reason = ran_out(error)
    if reason is not None:
        return (
            f"too little memory, of the device or this machine ({reason}); run again where there is more, with "
            "fewer processes, or in a new folder with smaller pictures, fewer frames or "
            "`mvtf run --set sampling.chunk=1`"
        )
    if isinstance(error, OSError) and not (error.filename is None and error.errno is None):
        return f"{error.filename or 'output'}: {error.strerror}; make room or check permissions, then run again"
    return None
