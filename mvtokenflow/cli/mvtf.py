"""The command line `mvtf`: the method. A user's error is one sentence and exit code 2; imports are lazy."""

from typing import Annotated

import typer

from mvtokenflow.base import terminal
from mvtokenflow.base.options import renamed
from mvtokenflow.base.version import __version__
from mvtokenflow.cli.method.cut_out import cut_out
from mvtokenflow.cli.method.doctor import doctor
from mvtokenflow.cli.method.export import export
from mvtokenflow.cli.method.gate_prior import gate_prior
from mvtokenflow.cli.method.measure_video import measure_video
from mvtokenflow.cli.method.reconstruct import reconstruct
from mvtokenflow.cli.method.render import render
from mvtokenflow.cli.method.run import SEGMENTERS, run
from mvtokenflow.cli.method.train_clip import train_clip
from mvtokenflow.cli.method.train_prior import train_prior
from mvtokenflow.cli.method.train_video import train_video
from mvtokenflow.cli.method.view import view

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Turn a video, or views of one, into a dynamic 3D Gaussian field.",
    epilog="Exit codes: 0 ok, 2 something for you to fix.",
)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Turn a video, or views of one, into a dynamic 3D Gaussian field."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


_OUT = {"--output": "--out"}  # former names of options

app.command("cut-out", cls=renamed({}, {"--segment": SEGMENTERS}))(cut_out)
app.command("doctor")(doctor)
app.command("export", cls=renamed(_OUT))(export)
app.command("gate-prior")(gate_prior)
app.command("measure-video")(measure_video)
app.command("reconstruct", cls=renamed({"--size": "--fit-size"}))(reconstruct)
app.command("render", cls=renamed(_OUT))(render)
app.command("run", cls=renamed({**_OUT, "--export-size": "--size"}, {"--segment": SEGMENTERS}))(run)
app.command("train-clip")(train_clip)
app.command("train-prior")(train_prior)
app.command("train-video")(train_video)
app.command("view")(view)


def main() -> None:
    """Run `mvtf`."""
    terminal.run(app)
