"""`mvtf render`: render pictures of a trained field from any side at any time."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mvtokenflow.base.device import AUTO
from mvtokenflow.base.options import Device, Json, check_there
from mvtokenflow.base.terminal import print_json, print_message, progress
from mvtokenflow.cli.method.export import (
    FIELD_CURE,
    Camera,
    Elevation,
    FieldFile,
    FitSize,
    Opaque,
    Size,
    open_field,
)

if TYPE_CHECKING:
    from mvtokenflow.media.pictures import Pixels
    from mvtokenflow.views.cameras import CameraKind


def render(
    field_file: FieldFile,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="A .png for one picture, else a folder.", show_default=False)
    ],
    azimuth: Annotated[
        list[float] | None, typer.Option(help="Degrees; 0 is the front. May be repeated.  [default: 0]")
    ] = None,
    time: Annotated[
        list[float] | None, typer.Option(help="0 (first) to 1 (last frame). May be repeated.  [default: 0]")
    ] = None,
    size: Size = 512,
    elevation: Elevation = 0.0,
    camera: Camera = "ortho",
    fit_size: FitSize = None,
    opaque: Opaque = False,
    device: Device = AUTO,
    as_json: Json = False,
) -> None:
    """Render one picture, or into a folder every azimuth (azimuth_<a>/) at every time (<n>.png).

    Example: mvtf render out/corgi/field.safetensors --azimuth 75 --time 0.5 -o corgi.png
    """
    check_there(field_file, FIELD_CURE)
    from dataclasses import asdict

    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.splat import export as room
    from mvtokenflow.workdir.folder import claim
    from mvtokenflow.workdir.lock import working_in

    view = room.ExportView(size=size, elevation_deg=elevation, kind=cast("CameraKind", camera))
    angles, moments = list(dict.fromkeys(azimuth or [0.0])), time or [0.0]
    plan = {angle: [room.Shot(angle, moment) for moment in moments] for angle in angles}
    single = out.suffix.lower() == ".png"
    if single and len(angles) * len(moments) > 1:
        raise ConfigError(f"{out}: {len(angles) * len(moments)} pictures do not fit into one; give a folder")
    field, source = open_field(field_file, device, fit_size)
    paths: list[Path] = []
    if single:
        _keep_or_write(out, room.picture(field, plan[angles[0]][0], view, opaque=opaque))
        paths.append(out)
    else:
        # Azimuths may be added later, each has its folder; times may not, they number the pictures.
        settings: dict[str, Any] = {"field": source, "view": asdict(view), "times": moments, "opaque": opaque}
        with working_in(out), progress() as report:
            claim(out, settings)
            for angle, shots in plan.items():
                name = room.azimuth_name(angle)
                paths += room.write_frames(
                    field, shots, view, out / name, opaque=opaque, label=name, progress=report
                )
    if as_json:
        print_json({"field": source, "pictures": [str(path) for path in paths]})
    else:
        print_message(f"{out}: {len(paths)} picture{'s' * (len(paths) > 1)}")


def _keep_or_write(path: Path, picture: "Pixels") -> None:
    """Write a picture; keep an equal file that exists, and raise a ConfigError for a different one."""
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.media.pictures import read_png, write_png

    if not path.exists():
        write_png(path, picture)
        return
    found = read_png(path, ("8-bit RGBA", "8-bit RGB"))
    if found.shape != picture.shape or (found != picture).any():
        raise ConfigError(f"{path}: another picture is there; give another name or delete it")
