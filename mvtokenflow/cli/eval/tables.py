"""`mvtf-eval table1` to `table4` and `ablate`: complete the runs, then print the table from their records."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO, cast

import typer

from mvtokenflow.base.device import AUTO
from mvtokenflow.base.options import Device, Json, grouped
from mvtokenflow.base.terminal import print_json, print_line, print_message, progress
from mvtokenflow.cli.eval.common import (
    Jobs,
    RunsRoot,
    WeightsPath,
    check_jobs,
    check_weights,
    fetch_weights,
    options,
)
from mvtokenflow.cli.eval.engines import EngineOptions
from mvtokenflow.cli.eval.grid import (
    DatasetName,
    DatasetRoot,
    Form,
    Full,
    FullSeeds,
    Import,
    Methods,
    Mixed,
    Preset,
    ProtocolName,
    Scenes,
    Shard,
    check_imports,
    check_names,
    check_protocol,
    request_of,
)
from mvtokenflow.eval.tables.titles import TITLES

if TYPE_CHECKING:
    from mvtokenflow.eval.tables.request import Failure, Request
    from mvtokenflow.eval.tables.specs import TableSpec
    from mvtokenflow.eval.tables.table import Table
    from mvtokenflow.reports.layout import Notes

Site = Annotated[Path | None, typer.Option(help="Also build the report pages here.")]
Intervals = Annotated[bool, typer.Option("--intervals/--no-intervals", help="Print 95 % intervals.")]
Quoted = Annotated[bool, typer.Option("--quoted/--no-quoted", help="Append published numbers.")]
Fetch = Annotated[bool, typer.Option("--fetch-weights", help="Fetch missing weights first.")]
Columns = Annotated[
    str | None,
    typer.Option(help="Columns to print, in this order: titles or metrics, separated by commas."),
]
Rows = Annotated[
    str | None, typer.Option(help="Rows to print and rank, in this order, separated by commas; all by default.")
]
NotesLevel = Annotated[
    str,
    typer.Option(
        "--notes",
        help="full; short for what all signatures share and what cells refer to; none. Not in csv and json.",
    ),
]
SignaturesFile = Annotated[
    Path | None,
    typer.Option("--signatures", help="Also write the whole signature of each column to this file."),
]
Force = Annotated[bool, typer.Option("--force", help="Score what a strict pre-flight refuses.")]

PAPER_ABLATIONS = ("enlarged-attention", "flow", "normal")
FORMS = ("terminal", "md", "csv", "latex", "latex-tabular", "json", "html")
NOTES = ("full", "short", "none")

FILE_WIDTH = 140  # of a table that goes into a file or a pipe


@dataclass(frozen=True, kw_only=True)
class TableOptions(EngineOptions):
    """The options that `table1` to `table4` and `ablate` share."""

    dataset: DatasetName = "toy4d"
    root: DatasetRoot = None
    scenes: Scenes = None
    seeds: FullSeeds = None
    protocol: ProtocolName = None
    preset: Preset = "mini"
    runs: RunsRoot = Path("runs")
    site: Site = None
    form: Form = "terminal"
    columns: Columns = None
    rows: Rows = None
    notes: NotesLevel = "full"
    signatures: SignaturesFile = None
    intervals: Intervals = False
    quoted: Quoted = True
    allow_mixed: Mixed = False
    fetch: Fetch = False
    full: Full = False
    weights: WeightsPath = None
    force: Force = False
    shard: Shard = "0/1"
    device: Device = AUTO
    jobs: Jobs = None
    as_json: Json = False

    def check(self, methods: str | None = None) -> None:
        """Refuse wrong values that can be recognised without a heavy import.

        Raises:
            ConfigError: no such table format, dataset, method or protocol, or too many processes.
            DataError: a path of a dataset or of weights where nothing is.
        """
        from mvtokenflow.base.files import choose

        choose("table format", self.form, dict.fromkeys(FORMS))
        choose("kind of notes", self.notes, dict.fromkeys(NOTES))
        check_names(self.dataset, methods)
        check_protocol(self.protocol)
        check_jobs(self.jobs)
        self.check_engine(self.shard)
        check_weights(self.weights)

    def request(self, table: str, methods: str | None, imports: Sequence[str] | None = None) -> "Request":
        """Build the request for a table. Raises as `request_of`."""
        return request_of(
            table,
            options(self.device, self.jobs, self.weights, self.force),
            dataset=self.dataset,
            root=self.root,
            methods=methods,
            scenes=self.scenes,
            seeds=self.seeds,
            protocol=self.protocol,
            runs=self.runs,
            preset=self.preset,
            imports=imports,
            full=self.full,
            shard=self.shard,
        )


def help_of(name: str) -> str:
    """Return the help text of a table's command."""
    text = f"{TITLES[name]}.\n\nRenders and scores what is missing, then prints the table."
    return f"{text}\n\nExample: mvtf-eval {name} --dataset toy4d --intervals --site site"


@grouped(TableOptions)
def table(
    context: typer.Context,
    options: TableOptions,
    methods: Methods = None,
    imports: Import = None,
) -> None:
    """Render and score the missing runs of the table that the command names, then print it from the records."""
    options.check(methods)
    check_imports(imports)
    name = str(context.info_name)
    _run(name, options.request(name, methods, imports), options)


@grouped(TableOptions)
def ablate(
    options: TableOptions,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART[+PART][,...]",
            help="A row without these parts of the method; rows are separated by commas or further --drop. "
            "Parts: enlarged-attention, propagation, flow-loss, flow (both of these), normal, regeneration, "
            "refinement. [default: the rows of the paper's table 3]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print Table 3 for the whole method and for it without the parts you name; shared stages run once.

    Example: mvtf-eval ablate --drop enlarged-attention,flow,normal --drop flow+normal
    """
    options.check()
    rows = ablated_rows(drop or PAPER_ABLATIONS)
    _run("table3", options.request("table3", ",".join(rows)), options)


def ablated_rows(drops: Sequence[str]) -> list[str]:
    """Return row names: the whole method, and one without the parts of each `--drop`, in the order given.

    Raises:
        ConfigError: no such part.
    """
    from mvtokenflow.base.files import choose
    from mvtokenflow.method.config import SWITCHES

    rows = [row for drop in drops for row in drop.split(",")]
    for part in (part for row in rows for part in row.split("+")):
        choose("part of the method", part, SWITCHES)
    from mvtokenflow.baselines.mvtokenflow import ablation

    return list(dict.fromkeys(("mvtokenflow", *(ablation(*row.split("+")).name for row in rows))))


def _run(name: str, request: "Request", shown: TableOptions) -> None:
    """Render and score the missing runs, print the table, and exit with 2 if one failed."""
    from mvtokenflow.base.files import write_text
    from mvtokenflow.eval.tables.specs import specs_of, table_named
    from mvtokenflow.eval.tables.tabulate import failure_notes, reference_scenes, scored_runs, tabulate
    from mvtokenflow.reports.layout import signatures_text

    spec = table_named(name)
    if shown.fetch:
        of_metrics = [s.weights for s in specs_of(request.protocol, [spec]) if s.weights]
        fetch_weights([*of_metrics, *(name for method in request.methods for name in method.weights())])
    failures = _complete(request, spec, shown)
    result = tabulate(request, spec, failures, allow_mixed=shown.allow_mixed, quoted=shown.quoted)
    printed = _chosen(result, request, spec, failures, shown)
    if shown.as_json:
        print_json(printed.to_json())
    else:
        _print(printed, shown)
    if shown.signatures is not None:
        write_text(shown.signatures, signatures_text(printed))
    if shown.site is not None:
        from mvtokenflow.eval.plots.collect import overview
        from mvtokenflow.eval.protocols import METRICS
        from mvtokenflow.reports.site import build_site

        with progress() as report:
            runs = scored_runs(request)
            page = build_site(
                [result],
                runs,
                shown.site,
                report,
                scenes=reference_scenes(request, runs),
                metrics={**METRICS, **{one.key: one for one in request.protocol.metrics}},
                plots={name: overview(result, spec.under(request.protocol).columns, runs)},
                waiting=print_message,
            )
        print_message(f"report: {page}")
    for note in failure_notes(failures):
        print_message(f"failed: {note}")
    if failures:
        raise typer.Exit(2)


def _complete(request: "Request", spec: "TableSpec", shown: TableOptions) -> "list[Failure]":
    """Render and score the missing runs where `--engine` says; return what failed."""
    if shown.engine == "local":
        from mvtokenflow.eval.tables.ensure import ensure

        with progress() as report:
            return ensure(request, [spec], report)
    from mvtokenflow.eval.tasks.distribute import distribute

    with redirect_stdout(sys.stderr), progress() as report:  # libraries of clusters print; stdout is for data
        engine = shown.start(request.root)
        failures = distribute(
            request, [spec], engine, report, print_message, gpus=shown.gpus_per_task, detach=shown.detach
        )
        submitted = ", ".join(engine.ids())
        engine.close()
    if shown.detach:
        print_message(f"submitted: {submitted}; the same command without --detach waits for it")
        raise typer.Exit
    return failures


def _chosen(
    result: "Table",
    request: "Request",
    spec: "TableSpec",
    failures: "Sequence[Failure]",
    shown: TableOptions,
) -> "Table":
    """Return the rows and columns to print; rows that were chosen are ranked among themselves.

    Raises:
        ConfigError: no such row or column.
    """
    from mvtokenflow.eval.tables.select import names_in, select
    from mvtokenflow.eval.tables.tabulate import tabulate

    chosen = select(result, shown.columns, shown.rows)
    if shown.rows is None:
        return chosen
    named = names_in(shown.rows)
    fewer = replace(request, methods=[method for method in request.methods if method.name in named])
    failures = [failure for failure in failures if failure.method in named]
    table = tabulate(fewer, spec, failures, allow_mixed=shown.allow_mixed, quoted=shown.quoted)
    return select(table, shown.columns, shown.rows)


def _is_utf8(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def _print(result: "Table", shown: TableOptions) -> None:
    notes = cast("Notes", shown.notes)  # checked
    if shown.form == "terminal":
        from rich.console import Console

        from mvtokenflow.reports.terminal import terminal

        console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
        console.print(terminal(result, intervals=shown.intervals, notes=notes))
        return
    if shown.form == "html":
        from mvtokenflow.reports.html import tables_page

        page = tables_page([result], title=result.title, intervals=shown.intervals, notes=notes)
        print_line(page if _is_utf8(sys.stdout) else page.encode("ascii", "xmlcharrefreplace").decode())
        return
    from mvtokenflow.reports.text import render

    print_line(render(result, shown.form, intervals=shown.intervals, notes=notes))
