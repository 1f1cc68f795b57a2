"""`mvtf-eval report|explain|regress`: pages, explanations and comparisons made from records."""

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvtokenflow.base.device import AUTO
from mvtokenflow.base.options import Device, Json, check_there
from mvtokenflow.base.terminal import print_json, print_line, print_message, progress, sentence_of
from mvtokenflow.cli.eval.common import Jobs, RunsRoot, WeightsPath, check_weights, options
from mvtokenflow.cli.eval.grid import (
    DatasetName,
    DatasetRoot,
    Full,
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
    from mvtokenflow.eval.gate.compare import GateReport
    from mvtokenflow.eval.gate.recipe import Recipe
    from mvtokenflow.eval.plots.panels import Figure
    from mvtokenflow.eval.records.rows import Run
    from mvtokenflow.eval.score.scoring import Options
    from mvtokenflow.eval.tables.table import Table

GATE_FAILED = 4  # `gate.EXIT_CODES["missing"]`: nothing was compared
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
    from mvtokenflow.eval.tables.ensure import finished_only, reference_scenes, scored_runs, tabulate
    from mvtokenflow.eval.tables.specs import table_named
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
    seeds: Seeds = None,
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


def regress(
    against: Annotated[Path, typer.Option("--against", help="The baseline.")],
    runs: RunsRoot = Path("runs/regress"),
    write: Annotated[
        bool, typer.Option("--write", help="Measure the baseline anew, twice, and write it.")
    ] = False,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust-baseline", help="Let the baseline name code to import and folders to read, as you may."
        ),
    ] = False,
    dataset: DatasetName = "toy4d",
    methods: Methods = None,
    scenes: Scenes = None,
    seeds: Seeds = None,
    tables: Annotated[
        str, typer.Option(help="Tables whose cells are held, separated by commas.")
    ] = "table1,table2",
    preset: Preset = "mini",
    markdown: Annotated[Path | None, typer.Option(help="Write a markdown summary here.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    weights: WeightsPath = None,
    device: Device = AUTO,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Run what a baseline names again and compare.

    Exit codes: 0 ok, 1 regressed, 2 improved (update the baseline), 3 incomparable, 4 missing or any error.

    Example: mvtf-eval regress --against eval/regression/toy4d-known.json
    """
    from mvtokenflow.base.errors import ConfigError

    code = 0
    try:
        check_there(None if write else against, "give --against a baseline, or add --write to make one")
        check_weights(weights)
        from mvtokenflow.eval.gate.recipe import Recipe

        how = options(device, jobs, weights)
        if write:
            if not (methods and scenes):
                raise ConfigError(
                    "--write needs --methods and --scenes: give the rows and scenes of the baseline"
                )
            recipe = Recipe(
                dataset=dataset,
                methods=methods,
                scenes=scenes,
                seeds=seeds or "0",
                tables=tables,
                preset=preset,
            )
            _write(against, recipe, runs, how)
        else:
            result = _compare(against, runs, how, trust)
            _tell(result, markdown, junit, as_json)
            code = result.exit_code
    except (Exception, SystemExit) as error:  # 0, 1 and 2 are verdicts: nothing that went wrong may exit so
        sentence = sentence_of(error)
        print_message(traceback.format_exc() if sentence is None else f"error: {sentence}")
        raise typer.Exit(GATE_FAILED) from error
    raise typer.Exit(code)


def _write(against: Path, recipe: "Recipe", runs: Path, how: "Options") -> None:
    """Measure a baseline and write it."""
    from mvtokenflow.eval.gate.recipe import write_baseline

    with progress() as bars:
        write_baseline(against, recipe, runs, how, bars)
    print_message(f"{against}: written")


def _compare(against: Path, runs: Path, how: "Options", trust: bool) -> "GateReport":
    """Measure again what a baseline names, and judge it."""
    from mvtokenflow.eval.gate import compare as gate
    from mvtokenflow.eval.gate import documents as gate_documents
    from mvtokenflow.eval.gate.recipe import Recipe, first_failures, measure_recipe, place_of

    baseline = gate_documents.load_document(against, "baseline")
    recipe = Recipe.of(baseline, against, trust)
    place = place_of(recipe, runs, how.device)
    print_message(f"{'goes on' if place.is_dir() else 'measures'} in {place}, the folder of this code")
    with progress() as bars:
        current = measure_recipe(recipe, place, how, bars)
    print_message(f"{current.reused} reused, {current.rendered} rendered")
    for reason in first_failures(current.failures):
        print_message(f"failed: {reason}")
    return gate.compare(baseline, current.document)


def _tell(result: "GateReport", markdown: Path | None, junit: Path | None, as_json: bool) -> None:
    """Print the verdict, then write it where it was asked for."""
    from mvtokenflow.base.files import write_text
    from mvtokenflow.eval.gate import compare as gate

    summary = gate.to_markdown(result)
    if as_json:
        print_json(result.to_json())
    else:
        print_line(summary)
    if markdown is not None:
        write_text(markdown, summary)
    if junit is not None:
        write_text(junit, gate.to_junit_xml(result))
