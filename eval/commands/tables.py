"""`mvtf-eval table1` to `table4`: ensure the runs, then print the table from their records."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvtokenflow.commands.talk import Device, Json, print_json, progress, say
from mvtokenflow.eval.commands.common import Jobs, RunsRoot, WeightsPath, fetch_weights, options
from mvtokenflow.eval.commands.grid import (
    DatasetName,
    DatasetRoot,
    Form,
    Import,
    Methods,
    ProtocolName,
    Scenes,
    Seeds,
    Shard,
    request_of,
)

if TYPE_CHECKING:
    from mvtokenflow.eval.table import Table

FORMS = ("terminal", "md", "csv", "latex", "json", "html")


FILE_WIDTH = 140  # of a table that goes into a file or a pipe


def help_of(name: str) -> str:
    """The help text of a table's command."""
    text = "Render and score what is missing, then print the table."
    return f"{text}\n\nExample: mvtf-eval {name} --dataset toy4d --intervals --site site"


def table(
    context: typer.Context,
    dataset: DatasetName = "toy4d",
    root: DatasetRoot = None,
    methods: Methods = None,
    scenes: Scenes = None,
    seeds: Seeds = "0",
    protocol: ProtocolName = None,
    imports: Import = None,
    runs: RunsRoot = Path("runs"),
    site: Annotated[Path | None, typer.Option(help="Also build the report pages here.")] = None,
    form: Form = "terminal",
    intervals: Annotated[
        bool, typer.Option("--intervals/--no-intervals", help="Print 95 % intervals.")
    ] = False,
    quoted: Annotated[bool, typer.Option("--quoted/--no-quoted", help="Append published numbers.")] = True,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Allow several signatures in a column.")
    ] = False,
    fetch: Annotated[bool, typer.Option("--fetch-weights", help="Fetch missing weights first.")] = False,
    full: Annotated[bool, typer.Option("--full", help="All scenes instead of the quick selection.")] = False,
    weights: WeightsPath = None,
    force: Annotated[bool, typer.Option("--force", help="Score what a strict pre-flight refuses.")] = False,
    shard: Shard = "0/1",
    device: Device = "cpu",
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Ensure the runs of the table named by the command, then print it from their records."""
    from mvtokenflow.eval.table_specs import TABLES
    from mvtokenflow.eval.tabulate import ensure, scored_runs, specs_of, tabulate
    from mvtokenflow.files import choose

    choose("table format", form, dict.fromkeys(FORMS))  # before the work, not after it
    spec = TABLES[str(context.info_name)]
    request = request_of(
        spec.name,
        options(device, jobs, weights, force),
        dataset=dataset,
        root=root,
        methods=methods,
        scenes=scenes,
        seeds=seeds,
        protocol=protocol,
        runs=runs,
        imports=imports,
        full=full,
        shard=shard,
    )
    if fetch:
        fetch_weights([s.weights for s in specs_of(request.protocol, [spec]) if s.weights])
    with progress() as report:
        failures = ensure(request, [spec], report)
    result = tabulate(request, spec, failures, allow_mixed=allow_mixed, quoted=quoted)
    if as_json:
        print_json(result.to_json())
    else:
        _print(result, form, intervals)
    if site is not None:
        from mvtokenflow.reports.site import build_site

        with progress() as report:
            page = build_site([result], scored_runs(request), site, report)
        say(f"report: {page}")
    if failures:
        raise typer.Exit(2)


def _print(result: "Table", form: str, intervals: bool) -> None:
    if form == "terminal":
        from rich.console import Console

        from mvtokenflow.reports.text import terminal

        Console(width=None if sys.stdout.isatty() else FILE_WIDTH).print(terminal(result, intervals=intervals))
        return
    if form == "html":
        from mvtokenflow.reports.html import tables_page

        typer.echo(tables_page([result], title=result.title, intervals=intervals))
        return
    from mvtokenflow.reports.text import render

    typer.echo(render(result, form, intervals=intervals))
