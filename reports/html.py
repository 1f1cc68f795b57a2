"""Tables as HTML; every number opens its provenance tree.

`table_html` is a fragment for a page that also loads `templates/base.css` and `templates/table.js`;
`tables_page` is one self-contained file. Neither loads anything from the network.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from mvtokenflow.eval.tables.table import Cell, Column, Table, TableRow
from mvtokenflow.reports.layout import Notes, lay_out, number

TEMPLATES = Path(__file__).parent / "templates"
_PATH = re.compile(r"([^\s/]+=)?(/.*)")  # of a value: absolute, alone or after "NAME="
_FOLDERS = re.compile(r"""(?<![\w.~…/])/(?:[^\s/:;,'"`()]+/)+(?=[^\s/:;,'"`()])""")  # of paths in a sentence


def environment() -> Environment:
    """Build the Jinja environment: everything is escaped, undefined variables are errors."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals["policy"] = policy
    made.filters["plain"] = plain
    made.filters["branches"] = branches
    made.filters["code_spans"] = code_spans
    made.tests["tree"] = is_tree
    return made


def policy(*scripts: str) -> Markup:
    """Return the <meta> that forbids a page to load anything from elsewhere or to run foreign scripts.

    Args:
        scripts: those inside the page, as they stand there; without them the page loads files beside it.
    """
    hashes = [b64encode(sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes) if scripts else "'self' file:"
    rules = (
        "default-src 'none'",
        f"script-src {allowed}",
        "style-src 'self' file: 'unsafe-inline'",  # of attributes, which hold numbers of ours alone
        "img-src 'self' file: data:",
        "media-src 'self' file:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    content = Markup("; ").join(map(Markup, rules))
    return Markup('<meta http-equiv="Content-Security-Policy" content="{}">').format(content)


def script_json(value: Any) -> Markup:
    """Serialise JSON for a <script> element: without `<`, `>`, `&` and the extra line ends of JavaScript."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def public(value: Any) -> Any:
    """Return a provenance tree without private folders: "/home/me/runs" becomes "…/runs".

    Absolute paths are cut in values, after "NAME=", and within sentences; mappings and lists are copied.
    """
    if isinstance(value, Mapping):
        return {name: public(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [public(item) for item in value]
    if not isinstance(value, str):
        return value
    path = _PATH.fullmatch(value)
    if path and ": " not in value:
        return f"{path[1] or ''}…/{PurePosixPath(path[2]).name}"
    return _FOLDERS.sub("…/", value)


def code_spans(text: str) -> Markup:
    """Format text as HTML, with code between backticks; everything is escaped."""
    parts = str(text).split("`")
    made = [
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    ]
    return Markup("").join(made)


def duration(seconds: float) -> str:
    """Format seconds for people: "8.4 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def is_tree(value: Any) -> bool:
    """Return whether a provenance value can be unfolded; lists of leaves are printed on one line."""
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value)


def plain(value: Any) -> str:
    """Format a leaf of a provenance tree for people; None and empty containers become a word."""
    if value is None:
        return "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list | tuple):
        return " ".join(map(plain, value)) or "none"
    return str(value)


def branches(value: Mapping[str, Any] | Sequence[Any]) -> list[tuple[str, Any]]:
    """Return named children of a provenance tree; those of a list are named by their position."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    return [(str(name), item) for name, item in pairs]


def table_html(table: Table, *, intervals: bool = True, notes: Notes = "full") -> Markup:
    """Build the `<section class="result">` of one table, with notes and the provenance of its cells as JSON.

    Raises:
        DataError: the table is malformed (see `layout.lay_out`).
    """
    table = _public_table(table)
    laid = lay_out(table, intervals=intervals, notes=notes)
    tips = {
        (place, across): _tip(row, column, cell)
        for place, row in enumerate(table.rows)
        for across, (column, cell) in enumerate(zip(table.columns, row.cells, strict=True))
    }
    plain_table = table.to_json()
    details = {
        f"{place}.{across}": {
            "title": f"{row['label']} · {column['title']}",
            "note": tips[place, across],
            "source": row["source"],
            "provenance": cell["provenance"],
        }
        for place, row in enumerate(plain_table["rows"])
        for across, (column, cell) in enumerate(zip(plain_table["columns"], row["cells"], strict=True))
    }
    template = environment().get_template("table.html")
    return Markup(template.render(table=table, laid=laid, tips=tips, details=script_json(details)))


def _public_table(table: Table) -> Table:
    rows = [
        replace(
            row,
            cells=[
                replace(cell, reason=public(cell.reason), provenance=public(cell.provenance))
                for cell in row.cells
            ],
        )
        for row in table.rows
    ]
    return replace(table, rows=rows, footnotes=public(table.footnotes))


def tables_page(tables: Sequence[Table], *, title: str, intervals: bool = True, notes: Notes = "full") -> str:
    """Build one self-contained HTML file with `tables`."""
    return (
        environment()
        .get_template("page.html")
        .render(
            title=title,
            tables=[table_html(table, intervals=intervals, notes=notes) for table in tables],
            style=asset("base.css"),
            script=asset("table.js"),
        )
    )


def asset(name: str) -> Markup:
    """Return a style sheet or script of this package, to be embedded into a page."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _tip(row: TableRow, column: Column, cell: Cell) -> str:
    """Return the tooltip of a cell: the unrounded number, and one line for each thing it depends on."""
    lines = []
    if cell.value is None:
        lines.append(f"No value: {cell.reason}")
    else:
        value = number(cell.value, 0) if cell.value in (float("inf"), float("-inf")) else repr(cell.value)
        lines.append(f"{column.title} {value}")
    if cell.low is not None and cell.high is not None:
        low, high = number(cell.low, column.digits), number(cell.high, column.digits)
        lines.append(f"95 % interval {low} to {high}")
    if cell.want:
        lines.append(f"{cell.have} of {cell.want} runs")
    if row.group == "measured" and cell.rank is not None:
        lines.append(f"rank {cell.rank}" + (", not distinguishable from the best" if cell.tied else ""))
    if row.group == "quoted":
        lines.append("quoted, not measured here" + (f": {row.note}" if row.note else ""))
    signature = (cell.provenance or {}).get("signature")
    if signature:
        lines.append(str(signature))
    return "\n".join(lines)
