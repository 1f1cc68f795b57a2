"""`mvtf view`: write fields as one page in which they can be turned while they move."""

from pathlib import Path
from typing import Annotated

import typer

from mvtokenflow.base.options import Json, check_there
from mvtokenflow.base.terminal import print_json, print_message
from mvtokenflow.cli.method.export import FitSize, Fps, rate_of

FIELD_CURE = "give a field.safetensors, or a folder of numbered .ply files"


def view(
    fields: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]FIELD...",
            help="A field.safetensors, or a folder of .ply files, one per frame; the first two are shown.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page, .html; replaced if there.")],
    frames: Annotated[
        int | None,
        typer.Option(
            help="Stored frames: of a field of the method, default 32; of a folder, default all.",
            show_default=False,
        ),
    ] = None,
    fps: Fps = None,
    title: Annotated[str | None, typer.Option(help="Heading; default: the page's name.")] = None,
    turntable: Annotated[
        Path | None,
        typer.Option(help="An MP4 put into the page for browsers that cannot draw.", show_default=False),
    ] = None,
    fit_size: FitSize = None,
    as_json: Json = False,
) -> None:
    """Write one page that opens from the file system and needs no network.

    Example: mvtf view out/corgi/field.safetensors -o corgi.html
    """
    sources = [_named(word) for word in fields]
    for _, path in sources:
        check_there(path, FIELD_CURE)
    check_there(turntable, "give the turntable.mp4 of an `mvtf run` or `mvtf export`")
    from mvtokenflow.base.errors import ConfigError
    from mvtokenflow.viewer.page import write_viewer
    from mvtokenflow.viewer.sources import pack_source

    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{out}: the page is one file; give it a name that ends in .html")
    pixel = None if fit_size is None else 2 / fit_size
    packed = [
        pack_source(path, name, frames=frames, fps=rate_of(path, fps), pixel=pixel) for name, path in sources
    ]
    write_viewer(out, packed, title=title or out.stem, turntable=turntable)
    size = out.stat().st_size
    if as_json:
        methods = [{"name": one.label, "kind": one.header["kind"], "bytes": len(one.stream)} for one in packed]
        print_json({"page": str(out), "bytes": size, "fields": methods})
    else:
        print_message(f"{out}: {len(packed)} field{'s' * (len(packed) > 1)}, {size / 2**20:.2f} MiB")


def _named(word: str) -> tuple[str, Path]:
    """Split NAME=FIELD; without a name it is that of the file's folder."""
    path = Path(word)
    name, equals, rest = word.partition("=")
    if equals and name and not path.exists():
        return name, Path(rest)
    named = path if path.is_dir() or path.suffix == ".ply" else path.resolve().parent
    return named.name or "field", path
