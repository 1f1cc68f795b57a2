"""Pictures and clips for metrics: read once, hashed, resized by the protocol."""

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.damaged import read_arrays
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import digest, sha256_file
from mvtokenflow.datasets.scene import SURFACE_FORMS, TRUTH_FORMS
from mvtokenflow.eval.metrics.compute.resize import squash
from mvtokenflow.eval.metrics.spec import ClipPair, Picture, Pixels
from mvtokenflow.eval.score.preflight import ViewPair, read_reference

T = TypeVar("T")
FORMS = {**TRUTH_FORMS, **SURFACE_FORMS}
OFFERED = ("normal", "flow", "depth", "points")  # what a method may offer beside its pictures, in files


def read_picture(path: Path, size: int | None, composite: bool = False) -> Picture:
    """Read a picture at the protocol's size.

    Raises:
        DataError: the file is not an 8-bit RGB picture (or RGBA with `composite`).
    """
    pixels = read_reference(path, composite)
    return Picture(pixels if size is None else squash(pixels, (size, size)), sha256_file(path))


class ClipFiles(ClipPair):
    """The rendered and reference clips of a view, read when first needed.

    Attributes:
        pair: the files.
        known: results that depend on the reference alone, shared by the methods of a unit.
        own: results that depend on the rendering alone.
    """

    def __init__(self, pair: ViewPair, size: int | None, known: dict[Hashable, Any]) -> None:
        self.pair = pair
        self.size = size
        self.known = known
        self.own: dict[Hashable, Any] = {}

    @property
    def names(self) -> Sequence[int]:
        return self.pair.names

    def shared(self, key: Hashable, compute: Callable[[], T]) -> T:
        if key not in self.known:
            self.known[key] = compute()
        return cast(T, self.known[key])

    def kept(self, key: Hashable, compute: Callable[[], T]) -> T:
        if key not in self.own:
            self.own[key] = compute()
        return cast(T, self.own[key])

    @property
    def folder(self) -> Path:
        """Return the folder of rendered pictures; `<view>.normal.npz` and others are beside it."""
        return self.pair.prediction[0].parent

    def offers(self, kind: str) -> bool:
        return self._offered(kind) is not None

    def offered(self, count: int, kind: str) -> NDArray[Any]:
        path = self._offered(kind)
        assert path is not None  # the metric has asked `offers`
        return first_entries(path, count, kind)[0]

    def _offered(self, kind: str) -> Path | None:
        """Return the file of the method's own geometry of this view, where it offers some."""
        path = self.folder.parent / f"{self.pair.view}.{kind}.npz"
        return path if path.is_file() else None

    @property
    def has_truth(self) -> bool:
        return self.truth_file is not None

    @property
    def has_surface(self) -> bool:
        return self.pair.surface is not None and self.pair.gapless

    def surface(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        assert self.pair.surface is not None  # the metric has asked `has_surface`
        points, outside = first_entries(self.pair.surface(), count, "points", "outside")
        return points, outside.astype(bool)

    def truth(self, count: int, *names: str) -> list[NDArray[Any]]:
        path = self.truth_file
        assert path is not None  # the metric has asked `has_truth`
        return first_entries(path, count, *names)

    @property
    def truth_file(self) -> Path | None:
        """Return the file with exact geometry of the paired frames, or None."""
        return self.pair.truth if self.pair.gapless else None

    @cached_property
    def prediction_sha(self) -> str:
        """Compute a digest of the rendering: names and bytes of its pictures and of its geometry."""
        offered = [path for kind in OFFERED if (path := self._offered(kind)) is not None]
        return _digest_files([*self.pair.prediction, *offered])

    @cached_property
    def sha(self) -> str:
        """Compute a digest of everything that a clip metric can read."""
        # The exact surface follows from the object that the pictures show, and needs no digest of its own.
        truth = [] if self.truth_file is None else [self.truth_file]
        reference = self.shared("sha", lambda: _digest_files([*self.pair.reference, *truth]))
        return f"{self.prediction_sha}-{reference}"

    @cached_property
    def rendered(self) -> list[Pixels]:
        """Return the rendered pictures in their own size."""
        return [read_reference(path, composite=False) for path in self.pair.prediction]

    @property
    def reference(self) -> list[Pixels]:
        """Return the reference pictures in their own size, on white."""
        return self.shared(
            "pictures", lambda: [read_reference(path, self.pair.composite) for path in self.pair.reference]
        )

    def sized(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        """Return the pictures at the protocol's size."""
        return (
            list(pictures)
            if self.size is None
            else [squash(picture, (self.size, self.size)) for picture in pictures]
        )


def first_entries(path: Path, count: int, *names: str) -> list[NDArray[Any]]:
    """Return the first `count` entries of arrays of a file: a forced result may have fewer frames.

    Raises:
        DataError: they cannot be read, or are fewer.
    """
    forms = {name: FORMS[name] for name in names}
    found = read_arrays(path, forms, "write it again", f"holds no {' and '.join(names)}", first=count)
    arrays = [found[name] for name in names]
    if short := [name for name, array in zip(names, arrays, strict=True) if len(array) < count]:
        raise DataError(f"{path}: {short[0]} has fewer than {count} entries; write it again")
    return [array.astype(np.float32) if array.dtype.kind == "f" else array for array in arrays]


def _digest_files(paths: Sequence[Path]) -> str:
    return digest((path.name, sha256_file(path).encode()) for path in paths)
