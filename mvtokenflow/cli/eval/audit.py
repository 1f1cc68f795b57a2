"""`mvtf-eval audit`: compare recorded values with those of the libraries that the field uses."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvtokenflow.base.options import Json, check_there
from mvtokenflow.base.terminal import print_json, print_line, print_message, progress
from mvtokenflow.cli.eval.common import WeightsPath, check_weights, weights_paths
from mvtokenflow.cli.eval.grid import DatasetName, DatasetRoot

if TYPE_CHECKING:
    from mvtokenflow.eval.score.audit import Audit

_SHOWN = 10  # records beyond the tolerance that are named


def audit(
    runs: Annotated[Path, typer.Argument(help="Folder of all runs.")] = Path("runs"),
    sample: Annotated[int, typer.Option(min=1, help="Random frames that are measured again.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    dataset: DatasetName = "toy4d",
    root: DatasetRoot = None,
    protocol: Annotated[
        str | None, typer.Option(help="Only values under this protocol; all by default.", show_default=False)
    ] = None,
    weights: WeightsPath = None,
    as_json: Json = False,
) -> None:
    """Measure random frames of finished runs again with scikit-image, torchmetrics, lpips and open_clip.

    Exit code 1 where a value on record differs by more than its tolerance.

    Example: mvtf-eval audit runs --sample 20
    """
    check_there(runs, "name the folder of runs, as `mvtf-eval table1 --runs` does")
    check_weights(weights)
    from mvtokenflow.datasets.catalogue import open_dataset
    from mvtokenflow.eval.protocols import protocol_named
    from mvtokenflow.eval.score import audit as second

    name = protocol_named(protocol).name if protocol else None
    paths = weights_paths(weights)
    found = second.cells_of_runs(runs, open_dataset(dataset, root), name)
    with progress() as report:
        result = second.audit(*found, sample, seed, paths, report)
    if as_json:
        print_json(result.to_json())
        conclude(result, print_message)
    else:
        conclude(result, print_line)


def conclude(result: "Audit", line: Callable[[str], None]) -> None:
    """Print what an audit found, one line each; exit with 1 if a value is beyond its tolerance."""
    from mvtokenflow.eval.score.audit import lines_of

    for text in lines_of(result):
        line(text)
    beyond = [sentence for difference in result.differences for sentence in difference.beyond]
    for sentence in beyond[:_SHOWN]:
        line(sentence)
    if len(beyond) > _SHOWN:
        line(f"and {len(beyond) - _SHOWN} more")
    if beyond:
        raise typer.Exit(1)
