"""Cells of a table before ranking: the values of some runs, what they cover, and how they were measured."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mvtokenflow.eval.metrics.spec import MetricSpec
from mvtokenflow.eval.protocols import Protocol
from mvtokenflow.eval.records.aggregate import (
    FORCED,
    ObjectValue,
    clip_lengths,
    kind_of,
    mean,
    object_means,
    object_values,
    signature_of,
)
from mvtokenflow.eval.records.rows import Run
from mvtokenflow.eval.tables.specs import ColumnSpec, Cost

T = TypeVar("T")

ELSEWHERE = ("released-renderings", "upstream-run")  # of these rows only the import was timed
Extent = frozenset[tuple[str, int | str]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One cell before ranking.

    Attributes:
        values: by scene, averaged over seeds; empty for a number that only a set of scenes has.
        extent: by scene, which views of how many frames or clips are behind it.
        kinds: signatures of the rows behind it, without lengths and marks of force; of a cost, its devices.
        runs: those behind it.
    """

    values: Mapping[str, float]
    extent: Mapping[str, Extent]
    kinds: frozenset[str]
    signature: str
    total: float
    runs: Sequence[Run]

    def pairs(self) -> frozenset[tuple[str, int]]:
        """Return the scenes and seeds behind the cell."""
        return frozenset((run.manifest.scene, run.manifest.seed) for run in self.runs)

    def forced(self) -> bool:
        """Return whether a row behind the cell was scored although a strict pre-flight refused it."""
        return f"|{FORCED}" in self.signature


def is_measured(column: ColumnSpec, protocol: Protocol) -> bool:
    """Return whether the protocol measures the column's metric on the column's views."""
    if isinstance(column.shows, Cost):
        return True
    places = {p for spec in protocol.metrics if spec.key == column.metric for p in protocol.places_of(spec)}
    return bool(places) if column.place is None else column.place in places


def measure(column: ColumnSpec, spec: MetricSpec | None, runs: Sequence[Run]) -> Measured | None:
    """Compute the cell of some runs; `spec` is the metric as the protocol measures it, None of a cost."""
    if isinstance(column.shows, Cost):
        timed = [r for r in runs if r.manifest.stages and r.manifest.source not in ELSEWHERE]
        return _measure_cost(column.shows, timed)
    assert spec is not None  # checked by `is_measured`
    if spec.is_of_set:
        return _measure_set(column, spec, runs)
    counts_frames = spec.needs != "clip"
    found: dict[tuple[str, int], ObjectValue] = {}
    for run in runs:
        values_here = (
            object_values(run.rows, column.metric, column.place)
            if run.means is None
            else object_means(run.means.get(column.metric, {}), column.place)
        )
        if run.manifest.scene in values_here:
            found[run.manifest.scene, run.manifest.seed] = values_here[run.manifest.scene]
    if not found:
        return None
    by_scene = _over_seeds({key: value.value for key, value in found.items()})
    over = f"objects:{len(by_scene)}|seeds:{len({seed for _, seed in found})}"
    extents: dict[Extent, Extent] = {}  # the same of nearly all scenes, held once
    extent = {}
    for scene, values in _by_scene(found).items():
        whole: Extent = frozenset().union(*(_extent(value, counts_frames) for value in values))
        extent[scene] = extents.setdefault(whole, whole)
    return Measured(
        values=by_scene,
        extent=extent,
        kinds=frozenset(_kind(signature) for value in found.values() for signature in value.signatures),
        signature=signature_of({f"{scene}/{seed}": value for (scene, seed), value in found.items()}, over),
        total=mean(list(by_scene.values())),
        runs=[run for run in runs if (run.manifest.scene, run.manifest.seed) in found],
    )


def mixed(cells: Sequence[Measured]) -> bool:
    """Return whether rows were measured differently, or on other views or frames of a shared scene.

    A row that lacks scenes is no mixture: it is marked and not ranked.
    """
    if len({kind for cell in cells for kind in cell.kinds}) > 1:
        return True
    extents: dict[str, set[Extent]] = {}
    for cell in cells:
        for scene, extent in cell.extent.items():
            extents.setdefault(scene, set()).add(extent)
            if len({view for view, _ in extent}) < len(extent):
                return True  # seeds of different length
    return any(len(different) > 1 for different in extents.values())


def _kind(signature: str) -> str:
    """Return a row's signature without the length of its clip and without the mark of force."""
    return kind_of(signature).removesuffix(f"|{FORCED}")


def _extent(value: ObjectValue, counts_frames: bool) -> Extent:
    clips = {length for signature in value.signatures for length in clip_lengths(signature)}
    lengths: list[int | str] = [*sorted(clips)]
    return frozenset(
        (view, length)
        for view, frames in value.frames.items()
        for length in lengths or [frames if counts_frames else 0]
    )


def _over_seeds(values: Mapping[tuple[str, int], float]) -> dict[str, float]:
    return {scene: mean(of_seeds) for scene, of_seeds in _by_scene(values).items()}


def _by_scene(values: Mapping[tuple[str, int], T]) -> dict[str, list[T]]:
    """Group values of scenes and seeds by scene, both in order."""
    found: dict[str, list[T]] = {}
    for scene, seed in sorted(values):
        found.setdefault(scene, []).append(values[scene, seed])
    return found


def _measure_cost(cost: Cost, runs: Sequence[Run]) -> Measured | None:
    if not runs:
        return None
    values = _over_seeds({(r.manifest.scene, r.manifest.seed): cost.of(r) for r in runs})
    devices = sorted({str(r.manifest.pedigree.get("device", "unknown")) for r in runs})
    return Measured(
        values=values,
        extent={scene: frozenset() for scene in values},
        kinds=frozenset(f"{cost.key}|device:{device}" for device in devices),
        signature=f"{cost.key}|device:{','.join(devices)}|scenes:{len(values)}",
        total=mean(list(values.values())),
        runs=runs,
    )


def _measure_set(column: ColumnSpec, spec: MetricSpec, runs: Sequence[Run]) -> Measured | None:
    """Compute a metric of sets, such as FVD: one number per method over all clips of all scenes and views."""
    found = {
        run.folder: [
            f
            for f in run.features
            if f.metric == column.metric and column.place is not None and f.view in column.place
        ]
        for run in runs
    }
    features = [feature for of_run in found.values() for feature in of_run]
    if len(features) < 2:
        return None
    features.sort(key=lambda f: (f.object, f.view, f.clip, f.key))
    total = spec.total(
        np.array([f.pred for f in features], np.float64), np.array([f.reference for f in features], np.float64)
    )
    counts = Counter((f.object, f.view) for f in features)
    extent: dict[str, set[tuple[str, int | str]]] = {}
    for (name, view), count in sorted(counts.items()):
        extent.setdefault(name, set()).add((view, count))
    signatures = sorted({f.signature for f in features})
    return Measured(
        values={},
        extent={scene: frozenset(places) for scene, places in extent.items()},
        kinds=frozenset(map(_kind, signatures)),
        signature=" + ".join(f"{signature}|clips:{len(features)}" for signature in signatures),
        total=total,
        runs=[run for run in runs if found[run.folder]],
    )
