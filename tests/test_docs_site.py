"""The docs site: every room has its page, every module is on one, links lead to pages; and it can be built."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("mvtokenflow", "eval", "baselines", "datasets", "reports")


@pytest.fixture(scope="module")
def hooks() -> Any:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _navigation() -> list[str]:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    return re.findall(r"(\S+\.md)$", nav, re.M)


def test_every_room_has_a_page_that_names_all_its_modules(hooks: Any) -> None:
    rooms = hooks.rooms()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert list(rooms) == sorted(name for name in packages if ".cli" not in name)
    config = SimpleNamespace(nav=[])
    hooks.on_config(config)
    assert [page for entry in config.nav[0]["Python"] for page in entry.values()] == [
        hooks.page_of(room) for room in rooms
    ]
    for room, modules in rooms.items():
        text = hooks.api_page(room, modules)
        assert re.findall(r"^::: (.*)$", text, re.M) == [room, *modules]
    listed = {module for modules in rooms.values() for module in modules}
    for folder in ("mvtokenflow/splat", "mvtokenflow/method", "eval/metrics", "reports"):
        for path in (ROOT / folder).glob("[!_]*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if parts[0] == "mvtokenflow" else ("mvtokenflow", *parts)
            assert ".".join(parts) in listed


def test_every_document_is_a_page(hooks: Any) -> None:
    documents = {path.name for path in (ROOT / "docs").glob("*.md")}
    made = {place for place, _ in hooks.pages()}
    assert set(_navigation()) == documents | {place for place in made if not place.startswith("api/")}
    assert {place for place in made if place.startswith("api/")} == set(map(hooks.page_of, hooks.rooms()))


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("[a](docs/mvtf.md#run)", "README.md", "[a](mvtf.md#run)"),
        ("![a](docs/images/toy4d.png)", "README.md", "![a](images/toy4d.png)"),
        ("[a](../README.md)", "docs/mvtf.md", "[a](index.md)"),
        ("[a](LICENSE)", "README.md", "a"),
        ("[a](own_video.py)", "examples/README.md", "a"),
        ("[a](https://x.org/y.md) [b](#c)", "README.md", "[a](https://x.org/y.md) [b](#c)"),
        ("```sh\n[a](LICENSE)\n```", "README.md", "```sh\n[a](LICENSE)\n```"),
    ],
)
def test_links_between_files_are_links_between_pages(hooks: Any, text: str, source: str, expected: str) -> None:
    assert hooks.linked(text, source, "page.md") == expected


def test_docstrings_are_read_without_a_warning() -> None:
    """Links to nowhere and exceptions without a name fail `make docs`, whose packages tests do not have."""
    faults = []
    for path in (path for top in ROOMS for path in sorted((ROOT / top).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            text = ast.get_docstring(node) or ""
            where = f"{path.relative_to(ROOT)}, {getattr(node, 'name', 'module')}"
            if "](" in re.sub(r"`[^`]*`", "", text):
                faults.append(f"{where}: a link outside of backticks")
            raises = re.search(r"^Raises:\n((?: {4}.*\n?|\n)+)", text, re.MULTILINE)
            lines = raises[1].splitlines() if raises else []
            faults += [f"{where}: {line}" for line in lines if re.match(r" {4}(?! |[\w., `]+: )", line)]
    assert not faults, faults


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra docs: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "api" / "mvtokenflow.splat.html").read_text()
    assert 'id="mvtokenflow.splat.rasterize.rasterize"' in page
    assert "rotations" in page
    assert (tmp_path / "index.html").is_file()
