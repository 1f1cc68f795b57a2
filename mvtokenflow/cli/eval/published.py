"""`mvtf-eval published`: published numbers of each method side by side, and what was measured here."""

from pathlib import Path
from typing import Annotated

import typer

from mvtokenflow.base.marked import write_marked
from mvtokenflow.base.terminal import print_message
from mvtokenflow.cli.eval.common import options
from mvtokenflow.cli.eval.grid import (
    DatasetName,
    DatasetRoot,
    Preset,
    ProtocolName,
    Scenes,
    Seeds,
    check_names,
    check_protocol,
    request_of,
)

FORMS = ("md", "json")


def published(
    runs: Annotated[
        Path | None, typer.Option(help="Folder of runs, whose numbers are printed beside; without it none are.")
    ] = None,
    dataset: DatasetName = "toy4d",
    root: DatasetRoot = None,
    scenes: Scenes = "all",
    seeds: Seeds = "0",
    protocol: ProtocolName = None,
    preset: Preset = "mini",
    form: Annotated[str, typer.Option("--format", help="md or json.")] = "md",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file, not to stdout.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write markdown between the markers of this page.")
    ] = None,
) -> None:
    """Print every published number of each method side by side with its source, and what was measured here.

    Reads the records of finished runs; nothing is rendered or measured.

    Example: mvtf-eval published --runs runs --format json
    """
    from mvtokenflow.base.files import choose, write_text

    choose("format", form, dict.fromkeys(FORMS))
    check_names(dataset)
    check_protocol(protocol)
    from mvtokenflow.baselines.published import ROWS
    from mvtokenflow.eval.tables.published import MARKED, json_text, markdown_text, measured_here

    measured = None
    if runs is not None:
        measured = measured_here(
            request_of(
                "table2",
                options("cpu", None, None),
                dataset=dataset,
                root=root,
                methods=",".join(ROWS.values()),
                scenes=scenes,
                seeds=seeds,
                protocol=protocol,
                runs=runs,
                preset=preset,
            )
        )
    if markdown is not None:
        write_marked(markdown, MARKED, markdown_text(measured))
        print_message(f"{markdown}: written")
    text = {"md": markdown_text, "json": json_text}[form](measured)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        print_message(f"{out}: written")
