"""`mvtf doctor`: list what this machine has and lacks for the method."""

from typing import Annotated

import typer

from mvtokenflow.base.options import Json
from mvtokenflow.base.terminal import print_json, print_line


def doctor(
    preset: Annotated[str, typer.Option(help="What is to be run: mini, mini-independent or paper.")] = "mini",
    as_json: Json = False,
) -> None:
    """Print what this machine has and lacks for a preset, with the command that gets it.

    Weights with size, source and licence, the compiler that gsplat needs on a GPU, disk space, cost of a run.

    Example: mvtf doctor --preset paper
    """
    from mvtokenflow.method.doctor import examine

    checks = examine(preset)
    if as_json:
        print_json([check.to_json() for check in checks])
    else:
        for check in checks:
            print_line(check.line())
