"""The recipe of the regression gate: which runs to measure, and the cells they give."""

import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import digest_json
from mvtokenflow.base.names import brief
from mvtokenflow.baselines import catalogue as methods
from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.baselines.method import Costed, Method, Setup
from mvtokenflow.datasets import catalogue as datasets
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.eval import protocols
from mvtokenflow.eval.gate import compare as gate
from mvtokenflow.eval.gate import documents as gate_documents
from mvtokenflow.eval.protocols import protocol_named
from mvtokenflow.eval.score.scoring import Options
from mvtokenflow.eval.tables.ensure import Failure, Request, ensure, is_rendered, tabulate
from mvtokenflow.eval.tables.render import stages_folder
from mvtokenflow.eval.tables.specs import table_named
from mvtokenflow.eval.tables.table import Table
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
    """The runs that a baseline was measured on, in words of the command line."""

    dataset: str
    methods: str
    scenes: str
    seeds: str = "0"
    tables: str = "table1,table2"
    protocol: str = "toy4d-v2"
    preset: str = "mini"

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
        if not trusted:
            made.refuse_own_names(path)
        return made

    def refuse_own_names(self, path: Path) -> None:
        """Raise a DataError where a dataset, a method or a protocol is not of this package's catalogues."""
        own = [] if datasets.is_catalogued(self.dataset) else [("dataset", self.dataset)]
        own += [("method", name) for name in self.methods.split(",") if not methods.is_catalogued(name)]
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
        *(method_named(name) for name in recipe.methods.split(",")),
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


def measure_recipe(recipe: Recipe, runs: Path, options: Options, report: Report) -> Measured:
    """Measure a recipe, rendering and scoring what is not finished below `runs`.

    Raises:
        ConfigError: the recipe names what is not there.
    """
    dataset = open_dataset(recipe.dataset)
    request = Request(
        dataset=dataset,
        methods=_methods(recipe, runs, options),
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
    return [method_named(name, setup) for name in dict.fromkeys(recipe.methods.split(","))]


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
        }
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
    ]


def _unique(table: Table, key: str) -> bool:
    return sum(column.key == key for column in table.columns) == 1


def write_baseline(path: Path, recipe: Recipe, runs: Path, options: Options, report: Report) -> None:
    """Measure a recipe twice from nothing, with other numbers of processes and threads, and write the baseline.

    Other threads round in another order, as another processor does. Cells that cannot be measured here are left
    out: a baseline holds only measured cells.

    Raises:
        DataError: a run failed; `path` is untouched.
        ConfigError: the recipe names what is not there.
    """
    repeats = []
    for jobs, threads in ((max(2, options.jobs), 1), (1, 2)):  # as many threads in all
        with tempfile.TemporaryDirectory(dir=_made(runs)) as scratch:
            how = Options(device=options.device, jobs=jobs, weights=options.weights, threads=threads)
            measured = measure_recipe(recipe, Path(scratch), how, report)
        if measured.failures:
            raise DataError(
                f"{path}: not written, since runs failed: {'; '.join(first_failures(measured.failures))}"
            )
        repeats.append(measured.document)
    for document in repeats:
        document["cells"] = [cell for cell in document["cells"] if cell["value"] is not None]
    metrics = {str(cell["metric"]) for document in repeats for cell in document["cells"]}
    floors = {spec.key: spec.floor for spec in protocol_named(recipe.protocol).metrics}
    known = {name: floor for name in metrics if (floor := floors.get(name.partition(" in ")[0])) is not None}
    trained = {m.name: TRAINED for m in _methods(recipe, runs, options) if is_trained(m)}
    baseline = gate.make_baseline(repeats, known, scales=trained)
    gate_documents.save_document(path, {**baseline, "recipe": asdict(recipe)})


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
