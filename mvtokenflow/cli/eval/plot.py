"""`mvtf-eval plot`: figures of a table as files for papers and slides."""

from pathlib import Path
from typing import Annotated, cast

import typer

from mvtokenflow.base.terminal import print_message
from mvtokenflow.cli.eval.common import RunsRoot, options
from mvtokenflow.cli.eval.grid import (
    DatasetName,
    DatasetRoot,
    Import,
    Methods,
    Mixed,
    Preset,
    ProtocolName,
    Scenes,
    Seeds,
    check_imports,
    check_names,
    check_protocol,
    request_of,
)

BY = ("metric", "view", "frame", "scene", "minutes")


def plot(
    table: Annotated[str, typer.Argument(help="table1, table2, table3 or table4.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file: .svg, .pdf or .png.")],
    by: Annotated[
        str,
        typer.Option(
            help="metric: a dot and an interval per row; view, frame or scene: means over all else; minutes: "
            "the numbers against minutes per scene."
        ),
    ] = "metric",
    columns: Annotated[
        str | None, typer.Option(help="A panel for each of these titles or metrics, separated by commas.")
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Only these rows, separated by commas.")] = None,
    across: Annotated[int, typer.Option(min=1, max=6, help="Panels beside each other, 3.4 inches each.")] = 2,
    runs: RunsRoot = Path("runs"),
    dataset: DatasetName = "toy4d",
    root: DatasetRoot = None,
    methods: Methods = None,
    scenes: Scenes = "all",
    seeds: Seeds = None,
    protocol: ProtocolName = None,
    preset: Preset = "mini",
    imports: Import = None,
    allow_mixed: Mixed = False,
) -> None:
    """Draw a table from the records of finished runs; nothing is rendered or measured.

    Known answers are grey: they are the scale that measured rows are read on. The axes have the range of these.

    Example: mvtf-eval plot table2 -o table2.pdf --columns lpips,psnr
    """
    from mvtokenflow.base.files import choose
    from mvtokenflow.reports.plots.files import check_path, save_figure

    choose("kind of figure", by, dict.fromkeys(BY))
    check_path(out)
    check_names(dataset, methods)
    check_protocol(protocol)
    check_imports(imports)
    from mvtokenflow.eval.plots.collect import By, panels
    from mvtokenflow.eval.plots.panels import Figure
    from mvtokenflow.eval.tables.request import finished_only
    from mvtokenflow.eval.tables.select import select
    from mvtokenflow.eval.tables.specs import table_named
    from mvtokenflow.eval.tables.tabulate import scored_runs, tabulate

    spec = table_named(table)
    request = finished_only(
        request_of(
            table,
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
    drawn = select(tabulate(request, spec, [], allow_mixed=allow_mixed, quoted=False), columns, rows)
    specs = spec.under(request.protocol).columns
    made = panels(drawn, specs, scored_runs(request), cast(By, by))
    save_figure(Figure(title=drawn.title, panels=made), out, columns=across)
    print_message(f"{out}: {len(made)} panels, {len(request.methods)} rows, {len(request.scenes)} scenes")
