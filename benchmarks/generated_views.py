"""Effect of each part of the method on the generated views, before anything is fitted to them.

    python benchmarks/generated_views.py runs            # finished runs of toy4d, as the tables leave them
    python benchmarks/generated_views.py runs --json

Reads the views of both passes from the runs of `mvtokenflow`, `no-propagation` and `no-enlarged-attention`, and
renders the truth for the same cameras and times. Over the five views that are not the input, colours on white:

PSNR     to the truth, in dB, from the mean squared error of a scene.
flicker  mean absolute difference of neighbouring frames on the true object, in grey levels.
change   mean absolute difference from the first pass of the whole method, on the true object, in grey levels.

Rows are means over the scenes that have all of them; differences are paired, with 95 % bootstrap intervals.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mvtokenflow.datasets.toy4d.scenes import render_scene
from mvtokenflow.eval.records.rows import Run, load_runs
from mvtokenflow.eval.tables.stats import bootstrap_mean
from mvtokenflow.small.prior import six_cameras
from mvtokenflow.views.folder import read_multiview

# By row of the result: the row of a table, and the folder of its views.
PASSES: Mapping[str, tuple[str, str]] = {
    "first pass": ("mvtokenflow", "views"),
    "first pass, nothing propagated": ("no-propagation", "views"),
    "first pass, no enlarged attention": ("no-enlarged-attention", "views"),
    "second pass": ("mvtokenflow", "regenerated"),
}
# Compared rows: with the part, without it.
PARTS: Mapping[str, tuple[str, str]] = {
    "enlarged attention": ("first pass", "first pass, no enlarged attention"),
    "front propagation": ("first pass", "first pass, nothing propagated"),
    "second pass": ("second pass", "first pass"),
}
SEED = 2025


def colours(run: Run, folder: str) -> Tensor:
    """Load the views that are not the input, (T, 5, H, W, 3) on white."""
    video = read_multiview(run.folder / "work" / folder)
    return (video.rgb * video.alpha + 1 - video.alpha)[:, 1:]


def measure_scene(name: str, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    """Measure a scene by row; `truth` has flicker only."""
    pictures = {row: colours(runs[method], folder) for row, (method, folder) in PASSES.items()}
    first = pictures["first pass"]
    stride = runs["mvtokenflow"].manifest.config["mvtokenflow"]["stride"]
    last = runs["mvtokenflow"].manifest.frames - 1
    times = np.array(sorted({*range(0, last, stride), last})) / last
    render = render_scene(name, six_cameras(first.shape[2]), times)
    alpha = torch.from_numpy(render.alpha)[:, 1:]
    truth = (torch.from_numpy(render.rgb)[:, 1:] * alpha + 1 - alpha).float()
    solid = (alpha > 0.5).expand_as(truth)

    def flicker(video: Tensor) -> float:
        return float((video[1:] - video[:-1]).abs()[solid[1:]].mean() * 255)

    found = {
        row: {
            "psnr": float(-10 * ((video - truth) ** 2).mean().log10()),
            "flicker": flicker(video),
            "change": float((video - first).abs()[solid].mean() * 255),
        }
        for row, video in pictures.items()
    }
    return found | {
        "truth": {"flicker": flicker(truth), "error": float((first - truth).abs()[solid].mean() * 255)}
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    by_scene: dict[str, dict[str, Run]] = {}
    for run in load_runs(options.runs):
        if run.manifest.dataset == "toy4d" and run.manifest.seed == 0:
            by_scene.setdefault(run.manifest.scene, {})[run.manifest.method] = run
    needed = {method for method, _ in PASSES.values()}
    scenes = {
        name: measure_scene(name, runs) for name, runs in sorted(by_scene.items()) if needed <= runs.keys()
    }
    if not scenes:
        parser.error(f"{options.runs}: no scene of toy4d has finished runs of {', '.join(sorted(needed))}")
    differences = {
        part: {
            measure: [s[on][measure] - s[off][measure] for s in scenes.values()]
            for measure in ("psnr", "flicker")
        }
        for part, (on, off) in PARTS.items()
    }
    if options.json:
        print(json.dumps({"scenes": scenes, "differences": differences}))
        return
    print(f"{len(scenes)} scenes: {', '.join(scenes)}")
    for row in (*PASSES, "truth"):
        means = {m: np.mean([s[row][m] for s in scenes.values()]) for m in next(iter(scenes.values()))[row]}
        print(f"{row:36}" + "  ".join(f"{m} {value:.2f}" for m, value in means.items()))
    for part, of in differences.items():
        for measure, values in of.items():
            interval = bootstrap_mean(values, SEED)
            print(f"{part:20} {measure:8} {np.mean(values):+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]")


if __name__ == "__main__":
    main()
