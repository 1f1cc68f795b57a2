"""What the package imports is what it asks for, and what a clean clone installs."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Modules of one distribution that are but another's: torch.utils.tensorboard is nothing without tensorboard.
STANDS_FOR = {"torch.utils.tensorboard": "tensorboard"}
# Modules that only an option loads, by the extra that installs them.
OF_EXTRAS = {"submitit": "slurm", "ray": "ray"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    """Distributions, in the spelling of the package index."""
    return {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", line)[0]).lower() for line in requirements}


@cache
def imported() -> frozenset[str]:
    """Top-level modules that the shipped code imports, at its head or inside functions."""
    found = set()
    for top in ("mvtokenflow", "eval", "baselines", "datasets", "reports"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(STANDS_FOR.get(node.module, node.module.split(".")[0]))
    return frozenset(found - set(sys.stdlib_module_names) - {"mvtokenflow"})


def test_every_import_is_a_dependency_of_its_own() -> None:
    """Not one that comes because another package happens to need it."""
    distributions = packages_distributions()
    asked = names(PROJECT["dependencies"])
    for module in sorted(imported() - OF_EXTRAS.keys()):
        assert names(distributions[module]) & asked, f"{module} is imported and not in pyproject.toml"


def test_every_dependency_is_imported_by_shipped_code() -> None:
    """Nobody installs what nothing uses."""
    distributions = packages_distributions()
    used = {name for module in imported() - OF_EXTRAS.keys() for name in names(distributions[module])}
    assert names(PROJECT["dependencies"]) - used == set()


def test_a_module_of_an_extra_is_loaded_in_one_place() -> None:
    """By functions of the engine that needs it, and the extra installs it."""
    for module, extra in OF_EXTRAS.items():
        assert module in names(PROJECT["optional-dependencies"][extra])
        files = [
            path.name
            for top in ("mvtokenflow", "eval", "baselines", "datasets", "reports")
            for path in (ROOT / top).rglob("*.py")
            if re.search(rf"^ *(import|from) {module}\b", path.read_text(), re.M)
        ]
        assert set(files) == {f"{extra}.py"}


@pytest.mark.parametrize("extra", [None, "dev", "docs", "slurm"])
def test_a_clean_clone_installs_pinned_versions(extra: str | None) -> None:
    pinned = names([line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line])
    wanted = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    assert names(wanted) <= pinned


def test_where_rembg_is_missing_the_package_of_the_extra_is_named() -> None:
    assert names(PROJECT["optional-dependencies"]["segment"]) == {"rembg"}
    assert "pip install 'rembg[cpu]'" in (ROOT / "mvtokenflow" / "media" / "segment.py").read_text()
