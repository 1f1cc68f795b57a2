"""Figures of scene pages as plain data, and the pictures they are made of.

A figure is rows of tiles below column heads; where it has several sheets (for example views), one is open at a
time. It works without scripts. `templates/figure.html` draws it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.base.damaged import Form, read_arrays
from mvtokenflow.base.errors import DataError
from mvtokenflow.media.pictures import Pixels
from mvtokenflow.reports import colormaps
from mvtokenflow.reports.artefacts import is_documented
from mvtokenflow.reports.pictures import Picture, PictureStore
from mvtokenflow.reports.scene import TRUTH, Namer, ScenePage, Series, picture_files, truth_files

INPUT = "input"
FULL = "mvtokenflow"
COARSE = "coarse"
_PREFERRED = ("lpips", "psnr", "ssim")  # in the order in which tiles show them


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of a figure, or the reason why there is none.

    Attributes:
        file: path below the site's folder; None if there is no picture.
        size: (w, h) pixels. alt: what it shows.
        note: a value, printed below. why: printed in place of the picture.
        mark: left, top, width, height in percent of the picture: a box drawn on it.
    """

    file: str | None
    alt: str
    size: tuple[int, int] | None = None
    note: str = ""
    why: str = ""
    mark: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of tiles, one per column, with its label. `note` is printed below the label."""

    label: str
    tiles: Sequence[Tile]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows below column heads. `kind` is "strip", or "slices" for pictures over time, drawn enlarged."""

    lines: Sequence[Line]
    heads: Sequence[str] = ()
    caption: str = ""
    kind: str = "strip"

    @property
    def columns(self) -> int:
        return max((len(line.tiles) for line in self.lines), default=0)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The part of a figure that is visible at one time."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True)
class Legend:
    """A colour scale: `kind` is "ramp" (low on the left) or "wheel"."""

    tile: Tile
    kind: str
    low: str
    high: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A section of a page.

    Attributes:
        missing: what the runs lack and how to get it, one sentence each.
        needs: methods without whose runs there is nothing to show; figures that need some and have no sheet are
            gathered at the end of a page (`gathered`).
    """

    id: str
    title: str
    caption: str
    sheets: Sequence[Sheet] = ()
    legends: Sequence[Legend] = ()
    missing: Sequence[str] = field(default_factory=tuple)
    needs: Sequence[str] = ()


class Album:
    """Pictures, arrays and values of one scene page.

    Args:
        page, data: of the scene (`scene.scene_data`); its pictures are those of the viewer.
        store: of pictures that are made here. folder: its name in the site.
    """

    def __init__(self, page: ScenePage, data: Mapping[str, Any], store: PictureStore, folder: str) -> None:
        self.page, self.data, self.store, self.folder = page, data, store, folder
        self.metric = tile_metric(data)
        self._namer = Namer(page)

    @property
    def frames(self) -> int:
        """Return the number of frames of the runs; a reference may be longer."""
        return max(run.manifest.frames for run in self.page.runs)

    @property
    def novel_views(self) -> list[str]:
        return [view["name"] for view in self.page.views if view["name"] != INPUT]

    def series(self, method: str) -> Series | None:
        """Return the first run of a method."""
        return next((one for one in self.page.series if one.run and one.run.manifest.method == method), None)

    def tile(self, series: Series, view: str, frame: int, **extra: Any) -> Tile:
        """Return a frame as the viewer shows it."""
        found = self.data["pictures"][view][series.id]
        alt = f"{series.label}, {view}, frame {frame}"
        name = found["files"][frame] if frame < len(found["files"]) else None
        if name is None:
            why = found["broken"].get(str(frame)) or found["why"]
            return Tile(file=None, alt=alt, why=f"no picture: {why}")
        return Tile(file=f"pictures/{name}", size=tuple(found["size"]), alt=alt, **extra)

    def made(self, pixels: Pixels, alt: str, **extra: Any) -> Tile:
        """Store a picture that was computed for a figure."""
        return self._stored(self.store.add_pixels(pixels), alt, extra)

    def copied(self, source: Path, alt: str, **extra: Any) -> Tile:
        """Store a picture of a run's folder; return a tile without picture if it is missing or broken."""
        try:
            return self._stored(self.store.add(source), alt, extra)
        except DataError as error:
            return Tile(file=None, alt=alt, why=self.named(error))

    def frame(self, series: Series, view: str, frame: int) -> Pixels | None:
        """Read one frame (H, W, 3) at its own size, on white; None if there is none that can be read."""
        try:
            files = picture_files(self.page, series, view)
            return self.store.pixels(files[frame]) if frame < len(files) else None
        except DataError:
            return None

    def array(self, series: Series, view: str, kind: str) -> NDArray[np.float32] | None:
        """Read normals or flow of a view over time, of a run or of the reference; None if not offered.

        Raises:
            DataError: the file is damaged.
        """
        if series.run is not None:
            path = series.run.folder / "pred" / f"{view}.{kind}.npz"
            return read_array(path, kind)
        for path in truth_files(self.page, view):
            found = read_array(path, kind)
            if found is not None:
                return found
        return None

    def values(self, key: str, series: Series, view: str) -> tuple[Mapping[str, Any] | None, Sequence[Any]]:
        """Return a metric and its recorded values per frame; (None, []) if not measured on the view.

        Views may be measured under signatures of their own (for example the input, which is composited).
        """
        for metric in self.data["metrics"]:
            line = self.data["values"].get(metric["id"], {}).get(series.id, {}).get(view)
            if metric["key"] == key and line:
                return metric, line
        return None, []

    def value(self, key: str, series: Series, view: str, frame: int) -> str:
        """Return "LPIPS 0.1234" for a recorded frame, or ""."""
        metric, line = self.values(key, series, view)
        value = line[frame] if frame < len(line) else None
        return "" if metric is None or value is None else f"{metric['name']} {printed(metric, value)}"

    def mean(self, key: str, series: Series, views: Sequence[str]) -> str:
        """Return a recorded metric as text, "4.20": the mean over views of the mean over frames, or ""."""
        found = [self.values(key, series, view) for view in views]
        metric = next((metric for metric, _ in found if metric is not None), None)
        means = [np.mean(kept) for _, line in found if (kept := finite(line))]
        return "" if metric is None or not means else printed(metric, float(np.mean(means)))

    def command(self, *methods: str) -> str:
        """Return the command that makes runs of `methods` on this scene, and the page."""
        names, data = quote(",".join(methods)), self.page.dataset
        root = "" if data == "toy4d" else f" --dataset {quote(data)}"
        return (
            f"`mvtf-eval table3{root} --methods {names} --scenes {quote(self.page.name)}`, then "
            f"`mvtf-eval report{root} --tables table3 --methods {names}`"
        )

    def named(self, error: DataError) -> str:
        """Return a message without this machine's folders."""
        return self._namer(str(error))

    def _stored(self, picture: Picture, alt: str, extra: Mapping[str, Any]) -> Tile:
        return Tile(file=f"{self.folder}/{picture.name}", size=picture.size, alt=alt, **extra)


def heat_legend(album: Album, full: float = colormaps.FULL_HEAT) -> Legend:
    """Return the legend for pictures of `colormaps.heat` up to `full`."""
    ramp = album.made(colormaps.heat_ramp(), "colours of differences")
    top = f"{full:g} of the range or more"
    return Legend(tile=ramp, kind="ramp", low="|difference| 0", high=top)


def rows_of(page: ScenePage) -> list[Series]:
    """Return the series that figures compare: one run per method, without ablations and known answers unless
    there is nothing else. The viewer shows all.
    """
    first: dict[str, Series] = {}
    for one in page.series:
        if one.run is not None:
            first.setdefault(one.run.manifest.method, one)
    every = list(first.values())
    judged = [one for one in every if one.kind == "measured" or is_documented(one.run)]
    whole = [one for one in judged if not is_ablation(one)]
    return whole or judged or every


def ablations_of(page: ScenePage) -> list[Series]:
    """Return one run of a method and of each of its ablations, those of the paper's figure first.

    Where several methods have ablations it is the one of this repository, else the first of the page; none
    where no method has any and this repository's is not there.
    """
    families: dict[str, dict[str, Series]] = {}
    for one in page.series:
        if one.run is not None and is_documented(one.run) and not one.run.manifest.uses_truth:
            manifest = one.run.manifest
            family = families.setdefault(manifest.variant_of or manifest.method, {})
            family.setdefault(manifest.method, one)
    several = [name for name, members in families.items() if len(members) > 1]
    chosen = FULL if FULL in families else next(iter(several), None)
    if chosen is None:
        return []
    members = families[chosen]
    wanted = [chosen, COARSE, "no-flow-loss"]
    order = [name for name in wanted if name in members] + [name for name in members if name not in wanted]
    return [members[name] for name in order]


def is_ablation(series: Series) -> bool:
    """Return whether a run is of another method with parts left out."""
    return series.run is not None and series.run.manifest.variant_of is not None


def truth_of(page: ScenePage) -> Series:
    return next(one for one in page.series if one.id == TRUTH)


def tile_metric(data: Mapping[str, Any]) -> str:
    """Return the key of the metric on tiles: LPIPS if measured, else another per-frame metric with a direction.

    "" if there is none.
    """
    able = [one for one in data["metrics"] if one["perFrame"] and one["better"] != "none"]
    keys = {one["key"]: None for one in able}
    return next(iter([*(key for key in _PREFERRED if key in keys), *keys]), "")


def printed(metric: Mapping[str, Any], value: float | str) -> str:
    """Format a recorded value with the metric's digits."""
    number = float(value)
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    return f"{number:.{metric['digits']}f}".replace("-", "−")


def finite(values: Sequence[Any]) -> list[float]:
    """Return the finite numbers of a line of recorded values."""
    return [float(value) for value in values if value is not None and math.isfinite(float(value))]


_FORMS = {
    "flow": Form("f", (None, None, None, 2)),
    "normal": Form("f", (None, None, None, 3)),
    "view": Form("iu", ()),
    "pairs": Form("iu", (None, 2)),
}


def read_array(path: Path, name: str) -> NDArray[np.float32] | None:
    """Read an array of an .npz file as float32; None without the file or the array.

    Raises:
        DataError: the file is damaged.
    """
    if not path.is_file():
        return None
    found = read_arrays(path, {name: _FORMS[name]}, "delete its run and run it again", optional=True)
    return found[name].astype(np.float32) if name in found else None


def gathered(made: Sequence[Figure], album: Album) -> tuple[list[Figure], str | None]:
    """Separate figures that cannot be drawn for want of runs; one sentence names these and the command."""
    wanting = [one for one in made if one.needs and not one.sheets]
    if not wanting:
        return list(made), None
    methods = dict.fromkeys(name for one in wanting for name in one.needs)
    titles = ", ".join(one.title for one in wanting)
    verb = "needs" if len(wanting) == 1 else "need"
    rest = [one for one in made if one not in wanting]
    return rest, f"{titles} {verb} more runs. One command makes them all: {album.command(*methods)}."
