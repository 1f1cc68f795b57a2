"""Builds the static site of a set of runs: tables, failures, scene pages, figures and provenance.

It opens from the file system: pages load their style sheet, scripts, data (`scenes/*.js`) and pictures by
relative paths, and nothing else. The same records give the same bytes; nothing reads the clock.

A manifest's `pedigree` is shown as the tree it is, whatever it holds, but of absolute paths only the last part.
Where they are there, the index also reads `code` ({"version", "commit", "dirty"}), `device`, and `finished` (an
ISO date).
"""

import errno
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import canonical_json, digest, write_json, write_text
from mvtokenflow.base.partial import left_folders, partial_folder
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.eval.metrics.spec import MetricSpec
from mvtokenflow.eval.plots.finding import finding
from mvtokenflow.eval.plots.panels import Figure as Plot
from mvtokenflow.eval.protocols import METRICS
from mvtokenflow.eval.records.rows import Run
from mvtokenflow.eval.tables.table import Column, Table
from mvtokenflow.reports import figures, generated, training
from mvtokenflow.reports.curves import HEIGHT, WIDTH
from mvtokenflow.reports.figure import FULL, Album, Figure, gathered
from mvtokenflow.reports.gallery import gallery
from mvtokenflow.reports.html import TEMPLATES, duration, environment, public, script_json, table_html
from mvtokenflow.reports.pictures import PictureStore
from mvtokenflow.reports.plots.draw import draw
from mvtokenflow.reports.plots.items import colors_of
from mvtokenflow.reports.plots.svg import svg
from mvtokenflow.reports.scene import TRUTH, ScenePage, scene_pages
from mvtokenflow.reports.scene_data import scene_data
from mvtokenflow.reports.viewers import write_scene_viewer
from mvtokenflow.workdir.lock import holding

Progress = Callable[[str, int, int], None]
MARKER = "site.json"
_MOUNTED = "{out}: is a mount point, whose place no other folder can take; name a folder in it ({out}/site)"
ASSETS = (
    *("base.css", "site.css", "scene.css", "figure.css", "curves.css", "plots.css"),
    *("table.js", "index.js", "viewer.js", "charts.js"),
)
FIGURES = "figures"  # folder of the pictures that are made for figures
_BUILDERS = (
    *(figures.temporal_strip, figures.viewpoints, figures.ablation),
    *(generated.propagation, figures.flow_maps, figures.more_viewpoints),
)


def build_site(
    tables: Sequence[Table],
    runs: Sequence[Run],
    out: Path,
    progress: Progress | None = None,
    *,
    title: str = "Video-to-4D benchmark report",
    max_size: int = 320,
    scenes: Mapping[tuple[str, str], Scene] | None = None,
    metrics: Mapping[str, MetricSpec] = METRICS,
    plots: Mapping[str, Sequence[Plot]] | None = None,
    waiting: Callable[[str], object] | None = None,
) -> Path:
    """Build the site in `out` and return its `index.html`.

    The site is built beside `out` and then takes its place, so an interruption leaves the old site. A
    later build into the same folder replaces it and reuses its encoded pictures.

    Args:
        tables: shown on the index page; names must be distinct.
        runs: give the scene pages and the provenance; may be empty.
        out: a new or empty folder, or a site built by this function.
        progress: called as `progress("pictures", done, total)` after each sequence of pictures.
        title: heading of the index page.
        max_size: pictures with a longer side (pixels) are reduced for display; stored metrics are untouched.
        scenes: of the runs, by names of dataset and scene: the only ground truth that pages show. None shows
            the ground truth in the folders that the manifests name.
        metrics: by their keys in records; define which values are better where no table does.
        plots: figures of numbers that stand above a table, by its name.
        waiting: as of `lock.working_in`, where another process is building this site.

    Raises:
        DataError: `out` is a mount point or holds files that are not a site's; two tables share a name; a
            malformed table; a run's folder holds a link that leads out of it.
    """
    names = [table.name for table in tables]
    if len(set(names)) < len(names):
        raise DataError(f"two tables share a name ({', '.join(names)}); a page needs distinct names")
    out = out.resolve()
    _check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with holding(out.with_name(f".{out.name}.lock"), f"on {out}", waiting):
        _tidy(out)
        _check_replaceable(out)
        pages = scene_pages(runs, list(dict.fromkeys(row.label for one in tables for row in one.rows)), scenes)
        with partial_folder(out) as building:
            inputs = _Inputs(
                tables=tables, runs=runs, pages=pages, metrics=metrics, plots=plots or {}, title=title
            )
            _write(building, out, inputs, progress or (lambda *_: None), max_size)
            _swap(building, out)
    return out / "index.html"


def _tidy(out: Path) -> None:
    """Remove what builds that were killed left beside `out`; one of them may hold the site that was there."""
    for left in left_folders(out):
        if (left / out.name / MARKER).is_file() and not out.exists():
            (left / out.name).rename(out)
        shutil.rmtree(left, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    """Refuse to replace anything that this module did not write."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out}: is a file; name a folder for the site")
    if out.is_mount():
        raise DataError(_MOUNTED.format(out=out))
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    if not found:
        return
    try:
        ours = set(read_json(out / MARKER, dict, "name a new folder")["files"]) | {MARKER}
    except (DataError, KeyError, TypeError) as error:
        raise DataError(
            f"{out}: holds files and is not a site built here; name a new or empty folder"
        ) from error
    foreign = sorted(found - ours)
    if foreign:
        raise DataError(
            f"{out}: holds files that are not the site's ({', '.join(foreign[:3])}"
            f"{', …' if len(foreign) > 3 else ''}) and would be lost; move them out or name another folder"
        )


def _swap(building: Path, out: Path) -> None:
    """Put the finished folder in place; the old one stays until the new one is there."""
    if not out.exists():
        building.rename(out)
        return
    with partial_folder(out) as old:
        try:
            out.rename(old / out.name)
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EXDEV):  # mounts of the same drive do not look like mounts
                raise DataError(_MOUNTED.format(out=out)) from error
            raise
        try:
            building.rename(out)
        except OSError:
            (old / out.name).rename(out)
            raise


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """What a site shows."""

    tables: Sequence[Table]
    runs: Sequence[Run]
    pages: Sequence[ScenePage]
    metrics: Mapping[str, MetricSpec]
    plots: Mapping[str, Sequence[Plot]]
    title: str


def _write(root: Path, earlier: Path, inputs: _Inputs, progress: Progress, max_size: int) -> None:
    tables, runs, pages, title = inputs.tables, inputs.runs, inputs.pages, inputs.title
    store = PictureStore(root / "pictures", max_size, earlier / "pictures")
    drawn = PictureStore(root / FIGURES, max_size, earlier / FIGURES)
    jinja = environment()
    records = records_digest(runs)
    total = sum(len(page.views) * len(page.series) for page in pages)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress("pictures", done, total)

    cards, albums = [], []
    for place, page in enumerate(pages):
        data = scene_data(page, _columns(tables), inputs.metrics, store, step)
        write_text(root / "scenes" / f"{page.slug}.js", f"window.SCENE = {script_json(data)};\n")
        album = Album(page, data, drawn, FIGURES)
        made, unmade = gathered([_figure(build, album) for build in _BUILDERS], album)
        html = jinja.get_template("scene.html").render(
            page=page,
            data=data,
            viewer=write_scene_viewer(page, root / "scenes", f"{quote(page.slug)}.html"),
            figures=made,
            unmade=unmade,
            trainings=training.trainings(album),
            costs=training.costs(album),
            chart_size=(WIDTH, HEIGHT),
            untrained=f"Needs a run of the method: {album.command(FULL)}.",
            title=title,
            before=pages[place - 1] if place else None,
            after=pages[place + 1] if place + 1 < len(pages) else None,
            runs=[_run_facts(series.label, series.run) for series in page.series if series.run],
        )
        write_text(root / "scenes" / f"{page.slug}.html", html)
        albums.append(album)
        cards.append({"page": page, "thumbnail": _thumbnail(page, data), "frames": data["frames"]})
    html = jinja.get_template("index.html").render(
        title=title,
        tables={table.name: table_html(table) for table in tables},  # refuses malformed ones
        finding=finding(tables),
        drawn={table.name: _drawn(inputs.plots.get(table.name, ())) for table in tables},
        names=tables,
        cards=cards,
        gallery=gallery(albums),
        tags=sorted({tag for page in pages for tag in page.tags}),
        tag_counts=Counter(tag for page in pages for tag in page.tags),
        facts=_facts(tables, pages, runs, records),
        methods=_method_facts(pages),
    )
    write_text(root / "index.html", html)
    for name in ASSETS:
        write_text(root / "assets" / name, (TEMPLATES / name).read_text(encoding="utf-8"))
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    write_json(root / MARKER, {"generator": "mvtokenflow.reports", "records": records, "files": files})


def _drawn(plots: Sequence[Plot]) -> list[dict[str, Any]]:
    """Return the panels of some figures of numbers as inline SVG, under their titles."""
    colors = colors_of(plots)
    return [
        {"title": plot.title, "panels": [svg(draw(panel, colors)) for panel in plot.panels]} for plot in plots
    ]


def _figure(build: Callable[[Album], Figure], album: Album) -> Figure:
    """Build a figure; damaged files become a sentence in its place."""
    try:
        return build(album)
    except DataError as error:
        title = build.__name__.replace("_", " ").capitalize()
        return Figure(id=build.__name__, title=title, caption="", missing=[f"Not drawn: {album.named(error)}"])


def records_digest(runs: Sequence[Run]) -> str:
    """Compute the sha256, in hex, over manifests and rows of `runs`, whatever their order and folder."""
    parts = []
    for run in runs:
        name = "/".join(run.folder.parts[-4:])
        manifest = {**asdict(run.manifest), "reference_root": ""}  # differs between machines
        rows = "\n".join(sorted({row.to_json() for row in run.rows}))  # in whatever order they were measured
        parts.append((name, f"{canonical_json(manifest)}\n{rows}".encode()))
    return digest(sorted(parts))


def _columns(tables: Sequence[Table]) -> dict[str, Column]:
    """Collect columns by metric key; the first table with a metric names it."""
    columns: dict[str, Column] = {}
    for table in tables:
        for column in table.columns:
            columns.setdefault(column.key, column)
    return columns


def _thumbnail(page: ScenePage, data: Mapping[str, Any]) -> dict[str, Any]:
    """Store a middle frame of the input view's reference, or the first readable picture."""
    names = [view["name"] for view in reversed(page.views)]  # the input view is last
    for series in page.series:
        for view in names:
            sequence = data["pictures"][view][series.id]
            whole = [name for name in sequence["files"] if name]
            if whole:
                return {"file": whole[len(whole) // 2], "size": sequence["size"], "truth": series.id == TRUTH}
    return {"file": None, "size": None, "truth": False}


def _facts(
    tables: Sequence[Table], pages: Sequence[ScenePage], runs: Sequence[Run], records: str
) -> list[tuple[str, str]]:
    """Return facts on the records for the index page."""
    if not runs:
        return [("Tables", str(len(tables))), ("Runs", "none")]
    manifests = [run.manifest for run in runs]
    commits = sorted({_commit(run) for run in runs} - {""})
    dates = sorted({str(m.pedigree["finished"]) for m in manifests if m.pedigree.get("finished")})
    facts = [
        ("Datasets", ", ".join(sorted({m.dataset for m in manifests}))),
        ("Methods", str(len({m.method for m in manifests}))),
        ("Scenes", str(len(pages))),
        ("Runs", str(len(runs))),
        ("Seeds", ", ".join(map(str, sorted({m.seed for m in manifests})))),
        ("Code", ", ".join(commits) or "not recorded"),
        ("Devices", ", ".join(sorted({str(m.pedigree.get("device", "not recorded")) for m in manifests}))),
    ]
    if dates:
        facts.append(("Finished", dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"))
    return [*facts, ("Records", f"sha256 {records[:16]}")]


def _commit(run: Run) -> str:
    code = run.manifest.pedigree.get("code")
    if not isinstance(code, Mapping):
        return "" if code is None else str(code)
    commit = str(code.get("commit") or "")[:10]
    parts = [str(code.get("version") or ""), commit, "with local changes" if code.get("dirty") else ""]
    return " ".join(part for part in parts if part)


def _run_facts(label: str, run: Run) -> dict[str, Any]:
    """Return everything in a manifest, for people, without this machine's folders."""
    manifest = run.manifest
    return {
        "label": label,
        "folder": "/".join(run.folder.parts[-4:]),
        "source": manifest.source,
        "facts": {
            "seed": manifest.seed,
            "frames": manifest.frames,
            "prediction digest": manifest.prediction_digest,
            "config hash": manifest.config_hash,
            "uses the ground truth": manifest.uses_truth,
        },
        "missing": public(run.missing),
        "config": public(manifest.config),
        "pedigree": public(manifest.pedigree),
        "stages": [
            {"name": s.name, "wall": duration(s.wall_s), "peak": f"{s.peak_mib:,.0f}"} for s in manifest.stages
        ],
        "total": duration(sum(stage.wall_s for stage in manifest.stages)),
    }


def _method_facts(pages: Sequence[ScenePage]) -> list[dict[str, Any]]:
    """Return one line per method: number of runs, code version, device, time."""
    series = [(page.dataset, one.color, one.run) for page in pages for one in page.series if one.run]
    by_method: dict[tuple[str, str], list[Run]] = {}
    for dataset, _, run in sorted(series, key=lambda item: item[:2]):  # colours follow the order of the tables
        by_method.setdefault((dataset, run.manifest.method), []).append(run)
    return [
        {
            "dataset": dataset,
            "method": method,
            "source": ", ".join(sorted({run.manifest.source for run in runs})),
            "runs": len(runs),
            "configs": ", ".join(sorted({run.manifest.config_hash[:10] for run in runs})),
            "devices": ", ".join(sorted({str(run.manifest.pedigree.get("device", "—")) for run in runs})),
            "wall": duration(sum(s.wall_s for run in runs for s in run.manifest.stages)),
            "peak": f"{max((s.peak_mib for run in runs for s in run.manifest.stages), default=0):,.0f}",
        }
        for (dataset, method), runs in by_method.items()
    ]
