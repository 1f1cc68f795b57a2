"""How right the coarse field's flow is, along which the second pass carries tokens, and what is lost by it.

    python benchmarks/field_flow.py runs               # finished runs of mvtokenflow on toy4d-wild
    python benchmarks/field_flow.py runs --generate    # and the second pass with parts of the truth

Over the five generated views and all frames but keyframes, tokens of 16 x 16 a view: `seen` is the share of
those on the object and visible at the keyframe in truth that the field takes for such, too. On these, `motion`
is the mean length of the exact flow, which is the error of tokens that are copied in place, and `error` that of
the field's flow, both in tokens. `hidden` is the share of truly hidden tokens that the field carries neither.

With `--generate` the pass is drawn again with the flow of either, and with the object (silhouettes and what is
visible) of either: the warp error of the five views along exact flow, in grey levels.

Means over tokens by scene, and over scenes with 95 % bootstrap intervals; warp errors are differences to the
pass without propagation.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from consistency_measures import render_truth

from mvtokenflow.baselines.generated import VIEWS_ALL_EXACT, exact_flow, flow_of_truth, pictures
from mvtokenflow.baselines.mvtokenflow import framed, loaded_prior
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.eval.metrics.warp import warp_error
from mvtokenflow.eval.records.rows import load_runs
from mvtokenflow.eval.tables.stats import bootstrap_mean
from mvtokenflow.flow.keyframes import KeyframeFlow, keyframes
from mvtokenflow.method.generated import as_video, sample_views
from mvtokenflow.method.pipeline import field_flow
from mvtokenflow.method.prepare import prepare
from mvtokenflow.splat.io import load_field
from mvtokenflow.views.folder import read_multiview

SIDE, SEED = 16, 2025
ROW = VIEWS_ALL_EXACT  # the second pass, but for its flow
INTERVAL = ROW.tokens.interval


def compare(found: KeyframeFlow, truth: KeyframeFlow) -> dict[str, float]:
    """Return what the field's flow is worth on tokens of the five generated views."""
    frames = len(truth.alpha)
    between = [n for n in range(frames) if n not in truth.keyframes]
    exact, ours = truth.pooled(SIDE), found.pooled(SIDE)
    on_object = exact.on_object[between, 1:]
    visible = exact.visible[:, between, 1:]
    taken = (ours.visible & ours.on_object)[:, between, 1:]
    seen, hidden = on_object & visible, on_object & ~visible
    both = seen & taken
    flow, error = exact.flow[:, between, 1:], (ours.flow - exact.flow)[:, between, 1:]
    return {
        "motion": float(flow[both].norm(dim=-1).mean()),
        "error": float(error[both].norm(dim=-1).mean()),
        "seen": float(taken[seen].float().mean()),
        "hidden": float((~taken[hidden]).float().mean()),
    }


def variants(found: KeyframeFlow, truth: KeyframeFlow) -> dict[str, KeyframeFlow]:
    """Return the flow and the object of either in all combinations, and no motion."""
    still = replace(truth, flow=torch.zeros_like(truth.flow))
    return {
        "field's flow and object": found,
        "field's flow, true object": replace(truth, flow=found.flow),
        "exact flow, field's object": replace(found, flow=truth.flow),
        "exact flow, true object": truth,
        "in place, field's object": replace(found, flow=still.flow),
        "in place, true object": still,
    }


def warps(scene: Scene, flows: Mapping[str, KeyframeFlow | None]) -> dict[str, float]:
    """Draw the views of a scene along each flow, or without propagation; return their warp errors."""
    given = prepare(scene.clip(), framed(ROW.settings, scene.clip_view))
    truth = render_truth(scene.name, given.times.tolist(), given.front.shape[1])
    prior = loaded_prior(ROW.settings.prior, "cpu")
    found = {}
    for name, carried in flows.items():
        tokens = replace(ROW.tokens, propagation="none" if carried is None else "all")
        draws = torch.Generator().manual_seed(0)
        made, _ = sample_views(prior, given.front, ROW.settings.sampling, tokens, lambda to=carried: to, draws)  # type: ignore[misc]
        shown = list(pictures(scene, as_video(made)).values())[1:]
        errors = [
            warp_error(view.rgb / np.float32(255), truth.flow[:, k], truth.visible[:, k]).mae
            for k, view in enumerate(shown, 1)
        ]
        found[name] = 255 * float(np.nanmean(errors))
    return found


@torch.no_grad()
def measure(scene: Scene, work: Path, generate: bool) -> dict[str, float]:
    """Return all numbers of the run in a folder."""
    video = read_multiview(work / "views")
    field = load_field(work / "coarse" / "coarse" / "field.safetensors")
    times = video.times.tolist()
    keys, views = keyframes(len(times), INTERVAL), range(video.views)
    truth = flow_of_truth(scene, times, keys, views, exact_flow)
    found = field_flow(field, video, INTERVAL)
    numbers = compare(found, truth)
    if generate:
        plain, *others = warps(scene, {"warp, nothing carried": None, **variants(found, truth)}).items()
        numbers |= {plain[0]: plain[1], **{name: value - plain[1] for name, value in others}}
    return numbers


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--generate", action="store_true")
    args = parser.parse_args()
    dataset = open_dataset("toy4d-wild-views")
    scenes: dict[str, Mapping[str, float]] = {}
    for run in load_runs(args.runs):
        manifest = run.manifest
        if (manifest.dataset, manifest.method, manifest.seed) == ("toy4d-wild", "mvtokenflow", 0):
            found = measure(dataset.scene(manifest.scene), run.folder / "work", args.generate)
            scenes[manifest.scene] = found
            print(
                f"{manifest.scene:14}" + "  ".join(f"{name} {value:.3f}" for name, value in found.items()),
                flush=True,
            )
    for name in next(iter(scenes.values()), {}):
        values = [found[name] for found in scenes.values()]
        interval = bootstrap_mean(values, SEED)
        known = interval.low is not None and interval.high is not None  # of one scene there is none
        bounds = f"[{interval.low:+.3f}, {interval.high:+.3f}]" if known else "no interval"
        print(f"{name:28} {np.mean(values):+.3f} {bounds} ({len(values)} scenes)")


if __name__ == "__main__":
    main()
