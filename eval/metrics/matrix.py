"""Video distances over the matrix of views and times: FVD-F, FVD-V, FVD-Diag and FV4D.

SV4D (arXiv 2407.17470, section 4) reads V views by T times as videos in four orders:

    frames  one view over its times: V clips of T pictures (FVD-F)
    views   one time over its views: T clips of V pictures (FVD-V)
    diag    view and time advance together, from every view: V clips (FVD-Diag); views are a circle and wrap
    raster  all pictures in bidirectional raster order, cut into clips of T (FV4D): at even times the views in
            order, at odd times back

It does not state the pooling of the extractor, whether views wrap, the raster's first axis, the length of its
clips, nor whether the distance is one of sets. What was chosen here is in the signature, and there are two
readings: one clip against one clip as in Consistent4D's script, averaged over the clips of an object, on the
scale of SV4D's table for Consistent4D; and a Fréchet distance over the clips of all objects ("set").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.fvd import frechet_distance
from mvtokenflow.eval.metrics.fvd_c4d import VideoDistance, fvd_c4d
from mvtokenflow.eval.metrics.spec import (
    BOTH,
    ClipPair,
    Feature,
    Floats,
    Needs,
    Networks,
    Pixels,
    ViewRole,
)

if TYPE_CHECKING:
    from mvtokenflow.eval.metrics.compute.i3d import VideoLogits

Order = Literal["frames", "views", "diag", "raster"]
Place = tuple[int, int]  # view, time
Matrix = Sequence[Sequence[Pixels]]  # by view and time

# An I3D clip needs 9 pictures; shorter ones are refused by the network.
LEAST = 9


@dataclass(frozen=True, kw_only=True)
class MatrixDistance(VideoDistance):
    """What both readings share.

    Attributes:
        order: in which the matrix is read.
        wrap: views are a circle. raster: the axis along which the raster runs first.
    """

    table_role: ClassVar[ViewRole] = "novel"
    views: tuple[ViewRole, ...] = BOTH
    order: Order = "frames"
    wrap: Literal[True] = True
    raster: Literal["views"] = "views"
    pool: Literal[1] = 1
    resize: Literal["pil-bicubic"] = "pil-bicubic"

    def why_missing(self) -> str:
        return f"not all views were rendered, or there are fewer than {LEAST} views or times"

    def can_measure(self, clip: ClipPair) -> bool:
        return len(clip.names) >= LEAST

    def logits(self, clips: Sequence[ClipPair], networks: Networks) -> list[tuple[Floats, Floats]]:
        """Compute I3D's logits (rendering, reference) of every clip; they are kept for the other reading.

        Raises:
            DataError: clips are too short for the network.
        """
        places = clips_of_matrix(self.order, len(clips), len(clips[0].names))
        if any(len(clip) < LEAST for clip in places):
            raise DataError(
                f"{self.key}: clips of {min(map(len, places))} pictures, the network needs {LEAST}; leave the "
                "metric out with a protocol of your own"
            )
        key = (self.order, self.pool, self.resize)

        network = self.network(networks)

        def of(pictures: Matrix) -> list[Floats]:
            return [network.of([pictures[v][t] for v, t in clip], self.pool, self.resize) for clip in places]

        ours = clips[0].kept(key, lambda: of([clip.rendered for clip in clips]))
        theirs = clips[0].shared(key, lambda: self._of_reference(clips, network, of))
        return list(zip(ours, theirs, strict=True))

    def _of_reference(
        self, clips: Sequence[ClipPair], network: "VideoLogits", of: Callable[[Matrix], list[Floats]]
    ) -> list[Floats]:
        """Compute the reference's logits, or take those that an earlier command kept."""
        from mvtokenflow.eval.metrics.compute.stored import stored_features

        pictures = [clip.reference for clip in clips]
        if network.weights is None:  # weights that no ledger names
            return of(pictures)
        made_by = {
            "order": self.order,
            "version": self.version,
            "pool": self.pool,
            "resize": self.resize,
            "network": network.weights,
            "views": len(pictures),
        }
        return stored_features(made_by, [p for view in pictures for p in view], lambda: of(pictures))


@dataclass(frozen=True, kw_only=True)
class MatrixC4d(MatrixDistance):
    """Mean over the clips of an object of Consistent4D's single-clip distance."""

    needs: ClassVar[Needs] = "views"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return [None]

    def measure_views(self, clips: Sequence[ClipPair], networks: Networks) -> Sequence[float]:
        return [float(np.mean([fvd_c4d(ours, theirs) for ours, theirs in self.logits(clips, networks)]))]


@dataclass(frozen=True, kw_only=True)
class MatrixSet(MatrixDistance):
    """Fréchet distance between the clips of all objects and those of the references."""

    needs: ClassVar[Needs] = "matrix"

    def clips_of_matrix(self, views: int, times: int) -> int:
        return len(clips_of_matrix(self.order, views, times))

    def measure_matrix(
        self, clips: Sequence[ClipPair], networks: Networks
    ) -> Sequence[tuple[Feature, Feature]]:
        return [(ours.tolist(), theirs.tolist()) for ours, theirs in self.logits(clips, networks)]

    def total(self, rendered: Floats, reference: Floats) -> float:
        return frechet_distance(rendered, reference)


@dataclass(frozen=True, kw_only=True)
class FvdF(MatrixC4d):
    """FVD-F as single-clip distances: every view over its times."""

    column: ClassVar[str | None] = "FVD-F"
    key: str = "fvd_f"
    order: Order = "frames"


@dataclass(frozen=True, kw_only=True)
class FvdFSet(MatrixSet):
    """FVD-F as Fréchet distance of sets: every view over its times."""

    column: ClassVar[str | None] = "FVD-F (set)"
    key: str = "fvd_f_set"
    order: Order = "frames"


@dataclass(frozen=True, kw_only=True)
class FvdV(MatrixC4d):
    """FVD-V as single-clip distances: every time over its views."""

    column: ClassVar[str | None] = "FVD-V"
    key: str = "fvd_v"
    order: Order = "views"


@dataclass(frozen=True, kw_only=True)
class FvdVSet(MatrixSet):
    """FVD-V as Fréchet distance of sets: every time over its views."""

    column: ClassVar[str | None] = "FVD-V (set)"
    key: str = "fvd_v_set"
    order: Order = "views"


@dataclass(frozen=True, kw_only=True)
class FvdDiag(MatrixC4d):
    """FVD-Diag as single-clip distances: the diagonals, on which view and time advance together."""

    column: ClassVar[str | None] = "FVD-Diag"
    key: str = "fvd_diag"
    order: Order = "diag"


@dataclass(frozen=True, kw_only=True)
class FvdDiagSet(MatrixSet):
    """FVD-Diag as Fréchet distance of sets: the diagonals, on which view and time advance together."""

    column: ClassVar[str | None] = "FVD-Diag (set)"
    key: str = "fvd_diag_set"
    order: Order = "diag"


@dataclass(frozen=True, kw_only=True)
class Fv4d(MatrixC4d):
    """FV4D as single-clip distances: all pictures in bidirectional raster order."""

    column: ClassVar[str | None] = "FV4D"
    key: str = "fv4d"
    order: Order = "raster"


@dataclass(frozen=True, kw_only=True)
class Fv4dSet(MatrixSet):
    """FV4D as Fréchet distance of sets: all pictures in bidirectional raster order."""

    column: ClassVar[str | None] = "FV4D (set)"
    key: str = "fv4d_set"
    order: Order = "raster"


def clips_of_matrix(order: Order, views: int, times: int) -> list[list[Place]]:
    """Return the clips of an order as places (view, time) of a matrix of `views` by `times`.

    Raises:
        ValueError: no such order, or an empty matrix.
    """
    if min(views, times) < 1:
        raise ValueError(f"a matrix has views and times, not {views} x {times}")
    if order == "frames":
        return [[(v, t) for t in range(times)] for v in range(views)]
    if order == "views":
        return [[(v, t) for v in range(views)] for t in range(times)]
    if order == "diag":
        return [[((v + t) % views, t) for t in range(times)] for v in range(views)]
    if order == "raster":
        snake = [(v if t % 2 == 0 else views - 1 - v, t) for t in range(times) for v in range(views)]
        return [snake[start : start + times] for start in range(0, views * times - times + 1, times)]
    raise ValueError(f"no order {order!r}")
