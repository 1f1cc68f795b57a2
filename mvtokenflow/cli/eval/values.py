"""`mvtf-eval values`: export the measured values of runs, for spreadsheets and pandas."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mvtokenflow.base.options import check_there
from mvtokenflow.base.terminal import print_message


def values(
    runs: Annotated[Path, typer.Argument(help="Folder of all runs.")] = Path("runs"),
    form: Annotated[str, typer.Option("--format", help="csv, jsonl or parquet.")] = "csv",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; stdout by default.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Only values under this protocol; all by default.", show_default=False)
    ] = None,
) -> None:
    """Write every measured value that counts, one a line, with its dataset, method, scene and seed.

    Example: mvtf-eval values runs --format csv -o values.csv
    """
    check_there(runs, "name the folder of runs, as `mvtf-eval table1 --runs` does")
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.eval.records import frame

    if form == "parquet" and out is None:
        raise ConfigError("--format parquet is no text; name a file with --out")
    frame.check_format(form)
    if protocol is not None:
        from mvtokenflow.eval.protocols import protocol_named

        protocol = protocol_named(protocol).name
    found = frame.load_values(runs, protocol)
    if out is None:
        sys.stdout.write(frame.values_text(found, form))
        return
    frame.save_values(found, form, out)
    print_message(f"{out}: {len(found)} values")
