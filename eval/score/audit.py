"""Measures recorded values again with the libraries that the field uses.

The metrics of this package are its own code, made exact and fast. Here random frames are measured again by
`libraries`, those of others, and the largest difference of each metric is compared with a tolerance.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import frame_files, frame_numbers
from mvtokenflow.base.progress import Progress
from mvtokenflow.datasets.scene import Dataset, Scene
from mvtokenflow.eval.records.aggregate import FORCED
from mvtokenflow.eval.records.rows import Row, Run, load_runs
from mvtokenflow.eval.records.summary import current_rows
from mvtokenflow.eval.score.libraries import Libraries, UncheckedError
from mvtokenflow.eval.score.preflight import ViewPair

Pictures = tuple[Path, Path]  # the rendering and its reference

# By metric, more than the libraries' arithmetic explains. The largest differences of 60 frames of nine rows of
# toy4d at 128 px and of 24 frames at 512 px: PSNR 3.3e-6 dB (torchmetrics has the range in float32; 7e-15 for
# scikit-image), SSIM 4.9e-13 (all float64), LPIPS 7.9e-8 (float32 sums in another order, another epsilon below
# the root). CLIP: none with a random network. Ten and more times as much is for other processors and a GPU.
TOLERANCES: Mapping[str, float] = {"psnr": 5e-5, "ssim": 1e-10, "lpips": 5e-6, "clip": 1e-5}

_REASONS = {
    "clip_views": "a mean over pictures of several views; the audit looks at single frames",
    "clip_t": "a value of two frames; the audit looks at single frames",
    "clip_toy": "its network is this project's own; no library has it",
    "clip_toy_views": "its network is this project's own; no library has it",
    "fvd": "a number of sets of clips; no library here has its network",
    "fvd_c4d": "defined by Consistent4D's script; no library has it",
}
_NO_LIBRARY = "no library of the field measures it"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One frame of one result, with its recorded values that count.

    Attributes:
        place: where the record is, for people, e.g. "runs/toy4d/white/fish-01/seed0-1a2b/rows.jsonl".
        rows: its records that `TOLERANCES` names; all of one object, view and frame.
        locate: finds the two pictures; raises a DataError where they are gone.
    """

    place: str
    rows: tuple[Row, ...]
    locate: Callable[[Row], Pictures]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The largest difference between the recorded values of a metric and one library's.

    Attributes:
        library: with its version.
        frames: how many were compared.
        largest: absolute difference; infinite where one of both values is.
        tolerance: of `TOLERANCES`.
        beyond: a sentence for each record that differs by more.
    """

    metric: str
    library: str
    frames: int
    largest: float
    tolerance: float
    beyond: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Results of the libraries on a sample of frames.

    Attributes:
        frames: size of the sample.
        known: frames it was drawn from.
        differences: by metric and library.
        unchecked: metrics that are on record and no library measured, with the reason.
    """

    frames: int
    known: int
    differences: tuple[Difference, ...]
    unchecked: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """Return whether every value is within its tolerance."""
        return not any(difference.beyond for difference in self.differences)

    def to_json(self) -> dict[str, Any]:
        """Return one JSON object; an infinite difference is the text "inf"."""
        found = [asdict(difference) for difference in self.differences]
        for entry in found:
            entry["largest"] = "inf" if entry["largest"] == float("inf") else entry["largest"]
            entry["beyond"] = list(entry["beyond"])
        return {
            "passed": self.passed,
            "frames": self.frames,
            "known": self.known,
            "differences": found,
            "unchecked": dict(self.unchecked),
        }


# ---- what there is ----


def cells_of_runs(root: Path, dataset: Dataset, protocol: str | None = None) -> tuple[list[Cell], set[str]]:
    """Collect frames with values of all finished runs of `dataset` below `root`, and all their metrics.

    Args:
        protocol: only values under the protocol of this name; None for all.

    Raises:
        DataError: no such folder or no scored run of the dataset, or a record is damaged.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name the folder of runs, as `mvtf-eval table1 --runs` does")
    scenes: dict[str, Scene] = {}
    cells: list[Cell] = []
    metrics: set[str] = set()
    for run in load_runs(root):
        if run.manifest.dataset == dataset.name:
            rows = list(current_rows(run, protocol))
            metrics |= {row.metric for row in rows} | {features.metric for features in run.features}
            cells += _cells(rows, f"{run.folder / 'rows.jsonl'}", partial(_of_run, run, dataset, scenes))
    if not metrics:
        under = f" under {protocol}" if protocol else ""
        raise DataError(
            f"{root}: holds no run of {dataset.name} that was scored{under}; make a table there first, or "
            "name its dataset with --dataset"
        )
    return cells, metrics


def cells_of_pairs(rows: Sequence[Row], pairs: Sequence[ViewPair], folder: Path) -> tuple[list[Cell], set[str]]:
    """Collect frames with values of a scored folder, whose pictures are already paired, and all metrics."""
    pictures: dict[tuple[str, str, int], Pictures] = {}
    for pair in pairs:
        for number, ours, theirs in zip(pair.names, pair.prediction, pair.reference, strict=False):
            pictures[pair.object, pair.view, number] = ours, theirs

    def locate(row: Row) -> Pictures:
        assert row.frame is not None  # of cells
        return pictures[row.object, row.view, row.frame]

    return _cells(rows, f"{folder / 'rows.jsonl'}", locate), {row.metric for row in rows}


def _cells(rows: Sequence[Row], place: str, locate: Callable[[Row], Pictures]) -> list[Cell]:
    frames: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        if row.frame is not None and row.metric in TOLERANCES:
            frames.setdefault((row.object, row.view, row.frame), []).append(row)
    return [
        Cell(place=place, rows=tuple(sorted(frames[key], key=lambda row: (row.metric, row.key))), locate=locate)
        for key in sorted(frames)
    ]


def _of_run(run: Run, dataset: Dataset, scenes: dict[str, Scene], row: Row) -> Pictures:
    """Return the pictures of a row: paired by position, for a forced prediction by number."""
    name = run.manifest.scene
    if name not in scenes:
        scenes[name] = dataset.scene(name)
    scene = scenes[name]
    view = next((view for view in scene.all_views() if view.name == row.view), None)
    theirs, numbers = ([], []) if view is None else (list(view.frames), view.frame_numbers())
    ours = frame_files(run.folder / "pred" / row.view)
    if row.frame in numbers:
        reference = theirs[numbers.index(row.frame)]
        by_number = dict(zip(frame_numbers(ours), ours, strict=True))
        by_position = dict(zip(numbers, ours, strict=False))
        found = (by_number if FORCED in row.signature.split("|") else by_position).get(row.frame)
        if found is not None:
            return found, reference
    raise DataError(
        f"{run.folder}: {row.view}, frame {row.frame} is on record, but its pictures are gone; score it again"
    )


# ---- the audit ----


def audit(
    cells: Sequence[Cell],
    metrics: set[str],
    sample: int,
    seed: int = 0,
    weights: Mapping[str, Path] | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Measure `sample` random frames again and compare the values with the recorded ones.

    Args:
        cells: in an order that does not depend on the logs; the draw depends on it, on `sample` and on `seed`.
        metrics: all with a record.
        sample: how many frames; all if there are fewer.
        weights: local files or folders by name in the ledger.
        progress: called with ("audit", done, total).

    Raises:
        DataError: a picture is gone or damaged, or there are no frames.
    """
    if not cells:
        raise DataError(f"none of {', '.join(sorted(TOLERANCES))} is on record for any frame; nothing to check")
    chosen = random.Random(seed).sample(cells, min(sample, len(cells)))
    libraries = Libraries(weights or {})
    found: dict[tuple[str, str], list[tuple[float, str]]] = {}
    unchecked = {name: _REASONS.get(name, _NO_LIBRARY) for name in sorted(metrics - TOLERANCES.keys())}
    for done, cell in enumerate(chosen, 1):
        for row in cell.rows:
            pictures = cell.locate(row)
            try:
                values = libraries.measure(row, *pictures)
            except UncheckedError as reason:
                unchecked[row.metric] = str(reason)
                continue
            for library, value in values.items():
                gap = 0.0 if value == row.value else abs(value - row.value)
                found.setdefault((row.metric, library), []).append((gap, _sentence(cell, row, library, value)))
        if progress is not None:
            progress("audit", done, len(chosen))
    differences = tuple(
        Difference(
            metric=metric,
            library=library,
            frames=len(gaps),
            largest=max(gap for gap, _ in gaps),
            tolerance=TOLERANCES[metric],
            beyond=tuple(words for gap, words in gaps if not gap <= TOLERANCES[metric]),
        )
        for (metric, library), gaps in sorted(found.items())
    )
    return Audit(frames=len(chosen), known=len(cells), differences=differences, unchecked=unchecked)


def _sentence(cell: Cell, row: Row, library: str, value: float) -> str:
    return (
        f"{cell.place}: {row.metric} of {row.object}/{row.view}, frame {row.frame} is {row.value!r} on record "
        f"and {value!r} by {library} (key {row.key[:12]})"
    )


def lines_of(result: Audit) -> Iterator[str]:
    """Return the result of an audit as sentences."""
    yield f"{result.frames} of {result.known} frames measured again"
    for d in result.differences:
        verdict = "ok" if not d.beyond else f"{len(d.beyond)} BEYOND"
        yield (
            f"{d.metric}, {d.library}: largest difference {d.largest:.3g} over {d.frames} frames, "
            f"tolerance {d.tolerance:g}: {verdict}"
        )
    for name, reason in result.unchecked.items():
        yield f"{name}: not checked: {reason}"
