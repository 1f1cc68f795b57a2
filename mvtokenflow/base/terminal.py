"""Terminal output of the command lines: messages, data, progress bars, and errors with exit codes."""

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
from typing import TYPE_CHECKING, Any

import typer

from mvtokenflow.base.device import AUTO, described_device, resolve_device
from mvtokenflow.base.memory import ran_out
from mvtokenflow.base.names import printable
from mvtokenflow.base.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def print_message(text: str) -> None:
    """Print a message to stderr; stdout is for data."""
    typer.echo(printable(text), err=True)


def print_line(text: str) -> None:
    """Print data for people to stdout, without characters that a terminal would act on."""
    typer.echo(printable(text))


def rich_text(text: str) -> "Text":
    """Wrap text for rich so that it is no console markup and cannot control a terminal."""
    from rich.text import Text

    return Text(printable(text))


def print_json(value: Any) -> None:
    """Print one JSON document to stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a progress reporter (stage, done, total) that writes to stderr.

    A terminal gets one bar per stage with its ETA; a file or a pipe gets one line when a stage begins and one
    when it ends.
    """
    from rich.console import Console

    console = Console(stderr=True)
    with _bars(console) if console.is_terminal else nullcontext(_lines()) as report:
        yield _stopping(report)


def _stopping(report: Progress) -> Progress:
    """Wrap `report` to end the command where compiled code or a library has swallowed an interrupt."""

    def checked(stage: str, done: int, total: int) -> None:
        if _interrupts:
            raise KeyboardInterrupt
        report(stage, done, total)

    return checked


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
    """Report "STAGE: 0/TOTAL" and "STAGE: TOTAL/TOTAL, H:MM:SS", the time since the last such end."""
    reached: dict[str, int] = {}
    ended = time.monotonic()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal ended
        before = reached.get(stage)
        reached[stage] = done
        if done < total and (before is None or before > done):  # first start, or restart
            print_message(f"{stage}: 0/{total}")
        elif done >= total and before != done:
            now = time.monotonic()
            print_message(f"{stage}: {done}/{total}, {timedelta(seconds=round(now - ended))}")
            ended = now

    return report


def check_device(device: str) -> None:
    """Raise a ConfigError now where torch would fail after the work is done."""
    if device in ("cpu", AUTO):
        return
    import torch

    from mvtokenflow.base.errors import ConfigError

    try:
        torch.cuda.get_device_name(torch.device(device))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"--device {device}: not on this machine ({reason}); use {AUTO}, cpu or cuda"
        ) from error


def chosen_device(device: str) -> str:
    """Resolve `--device`; a device chosen by "auto" is reported on stderr.

    Raises:
        ConfigError: no such device here.
    """
    check_device(device)
    found = resolve_device(device)
    if device == AUTO:
        print_message(f"device: {described_device(found)}")
    return found


def run(app: Callable[[], None], refused: int = 2) -> None:
    """Run a command line: a user's error is one sentence on stderr with exit code `refused`.

    An interrupt is one line and exit code 130, wherever it occurs.
    """
    _replace_unencodable()
    threading.excepthook = _report_thread_error
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
    """End the command with the message and exit code of an error."""
    unprinted = _flushed()
    if isinstance(error, SystemExit) and not error.code and unprinted is not None:
        error = unprinted
    if isinstance(error, SystemExit) and not error.code:
        raise error
    if _interrupts or isinstance(error, KeyboardInterrupt):
        print_message("interrupted; run the same command again to resume where it stopped")
        sys.exit(130)
    sentence = None if isinstance(error, SystemExit) else sentence_of(error)
    if sentence is None:
        raise error
    print_message(f"error: {sentence}")
    sys.exit(refused)


_NOWHERE = Path(os.devnull)
_interrupts: list[int] = []  # recorded here, since compiled code replaces or loses the exception


@contextmanager
def _noting_interrupts() -> Iterator[None]:
    """Record interrupts inside the block, unless they are ignored."""
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


def _replace_unencodable() -> None:
    """Replace characters that a console's encoding lacks; without a stdout, print nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if sys.stdout is None:
        sys.stdout = _NOWHERE.open("w")


def _report_thread_error(failure: threading.ExceptHookArgs) -> None:
    """Print a thread's error, except a writer's OSError: the main thread meets the same and reports it."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)


def _flushed() -> OSError | None:
    """Flush stdout now and return its error: later the interpreter would print its own message."""
    try:
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = _NOWHERE.open("w")  # Python would retry what could not be written
        return None if isinstance(error, BrokenPipeError) else error  # the reader closed the pipe
    return None


def _check_words(words: Sequence[str]) -> None:
    """Check, before the work, that names are valid UTF-8; raise a ConfigError if not."""
    from mvtokenflow.base.errors import ConfigError

    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{word}: not UTF-8; rename the file or folder") from error


def sentence_of(error: BaseException) -> str | None:
    """Return the sentence that reports a user's error; None for a bug."""
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
