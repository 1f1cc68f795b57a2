"""Traces a cell to its files, hashes, weights, versions and command."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.names import printable
from mvtokenflow.eval.records.aggregate import object_values
from mvtokenflow.eval.records.rows import Run
from mvtokenflow.eval.records.summary import Summary, plain
from mvtokenflow.eval.tables.request import Request
from mvtokenflow.eval.tables.specs import ColumnSpec, Cost, TableSpec
from mvtokenflow.eval.tables.tabulate import scored_runs, tabulate

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_RUNS = 12  # on a screen


def explain_cell(request: Request, spec: TableSpec, name: str) -> dict[str, Any]:
    """Collect everything behind the cell of the request's only method in the column of `column_named`.

    Raises:
        ConfigError: the table has no such column, or several.
        DataError: the prediction changed since it was scored.
    """
    column = column_named(spec.under(request.protocol), name)
    table = tabulate(request, spec, [], quoted=False)
    titles = [(shown.key, shown.title) for shown in table.columns]
    if (column.metric, column.title) not in titles:
        raise ConfigError(f"protocol {request.protocol.name} does not measure {column.title}")
    index = titles.index((column.metric, column.title))
    cell = table.rows[0].cells[index]
    return {
        "meaning": _meaning(column),
        "better": column.better,
        "value": None if cell.value is None else plain(cell.value),
        "interval": None if cell.low is None or cell.high is None else [plain(cell.low), plain(cell.high)],
        "runs shown": f"{cell.have}/{cell.want}",
        "missing": cell.reason,
        "signature": list(table.columns[index].signatures),
        "runs": [_run(run, column, request) for run in scored_runs(request)],
    }


def column_named(spec: TableSpec, name: str) -> ColumnSpec:
    """Find a column by its title, in any case, or by its metric's key if only one column has it.

    Raises:
        ConfigError: there is none, or several.
    """
    titled = [column for column in spec.columns if column.title.lower() == name.lower()]
    found = titled or [column for column in spec.columns if column.metric == name]
    if not found:
        known = ", ".join(f"{column.metric} ({column.title})" for column in spec.columns)
        raise ConfigError(f"{spec.name} has no column {name}; it has {known}")
    if len(found) > 1:
        several = " and ".join(f"'{column.title}'" for column in found)
        raise ConfigError(f"{spec.name} shows {name} in several columns; name one: {several}")
    return found[0]


def _run(run: Run, column: ColumnSpec, request: Request) -> dict[str, Any]:
    from mvtokenflow.eval.tables.render import prediction_digest

    found = prediction_digest(run.folder / "pred")
    if found != run.manifest.prediction_digest:
        raise DataError(
            f"{run.folder / 'pred'}: changed since it was rendered (digest {found[:12]} instead of "
            f"{run.manifest.prediction_digest[:12]}); delete the run folder and run the table again"
        )
    summary = Summary.load(run.folder, request.protocol.name)
    values = object_values(run.rows, column.metric, column.place)
    return {
        "folder": str(run.folder),
        "prediction": found,
        "reference": run.manifest.reference_root,
        "values": {
            name: {
                "value": plain(value.value),
                "views": {
                    view: {"value": plain(number), "frames": value.frames[view]}
                    for view, number in value.views.items()
                },
            }
            for name, value in values.items()
        },
        "config": dict(run.manifest.config),
        "rendered by": dict(run.manifest.pedigree),
        "measured by": dict(summary.pedigree) if summary else None,
        "findings": [f["problem"] for f in summary.findings] if summary else [],
        "stages": [f"{s.name}: {s.wall_s:.1f} s, {s.peak_mib:.0f} MiB" for s in run.manifest.stages],
    }


def _meaning(column: ColumnSpec) -> str:
    """Return the first sentence on the metric or cost of a column."""
    if isinstance(column.shows, Cost):
        return "Measured while rendering, all stages together."
    return (type(column.shows).__doc__ or "").strip().partition("\n")[0]


def screen(title: str, document: Mapping[str, Any], width: int) -> list[str]:
    """Return what a cell rests on as lines for one screen: its value, its runs, and what these share.

    Args:
        document: of `explain_cell`.
        width: of the terminal; values by view are left out where they do not fit.
    """
    direction = {"higher": "; higher is better", "lower": "; lower is better", "none": ""}[document["better"]]
    if document["value"] is None:
        head = f"no value: {document['missing']}"
    else:
        bounds = document["interval"]
        interval = f" [{_short(bounds[0])}, {_short(bounds[1])}]" if bounds else ""
        head = f"{_short(document['value'])}{interval}, {document['runs shown']} runs{direction}"
    lines = [title, head, document["meaning"], *(f"signature: {one}" for one in document["signature"])]
    runs = document["runs"]
    if not runs:
        return lines
    lines += ["", *_values(runs[:_RUNS], width)]
    if len(runs) > _RUNS:
        lines.append(f"and {len(runs) - _RUNS} more runs; --tree shows them")
    findings = dict.fromkeys(finding for run in runs for finding in run["findings"])
    facts = {
        "rendered by": _shared(_by(run["rendered by"]) for run in runs),
        "command": _shared(shlex.join(map(str, run["rendered by"].get("command", []))) for run in runs),
        "measured by": _shared(_by(run["measured by"] or {}) for run in runs),
        "weights": _shared(_weights(run) for run in runs),
        "folders": _shared(str(Path(run["folder"]).parents[1]) for run in runs),
        "findings": "; ".join(findings),
    }
    lines += ["", *(f"{name + ':':<12} {text}" for name, text in facts.items() if text)]
    return [*lines, "", "--tree: every file, hash, setting and package; --json: the same for programs"]


def _values(runs: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """Return a small table of the runs' values, by view where there is room."""
    views = list(
        dict.fromkeys(view for run in runs for value in run["values"].values() for view in value["views"])
    )
    rows = []
    for run in runs:
        folder = Path(run["folder"])
        for name, value in run["values"].items() or ((folder.parent.name, None),):
            found = value["views"] if value else {}
            cells = [_short(found[view]["value"]) if view in found else "-" for view in views]
            mean = _short(value["value"]) if value else "-"
            rows.append([name, folder.name, mean, *(cells if len(views) > 1 else [])])
    head = ["scene", "run", "mean", *(views if len(views) > 1 else [])]
    sizes = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    fits = next((n for n in range(len(head), 3, -1) if sum(sizes[:n]) + 2 * (n - 1) <= width), 3)
    kept = [row[:fits] if fits == len(head) else row[:3] for row in [head, *rows]]
    return [
        "  ".join(f"{cell:<{size}}" for cell, size in zip(row, sizes, strict=False)).rstrip() for row in kept
    ]


def _shared(texts: Iterable[str]) -> str:
    """Return the text of all runs, or of the first and how many others there are."""
    found = [text for text in dict.fromkeys(texts) if text]
    more = f" (and {len(found) - 1} others, see --tree)" if len(found) > 1 else ""
    return f"{found[0]}{more}" if found else ""


def _by(pedigree: Mapping[str, Any]) -> str:
    code = pedigree.get("code") or {}
    commit = f" at {code['commit'][:10]}" if code.get("commit") else ""
    changed = " with local changes" if code.get("dirty") else ""
    parts = [f"version {code.get('version', 'unknown')}{commit}{changed}"]
    parts += [str(pedigree[name]) for name in ("device", "platform") if pedigree.get(name)]
    return ", ".join(parts) if pedigree else ""


def _weights(run: Mapping[str, Any]) -> str:
    pedigrees = [run["rendered by"], run["measured by"] or {}]
    found = {name: sha for pedigree in pedigrees for name, sha in (pedigree.get("weights") or {}).items()}
    return ", ".join(f"{name} {str(sha)[:8]}" for name, sha in sorted(found.items()))


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.5g}"


def tree(title: str, document: dict[str, Any]) -> "Tree":
    """Return the document as a tree for the terminal."""
    from rich.tree import Tree

    root = Tree(_text(title))
    _grow(root, document)
    return root


def _grow(branch: "Tree", value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _leaf_or_branch(branch, str(key), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _leaf_or_branch(branch, str(index), item)


def _leaf_or_branch(branch: "Tree", key: str, item: Any) -> None:
    if isinstance(item, dict | list) and item:
        _grow(branch.add(_text(key)), item)
    else:
        branch.add(_text(f"{key}: {item}"))


def _text(text: str) -> "Text":
    """Return text without console markup and without characters that control a terminal."""
    from rich.text import Text

    return Text(printable(text))
