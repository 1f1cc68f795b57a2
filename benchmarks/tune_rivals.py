"""Settings of the rivals' `mini` presets, on toys that no table evaluates and the prior was not trained on.

    python benchmarks/tune_rivals.py -o runs/tuning-rivals                     # the grid below, all rivals
    python benchmarks/tune_rivals.py -o runs/tuning-rivals "distill.sds_weight=8" --rivals sc4d

The grid is one for all: three weights of distillation and two floors of the noise level, on the same toys, of
the split that `benchmarks/tuning.py` tuned the method itself on. Each word is a variant, settings joined by
semicolons. Finished runs below the folder of `-o` are read, never repeated.

Columns, at 128 pixels on white: PSNR in dB of the input view and of the four evaluation views, seconds of
the process, and each toy's PSNR.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tuning import camera, filmed, nearness, on_white, print_table, tuning_toy

from mvtokenflow.base.files import digest_json
from mvtokenflow.base.settings import overridden
from mvtokenflow.baselines.catalogue import method_named
from mvtokenflow.baselines.names import RIVALS
from mvtokenflow.baselines.rival import Rival
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.datasets.toy4d.scenes import FRAMES, VIEWS
from mvtokenflow.datasets.toy4d.toys import Toy
from mvtokenflow.media.video import Clip

PLANS = ("quadruped", "crab")
GRID = tuple(
    f"distill.sds_weight={weight};distill.level_floor={floor}" for floor in (734, 644) for weight in (4, 16, 64)
)


def measure(toy: Toy, row: Rival, workdir: Path) -> dict[str, float]:
    """Run a rival on a toy and compare its renderings with the truth."""
    times = np.arange(FRAMES) / (FRAMES - 1)
    cameras = {view: camera(azimuth) for view, azimuth in VIEWS.items()}
    taken = filmed(toy, cameras["input"], times)[:, 0]
    rgba = torch.from_numpy(taken.astype(np.float32) / 255)
    clip = Clip(rgb=rgba[..., :3], alpha=rgba[..., 3:], name=toy.plan)
    views = {
        name: View(name=name, azimuth_deg=VIEWS[name], elevation_deg=0.0, cameras=one, frames=())
        for name, one in cameras.items()
    }
    scene = Scene(
        name=toy.plan,
        clip=lambda: clip,
        input=views["input"],
        views=[view for name, view in views.items() if name != "input"],
        root=workdir,
    )
    began = time.process_time()
    made = row.render(scene, 0, workdir, lambda stage, done, total, /: None)
    spent = time.process_time() - began
    psnr: dict[str, list[float]] = {"input": [], "novel": []}
    for name, seen in cameras.items():
        truth = on_white(taken if name == "input" else filmed(toy, seen, times)[:, 0])
        psnr["input" if name == "input" else "novel"].append(nearness(made[name].rgb, truth))
    return {f"psnr_{group}": float(np.mean(values)) for group, values in psnr.items()} | {"all_s": spent}


def variant(name: str, word: str) -> Rival:
    """A rival's row with settings of its `mini` preset replaced."""
    row: Any = method_named(name)
    changed: Rival = replace(row, base=overridden(row.settings, [part for part in word.split(";") if part]))
    return changed


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", metavar="NAME=VALUE[;NAME=VALUE]")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--rivals", nargs="+", default=list(RIVALS), metavar="NAME")
    parser.add_argument("--plans", nargs="+", default=list(PLANS), metavar="PLAN")
    parser.add_argument("--number", type=int, default=0, help="of each plan's toy")
    given = parser.parse_args()
    toys = {f"{plan}-{given.number}": tuning_toy(plan, given.number) for plan in given.plans}
    rows: dict[str, dict[str, dict[str, float]]] = {}
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.rivals:
        for word in given.variants or GRID:
            row, label = variant(name, word), f"{name} {word}".strip()
            for toy_name, toy in toys.items():
                mark = digest_json({"config": dict(row.config()), "toy": toy_name})[:12]
                path = given.out / f"{name}-{mark}.json"
                if not path.exists():
                    found = measure(toy, row, given.out / f"{name}-{mark}")
                    path.write_text(json.dumps({"variant": label, "toy": toy_name, **found}))
                rows.setdefault(label, {})[toy_name] = json.loads(path.read_text())
            print_table({label: rows[label]}, list(toys))
    print()
    print_table(rows, list(toys))


if __name__ == "__main__":
    main()
