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


LAZY = """
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lazy.loss import loss
    from lazy.other import thing as known

def __getattr__(name):
    return getattr(import_module(f"lazy.{name}"), name)
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from lazy.plain import x\n", {"lazy.plain"}),
        ("from lazy import loss\n", {"lazy.loss"}),
        ("from lazy import known\n", {"lazy.other"}),
        ("def f():\n    import lazy\n    return lazy.loss\n", {"lazy.loss", "lazy.other"}),
        ("import lazy.plain as p\n", {"lazy.plain", "lazy.loss", "lazy.other"}),
        ("if TYPE_CHECKING:\n    from lazy import loss\nelse:\n    import other\n", {"other"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import other\n", set()),
    ],
)
def test_names_that_a_package_hands_out_late_lead_to_their_modules(
    outside: Path, text: str, expected: set[str]
) -> None:
    (outside / "lazy").mkdir()
    (outside / "lazy" / "__init__.py").write_text(LAZY)
    for name in ("loss", "other", "plain"):
        (outside / "lazy" / f"{name}.py").write_text("x = 1\n")
    (outside / "user.py").write_text(text)
    assert set(imported_files(["user"])) - {"user", "lazy"} == expected


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
    assert not found & {"baselines", "cli", "datasets", "eval", "reports"}


def test_a_new_entry_of_the_weights_ledger_changes_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys hold the sha256 of the weights that were used; other code of the ledger counts."""
    method = "mvtokenflow.method.pipeline"
    files, before = imported_files([method]), code_digest(method)
    code = imports._code

    def digest_after(change: str) -> str:
        monkeypatch.setattr(imports, "_code", lambda path: b"new" if path == files[change] else code(path))
        code_digest.cache_clear()
        return code_digest(method)

    assert digest_after("mvtokenflow.weights.entries") == before
    assert digest_after("mvtokenflow.weights.method_entries") == before
    assert digest_after("mvtokenflow.weights.ledger") != before
    monkeypatch.undo()
    code_digest.cache_clear()


def test_the_front_door_leads_to_what_is_taken_through_it(outside: Path) -> None:
    (outside / "user.py").write_text("from mvtokenflow import rasterize\n")
    found = set(imported_files(["user"]))
    assert "mvtokenflow.splat.rasterize" in found
    assert "mvtokenflow.method.pipeline" not in found
    assert "mvtokenflow.splat.rasterize" not in imported_files(["mvtokenflow.base.files"])
