"""Rows of the method that can be killed in the middle of every stage, in seconds.

Steps are few and checkpoints frequent. If the file that `TINY_KILL` names is there, it holds a number n, and
the process dies as by `kill -9` just before it gives a file or folder its name for the n-th time. Imported by
name ("tinymethod:FULL").
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from tinynative import settings

from mvtokenflow.baselines.mvtokenflow import Native
from mvtokenflow.splat import trainer
from mvtokenflow.splat.training_config import StageConfig

NAMINGS = ("os.rename", "os.link")  # what other processes can see changes by these and by appended lines alone
STEPS, CHECKPOINT_EVERY = 9, 4

for _train in (trainer.reconstruct, trainer.refine):
    assert _train.__kwdefaults__ is not None
    _train.__kwdefaults__["checkpoint_every"] = CHECKPOINT_EVERY  # else no stage here would have one

_few, _tiny = StageConfig(iterations=STEPS), settings()
_base = replace(
    _tiny, reconstruction=replace(_tiny.reconstruction, static=_few, coarse=_few, refine=_few, points=100)
)
FULL = Native(name="full", base=_base)
COARSE = Native(name="coarse", left_out=("refinement",), base=_base)


def _die_at(count: int) -> None:
    seen = 0

    def watch(event: str, arguments: object) -> None:
        nonlocal seen
        if event in NAMINGS:
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


if "TINY_KILL" in os.environ and Path(os.environ["TINY_KILL"]).exists():
    _die_at(int(Path(os.environ["TINY_KILL"]).read_text()))
