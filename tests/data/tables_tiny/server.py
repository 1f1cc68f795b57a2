"""Runs `mvtf-eval` command lines in fresh processes at the price of one import.

`Server` starts this file as a process that scores once, which imports and loads nearly everything, and forks a
child per command line; the child can be killed like any other process. The child's stdout and stderr are files.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from itertools import product
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory
from types import TracebackType

FORKED = {"OMP_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue"}  # OpenMP does not survive a fork
VIEWS = ("input", "eval_0", "eval_1", "eval_2", "eval_3")


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: killed by that signal) and what it printed."""

    code: int
    out: str
    err: str


class Server:
    """Use as a context manager; one command at a time.

    `modules` are imported once as well, before the first command.
    """

    def __init__(self, folder: Path, environment: dict[str, str], modules: Sequence[str] = ()) -> None:
        here = str(Path(__file__).parent)
        paths = f"{here}{os.pathsep}{os.environ['PYTHONPATH']}" if os.environ.get("PYTHONPATH") else here
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._process = Popen(
            [sys.executable, __file__, *modules],
            stdin=PIPE,
            stdout=PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, **FORKED, **environment, "PYTHONPATH": paths},
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def start(self, *arguments: object) -> int:
        """Begin `mvtf-eval arguments`; its pid."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(a) for a in arguments]) + "\n")
        self._process.stdin.flush()
        return self._number()

    def wait(self) -> Ended:
        """The end of what was started."""
        code = self._number()
        out, err = ((self._folder / f"last.{name}").read_text() for name in ("out", "err"))
        return Ended(code=code, out=out, err=err)

    def run(self, *arguments: object) -> Ended:
        self.start(*arguments)
        return self.wait()

    def _number(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


def _serve() -> None:
    os.fsync = lambda fd: None  # children are killed, and no machine loses its power
    for name in sys.argv[1:]:
        import_module(name)
    with TemporaryDirectory() as folder:
        _score(Path(folder))
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _score(folder: Path) -> None:
    """Score noise: what a command imports and loads compiled is then there for the children."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    for side, view, frame in product(("pred", "gt"), VIEWS, range(2)):
        place = folder / side / "noise" / view / f"{frame}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise + np.uint8(frame)).save(place)
    sides = [str(folder / "pred"), "--gt", str(folder / "gt"), "--protocol", "toy4d-v1", "--force"]
    printed = StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        code = _run(["score", *sides, "--record", str(folder / "record"), "--jobs", "1", "--json"])
    assert code == 0, printed.getvalue()


def _become(arguments: list[str]) -> None:
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"last.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    try:
        code = _run(arguments)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(arguments: list[str]) -> int:
    from mvtokenflow.cli import mvtf_eval as cli

    sys.argv = ["mvtf-eval", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


if __name__ == "__main__":
    _serve()
