"""Value of the method's settings, on toys that no table evaluates and the prior was not trained on.

    python benchmarks/tuning.py -o runs/tuning                            # the preset mini as it is
    python benchmarks/tuning.py -o runs/tuning reconstruction.weights.normal=1 "stride=4;token_flow.tau=0.5"
    python benchmarks/tuning.py -o runs/tuning --true-views               # from faultless views

Each word is a variant: settings as of `mvtf run --set`, joined by semicolons. The toys are the first of the
split `validation` of their body plans, rendered as the scenes of toy4d are (32 frames at 128 pixels), and every
variant runs the whole method on each of them. Finished runs below the folder of `-o` are read, never repeated,
and stages that variants have in common are computed once.

Columns, all at 128 pixels on white: PSNR in dB and LPIPS (VGG, of every eighth frame; needs its weights) of
the input view and of the four evaluation views; seconds of the fits and of everything, of the process.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mvtokenflow.base.errors import WeightsMissingError
from mvtokenflow.base.files import digest_json
from mvtokenflow.base.settings import overridden
from mvtokenflow.baselines.mvtokenflow import framed, rendering
from mvtokenflow.datasets.scene import View
from mvtokenflow.datasets.toy4d.render import render
from mvtokenflow.datasets.toy4d.scenes import FRAMES, SIZE, VIEWS
from mvtokenflow.datasets.toy4d.stream import RADIUS, six_views
from mvtokenflow.datasets.toy4d.toys import SEEDS, Toy, make_toy
from mvtokenflow.eval.metrics.compute.lpips import LpipsNetwork
from mvtokenflow.eval.metrics.lpips import Lpips
from mvtokenflow.eval.metrics.spec import Networks
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.media.video import Clip
from mvtokenflow.method.config import MethodConfig, preset
from mvtokenflow.method.pipeline import GivenViews, run
from mvtokenflow.method.placement import cameras_in_field
from mvtokenflow.method.prepare import Input
from mvtokenflow.views.cameras import Cameras, orbit
from mvtokenflow.views.video import MultiviewVideo
from mvtokenflow.workdir.store import StageStore

PLANS = ("quadruped", "fish", "vehicle", "crab")  # the crab was held out of training
EVERY = 8  # frames between those measured by LPIPS


def tuning_toy(plan: str, number: int) -> Toy:
    """Return toy `number` of a body plan's validation split, which neither training nor any table uses."""
    return make_toy(plan, SEEDS["validation"][number])


def camera(azimuth_deg: float) -> Cameras:
    """Build a camera as toy4d's."""
    return orbit((azimuth_deg,), size=SIZE, kind="ortho", radius=RADIUS)


def filmed(toy: Toy, cameras: Cameras, times: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Render (T, C, H, W, 4) as in the files of toy4d."""
    seen = render(toy, cameras, times)
    rgba: NDArray[np.uint8] = (np.concatenate([seen.rgb, seen.alpha], -1) * 255 + 0.5).astype(np.uint8)
    return rgba


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Composite (..., 4) over white to (..., 3)."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    mixed: NDArray[np.uint8] = (rgba[..., :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)
    return mixed


def nearness(made: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Mean PSNR in dB of frames (T, H, W, 3)."""
    error = np.square(made.astype(np.float64) - truth).mean((1, 2, 3))
    return float((-10 * np.log10(error / 255**2)).mean())


def true_views(toy: Toy) -> GivenViews:
    """Render the toy in the prior's six cameras."""

    def make(given: Input) -> MultiviewVideo:
        cameras = six_views(given.front.shape[1])
        seen = render(toy, cameras, given.times.double().numpy())
        rgb, alpha, normal = (torch.from_numpy(part) for part in (seen.rgb, seen.alpha, seen.normal))
        return MultiviewVideo(rgb=rgb, alpha=alpha, normals=normal, cameras=cameras)

    return GivenViews(name=f"truth of {toy.plan} {toy.seed}", make=make)


def measure(
    toy: Toy, config: MethodConfig, workdir: Path, store: Path, faultless: bool, lpips: LpipsNetwork | None
) -> dict[str, float]:
    """Run the method on a toy and compare its renderings with the truth."""
    times = np.arange(FRAMES) / (FRAMES - 1)
    cameras = {view: camera(azimuth) for view, azimuth in VIEWS.items()}
    front = cameras["input"]
    taken = filmed(toy, front, times)[:, 0]
    rgba = torch.from_numpy(taken.astype(np.float32) / 255)
    clip = Clip(rgb=rgba[..., :3], alpha=rgba[..., 3:], name=toy.plan)
    view = View(name="input", azimuth_deg=0.0, elevation_deg=0.0, cameras=front, frames=())
    given = true_views(toy) if faultless else None
    result = run(
        clip,
        framed(config, view),
        workdir,
        0,
        given=given,
        store=StageStore(store, ("mvtokenflow.method.pipeline",)),
    )
    psnr: dict[str, list[float]] = {"input": [], "novel": []}
    distance: dict[str, list[float]] = {"input": [], "novel": []}
    for name, seen in cameras.items():
        group = "input" if name == "input" else "novel"
        made = rendering(result.field, cameras_in_field(seen, front, result.crop), FRAMES).rgb
        truth = on_white(taken if name == "input" else filmed(toy, seen, times)[:, 0])
        psnr[group].append(nearness(made, truth))
        if lpips is not None:
            pairs = zip(made[::EVERY], truth[::EVERY], strict=True)
            distance[group] += [lpips.distance(lpips.features(a), lpips.features(b)) for a, b in pairs]
    row = {f"psnr_{group}": float(np.mean(values)) for group, values in psnr.items()}
    row |= {f"lpips_{group}": float(np.mean(values)) for group, values in distance.items() if values}
    costs = {cost.stage: cost.seconds for cost in result.costs}
    row["fit_s"] = costs.get("coarse", 0.0) + costs.get("refined", 0.0)
    row["all_s"] = sum(costs.values())
    row["gaussians"] = len(result.field.gaussians)
    return row


def network() -> LpipsNetwork | None:
    """Load LPIPS as in toy4d's protocol; None without its weights."""
    spec = next(spec for spec in PROTOCOLS["toy4d-v2"].metrics if isinstance(spec, Lpips))
    try:
        return spec.network(Networks({}))
    except WeightsMissingError as error:
        print(f"without LPIPS: {error}")
        return None


def print_table(rows: Mapping[str, Mapping[str, Mapping[str, float]]], toys: Sequence[str]) -> None:
    """Print means over the toys that every variant has, and each toy's PSNR."""
    names = ("psnr_input", "psnr_novel", "lpips_input", "lpips_novel", "fit_s", "all_s")
    width = max(len(variant) for variant in rows)
    print(f"{'':{width}}" + "".join(f"{name:>12}" for name in names) + "   PSNR input/novel by toy")
    for variant, by_toy in rows.items():
        found = [by_toy[toy] for toy in toys if toy in by_toy]
        means = [float(np.mean([row[name] for row in found if name in row] or [np.nan])) for name in names]
        each = "  ".join(f"{row['psnr_input']:.2f}/{row['psnr_novel']:.2f}" for row in found)
        print(f"{variant:{width}}" + "".join(f"{value:12.4f}" for value in means) + f"   {each}", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", metavar="NAME=VALUE[;NAME=VALUE]")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--plans", nargs="+", default=list(PLANS), metavar="PLAN")
    parser.add_argument("--toys", type=int, default=1, help="of each plan")
    parser.add_argument("--first", type=int, default=0, help="number of the first toy of each plan")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--true-views", action="store_true", help="from faultless views")
    given = parser.parse_args()
    lpips = network()
    words: list[str] = given.variants or [""]
    toys = {
        f"{plan}-{number}": tuning_toy(plan, number)
        for number in range(given.first, given.first + given.toys)
        for plan in given.plans
    }
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for word in words:
        config = overridden(preset(given.preset), [part for part in word.split(";") if part])
        if given.true_views:
            config = overridden(config, ["regeneration=false"])
        label = (word or given.preset) + (" (true views)" if given.true_views else "")
        for name, toy in toys.items():
            mark = digest_json({"config": config.to_dict(), "toy": name, "true": given.true_views})[:12]
            path = given.out / f"{mark}.json"
            if not path.exists():
                row = measure(toy, config, given.out / mark, given.out / ".stages", given.true_views, lpips)
                path.write_text(json.dumps({"variant": label, "toy": name, **row}))
            rows.setdefault(label, {})[name] = json.loads(path.read_text())
        print_table({label: rows[label]}, list(toys))
    print()
    print_table(rows, list(toys))


if __name__ == "__main__":
    main()
