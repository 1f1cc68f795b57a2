"""The recipe of the regression gate: which runs to measure, and the cells they give."""

import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.files import digest_json
from mvtokenflow.base.names import brief
from mvtokenflow.baselines import catalogue as methods
from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.baselines.importers.row import imported_row
from mvtokenflow.baselines.method import Costed, Method, Setup
from mvtokenflow.baselines.names import method_names
from mvtokenflow.datasets import catalogue as datasets
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.datasets.scene import Dataset
from mvtokenflow.eval import protocols
from mvtokenflow.eval.gate import compare as gate
from mvtokenflow.eval.gate import documents as gate_documents
from mvtokenflow.eval.protocols import protocol_named
from mvtokenflow.eval.score.scoring import Options
from mvtokenflow.eval.tables.ensure import ensure
from mvtokenflow.eval.tables.render import imports_folder, stages_folder
from mvtokenflow.eval.tables.request import Failure, Request, is_rendered
from mvtokenflow.eval.tables.specs import table_named
from mvtokenflow.eval.tables.table import Cell, Table
from mvtokenflow.eval.tables.tabulate import tabulate
from mvtokenflow.eval.tables.words import scenes_named, seeds_named
from mvtokenflow.workdir.imports import code_digest
from mvtokenflow.workdir.provenance import device_name, versions

Report = Callable[[str, int, int], None]

# Training amplifies rounding, so that another processor gives another field: the floors of rows that are
# trained here are this many times as high.
TRAINED = 50.0
_PLACE_DIGITS = 16
_REASONS = 3  # of failures in a message


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The runs that a baseline was measured on, in words of the command line.

    Attributes:
        imports: rows of pictures, separated by commas. Every call names the pictures (`--import NAME=PATH`): a
            baseline names no files.
    """

    dataset: str
    methods: str
    scenes: str
    seeds: str = "0"
    tables: str = "table1,table2"
    protocol: str = "toy4d-v2"
    preset: str = "mini"
    imports: str = ""

    @classmethod
    def of(cls, baseline: Mapping[str, Any], path: Path, trusted: bool = False) -> "Recipe":
        """Read the recipe stored in a baseline file.

        Args:
            trusted: the recipe may name code to import and files to read, which is what a command line may.

        Raises:
            DataError: it holds none, one that lacks something, or one that names code or files and is not
                `trusted`: a baseline is data and names what this package holds.
        """
        anew = "write it again with `mvtf-eval regress --write`"
        recipe = baseline.get("recipe")
        if not isinstance(recipe, dict):
            raise DataError(f"{path}: has no recipe to measure again; {anew}")
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if lacking := sorted(needed - recipe.keys()):
            raise DataError(f"{path}: the recipe lacks {', '.join(lacking)}; {anew}")
        known = {field.name for field in fields(cls)}
        for key, value in recipe.items():
            if key not in known:
                raise DataError(
                    f"{path}: the recipe holds '{brief(key)}', which this version does not support; {anew}"
                )
            if not isinstance(value, str):
                raise DataError(f"{path}: '{key}' of the recipe must be text, got {brief(repr(value))}; {anew}")
        made = cls(**recipe)
        if not (made.methods or made.imports):
            raise DataError(f"{path}: the recipe names no rows; {anew}")
        if not trusted:
            made.refuse_own_names(path)
        return made

    def to_json(self) -> dict[str, str]:
        """Return the recipe as a baseline keeps it; without imported rows there is no word of them."""
        return {key: value for key, value in asdict(self).items() if value or key != "imports"}

    def refuse_own_names(self, path: Path) -> None:
        """Raise a DataError where a dataset, a method or a protocol is not of this package's catalogues."""
        own = [] if datasets.is_catalogued(self.dataset) else [("dataset", self.dataset)]
        own += [("method", name) for name in method_names(self.methods) if not methods.is_catalogued(name)]
        own += [] if protocols.is_catalogued(self.protocol) else [("protocol", self.protocol)]
        for kind, name in own:
            raise DataError(
                f"{path}: the recipe names the {kind} '{brief(name)}', which is not in the catalogue: a "
                "baseline is data and names no code and no files; give --trust-baseline if you wrote it"
            )


def place_of(recipe: Recipe, runs: Path, device: str) -> Path:
    """Return the folder below `runs` in which this code measures a recipe.

    Finished runs are kept and not repeated. This is right for the same code, which resumes where it stopped,
    and wrong for other code, whose pictures would never be rendered. So the folder is named by the digest of
    the code that measures and of all that the methods, the dataset and the metrics import, of the packages it
    computes with, and of the device.
    """
    named = [
        open_dataset(recipe.dataset),
        *(method_named(name) for name in method_names(recipe.methods)),
        *protocol_named(recipe.protocol).metrics,
    ]
    makers = sorted({type(one).__module__ for one in named})
    identity = {
        "code": code_digest(__name__, *makers),
        "packages": versions(),
        "python": platform.python_version(),
        "device": device_name(device),
    }
    return runs / digest_json(identity)[:_PLACE_DIGITS]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The measured cells of a recipe.

    Attributes:
        document: of kind "measured".
        failures: the runs that failed; the document rests on the others.
        reused, rendered: how many runs were finished before, and how many were rendered now.
    """

    document: dict[str, Any]
    failures: list[Failure]
    reused: int
    rendered: int


def measure_recipe(
    recipe: Recipe, runs: Path, options: Options, report: Report, imports: Mapping[str, Path] | None = None
) -> Measured:
    """Measure a recipe, rendering and scoring what is not finished below `runs`.

    Args:
        imports: the pictures of each imported row of the recipe.

    Raises:
        ConfigError: the recipe names what is not there, or `imports` are of other rows than the recipe's.
        DataError: pictures that cannot be used.
    """
    dataset = open_dataset(recipe.dataset)
    request = Request(
        dataset=dataset,
        methods=[*_methods(recipe, runs, options), *_imported(recipe, dataset, runs, report, imports or {})],
        scenes=scenes_named(dataset, recipe.scenes),
        seeds=seeds_named(recipe.seeds),
        root=runs,
        protocol=protocol_named(recipe.protocol),
        options=options,
    )
    tables = [table_named(name) for name in dict.fromkeys(recipe.tables.split(","))]
    reused = sum(map(is_rendered, request.jobs()))
    failures = ensure(request, tables, report)
    rendered = sum(map(is_rendered, request.jobs())) - reused
    cells: list[Mapping[str, Any]] = []
    for table in tables:
        cells += _cells(tabulate(request, table, failures, quoted=False))
    document = gate_documents.measured_document(cells)
    return Measured(document=document, failures=failures, reused=reused, rendered=rendered)


def _methods(recipe: Recipe, runs: Path, options: Options) -> list[Method]:
    setup = Setup(preset=recipe.preset, device=options.device, store=stages_folder(runs))
    return [method_named(name, setup) for name in dict.fromkeys(method_names(recipe.methods))]


def _imported(
    recipe: Recipe, dataset: Dataset, runs: Path, report: Report, paths: Mapping[str, Path]
) -> list[Method]:
    """Return the imported rows of a recipe.

    Raises:
        ConfigError: `paths` are of other rows.
        DataError: pictures that cannot be used.
    """
    labels = [label for label in recipe.imports.split(",") if label]
    if lacking := [label for label in labels if label not in paths]:
        raise ConfigError(
            f"the baseline has the imported row {', '.join(lacking)}; give --import {lacking[0]}=PATH with its "
            "pictures of now"
        )
    if others := [label for label in paths if label not in labels]:
        known = ", ".join(labels) or "no imported rows"
        raise ConfigError(f"--import {others[0]}: the baseline has no such row; it has {known}")
    scenes = scenes_named(dataset, recipe.scenes)
    return [
        imported_row(
            label,
            paths[label],
            dataset,
            scenes,
            imports_folder(runs),
            report,
            f"mvtf-eval import {paths[label]} -o renders/{label} --dataset {recipe.dataset}",
        )
        for label in labels
    ]


def _cells(table: Table) -> list[dict[str, Any]]:
    return [
        {
            "method": row.label,
            "metric": column.key if _unique(table, column.key) else f"{column.key} in {column.title}",
            "object": table.name,
            "value": cell.value,
            "reason": cell.reason,
            "signature": str((cell.provenance or {}).get("signature", "none")),
            "better": column.better,
            **_scenes(cell),
        }
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
    ]


def _scenes(cell: Cell) -> dict[str, Any]:
    """Return the values by scene behind a mean over several."""
    found = (cell.provenance or {}).get("per scene") or {}
    return (
        {"scenes": {name: gate_documents.plain_number(value) for name, value in found.items()}} if found else {}
    )


def _unique(table: Table, key: str) -> bool:
    return sum(column.key == key for column in table.columns) == 1


def write_baseline(
    path: Path,
    recipe: Recipe,
    runs: Path,
    options: Options,
    report: Report,
    *,
    imports: Mapping[str, Path] | None = None,
    tolerances: Mapping[str, float] | None = None,
    repeats: int = 2,
) -> None:
    """Measure a recipe several times from nothing, and write a baseline.

    The numbers of processes and threads change: other threads round in another order, as other processors do.
    Cells that cannot be measured here are left out, since a baseline holds only measured cells.

    Args:
        imports: the pictures of each imported row of the recipe.
        tolerances: by metric, in place of its floor, whatever the row.
        repeats: measurements, two at least.

    Raises:
        DataError: a run failed; `path` is untouched.
        ConfigError: the recipe names what is not there, or a tolerance is of a metric that no cell has.
    """
    documents = []
    plans = ((max(2, options.jobs), 1), (1, 2))  # as many threads in all
    for jobs, threads in (plans[number % 2] for number in range(repeats)):
        with tempfile.TemporaryDirectory(dir=_made(runs)) as scratch:
            how = Options(device=options.device, jobs=jobs, weights=options.weights, threads=threads)
            measured = measure_recipe(recipe, Path(scratch), how, report, imports)
        if measured.failures:
            raise DataError(
                f"{path}: not written, since runs failed: {'; '.join(first_failures(measured.failures))}"
            )
        documents.append(measured.document)
    for document in documents:
        document["cells"] = [cell for cell in document["cells"] if cell["value"] is not None]
    metrics = {str(cell["metric"]) for document in documents for cell in document["cells"]}
    floors = {spec.key: spec.floor for spec in protocol_named(recipe.protocol).metrics}
    known = {name: floor for name in metrics if (floor := floors.get(gate.metric_of(name))) is not None}
    trained = {m.name: TRAINED for m in _methods(recipe, runs, options) if is_trained(m)}
    baseline = gate.make_baseline(documents, known, scales=trained, given=tolerances)
    gate_documents.save_document(path, {**baseline, "recipe": recipe.to_json()})


def first_failures(failures: Sequence[Failure]) -> list[str]:
    """Return the first failures as sentences, and how many more there are."""
    words = [f"{f.method} on {f.scene} (seed {f.seed}): {f.reason}" for f in failures[:_REASONS]]
    more = len(failures) - _REASONS
    return [*words, f"and {more} more"] if more > 0 else words


def is_trained(method: Method) -> bool:
    """Return whether a row is computed here by training; "true-views" is, although its input is the truth."""
    return method.source == "native" or isinstance(method, Costed)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
