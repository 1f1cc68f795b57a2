"""The names of the package itself: which they are, what importing them costs, and a video made an asset."""

import ast
import importlib
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from settings import few_steps

import mvtokenflow
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.stream import six_views
from mvtokenflow.datasets.toy4d.toys import make_toy
from mvtokenflow.media.pictures import composite_white, read_rgba, write_png
from mvtokenflow.media.segment import Segmentation, Segmenter, each
from mvtokenflow.media.video import count_frames
from mvtokenflow.splat.export import ExportView
from mvtokenflow.workdir.artefacts import ARTEFACTS_FILE, read_artefacts

HEAVY = ("torch", "diffusers", "numba", "numpy", "pandas", "cv2", "av", "PIL")
pytestmark = pytest.mark.usefixtures("one_thread")


def _loaded_by(program: str) -> set[str]:
    """Top-level modules that are loaded after a program."""
    code = f"{program}\nimport sys\nprint(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not _loaded_by("import mvtokenflow; dir(mvtokenflow)") & set(HEAVY)
    assert not _loaded_by("from mvtokenflow import MethodConfig; MethodConfig()") & set(HEAVY)
    assert "torch" in _loaded_by("from mvtokenflow import load_field")


def test_the_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(mvtokenflow.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == mvtokenflow._MODULES
    assert sorted(seen) == sorted(mvtokenflow.__all__)
    assert set(seen) <= set(dir(mvtokenflow))
    for name, module in seen.items():
        assert getattr(mvtokenflow, name) is getattr(importlib.import_module(module), name)
        assert f"\n    {name} " in str(mvtokenflow.__doc__), f"{name} is not described"
    with pytest.raises(AttributeError, match="no attribute 'make_assets'"):
        _ = mvtokenflow.make_assets


@pytest.fixture(scope="module")
def opaque(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames of a toy on white."""
    seen = render(make_toy("fish", 7), six_views(64)[:1], [0.0, 0.5, 1.0])
    folder = tmp_path_factory.mktemp("opaque") / "toy"
    for n, rgba in enumerate(np.concatenate((seen.rgb, seen.alpha), axis=-1)[:, 0]):
        write_png(folder / f"{n}.png", rgba)
        write_png(folder / f"{n}.png", composite_white(read_rgba(folder / f"{n}.png")))
    return folder


def test_a_video_becomes_an_asset(opaque: Path, prior_file: Path, tmp_path: Path) -> None:
    config = few_steps(prior_file)
    loads: list[str] = []

    def load() -> Segmenter:
        loads.append("here")
        return each(lambda frame: np.asarray((frame < 250).any(-1) * 255, np.uint8))

    pages: list[bool] = []

    def page(folder: Path) -> Path:
        pages.append((folder / "comparison.mp4").exists())
        return folder / "page"

    said: list[str] = []
    stages: dict[str, int] = {}
    make = partial(
        mvtokenflow.make_asset,
        out=tmp_path / "out",
        config=config,
        segmenter=Segmentation("thresholded", load),
        ply=False,
        device="cpu",
    )
    asset = make(
        str(opaque),
        view=ExportView(size=32, elevation_deg=10.0),
        page=page,
        progress=lambda stage, done, total: stages.update({stage: total}),
        say=said.append,
    )
    assert asset.frames == 3
    assert asset.ply is None
    assert not (tmp_path / "out" / "ply").exists()
    assert asset.page == tmp_path / "out" / "page"
    assert pages[-1], "written at the end"
    assert len(pages) > 4, "and whenever another stage began"
    assert {
        "1/6 First pass: segment",
        "3/6 Coarse field",
        "5/6 Refined field",
        "6/6 Videos and files: turntable",
    } <= set(stages)
    assert said == [f"watch it in {tmp_path / 'out' / 'page'}", "3 frames of 64x64 pixels"]
    assert [path.stem for path in asset.views] == [f"azimuth_{a}" for a in (0, 90, 180, 270)]
    assert [count_frames(path) for path in (asset.comparison, *asset.views)] == [3] * 5
    listed = read_artefacts(asset.folder / ARTEFACTS_FILE)
    assert {one.kind for one in listed} >= {"views", "normals", "flow", "losses", "field", "costs"}
    assert all((asset.folder / one.path).exists() for one in listed if one.path is not None)
    field = mvtokenflow.load_field(asset.field)
    assert torch.equal(field.gaussians.means, asset.result.field.gaussians.means)

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    again = make(opaque, view=ExportView(size=32, elevation_deg=10.0))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.page is None
    assert loads == ["here"], "the masks are there, so the network is not loaded again"
    level = make(opaque, view=ExportView(size=32), say=said.append)
    assert said[-1].startswith("videos are written again (")
    assert "elevation_deg 10.0 -> usual" in said[-1]
    fitted = {path: stamp for path, stamp in before.items() if "method" in path.parts}
    assert {path: path.stat().st_mtime_ns for path in fitted} == fitted
    assert level.turntable.stat().st_mtime_ns != before[level.turntable]
