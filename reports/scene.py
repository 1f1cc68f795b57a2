"""Data of the page of one scene, collected from the records of its runs."""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import frame_files
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.eval.metrics.spec import MetricSpec
from mvtokenflow.eval.records.rows import MAX_FRAMES, Row, Run
from mvtokenflow.eval.tables.table import Column
from mvtokenflow.reports.pictures import Picture, PictureStore

TRUTH = "gt"
_SLUG_BYTES = 150  # of the name of a page


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a scene page: the ground truth (`run` None) or one run.

    Attributes:
        id: short name used in links; "gt" for the ground truth.
        label: the method's name, with seed and configuration only where they distinguish runs.
        kind: "truth", "measured" or "oracle".
        color: index into the palette, the same for a method on all pages; -1 for the ground truth.
    """

    id: str
    label: str
    kind: str
    color: int
    run: Run | None


@dataclass(frozen=True, kw_only=True)
class ScenePage:
    """A scene of a dataset with its runs. `slug` names its page, `tags` filter it.

    `scene` is the dataset's description, whose views have the ground truth. Without it `references` are folders
    with ground truth in `<view>/`, as the runs name them.
    """

    dataset: str
    name: str
    slug: str
    tags: Sequence[str]
    views: Sequence[Mapping[str, Any]]
    series: Sequence[Series]
    references: Sequence[Path] = ()
    scene: Scene | None = None

    @property
    def runs(self) -> list[Run]:
        return [series.run for series in self.series if series.run is not None]


def scene_pages(
    runs: Sequence[Run], order: Sequence[str], scenes: Mapping[tuple[str, str], Scene] | None = None
) -> list[ScenePage]:
    """Build one page per (dataset, scene), sorted; methods follow `order`, then their names, oracles last.

    Args:
        scenes: by names of dataset and scene; the only ground truth that pages show, whatever the manifests
            name. None shows what the manifests name.

    Raises:
        DataError: a run's folder holds a link that leads out of it.
    """
    for run in runs:
        _check_links(run.folder)
    methods = sorted(
        {run.manifest.method for run in runs},
        key=lambda name: (
            any(_is_oracle(run) for run in runs if run.manifest.method == name),
            order.index(name) if name in order else len(order),
            name,
        ),
    )
    grouped: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        grouped.setdefault((run.manifest.dataset, run.manifest.scene), []).append(run)
    pages: list[ScenePage] = []
    taken: Counter[str] = Counter()
    for (dataset, name), members in sorted(grouped.items()):
        members.sort(key=lambda run: (methods.index(run.manifest.method), run.manifest.seed, run.folder.name))
        slug = re.sub(r"[^\w.-]+", "_", f"{dataset}--{name}").lower().lstrip(".")
        slug = slug.encode()[:_SLUG_BYTES].decode(errors="ignore")
        taken[slug] += 1
        truth = Series(id=TRUTH, label="Ground truth", kind="truth", color=-1, run=None)
        pages.append(
            ScenePage(
                dataset=dataset,
                name=name,
                slug=slug if taken[slug] == 1 else f"{slug}~{taken[slug]}",
                tags=sorted({tag for run in members for tag in run.manifest.tags}),
                views=_views(members),
                series=[truth, *_series(members, methods)],
                references=_references(members) if scenes is None else (),
                scene=(scenes or {}).get((dataset, name)),
            )
        )
    return pages


def scene_data(
    page: ScenePage,
    columns: Mapping[str, Column],
    specs: Mapping[str, MetricSpec],
    store: PictureStore,
    step: Callable[[], None],
) -> dict[str, Any]:
    """Return the data of a scene page as JSON: views, series, pictures, per-frame values, clip values.

    Pictures are copied through `store`; one that is missing or broken leaves a reason in its place.
    `step` is called after every sequence of pictures. `columns` and `specs` are by metric key; where no table
    has a column, a metric's own specification defines which values are better.
    """
    pictures: dict[str, dict[str, Any]] = {}
    frames = max(run.manifest.frames for run in page.runs)
    _check_numbers(page.runs)
    reduced: set[tuple[int, int]] = set()
    for view in page.views:
        name = view["name"]
        pictures[name] = {}
        for series in page.series:
            sequence, sources = _sequence(page, series, name, store)
            pictures[name][series.id] = sequence
            reduced |= sources
            frames = max(frames, len(sequence["files"]))
            step()
    metrics, values, clips = _values(page, columns, specs)
    frames = max([frames, *(len(line) for by in values.values() for v in by.values() for line in v.values())])
    return {
        "dataset": page.dataset,
        "scene": page.name,
        "frames": frames,
        "views": [dict(view) for view in page.views],
        "series": [
            {"id": one.id, "label": one.label, "kind": one.kind, "color": one.color} for one in page.series
        ],
        "pictures": pictures,
        "metrics": metrics,
        "values": values,
        "clips": clips,
        "reducedFrom": [f"{width} × {height}" for width, height in sorted(reduced)],
    }


def _check_numbers(runs: Sequence[Run]) -> None:
    """Raise a DataError for frame numbers that no clip has, since curves have one place per number."""
    for run in runs:
        largest = max((row.frame for row in run.rows if row.frame is not None), default=0)
        if largest > MAX_FRAMES:
            raise DataError(
                f"{run.folder / 'rows.jsonl'}: a value of frame {largest}, which no page has room for; move "
                "the file away and score again, with frames numbered from 0"
            )


def picture_files(page: ScenePage, series: Series, view: str) -> list[Path]:
    """List the frames of a view in temporal order, of a run or of the ground truth.

    Raises:
        DataError: there are none, or their folder cannot be read.
    """
    if series.run is not None:
        return frame_files(series.run.folder / "pred" / view)
    if page.scene is not None:
        frames = next((list(one.frames) for one in page.scene.all_views() if one.name == view), [])
        if not frames:
            raise DataError("the dataset has no reference pictures of this view")
        return frames
    fault = None
    for root in page.references:
        try:
            return frame_files(root / view)
        except DataError as error:
            fault = fault or error
    raise fault or DataError("the reference is not in a folder of the dataset; name it with --root")


def truth_files(page: ScenePage, view: str) -> list[Path]:
    """List possible files with the exact geometry of a view."""
    if page.scene is None:
        return [root / "truth" / f"{view}.npz" for root in page.references]
    return [one.truth.path for one in page.scene.all_views() if one.name == view and one.truth is not None]


def _is_oracle(run: Run) -> bool:
    return run.manifest.uses_truth or run.manifest.source == "oracle"


def _series(runs: Sequence[Run], methods: Sequence[str]) -> list[Series]:
    """Build the series; labels name seed and configuration only where two runs of a method would look alike."""
    made = []
    for place, run in enumerate(runs):
        manifest = run.manifest
        alike = [other.manifest for other in runs if other.manifest.method == manifest.method]
        label = manifest.method
        if len({other.seed for other in alike}) > 1:
            label += f" · seed {manifest.seed}"
        if len({other.config_hash for other in alike}) > 1:
            label += f" · {manifest.config_hash[:7]}"
        made.append(
            Series(
                id=f"m{place}",
                label=label,
                kind="oracle" if _is_oracle(run) else "measured",
                color=methods.index(manifest.method),
                run=run,
            )
        )
    labels = Counter(series.label for series in made)
    return [
        replace(series, label=f"{series.label} · run {place}") if labels[series.label] > 1 else series
        for place, series in enumerate(made, 1)
    ]


def _views(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """List evaluation views in the order of the manifests, then the input view, which every run renders."""
    known: dict[str, dict[str, Any]] = {}
    for run in runs:
        for view in run.manifest.views:
            known.setdefault(view["name"], {"name": view["name"], "azimuth": None, "elevation": None})
            for short, long in (("azimuth", "azimuth_deg"), ("elevation", "elevation_deg")):
                if view.get(long) is not None:
                    known[view["name"]][short] = view[long]
    entry = known.pop("input", {"name": "input", "azimuth": 0, "elevation": 0})
    return [*known.values(), entry]


def _references(runs: Sequence[Run]) -> list[Path]:
    """List distinct reference folders; runs recorded on another machine may name one that is not here."""
    return list(dict.fromkeys(Path(run.manifest.reference_root) for run in runs))


def _check_links(folder: Path) -> None:
    """Raise a DataError for a link to somewhere outside a run: pages copy what lies in the run alone."""
    home = folder.resolve()
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            if path.is_symlink() and not _within(path, home):
                raise DataError(
                    f"{path}: a link that leads out of the run's folder, which pages do not follow; put what "
                    "it links to in its place"
                )


def _within(path: Path, home: Path) -> bool:
    try:
        return path.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # a link that leads to itself
        return False


class Namer:
    """Removes this machine's folders from messages, so that sites are equal wherever they are built."""

    def __init__(self, page: ScenePage) -> None:
        self.names: dict[str, str] = {}
        for run in page.runs:
            self.names[str(run.folder)] = "/".join(run.folder.parts[-4:])
            if "/" in (root := run.manifest.reference_root.rstrip("/")):
                self.names[root] = "reference"
        for view in page.scene.all_views() if page.scene is not None else ():
            files = [*view.frames, *([view.truth.path] if view.truth is not None else [])]
            self.names |= {str(path.parent): f"reference/{path.parent.name}" for path in files}

    def __call__(self, message: str) -> str:
        for folder in sorted(self.names, key=len, reverse=True):
            message = message.replace(folder, self.names[folder])
        return message


def _sequence(
    page: ScenePage, series: Series, view: str, store: PictureStore
) -> tuple[dict[str, Any], set[tuple[int, int]]]:
    """Return `{"files": [name or null], "size": [w, h], "why": reason, "broken": {frame: reason}}` of a view,
    and the sizes of its pictures before they were reduced.
    """
    named = Namer(page)
    try:
        files = picture_files(page, series, view)
    except DataError as error:
        return {"files": [], "size": None, "why": named(str(error)), "broken": {}}, set()
    shown: list[Picture | None] = []
    broken = {}
    for place, path in enumerate(files):
        try:
            shown.append(store.add(path))
        except DataError as error:
            shown.append(None)
            broken[str(place)] = named(str(error))
    whole = [picture for picture in shown if picture is not None]
    sequence = {
        "files": [picture.name if picture else None for picture in shown],
        "size": list(whole[0].size) if whole else None,
        "why": f"{len(files)} frames in {named(str(files[0].parent))}",
        "broken": broken,
    }
    return sequence, {picture.source_size for picture in whole if picture.source_size != picture.size}


def _values(
    page: ScenePage, columns: Mapping[str, Column], specs: Mapping[str, MetricSpec]
) -> tuple[list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]:
    """Collect metrics by (key, signature), their per-frame values and their values over whole clips.

    A value measured twice under one signature (a rendering made again) counts with its last row, as in tables.
    """
    rows = {
        series.id: [r for r in series.run.rows if r.object == page.name] for series in page.series if series.run
    }
    first = {one.id: _first_numbers(page, one, rows[one.id]) for one in page.series if one.run}
    pairs = sorted({(row.metric, row.signature) for some in rows.values() for row in some})
    shared = Counter(key for key, _ in pairs)
    metrics, frames, clips = [], {}, []
    for key, signature in sorted(pairs, key=lambda pair: _column_order(pair[0], columns)):
        column = columns.get(key)
        known = column or specs.get(key)
        identity = key if shared[key] == 1 else f"{key}~{signature}"
        title = _title(key, column)
        by_series = {
            one.id: _lines(rows[one.id], key, signature, first[one.id]) for one in page.series if one.run
        }
        curves = {name: lines for name, (lines, _) in by_series.items() if lines}
        metrics.append(
            {
                "id": identity,
                "key": key,
                "name": title,  # without the parts that distinguish its signatures
                "title": title + _difference(signature, [other for metric, other in pairs if metric == key]),
                "better": known.better if known else "none",
                "digits": known.digits if known else 3,
                "signature": signature,
                "perFrame": bool(curves),
            }
        )
        if curves:
            frames[identity] = curves
        clips += [
            {"metric": identity, "series": name, "view": view, "value": value}
            for name, (_, whole) in by_series.items()
            for view, value in whole.items()
        ]
    return metrics, frames, clips


def _difference(signature: str, signatures: Sequence[str]) -> str:
    """Return " (p:toy4d-v1)", the parts of a signature that not all signatures of its metric share."""
    if len(signatures) == 1:
        return ""
    shared = set.intersection(*(set(other.split("|")) for other in signatures))
    own = [part for part in signature.split("|") if part not in shared]
    return f" ({', '.join(own) or 'plain'})"


def _title(key: str, column: Column | None) -> str:
    """Return the column's title, with the metric's key if the title is relative ("its floor")."""
    if column is None:
        return key
    bare, words = (re.sub(r"[^a-z0-9]", "", text.lower()) for text in (key, column.title))
    return column.title if words and (bare in words or words in bare) else f"{column.title} ({key})"


def _column_order(key: str, columns: Mapping[str, Column]) -> tuple[int, str]:
    return (list(columns).index(key) if key in columns else len(columns), key)


def _first_numbers(page: ScenePage, series: Series, rows: Sequence[Row]) -> dict[str, int]:
    """Return the number of the first frame by view, 0 or 1 as a rule: pictures are shown by position."""
    found: dict[str, int] = {}
    for row in rows:
        if row.frame is not None:
            found[row.view] = min(found.get(row.view, row.frame), row.frame)
    for view in found:
        with suppress(DataError):  # no pictures, or a view of all views
            found[view] = min(found[view], int(picture_files(page, series, view)[0].stem))
    return found


def _lines(
    rows: Sequence[Row], key: str, signature: str, first: Mapping[str, int]
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Return `{view: [value or null per frame]}` and `{view: value}` over clips; infinities are strings.

    Args:
        first: number of the first frame by view.
    """
    points: dict[str, dict[int, Any]] = {}
    whole: dict[str, Any] = {}
    for row in rows:
        if (row.metric, row.signature) != (key, signature):
            continue
        value = row.value if math.isfinite(row.value) else str(row.value)
        if row.frame is None:
            whole[row.view] = value
        else:
            points.setdefault(row.view, {})[row.frame - first[row.view]] = value
    lines = {view: [at.get(frame) for frame in range(max(at) + 1)] for view, at in points.items()}
    return lines, whole
