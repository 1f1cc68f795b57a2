"""Effect of each consistency step on generated multiview videos: paired, on toy4d, against exact truth.

    python benchmarks/consistency.py --prior prior.safetensors -o runs/consistency.json --jobs 2
    python benchmarks/consistency.py --variants shared keyframes front-exact all-exact all-exact:tau=1 \\
        --scenes robot-01 fish-01 -o runs/sweep.json

Six views of every frame are sampled with the method's steps added one at a time (VARIANTS; `name:key=value,...`
changes a setting of its token flow, or share_noise). All variants of a scene and seed start
from the same generator. Samples and measurements are kept beside the JSON file in `<name>.parts/`: run again to
resume, or with more scenes, variants or measures; only what is missing is computed.

Columns, means over the five views that are generated (the front colour of the small prior is the input):

    warp         mean |frame - next frame warped to it along the exact flow|, visible pixels, grey levels 0..255
    flicker      mean |frame - next frame|, whole picture, without flow, grey levels
    psnr, lpips  to the true views; LPIPS (VGG) of every other frame
    normal       angle to the true normals where both have a surface, degrees
    normal warp  angle between a normal and the next frame's along the flow: turning plus flicker, degrees
    iou          of the surface of the normal maps with the true one
    detail       sum of picture gradients on the object over that of the truth: 1 is as sharp, 0 is flat
    fvd_c4d      I3D distance of a clip to the true clip, as the evaluation defines it
    fvd          Frechet distance between the sets of clips (all scenes and views), so one value per row

Rows without a network give reference values: `truth` (what resampling and shading cost), `frozen`
(the true first frame for ever), `mean` (the training set's mean picture, the mirrored input at the back), and
`one-step` (the prior's own mean: one call of the network). A blurred or static result wins warp and flicker.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from consistency_measures import (
    SAMPLES,
    Clip,
    Packed,
    Truth,
    i3d_network,
    lpips_network,
    lpips_targets,
    measure_logits,
    measure_lpips,
    measure_pictures,
    render_truth,
)
from consistency_report import NOVEL, markdown, summarise
from consistency_rows import MAIN, REFERENCES, Study, Variant, find, make_flows, refer, sample

from mvtokenflow.base import terminal
from mvtokenflow.base.files import atomic_path, choose, digest_json, sha256_file, write_json
from mvtokenflow.datasets.toy4d.scenes import SCENES
from mvtokenflow.datasets.toy4d.toys import HELD_OUT_PLAN
from mvtokenflow.eval.engine.local import start_worker, worker_pool
from mvtokenflow.eval.metrics.fvd_c4d import fvd_c4d
from mvtokenflow.flow.keyframes import KeyframeFlow
from mvtokenflow.media.pictures import write_png
from mvtokenflow.multiview.prior import MultiviewPrior
from mvtokenflow.small.config import JUMP
from mvtokenflow.small.prior import WEIGHTS, load_small_prior

MEASURES = ("pictures", "lpips", "fvd", "fvd_c4d")


@dataclass(frozen=True, kw_only=True)
class Job:
    """All rows of one scene, in one process, so that results for the truth are computed once."""

    scene: str
    names: tuple[str, ...]
    seeds: tuple[int, ...]
    measures: tuple[str, ...]
    study: Study
    parts: Path


def cell_path(job: Job, name: str, seed: int, kind: Literal["json", "npz"]) -> Path:
    """Return the path of a row's measurements (json) or samples (npz); it depends on the settings."""
    if name in ("truth", "frozen"):  # independent of the prior
        used: dict[str, Any] = {"times": job.study.times, "size": _prior(job.study.prior).size}
    else:
        used = asdict(job.study) | {"prior": _prior_hash(job.study.prior)}
        used["variant"] = {k: v for k, v in asdict(find(name)).items() if k not in ("title", "against")}
    hashed = digest_json(used | {"rays": SAMPLES, "reference": name in REFERENCES and name})
    label = name.replace(":", "-").replace(",", "-")
    return job.parts / job.scene / f"{label}-seed{seed}-{hashed[:10]}.{kind}"  # a label may contain dots


def parts_folder(out: Path) -> Path:
    """Return the folder of samples and measurements of a JSON file: `<name>.parts` beside it."""
    return out.with_name(f"{out.name.removesuffix('.json')}.parts")  # a name without .json may contain dots


def run_job(job: Job) -> None:
    """Sample and measure what is missing for a scene."""
    bench = _Bench(job)
    for seed in job.seeds:
        for name in job.names:
            bench.finish(name, seed)


class _Bench:
    """One scene and the data that its rows share, computed when first needed."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.study = job.study
        self._flows: dict[str, KeyframeFlow | None] = {}

    @property
    def prior(self) -> MultiviewPrior:
        return _prior(self.study.prior)

    def truth(self) -> Truth:
        return _truth(self.job.scene, tuple(self.study.times), self.prior.size)

    def finish(self, name: str, seed: int) -> None:
        """Compute one row for one seed."""
        record = cell_path(self.job, name, seed, "json")
        found: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
        missing = [measure for measure in self.job.measures if measure not in found]
        if not missing:
            return
        rgb, normals, report = self._sampled(name, seed)
        for measure in missing:
            found[measure] = self._measure(measure, rgb, normals)
        write_json(record, found | {"report": report})
        terminal.print_message(f"{self.job.scene} {name} seed {seed}")

    def _sampled(self, name: str, seed: int) -> tuple[Clip, Packed, dict[str, float]]:
        kept = cell_path(self.job, name, seed, "npz")
        if not kept.exists():
            report: dict[str, float] = {}
            if name in REFERENCES:
                rgb, normals = refer(name, self.truth(), self.prior)
            else:
                variant = find(name)
                flows = self._flow(variant)
                rgb, normals, report = sample(self.prior, self.study, variant, self.truth(), flows, seed)
            with atomic_path(kept) as temporary:
                np.savez_compressed(temporary, rgb=rgb, normal=normals, report=json.dumps(report))
        with np.load(kept) as arrays:
            return arrays["rgb"], arrays["normal"], json.loads(str(arrays["report"]))

    def _flow(self, variant: Variant) -> KeyframeFlow | None:
        tokens = variant.tokens
        key = f"{variant.flow} {tokens and (tokens.propagation, tokens.interval)}"
        if key not in self._flows:
            self._flows[key] = make_flows(variant, self.job.scene, self.study.times, self.truth())
        return self._flows[key]

    def _measure(self, measure: str, rgb: Clip, normals: Packed) -> Any:
        truth = self.truth()
        if measure == "pictures":
            return measure_pictures(rgb, normals, truth)
        novel = rgb[:, list(NOVEL)]
        if measure == "lpips":
            return measure_lpips(lpips_network(), novel, self._targets())
        return measure_logits(i3d_network(), novel, measure).tolist()

    @cache  # noqa: B019  # one object per job, which ends with it
    def _targets(self) -> Any:
        return lpips_targets(lpips_network(), self.truth().rgb[:, list(NOVEL)])


@lru_cache(maxsize=1)
def _prior(path: Path) -> MultiviewPrior:
    return load_small_prior(path)


@lru_cache(maxsize=1)
def _prior_hash(path: Path) -> str:
    return sha256_file(path)


@lru_cache(maxsize=1)
def _truth(scene: str, times: tuple[float, ...], size: int) -> Truth:
    return render_truth(scene, times, size)


def collect(jobs: Sequence[Job]) -> dict[str, Any]:
    """Collect the summary of finished jobs; values are means over seeds."""
    records: dict[str, dict[str, Any]] = {}
    logits: dict[str, dict[str, Any]] = {}
    for job in jobs:
        true = _read(job, "truth", job.seeds[0])
        for name in job.names:
            found = [_read(job, name, seed) for seed in job.seeds]
            records.setdefault(name, {})[job.scene] = _averaged(found, true)
            if "fvd" in job.measures:
                clips = np.concatenate([np.asarray(one["fvd"], np.float64) for one in found])
                logits.setdefault(name, {})[job.scene] = clips
    return summarise(records, logits, {name: find(name).against for name in records})


def _read(job: Job, name: str, seed: int) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(cell_path(job, name, seed, "json").read_text())
    return record


def _averaged(found: Sequence[Mapping[str, Any]], true: Mapping[str, Any]) -> dict[str, Any]:
    """Average over seeds, by metric and view, with the report of the first seed."""
    of_seeds = []
    for one in found:
        values = {metric: dict(enumerate(views)) for metric, views in one["pictures"].items()}
        if "lpips" in one:
            values["lpips"] = dict(zip(NOVEL, one["lpips"], strict=True))
        if "fvd_c4d" in one:
            pairs = zip(one["fvd_c4d"], true["fvd_c4d"], strict=True)
            values["fvd_c4d"] = dict(zip(NOVEL, (fvd_c4d(a, b) for a, b in pairs), strict=True))
        of_seeds.append(values)
    means: dict[str, Any] = {
        metric: {view: float(np.mean([values[metric][view] for values in of_seeds])) for view in views}
        for metric, views in of_seeds[0].items()
    }
    return means | {"report": found[0]["report"]}


def write_strips(jobs: Sequence[Job], folder: Path, view: int) -> None:
    """Write one PNG per scene: a row per variant, a column per frame, colours above normals."""
    for job in jobs:
        rows = []
        for name in job.names:
            with np.load(cell_path(job, name, job.seeds[0], "npz")) as arrays:
                rgb, normals = arrays["rgb"][:, view], arrays["normal"][:, view].astype(int)
            rows += [rgb, (128 + normals).clip(0, 255).astype(np.uint8)]
        write_png(
            folder / f"{job.scene}-view{view}.png", np.concatenate([np.concatenate(row, 1) for row in rows])
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trained = [scene for scene, (plan, _) in SCENES.items() if plan != HELD_OUT_PLAN]
    parser.add_argument("--prior", type=Path, default=WEIGHTS, help="weights file; default the shipped one")
    parser.add_argument("--scenes", nargs="+", default=trained, metavar="SCENE", help="default: trained plans")
    parser.add_argument("--variants", nargs="+", default=list(MAIN), metavar="VARIANT")
    parser.add_argument("--measures", nargs="+", default=list(MEASURES), choices=MEASURES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--stride", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--jump", type=int, default=JUMP, help="noise level after the first step")
    parser.add_argument("--bf16", action="store_true", help="the network in bfloat16: faster, a little noise")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--strips", type=Path, metavar="DIR", help="also write pictures of every scene here")
    parser.add_argument(
        "--view", type=int, default=1, help="of the strips: 0 front, 1 at 45 degrees, 2 at 90 ..."
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="JSON")
    return parser.parse_args()


def _run() -> None:
    given = _arguments()
    study = Study(
        prior=given.prior.resolve(),
        frames=given.frames,
        stride=given.stride,
        steps=given.steps,
        jump=given.jump,
        bf16=given.bf16,
    )
    for scene in given.scenes:
        choose("toy4d scene", scene, SCENES)
    names = tuple(dict.fromkeys((*REFERENCES, *given.variants)))
    for name in names:
        find(name)
    measures = tuple(dict.fromkeys(("pictures", *given.measures)))
    parts = parts_folder(given.out)
    jobs = [
        Job(scene=scene, names=names, seeds=tuple(given.seeds), measures=measures, study=study, parts=parts)
        for scene in given.scenes
    ]
    load_small_prior(study.prior)  # a wrong file is reported once, before work begins
    if given.jobs == 1:
        torch.set_num_threads(1)
        for job in jobs:
            run_job(job)
    else:
        with worker_pool(given.jobs, start_worker) as pool:
            for done in [pool.submit(run_job, job) for job in jobs]:
                done.result()
    summary = collect(jobs)
    settings = asdict(study) | {"prior": _prior_hash(study.prior), "scenes": given.scenes, "seeds": given.seeds}
    write_json(given.out, {"settings": settings, **summary})
    if given.strips is not None:
        write_strips(jobs, given.strips, given.view)
    print(markdown(summary, {name: find(name).title for name in names}))


if __name__ == "__main__":
    terminal.run(_run)
