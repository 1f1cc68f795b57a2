"""What an importer is given and what it gives; one file of this folder is one kind of results.

A kind looks at a folder by content (`probe`), and reads one scene of it (`open`): everything is checked there,
before a picture is drawn or a file is written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from mvtokenflow.base.errors import DataError
from mvtokenflow.datasets.layout import AZIMUTHS_DEG
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.media.pictures import Pixels, picture_size
from mvtokenflow.views.cameras import Cameras

World = Literal["here", "dreamgaussian", "threestudio"]  # whose axes, see `views.cameras`
AS_IS = "as in the files"  # in records of pictures that are copied
SIZE = 512  # side of pictures that are rendered where no dataset states another


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A view of which pictures are wanted.

    Attributes:
        name, azimuth_deg, elevation_deg: as of `datasets.scene.View`.
        width, height: of pictures that have to be rendered; others keep their size.
        cameras: the dataset's own camera, a batch of one; None where it states none.
        numbers: of the dataset's frames in order; None where there is no dataset.
    """

    name: str
    azimuth_deg: float
    elevation_deg: float = 0.0
    width: int = SIZE
    height: int = SIZE
    cameras: Cameras | None = None
    numbers: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the user states of results; None leaves it to the kind.

    Attributes:
        frames: number of frames that the method was fitted to, N of the times i / N.
        first: number of the picture that is the first frame.
        radius: distance of the cameras from the origin, in the method's world units.
        fov_deg: full vertical field of view.
        azimuths: of the views in the order of the kind's files, degrees.
        views: names of views by the names of their folders or videos.
        nearest_deg: how far a view may stand from the one that is wanted; 0 is exact.
        world: whose axes a .ply has.
    """

    frames: int | None = None
    first: int | None = None
    radius: float | None = None
    fov_deg: float | None = None
    azimuths: tuple[float, ...] | None = None
    views: Mapping[str, str] = field(default_factory=dict)
    nearest_deg: float = 0.0
    world: World | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """A folder of a kind.

    Attributes:
        root: the folder that holds the files, the one that was probed or one below it.
        scene: name of the scene, where the kind's files have it in their names.
    """

    root: Path
    scene: str | None = None


@dataclass(frozen=True)
class Lacks:
    """Why a folder is not of a kind: what it lacks, in words that follow "lacks"."""

    what: str


@dataclass(frozen=True, kw_only=True)
class Opened:
    """One scene of results, checked and ready to be drawn.

    Attributes:
        files: those that pictures are made from.
        views: by the view's name what its pictures are ("from", "azimuth_deg", "degrees_off"); JSON-able.
        numbers: of the frames as they are written, the same for all views.
        facts: JSON-able; how the files were read, everything assumed.
        remarks: facts that belong below a table, one clause each without a full stop.
        draw: picture (H, W, 3) uint8 on white of a view and a position in `numbers`.
    """

    files: Sequence[Path]
    views: Mapping[str, Mapping[str, Any]]
    numbers: tuple[int, ...]
    facts: Mapping[str, Any]
    draw: Callable[[str, int], Pixels]
    remarks: tuple[str, ...] = ()

    def with_facts(self, facts: Mapping[str, Any], remarks: tuple[str, ...]) -> "Opened":
        """Return the same scene with more facts and remarks."""
        return replace(self, facts={**self.facts, **facts}, remarks=(*self.remarks, *remarks))


class Kind(Protocol):
    """A kind of results."""

    @property
    def name(self) -> str:
        """Return one word, that of `--kind`."""
        ...

    @property
    def repository(self) -> str | None:
        """Whose program writes it, "owner/name"; None if anybody's does."""
        ...

    @property
    def options(self) -> Sequence[str]:
        """Fields of `Given` that it minds; anything else that is stated is refused."""
        ...

    def probe(self, folder: Path) -> Found | Lacks:
        """Return whether a folder holds one scene of this kind, by the files in it."""
        ...

    def open(self, found: Found, wanted: Sequence[Wanted], given: Given) -> Opened:
        """Read and check the scene.

        Raises:
            DataError: a file is missing, cut off, damaged or holds NaN; no view is one of those wanted.
            ConfigError: `given` states what cannot be.
        """
        ...


def wanted_of(scene: Scene, size: int | None = None) -> list[Wanted]:
    """Return the views of a dataset's scene.

    Args:
        size: side of rendered pictures; None for the dataset's own, or `SIZE` where it has no pictures.

    Raises:
        DataError: a picture of the dataset is not readable.
    """
    views = []
    everywhere = next((found for view in scene.all_views() if (found := _size(view)) is not None), (SIZE, SIZE))
    for view in scene.all_views():
        width, height = (size, size) if size is not None else _size(view) or everywhere
        views.append(
            Wanted(
                name=view.name,
                azimuth_deg=view.azimuth_deg,
                elevation_deg=view.elevation_deg,
                width=width,
                height=height,
                cameras=view.cameras,
                numbers=tuple(view.frame_numbers()) or None,
            )
        )
    known = next((view.numbers for view in views if view.numbers is not None), None)
    return [view if view.numbers else replace(view, numbers=known) for view in views]


def _size(view: View) -> tuple[int, int] | None:
    if view.cameras is not None:
        return view.cameras.width, view.cameras.height
    return picture_size(view.frames[0]) if view.frames else None


def standard_views(size: int | None = None) -> list[Wanted]:
    """Return the views of the Consistent4D test set, without a dataset."""
    side = size or SIZE
    angles = {"input": 0.0, **AZIMUTHS_DEG}
    return [Wanted(name=name, azimuth_deg=deg, width=side, height=side) for name, deg in angles.items()]


def numbered(
    found: Sequence[int], wanted: Sequence[int] | None, first: int | None, where: Path
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Number frames as the dataset does.

    Args:
        found: numbers of the frames that are there, increasing.
        wanted: the dataset's; None numbers from 0.
        first: number, as found, of the dataset's first frame; None finds it out.
        where: folder or file of the frames, for messages.

    Returns:
        The dataset's numbers of the frames, and what has to be remarked.

    Raises:
        DataError: a frame is missing, there are more than the dataset has, or the first one is uncertain.
    """
    count = len(found)
    if wanted is not None and count > len(wanted):
        raise DataError(f"{where}: {count} frames, the dataset has {len(wanted)}; leave out the others")
    if first is None and wanted is not None and list(found) == list(wanted[:count]):
        return tuple(found), _shorter(count, wanted)
    begins = found[0] if first is None else first
    lacking = sorted(set(range(begins, begins + count)) - set(found))
    if lacking:
        raise DataError(f"{where}: frame {lacking[0]} is missing; copy or render it again")
    unsure = first is None and (begins > 1 or (begins == 1 and wanted is not None and count < len(wanted)))
    if unsure:
        raise DataError(
            f"{where}: numbered from {begins}, {count} frames; if that is the first frame of the clip say "
            f"`mvtf-eval import --first {begins}`, if earlier ones are missing render them"
        )
    numbers = tuple(range(count)) if wanted is None else tuple(wanted[:count])
    shifted = (f"numbered from {begins}, written from {numbers[0]}",) if begins != numbers[0] else ()
    return numbers, (*shifted, *_shorter(count, wanted))


def _shorter(count: int, wanted: Sequence[int] | None) -> tuple[str, ...]:
    return (f"{count} of {len(wanted)} frames",) if wanted is not None and count < len(wanted) else ()
