"""Valid files for the readers: tiny, and made once per session."""

import io
import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

FRAMES, SIZE = 4, 32
Pixels = NDArray[np.uint8]

# Options for next to no work: of `mvtf run`, and of `mvtf reconstruct`.
RUN_SETTINGS = (
    *(
        "stride=1",
        "sampling.steps=2",
        "sampling.timesteps=999,100",
        "token_flow.interval=2",
        "token_flow.tau=0.5",
    ),
    *("reconstruction.static.iterations=3", "reconstruction.coarse.iterations=3"),
    *(
        "reconstruction.refine.iterations=3",
        "reconstruction.points=100",
        "reconstruction.field.control_points=8",
    ),
)
RECONSTRUCT_SETTINGS = (
    *(
        "static.iterations=3",
        "coarse.iterations=3",
        "refine.iterations=3",
        "points=100",
        "field.control_points=8",
    ),
)


def ball(n: int, size: int = SIZE) -> Pixels:
    """(size, size, 4): a striped ball that moves, cut out."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
    inside = (x - 0.05 * n) ** 2 + y**2 < 0.4
    rgba = np.zeros((size, size, 4), np.uint8)
    rgba[inside] = (200, 60, 40, 255)
    rgba[inside & (np.sin(12 * (x - 0.05 * n)) > 0.3)] = (40, 90, 160, 255)
    return rgba


def balls(folder: Path, *, kind: str = "rgba", count: int = FRAMES, size: int = SIZE) -> None:
    """Frames of the ball: rgba, rgb on white, or its mask."""
    from mvtokenflow.media.pictures import composite_white, write_png

    for n in range(count):
        rgba = ball(n, size)
        pictures = {"rgba": rgba, "rgb": composite_white(rgba), "mask": rgba[..., 3]}
        write_png(folder / f"{n}.png", pictures[kind])


def video(path: Path, codec: str, pix_fmt: str, *, mask: bool = False) -> None:
    """The ball in a container and codec."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width = stream.height = SIZE
        stream.pix_fmt = pix_fmt
        for n in range(FRAMES):
            picture = np.repeat(ball(n)[..., 3:], 3, -1) if mask else ball(n)
            kind = "rgb24" if mask else "rgba"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=kind)))
        container.mux(stream.encode(None))


def command(program: str, *arguments: object) -> None:
    """A command line in this process, which must succeed."""
    from mvtokenflow.cli import mvtf as cli
    from mvtokenflow.cli import mvtf_eval as eval_cli

    messages = sys.stderr = io.StringIO()
    sys.argv = [program, *map(str, arguments)]
    try:
        (cli if program == "mvtf" else eval_cli).main()
    except SystemExit as end:
        if end.code:
            raise AssertionError(f"{sys.argv} ended with {end.code}: {messages.getvalue()}") from end


def kept(shared: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of what several readers start from; made on first use."""
    folder = shared / name
    if not folder.exists():
        partial = shared / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        make(partial)
        partial.rename(folder)
    return folder


# ---- what the product writes ----


def run_options(prior: Path) -> list[str]:
    """Options of a small `mvtf run`."""
    settings = (f"prior={prior}", *RUN_SETTINGS)
    return ["--size", "32", *(word for one in settings for word in ("--set", one))]


def run_folder(shared: Path) -> Path:
    """A finished `mvtf run`: clip/ and out/."""

    def make(folder: Path) -> None:
        balls(folder / "clip", size=64)
        command(
            "mvtf", "run", folder / "clip", "-o", folder / "out", *run_options(shared / "prior.safetensors")
        )

    return kept(shared, "run", make)


def view_folder(shared: Path) -> Path:
    """A multiview folder with normals, flow and times."""

    def make(folder: Path) -> None:
        from mvtokenflow.datasets.toy4d.scenes import render_scene
        from mvtokenflow.datasets.toy4d.stream import six_views
        from mvtokenflow.views.folder import write_multiview
        from mvtokenflow.views.video import MultiviewVideo, ViewFlow

        seen = render_scene("fish-01", six_views(SIZE), [0.0, 0.4, 1.0], samples=1)
        alpha = torch.from_numpy(seen.alpha).float().clamp(0, 1)
        flow = ViewFlow.forward(0, torch.zeros(2, SIZE, SIZE, 2), alpha[:-1, 0, ..., 0] > 0.5)
        write_multiview(
            folder / "views",
            MultiviewVideo(
                rgb=torch.from_numpy(seen.rgb).float().clamp(0, 1),
                alpha=alpha,
                cameras=six_views(SIZE),
                normals=torch.from_numpy(seen.normal).float(),
                flow=flow,
                clock=torch.tensor([0.0, 0.4, 1.0]),
            ),
        )

    return kept(shared, "multiview", make) / "views"


def scored_runs(shared: Path) -> Path:
    """runs/ of two rows on one scene of `scenes/`, scored, and the `site/` of them."""

    def make(folder: Path) -> None:
        scene = folder / "scenes" / "cat"
        balls(scene / "input")
        views = ("eval_0", "eval_1", "eval_2", "eval_3")
        for number, view in enumerate(views):
            from mvtokenflow.media.pictures import composite_white, write_png

            for n in range(FRAMES):
                write_png(scene / view / f"{n}.png", composite_white(np.roll(ball(n), 2 * number - 3, axis=1)))
        angles = {
            view: {"azimuth_deg": a, "elevation_deg": 0}
            for view, a in zip(views, (-75, 15, 105, 195), strict=True)
        }
        (scene / "views.json").write_text(json.dumps(angles))
        words = ("--dataset", folder / "scenes", "--methods", "ground-truth,white", "--runs", folder / "runs")
        command("mvtf-eval", "table2", *words, "--jobs", 1, "--no-quoted", "--protocol", "c4d-fixed-v1")

    return kept(shared, "scored", make)


def one_run(shared: Path) -> Path:
    """The run folder of a row of `scored_runs`."""
    (manifest,) = scored_runs(shared).glob("runs/*/white/*/seed0-*/manifest.json")
    return manifest.parent


# ---- what others write ----


def pickled_arrays() -> bytes:
    """Nested dictionaries of arrays, as published ports of LPIPS have them."""
    kernel = np.ones((3, 3, 3, 4), np.float32)
    return pickle.dumps({"params": {"Conv_0": {"kernel": kernel, "bias": np.ones(4, np.float32)}}})
