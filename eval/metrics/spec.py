"""The base class of all metrics, and the data that a metric receives.

A metric is one file in this folder, or anywhere: a subclass of `MetricSpec` that states what it `needs` and has
the method of that name: `measure_frame`, `measure_clip`, `measure_views`, `measure_set` or `measure_matrix`.
Whatever is slow to import (torch, numba, scipy, OpenCV) is imported inside these methods, so that protocols can
be listed at once.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Better = Literal["higher", "lower", "none"]
Needs = Literal["frame", "clip", "views", "set", "matrix"]
ViewRole = Literal["novel", "input"]
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Feature = Sequence[float]
T = TypeVar("T")

BOTH: tuple[ViewRole, ...] = ("novel", "input")


class Networks:
    """The networks of one process, each loaded when it is first needed.

    Attributes:
        weights: local files or folders by name in the weights ledger.
        device: torch device.
    """

    def __init__(self, weights: Mapping[str, Path], device: str = "cpu") -> None:
        self.weights = weights
        self.device = device
        self._loaded: dict[Hashable, Any] = {}

    def get(self, name: Hashable, load: Callable[[], T]) -> T:
        """Return the result of `load`, which is called once for each `name`."""
        if name not in self._loaded:
            self._loaded[name] = load()
        return cast(T, self._loaded[name])


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture at the protocol's size.

    Attributes:
        pixels: (H, W, 3) uint8, on white.
        sha: sha256 of its file.
    """

    pixels: Pixels
    sha: str = ""
    _kept: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def kept(self, key: Hashable, compute: Callable[[Pixels], T]) -> T:
        """Return what `compute` derives from the pixels alone; it is called once for each `key`.

        A reference is compared with the renderings of several methods: its features are computed once.
        """
        if key not in self._kept:
            self._kept[key] = compute(self.pixels)
        return cast(T, self._kept[key])


class ClipPair(Protocol):
    """The data of one view over time for a metric: the rendering, its reference, exact geometry.

    Frames are in temporal order. Frame i of the rendering belongs to frame i of the reference.
    """

    @property
    def names(self) -> Sequence[int]:
        """Return the numbers of the frames that both sides have."""
        ...

    @property
    def rendered(self) -> Sequence[Pixels]:
        """Return the rendered pictures in their own size, (H, W, 3) uint8; as many as `names`."""
        ...

    @property
    def reference(self) -> Sequence[Pixels]:
        """Return all reference pictures in their own size, on white; the first `len(names)` are paired."""
        ...

    def sized(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        """Return the pictures at the protocol's size."""
        ...

    @property
    def has_truth(self) -> bool:
        """Return whether the dataset has exact geometry that fits the paired frames."""
        ...

    def truth(self, count: int, *names: str) -> list[NDArray[Any]]:
        """Return the first `count` entries of exact geometry, as named in `datasets.scene.GroundTruth`.

        Raises:
            DataError: they cannot be read, or are fewer.
        """
        ...

    def offers(self, kind: str) -> bool:
        """Return whether the method has its own "flow", "normal", "depth" or "points" of this view."""
        ...

    def offered(self, count: int, kind: str) -> NDArray[Any]:
        """Return the first `count` entries of the method's own geometry, as in `baselines.method.Rendering`.

        Raises:
            DataError: they cannot be read, or are fewer.
        """
        ...

    @property
    def has_surface(self) -> bool:
        """Return whether the dataset has points on the exact surface; of the input view alone."""
        ...

    def surface(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return points (count, N, 3) that follow the exact surface, and which lie inside no other part.

        Raises:
            DataError: they cannot be read, or are of fewer frames.
        """
        ...

    def shared(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what `compute` derives from the reference; called once for all methods of the view."""
        ...

    def kept(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what `compute` derives from the rendering; called once for all metrics."""
        ...


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One metric of a protocol, and how it is measured.

    A subclass adds the settings that can move a value as fields; each of them is in the signature by itself.

    Attributes:
        key: name of the metric in records and JSON.
        version: of the code for it; raised whenever a value can change.
        views: on which views it is measured.
        weights: name in the weights ledger, or None.
        needs: "frame" (a value per frame), "clip" (values of a view over time), "views" (a value per time, from
            all views of an object, or one of them all), "set" (one number over the clips of all objects) or
            "matrix" (one number over clips of all objects that run through views and times).
        resized: it looks at pictures of the protocol's size; else at pictures as they are.
        better: which values are better, or "none".
        digits: decimals that are printed.
        unit: printed behind a number, with its space.
        floor: the smallest change worth failing a build over; without one no regression baseline holds it.
        table_role: of a metric between views, whose tables get its column: those on the input view or on novel
            ones.
        column: title of the column that tables 1 to 3 get for it where they have none, or None for no column.
    """

    needs: ClassVar[Needs] = "frame"
    table_role: ClassVar[ViewRole] = "input"
    resized: ClassVar[bool] = True
    better: ClassVar[Better] = "none"
    digits: ClassVar[int] = 4
    unit: ClassVar[str] = ""
    floor: ClassVar[float | None] = None
    column: ClassVar[str | None] = None
    key: str
    version: int = 1
    views: tuple[ViewRole, ...] = ("novel",)
    weights: str | None = None

    @property
    def spans_views(self) -> bool:
        """Return whether it is measured on all views of an object together."""
        return self.needs in ("views", "matrix")

    @property
    def is_of_set(self) -> bool:
        """Return whether it is one number over the clips of all objects, recorded as features."""
        return self.needs in ("set", "matrix")

    def signature(self) -> str:
        """Return all fields that can change a value, e.g. `lpips|v:1|net:vgg|scale:-1..1`."""
        hidden = {"key", "version", "views", "weights"}
        parts = [
            f"{f.name.replace('_', '-')}:{getattr(self, f.name)}" for f in fields(self) if f.name not in hidden
        ]
        return "|".join([self.key, f"v:{self.version}", *parts])

    def why_missing(self) -> str:
        """Return why a metric has no value although everything to measure it was there."""
        return "nothing to measure it on: the view was not rendered, has no reference, or is too short"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        """Return the frames with a value in a view of `frames`; [None] for one value per clip."""
        return [None] if self.is_of_set else frames

    def can_measure(self, clip: ClipPair) -> bool:
        """Return whether scene and method offer the inputs of `measure_clip` or `measure_set`."""
        return True

    def measure_frame(self, rendering: Picture, reference: Picture, networks: Networks) -> float:
        """Measure one rendered picture against its reference; for a metric that needs a "frame".

        Raises:
            DataError: the metric is not defined for these pictures.
        """
        raise self._lacks("measure_frame")

    def measure_clip(self, clip: ClipPair, networks: Networks) -> Sequence[float | None]:
        """Measure a value for each of `moments(clip.names)`; None where nothing visible can be measured."""
        raise self._lacks("measure_clip")

    def measure_views(self, clips: Sequence[ClipPair], networks: Networks) -> Sequence[float]:
        """Measure a value for each of `moments`, from all views, the input first; all have the same frames."""
        raise self._lacks("measure_views")

    def measure_matrix(
        self, clips: Sequence[ClipPair], networks: Networks
    ) -> Sequence[tuple[Feature, Feature]]:
        """Compute features (rendering, reference) of each clip through the views of an object, for `total`."""
        raise self._lacks("measure_matrix")

    def clips_of_matrix(self, views: int, times: int) -> int:
        """Return the number of clips that `measure_matrix` makes of so many views and times."""
        raise self._lacks("clips_of_matrix")

    def measure_set(self, clip: ClipPair, networks: Networks) -> Sequence[tuple[Feature, Feature]]:
        """Compute features (rendering, reference) of each short clip of a view, for `total`."""
        raise self._lacks("measure_set")

    def clips_of(self, frames: int) -> int:
        """Return the number of short clips that `measure_set` makes of a view with so many frames."""
        raise self._lacks("clips_of")

    def total(self, rendered: Floats, reference: Floats) -> float:
        """Compute the number of a set from the features (clips, D) of both sides, in one order."""
        raise self._lacks("total")

    def _lacks(self, method: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} needs a {self.needs} and has no {method}")


def present(where: NDArray[Any], values: Floats) -> list[float | None]:
    """Return the values, None where `where` is zero or False."""
    return [float(value) if there else None for there, value in zip(where, values, strict=True)]


def unit_range(pictures: Sequence[Pixels]) -> NDArray[np.float32]:
    """Convert pictures of one size to float32 (T, H, W, 3) in [0, 1]."""
    return np.divide(np.stack(pictures), 255, dtype=np.float32)
