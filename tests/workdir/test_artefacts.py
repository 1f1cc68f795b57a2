"""Artefacts from a method's list to its manifest and its page, for a method from outside."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.baselines.method import Documented, Progress, Rendering, Source, Variant
from mvtokenflow.baselines.mvtokenflow import COARSE, FULL, TRUE_VIEWS
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.eval.records.rows import Manifest, load_runs
from mvtokenflow.eval.tables.render import Job, render
from mvtokenflow.media.pictures import write_png
from mvtokenflow.reports.site import build_site
from mvtokenflow.workdir.artefacts import Artefact, read_artefacts, write_artefacts

LOSSES = Artefact(kind="losses", name="fit", title="Fit", path="log/fit.jsonl")
PREVIEWS = Artefact(kind="previews", name="fit", title="Fit", path="log")
FIELD = Artefact(kind="field", name="fit", title="Fit", path="net.safetensors")
NONE = Artefact(kind="views", name="views", title="Views", path=None, note="generates no views: it needs none.")


@dataclass(frozen=True)
class Foreign:
    """A row that keeps a log under names of its own."""

    listed: Sequence[Artefact] = (LOSSES, PREVIEWS, FIELD, NONE)
    name: str = "foreign"
    source: Source = "native"
    uses_truth: bool = False
    variant_of: str | None = None

    def config(self) -> Mapping[str, Any]:
        return {"foreign": 1}

    def weights(self) -> Sequence[str]:
        return ()

    def artefacts(self, workdir: Path) -> Sequence[Artefact]:
        return self.listed

    def render(self, scene: Scene, seed: int, workdir: Path, progress: Progress) -> Mapping[str, Rendering]:
        steps = [{"step": n, "gaussians": 5, "seconds": 1.0, "loss": 1 / n} for n in (1, 10, 20)]
        (workdir / "log").mkdir(parents=True)
        (workdir / "log" / "fit.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
        write_png(workdir / "log" / "preview_00020.png", np.zeros((8, 8, 3), np.uint8))
        (workdir / "net.safetensors").write_bytes(b"")
        clip = (scene.clip().on_background(1.0) * 255).round().numpy().astype(np.uint8)
        return {view.name: Rendering(rgb=clip) for view in (scene.input, *scene.views)}


def _job(tiny: Any, folder: Path, method: Foreign) -> Job:
    return Job(dataset=tiny.Tiny(folder / "data"), method=method, scene="ant", seed=0, root=folder / "runs")


def test_what_a_method_from_outside_lists_is_recorded_and_drawn(tiny: Any, tmp_path: Path) -> None:
    folder = render(_job(tiny, tmp_path, Foreign()), lambda *_: None, {})
    manifest = Manifest.load(folder / "manifest.json")
    assert manifest.variant_of is None
    assert [one.path for one in manifest.artefacts] == [
        "work/log/fit.jsonl",
        "work/log",
        "work/net.safetensors",
        None,
    ]
    assert all((folder / one.path).exists() for one in manifest.artefacts if one.path is not None)
    build_site([], list(load_runs(tmp_path / "runs")), tmp_path / "site")
    (page,) = (tmp_path / "site" / "scenes").glob("*.html")
    text = page.read_text()
    assert 'class="curve"' in text
    assert "This run generates no views: it needs none." in text
    assert f"RUNS/{folder.relative_to(tmp_path / 'runs').as_posix()}/work/net.safetensors" in text


@pytest.mark.parametrize("path", ["../elsewhere", "/etc/passwd", "log/../../x"])
def test_a_method_cannot_list_what_is_not_its_own(path: str, tiny: Any, tmp_path: Path) -> None:
    method = Foreign(listed=[Artefact(kind="field", name="fit", title="Fit", path=path)])
    with pytest.raises(ConfigError, match="foreign: an artefact that it lists path"):
        render(_job(tiny, tmp_path, method), lambda *_: None, {})
    assert not list((tmp_path / "runs").rglob("manifest.json"))


def test_ablations_say_of_what() -> None:
    assert isinstance(COARSE, Documented)
    assert isinstance(COARSE, Variant)
    assert [row.variant_of for row in (FULL, COARSE, TRUE_VIEWS)] == [None, "mvtokenflow", None]


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "artefacts.json"
    assert read_artefacts(path) == []
    write_artefacts(path, [LOSSES, NONE])
    assert read_artefacts(path) == [LOSSES, NONE]
    written = path.stat().st_mtime_ns
    write_artefacts(path, [LOSSES, NONE])
    assert path.stat().st_mtime_ns == written
    write_artefacts(path, [LOSSES])
    assert read_artefacts(path) == [LOSSES]
