"""Finished stages shared between runs: what changes a key, whole entries only, two writers, costs as spent."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvtokenflow.workdir import store as module
from mvtokenflow.workdir.cost import Cost, keep_cost, read_costs
from mvtokenflow.workdir.provenance import PACKAGES
from mvtokenflow.workdir.store import StageStore

MAKERS = ("mvtokenflow.method.pipeline",)
COST = Cost(stage="views", seconds=12.5, peak_mib=700.0, finished=True)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with a finished stage: a folder and a report beside it."""
    folder = tmp_path / "run"
    (folder / "views" / "view_0").mkdir(parents=True)
    (folder / "views" / "view_0" / "0.png").write_bytes(b"picture")
    (folder / "views.json").write_text("{}")
    return folder


def keep(store: StageStore, depends: dict[str, Any], run: Path, cost: Cost = COST) -> None:
    store.keep("views", depends, run, ["views.json", "views"], cost)


def test_a_kept_stage_comes_back_with_its_files_and_cost(run: Path, tmp_path: Path) -> None:
    store = StageStore(tmp_path / "stages", MAKERS)
    assert store.find("views", {"seed": 0}) is None
    assert not store.root.exists(), "looking makes nothing"
    keep(store, {"seed": 0}, run)
    shutil.rmtree(run)
    entry = store.find("views", {"seed": 0})
    assert entry is not None
    assert entry.cost == COST
    entry.copy_to(tmp_path / "other")
    assert (tmp_path / "other" / "views" / "view_0" / "0.png").read_bytes() == b"picture"
    assert (tmp_path / "other" / "views.json").read_text() == "{}"
    assert not [path for path in (tmp_path / "other").iterdir() if path.name.startswith(".")]
    assert json.loads((entry.folder / "key.json").read_text())["depends"] == {"seed": 0}


def test_every_dependency_changes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StageStore(tmp_path, MAKERS)
    settings = {"sampling": {"timesteps": (999, 100)}, "seed": 0}
    key = store.key("views", settings)
    assert key == store.key("views", {"seed": 0, "sampling": {"timesteps": [999, 100]}})
    others = {
        store.key("coarse", settings),
        store.key("views", settings | {"seed": 1}),
        store.key("views", settings | {"more": None}),
        store.key("views", {"sampling": {"timesteps": (999, 101)}, "seed": 0}),
    }
    monkeypatch.setattr(module, "code_digest", lambda *modules: "other code")
    others.add(store.key("views", settings))
    monkeypatch.undo()
    monkeypatch.setattr(module, "versions", lambda: {"torch": "0"})
    others.add(store.key("views", settings))
    assert len(others | {key}) == 7


def test_a_key_depends_on_what_prepares_pictures_and_texts() -> None:
    """transformers changed its scaling of CLIP's input between releases."""
    assert {"diffusers", "torch", "transformers"} <= set(PACKAGES)


def test_the_first_of_two_writers_stays_and_leaves_no_scraps(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second finds the folder only when it renames: both computed the stage at the same time."""
    store = StageStore(tmp_path / "stages", MAKERS)
    original = Path.rename

    def late(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", original)
        keep(store, {"seed": 0}, run)
        return original(self, target)

    monkeypatch.setattr(Path, "rename", late)
    keep(store, {"seed": 0}, run, replace(COST, seconds=99.0))
    entry = store.find("views", {"seed": 0})
    assert entry is not None
    assert entry.cost.seconds == COST.seconds
    assert [path.name for path in store.root.iterdir()] == [entry.folder.name]


def test_a_stage_that_cannot_be_kept_whole_is_not_kept(run: Path, tmp_path: Path) -> None:
    store = StageStore(tmp_path / "stages", MAKERS)
    (run / "views.json").unlink()
    with pytest.raises(FileNotFoundError):
        keep(store, {"seed": 0}, run)
    assert store.find("views", {"seed": 0}) is None
    assert list(store.root.iterdir()) == []


def test_costs_from_elsewhere_stand_beside_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "stages.json"
    keep_cost(path, COST)
    keep_cost(path, replace(COST, stage="coarse"))
    keep_cost(path, replace(COST, seconds=1.0))
    assert [(cost.stage, cost.seconds) for cost in read_costs(path)] == [("views", 1.0), ("coarse", 12.5)]
