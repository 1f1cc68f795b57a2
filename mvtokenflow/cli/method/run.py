"""`mvtf run`: a video to a dynamic Gaussian field, pictures of it, and a page that shows how it came about."""

import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mvtokenflow import __version__
from mvtokenflow.base.terminal import Device, Json, check_device, print_json, progress, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from mvtokenflow.base.progress import Progress
    from mvtokenflow.media.video import Clip, Pixels
    from mvtokenflow.method.config import MethodConfig
    from mvtokenflow.method.pipeline import Result
    from mvtokenflow.splat.export import ExportView
    from mvtokenflow.splat.field import DynamicField

MAX_FRAMES = 64  # all frames attend to one another; memory and time grow with them
FIXED_VIEWS = (0.0, 90.0, 180.0, 270.0)  # azimuths in degrees; the first is the input's
FRONT_IOU = 0.85  # of masks; below, the prior has turned or moved the object
TURNTABLE_FRAMES = 48  # at least: a clip of few frames would go round in jumps
ENVIRONMENT_FILE = "environment.json"

Video = Annotated[
    Path, typer.Argument(metavar="VIDEO", help="A video file or folder of frames <n>.png.", show_default=False)
]
Mask = Annotated[
    Path | None, typer.Option("--mask", help="Masks, if VIDEO has no alpha: a video or folder of <n>.png.")
]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="PART",
        help="Leave a part of the method out: enlarged-attention, propagation, flow-loss, flow, normal, "
        "regeneration or refinement; may be repeated.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Change one setting, e.g. reconstruction.coarse.iterations=500."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a video was read to: the frames that are used, and where their alpha comes from.

    Attributes:
        digest: of the pictures, and of their alpha if it was given.
        cut_out_by: "alpha", "mask" or the name of a segmentation network.
        clip: None until the object is segmented. opaque: (T, H, W, 3), to be segmented.
        clock, notes: see `Clip`.
    """

    digest: str
    cut_out_by: str
    name: str
    clip: "Clip | None"
    opaque: "Pixels | None"
    clock: "Tensor | None"
    notes: tuple[str, ...]

    def __len__(self) -> int:
        pictures = self.opaque if self.clip is None else self.clip
        assert pictures is not None
        return len(pictures)


def run(
    video: Video,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.", show_default=False)],
    mask: Mask = None,
    segment: Annotated[
        bool,
        typer.Option("--segment", help="Cut the object out here; needs `pip install 'rembg[cpu]'`."),
    ] = False,
    preset: Annotated[str, typer.Option(help="mini (two CPU cores) or paper (GPU).")] = "mini",
    without: Parts = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    frames: Annotated[
        int | None, typer.Option(help=f"Take the first frames only, at most {MAX_FRAMES}.")
    ] = None,
    stride: Annotated[int, typer.Option(help="Take every so many-th frame of VIDEO only.")] = 1,
    whole_frame: Annotated[
        bool, typer.Option("--whole-frame", help="Show the prior whole frames instead of a crop of the object.")
    ] = False,
    export_size: Annotated[int, typer.Option(help="Width and height of the results in pixels.")] = 256,
    fps: Annotated[float, typer.Option(help="Frames per second of the results.")] = 8.0,
    ply: Annotated[bool, typer.Option("--ply/--no-ply", help="One 3DGS .ply file per frame.")] = True,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Turn a video of one object into a dynamic 3D Gaussian field.

    VIDEO has alpha, or a mask, or is segmented here. Writes OUT/field.safetensors, OUT/turntable, four fixed
    views, OUT/ply and a page that shows all of it, OUT/index.html. Run it again to go on where it stopped.

    Example: mvtf run corgi.webm -o out/corgi --frames 32
    """
    check_device(device)
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.base.seeds import check_seed
    from mvtokenflow.method.pipeline import run as run_method
    from mvtokenflow.method.priors import prior_name
    from mvtokenflow.reports.run_page import write_page
    from mvtokenflow.splat.export import ExportView, check_video
    from mvtokenflow.splat.trainer import FIELD_FILE
    from mvtokenflow.workdir.folder import claim
    from mvtokenflow.workdir.lock import working_in

    check_seed(seed)
    if mask is not None and segment:
        raise ConfigError("--mask and --segment both say where the object is; give one of them")
    config = _config(preset, whole_frame, settings or [], without or [])
    view = ExportView(size=export_size)
    check_video(view, fps)
    given = _read(video, mask, segment, _stop(video, frames, stride), stride)
    segmenter = _segmenter(given, output)
    identity = {
        "config": config.to_dict(),
        "prior": prior_name(config),
        "seed": seed,
        "video": {"pictures": given.digest, "cut_out_by": given.cut_out_by, "frames": len(given)},
        "export": {"size": export_size, "fps": fps},
    }
    with working_in(output):
        claim(output, identity)
        _note_environment(output / ENVIRONMENT_FILE, device)
        with progress() as bars:
            report = _showing(bars, output)
            clip = _cut_out(given, output, segmenter, report)
            for note in clip.notes:
                say(f"note: {note}")
            say(f"{len(clip)} frames of {clip.rgb.shape[2]}x{clip.rgb.shape[1]} pixels")
            result = run_method(clip, config, output / "method", seed, device=device, progress=report)
            keep_field(output / FIELD_FILE, result.field)
            made = _export(result, clip, view, output, fps, ply, report)
            made["comparison"] = str(_compare(clip, config, view, output, fps))
        made |= {"field": str(output / FIELD_FILE), "page": str(write_page(output))}
    _tell(result, clip, made, as_json)


# ---- settings ----


def _config(
    preset: str, whole_frame: bool, settings: "Sequence[str]", without: "Sequence[str]"
) -> "MethodConfig":
    from mvtokenflow.base.settings import overridden
    from mvtokenflow.method.config import preset as preset_named
    from mvtokenflow.method.config import without as leave_out

    config = preset_named(preset)
    if whole_frame:
        config = replace(config, square=replace(config.square, crop_size=-1))
    return leave_out(overridden(config, settings), *without)


def _stop(video: Path, frames: int | None, stride: int) -> int:
    """The position behind the last frame to read."""
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.media.video import count_frames

    if stride < 1:
        raise ConfigError(f"--stride is {stride}; choose 1 (every frame) or more")
    if frames is not None:
        if not 2 <= frames <= MAX_FRAMES:
            raise ConfigError(f"--frames is {frames}; choose 2 to {MAX_FRAMES}")
        return (frames - 1) * stride + 1
    total = count_frames(video)
    used = len(range(0, total, stride))
    if used > MAX_FRAMES:
        raise ConfigError(
            f"{video}: {used} frames, more than the {MAX_FRAMES} that are worked on at once; take the first "
            f"(--frames {MAX_FRAMES}) or fewer per second (--stride {-(-total // MAX_FRAMES)})"
        )
    return total


# ---- the clip ----

CUT_OUT = "give frames with alpha (RGBA), a mask (--mask), or add --segment"


def _read(video: Path, mask: Path | None, segment: bool, stop: int, stride: int) -> Given:
    from mvtokenflow.base.files import digest, title
    from mvtokenflow.media.segment import MODEL
    from mvtokenflow.media.video import read_clip, read_opaque

    if segment:
        opaque = read_opaque(video, stop=stop, stride=stride)
        times, uneven = opaque.clock(str(video))
        shown = [(str(opaque.pictures.shape), opaque.pictures.tobytes())]
        shown += [] if times is None else [("clock", times.numpy().tobytes())]
        return Given(
            digest=digest(shown),
            cut_out_by=MODEL,
            name=title(video),
            clip=None,
            opaque=opaque.pictures,
            clock=times,
            notes=(*opaque.notes, *uneven),
        )
    clip = read_clip(video, mask, stop=stop, stride=stride, fix=CUT_OUT)
    parts = {f"{name} {tuple(part.shape)}": part for name, part in (("rgb", clip.rgb), ("alpha", clip.alpha))}
    if clip.clock is not None:
        parts["clock"] = clip.clock
    pictures = digest((name, part.numpy().tobytes()) for name, part in parts.items())
    cut_out_by = "alpha" if mask is None else "mask"
    return Given(
        digest=pictures,
        cut_out_by=cut_out_by,
        name=clip.name,
        clip=clip,
        opaque=None,
        clock=clip.clock,
        notes=clip.notes,
    )


def _segmenter(given: Given, output: Path) -> "Callable[[Pixels], Pixels] | None":
    """Loaded before anything is written, and only if a mask is missing."""
    from mvtokenflow.media.segment import load_segmenter, mask_paths

    if given.opaque is None or all(path.exists() for path in mask_paths(output / "masks", len(given))):
        return None
    return load_segmenter()


def _cut_out(
    given: Given, output: Path, segmenter: "Callable[[Pixels], Pixels] | None", report: "Progress"
) -> "Clip":
    from mvtokenflow.media.segment import cut_out

    if given.clip is not None:
        return given.clip
    assert given.opaque is not None
    clip = cut_out(given.opaque, output / "masks", segmenter, given.name, report)
    return replace(clip, clock=given.clock, notes=(*given.notes, *clip.notes))


# ---- results ----


def _showing(report: "Progress", output: Path) -> "Progress":
    """`report`, and the page as far as the run is whenever another part of it begins."""
    from mvtokenflow.reports.run_page import write_page

    begun = ""

    def both(stage: str, done: int, total: int) -> None:
        nonlocal begun
        if stage != begun:
            begun = stage
            write_page(output)
        report(stage, done, total)

    return both


def _are_equal(one: "DynamicField", other: "DynamicField") -> bool:
    import torch

    first, second = ({name: value.cpu() for name, value in f.state_dict().items()} for f in (one, other))
    alike = (one.config, one.pixel, first.keys()) == (other.config, other.pixel, second.keys())
    return alike and all(torch.equal(value, second[name]) for name, value in first.items())


def keep_field(path: Path, field: "DynamicField") -> None:
    """Write the result, unless it is there and whole: the records of exports hold the digest of its file."""
    from mvtokenflow.base.errors import DataError
    from mvtokenflow.splat.io import load_field, save_field

    if path.exists():
        try:
            kept = load_field(path)
        except DataError as error:
            say(f"{error}; written again from the last stage")
        else:
            if _are_equal(kept, field):
                return
            say(f"{path}: not what the last stage has made; written again from it")
    save_field(path, field)


def _export(
    result: "Result", clip: "Clip", view: "ExportView", output: Path, fps: float, ply: bool, report: "Progress"
) -> dict[str, Any]:
    """Turntable, fixed views and .ply files; paths by kind."""
    from mvtokenflow.base.files import sha256_file
    from mvtokenflow.splat import export
    from mvtokenflow.splat.trainer import FIELD_FILE

    source = {"sha256": sha256_file(output / FIELD_FILE)}
    frames = len(clip) if clip.clock is None else clip.clock.tolist()
    shots = {export.azimuth_name(azimuth): export.fixed_view(azimuth, frames) for azimuth in FIXED_VIEWS}
    shots["turntable"] = export.turntable(max(len(clip), TURNTABLE_FRAMES))
    made: dict[str, Any] = {"views": []}
    for name, plan in shots.items():
        path = export.export_video(
            result.field, plan, view, output / name, fps=fps, source=source, progress=report
        )
        if name == "turntable":
            made[name] = str(path)
        else:
            made["views"].append(str(path))
    if ply:
        export.export_ply(result.field, frames, output / "ply", source=source, progress=report)
        made["ply"] = str(output / "ply")
    return made


def _compare(clip: "Clip", config: "MethodConfig", view: "ExportView", output: Path, fps: float) -> Path:
    """A video of the input, framed as the prior sees it, beside the field's front view."""
    path = output / "comparison.mp4"
    if path.exists():
        return path
    import numpy as np

    from mvtokenflow.base.files import frame_files
    from mvtokenflow.media.video import composite_white, read_rgba, to_uint8, write_video
    from mvtokenflow.multiview.preprocess import square_clip
    from mvtokenflow.splat.export import azimuth_name

    square = config.square
    crop = square.crop_size if square.crop_size == -1 else round(square.crop_size * view.size / square.size)
    given = square_clip(clip, replace(square, size=view.size, crop_size=crop)).front
    front = frame_files(output / azimuth_name(FIXED_VIEWS[0]) / "frames")
    shown = np.stack([composite_white(read_rgba(frame)) for frame in front])
    write_video(path, np.concatenate([to_uint8(given.numpy(), clip.name), shown], axis=2), fps)
    return path


def _note_environment(path: Path, device: str) -> None:
    """Add what this call computes with to the file, unless it is what the last one computed with."""
    from mvtokenflow.base.damaged import read_json
    from mvtokenflow.base.files import write_json
    from mvtokenflow.workdir.provenance import ABSENT, versions

    packages = {name: version for name, version in versions().items() if version != ABSENT}
    here = {
        "mvtokenflow": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": _device_name(device),
        "packages": packages,
    }
    cure = "delete it and run the same command again; only what earlier calls computed with is lost"
    known: list[dict[str, Any]] = read_json(path, list, cure, check=_check_notes) if path.exists() else []
    if known[-1:] != [here]:
        write_json(path, [*known, here])


def _check_notes(notes: list[Any]) -> None:
    if not notes or not all(isinstance(note, dict) for note in notes):
        raise TypeError("it is not a list of objects")


def _device_name(device: str) -> str:
    if device == "cpu":
        return device
    import torch

    return torch.cuda.get_device_name(torch.device(device))


def _tell(result: "Result", clip: "Clip", made: dict[str, Any], as_json: bool) -> None:
    frames, count = len(clip), len(result.field.gaussians)
    seconds = sum(cost.seconds for cost in result.costs)
    if as_json:
        costs = [asdict(cost) for cost in result.costs]
        numbers = {"frames": frames, "gaussians": count, "front_iou": result.front_iou}
        pose = None
        if result.pose is not None:
            pose = {"elevation_deg": result.pose.elevation, "focal_mm": result.pose.focal_mm}
        told = {"pose": pose, "notes": list(clip.notes)}
        print_json({**made, **numbers, **told, "crop": asdict(result.crop), "costs": costs})
        return
    say(f"{frames} frames, {count} Gaussians, {seconds:.0f} s")
    if result.front_iou < FRONT_IOU:
        say(
            f"in the worst frame the generated front view covers the input's object badly (IoU "
            f"{result.front_iou:.2f}), and the input's flow was taken for its own; level views suit priors best"
        )
    if result.pose is not None and result.pose.is_steep:
        say(
            f"the input seems to be seen from {result.pose.elevation:.0f} degrees of elevation; views are made "
            "level, so the front one does not lie over the input; level videos suit priors best"
        )
    for path in (made["page"], made["turntable"]):
        typer.echo(path)
