"""The commands of docs/importing.md, run as they are printed on folders as the programs leave them."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import official
import pytest
from PIL import Image

from mvtokenflow.datasets.layout import AZIMUTHS_DEG

ROOT = Path(__file__).resolve().parents[3]
Cli = Callable[..., Any]
SIZE = 16
LINES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "docs/importing.md").read_text(), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("mvtf-eval import")
]


def _pictures(folder: Path) -> None:
    """`left/frame_0001.png` and the other views by azimuth, 31 frames."""
    for name in ("left", "az_15", "az_105", "az_195"):
        for number in range(1, 32):
            path = folder / "skull" / name / f"frame_{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((SIZE, SIZE, 3), 200, np.uint8)).save(path)


def _by_azimuth(folder: Path) -> None:
    for azimuth in AZIMUTHS_DEG.values():
        for number in range(32):
            path = folder / "skull" / f"az_{azimuth % 360:g}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((SIZE, SIZE, 3), 200, np.uint8)).save(path)


def _plies(folder: Path) -> None:
    for number in range(32):
        official.write_ply(folder / f"{number}.ply", official.marker())


def _dg4d() -> None:
    official.dg4d(Path("dreamgaussian4d/logs"), 128, name="skull")


def _diffusion2() -> None:
    official.diffusion2(Path("output/skull"))


# What each command's folder holds, by the first words of the command; kind, views and frames of the result.
SOURCES: dict[str, tuple[Callable[[], Any], str, int, int]] = {
    "renders/az -o renders/mine": (lambda: _by_azimuth(Path("renders/az")), "pictures", 4, 32),
    "renders/az -o renders/mine --views": (lambda: _pictures(Path("renders/az")), "pictures", 4, 31),
    "outputs/consistent4d": (
        lambda: official.consistent4d(Path("outputs/consistent4d/skull")), "consistent4d", 5, 32,
    ),
    "outputs/consistent4d -o renders/consistent4d --kind": (
        lambda: official.consistent4d_video(Path("outputs/consistent4d/skull"), 32),
        "consistent4d-video", 4, 32,
    ),
    "SC4D/logs": (lambda: official.sc4d(Path("SC4D/logs/skull")), "sc4d", 5, 32),
    "STAG4D/logs": (lambda: official.stag4d(Path("STAG4D/logs/skull8000")), "stag4d", 5, 30),
    "dreamgaussian4d/logs": (_dg4d, "dg4d", 5, 32),
    "output/skull -o renders/4dgen": (lambda: official.gen4d(Path("output/skull")), "4dgen", 5, 16),
    "output/skull -o renders/diffusion2": (_diffusion2, "diffusion2", 5, 25),
    "outputs/sv4d -o": (lambda: official.sv4d(Path("outputs/sv4d"), official.SV4D), "sv4d", 2, 21),
    "outputs/sv4d2 -o": (lambda: official.sv4d(Path("outputs/sv4d2"), official.SV4D2), "sv4d2", 4, 21),
    "workspace": (lambda: official.l4gm(Path("workspace")), "l4gm", 1, 12),
    "frames": (lambda: _plies(Path("frames")), "ply", 5, 32),
}  # fmt: skip


def _source(line: str) -> tuple[Callable[[], Any], str, int, int]:
    words = line.removeprefix("mvtf-eval import ")
    return SOURCES[max((start for start in SOURCES if words.startswith(start)), key=len)]


def test_every_command_has_a_folder() -> None:
    assert len(LINES) == len({_source(line)[1] for line in LINES}) + 1  # pictures have two


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a test set of one object, 16 pixels wide."""
    monkeypatch.chdir(tmp_path)
    for view in AZIMUTHS_DEG:
        for number in range(32):
            path = tmp_path / "data/test_dataset/eval_gt/skull" / view / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((SIZE, SIZE, 4), 255, np.uint8)).save(path)
    return tmp_path


@pytest.mark.parametrize(
    "line", LINES, ids=lambda line: line.split(" --dataset")[0].removeprefix("mvtf-eval import ")
)
def test_the_command_makes_a_row(line: str, place: Path, cli: Cli) -> None:
    make, kind, views, frames = _source(line)
    make()
    done = cli(*shlex.split(line)[1:])
    assert done.code == 0, done.err
    (record,) = (json.loads(path.read_text()) for path in (place / "renders").glob("*/skull/import.json"))
    assert (record["kind"], len(record["views"]), record["frames"]) == (kind, views, frames)
    assert len(list((place / "renders").glob("*/skull/[ei]*/*.png"))) >= views * frames
    if record["codec"] == ["rendered"]:
        assert record["size"] == [SIZE, SIZE]
