"""Collects the panels of a figure from a table and from the records of its runs."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from mvtokenflow.eval.plots.panels import Costs, Dots, Figure, Group, Line, Lines, Mark, Over, Panel, Point
from mvtokenflow.eval.records.aggregate import frame_values, mean, object_values
from mvtokenflow.eval.records.rows import Run
from mvtokenflow.eval.tables.measured import ELSEWHERE
from mvtokenflow.eval.tables.specs import MINUTES, ColumnSpec, Cost
from mvtokenflow.eval.tables.table import Column, Table

By = Literal["metric", "view", "frame", "scene", "minutes"]
BY: tuple[By, ...] = ("metric", "view", "frame", "scene", "minutes")

_Found = Mapping[str, Sequence[float]]  # by name of a view, a frame or a scene


def panels(table: Table, columns: Sequence[ColumnSpec], runs: Sequence[Run], by: By) -> list[Panel]:
    """Return one panel for each column with measured numbers; quoted rows are in none.

    Args:
        table: built from `runs`; its columns and rows are drawn in its order.
        columns: the specifications of its columns, and maybe others.
        runs: scored; those of rows that the table does not have are left out.
        by: "metric" for a dot and an interval for each row; or the mean over all else by "view", "frame" or
            "scene"; or the numbers of the table against "minutes" per scene.
    """
    made: list[Panel | None] = []
    for place, column in enumerate(table.columns):
        marks = _marks(table, place)
        if not any(mark.group == "measured" for mark in marks):
            continue
        if by == "metric":
            made.append(None if column.better == "none" else _dots(column, marks))
        elif by == "minutes":
            made.append(_costs(column, marks, runs))
        else:
            known = {(spec.metric, spec.title): spec for spec in columns}
            made.append(_lines(column, known[column.key, column.title], table, runs, by))
    return [panel for panel in made if panel is not None]


def overview(table: Table, columns: Sequence[ColumnSpec], runs: Sequence[Run]) -> list[Figure]:
    """Return what a first page shows: every metric's dots, then how the first metric varies, and its cost."""
    every = Figure(title=f"{table.title}, at a glance", panels=panels(table, columns, runs, "metric"))
    place = headline(table)
    if place is None:
        return []
    first = table.columns[place]
    rows = [replace(row, cells=[row.cells[place]]) for row in table.rows]
    alone = replace(table, columns=[first], rows=rows)
    varied = [panel for by in BY[1:] for panel in panels(alone, columns, runs, by)]
    parts = Figure(title=f"{first.title} taken apart", panels=varied)
    return [every, parts] if varied else [every]


def headline(table: Table) -> int | None:
    """Return the place of the first column with a direction and a measured number; None without one."""
    for place, column in enumerate(table.columns):
        if column.better != "none" and any(mark.group == "measured" for mark in _marks(table, place)):
            return place
    return None


def _dots(column: Column, marks: Sequence[Mark]) -> Dots:
    return Dots(title=column.title, better=column.better, digits=column.digits, marks=marks)


def _marks(table: Table, place: int) -> list[Mark]:
    """Return the finite numbers of a column, measured ones and known answers."""
    marks = []
    for row in table.rows:
        cell = row.cells[place]
        if row.group == "quoted" or cell.value is None or not math.isfinite(cell.value):
            continue
        marks.append(
            Mark(
                label=row.label,
                group=row.group,
                value=cell.value,
                low=cell.low,
                high=cell.high,
                coverage=cell.coverage,
            )
        )
    return marks


def _lines(column: Column, spec: ColumnSpec, table: Table, runs: Sequence[Run], over: Over) -> Lines | None:
    """Return a row's means by view, frame or scene; None where nothing has values at two of them."""
    if isinstance(spec.shows, Cost):
        return None
    found: dict[str, dict[str, list[float]]] = {}
    for label in (row.label for row in table.rows if row.group != "quoted"):
        of_row: dict[str, list[float]] = defaultdict(list)
        for run in (run for run in runs if run.manifest.method == label):
            for name, values in _READERS[over](run, spec).items():
                of_row[name] += values
        if of_row:
            found[label] = of_row
    names = dict.fromkeys(name for of_row in found.values() for name in of_row)
    at = sorted(names, key=int) if over == "frame" else list(names)
    groups = {row.label: row.group for row in table.rows}
    lines = [_line(label, groups[label], of_row, at) for label, of_row in found.items()]
    drawn = [line for line in lines if sum(value is not None for value in line.values) > 1]
    if not any(line.group == "measured" for line in drawn):
        return None
    return Lines(title=column.title, better=column.better, digits=column.digits, over=over, at=at, lines=drawn)


def _line(label: str, group: str, found: _Found, at: Sequence[str]) -> Line:
    means = [mean(found[name]) if _has_mean(found.get(name)) else None for name in at]
    kind: Group = "oracle" if group == "oracle" else "measured"
    return Line(label=label, group=kind, values=means)


def _has_mean(values: Sequence[float] | None) -> bool:
    return bool(values) and all(map(math.isfinite, values or ()))


def _by_view(run: Run, spec: ColumnSpec) -> dict[str, list[float]]:
    values = object_values(run.rows, spec.metric, spec.place)
    found: dict[str, list[float]] = defaultdict(list)
    for value in values.values():
        for view, number in value.views.items():
            found[view].append(number)
    return found


def _by_frame(run: Run, spec: ColumnSpec) -> dict[str, list[float]]:
    found = frame_values(run.rows, spec.metric, spec.place)
    return {str(frame): values for frame, values in found.items()}


def _by_scene(run: Run, spec: ColumnSpec) -> dict[str, list[float]]:
    values = object_values(run.rows, spec.metric, spec.place)
    return {name: [value.value] for name, value in values.items()}


_READERS: Mapping[Over, Callable[[Run, ColumnSpec], dict[str, list[float]]]] = {
    "view": _by_view,
    "frame": _by_frame,
    "scene": _by_scene,
}


def _costs(column: Column, marks: Sequence[Mark], runs: Sequence[Run]) -> Costs | None:
    if column.better == "none" or column.key == MINUTES.key:
        return None
    points = []
    for mark in marks:
        minutes = _minutes(run for run in runs if run.manifest.method == mark.label)
        if mark.group == "measured" and minutes:
            points.append(Point(minutes=minutes, mark=mark))
    levels = [mark for mark in marks if mark.group == "oracle"]
    if not points:
        return None
    return Costs(title=column.title, better=column.better, digits=column.digits, points=points, levels=levels)


def _minutes(runs: Iterable[Run]) -> float:
    """Return the mean minutes of some runs; 0 where none was rendered here."""
    here = [run for run in runs if run.manifest.stages and run.manifest.source not in ELSEWHERE]
    return mean([MINUTES.of(run) for run in here]) if here else 0.0
