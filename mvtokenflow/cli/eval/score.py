"""`mvtf-eval score`, `ambiguity` and `align`: compare one prediction folder with one reference folder."""

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mvtokenflow.base.device import AUTO
from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.options import Device, Json, check_there, grouped
from mvtokenflow.base.terminal import print_json, print_line, print_message, progress, rich_text
from mvtokenflow.cli.eval.audit import conclude
from mvtokenflow.cli.eval.common import Jobs, WeightsPath, check_weights
from mvtokenflow.cli.eval.common import options as measuring
from mvtokenflow.cli.eval.engines import EngineOptions
from mvtokenflow.cli.eval.grid import check_protocol
from mvtokenflow.cli.eval.importing import mended

if TYPE_CHECKING:
    from mvtokenflow.eval.score.scoring import Options

LAYOUT = "expected <object>/eval_<i>/<n>.png in it"
Prediction = Annotated[Path, typer.Argument(help="Renderings, <object>/eval_<i>/<n>.png.", show_default=False)]
Reference = Annotated[Path, typer.Option("--gt", help="Reference pictures in the same layout.")]
Objects = Annotated[str | None, typer.Option(help="Score only these objects, separated by commas.")]
Clip = Annotated[Path | None, typer.Option("--clip", help="A local CLIP model folder or checkpoint.")]


@grouped(EngineOptions)
def score(
    options: EngineOptions,
    prediction: Prediction,
    reference: Reference,
    protocol: Annotated[
        str, typer.Option(help="See `mvtf-eval protocols`; package.module:attribute for yours.")
    ] = "c4d-fixed-v1",
    objects: Objects = None,
    record: Annotated[
        Path | None, typer.Option(help="Folder of the records; below runs/score/ by default.")
    ] = None,
    clip: Clip = None,
    weights: WeightsPath = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score although objects are missing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Score what a strict pre-flight refuses.")] = False,
    check: Annotated[
        int, typer.Option(min=0, help="Measure so many random frames again with the field's own libraries.")
    ] = 0,
    device: Device = AUTO,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Score anybody's renderings in the Consistent4D layout.

    Exit code 1 where --check finds a value beyond its tolerance.

    Example: mvtf-eval score renders/mine --gt data/test_dataset/eval_gt --protocol c4d-v1
    """
    check_protocol(protocol)
    check_there(prediction, LAYOUT)
    check_there(reference, LAYOUT)
    check_weights(_with_clip(weights, clip))
    _check_engine(options)
    from mvtokenflow.eval.score.folder import score_folder

    only = objects.split(",") if objects else None
    how = measuring(device, jobs, _with_clip(weights, clip), force)
    with mended(prediction, reference), progress() as report:
        if options.engine != "local":
            _measure_there(options, prediction, reference, protocol, only, record, allow_missing, how)
        result = score_folder(
            prediction,
            reference,
            protocol,
            objects=only,
            record=record,
            allow_missing=allow_missing,
            options=how,
            progress=report,
            say=print_message,
        )
    if as_json:
        print_json(result.document)
    else:
        _print(result.document, result.protocol.name)
        print_message(f"records: {result.folder}")
    if check:
        from mvtokenflow.eval.score.audit import audit, cells_of_pairs

        cells = cells_of_pairs(result.rows, result.pairs, result.folder)
        with progress() as report:
            second = audit(*cells, check, weights=how.weights, progress=report)
        conclude(second, print_message)


def _check_engine(options: EngineOptions) -> None:
    """Raise a ConfigError for options of a cluster that do not go together, or not with `score`."""
    options.check_engine("0/1")
    for name in ("detach", "gpus_per_task"):
        if getattr(options, name):
            raise ConfigError(f"--{name.replace('_', '-')} is no option of `mvtf-eval score`")


def _measure_there(
    options: EngineOptions,
    prediction: Path,
    reference: Path,
    protocol: str,
    objects: list[str] | None,
    record: Path | None,
    allow_missing: bool,
    how: "Options",
) -> None:
    """Measure the objects on a cluster; raises as `tasks.folder.measure_objects`."""
    from mvtokenflow.eval.tasks.folder import measure_objects, perform_object

    with redirect_stdout(sys.stderr):  # libraries of clusters print
        measure_objects(
            prediction,
            reference,
            protocol,
            lambda folder: options.start(folder, perform_object),
            print_message,
            objects=objects,
            record=record,
            allow_missing=allow_missing,
            options=how,
        )


def _with_clip(weights: list[str] | None, clip: Path | None) -> list[str]:
    return [*(weights or ()), *([f"clip-vit-b32-openai={clip}"] if clip else ())]


def _print(document: Mapping[str, Any], protocol: str) -> None:
    from rich.console import Console
    from rich.table import Table

    metrics = list(document["average"])
    table = Table("object", *metrics, title=protocol)
    for name, values in [*document["objects"].items(), ("average", document["average"])]:
        table.add_row(rich_text(name), *("—" if values[m] is None else f"{values[m]:.6g}" for m in metrics))
    console = Console()
    console.print(table)
    for entry in document["missing"]:
        console.print(rich_text(f"{entry['metric']} is missing: {entry['reason']}"))
    for metric in metrics:
        if metric in document["signatures"]:
            console.print(rich_text(document["signatures"][metric]), style="dim", soft_wrap=True)


def ambiguity(
    prediction: Prediction,
    reference: Reference,
    protocol: Annotated[str, typer.Option(help="The protocol whose readings are compared.")] = "c4d-v1",
    objects: Objects = None,
    clip: Clip = None,
    weights: WeightsPath = None,
    device: Device = AUTO,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Print how far the plausible readings of a protocol lie apart for one prediction.

    Example: mvtf-eval ambiguity renders/mine --gt data/test_dataset/eval_gt
    """
    check_protocol(protocol)
    check_there(prediction, LAYOUT)
    check_there(reference, LAYOUT)
    check_weights(_with_clip(weights, clip))
    from mvtokenflow.eval.protocols import protocol_named
    from mvtokenflow.eval.score.pairs import plan_folder
    from mvtokenflow.eval.tables.ambiguity import spread

    base = protocol_named(protocol)
    how = measuring(device, jobs, _with_clip(weights, clip))
    plan = plan_folder(prediction, reference, base, only=objects.split(",") if objects else None, force=True)
    with progress() as report:
        readings = spread(plan, base, how, report)
    if as_json:
        print_json({"protocol": base.name, "readings": [reading.to_json() for reading in readings]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("reading", "value", f"minus {base.name}", title=f"readings of {base.name}")
    for reading in readings:
        value = "—" if reading.value is None else f"{reading.value:.6g}"
        change = "" if reading.difference is None else f"{reading.difference:+.4g}"
        table.add_row(rich_text(reading.label), value, change)
    console = Console()
    console.print(table)
    for reason in dict.fromkeys(r.reason for r in readings if r.reason):
        console.print(rich_text(reason))


def align(
    prediction: Prediction,
    reference: Annotated[
        Path | None, typer.Option("--gt", help="Reference pictures in the same layout.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="toy4d: compare with its exact silhouettes at every degree instead.")
    ] = None,
    objects: Objects = None,
    as_json: Json = False,
) -> None:
    """Look for a yaw or mirror offset between prediction and reference by silhouettes; apply nothing.

    With four reference views only turns that permute them can be found; a dataset that can be rendered
    from anywhere gives the angle.

    Example: mvtf-eval align renders/mine --gt data/test_dataset/eval_gt
    """
    only = objects.split(",") if objects else None
    if (reference is None) == (dataset is None):
        raise ConfigError("align needs either --gt FOLDER or --dataset toy4d to compare with")
    if dataset is not None and dataset != "toy4d":
        raise ConfigError(f"--dataset {dataset}: only toy4d can be rendered from anywhere; give --gt FOLDER")
    check_there(prediction, LAYOUT)
    check_there(reference, LAYOUT)
    from mvtokenflow.eval.score.align_folder import align_folder, align_toy4d, sentence, to_json

    with progress() as report:
        if reference is None:
            found = align_toy4d(prediction, only, report)
        else:
            found = align_folder(prediction, reference, only)
    if as_json:
        print_json({name: to_json(result) for name, result in found.items()})
        return
    for name, result in found.items():
        print_line(f"{name}: {sentence(result)}")
