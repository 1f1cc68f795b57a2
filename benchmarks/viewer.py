"""Cost of a viewer's first picture in headless Chromium with software WebGL, and how it divides.

    python benchmarks/viewer.py runs/.../quadruped-01/.../field.safetensors
    python benchmarks/viewer.py field.safetensors --count 50000 --nodes 512 --size 512

With `--count`, each trained Gaussian is divided into as many as are needed, which lie inside it like its own
density and whose standard deviations are the smaller, so that the mixture keeps its second moments: as a
surface is covered by more and smaller Gaussians. Control points are placed anew and moved by the trained
network. Seconds are those of the CPU, of all processes of the browser, from the address to the first picture
and to the whole one, so that other programs of a shared machine count little.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "builders"))
from browser import Browser, start_browser

from mvtokenflow.splat.control import ControlPoints, farthest_points
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.gaussians import GaussianModel
from mvtokenflow.splat.io import load_field
from mvtokenflow.splat.kernels.rotations import rotation_matrices
from mvtokenflow.viewer.fields import pack_dynamic
from mvtokenflow.viewer.packing import Timing
from mvtokenflow.viewer.page import write_viewer

FRAMES = 32
READY = "location.protocol === 'file:' && document.documentElement?.dataset.ready"
DRAWN = (
    "(({gl}) => gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)))(mvtf4d.live.renderer)"
)
WHOLE = "!mvtf4d.live.dirty && !mvtf4d.live.coarse && !mvtf4d.live.busy"


@torch.no_grad()
def divided(field: DynamicField, count: int, nodes: int, size: int) -> DynamicField:
    """Divide a field's Gaussians into `count` with `nodes` control points, as if fitted at `size` pixels."""
    generator = torch.Generator().manual_seed(0)
    model, control = field.gaussians, field.control
    assert control is not None
    share = len(model) / count  # of a parent's area on a surface
    parents = torch.arange(count) % len(model)
    within = (1 - share) ** 0.5 * torch.randn(count, 3, generator=generator) * model.log_scales.exp()[parents]
    turned = torch.einsum("nij,nj->ni", rotation_matrices(model.quats)[parents], within)
    values = {name: value[parents] for name, value in model.named().items()}
    values["means"] = values["means"] + turned
    values["log_scales"] = values["log_scales"] + 0.5 * torch.tensor(share).log()
    solid = model.means[model.logit_opacities > 0]
    places = solid[farthest_points(solid, nodes)]
    points = ControlPoints(
        places, control.network, hyper_dim=control.hyper.shape[1], neighbours=control.neighbours
    )
    return DynamicField(field.config, GaussianModel(**values), points, pixel=2 / size)


def cpu_seconds(root: int) -> float:
    """Seconds of the CPU that a process and all below it have had."""
    parents, seconds = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(words[1])
            seconds[int(entry.name)] = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    below = {root}
    while more := {one for one, parent in parents.items() if parent in below} - below:
        below |= more
    return sum(seconds.get(one, 0.0) for one in below)


def measure(browser: Browser, page: Path) -> tuple[float, float, list[int]]:
    """CPU seconds to the first picture and to the whole one, and the canvas's width and height."""
    browser.call("Page.navigate", url="about:blank")
    time.sleep(1)
    start = cpu_seconds(browser.process.pid)
    browser.call("Page.navigate", url=page.as_uri())
    browser.wait(READY, 600)
    browser.js(DRAWN)
    first = cpu_seconds(browser.process.pid) - start
    browser.wait(WHOLE, 600)
    browser.js(DRAWN)
    size: list[int] = browser.js("[picture.width, picture.height]")
    return first, cpu_seconds(browser.process.pid) - start, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("field", type=Path, help="field.safetensors of the method")
    parser.add_argument("--count", type=int, help="divide the Gaussians into this many")
    parser.add_argument("--nodes", type=int, default=512, help="control points, with --count")
    parser.add_argument("--size", type=int, default=512, help="pixels of the fit, with --count")
    parser.add_argument("--window", type=int, nargs=2, default=(512, 700), help="width and height")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--page", type=Path, help="keep the page here")
    given = parser.parse_args()
    field = load_field(given.field)
    if given.count:
        field = divided(field, given.count, given.nodes, given.size)
    folder = Path(tempfile.mkdtemp())
    times = tuple(frame / (FRAMES - 1) for frame in range(FRAMES))
    page = write_viewer(
        given.page or folder / "viewer.html", [pack_dynamic(field, "field", Timing(times=times))], title="field"
    )
    print(f"{len(field.gaussians)} Gaussians, page of {page.stat().st_size / 2**20:.2f} MiB")
    browser, profile = start_browser()
    browser.size(*given.window)
    for _ in range(given.rounds):
        first, whole, (width, height) = measure(browser, page)
        seconds = f"first picture {first:.2f} s, whole picture {whole:.2f} s"
        print(f"{width} x {height}: {seconds}; load {os.getloadavg()[0]:.1f}")
    browser.close()
    shutil.rmtree(profile, ignore_errors=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
