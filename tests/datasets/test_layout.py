"""The mapping of top-level folders to import names stays true (each check was seen to fail on its break)."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("eval", "baselines", "datasets", "reports")


def test_every_package_on_disk_is_listed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    on_disk = set()
    for top in ("mvtokenflow", *ROOMS):
        for init in (ROOT / top).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            if parts[0] == "mvtokenflow" and len(parts) > 1 and parts[1] in ROOMS:
                continue  # the links
            on_disk.add(".".join(parts if parts[0] == "mvtokenflow" else ("mvtokenflow", *parts)))
    assert listed == on_disk


@pytest.mark.parametrize("name", ROOMS)
def test_top_level_folders_are_not_importable(name: str) -> None:
    spec = importlib.util.find_spec(name)
    if spec is not None:
        places = [spec.origin or "", *(spec.submodule_search_locations or [])]
        assert not any(Path(place).resolve().is_relative_to(ROOT) for place in places if place)


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_inside_the_library_are_links(name: str) -> None:
    link = ROOT / "mvtokenflow" / name
    assert link.is_symlink() or not link.is_dir()
