"""What is shipped: one top-level name, templates inside, no tests."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of a wheel built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for top in ("mvtokenflow", "eval", "baselines", "datasets", "reports"):
        shutil.copytree(ROOT / top, source / top, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation"]
    built = subprocess.run([*command, "-q", "-w", str(folder)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return wheel.namelist()


def test_the_wheel_has_one_top_level_name(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mvtokenflow"}


def test_every_module_is_in_the_wheel_once(names: list[str]) -> None:
    assert len(names) == len(set(names))
    for room in ("eval", "baselines", "datasets", "reports"):
        modules = {
            f"mvtokenflow/{room}/{path.relative_to(ROOT / room).as_posix()}"
            for path in (ROOT / room).rglob("*.py")
        }
        assert modules <= set(names)


def test_data_files_are_in_the_wheel(names: list[str]) -> None:
    templates = {f"mvtokenflow/reports/templates/{p.name}" for p in (ROOT / "reports/templates").iterdir()}
    assert {"mvtokenflow/py.typed", *templates} <= set(names)
    assert not any("test" in name.split("/")[-1] for name in names)
