"""Damaged files given to readers, in processes whose memory and time are bounded.

A worker process takes a batch of inputs of one reader. When it dies, or does not answer in time, the input it
was at is a failure and another process goes on with the next. Workers are forked from a server that has
imported the product once (`multiprocessing`'s forkserver).
"""

import io
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Literal

from formats import mutators_of

SECONDS = 10.0  # of computing, for one input
PATIENCE = 120.0  # seconds until the next sign of life, on a machine that is busy with other things
MEMORY = 2 * 2**30  # bytes above what a process that has imported the product holds
_READY = "ready"
_MODULES = (
    *(
        "mvtokenflow.cli.method.run",
        "mvtokenflow.method.asset",
        "mvtokenflow.method.pipeline",
        "mvtokenflow.datasets.folder",
        "mvtokenflow.weights.ledger",
    ),
    *(
        "mvtokenflow.eval.tables.ensure",
        "mvtokenflow.eval.tables.tabulate",
        "mvtokenflow.eval.score.pictures",
        "mvtokenflow.reports.site",
        "hypothesis",
    ),
    *("mvtokenflow.small.prior", "mvtokenflow.multiview.checkpoint", "mvtokenflow.reports.run_page"),
)

Kind = Literal["accepted", "refused", "failed"]


@dataclass(frozen=True)
class Reader:
    """A place where the product reads what somebody else may have written.

    Attributes:
        name: of the test.
        file: glob of the files that are damaged, one at a time, in the folder that `make` filled.
        make: fills an empty folder with valid files, given also the folder of what is costly to make.
        read: what the product does with the folder; raises as the product does.
        every: only one of so many inputs is tried: for readers that take long.
        names_file: whether a refusal must name the folder or the file.
    """

    name: str
    file: str
    make: Callable[[Path, Path], None]
    read: Callable[[Path], object]
    _: KW_ONLY
    every: int = 1
    names_file: bool = True

    def damaged(self, valid: Path, number: int) -> tuple[Path, bytes]:
        """The file to replace, relative, and its bytes; input 0 is the valid file."""
        rng = Random(f"{self.name}/{number}")
        files = sorted(path for path in valid.glob(self.file) if path.is_file())
        path = rng.choice(files)
        data = path.read_bytes()
        if number:
            data = rng.choice(mutators_of(path.suffix))(data, rng)
        return path.relative_to(valid), data


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one input.

    Attributes:
        words: the sentence of a refusal, or what went wrong.
        seconds: of computing. mib: peak of memory above what the process held before.
    """

    number: int
    kind: Kind
    words: str
    seconds: float = 0.0
    mib: float = 0.0


def outcomes(
    reader: Reader, numbers: Sequence[int], root: Path, *, seconds: float = SECONDS
) -> Iterator[Outcome]:
    """What became of the inputs `numbers`, each read in a folder of its own below `root`."""
    left = list(numbers)
    while left:
        receiver, sender = _server().Pipe(duplex=False)
        process = _server().Process(target=_work, args=(reader, left, root, seconds, sender), daemon=True)
        process.start()
        sender.close()
        if (reason := receiver.recv()) != _READY:
            raise AssertionError(f"the valid files of {reader.name} cannot be made: {reason}")
        try:
            while left:
                if not receiver.poll(PATIENCE):
                    yield Outcome(number=left.pop(0), kind="failed", words=f"no answer in {PATIENCE:g} s")
                    break
                outcome = receiver.recv()
                left.remove(outcome.number)
                yield outcome
            else:
                process.join(PATIENCE)
        except EOFError:
            process.join()
            took = process.exitcode == -signal.SIGPROF
            words = f"more than {seconds:g} s" if took else f"the process died ({process.exitcode})"
            yield Outcome(number=left.pop(0), kind="failed", words=words)
        finally:
            if process.is_alive():
                process.kill()
                process.join()
            receiver.close()


def _server() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_MODULES))
    return context


# ---- in the worker ----


def _work(reader: Reader, numbers: Sequence[int], root: Path, limit_s: float, sender: Connection) -> None:
    _be_quiet()
    _use_one_thread()
    try:
        valid = _valid(reader, root)
    except BaseException:
        sender.send(traceback.format_exc())
        raise
    scratch = root / "scratch" / reader.name
    limit = _status("VmSize") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sender.send(_READY)
    for number in numbers:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(valid, scratch, symlinks=True)
        path, data = reader.damaged(valid, number)
        (scratch / path).write_bytes(data)
        sender.send(_read(reader, number, scratch, path, limit_s))
    shutil.rmtree(scratch, ignore_errors=True)


def _valid(reader: Reader, root: Path) -> Path:
    """The folder of valid files, made once."""
    valid = root / "valid" / reader.name
    if not valid.exists():
        partial = root / "partial" / reader.name
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        os.environ["MVTF_CACHE"], os.environ["MVTF_WEIGHTS"] = str(root / "cache"), str(root / "weights")
        reader.make(partial, root / "shared")
        valid.parent.mkdir(exist_ok=True)
        partial.rename(valid)
    return valid


def _read(reader: Reader, number: int, scratch: Path, path: Path, limit_s: float) -> Outcome:
    from mvtokenflow.base.errors import UserError

    os.environ["MVTF_CACHE"], os.environ["MVTF_WEIGHTS"] = str(scratch / "cache"), str(scratch / "weights")
    Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory starts anew
    before, began = _status("VmRSS"), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, limit_s)  # its signal ends the process, whatever it is at
    kind, words = "accepted", ""
    try:
        reader.read(scratch)
    except UserError as error:
        kind, words = "refused", str(error)
        if reader.names_file and path.name not in words and str(scratch) not in words:
            kind, words = "failed", f"the sentence names no file: {words}"
    except BaseException as error:
        kind, words = "failed", f"{_told(error)} in {_place(error)}"
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds, mib = time.process_time() - began, (_status("VmHWM") - before) / 2**20
    if number == 0 and kind == "refused":
        kind, words = "failed", f"the valid file is refused: {words}"
    return Outcome(number=number, kind=kind, words=words, seconds=seconds, mib=mib)  # type: ignore[arg-type]


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _place(error: BaseException) -> str:
    """The innermost line of the product."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and "tests" not in Path(frame.filename).parts
    ]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the test"


def _status(name: str) -> int:
    """A size of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def _be_quiet() -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(sink, stream)
    sys.stdout = sys.stderr = io.StringIO()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def _use_one_thread() -> None:
    """A forked process must not use the threads of the one it came from."""
    import numba
    import torch

    torch.set_num_threads(1)
    numba.set_num_threads(1)
    with suppress(RuntimeError):
        torch.set_num_interop_threads(1)
