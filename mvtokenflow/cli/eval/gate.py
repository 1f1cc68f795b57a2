"""`mvtf-eval regress`: the regression gate."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvtokenflow.base.device import AUTO
from mvtokenflow.base.options import Device, Json, check_there
from mvtokenflow.base.terminal import print_json, print_line, print_message, progress, sentence_of
from mvtokenflow.cli.eval.common import Jobs, RunsRoot, WeightsPath, check_weights, options
from mvtokenflow.cli.eval.grid import (
    DatasetName,
    Import,
    Methods,
    Preset,
    ProtocolName,
    Scenes,
    Seeds,
    check_imports,
    check_protocol,
    import_paths,
)

if TYPE_CHECKING:
    from mvtokenflow.eval.gate.compare import GateReport
    from mvtokenflow.eval.gate.recipe import Recipe
    from mvtokenflow.eval.score.scoring import Options

GATE_FAILED = 4  # `gate.EXIT_CODES["missing"]`: nothing was compared


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
    imports: Import = None,
    scenes: Scenes = None,
    seeds: Seeds = None,
    tables: Annotated[
        str, typer.Option(help="Tables whose cells are held, separated by commas.")
    ] = "table1,table2",
    protocol: ProtocolName = None,
    preset: Preset = "mini",
    repeats: Annotated[
        int, typer.Option(min=2, max=100, help="With --write: so many measurements show the noise.")
    ] = 2,
    tolerances: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance",
            metavar="METRIC=X[,...]",
            help="How far a metric may move, in its unit; with --write in place of its floor.",
        ),
    ] = None,
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
        check_protocol(protocol)
        check_imports(imports)
        given = Given(imports=import_paths(imports), tolerances=_tolerances(tolerances))
        from mvtokenflow.baselines.names import method_names
        from mvtokenflow.eval.gate.recipe import Recipe

        how = options(device, jobs, weights)
        if write:
            if not ((methods or imports) and scenes):
                raise ConfigError(
                    "--write needs --scenes and --methods or --import: give the rows and scenes of the baseline"
                )
            recipe = Recipe(
                dataset=dataset,
                methods=",".join(method_names(methods or "")),
                imports=",".join(given.imports),
                scenes=scenes,
                seeds=seeds or "0",
                tables=tables,
                **({} if protocol is None else {"protocol": protocol}),
                preset=preset,
            )
            _write(against, recipe, runs, how, given, repeats)
        else:
            if protocol is not None:
                raise ConfigError(
                    "--protocol goes with --write: a baseline keeps the one it was measured under"
                )
            result = _compare(against, runs, how, trust, given)
            _tell(result, markdown, junit, as_json)
            code = result.exit_code
    except (Exception, SystemExit) as error:  # 0, 1 and 2 are verdicts: nothing that went wrong may exit so
        sentence = sentence_of(error)
        print_message(traceback.format_exc() if sentence is None else f"error: {sentence}")
        raise typer.Exit(GATE_FAILED) from error
    raise typer.Exit(code)


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a call of the gate gives beside the recipe: pictures by row, and tolerances by metric."""

    imports: Mapping[str, Path]
    tolerances: Mapping[str, float]


def _tolerances(texts: Sequence[str] | None) -> dict[str, float]:
    """Parse `metric=x` pairs, which commas or further options separate.

    Raises:
        ConfigError: not such a pair, or a number that is negative or not finite.
    """
    import math

    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.base.names import brief

    found = {}
    for pair in (pair for text in texts or () for pair in text.split(",")):
        metric, _, number = pair.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not metric or not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"--tolerance {brief(pair)}: write METRIC=X, for example psnr=0.1")
        found[metric] = value
    return found


def _write(against: Path, recipe: "Recipe", runs: Path, how: "Options", given: Given, repeats: int) -> None:
    """Measure a baseline and write it."""
    from mvtokenflow.eval.gate.recipe import write_baseline

    with progress() as bars:
        write_baseline(
            against,
            recipe,
            runs,
            how,
            bars,
            imports=given.imports,
            tolerances=given.tolerances,
            repeats=repeats,
        )
    print_message(f"{against}: written")


def _compare(against: Path, runs: Path, how: "Options", trust: bool, given: Given) -> "GateReport":
    """Measure again what a baseline names, and judge it."""
    from mvtokenflow.eval.gate import compare as gate
    from mvtokenflow.eval.gate import documents as gate_documents
    from mvtokenflow.eval.gate.recipe import Recipe, first_failures, measure_recipe, place_of

    baseline = gate.with_tolerances(gate_documents.load_document(against, "baseline"), given.tolerances)
    recipe = Recipe.of(baseline, against, trust)
    place = place_of(recipe, runs, how.device)
    print_message(f"{'goes on' if place.is_dir() else 'measures'} in {place}, the folder of this code")
    with progress() as bars:
        current = measure_recipe(recipe, place, how, bars, given.imports)
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
