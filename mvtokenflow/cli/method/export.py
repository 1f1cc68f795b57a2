"""`mvtf export`: write a trained field as videos, pictures and .ply files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mvtokenflow.base.device import AUTO
from mvtokenflow.base.options import Device, Json, check_there
from mvtokenflow.base.terminal import chosen_device, print_json, print_message, progress

if TYPE_CHECKING:
    from mvtokenflow.splat.formats import Axes
    from mvtokenflow.splat.timed import TimedField
    from mvtokenflow.views.cameras import CameraKind

FIELD_CURE = "give the field.safetensors of an `mvtf run` or `mvtf reconstruct`"
FieldFile = Annotated[
    Path, typer.Argument(metavar="FIELD", help="A field.safetensors of a run.", show_default=False)
]
FitSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Side in pixels of the pictures the field was fitted to; only for files that do not state it, "
        "written before version 2 of the format.",
        show_default=False,
    ),
]
RATE = 8.0  # frames per second of clips that state none
Fps = Annotated[
    float | None,
    typer.Option(
        help="Frames per second; default: those of the clip, where the field states them, else 8.",
        show_default=False,
    ),
]
Size = Annotated[int, typer.Option(help="Width and height in pixels.")]
Elevation = Annotated[float, typer.Option(help="Degrees above the horizon, within -90 and 90.")]
Camera = Annotated[str, typer.Option(help="ortho (world -1 to 1 fills the picture) or pinhole.")]
Opaque = Annotated[bool, typer.Option("--opaque", help="PNGs as RGB on white instead of RGBA.")]


def open_field(path: Path, device: str, fit_size: int | None = None) -> "tuple[TimedField, dict[str, Any]]":
    """Load a field, of the method or of a rival, and return it with what identifies it in an output folder.

    Args:
        fit_size: of an old file, the side of the pictures it was fitted to, which spanned the world's -1 to 1.

    Raises:
        ConfigError: the file states another size.
        DataError: no such file, a damaged one, or no field.
    """
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.base.files import sha256_file
    from mvtokenflow.distill.stored import load_stored_field, stored_kind
    from mvtokenflow.splat.io import load_field

    device = chosen_device(device)
    pixel = None if fit_size is None else 2 / fit_size
    if (kind := stored_kind(path)) is not None:
        if pixel is not None:
            raise ConfigError(f"{path}: a field of {kind}, which states its size of fit; leave out --fit-size")
        return load_stored_field(path, device), {"sha256": sha256_file(path)}
    field = load_field(path, device, pixel=pixel)
    if pixel is not None and field.pixel != pixel:
        stated = "none" if field.pixel is None else f"{2 / field.pixel:g}"
        raise ConfigError(f"{path}: states its size of fit, {stated}; leave out --fit-size {fit_size}")
    source: dict[str, Any] = {"sha256": sha256_file(path)}  # by content: a moved file is the same
    return field, source if pixel is None else source | {"pixel": pixel}


def rate_of(field_file: Path, fps: float | None) -> float:
    """Return `fps` or, if it is None, the frames per second that a field's file states, or `RATE`."""
    from mvtokenflow.splat.io import field_rate

    if fps is not None:
        return fps
    stated = field_rate(field_file) if field_file.suffix == ".safetensors" else None
    return RATE if stated is None else stated


def export(
    field_file: FieldFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.", show_default=False)],
    turntable: Annotated[
        bool, typer.Option("--turntable", help="A video that goes round once while time runs.")
    ] = False,
    fixed: Annotated[
        list[float] | None,
        typer.Option(metavar="AZIMUTH", help="A video from this azimuth in degrees; may be repeated."),
    ] = None,
    ply: Annotated[bool, typer.Option("--ply", help="One 3DGS .ply file per frame.")] = False,
    splat: Annotated[bool, typer.Option("--splat", help="One .splat file per frame.")] = False,
    spz: Annotated[
        bool, typer.Option("--spz", help="One .spz file per frame; needs `pip install 'mvtokenflow[formats]'`.")
    ] = False,
    glb: Annotated[bool, typer.Option("--glb", help="One glTF file of Gaussians per frame.")] = False,
    mesh: Annotated[
        bool, typer.Option("--mesh", help="A triangle mesh per frame, and one glTF file in which they play.")
    ] = False,
    cells: Annotated[
        int | None,
        typer.Option(
            help="Of --mesh: cells of its volume along each side; default: as large as the pixels of the fit.",
            show_default=False,
        ),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            help="Axes of those files: project (Z up), viewer (y down, z forward) or gltf (Y up); "
            "default: project for .ply, viewer for .splat, gltf for the others.",
            show_default=False,
        ),
    ] = None,
    moment: Annotated[
        float | None,
        typer.Option(help="Those files of one time only, 0 to 1, in OUT/<format>_<T>.", show_default=False),
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames, from the first to the last moment.")] = 32,
    fps: Fps = None,
    size: Size = 512,
    elevation: Elevation = 0.0,
    camera: Camera = "ortho",
    fit_size: FitSize = None,
    opaque: Opaque = False,
    device: Device = AUTO,
    as_json: Json = False,
) -> None:
    """Export a field: OUT/turntable, OUT/azimuth_<a> (frames and MP4), OUT/ply and other formats.

    Run it again to go on after an interruption, or to add another kind; what is there is kept.

    Example: mvtf export out/corgi/field.safetensors -o out/corgi/export --turntable --fixed 75 --ply
    """
    check_there(field_file, FIELD_CURE)
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.splat import export as room
    from mvtokenflow.splat.formats import AXES, FORMATS, splat_loss
    from mvtokenflow.splat.mesh_files import export_meshes
    from mvtokenflow.splat.timed import MovingGaussians
    from mvtokenflow.workdir.lock import working_in

    view = room.ExportView(size=size, elevation_deg=elevation, kind=cast("CameraKind", camera))
    angles = dict.fromkeys(fixed or [])  # each once
    shots = {room.azimuth_name(angle): room.fixed_view(angle, frames) for angle in angles}
    if turntable:
        shots["turntable"] = room.turntable(frames)
    if shots:
        room.check_video(view, RATE if fps is None else fps)
    kinds = [kind for kind, asked in zip(FORMATS, (ply, splat, spz, glb), strict=True) if asked]
    if not shots and not kinds and not mesh:
        raise ConfigError(
            "nothing to export: give --turntable, --fixed AZIMUTH, --ply, --splat, --spz, --glb or --mesh"
        )
    if (axes is not None or moment is not None) and not kinds and not mesh:
        raise ConfigError(
            "--axes and --moment belong to --ply, --splat, --spz, --glb and --mesh; give one of these"
        )
    if cells is not None and not mesh:
        raise ConfigError("--cells belongs to --mesh; give that too")
    if moment is not None and not 0 <= moment <= 1:
        raise ConfigError(f"--moment {moment}: choose 0 (first frame) to 1 (last frame)")
    if axes is not None and axes not in AXES:
        raise ConfigError(f"--axes {axes}: choose {', '.join(AXES)}")
    field, source = open_field(field_file, device, fit_size)
    if (kinds or mesh) and not isinstance(field, MovingGaussians):
        unfit = kinds[0] if kinds else "mesh"
        raise ConfigError(f"{field_file}: a radiance field, which has no Gaussians; leave out --{unfit}")
    rate = rate_of(field_file, fps)
    made: list[dict[str, Any]] = []
    with working_in(out), progress() as report:
        for name, plan in shots.items():
            video = room.export_video(
                field,
                plan,
                view,
                out / name,
                fps=rate,
                source=source,
                opaque=opaque,
                progress=report,
            )
            frame_folder = str(out / name / "frames")
            made.append({"kind": name, "path": str(video), "frames": len(plan), "pictures": frame_folder})
        times: int | list[float] = frames if moment is None else [moment]
        for kind in kinds:
            folder = out / (kind if moment is None else f"{kind}_{moment:g}")
            turn = cast("Axes | None", axes)
            assert isinstance(field, MovingGaussians)
            paths = room.export_gaussians(field, times, folder, kind, axes=turn, source=source, progress=report)
            made.append({"kind": kind, "path": str(folder), "frames": len(paths)})
            lost = splat_loss(field.at(moment or 0.0)) if kind == "splat" else None
            if lost is not None:
                made[-1]["note"] = lost
        if mesh:
            folder = out / ("mesh" if moment is None else f"mesh_{moment:g}")
            assert isinstance(field, MovingGaussians)
            paths = export_meshes(
                field,
                times,
                folder,
                fps=rate,
                source=source,
                axes=cast("Axes", axes or "gltf"),
                cells=cells,
                progress=report,
            )
            count = len(paths) if moment is not None else frames
            made.append({"kind": "mesh", "path": str(paths[-1] if count > 1 else folder), "frames": count})
    if as_json:
        print_json({"field": source, "outputs": made})
        return
    for entry in made:
        if "note" in entry:
            print_message(f"note: {entry['note']}")
        print_message(f"{entry['path']}: {entry['frames']} frames")
