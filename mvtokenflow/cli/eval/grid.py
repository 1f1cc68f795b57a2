"""Options that name a grid of runs, and their translation into a request."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvtokenflow.base.options import check_there
from mvtokenflow.base.terminal import progress

if TYPE_CHECKING:
    from mvtokenflow.baselines.method import Method, Setup
    from mvtokenflow.datasets.scene import Dataset
    from mvtokenflow.eval.score.scoring import Options
    from mvtokenflow.eval.tables.request import Request

DatasetName = Annotated[
    str,
    typer.Option(help="toy4d, consistent4d or another of docs/datasets.md, or the path of a folder or video."),
]
DatasetRoot = Annotated[Path | None, typer.Option("--root", help="Folder of the dataset.")]
Methods = Annotated[
    str | None,
    typer.Option(
        help="Rows, separated by commas; rivals for all published methods, package.module:attribute for yours."
    ),
]
Scenes = Annotated[str | None, typer.Option(help="Scenes, separated by commas, or 'all'.")]
Seeds = Annotated[str | None, typer.Option(help="Seeds, separated by commas; 0 by default.")]
FullSeeds = Annotated[
    str | None, typer.Option(help="Seeds, separated by commas; 0, or 0,1,2 with --full, by default.")
]
ProtocolName = Annotated[
    str | None,
    typer.Option("--protocol", help="See `mvtf-eval protocols`; package.module:attribute for yours."),
]
Import = Annotated[
    list[str] | None,
    typer.Option(
        "--import", metavar="NAME=PATH", help="A row of renderings, or of results of another program."
    ),
]
Form = Annotated[str, typer.Option("--format", help="terminal, md, csv, latex, latex-tabular, json or html.")]
Mixed = Annotated[bool, typer.Option("--allow-mixed", help="Allow rows measured in different ways.")]
Shard = Annotated[
    str, typer.Option(help="i/n, e.g. 0/4: only every n-th scene, from the i-th. Shards share --runs.")
]

Preset = Annotated[
    str, typer.Option(help="Settings of the method's own rows: mini, paper or mini-independent.")
]
Full = Annotated[bool, typer.Option("--full", help="All scenes of toy4d instead of four, and three seeds.")]

QUICK_SCENES = 4  # of toy4d: 8 minutes on two free cores from an empty cache
FULL_SEEDS = "0,1,2"


def request_of(
    table: str,
    options: "Options",
    *,
    dataset: str,
    root: Path | None,
    methods: str | None,
    scenes: str | None,
    seeds: str | None,
    protocol: str | None,
    runs: Path,
    preset: str = "mini",
    imports: Sequence[str] | None = None,
    full: bool = False,
    shard: str = "0/1",
) -> "Request":
    """Build the request for a table: the grid of its runs.

    Raises:
        ConfigError: an unknown name or a malformed option.
    """
    from mvtokenflow.baselines.method import Setup
    from mvtokenflow.baselines.names import method_names
    from mvtokenflow.datasets.names import is_path
    from mvtokenflow.eval.protocols import protocol_named
    from mvtokenflow.eval.tables.render import imports_folder, stages_folder
    from mvtokenflow.eval.tables.request import Request, Words
    from mvtokenflow.eval.tables.words import seeds_named, shard_named

    data, chosen_scenes = _scenes(dataset, root, scenes, full)

    def row(label: str, path: Path) -> "Method":
        from mvtokenflow.baselines.importers.row import imported_row

        place = f"--dataset {dataset}" + ("" if root is None else f" --root {root}")
        command = f"mvtf-eval import {path} -o renders/{label} {place}"
        with progress() as report:
            return imported_row(label, path, data, chosen_scenes, imports_folder(runs), report, command)

    setup = Setup(preset=preset, device=options.device, store=stages_folder(runs))
    names = default_methods(table, data.name) if methods is None else method_names(methods)
    rows = _methods(names, imports, setup, row)
    scored_by = _default_protocol(table, data.name) if protocol is None else protocol
    return Request(
        dataset=data,
        methods=rows,
        scenes=chosen_scenes,
        seeds=seeds_named(seeds if seeds is not None else FULL_SEEDS if full else "0"),
        root=runs,
        protocol=protocol_named(scored_by),
        shard=shard_named(shard),
        options=options,
        words=Words(
            dataset=str(Path(dataset).absolute()) if is_path(dataset) else dataset,
            root=None if root is None else str(root.absolute()),
            protocol=scored_by,
            preset=preset,
            methods=dict(zip([row.name for row in rows], names, strict=False)),
        ),
    )


def check_protocol(name: str | None) -> None:
    """Refuse an unknown protocol of this project; those of other modules are imported later.

    Raises:
        ConfigError: there is none of this name.
    """
    if name is not None and ":" not in name:
        from mvtokenflow.eval.protocols import protocol_named

        protocol_named(name)


def check_names(dataset: str, methods: str | None = None) -> None:
    """Refuse unknown names of this project's datasets and methods; those of others are imported later.

    Raises:
        ConfigError: there is none of this name.
        DataError: a path where nothing is.
    """
    from mvtokenflow.baselines.names import check_method_name, method_names
    from mvtokenflow.datasets.names import check_dataset_name, is_path

    check_dataset_name(dataset)
    if is_path(dataset):
        check_there(Path(dataset), "give a folder of frames <n>.png or a video")
    for name in method_names(methods or ""):
        check_method_name(name)


def check_imports(pairs: Sequence[str] | None) -> None:
    """Refuse `--import` options that name no folder.

    Raises:
        DataError: nothing is there.
    """
    from mvtokenflow.base.names import name_fault

    for pair in pairs or ():
        label, separator, path = pair.partition("=")
        if separator and path and name_fault(label) is None:  # wrong names are refused with the other rows
            check_there(Path(path), f"give --import {label} the folder of its renderings")


def _scenes(dataset: str, root: Path | None, scenes: str | None, full: bool) -> "tuple[Dataset, list[str]]":
    from mvtokenflow.datasets.catalogue import TOYS, open_dataset
    from mvtokenflow.eval.tables.words import scene_names, scenes_named

    data = open_dataset(dataset, root)
    if scenes is None:
        known = list(scene_names(data))
        quick = data.name in TOYS and not full
        return data, _spread(known, QUICK_SCENES) if quick else known
    return data, scenes_named(data, scenes)


def _spread(names: Sequence[str], count: int) -> list[str]:
    """Pick `count` names at even distances, the first included, so that every kind of scene occurs."""
    return [names[index * len(names) // count] for index in range(count)]


def _default_protocol(table: str, dataset: str) -> str:
    from mvtokenflow.datasets.names import GENERATED_VIEWS, MATRICES, TOYS

    if dataset in GENERATED_VIEWS:
        return "views-v1"
    if dataset in MATRICES:
        return "matrix-v1"
    if dataset in TOYS:
        return "toy4d-v2"
    return "c4d-fixed-v1" if table == "table2" else "refview-v1"


def default_methods(table: str, dataset: str) -> Sequence[str]:
    """Return the rows of a table: the method beside the known answers, its ablations, or rows with costs."""
    from mvtokenflow.baselines.catalogue import BOUNDS, KNOWN_ANSWERS, NATIVES
    from mvtokenflow.baselines.names import GENERATED, KNOWN_MATRICES
    from mvtokenflow.datasets.names import GENERATED_VIEWS, MATRICES, TOYS

    if dataset in GENERATED_VIEWS:
        return tuple(GENERATED)
    if dataset in MATRICES:
        return ("mvtokenflow", "ground-truth", "first-frame", *KNOWN_MATRICES)
    if table == "table4":
        return tuple(NATIVES)
    if table == "table3":
        return (*NATIVES, *(BOUNDS if dataset in TOYS else ()))
    return ("mvtokenflow", *KNOWN_ANSWERS)


def _methods(
    names: Sequence[str],
    imports: Sequence[str] | None,
    setup: "Setup",
    row: "Callable[[str, Path], Method]",
) -> "list[Method]":
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.baselines.catalogue import method_named

    methods = [method_named(name, setup) for name in names]
    rows = import_paths(imports)
    labels = [*(method.name for method in methods), *rows]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(f"two rows named {', '.join(twice)}; give each its own name")
    return methods + [row(label, path) for label, path in rows.items()]


def import_paths(pairs: Sequence[str] | None) -> dict[str, Path]:
    """Parse `--import NAME=PATH` options.

    Raises:
        ConfigError: malformed, a name that is no folder's, or one name twice.
    """
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.base.names import brief, name_fault

    rows: dict[str, Path] = {}
    for pair in pairs or ():
        label, separator, path = pair.partition("=")
        if not separator:
            raise ConfigError(f"--import {brief(pair)}: write NAME=PATH")
        if fault := name_fault(label):
            raise ConfigError(f"--import {brief(pair)}: NAME becomes a folder of runs, but it {fault}")
        if label in rows:
            raise ConfigError(f"two rows named {label}; give each its own name")
        rows[label] = Path(path)
    return rows
