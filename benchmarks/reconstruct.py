"""Quality and speed of reconstruction from perfect input: toy4d scenes in six ortho views.

    python benchmarks/reconstruct.py                                  # six scenes, one of each trained plan
    python benchmarks/reconstruct.py --scenes robot-01 --without flow --without normal
    python benchmarks/reconstruct.py --size 128 --set coarse.iterations=2000 -o runs/bench --json
    python benchmarks/reconstruct.py --profile --scenes quadruped-01  # where the time of a step goes
    python benchmarks/reconstruct.py --scenes fish@0 crab@0 --flow dis --set flow_gap=4 --set flow_backward=true

A scene is one of toy4d, or PLAN@N: toy N of a body plan's validation split, which no table evaluates; settings
are chosen on these. Flow of the front view, between the frames that settings let it join, is exact or DIS's.

Held-out views are the evaluation views of toy4d (azimuths -75, 15, 105, 195 degrees). Columns: PSNR in dB on
white, of held-out and of training views, mean over frames and views; end-point error in pixels of rendered flow
between neighbouring frames, over pixels visible in both, of held-out views and of the front, and the mean
motion of held-out views for comparison; mean angle in degrees of normals of rendered depth where they are
defined, held-out views, and the share of the object's pixels where they are; CPU seconds; steps of the coarse
stage per CPU second; peak memory of the process in MB. CPU time is this process's, so other programs count
little.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from mvtokenflow.base.settings import overridden
from mvtokenflow.datasets.toy4d.render import Flow, Render, render, render_flow
from mvtokenflow.datasets.toy4d.scenes import SAMPLES, VIEWS, scene_toy
from mvtokenflow.datasets.toy4d.stream import RADIUS, six_views
from mvtokenflow.datasets.toy4d.toys import SEEDS, Toy, make_toy
from mvtokenflow.flow.estimate import DisEstimator
from mvtokenflow.media.pictures import write_png
from mvtokenflow.method.prepare import input_flow, near_pairs
from mvtokenflow.splat.field import DynamicField, render_gaussians
from mvtokenflow.splat.previews import psnr, strip
from mvtokenflow.splat.targets import Targets
from mvtokenflow.splat.trainer import reconstruct
from mvtokenflow.splat.training_config import PRESETS, ReconstructionConfig, preset
from mvtokenflow.splat.training_step import Training
from mvtokenflow.views.cameras import Cameras, orbit
from mvtokenflow.views.video import MultiviewVideo, ViewFlow

SCENES = ("quadruped-01", "bird-01", "fish-01", "robot-01", "vehicle-01", "plant-01")
HELD_OUT = tuple(azimuth for view, azimuth in VIEWS.items() if view != "input")
# Names of a step's parts in torch's profiler; the rest is everything else.
PARTS = {
    "blending": ("_Composite", "_CompositeBackward"),
    "projection": ("_Project", "_ProjectBackward"),
    "D-SSIM": ("_Ssim", "_SsimBackward"),
    "networks": ("aten::addmm", "aten::mm"),
    "skinning": (
        "aten::topk",
        "aten::embedding",
        "aten::_embedding_bag",
        "aten::embedding_dense_backward",
        "aten::_embedding_bag_dense_backward",
        "aten::_embedding_bag_per_sample_weights_backward",
    ),
    "optimizer": ("aten::_fused_adam_", "Optimizer.step#Adam.step"),
}


@dataclass(frozen=True)
class Truth:
    """Ground truth of the held-out cameras, and the motion in the front view."""

    cameras: Cameras
    pictures: Render
    motion: Flow
    front: Flow


def toy(scene: str) -> Toy:
    """Return the toy of a toy4d scene, or of a body plan's validation split."""
    plan, at, number = scene.partition("@")
    return make_toy(plan, SEEDS["validation"][int(number)]) if at else scene_toy(scene)


def toy_video(
    scene: str, size: int, frames: int, config: ReconstructionConfig, *, estimated: bool = False
) -> tuple[MultiviewVideo, Truth]:
    """Render a scene in Era3D's six views with exact normals and front flow, and the held-out truth.

    Args:
        config: selects the frames that flow joins. estimated: use DIS's flow.
    """
    times = np.arange(frames) / (frames - 1)
    shown, cameras = toy(scene), six_views(size)
    held = orbit(HELD_OUT, size=size, kind="ortho", radius=RADIUS)
    seen = render(shown, cameras, times, samples=SAMPLES)
    rgb, alpha = torch.from_numpy(seen.rgb).clamp(0, 1), torch.from_numpy(seen.alpha).clamp(0, 1)
    pairs = near_pairs(frames, config.flow_gap, backward=config.flow_backward)
    if estimated:
        flow = input_flow(rgb[:, 0] * alpha[:, 0] + 1 - alpha[:, 0], alpha[:, 0], pairs, DisEstimator())
    else:
        ends = np.array(pairs)
        exact = render_flow(shown, cameras[:1], times[ends[:, 0]], times[ends[:, 1]])
        moved, known = torch.from_numpy(exact.flow[:, 0]), torch.from_numpy(exact.visible[:, 0])
        flow = ViewFlow(view=0, pairs=pairs, flow=moved, visible=known)
    video = MultiviewVideo(
        rgb=rgb,
        alpha=alpha,
        cameras=cameras,
        normals=torch.from_numpy(seen.normal),
        flow=flow,
        name=scene,
    )
    motion = render_flow(shown, held, times[:-1], times[1:])
    front = render_flow(shown, cameras[:1], times[:-1], times[1:])
    return video, Truth(held, render(shown, held, times, samples=SAMPLES), motion, front)


@torch.no_grad()
def measure(field: DynamicField, video: MultiviewVideo, truth: Truth) -> dict[str, float]:
    """Measure the table's quality columns."""
    columns: dict[str, list[float]] = {
        name: []
        for name in (
            "held_out_db",
            "training_db",
            "flow_px",
            "front_flow_px",
            "motion_px",
            "normal_deg",
            "normal_share",
        )
    }
    moments = field.at_many(video.times.tolist())
    for frame, moment in enumerate(moments):
        after = moments[frame + 1].means if frame + 1 < len(moments) else None
        seen = render_gaussians(moment, truth.cameras, flow_to=after)
        columns["held_out_db"] += _psnrs(seen.rgb, _on_white(truth.pictures, frame))
        own = video.rgb[frame] * video.alpha[frame] + 1 - video.alpha[frame]
        views = render_gaussians(moment, video.cameras, flow_to=after)
        columns["training_db"] += _psnrs(views.rgb, own)
        normals, valid = seen.normals
        wanted = torch.from_numpy(truth.pictures.normal[frame])
        surface = wanted.norm(dim=-1) > 0.5
        cosine = (normals * wanted).sum(-1)[valid & surface].clamp(-1, 1)
        columns["normal_deg"].append(float(cosine.arccos().rad2deg().mean()))
        columns["normal_share"].append(float((valid & surface).sum() / surface.sum()))
        if seen.flow is not None and views.flow is not None:
            error, length = _end_point(seen.flow, truth.motion, frame)
            columns["flow_px"].append(error)
            columns["motion_px"].append(length)
            columns["front_flow_px"].append(_end_point(views.flow[:1], truth.front, frame)[0])
    return {name: sum(values) / len(values) for name, values in columns.items()}


def _end_point(flow: Tensor, truth: Flow, frame: int) -> tuple[float, float]:
    """Mean error of the flow of C views, and mean length of the true one, in pixels."""
    visible, wanted = torch.from_numpy(truth.visible[frame]), torch.from_numpy(truth.flow[frame])
    return float((flow - wanted).norm(dim=-1)[visible].mean()), float(wanted.norm(dim=-1)[visible].mean())


def _on_white(pictures: Render, frame: int) -> Tensor:
    rgb, alpha = torch.from_numpy(pictures.rgb[frame]), torch.from_numpy(pictures.alpha[frame])
    return (rgb * alpha + 1 - alpha).clamp(0, 1)


def _psnrs(seen: Tensor, wanted: Tensor) -> list[float]:
    return [psnr(one, other) for one, other in zip(seen, wanted, strict=True)]


@torch.no_grad()
def save_pictures(path: Path, field: DynamicField, truth: Truth) -> None:
    """Save held-out views of four frames, truth above renderings."""
    count = truth.pictures.rgb.shape[0]
    rows = []
    for frame in np.linspace(0, count - 1, 4).round().astype(int).tolist():
        seen = render_gaussians(field.at(frame / (count - 1)), truth.cameras)
        rows.append(strip(_on_white(truth.pictures, frame), seen.rgb))
    write_png(path, np.concatenate(rows))


def run_scene(
    scene: str, config: ReconstructionConfig, size: int, frames: int, out: Path, *, estimated: bool
) -> dict[str, float]:
    """Reconstruct a scene below `out` (only if it is not there) and measure it."""
    video, truth = toy_video(scene, size, frames, config, estimated=estimated)
    marks: dict[str, list[float]] = {}

    def clock(stage: str, done: int, total: int) -> None:
        marks.setdefault(stage, []).append(time.process_time())

    began = time.process_time()
    field = reconstruct(video, config, out / scene, torch.Generator().manual_seed(0), clock)
    row = measure(field, video, truth)
    save_pictures(out / f"{scene}.png", field, truth)
    coarse = marks.get("coarse", [])
    if len(coarse) > 2:
        row["steps_per_s"] = (len(coarse) - 2) / (coarse[-1] - coarse[1])
        row["cpu_s"] = coarse[-1] - began
    row["gaussians"] = len(field.gaussians)
    row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def profile_step(
    scene: str, config: ReconstructionConfig, size: int, frames: int, out: Path, *, estimated: bool
) -> dict[str, float]:
    """Profile milliseconds of CPU per coarse step by part, on the reconstructed field."""
    video, _ = toy_video(scene, size, frames, config, estimated=estimated)
    field = reconstruct(video, config, out / scene, torch.Generator().manual_seed(0))
    training = Training(field, Targets.of(video), config, "coarse", torch.Generator().manual_seed(0))
    for number in range(3):
        training.step(number)
    steps = 20
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for number in range(steps):
            training.step(number)
    found = {event.key: event.self_cpu_time_total / 1000 / steps for event in recorded.key_averages()}
    parts = {part: sum(found.get(name, 0.0) for name in names) for part, names in PARTS.items()}
    return parts | {"rest": sum(found.values()) - sum(parts.values())}


def _print_table(rows: Mapping[str, Mapping[str, float]]) -> None:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    print(f"{'scene':14}" + "".join(f"{name:>14}" for name in columns))
    for scene, row in rows.items():
        print(f"{scene:14}" + "".join(f"{row[name]:14.2f}" if name in row else f"{'':14}" for name in columns))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), metavar="SCENE")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="mini")
    parser.add_argument("--without", action="append", choices=("flow", "normal", "arap"), default=[])
    parser.add_argument("--set", action="append", dest="settings", default=[], metavar="NAME=VALUE")
    parser.add_argument("--flow", choices=("exact", "dis"), default="exact", help="of the front view")
    parser.add_argument("-o", "--out", type=Path, help="folder of the runs; existing ones are resumed")
    parser.add_argument("--profile", action="store_true", help="where the time of a step goes instead")
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of a table")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    given = _arguments()
    settings = [*given.settings, *(f"weights.{term}=0" for term in given.without)]
    config = overridden(preset(given.preset), settings)
    work = profile_step if given.profile else run_scene
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for scene in given.scenes:
            folder = given.out or Path(temporary)
            rows[scene] = work(scene, config, given.size, given.frames, folder, estimated=given.flow == "dis")
    if len(rows) > 1:
        names = [name for name in rows[given.scenes[0]] if all(name in row for row in rows.values())]
        rows["mean"] = {name: sum(row[name] for row in rows.values()) / len(rows) for name in names}
    if given.json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


if __name__ == "__main__":
    main()
