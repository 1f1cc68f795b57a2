"""Pictures and clips as the evaluators see them: read once, digested, resized by the protocol."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.files import digest, sha256_file
from mvtokenflow.eval.metrics.resize import squash
from mvtokenflow.eval.score.preflight import ViewPair, read_reference

Pixels = NDArray[np.uint8]


class Picture:
    """One picture at the protocol's size; `cache` keeps what metrics derive from it alone.

    Attributes:
        pixels: (H, W, 3) uint8.
        sha: sha256 of the file.
    """

    def __init__(self, pixels: Pixels, sha: str) -> None:
        self.pixels = pixels
        self.sha = sha
        self.cache: dict[Any, Any] = {}

    @classmethod
    def read(cls, path: Path, size: int | None, composite: bool = False) -> "Picture":
        """Raises DataError where the file is not an 8-bit RGB picture (or RGBA with `composite`)."""
        pixels = read_reference(path, composite)
        return cls(pixels if size is None else squash(pixels, (size, size)), sha256_file(path))


class ClipPair:
    """A view's rendered and reference clips, read when first needed.

    Attributes:
        pair: the files.
        truth: folder with exact geometry, or None.
        shared: results that depend on the reference alone, shared by the methods of a unit.
    """

    def __init__(self, pair: ViewPair, size: int | None, truth: Path | None, shared: dict[str, Any]) -> None:
        self.pair = pair
        self.size = size
        self.shared = shared
        self._truth = truth

    @property
    def folder(self) -> Path:
        """Folder of the rendered pictures; `normal.npz` and `flow.npz` lie beside it as `<view>.<kind>.npz`."""
        return self.pair.prediction[0].parent

    def offered(self, kind: str) -> Path | None:
        """The method's own normals or flow of this view, where it offers them."""
        path = self.folder.parent / f"{self.pair.view}.{kind}.npz"
        return path if path.is_file() else None

    @property
    def truth(self) -> Path | None:
        """The file with exact geometry of this view, from the reference's first frame on, or None."""
        if self._truth is None or not self.pair.gapless:
            return None
        path = self._truth / f"{self.pair.view}.npz"
        return path if path.is_file() else None

    @cached_property
    def prediction_sha(self) -> str:
        """Digest of the rendering: every picture's name and bytes, and what the method offers beside them."""
        offered = [path for kind in ("normal", "flow") if (path := self.offered(kind)) is not None]
        return _digest_files([*self.pair.prediction, *offered])

    @cached_property
    def sha(self) -> str:
        """Digest of everything a clip metric can look at."""
        if "sha" not in self.shared:
            truth = [] if self.truth is None else [self.truth]
            self.shared["sha"] = _digest_files([*self.pair.reference, *truth])
        return f"{self.prediction_sha}-{self.shared['sha']}"

    @cached_property
    def rendered(self) -> list[Pixels]:
        """The rendered pictures as they are."""
        return [read_reference(path, composite=False) for path in self.pair.prediction]

    @property
    def reference(self) -> list[Pixels]:
        """The reference pictures as they are, on white."""
        if "pictures" not in self.shared:
            self.shared["pictures"] = [read_reference(p, self.pair.composite) for p in self.pair.reference]
        pictures: list[Pixels] = self.shared["pictures"]
        return pictures

    def sized(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        """Pictures at the protocol's size."""
        return (
            list(pictures)
            if self.size is None
            else [squash(picture, (self.size, self.size)) for picture in pictures]
        )


def _digest_files(paths: Sequence[Path]) -> str:
    return digest((path.name, sha256_file(path).encode()) for path in paths)
