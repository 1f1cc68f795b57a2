"""docs/rivals.md names the parts of the published methods: every function exists, with those arguments."""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "rivals.md").read_text()
CALL = re.compile(r"`((?:[a-z_0-9]+\.)*)(\.?[A-Za-z]\w*(?:\.[a-z]\w*)?)\(([^)]*)\)`")


def named() -> Iterator[tuple[str, str, str]]:
    """Module, name and arguments of what the tables name; a module holds for the rest of its row."""
    for row in PAGE.split("## Peculiarities")[0].splitlines():
        module, owner = "", ""
        for prefix, name, arguments in CALL.findall(row):
            module = prefix.rstrip(".") or module
            if name.startswith("."):
                name = owner + name
            elif name[0].isupper():
                owner = name.split(".")[0]
            yield module, name, arguments


def arguments_of(thing: Any) -> list[str]:
    return [name for name in inspect.signature(thing).parameters if name not in ("self", "cls")]


@pytest.mark.parametrize(("module", "name", "arguments"), list(named()))
def test_what_the_page_names_exists(module: str, name: str, arguments: str) -> None:
    thing: Any = importlib.import_module(f"mvtokenflow.{module}")
    for part in name.split("."):
        thing = getattr(thing, part)
    assert [part.strip() for part in arguments.split(",") if part.strip()] == arguments_of(thing)


def test_the_page_is_read() -> None:
    assert len(list(named())) > 60


@pytest.mark.parametrize(
    "place",
    [
        *("guidance.sds", "guidance.levels", "guidance.conditions", "guidance.cameras", "guidance.steps"),
        *("radiance.planes", "radiance.heads", "radiance.cascade", "radiance.quadrature"),
        *("radiance.losses", "splat.timenet", "splat.adaptive_start", "multiview.composition"),
    ],
)
def test_every_function_of_these_modules_is_on_the_page(place: str) -> None:
    module = importlib.import_module(f"mvtokenflow.{place}")
    listed = {name.split(".")[0] for where, name, _ in named() if where == place}
    functions = {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    assert functions <= listed
