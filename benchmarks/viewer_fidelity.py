"""How close a viewer's pictures are to the rasterizer's, in headless Chromium with software WebGL.

    python benchmarks/viewer_fidelity.py runs/.../field.safetensors

Prints, as ranges over six cameras and three times, PSNR of the whole picture on white for three kinds of
targets and other sizes, and mean errors of depth, flow and normals where both have at least half the opacity.
"""

import argparse
import base64
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "builders"))
from browser import Browser, start_browser

from mvtokenflow.splat.export import ExportView
from mvtokenflow.splat.field import DynamicField, Render
from mvtokenflow.splat.io import load_field
from mvtokenflow.viewer.fields import pack_dynamic
from mvtokenflow.viewer.packing import Timing
from mvtokenflow.viewer.page import write_viewer
from mvtokenflow.views.cameras import CameraKind

FRAMES, SIZE = 32, 512
HOOKS = Path(__file__).resolve().parents[1] / "tests" / "viewer" / "hooks.js"
CAMERAS: tuple[tuple[int, int, CameraKind], ...] = (
    *((0, 0, "ortho"), (75, 10, "ortho"), (200, -25, "ortho")),
    *((30, 15, "pinhole"), (140, 0, "pinhole"), (285, 40, "pinhole")),
)
SHOWN = (0.0, 10.0, 30.0)
BETWEEN = (0.5, 10.5, 30.5)
Shot = tuple[int, int, CameraKind, float]


class Page:
    """A viewer's page of one field, and the rasterizer's pictures of the same states."""

    def __init__(self, browser: Browser, field: DynamicField, folder: Path) -> None:
        times = tuple(frame / (FRAMES - 1) for frame in range(FRAMES))
        page = write_viewer(
            folder / "viewer.html", [pack_dynamic(field, "field", Timing(times=times))], title="field"
        )
        self.browser, self.field = browser, field
        browser.call("Page.navigate", url=page.as_uri())
        browser.wait("location.protocol === 'file:' && document.documentElement?.dataset.ready", 60)
        browser.js(HOOKS.read_text(encoding="utf-8"))

    def _shot(self, shot: Shot, size: int, words: dict[str, Any], options: dict[str, Any]) -> Any:
        azimuth, elevation, kind, frame = shot
        state = {"t": frame, "camera": kind, "place": {"az": azimuth, "el": elevation}, **words}
        return self.browser.js(f"mvtf4d.shot({json.dumps(state)}, {size}, {size}, {json.dumps(options)})")

    def drawn(self, shot: Shot, size: int, precision: str, show: str = "colour") -> NDArray[np.float64]:
        """A picture (S, S, 3) in [0, 1] of 8 bits."""
        text = self._shot(shot, size, {"show": show, "bg": "white"}, {"precision": precision})
        pixels = np.frombuffer(base64.b64decode(text), np.uint8).reshape(size, size, 4)
        return pixels[::-1, :, :3] / 255.0

    def values(self, shot: Shot, size: int) -> NDArray[np.float64]:
        """(z − 3, flow x, flow y) times alpha, and alpha, (S, S, 4)."""
        text = self._shot(shot, size, {}, {"values": True})[1]
        return np.frombuffer(base64.b64decode(text), np.float32).reshape(size, size, 4)[::-1].astype(float)

    def rendered(self, shot: Shot, size: int, *, flow: bool = False) -> Render:
        azimuth, elevation, kind, frame = shot
        cameras = ExportView(size=size, elevation_deg=elevation, kind=kind).cameras([azimuth])
        after = (frame + 1) / (FRAMES - 1) if flow else None
        with torch.no_grad():
            return self.field.render(cameras, frame / (FRAMES - 1), flow_to=after)

    def psnr(self, shot: Shot, size: int = SIZE, precision: str = "float32") -> float:
        wanted = self.rendered(shot, size).rgb[0].clamp(0, 1).numpy().astype(float)
        error = np.square(self.drawn(shot, size, precision) - np.rint(wanted * 255) / 255).mean()
        return float(-10 * np.log10(max(error, 1e-12)))

    def geometry(self, shot: Shot) -> tuple[float, ...]:
        """Mean errors of depth, flow (pixels), its mean length, error of normals (degrees), equal validity."""
        seen, found = self.rendered(shot, SIZE, flow=True), self.values(shot, SIZE)
        assert seen.flow is not None
        alpha, flow = found[..., 3], seen.flow[0].numpy()
        solid = (alpha >= 0.5) & (seen.alpha[0, ..., 0].numpy() >= 0.5)
        depth = found[..., 0][solid] / alpha[solid] + 3 - seen.depth[0, ..., 0].numpy()[solid]
        apart = found[..., 1:3][solid] / alpha[solid][:, None] - flow[solid]
        picture = self.drawn(shot, SIZE, "float32", "normals")
        shown = (picture < 1).any(axis=-1)
        normals, valid = (value[0].numpy() for value in seen.normals)
        unit = picture * 2 - 1
        unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
        angle = np.degrees(np.arccos(np.clip((unit * normals).sum(axis=-1), -1, 1)))[valid & shown]
        lengths = [np.linalg.norm(vectors, axis=-1).mean() for vectors in (apart, flow[solid])]
        return (np.abs(depth).mean(), *lengths, angle.mean(), (shown == valid).mean())


def shots(frames: tuple[float, ...] = SHOWN) -> Iterator[Shot]:
    """Each camera at one of the times, so that every time has one of each kind."""
    for number, (azimuth, elevation, kind) in enumerate(CAMERAS):
        yield azimuth, elevation, kind, frames[number % len(frames)]


def ranged(name: str, measure: Callable[[Shot], float], frames: tuple[float, ...] = SHOWN) -> None:
    """Print the range of a measure."""
    found = [measure(shot) for shot in shots(frames)]
    print(f"{name}: {min(found):.5g} to {max(found):.5g}", flush=True)


def measure(page: Page) -> None:
    """Print everything of one field."""
    for precision in ("float32", "float16", "bytes"):
        ranged(f"PSNR, {precision}", lambda shot, to=precision: page.psnr(shot, precision=to))  # type: ignore[misc]
    for size in (40, 128, 1024):
        ranged(f"PSNR, {size} pixels", lambda shot, to=size: page.psnr(shot, to))  # type: ignore[misc]
    ranged("PSNR, half way between frames", page.psnr, BETWEEN)
    rows = np.array([page.geometry(shot) for shot in shots()])
    for name, column in zip(("depth", "flow", "lengths", "normals", "equal validity"), rows.T, strict=True):
        print(f"{name}: {column.min():.5g} to {column.max():.5g}")


def main() -> None:
    """Measure the fields that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", type=Path, nargs="+")
    given = parser.parse_args()
    browser, profile = start_browser()
    for path in given.fields:
        print(path)
        folder = Path(tempfile.mkdtemp())
        measure(Page(browser, load_field(path), folder))
        shutil.rmtree(folder)
    browser.close()
    shutil.rmtree(profile, ignore_errors=True)


if __name__ == "__main__":
    main()
