"""`mvtf-eval table1` to `table4` and `ablate`: ensure the runs, then print the table from their records."""

import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from mvtokenflow.base.terminal import Device, Json, print_json, progress, say, tell
from mvtokenflow.cli.eval.common import Jobs, RunsRoot, WeightsPath, fetch_weights, options
from mvtokenflow.cli.eval.grid import (
    DatasetName,
    DatasetRoot,
    Form,
    Full,
    Import,
    Methods,
    Mixed,
    Preset,
    ProtocolName,
    Scenes,
    Seeds,
    Shard,
    request_of,
)

if TYPE_CHECKING:
    from mvtokenflow.eval.tables.ensure import Request
    from mvtokenflow.eval.tables.table import Table

Site = Annotated[Path | None, typer.Option(help="Also build the report pages here.")]
Intervals = Annotated[bool, typer.Option("--intervals/--no-intervals", help="Print 95 % intervals.")]
Quoted = Annotated[bool, typer.Option("--quoted/--no-quoted", help="Append published numbers.")]
Fetch = Annotated[bool, typer.Option("--fetch-weights", help="Fetch missing weights first.")]
Force = Annotated[bool, typer.Option("--force", help="Score what a strict pre-flight refuses.")]

PAPER_ABLATIONS = ("enlarged-attention", "flow", "normal")
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
    seeds: Seeds = None,
    protocol: ProtocolName = None,
    preset: Preset = "mini",
    imports: Import = None,
    runs: RunsRoot = Path("runs"),
    site: Site = None,
    form: Form = "terminal",
    intervals: Intervals = False,
    quoted: Quoted = True,
    allow_mixed: Mixed = False,
    fetch: Fetch = False,
    full: Full = False,
    weights: WeightsPath = None,
    force: Force = False,
    shard: Shard = "0/1",
    device: Device = "cpu",
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Ensure the runs of the table named by the command, then print it from their records."""
    show = _Show(form, as_json, intervals=intervals, quoted=quoted, allow_mixed=allow_mixed, site=site)
    name = str(context.info_name)
    request = request_of(
        name,
        options(device, jobs, weights, force),
        dataset=dataset,
        root=root,
        methods=methods,
        scenes=scenes,
        seeds=seeds,
        protocol=protocol,
        runs=runs,
        preset=preset,
        imports=imports,
        full=full,
        shard=shard,
    )
    _run(name, request, show, fetch)


def ablate(
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
    dataset: DatasetName = "toy4d",
    root: DatasetRoot = None,
    scenes: Scenes = None,
    seeds: Seeds = None,
    protocol: ProtocolName = None,
    preset: Preset = "mini",
    runs: RunsRoot = Path("runs"),
    site: Site = None,
    form: Form = "terminal",
    intervals: Intervals = False,
    quoted: Quoted = True,
    allow_mixed: Mixed = False,
    fetch: Fetch = False,
    full: Full = False,
    weights: WeightsPath = None,
    force: Force = False,
    shard: Shard = "0/1",
    device: Device = "cpu",
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Table 3 of the whole method and of it without the parts you name; what rows share is computed once.

    Example: mvtf-eval ablate --drop enlarged-attention,flow,normal --drop flow+normal
    """
    show = _Show(form, as_json, intervals=intervals, quoted=quoted, allow_mixed=allow_mixed, site=site)
    request = request_of(
        "table3",
        options(device, jobs, weights, force),
        dataset=dataset,
        root=root,
        methods=",".join(ablated_rows(drop or PAPER_ABLATIONS)),
        scenes=scenes,
        seeds=seeds,
        protocol=protocol,
        runs=runs,
        preset=preset,
        full=full,
        shard=shard,
    )
    _run("table3", request, show, fetch)


def ablated_rows(drops: Sequence[str]) -> list[str]:
    """Names of rows: the whole method, and one without the parts of each `--drop`, in the order given.

    Raises:
        ConfigError: no such part.
    """
    from mvtokenflow.baselines.mvtokenflow import ablation

    rows = [row for drop in drops for row in drop.split(",")]
    return list(dict.fromkeys(("mvtokenflow", *(ablation(*row.split("+")).name for row in rows))))


@dataclass(frozen=True)
class _Show:
    """How a table is shown: in one of `FORMS`, or as a whole document. Made before the work, so that a
    wrong form is told then.

    Raises:
        ConfigError: no such form.
    """

    form: str
    as_json: bool
    _: KW_ONLY
    intervals: bool
    quoted: bool
    allow_mixed: bool
    site: Path | None

    def __post_init__(self) -> None:
        from mvtokenflow.base.files import choose

        choose("table format", self.form, dict.fromkeys(FORMS))


def _run(name: str, request: "Request", show: _Show, fetch: bool) -> None:
    """Ensure the runs, print the table, and exit with 2 if one failed."""
    from mvtokenflow.eval.tables.ensure import ensure, reference_places, scored_runs, specs_of, tabulate
    from mvtokenflow.eval.tables.specs import table_named

    spec = table_named(name)
    if fetch:
        fetch_weights([s.weights for s in specs_of(request.protocol, [spec]) if s.weights])
    with progress() as report:
        failures = ensure(request, [spec], report)
    result = tabulate(request, spec, failures, allow_mixed=show.allow_mixed, quoted=show.quoted)
    if show.as_json:
        print_json(result.to_json())
    else:
        _print(result, show.form, show.intervals)
    if show.site is not None:
        from mvtokenflow.eval.protocols import METRICS
        from mvtokenflow.reports.site import build_site

        with progress() as report:
            page = build_site(
                [result],
                scored_runs(request),
                show.site,
                report,
                places=reference_places(request),
                metrics={**METRICS, **{spec.key: spec for spec in request.protocol.metrics}},
                waiting=say,
            )
        say(f"report: {page}")
    if failures:
        raise typer.Exit(2)


def _is_utf8(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def _print(result: "Table", form: str, intervals: bool) -> None:
    if form == "terminal":
        from rich.console import Console

        from mvtokenflow.reports.text import terminal

        Console(width=None if sys.stdout.isatty() else FILE_WIDTH).print(terminal(result, intervals=intervals))
        return
    if form == "html":
        from mvtokenflow.reports.html import tables_page

        page = tables_page([result], title=result.title, intervals=intervals)
        tell(page if _is_utf8(sys.stdout) else page.encode("ascii", "xmlcharrefreplace").decode())
        return
    from mvtokenflow.reports.text import render

    tell(render(result, form, intervals=intervals))
