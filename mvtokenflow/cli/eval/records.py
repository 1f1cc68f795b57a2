"""`mvtf-eval report|explain`: pages and explanations made from records."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvtokenflow.base.options import Json
from mvtokenflow.base.terminal import print_json, print_line, print_message, progress
from mvtokenflow.cli.eval.common import RunsRoot, options
from mvtokenflow.cli.eval.grid import (
    DatasetName,
    DatasetRoot,
    Full,
    FullSeeds,
    Import,
    Methods,
    Mixed,
    Preset,
    ProtocolName,
    Scenes,
    Seeds,
    check_names,
    check_protocol,
    request_of,
)

if TYPE_CHECKING:
    from mvtokenflow.eval.plots.panels import Figure
    from mvtokenflow.eval.records.rows import Run
    from mvtokenflow.eval.tables.table import Table

TableName = Annotated[str, typer.Argument(help="table1, table2, table3 or table4.")]


def report(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the pages.")] = Path("site"),
    runs: RunsRoot = Path("runs"),
    dataset: DatasetName = "toy4d",
    root: DatasetRoot = None,
    methods: Methods = None,
    scenes: Scenes = "all",
    seeds: Seeds = None,
    protocol: ProtocolName = None,
    preset: Preset = "mini",
    imports: Import = None,
    tables: Annotated[
        str, typer.Option(help="Tables on the first page, separated by commas.")
    ] = "table1,table2",
    allow_mixed: Mixed = False,
) -> None:
    """Build the static report pages from records; nothing is rendered or measured.

    Example: mvtf-eval report --runs runs -o site
    """
    from mvtokenflow.eval.protocols import METRICS

    check_names(dataset, methods)
    check_protocol(protocol)
    from mvtokenflow.eval.plots.collect import overview
    from mvtokenflow.eval.records.summary import merged
    from mvtokenflow.eval.tables.request import finished_only
    from mvtokenflow.eval.tables.specs import table_named
    from mvtokenflow.eval.tables.tabulate import reference_scenes, scored_runs, tabulate
    from mvtokenflow.reports.site import build_site

    built: list[Table] = []
    plots: dict[str, list[Figure]] = {}
    shown: dict[Path, Run] = {}
    for name in tables.split(","):
        request = finished_only(
            request_of(
                name,
                options("cpu", None, None),
                dataset=dataset,
                root=root,
                methods=methods,
                scenes=scenes,
                seeds=seeds,
                protocol=protocol,
                runs=runs,
                preset=preset,
                imports=imports,
            )
        )
        spec = table_named(name)
        built.append(tabulate(request, spec, [], allow_mixed=allow_mixed))
        runs_here = scored_runs(request)
        plots[name] = overview(built[-1], spec.under(request.protocol).columns, runs_here)
        for run in runs_here:
            shown[run.folder] = merged(shown[run.folder], run) if run.folder in shown else run
    with progress() as bars:
        members = list(shown.values())
        references = reference_scenes(request, members)
        metrics = {**METRICS, **{spec.key: spec for spec in request.protocol.metrics}}
        page = build_site(
            built, members, out, bars, scenes=references, metrics=metrics, plots=plots, waiting=print_message
        )
    print_message(f"report: {page}")


def explain(
    table: TableName,
    method: Annotated[str, typer.Argument(help="Row.")],
    column: Annotated[str, typer.Argument(help="Its title, e.g. 'LPIPS novel', or its metric, e.g. lpips.")],
    dataset: DatasetName = "toy4d",
    root: DatasetRoot = None,
    scenes: Scenes = None,
    seeds: FullSeeds = None,
    protocol: ProtocolName = None,
    runs: RunsRoot = Path("runs"),
    preset: Preset = "mini",
    full: Full = False,
    imports: Import = None,
    whole: Annotated[
        bool, typer.Option("--tree", help="Print everything on record: files, hashes, settings, packages.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take a cell apart: what it means, values by scene and view, weights, versions, command.

    Example: mvtf-eval explain table1 copy-input lpips
    """
    own = f"{method}="  # an imported row is named on the command line, not in the catalogue
    imported = [pair for pair in imports or () if pair.startswith(own)]
    check_names(dataset, None if imported else method)
    check_protocol(protocol)
    from mvtokenflow.eval.tables.explain import explain_cell, screen, tree
    from mvtokenflow.eval.tables.specs import table_named

    request = request_of(
        table,
        options("cpu", None, None),
        dataset=dataset,
        root=root,
        methods="" if imported else method,
        imports=imported,
        scenes=scenes,
        seeds=seeds,
        protocol=protocol,
        runs=runs,
        preset=preset,
        full=full,
    )
    document = explain_cell(request, table_named(table), column)
    if as_json:
        print_json(document)
        return
    from rich.console import Console

    console, title = Console(), f"{table} / {method} / {column}"
    if whole:
        console.print(tree(title, document))
    for line in () if whole else screen(title, document, console.width):
        print_line(line)
