"""Figures of training: losses, generated views, fields by stages, and the cost of each stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.records.rows import Run
from mvtokenflow.media.pictures import Pixels
from mvtokenflow.reports.artefacts import is_documented, listed, reasons
from mvtokenflow.reports.colormaps import normal_picture
from mvtokenflow.reports.curves import Chart, charts
from mvtokenflow.reports.figure import Album, Block, Line
from mvtokenflow.reports.generated import Pass, passes_of
from mvtokenflow.reports.html import duration
from mvtokenflow.reports.scene import Series
from mvtokenflow.workdir.folder import read_losses


@dataclass(frozen=True, kw_only=True)
class Training:
    """The losses and previews of one run.

    Attributes:
        charts: of the loss terms. previews: generated views and fields, a column per view, or None.
        missing: sentences.
    """

    label: str
    charts: Sequence[Chart]
    previews: Block | None
    missing: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds and memory: one column per run, one row per stage. Cells are (time, MiB) or None."""

    runs: Sequence[str]
    stages: Sequence[tuple[str, Sequence[tuple[str, str] | None]]]
    totals: Sequence[str]


def trainings(album: Album) -> list[Training]:
    """Return one entry per run that lists artefacts; whole methods before their ablations."""
    return [_training(album, one) for one in _documented(album)]


def costs(album: Album) -> Costs | None:
    """Return the costs of the stages of the runs on the page; None if no run records them."""
    timed = [one for one in _documented(album) if one.run and one.run.manifest.stages]
    if not timed:
        return None
    runs = [one.run for one in timed if one.run]
    by_run = [{stage.name: stage for stage in run.manifest.stages} for run in runs]
    names = dict.fromkeys(stage.name for run in runs for stage in run.manifest.stages)
    return Costs(
        runs=[one.label for one in timed],
        stages=[
            (
                name,
                [
                    (duration(stages[name].wall_s), f"{stages[name].peak_mib:,.0f}") if name in stages else None
                    for stages in by_run
                ],
            )
            for name in names
        ],
        totals=[duration(sum(stage.wall_s for stage in run.manifest.stages)) for run in runs],
    )


def last_preview(folder: Path) -> tuple[Path, int] | None:
    """Find the latest `preview_<step>.png` of a stage, and its step."""
    pictures = sorted(folder.glob("preview_*.png"))
    return (pictures[-1], int(pictures[-1].stem.removeprefix("preview_"))) if pictures else None


def _documented(album: Album) -> list[Series]:
    """Return the runs that list artefacts; whole methods first."""
    found = [one for one in album.page.series if is_documented(one.run)]
    return sorted(found, key=lambda one: one.run is None or one.run.manifest.variant_of is not None)


def _training(album: Album, series: Series) -> Training:
    run = series.run
    assert run is not None  # `is_documented`
    if not any((run.folder / one.path).exists() for one in run.manifest.artefacts if one.path is not None):
        why = (
            "What the run lists of its making, losses and previews, is gone; delete the run's folder and "
            f"run it again: {album.command(run.manifest.method)}."
        )
        return Training(label=series.label, charts=[], previews=None, missing=[why])
    missing = []
    losses: list[tuple[str, list[dict[str, float]]]] = []
    for artefact, path in listed(run, "losses"):
        try:
            losses.append((artefact.name, read_losses(path)))
        except DataError as error:
            missing.append(f"Not drawn: {album.named(error)}")
    if not any(rows for _, rows in losses):
        missing.append("No losses were logged in this run.")
    missing += [f"This run {reason}" for reason in reasons(run.manifest.artefacts, "views")]
    previews = None
    try:
        previews = _previews(album, series, run)
        if previews is None:
            missing.append("The run holds no generated views and no previews.")
    except DataError as error:
        missing.append(f"Not drawn: {album.named(error)}")
    return Training(label=series.label, charts=charts(losses), previews=previews, missing=missing)


def _previews(album: Album, series: Series, run: Run) -> Block | None:
    """Build rows of generated views and of the fields of all stages; None if the run holds neither.

    Of a run without generated views, such as one by distillation, the targets in its previews are shown too.
    """
    passes = passes_of(run.folder, run.manifest.artefacts)
    azimuths = passes[0].azimuths if passes else []
    lines = [
        line
        for kind in ("colour", "normals")
        for made in passes
        for line in _generated(album, series, made, kind)
    ]
    for artefact, folder in listed(run, "previews"):
        lines += _stage(album, series, artefact.title, folder, len(azimuths), with_targets=not passes)
    if not lines:
        return None
    caption = "Generated views by azimuth, and the fields fitted to them, at the middle frame."
    heads = [f"{azimuth}°" for azimuth in azimuths]
    if not passes:
        caption = "Targets of each stage and the field fitted to them, view by view, at the middle frame."
        heads = [f"view {view}" for view in range(max(len(line.tiles) for line in lines))]
    return Block(lines=lines, heads=heads, caption=caption)


def _generated(album: Album, series: Series, made: Pass, kind: str) -> list[Line]:
    """Return colour or normals of the middle frame, the one in previews; no tile for a missing picture."""
    middle, title = (made.frames - 1) // 2, made.title
    paths = [view[middle] for view in made.files]
    if kind == "normals":
        if made.normals is None:
            return []
        paths = [made.normals / path.parent.name / path.name for path in paths]
    if not all(path.is_file() for path in paths):
        return []
    tiles = []
    for path, azimuth in zip(paths, made.azimuths, strict=True):
        alt = f"{series.label}, {title.lower()}, {kind}, azimuth {azimuth}"
        if kind == "colour":
            tiles.append(album.copied(path, alt))
        else:
            tiles.append(album.made(normal_picture(album.store.pixels(path) / 127.5 - 1), alt))
    return [Line(label=f"{title}, {kind}", tiles=tiles)]


def _stage(
    album: Album, series: Series, label: str, folder: Path, azimuths: int, *, with_targets: bool
) -> list[Line]:
    """Return the renderings of a stage's last preview, one tile for each view, and above them their targets.

    Args:
        azimuths: number of generated views, one column each where a preview's pictures are not square.
    """
    found = last_preview(folder)
    if found is None:
        return []
    path, step = found
    strip = album.store.pixels(path)
    height = strip.shape[0] // 2
    columns = strip.shape[1] / height
    views = int(columns) if columns.is_integer() else max(azimuths, 1)
    width = strip.shape[1] // views

    def line(title: str, row: Pixels, note: str) -> Line:
        tiles = [
            album.made(
                row[:, view * width : (view + 1) * width], f"{series.label}, {title.lower()}, view {view}"
            )
            for view in range(views)
        ]
        return Line(label=title, tiles=tiles, note=note)

    shown = [line(f"{label}, targets", strip[:height], "")] if with_targets else []
    return [*shown, line(label, strip[height:], f"after {step} steps")]
