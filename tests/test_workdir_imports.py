"""Digests of code: what counts, what does not, and that nothing is imported to find it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvtokenflow.workdir import imports
from mvtokenflow.workdir.imports import code_digest, imported_files

FILES = {
    "outside/__init__.py": "",
    "outside/method.py": "from . import parts\nfrom .parts.loss import loss\nimport os, numpy\n",
    "outside/parts/__init__.py": "",
    "outside/parts/loss.py": "def loss():\n    from other import helper\n    return helper\n",
    "outside/unused.py": "x = 1\n",
    "other.py": '"""Doc."""\n\nhelper = 1  # a comment\n',
}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    _forget()


def _forget() -> None:
    for known in (code_digest, imports._tree, imports._code):
        known.cache_clear()


def _digest() -> str:
    _forget()
    return code_digest("outside.method")


def test_all_that_is_imported_outside_installed_packages_is_found(outside: Path) -> None:
    found = imported_files(["outside.method"])
    assert set(found) == {"outside", "outside.method", "outside.parts", "outside.parts.loss", "other"}
    assert "outside" not in sys.modules, "nothing is imported"


@pytest.mark.parametrize(
    ("name", "text", "counts"),
    [
        ("other.py", "helper = 2\n", True),
        ("outside/parts/loss.py", "loss = 0\n", True),
        ("outside/parts/__init__.py", "x = 0\n", True),
        ("outside/unused.py", "x = 2\n", False),
        ("other.py", '"""Other words."""\nhelper   =   1\n', False),
        ("outside/method.py", "# said better\n" + FILES["outside/method.py"], False),
        ("outside/weights/net.safetensors", "numbers", True),
        ("outside/weights/NET.md", "words", False),
    ],
)
def test_code_counts_and_words_do_not(outside: Path, name: str, text: str, counts: bool) -> None:
    before = _digest()
    (outside / name).parent.mkdir(exist_ok=True)
    (outside / name).write_text(text)
    assert (_digest() != before) == counts


def test_a_renamed_module_is_another(outside: Path) -> None:
    before = _digest()
    (outside / "other.py").rename(outside / "renamed.py")
    text = FILES["outside/parts/loss.py"].replace("other", "renamed")
    (outside / "outside" / "parts" / "loss.py").write_text(text)
    assert _digest() != before


def test_a_circle_of_imports_ends(outside: Path) -> None:
    (outside / "other.py").write_text("import outside.method\n")
    assert "outside.method" in imported_files(["other"])


def test_a_file_that_is_not_python_counts_by_its_bytes(outside: Path) -> None:
    before = _digest()
    (outside / "other.py").write_text("def (:\n")
    damaged = _digest()
    (outside / "other.py").write_text("def ((:\n")
    assert len({before, damaged, _digest()}) == 3


def test_a_stage_depends_on_the_method_and_on_no_room_above_it() -> None:
    found = {name.split(".")[1] for name in imported_files(["mvtokenflow.method.pipeline"]) if "." in name}
    assert {"method", "multiview", "splat", "tokenflow", "flow"} <= found
    assert not found & {"baselines", "cli", "datasets", "eval", "reports", "weights"}
