"""`mvtf-eval claims`: test the paper's claims on finished runs, paired by scene."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvtokenflow.base.marked import write_marked
from mvtokenflow.base.terminal import print_message
from mvtokenflow.cli.eval.common import RunsRoot, options
from mvtokenflow.cli.eval.grid import (
    DatasetName,
    DatasetRoot,
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
    from mvtokenflow.eval.claims.collect import Report

FORMS = ("terminal", "md", "json")
# Names of the markers between which `--markdown` writes, by group of claims.
MARKED = {
    "ablations": "claims",
    "rivals": "claims of rivals",
    "generated": "claims of generated views",
    "all": "all claims",
}
FILE_WIDTH = 140  # of a terminal's tables that go into a file or a pipe


def claims(
    about: Annotated[
        str,
        typer.Option(
            "--claims",
            help="ablations: the method and its parts; rivals: the method beside published ones; all: both; "
            "generated: what the parts do to generated views, with --dataset toy4d-wild-views or toy4d-views.",
        ),
    ] = "ablations",
    dataset: DatasetName = "toy4d",
    root: DatasetRoot = None,
    scenes: Scenes = "all",
    seeds: Seeds = "0",
    protocol: ProtocolName = None,
    preset: Preset = "mini",
    runs: RunsRoot = Path("runs"),
    form: Annotated[str, typer.Option("--format", help="terminal, md or json.")] = "terminal",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file, not to stdout.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write markdown between the markers of this page.")
    ] = None,
    allow_mixed: Mixed = False,
) -> None:
    """Test which claims of the paper replicate: the method without its parts, or beside others.

    Reads the records of finished runs; nothing is rendered or measured, and what is missing is said with the
    command that makes it.

    Example: mvtf-eval claims --runs runs --format md -o claims.md
    """
    from mvtokenflow.base.files import choose, write_text

    choose("format", form, dict.fromkeys(FORMS))
    choose("group of claims", about, MARKED)
    check_names(dataset)
    check_protocol(protocol)
    from mvtokenflow.eval.claims.collect import claims_report, rows_of
    from mvtokenflow.eval.claims.rivals import GROUPS
    from mvtokenflow.eval.claims.text import json_text, markdown_text

    chosen = list(GROUPS[about].values())
    request = request_of(
        "table2" if about == "generated" else "table3",
        options("cpu", None, None),
        dataset=dataset,
        root=root,
        methods=",".join(rows_of(chosen)),
        scenes=scenes,
        seeds=seeds,
        protocol=protocol,
        runs=runs,
        preset=preset,
    )
    same_grid = ["--dataset", dataset, *(["--root", str(root)] if root else []), "--protocol"]
    same_grid += [
        protocol or request.protocol.name,
        "--preset",
        preset,
        "--seeds",
        seeds or "0",
        "--runs",
        str(runs),
    ]
    report = claims_report(request, chosen, same_grid, allow_mixed=allow_mixed)
    if markdown is not None:
        write_marked(markdown, MARKED[about], markdown_text(report))
        print_message(f"{markdown}: written")
    text = {"terminal": _screen, "md": markdown_text, "json": json_text}[form](report)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        print_message(f"{out}: written")


def _screen(report: "Report") -> str:
    from rich.console import Console

    from mvtokenflow.eval.claims.text import terminal

    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    with console.capture() as shown:
        console.print(terminal(report))
    return shown.get()
