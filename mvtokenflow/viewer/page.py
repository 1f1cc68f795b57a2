"""Assembles a viewer's page: one HTML file with its styles, scripts and data, which requests nothing."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import canonical_json, write_text
from mvtokenflow.viewer.packing import Packed

_TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("decode.js", "pose.js", "camera.js", "shaders.js", "colours.js", "renderer.js", "view.js", "page.js")


def write_viewer(
    path: Path,
    methods: Sequence[Packed],
    *,
    title: str,
    turntable: Path | None = None,
    missing: Sequence[tuple[str, str]] = (),
    back: str | None = None,
) -> Path:
    """Write the page atomically, if it would change; arguments and errors as of `viewer_page`."""
    page = viewer_page(methods, title=title, turntable=turntable, missing=missing, back=back)
    if not path.exists() or path.read_bytes() != page.encode():
        write_text(path, page)
    return path


def viewer_page(
    methods: Sequence[Packed],
    *,
    title: str,
    turntable: Path | None = None,
    missing: Sequence[tuple[str, str]] = (),
    back: str | None = None,
) -> str:
    """Build the page of one or several methods.

    Args:
        methods: the first two are shown; labels must be distinct.
        title: heading.
        turntable: MP4 put into the page, which browsers show that cannot draw.
        missing: names of methods that cannot be shown, each with the reason.
        back: relative address that the heading links to.

    Raises:
        DataError: no method, or two of one name.
    """
    labels = [method.label for method in methods]
    if not methods:
        raise DataError("no field to look at; give a field.safetensors or a folder of .ply files")
    if len(set(labels)) < len(labels):
        raise DataError(f"two fields have one name ({', '.join(labels)}); name them, `NAME=FIELD`")
    script = "(() => {\n" + "\n".join(_read(name) for name in SCRIPTS) + "\n})();\n"
    style = _read("viewer.css")
    fields = [
        {"meta": canonical_json(method.header), "data": Markup(b64encode(method.stream).decode())}
        for method in methods
    ]
    jinja = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return jinja.get_template("viewer.html").render(
        title=title,
        policy=_policy(script, style),
        script=Markup(script),
        style=Markup(style),
        fields=fields,
        labels=labels,
        missing=missing,
        back=back,
        film=None if turntable is None else b64encode(turntable.read_bytes()).decode(),
    )


def _policy(script: str, style: str) -> str:
    """Return the content security policy: only this script and this style, and no request at all."""

    def allowed(text: str) -> str:
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    rules = (
        "default-src 'none'",
        f"script-src {allowed(script)}",
        f"style-src {allowed(style)}",
        "img-src data: blob:",
        "media-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join(rules)


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
