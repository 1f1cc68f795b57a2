"""Traces a cell to its files, hashes, weights, versions and command."""

from typing import TYPE_CHECKING, Any

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.names import printable
from mvtokenflow.eval.records.aggregate import object_values
from mvtokenflow.eval.records.rows import Run
from mvtokenflow.eval.records.summary import Summary, plain
from mvtokenflow.eval.tables.ensure import Request, scored_runs, tabulate
from mvtokenflow.eval.tables.specs import ColumnSpec, TableSpec

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree


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
