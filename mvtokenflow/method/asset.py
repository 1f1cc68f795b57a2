"""Turns a video into a 4D asset: runs the method, and writes its field as videos and .ply files.

    run.json            inputs of the asset: settings, prior, seed, digest of the video
    environment.json    versions, platform and device
    artefacts.json      intermediate results of the stages, for pages
    masks/              of the object, where the video had none; masks.png shows them
    method/             the folder of the stages (`method.pipeline`)
    field.safetensors   the result
    result.json         how far the front view covers the input, and warnings
    progress.json       how far a run is that has not finished (`method.following`)
    export.json, turntable/, azimuth_<a>/, ply/, comparison.mp4, viewer.html     `method.exported`

An interrupted run resumes where it stopped; a folder of other settings is refused. Export settings are no part
of what a run is: with others its videos are written again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mvtokenflow.base.damaged import read_json
from mvtokenflow.base.device import AUTO, described_device, resolve_device
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import write_json
from mvtokenflow.base.progress import Progress
from mvtokenflow.base.seeds import check_seed
from mvtokenflow.media.segment import Segmentation
from mvtokenflow.method.artefacts import artefacts
from mvtokenflow.method.config import MethodConfig
from mvtokenflow.method.exported import (
    EXPORT_FILE,
    FIXED_VIEWS,
    PLY,
    RATE,
    TURNTABLE,
    ExportSettings,
    compare,
    export,
    is_written,
    renew,
)
from mvtokenflow.method.exported import view as view_page
from mvtokenflow.method.following import Following, note_in, unfinished
from mvtokenflow.method.source import read_source
from mvtokenflow.splat.export import ExportView, azimuth_name, check_video
from mvtokenflow.splat.field import DynamicField
from mvtokenflow.splat.io import load_field, save_field
from mvtokenflow.splat.trainer import FIELD_FILE
from mvtokenflow.workdir.artefacts import ARTEFACTS_FILE, write_artefacts
from mvtokenflow.workdir.environment import note_environment
from mvtokenflow.workdir.folder import RUN_FILE, claim
from mvtokenflow.workdir.lock import working_in

if TYPE_CHECKING:
    from mvtokenflow.method.pipeline import Result

FRONT_IOU = 0.85  # of masks; below, the prior has turned or moved the object
STAGES = "method"  # subfolder
RESULT_FILE = "result.json"

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
        frames: their number in the clip. fps: frames per second of the videos.
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
    fps: float
    notes: tuple[str, ...]
    result: "Result"

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
    fps: float | None = None,
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
        fps: frames per second of the videos; None is the source's, of the frames that are used, or 8 for a
            folder of frames.
        ply: whether to write one .ply file per frame.
        seed: of all random numbers, 0 to `seeds.MAX_SEED`.
        device: of torch; "auto" is a GPU if there is one, else the CPU.
        page: writes a page from the files in `out`, for instance `reports.run_page.write_page`, and gives its
            path; called whenever another stage begins, and at the end. Pages are made above the method, hence
            they are passed in.
        progress: called with (stage, done, total), stages such as "2/6 Static field".
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
    check_video(view, RATE if fps is None else fps)
    given = read_source(
        Path(source),
        None if masks is None else Path(masks),
        segmenter,
        background=background,
        start=start,
        frames=frames,
        stride=stride,
    )
    # Networks take seconds to import, so a video that cannot be read is reported before.
    from mvtokenflow.method.pipeline import run
    from mvtokenflow.method.priors import prior_name

    rate = RATE if given.rate is None else round(given.rate, 3)
    settings = ExportSettings(view=view, fps=rate if fps is None else fps, ply=ply)
    network = given.segmenter(out / "masks")  # loaded before anything is written
    identity = {
        "config": config.to_dict(),
        "prior": prior_name(config),
        "seed": seed,
        "video": {"pictures": given.digest, "cut_out_by": given.cut_out_by, "frames": len(given)},
    }
    with working_in(out):
        _claim(out, identity)
        note_environment(out, device)
        following = Following(config=config, frames=len(given), workdir=out / STAGES, progress=progress)
        following.note = note_in(out, lambda: _draw(out, config, page))
        if page is not None:
            message(f"watch it in {page(out)}")
        if asked == AUTO:
            message(f"device: {described_device(device)}")
        with unfinished(out, following):
            clip = given.cut_out(out / "masks", network, None if network is None else following.report)
            for note in clip.notes:
                message(f"note: {note}")
            message(f"{len(clip)} frames of {clip.rgb.shape[2]}x{clip.rgb.shape[1]} pixels")
            if is_written(out, clip, settings):
                following.note = lambda state: None
            result = run(clip, config, out / STAGES, seed, device=device, progress=following.report)
            keep_field(out / FIELD_FILE, result.field, message, rate)
            renewed = renew(out, clip, settings)
            if renewed is not None:
                message(renewed)
            videos = export(result.field, out / FIELD_FILE, clip, settings, out, following.report)
            comparison = compare(clip, config.square, settings, out)
            viewer = view_page(result.field, clip, settings.fps, out, videos[TURNTABLE])
        asset = Asset(
            folder=out,
            field=out / FIELD_FILE,
            turntable=videos[TURNTABLE],
            views=tuple(videos[azimuth_name(azimuth)] for azimuth in FIXED_VIEWS),
            ply=out / PLY if ply else None,
            comparison=comparison,
            viewer=viewer,
            page=None,
            frames=len(clip),
            fps=settings.fps,
            notes=tuple(clip.notes),
            result=result,
        )
        _keep_json(out / RESULT_FILE, {"front_iou": result.front_iou, "warnings": asset.warnings()})
        _list_artefacts(out, config)
        return replace(asset, page=None if page is None else page(out))


def _claim(out: Path, identity: Mapping[str, Any]) -> None:
    """Make `out` the folder of this run; earlier versions kept export settings in its identity."""
    path = out / RUN_FILE
    if path.is_file():
        found = read_json(path, dict, f"delete {out} to start again")
        if "export" in found:
            write_json(out / EXPORT_FILE, found.pop("export"))
            write_json(path, found)
    claim(out, identity)


def _draw(out: Path, config: MethodConfig, page: PageWriter | None) -> None:
    _list_artefacts(out, config)
    if page is not None:
        page(out)


def _keep_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, unless it holds this already."""
    if not path.is_file() or read_json(path, dict, "delete it and run the same command again") != value:
        write_json(path, dict(value))


def _list_artefacts(out: Path, config: MethodConfig) -> None:
    """Write the list of what is there; `method.artefacts` with paths below `out`."""
    found = [
        one if one.path is None else replace(one, path=f"{STAGES}/{one.path}")
        for one in artefacts(out / STAGES, config)
    ]
    write_artefacts(out / ARTEFACTS_FILE, found)


def keep_field(path: Path, field: DynamicField, say: Say, rate: float | None = None) -> None:
    """Write a field, unless the file has it already: the records of exports hold the digest of the file.

    Args:
        say: called with a sentence if another or a damaged field is replaced.
        rate: frames per second of the clip, kept in a new file.
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
    save_field(path, field, rate=rate)


def _are_equal(one: DynamicField, other: DynamicField) -> bool:
    first, second = ({name: value.cpu() for name, value in f.state_dict().items()} for f in (one, other))
    alike = (one.config, one.pixel, first.keys()) == (other.config, other.pixel, second.keys())
    return alike and all(torch.equal(value, second[name]) for name, value in first.items())
