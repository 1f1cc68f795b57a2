"""How far a run is: names of its stages, the time left, and the file from which its page shows both.

progress.json       of a run that is not finished: stage, number of stages, seconds left, whether it is at work,
                    and when it was written, in seconds since 1970
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvtokenflow.base.files import write_json
from mvtokenflow.base.progress import Progress
from mvtokenflow.method.artefacts import TITLES
from mvtokenflow.method.config import SMALL_PRIOR, MethodConfig

PROGRESS_FILE = "progress.json"
EXPORTS = "Videos and files"
_EVERY = 5.0  # seconds between notes
_SETTLED = 3.0  # seconds after which the time left is estimated
_DENOISING = 0.9  # share of a pass's time; decoding takes the rest
# CPU seconds of a generated frame in a pass, of a step of a fit, and of a frame's videos, with the small prior
# in runs of 16 and 32 frames. Only their ratios count, since the estimate scales them by what was measured so
# far. A large prior's passes take 27 of the paper's 120 minutes (docs/method.md, "What all frames cost").
_FRAME, _LARGE_FRAME, _VIDEOS = 1.5, 20.0, 0.2
_STEP = {"static": 0.1, "coarse": 0.17, "refine": 0.15}


@dataclass(kw_only=True)
class Following:
    """Follows a run's progress callbacks through its stages.

    Attributes:
        frames: of the clip.
        workdir: of the stages; what it holds already is not computed again.
        progress: called with (name of the stage, done, total).
        note: called with the state of progress.json when a stage begins and every few seconds.
        clock: seconds.
    """

    config: MethodConfig
    frames: int
    workdir: Path
    progress: Progress | None = None
    note: Callable[[dict[str, Any]], None] = lambda state: None
    clock: Callable[[], float] = time.monotonic
    _stage: str = ""
    _began: float | None = None
    _noted: float = 0.0
    _worked: dict[str, float] = field(default_factory=dict)  # shares of the stages that are finished
    _found: dict[str, float] = field(default_factory=dict)  # those that an earlier process had finished

    @property
    def stages(self) -> list[str]:
        """Names of the stages of this run, in order."""
        config = self.config
        second = ["regenerated"] if config.regeneration and config.token_propagation else []
        refined = [*second, "refine"] if config.refinement else []
        return ["views", "static", "coarse", *refined, "exports"]

    def report(self, label: str, done: int, total: int) -> None:
        """Take the progress (stage, done, total) of a part of a stage, and pass it on by the stage's name."""
        stage, begins = self._stage_of(label), False
        if stage != self._stage:
            self._stage, begins = stage, True
        if label != "segment":  # is no part of the first pass's work
            self._note_work(label, stage, done / max(total, 1))
        now = self.clock()
        if begins or now - self._noted >= _EVERY:
            self._noted = now
            self.note(self.state(at_work=True))
        if self.progress is not None:
            self.progress(self._named(label), done, total)

    def _note_work(self, label: str, stage: str, share: float) -> None:
        if self._began is None:
            self._began = self.clock()
        if label in ("denoise", "decode"):
            share = _DENOISING * share if label == "denoise" else _DENOISING + (1 - _DENOISING) * share
        elif stage == "exports":
            share = 0.0
        self._found.setdefault(stage, share)
        self._worked[stage] = max(self._worked.get(stage, 0.0), share)

    def _weights(self) -> dict[str, float]:
        """Return what the stages take in proportion."""
        small = self.config.prior == SMALL_PRIOR or self.config.prior.endswith(".safetensors")
        generated = -(-(self.frames - 1) // self.config.stride) + 1
        views = (_FRAME if small else _LARGE_FRAME) * generated
        fits = self.config.reconstruction
        return {
            "views": views,
            "static": _STEP["static"] * fits.static.iterations,
            "coarse": _STEP["coarse"] * fits.coarse.iterations,
            "regenerated": views,
            "refine": _STEP["refine"] * fits.refine.iterations,
            "exports": _VIDEOS * self.frames,
        }

    def state(self, *, at_work: bool) -> dict[str, Any]:
        """Return what progress.json holds."""
        stages = self.stages
        number = stages.index(self._stage) + 1 if self._stage in stages else 1
        return {
            "stage": number,
            "stages": len(stages),
            "title": self._title(self._stage or "views"),
            "seconds_left": self._seconds_left() if at_work else None,
            "at_work": at_work,
        }

    def _seconds_left(self) -> int | None:
        """Estimate the seconds left from those that the work of this process took."""
        spent = 0.0 if self._began is None else self.clock() - self._began
        weights, stages = self._weights(), self.stages
        done = sum(weights[stage] * (share - self._found[stage]) for stage, share in self._worked.items())
        if spent < _SETTLED or done <= 0:
            return None
        coming = stages[stages.index(self._stage) :]
        left = sum(weights[stage] * (1 - self._worked.get(stage, 0.0)) for stage in coming)
        return round(spent / done * left)

    def _stage_of(self, label: str) -> str:
        if label in ("segment", "denoise", "decode"):
            again = self._stage in ("static", "coarse", "regenerated") or (
                label != "segment" and (self.workdir / "views" / "cameras.json").is_file()
            )
            return "regenerated" if again else "views"
        return label if label in ("static", "coarse", "refine") else "exports"

    def _title(self, stage: str) -> str:
        return TITLES.get(stage, EXPORTS)

    def _named(self, label: str) -> str:
        """Return what a terminal calls a part: "2/6 Static field"."""
        stages = self.stages
        place = f"{stages.index(self._stage) + 1}/{len(stages)} {self._title(self._stage)}"
        return (
            f"{place}: {label}"
            if label in ("segment", "denoise", "decode") or self._stage == "exports"
            else place
        )


@contextmanager
def unfinished(out: Path, following: Following) -> Iterator[None]:
    """Keep progress.json while the block runs; it stays, as of a run that stopped, if the block fails."""
    path = out / PROGRESS_FILE
    try:
        yield
    except BaseException:
        following.note(following.state(at_work=False))
        raise
    path.unlink(missing_ok=True)


def note_in(out: Path, then: Callable[[], object]) -> Callable[[dict[str, Any]], None]:
    """Return what writes a state to progress.json in `out`, and then calls `then`, which draws it."""

    def note(state: dict[str, Any]) -> None:
        write_json(out / PROGRESS_FILE, state | {"written": round(time.time())})
        then()

    return note
