"""Who may import whom: rooms, which are packages, and modules; no circle and no arrow upwards."""

import ast
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP = ("eval", "baselines", "datasets", "reports")  # folders beside `mvtokenflow/`, imported as parts of it
LIBRARY = ("base", "media", "views", "workdir")
METHOD = (*LIBRARY, "weights", "flow", "multiview", "tokenflow", "small", "splat", "viewer", "method")
# From the ground up: a room may import the rooms above it in this list that it names, and itself.
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "base": (),
    "workdir": ("base",),
    "weights": ("base",),
    "media": ("base", "weights"),
    "views": ("base", "media"),
    "flow": ("base", "media", "weights"),
    "multiview": ("base", "media", "views", "weights"),
    "tokenflow": ("base", "flow", "multiview"),
    "small": ("base", "multiview", "views"),
    "small.training": ("base", "media", "workdir", "multiview", "small"),
    "guidance": ("base",),
    "radiance": ("base", "views"),
    "splat.kernels": ("base", "views"),
    "splat": (*LIBRARY, "splat.kernels"),
    "distill": ("base", "views", "weights", "multiview", "guidance", "radiance", "splat"),
    "viewer": ("base", "radiance", "splat", "splat.kernels", "distill"),
    "method": tuple(room for room in METHOD if room != "method"),
    "datasets": ("base", "media", "views"),
    "datasets.toy4d": ("base", "media", "views", "datasets"),
    "small.toys": (
        *(*LIBRARY, "multiview", "small", "small.training"),
        "datasets.toy4d",
    ),
    "baselines": (
        *(*LIBRARY, "weights", "flow", "multiview", "tokenflow", "small", "guidance", "splat", "distill"),
        *("method", "datasets", "datasets.toy4d"),
    ),
    "baselines.consistent4d": (
        *("base", "views", "multiview", "flow", "guidance", "radiance", "splat", "distill"),
        "baselines",
    ),
    "baselines.sc4d": ("base", "multiview", "guidance", "splat", "distill", "baselines"),
    "baselines.stag4d": (
        *("base", "views", "weights", "multiview", "tokenflow", "small", "guidance", "radiance", "splat"),
        *("distill", "baselines"),
    ),
    "baselines.dg4d": (
        *("base", "workdir", "weights", "multiview", "small", "guidance", "radiance", "splat", "distill"),
        "method",
        "baselines",
    ),
    "baselines.importers": ("base", "media", "views", "radiance", "splat", "datasets", "baselines"),
    "baselines.diffusion2": (
        *(*LIBRARY, "weights", "flow", "multiview", "small", "guidance", "splat", "method"),
        *("datasets", "datasets.toy4d", "baselines"),
    ),
    "eval.metrics.compute": ("base", "weights", "small"),
    "eval.metrics": ("base", "weights", "eval.metrics.compute"),
    "eval": ("base", "datasets", "datasets.toy4d", "weights", "eval.metrics"),
    "eval.engine": ("base",),
    "eval.records": ("base", "workdir", "eval", "eval.metrics"),
    "eval.score": (
        *LIBRARY,
        *("weights", "datasets", "datasets.toy4d", "baselines"),
        *("eval", "eval.engine", "eval.metrics", "eval.metrics.compute", "eval.records"),
    ),
    "eval.tables": (
        *("base", "media", "workdir", "weights", "datasets", "baselines"),
        *("eval", "eval.engine", "eval.metrics", "eval.records", "eval.score"),
    ),
    "eval.tasks": (
        *("base", "workdir", "weights", "datasets", "baselines"),
        *("eval", "eval.engine", "eval.records", "eval.score", "eval.tables"),
    ),
    "eval.plots": ("eval.records", "eval.tables"),
    "eval.gate": (
        "base",
        "workdir",
        "datasets",
        "baselines",
        "baselines.importers",
        "eval",
        "eval.score",
        "eval.tables",
    ),
    "eval.claims": ("base", "workdir", "baselines", "eval", "eval.records", "eval.score", "eval.tables"),
    "reports.plots": ("base", "eval.plots"),
    "reports": (
        *("base", "media", "workdir", "flow", "multiview", "viewer", "datasets"),
        *("eval.metrics", "eval", "eval.records", "eval.tables", "eval.plots", "reports.plots"),
    ),
    # The names of the package itself, imported when they are used.
    "": ("base", "splat", "method", "eval.records", "eval.score"),
    "cli.method": (
        *(*LIBRARY, "small", "small.training", "small.toys", "splat", "distill", "viewer", "method"),
        "reports",
    ),
    "cli.eval": (
        *("base", "weights", "method", "datasets", "datasets.toy4d", "baselines", "baselines.importers"),
        *(
            "reports",
            "reports.plots",
            "eval",
            "eval.engine",
            "eval.records",
            "eval.score",
            "eval.tables",
            "eval.tasks",
            "eval.plots",
        ),
        *("eval.gate", "eval.claims"),
    ),
    "cli": ("base", "cli.method", "cli.eval"),
}
# Rooms that see one file only of a room.
ONLY = {
    ("reports", "eval.tables"): ("eval.tables.table",),
    ("reports", "eval.metrics"): ("eval.metrics.spec",),
    ("reports", "eval"): ("eval.protocols",),
    ("reports", "datasets"): ("datasets.scene",),
    ("eval.score", "baselines"): ("baselines.names",),
}


@cache
def modules() -> dict[str, Path]:
    """Files by module name without `mvtokenflow.`; a package has the name of its folder."""
    found = {}
    for top in ("mvtokenflow", *TOP):
        for folder, _, names in os.walk(ROOT / top):  # does not follow the links of the other rooms
            for path in (Path(folder) / name for name in names if name.endswith(".py")):
                parts = path.relative_to(ROOT).with_suffix("").parts
                parts = parts[1:] if parts[0] == "mvtokenflow" else parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    """The package that a module lies in, or is."""
    is_package = modules()[module].name == "__init__.py"
    return module if is_package else module.rpartition(".")[0]


def imported(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "mvtokenflow":
                inside = name.removeprefix("mvtokenflow").removeprefix(".")
                while inside not in modules():
                    inside = inside.rpartition(".")[0]
                yield inside


@cache
def arrows() -> dict[str, frozenset[str]]:
    return {name: frozenset(imported(path)) for name, path in modules().items()}


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_the_architecture_allows(room: str) -> None:
    inside = [module for module in modules() if room_of(module) == room]
    assert inside
    for module in inside:
        for other in arrows()[module]:
            target = room_of(other)
            assert target in (room, *ALLOWED[room]), f"{module} imports {other}"
            only = ONLY.get((room, target))
            assert only is None or other in only, f"{module} imports {other}"


def test_every_room_is_named_and_rests_on_rooms_before_it() -> None:
    assert {room_of(module) for module in modules()} == set(ALLOWED)
    order = list(ALLOWED)
    for room, below in ALLOWED.items():
        for other in below:
            assert order.index(other) < order.index(room), f"{room} is allowed {other}, which comes later"


def test_the_table_of_rooms_has_the_same_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    folders = re.findall(r"^\| `(?:mvtokenflow/)?([a-z0-9_/]+)/` \|", page, re.M)
    rooms = [room for folder in folders if (room := folder.replace("/", ".")) in ALLOWED]
    assert len(rooms) > 25
    assert rooms == sorted(rooms, key=list(ALLOWED).index)


def test_no_room_is_allowed_what_it_does_not_use() -> None:
    used = {room: set[str]() for room in ALLOWED}
    for module, others in arrows().items():
        used[room_of(module)] |= {room_of(other) for other in others}
    assert {room: sorted(set(below) - used[room]) for room, below in ALLOWED.items()} == {
        room: [] for room in ALLOWED
    }


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Functions included: what is imported late is imported as well."""
    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in finished:
            for other in arrows()[module]:
                visit(other, (*path, module))
            finished.add(module)

    for module in modules():
        visit(module, ())
