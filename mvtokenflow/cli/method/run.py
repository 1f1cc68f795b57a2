"""`mvtf run`: turn a video into a dynamic Gaussian field, with videos of it and a page of all stages."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvtokenflow.base.device import AUTO, resolve_device
from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.base.options import Device, Json, check_there
from mvtokenflow.base.terminal import check_device, chosen_device, print_json, print_message, progress
from mvtokenflow.method import config as method
from mvtokenflow.method.config import MAX_FRAMES, MethodConfig

SEGMENTERS = ("rembg", "sam2")

if TYPE_CHECKING:
    from mvtokenflow.media.segment import Segmentation
    from mvtokenflow.method.asset import Asset
    from mvtokenflow.method.source import SourceVideo

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
        "--set",
        metavar="NAME=VALUE",
        help="Change one setting, e.g. reconstruction.coarse.iterations=500, or generate_every=N, which "
        "generates views for every N-th of the frames and the last.",
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.", show_default=False)]
Segment = Annotated[
    str | None,
    typer.Option(
        "--segment",
        metavar="[rembg|sam2]",
        help="Have a network cut the object out: rembg, if no word follows (`pip install 'rembg[cpu]'`; "
        "fetches IS-Net, 179 MB, code Apache-2.0, weights without a stated licence), or sam2 with --point "
        "or --box (`hf download facebook/sam2.1-hiera-small`, about 184 MB, Apache-2.0).",
        show_default=False,
    ),
]
Points = Annotated[
    list[str] | None,
    typer.Option(
        "--point", metavar="X,Y", help="Pixel of the object in the first frame, for sam2; may be repeated."
    ),
]
Box = Annotated[
    str | None,
    typer.Option(
        "--box",
        metavar="LEFT,TOP,RIGHT,BOTTOM",
        help="Box around the object in the first frame, for sam2.",
        show_default=False,
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        "--background",
        metavar="auto|white|#rrggbb",
        help="Cut the object out of a plain background of this colour; auto takes that of the border, and "
        "is the default for a VIDEO without alpha.",
        show_default=False,
    ),
]
Start = Annotated[
    str,
    typer.Option(
        "--start", metavar="N|Ts", help="First frame of VIDEO to use, from 0, or its time: 48 or 2.5s."
    ),
]
Frames = Annotated[
    int | None, typer.Option("--frames", help=f"Use N frames only, at most {MAX_FRAMES}.", metavar="N")
]
Stride = Annotated[int, typer.Option("--stride", metavar="N", help="Use every N-th frame of VIDEO.")]


def run(
    video: Video,
    out: Out,
    mask: Mask = None,
    segment: Segment = None,
    point: Points = None,
    box: Box = None,
    background: Background = None,
    preset: Annotated[
        str, typer.Option(help="mini or mini-independent (two CPU cores), or paper (GPU).")
    ] = "mini",
    without: Parts = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    start: Start = "0",
    frames: Frames = None,
    stride: Stride = 1,
    whole_frame: Annotated[
        bool, typer.Option("--whole-frame", help="Show the prior whole frames instead of a crop of the object.")
    ] = False,
    size: Annotated[int, typer.Option(help="Width and height of the videos in pixels.")] = 256,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames per second of the results; default: those of VIDEO that are used, or 8 of a folder.",
            show_default=False,
        ),
    ] = None,
    ply: Annotated[bool, typer.Option("--ply/--no-ply", help="One 3DGS .ply file per frame.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Load everything, generate one frame, and write nothing.")
    ] = False,
    device: Device = AUTO,
    as_json: Json = False,
) -> None:
    """Turn a video of one object into a dynamic 3D Gaussian field.

    VIDEO has alpha, or a plain background, or a mask, or is segmented here. Writes OUT/field.safetensors,
    OUT/turntable, four fixed views, OUT/ply, OUT/viewer.html, in which the object can be turned, and a page
    that shows all of it, OUT/index.html, also while it runs. Run it again to go on where it stopped, or with
    another --fps or --size to have the videos written again.

    Example: mvtf run corgi.webm -o out/corgi --frames 32
    """
    check_there(video, "give a video, or a folder of frames <n>.png")
    check_there(None if segment else mask, "give --mask a video, or a folder of <n>.png")
    config = _config(preset, whole_frame, settings or [], without or [])
    check_device(device)
    from mvtokenflow.method.asset import make_asset
    from mvtokenflow.method.source import read_source
    from mvtokenflow.reports.run_page import write_page
    from mvtokenflow.splat.export import ExportView

    segmenter = segmentation_of(segment, point or [], box, device)
    if dry_run:
        given = read_source(
            video, mask, segmenter, background=background, start=start, frames=frames, stride=stride
        )
        _try_out(given, config, seed, device, as_json)
        return
    with progress() as bars:
        asset = make_asset(
            video,
            out,
            config,
            masks=mask,
            segmenter=segmenter,
            background=background,
            start=start,
            frames=frames,
            stride=stride,
            view=ExportView(size=size),
            fps=fps,
            ply=ply,
            seed=seed,
            device=device,
            page=write_page,
            progress=bars,
            say=print_message,
        )
    _print(asset, as_json)


def segmentation_of(
    word: str | None, points: Sequence[str], box: str | None, device: str
) -> "Segmentation | None":
    """Return what --segment names, with the places of --point and --box."""
    from mvtokenflow.media import sam2
    from mvtokenflow.media.segment import REMBG

    if word not in (None, *SEGMENTERS):
        raise ConfigError(f"--segment is '{word}'; choose {' or '.join(SEGMENTERS)}")
    if word != "sam2":
        if points or box is not None:
            raise ConfigError("--point and --box belong to --segment sam2; give that as well")
        return None if word is None else REMBG
    places = [sam2.numbers("--point", point, 2) for point in points]
    sides = None
    if box is not None:
        left, top, right, bottom = sam2.numbers("--box", box, 4)
        sides = (left, top, right, bottom)
    prompt = sam2.Prompt(points=tuple((x, y) for x, y in places), box=sides)
    return sam2.sam2(prompt, resolve_device(device))


def _config(preset: str, whole_frame: bool, settings: Sequence[str], without: Sequence[str]) -> MethodConfig:
    config = method.preset(preset)
    known = dict.fromkeys([*config.to_dict(), *method.SETTING_NAMES])
    for name, equals, _ in (assignment.partition("=") for assignment in settings):
        if equals:
            choose("setting", name.split(".")[0].strip(), known)
    if whole_frame:
        config = replace(config, square=replace(config.square, crop_size=-1))
    return method.without(method.overridden(config, settings), *without)


def _try_out(given: "SourceVideo", config: MethodConfig, seed: int, device: str, as_json: bool) -> None:
    """Run --dry-run and print what it found."""
    from mvtokenflow.method.dry_run import dry_run

    with progress() as bars:
        found = dry_run(given, config, seed=seed, device=chosen_device(device), progress=bars)
    if as_json:
        print_json(asdict(found))
        return
    for note in found.notes:
        print_message(f"note: {note}")
    print_message(
        f"everything is here: loaded in {found.load_seconds:.0f} s, the object cut out by {found.cut_out_by}; "
        f"one frame of all views took {found.frame_seconds:.1f} s"
    )
    print_message(
        f"{found.passes} x {found.frames} frames take {found.sampling_seconds / 60:.1f} min or more, and the "
        "fits come on top; nothing was written"
    )


def _print(asset: "Asset", as_json: bool) -> None:
    result, count = asset.result, len(asset.result.field.gaussians)
    if as_json:
        pose = result.pose
        paths = {
            "views": [str(path) for path in asset.views],
            "turntable": str(asset.turntable),
            **({} if asset.ply is None else {"ply": str(asset.ply)}),
            "comparison": str(asset.comparison),
            "viewer": str(asset.viewer),
            "field": str(asset.field),
            "page": str(asset.page),
        }
        numbers = {
            "frames": asset.frames,
            "fps": asset.fps,
            "gaussians": count,
            "front_iou": result.front_iou,
            "pose": None if pose is None else {"elevation_deg": pose.elevation, "focal_mm": pose.focal_mm},
            "notes": list(asset.notes),
            "crop": asdict(result.crop),
            "costs": [asdict(cost) for cost in result.costs],
        }
        print_json(paths | numbers)
        return
    seconds = sum(cost.seconds for cost in result.costs)
    print_message(f"{asset.frames} frames, {count} Gaussians, {seconds:.0f} s")
    for sentence in asset.warnings():
        print_message(sentence)
    for path in (asset.page, asset.turntable):
        typer.echo(path)
