"""Data of the page of one scene: its pictures, and the values of its runs by frame and by clip."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from mvtokenflow.base.errors import DataError
from mvtokenflow.eval.metrics.spec import MetricSpec
from mvtokenflow.eval.records.rows import MAX_FRAMES, Row, Run
from mvtokenflow.eval.tables.table import Column
from mvtokenflow.reports.pictures import Picture, PictureStore
from mvtokenflow.reports.scene import Namer, ScenePage, Series, picture_files


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
