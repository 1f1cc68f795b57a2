"""Published numbers of each method side by side, with what was measured here next to them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mvtokenflow.baselines.published import (
    A_SCENE,
    BETWEEN_VIEWS,
    ELSEWHERE,
    INPUT_VIEW,
    NOVEL_VIEWS,
    PUBLISHED,
    ROWS,
    Published,
)
from mvtokenflow.eval.protocols import BETWEEN, INPUT, METRICS, NOVEL
from mvtokenflow.eval.records.summary import plain
from mvtokenflow.eval.tables.request import Request, finished_only
from mvtokenflow.eval.tables.specs import MINUTES, ColumnSpec, TableSpec
from mvtokenflow.eval.tables.table import Cell
from mvtokenflow.eval.tables.tabulate import tabulate

MARKED = "published"  # name of the markers in docs/published.md
TITLES: Mapping[str, str] = {
    **{"lpips": "LPIPS", "psnr": "PSNR", "ssim": "SSIM", "clip": "CLIP", "clip_views": "CLIP"},
    **{"fvd_c4d": "FVD", "fvd_f": "FVD-F", "fvd_v": "FVD-V", "fvd_diag": "FVD-Diag", "fv4d": "FV4D"},
    "minutes": "minutes",
}
_PLACES = {INPUT_VIEW: INPUT, NOVEL_VIEWS: NOVEL, BETWEEN_VIEWS: BETWEEN}
_VIEWS = (INPUT_VIEW, BETWEEN_VIEWS, NOVEL_VIEWS, A_SCENE)

Quantity = tuple[str, str]  # metric, views


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What was measured here.

    Attributes:
        cells: by row and quantity.
        facts: protocol, dataset, scenes and seeds.
    """

    cells: Mapping[tuple[str, Quantity], Cell] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def measured_here(request: Request) -> Measurements:
    """Read the quantities that papers print from finished runs; nothing is rendered or measured.

    Raises:
        DataError: the request has no finished run.
    """
    request = finished_only(request)
    columns = {quantity: column for quantity in _quantities() if (column := _column(quantity)) is not None}
    spec = TableSpec(name="published", title="", caption="", columns=tuple(columns.values()))
    table = tabulate(request, spec, [], allow_mixed=True, quoted=False)
    places = {column.title: place for place, column in enumerate(table.columns)}
    cells = {
        (row.label, quantity): row.cells[places[column.title]]
        for row in table.rows
        for quantity, column in columns.items()
        if column.title in places and row.cells[places[column.title]].value is not None
    }
    facts = {
        "protocol": request.protocol.name,
        "dataset": request.dataset.name,
        "scenes": list(request.scenes),
        "seeds": list(request.seeds),
    }
    return Measurements(cells=cells, facts=facts)


def markdown_text(measured: Measurements | None = None) -> str:
    """Write a table for each method, the sources, and the signatures of what was measured here.

    The text without `measured` is that with it, without the last column and the last section.
    """
    marks = _marks()
    parts = []
    for label, numbers in _by_method().items():
        sources = [mark for source, mark in marks.items() if any(_source(n) == source for n in numbers)]
        row = ROWS.get(label)
        heads = ["metric", "of", *sources, *(["here"] if measured else [])]
        lines = [f"| {' | '.join(heads)} |", f"| :-- | :-- |{' --: |' * (len(heads) - 2)}"]
        for quantity in _quantities(numbers):
            printed = {marks[_source(n)]: n.printed for n in numbers if (n.metric, n.views) == quantity}
            cells = [TITLES[quantity[0]], quantity[1], *(printed.get(mark, "") for mark in sources)]
            if measured:
                cells.append(_cell(quantity, measured.cells.get((row or "", quantity))))
            lines.append(f"| {' | '.join(cells)} |")
        parts += [f"### {label}{f', here `{row}`' if row else ''}", "\n".join(lines)]
    known = {_source(n): n for n in (*PUBLISHED, *ELSEWHERE)}
    sources = [
        f"- **{mark}**: arXiv {n.arxiv}, {n.where}, on {n.dataset}: {n.protocol}."
        for source, mark in marks.items()
        for n in [known[source]]
    ]
    parts += ["### Sources", "\n".join(sources)]
    if measured:
        parts += ["### Measured here", "\n".join(_origin(measured))]
    return "\n\n".join(parts) + "\n"


def json_text(measured: Measurements | None = None) -> str:
    """Write one strict JSON document of the same."""
    found = measured or Measurements()
    methods = []
    for label, numbers in _by_method().items():
        row = ROWS.get(label)
        quantities = [
            {
                "metric": quantity[0],
                "views": quantity[1],
                "published": [
                    {
                        "printed": n.printed,
                        "arxiv": n.arxiv,
                        "where": n.where,
                        "dataset": n.dataset,
                        "protocol": n.protocol,
                    }
                    for n in numbers
                    if (n.metric, n.views) == quantity
                ],
                "measured": _cell_json(found.cells.get((row or "", quantity))),
            }
            for quantity in _quantities(numbers)
        ]
        methods.append({"method": label, "row": row, "quantities": quantities})
    document = {"schema": 1, "methods": methods, "measured": dict(found.facts) or None}
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _by_method() -> dict[str, list[Published]]:
    """Group all numbers by method: those with a row here first, in the order of `ROWS`."""
    every = (*PUBLISHED, *ELSEWHERE)
    labels = dict.fromkeys([*ROWS, *(n.method for n in every)])
    return {label: [n for n in every if n.method == label] for label in labels}


def _quantities(numbers: Sequence[Published] = (*PUBLISHED, *ELSEWHERE)) -> list[Quantity]:
    """List what some numbers are of, each once: by views, then by metric."""
    found = {(n.metric, n.views) for n in numbers}
    return sorted(found, key=lambda one: (_VIEWS.index(one[1]), list(TITLES).index(one[0])))


def _column(quantity: Quantity) -> ColumnSpec | None:
    """Return the column that measures a quantity; None where no metric here does."""
    metric, views = quantity
    title = f"{TITLES[metric]} of {views}"
    if metric == MINUTES.key:
        return ColumnSpec(shows=MINUTES, title=title)
    if metric not in METRICS:
        return None
    return ColumnSpec(shows=METRICS[metric], title=title, place=_PLACES[views])


def _source(number: Published) -> tuple[str, str]:
    return number.arxiv, number.where


def _marks() -> dict[tuple[str, str], str]:
    """Return short names of the sources: a letter for each paper, and the table's number."""
    sources = dict.fromkeys(_source(n) for n in (*PUBLISHED, *ELSEWHERE))
    papers = list(dict.fromkeys(arxiv for arxiv, _ in sources))
    return {(arxiv, where): f"{chr(65 + papers.index(arxiv))}{where[-1]}" for arxiv, where in sources}


def _cell(quantity: Quantity, cell: Cell | None) -> str:
    """Print a measured value with its interval and the number of runs."""
    column = _column(quantity)
    if cell is None or cell.value is None or column is None:
        return "–"
    low, high = cell.low, cell.high
    bounds = "" if low is None or high is None else f" [{low:.{column.digits}f}, {high:.{column.digits}f}]"
    return f"{cell.value:.{column.digits}f}{bounds} ({cell.have}/{cell.want})"


def _cell_json(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None or cell.value is None:
        return None
    bounds = {
        "low": None if cell.low is None else plain(cell.low),
        "high": None if cell.high is None else plain(cell.high),
    }
    runs = {"runs": cell.have, "wanted": cell.want, "signature": (cell.provenance or {}).get("signature")}
    return {"value": plain(cell.value), **bounds, **runs}


def _origin(measured: Measurements) -> list[str]:
    """List the facts of the runs, and the signatures of the values by quantity."""
    lines = [
        f"- {name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in measured.facts.items()
    ]
    lines.append("- in brackets: 95 % interval over scenes; then runs found and runs wanted")
    for quantity in _quantities():
        found = {
            str((cell.provenance or {}).get("signature")): None
            for (_, one), cell in measured.cells.items()
            if one == quantity
        }
        if found:
            lines.append(f"- {TITLES[quantity[0]]} of {quantity[1]}: {', '.join(f'`{one}`' for one in found)}")
    return lines
