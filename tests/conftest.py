"""Shared fixtures: no network, the pictures kept outside the repository, small procedural predictions."""

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

    from mvtokenflow.views.video import MultiviewVideo

ROOT = Path(__file__).resolve().parents[1]
# `python -m pytest` puts the checkout on sys.path, where our `datasets/` would shadow Hugging Face's.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
sys.path += [str(Path(__file__).parent / name) for name in ("fuzz", "builders")]  # imported by tests
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for a hub must fail at once

SHARED = Path(os.environ.get("MVTF_SHARED", ROOT.parent / "shared"))
Layout = Callable[..., Path]
TINY = Path(__file__).parent / "data" / "tables_tiny"


# Files that take longest begin first, so that none of them runs alone at the end.
LONG = (
    *("table_kill", "slurm_cluster", "tables_reuse", "readers", "regress_end_to_end", "docs_examples"),
    *("mvtf_run", "pipeline", "splat_trainer", "score_resume", "prior_command", "tables_runs", "places"),
    *("golden", "examples"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


def pytest_configure(config: pytest.Config) -> None:
    """Leave writing to the disk to the system: processes are killed here, and no machine loses its power."""
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", lambda file: None)
    config.add_cleanup(patch.undo)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fuzzer", "tests/fuzz")
    group.addoption("--fuzz-count", type=int, default=20, metavar="N", help="damaged inputs for each reader")
    group.addoption("--fuzz-seed", type=int, metavar="N", help="only the input of this number")
    group.addoption("--fuzz-table", metavar="FILE", help="append a line for each reader: counts, seconds, MiB")


@pytest.fixture(scope="module")
def tiny() -> Iterator[ModuleType]:
    """The dataset of tiny scenes and its methods, importable as `tinyscenes` by commands too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TINY)
        yield importlib.import_module("tinyscenes")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference pictures and numbers that may not be redistributed; tests that need them skip without."""
    if not (SHARED / "parity").is_dir():
        pytest.skip(f"the reference pictures are not in {SHARED}; set MVTF_SHARED to their folder")
    return SHARED


@pytest.fixture(scope="session")
def rival() -> "Callable[[str, str], tuple[dict[str, Tensor], dict[str, Any]]]":
    """Numbers of the five published methods: tensors of a case by name ("in/x", "out/y"), and its description.

    `data/rival_*` were made by the authors' repositories at the commits that stand in the .json files, run on a
    CPU; networks, renderers and draws were replaced by stand-ins that return given random numbers. They hold
    no picture, no weights and no code of the authors. Floating-point tensors come as float64.
    """
    from safetensors.torch import load_file

    def read(name: str, case: str) -> "tuple[dict[str, Tensor], dict[str, Any]]":
        path = Path(__file__).parent / "data" / f"rival_{name}"
        says = json.loads(path.with_suffix(".json").read_text())["cases"][case]
        stored = load_file(path.with_suffix(".safetensors"))
        chosen = {
            key.removeprefix(f"{case}/"): value for key, value in stored.items() if key.startswith(f"{case}/")
        }
        return {
            key: value.double() if value.is_floating_point() else value for key, value in chosen.items()
        }, says

    return read


def toy_picture(frame: int, view: int, size: int, shift: int = 0) -> NDArray[np.uint8]:
    """A coloured blob with a stripe on white; no two views share a silhouette, no side is symmetric."""
    y, x = np.mgrid[0:size, 0:size] / size
    centre = 0.35 + 0.1 * view
    body = ((x - centre - shift / size) / (0.12 + 0.05 * view)) ** 2 + ((y - 0.5) / 0.25) ** 2 < 1
    head = (x - centre - 0.1 - shift / size) ** 2 + (y - 0.25 - 0.01 * frame) ** 2 < 0.01
    picture = np.full((size, size, 3), 255, np.uint8)
    picture[body] = (200, 80, 40)
    picture[body & (((x + y) * 12 + frame).astype(int) % 2 == 0)] = (60, 90, 160)
    picture[head] = (30, 140, 60)
    return picture


@pytest.fixture
def layout() -> Layout:
    """Write `<root>/<object>/eval_<i>/<n>.png`; returns the root."""

    def write(
        root: Path,
        objects: tuple[str, ...] = ("cat",),
        views: tuple[str, ...] = ("eval_0", "eval_1", "eval_2", "eval_3"),
        frames: int = 2,
        size: int = 48,
        shift: int = 0,
    ) -> Path:
        for name in objects:
            for number, view in enumerate(views):
                folder = root / name / view
                folder.mkdir(parents=True)
                for frame in range(frames):
                    picture = toy_picture(frame, number, size, shift)
                    Image.fromarray(picture).save(folder / f"{frame}.png")
        return root

    return write


class Outcome(NamedTuple):
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


def _in_process(
    program: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, main: Callable[[], None]
) -> Cli:
    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return Outcome(code=code if isinstance(code, int) else 0, out=printed.out, err=printed.err)

    return run


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run `mvtf-eval` in this process."""
    from mvtokenflow.cli.mvtf_eval import main

    return _in_process("mvtf-eval", capsys, monkeypatch, main)


@pytest.fixture
def mvtf(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run `mvtf` in this process."""
    from mvtokenflow.cli.mvtf import main

    return _in_process("mvtf", capsys, monkeypatch, main)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny work: threads would only wait for one another."""
    import numba
    import torch

    threads = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    yield
    numba.set_num_threads(threads[0])
    torch.set_num_threads(threads[1])


@pytest.fixture
def no_tf32() -> Iterator[None]:
    """On a GPU, float32 is float32."""
    import torch

    matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matrices.allow_tf32, convolutions.allow_tf32
    matrices.allow_tf32 = convolutions.allow_tf32 = False
    yield
    matrices.allow_tf32, convolutions.allow_tf32 = before


@pytest.fixture(scope="session")
def toy() -> "MultiviewVideo":
    """Three frames of a toy at 64 px in six views, with normals and a flow that says it stands still."""
    import torch

    from mvtokenflow.datasets.toy4d.scenes import render_scene
    from mvtokenflow.datasets.toy4d.stream import six_views
    from mvtokenflow.views.video import MultiviewVideo, ViewFlow

    frames, size = 3, 64
    seen = render_scene("fish-01", six_views(size), [n / (frames - 1) for n in range(frames)], samples=2)
    alpha = torch.from_numpy(seen.alpha).float().clamp(0, 1)
    return MultiviewVideo(
        rgb=torch.from_numpy(seen.rgb).float().clamp(0, 1),
        alpha=alpha,
        cameras=six_views(size),
        normals=torch.from_numpy(seen.normal).float(),
        flow=ViewFlow.forward(0, torch.zeros(frames - 1, size, size, 2), alpha[:-1, 0, ..., 0] > 0.5),
    )


@pytest.fixture(scope="session")
def prior_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior of the shipped structure, narrow and untrained: it gives its mean pictures, a grey ball."""
    import torch

    from mvtokenflow.multiview.unet import MultiviewUNet
    from mvtokenflow.small.codec import PatchCodec, place_planes
    from mvtokenflow.small.config import small_unet_config
    from mvtokenflow.small.prior import save_small_prior, six_cameras

    size = 64
    unet_config = small_unet_config(channels=(8, 16), heads=(1, 2))
    torch.manual_seed(0)
    unet = MultiviewUNet.from_config(unet_config)
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    ball = (axis[:, None].square() + axis.square() < 0.5).float()
    depth = (0.5 - axis[:, None].square() - axis.square()).clamp_min(0).sqrt() / 0.5**0.5
    means = torch.ones(2, 6, 3, size, size)
    means[1] -= 0.5 * ball
    for view, azimuth in enumerate((0.0, 45.0, 90.0, 180.0, 270.0, 315.0)):
        turn = torch.deg2rad(torch.tensor(azimuth))
        right, near = axis.expand(size, size) / 0.5**0.5, depth
        normal = torch.stack(
            (
                right * turn.cos() + near * turn.sin(),
                -axis[:, None].expand(size, size) / 0.5**0.5,
                near * turn.cos() - right * turn.sin(),
            )
        )
        means[0, view] = 0.5 + 0.5 * ball * normal
    scales = torch.full((2, 6), 0.01)
    scales[1, 0] = 0  # the front colour is the input itself
    codec = PatchCodec(means=means, scales=scales, places=place_planes(six_cameras(size), 4), patch=4)
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    save_small_prior(path, unet.state_dict(), unet_config, codec, {})
    return path


@pytest.fixture(scope="session")
def fuzz_root(tmp_path_factory: pytest.TempPathFactory, prior_file: Path) -> Path:
    """Where valid and damaged files of the fuzzer go; `shared/` holds what is costly to make."""
    root = tmp_path_factory.mktemp("fuzz")
    (root / "shared").mkdir()
    shutil.copyfile(prior_file, root / "shared" / "prior.safetensors")
    return root
