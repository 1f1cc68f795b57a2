"""Turns a video into a 4D asset: runs the method, and writes its field as videos and .ply files.

    run.json            inputs of the asset: settings, prior, seed, digest of the video
    environment.json    versions, platform and device
    artefacts.json      intermediate results of the stages, for pages
    masks/              of the object, where the video had none; masks.png shows them
    method/             the folder of the stages (`method.pipeline`)
    field.safetensors   the result
    turntable/, azimuth_<a>/, ply/   `splat.export` of it
    comparison.mp4      the input beside the field's front view
    viewer.html         the field to be turned by hand

An interrupted run resumes where it stopped; a folder of other settings is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvtokenflow.base.device import AUTO, described_device, resolve_device
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import frame_files, sha256_file
from mvtokenflow.base.progress import Progress
from mvtokenflow.base.seeds import check_seed
from mvtokenflow.media.segment import Segmentation
from mvtokenflow.media.video import Clip, composite_white, read_rgba, to_uint8, write_video
from mvtokenflow.method.artefacts import artefacts
from mvtokenflow.method.config import MethodConfig
from mvtokenflow.method.pipeline import Result, run
from mvtokenflow.method.priors import prior_name
from mvtokenflow.method.source import read_source
from mvtokenflow.multiview.preprocess import square_clip
from mvtokenflow.splat.export import (
    ExportView,
    azimuth_name,
    check_video,
    export_ply,
    export_video,
    fixed_view,
    frame_times,
    turntable,
)
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.io import load_field, save_field
from mvtokenflow.splat.trainer import FIELD_FILE
from mvtokenflow.viewer.fields import pack_dynamic
from mvtokenflow.viewer.packing import Timing
from mvtokenflow.viewer.page import write_viewer
from mvtokenflow.workdir.artefacts import ARTEFACTS_FILE, write_artefacts
from mvtokenflow.workdir.environment import note_environment
from mvtokenflow.workdir.folder import claim
from mvtokenflow.workdir.lock import working_in

FIXED_VIEWS = (0.0, 90.0, 180.0, 270.0)  # azimuths in degrees; the first is the input's
TURNTABLE_FRAMES = 48  # at least: a clip of few frames would go round in jumps
FRONT_IOU = 0.85  # of masks; below, the prior has turned or moved the object
STAGES = "method"  # subfolder
VIEWER = "viewer.html"

Say = Callable[[str], object]
PageWriter = Callable[[Path], Path]


@dataclass(frozen=True, kw_only=True)
class Asset:
    """The files of a finished run, and the method's result.

    Attributes:
        folder: the folder of all files.
        field: the field's file, for `splat.io.load_field`.
        turntable: a video around the object. views: videos from `FIXED_VIEWS`.
        ply: folder of one .ply file per frame; None if not asked for.
        comparison: a video of the input beside the front view.
        viewer: a page in which the field can be turned.
        page: what `page` of `make_asset` wrote; None without it.
        frames: their number in the clip.
        notes: sentences on assumptions about the input.
        result: the method's: the field itself, costs, pose of the input.
    """

    folder: Path
    field: Path
    turntable: Path
    views: tuple[Path, ...]
    ply: Path | None
    comparison: Path
    viewer: Path
    page: Path | None
    frames: int
    notes: tuple[str, ...]
    result: Result

    def warnings(self) -> list[str]:
        """Return sentences on why the result may be worse than usual; an empty list as a rule."""
        found = []
        if self.result.front_iou < FRONT_IOU:
            found.append(
                "in the worst frame the generated front view covers the input's object badly (IoU "
                f"{self.result.front_iou:.2f}), and the input's flow was taken for its own; level views suit "
                "priors best"
            )
        pose = self.result.pose
        if pose is not None and pose.is_steep:
            found.append(
                f"the input seems to be seen from {pose.elevation:.0f} degrees of elevation; views are made "
                "level, so the front one does not lie over the input; level videos suit priors best"
            )
        return found


def make_asset(
    source: Path | str,
    out: Path | str,
    config: MethodConfig,
    *,
    masks: Path | str | None = None,
    segmenter: Segmentation | None = None,
    background: str | None = None,
    start: str = "0",
    frames: int | None = None,
    stride: int = 1,
    view: ExportView | None = None,
    fps: float = 8.0,
    ply: bool = True,
    seed: int = 0,
    device: str = AUTO,
    page: PageWriter | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Asset:
    """Turn a video of one object into a dynamic Gaussian field, videos of it and .ply files.

    Stages that are finished in `out` are not computed again.

    Args:
        source: a video, or a folder of frames `<n>.png`; with alpha, or with `masks`,
            `segmenter` or `background`.
        out: folder of the results: new, empty, or of the same run.
        config: settings of the method, for instance `method.config.mini()`.
        masks: of the object in `source`, a video or a folder of `<n>.png`.
        segmenter: cuts the object out, for instance `media.segment.REMBG`.
        background: the plain background to cut the object out of: "auto", "white" or "#rrggbb"; a video with
            nothing else is cut out by "auto" if that is possible.
        start: the first frame, counted from 0, or its time, such as "2.5s".
        frames: their number, 2 to `method.config.MAX_FRAMES`; None takes all.
        stride: every `stride`-th frame of `source` is used.
        view: size, elevation and camera of the videos; None is 256 pixels, level, orthographic.
        fps: frames per second of the videos.
        ply: whether to write one .ply file per frame.
        seed: of all random numbers, 0 to `seeds.MAX_SEED`.
        device: of torch; "auto" is a GPU if there is one, else the CPU.
        page: writes a page from the files in `out`, for instance `reports.run_page.write_page`, and gives its
            path; called whenever another stage begins, and at the end. Pages are made above the method, hence
            they are passed in.
        progress: called with (stage, done, total).
        say: called with sentences on what was found, as soon as it is.

    Raises:
        ConfigError: a setting out of range, or a folder of another run.
        DataError: a video that cannot be read or has no object, damaged files, another process at work in the
            folder.
        WeightsMissingError: weights that are not here; the message names the command that fetches them.
    """
    out, message = Path(out), say or (lambda sentence: None)
    device, asked = resolve_device(device), device
    view = ExportView(size=256) if view is None else view
    check_seed(seed)
    check_video(view, fps)
    given = read_source(
        Path(source),
        None if masks is None else Path(masks),
        segmenter,
        background=background,
        start=start,
        frames=frames,
        stride=stride,
    )
    network = given.segmenter(out / "masks")  # loaded before anything is written
    identity = {
        "config": config.to_dict(),
        "prior": prior_name(config),
        "seed": seed,
        "video": {"pictures": given.digest, "cut_out_by": given.cut_out_by, "frames": len(given)},
        "export": {"size": view.size, "fps": fps, **_unusual(view)},
    }
    with working_in(out):
        claim(out, identity)
        note_environment(out, device)
        report = _reporting(out, config, progress, page)
        if asked == AUTO:
            message(f"device: {described_device(device)}")
        clip = given.cut_out(out / "masks", network, report)
        for note in clip.notes:
            message(f"note: {note}")
        message(f"{len(clip)} frames of {clip.rgb.shape[2]}x{clip.rgb.shape[1]} pixels")
        result = run(clip, config, out / STAGES, seed, device=device, progress=report)
        keep_field(out / FIELD_FILE, result.field, message)
        videos, points = _export(result.field, clip, view, out, fps, ply, report)
        comparison = _compare(clip, config, view, out, fps)
        viewer = _view(result.field, clip, out, fps, videos["turntable"])
        _list_artefacts(out, config)
        return Asset(
            folder=out,
            field=out / FIELD_FILE,
            turntable=videos["turntable"],
            views=tuple(videos[azimuth_name(azimuth)] for azimuth in FIXED_VIEWS),
            ply=points,
            comparison=comparison,
            viewer=viewer,
            page=None if page is None else page(out),
            frames=len(clip),
            notes=tuple(clip.notes),
            result=result,
        )


def _unusual(view: ExportView) -> dict[str, Any]:
    """Return the fields of a view that `run.json` records: none for a level orthographic view."""
    usual = (view.elevation_deg, view.kind) == (0.0, "ortho")
    return {} if usual else {"elevation_deg": view.elevation_deg, "camera": view.kind}


def _list_artefacts(out: Path, config: MethodConfig) -> None:
    """Write the list of what is there; `method.artefacts` with paths below `out`."""
    found = [
        one if one.path is None else replace(one, path=f"{STAGES}/{one.path}")
        for one in artefacts(out / STAGES, config)
    ]
    write_artefacts(out / ARTEFACTS_FILE, found)


def _reporting(out: Path, config: MethodConfig, progress: Progress | None, page: PageWriter | None) -> Progress:
    """Wrap `progress` so that the page is also written whenever another stage begins."""
    begun = ""

    def report(stage: str, done: int, total: int) -> None:
        nonlocal begun
        if stage != begun:
            begun = stage
            _list_artefacts(out, config)
            if page is not None:
                page(out)
        if progress is not None:
            progress(stage, done, total)

    return report


def keep_field(path: Path, field: DynamicField, say: Say) -> None:
    """Write a field, unless the file has it already: the records of exports hold the digest of the file.

    Args:
        say: called with a sentence if another or a damaged field is replaced.
    """
    if path.exists():
        try:
            kept = load_field(path)
        except DataError as error:
            say(f"{error}; written again from the last stage")
        else:
            if _are_equal(kept, field):
                return
            say(f"{path}: not the result of the last stage; written again from it")
    save_field(path, field)


def _are_equal(one: DynamicField, other: DynamicField) -> bool:
    first, second = ({name: value.cpu() for name, value in f.state_dict().items()} for f in (one, other))
    alike = (one.config, one.pixel, first.keys()) == (other.config, other.pixel, second.keys())
    return alike and all(torch.equal(value, second[name]) for name, value in first.items())


def _export(
    field: DynamicField, clip: Clip, view: ExportView, out: Path, fps: float, ply: bool, report: Progress
) -> tuple[dict[str, Path], Path | None]:
    """Write the videos and .ply files; return the videos by folder name, and the .ply folder."""
    source: dict[str, Any] = {"sha256": sha256_file(out / FIELD_FILE)}
    frames = len(clip) if clip.clock is None else clip.clock.tolist()
    shots = {azimuth_name(azimuth): fixed_view(azimuth, frames) for azimuth in FIXED_VIEWS}
    shots["turntable"] = turntable(max(len(clip), TURNTABLE_FRAMES))
    videos = {
        name: export_video(field, plan, view, out / name, fps=fps, source=source, progress=report)
        for name, plan in shots.items()
    }
    if not ply:
        return videos, None
    export_ply(field, frames, out / "ply", source=source, progress=report)
    return videos, out / "ply"


def _compare(clip: Clip, config: MethodConfig, view: ExportView, out: Path, fps: float) -> Path:
    """Write a video of the input, framed as the prior sees it, beside the field's front view."""
    path = out / "comparison.mp4"
    if path.exists():
        return path
    square = config.square
    crop = square.crop_size if square.crop_size == -1 else round(square.crop_size * view.size / square.size)
    given = square_clip(clip, replace(square, size=view.size, crop_size=crop)).front
    front = frame_files(out / azimuth_name(FIXED_VIEWS[0]) / "frames")
    rendered = np.stack([composite_white(read_rgba(frame)) for frame in front])
    write_video(path, np.concatenate([to_uint8(given.numpy(), clip.name), rendered], axis=2), fps)
    return path


def _view(field: DynamicField, clip: Clip, out: Path, fps: float, turntable: Path) -> Path:
    """Write the page in which the field can be turned; the turntable is for browsers that cannot draw."""
    times = frame_times(len(clip) if clip.clock is None else clip.clock.tolist())
    packed = pack_dynamic(field, out.resolve().name, Timing(times=tuple(times), fps=fps))
    return write_viewer(out / VIEWER, [packed], title=packed.label, turntable=turntable, back="index.html")
