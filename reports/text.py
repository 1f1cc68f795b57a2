"""A table as markdown, csv, LaTeX or JSON. Equal tables give equal bytes."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence

from rich.cells import cell_len

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.escapes import json_for_terminals, spreadsheet
from mvtokenflow.base.escapes import markdown as _md
from mvtokenflow.base.files import choose
from mvtokenflow.base.names import printable
from mvtokenflow.eval.tables.table import Table
from mvtokenflow.reports.layout import (
    DAGGER,
    TIED,
    Notes,
    PrintCell,
    PrintHead,
    PrintRow,
    PrintTable,
    lay_out,
)


def render(table: Table, form: str, *, intervals: bool = False, notes: Notes = "full") -> str:
    """Render `table` as text; `form` is "md", "csv", "latex", "latex-tabular" or "json".

    `intervals` prints confidence intervals beside the numbers of md and latex; csv and json always hold them,
    and whole signatures. `notes` are those of `layout.lay_out`; "latex-tabular" has none.

    Raises:
        ConfigError: unknown form.
        DataError: the table is malformed (see `layout.lay_out`).
    """
    return choose("table format", form, _FORMS)(table, intervals, notes)


def markdown(table: Table, *, intervals: bool = False, notes: Notes = "full") -> str:
    """Render GitHub-flavoured markdown: aligned pipes, `**best**`, `<u>second</u>`, numbered footnotes."""
    laid = lay_out(table, intervals=intervals, notes=notes)
    header = ["Method", *(_md_head(head) for head in laid.heads)]
    lines: list[list[str]] = []
    for group in laid.groups:
        if len(laid.groups) > 1:
            lines.append([f"*{_md(group.title)}*", *([""] * len(laid.heads))])
        lines += [[_md_label(row), *(_md_cell(cell) for cell in row.cells)] for row in group.rows]
    widths = [max(3, *(cell_len(line[place]) for line in [header, *lines])) for place in range(len(header))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    body = [_md_line(line, widths) for line in [header, rule, *lines]]
    numbered = [f"{place}. {_md(note)}" for place, note in enumerate(laid.notes, 1)]
    parts = [f"### {_md(table.title)}", _md(table.caption), "\n".join(body)]
    parts += ["  \n".join(_md(line) for line in laid.legend), "\n".join(numbered)]
    return "\n\n".join(part for part in parts if part) + "\n"


def csv_text(table: Table) -> str:
    """Render RFC 4180 with a header; one line per row, full-precision numbers, `inf` for infinity.

    Each column `k` gives `k`, `k_low`, `k_high`, `k_have`, `k_want`, `k_rank`, `k_tied`, `k_reason`; where
    columns share a key (a metric on two sets of views), `k` is key and title: "lpips (LPIPS novel)".
    """
    lay_out(table, intervals=True)  # the same checks as every other form
    fields = ("", "_low", "_high", "_have", "_want", "_rank", "_tied", "_reason")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    keys = Counter(column.key for column in table.columns)
    names = [c.key if keys[c.key] == 1 else f"{c.key} ({c.title})" for c in table.columns]
    writer.writerow(["method", "group", "source", "note", *(name + end for name in names for end in fields)])
    for row in table.rows:
        line: list[object] = [row.label, row.group, row.source, row.note]
        for cell in row.cells:
            rank = cell.rank if row.group == "measured" else None
            tied = cell.tied if row.group == "measured" else None
            line += [cell.value, cell.low, cell.high, cell.have, cell.want, rank, tied, cell.reason]
        writer.writerow([spreadsheet(item) for item in line])
    return stream.getvalue()


def json_text(table: Table) -> str:
    """Render `Table.to_json()` indented and key-sorted; strict JSON."""
    try:
        text = json.dumps(table.to_json(), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise DataError(f"table {table.name}: holds NaN ({error}); score again") from error
    return json_for_terminals(text) + "\n"


def latex(table: Table, *, intervals: bool = False, notes: Notes = "full") -> str:
    r"""Render a `table` environment with booktabs rules; needs `\usepackage{booktabs}` and nothing else."""
    laid = lay_out(table, intervals=intervals, notes=notes)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{tex(table.title)}{'. ' if table.caption else ''}{tex(table.caption)}}}",
        f"  \\label{{tab:{re.sub(r'[^A-Za-z0-9:-]+', '-', table.name)}}}",
        *(f"  {line}" for line in _tabular(laid)),
        *_tex_notes(laid),
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex_tabular(table: Table, *, intervals: bool = False) -> str:
    r"""Render a bare `tabular` without caption and notes, to be put into a `table` of your own."""
    laid = lay_out(table, intervals=intervals, notes="none")
    return "\n".join(["% needs \\usepackage{booktabs}", *_tabular(laid)]) + "\n"


def _tabular(laid: PrintTable) -> list[str]:
    width = len(laid.heads) + 1
    lines = [
        f"\\begin{{tabular}}{{l{'r' * len(laid.heads)}}}",
        "  \\toprule",
        "  " + " & ".join(["Method", *(_tex_head(head) for head in laid.heads)]) + r" \\",
    ]
    for group in laid.groups:
        lines.append("  \\midrule")
        if len(laid.groups) > 1:
            lines.append(f"  \\multicolumn{{{width}}}{{l}}{{\\emph{{{tex(group.title)}}}}} \\\\")
        lines += [
            "  " + " & ".join([_tex_label(row), *(_tex_cell(cell) for cell in row.cells)]) + r" \\"
            for row in group.rows
        ]
    return [*lines, "  \\bottomrule", "\\end{tabular}"]


_FORMS: dict[str, Callable[[Table, bool, Notes], str]] = {
    "md": lambda table, intervals, notes: markdown(table, intervals=intervals, notes=notes),
    "csv": lambda table, *_: csv_text(table),
    "latex": lambda table, intervals, notes: latex(table, intervals=intervals, notes=notes),
    "latex-tabular": lambda table, intervals, _: latex_tabular(table, intervals=intervals),
    "json": lambda table, *_: json_text(table),
}


def _some(note: int | None) -> list[int]:
    return [] if note is None else [note]


def _md_sup(notes: Sequence[int]) -> str:
    return f"<sup>{','.join(map(str, notes))}</sup>" if notes else ""


def _md_head(head: PrintHead) -> str:
    return _md(head.title) + (f" {head.arrow}" if head.arrow else "") + _md_sup(head.notes)


def _md_label(row: PrintRow) -> str:
    return _md(row.label) + (f" {DAGGER}" if row.quoted else "") + _md_sup(_some(row.note))


def _md_cell(cell: PrintCell) -> str:
    text = f"**{cell.text}**" if cell.best else f"<u>{cell.text}</u>" if cell.second else cell.text
    text += TIED if cell.tied else ""
    text += f" {cell.interval}" if cell.interval else ""
    text += f" ({cell.coverage})" if cell.coverage else ""
    return text + _md_sup(_some(cell.note))


def _md_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0] + " " * (widths[0] - cell_len(cells[0]))
    rest = [" " * (width - cell_len(cell)) + cell for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "| " + " | ".join([first, *rest]) + " |"


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}\allowbreak{}",  # signatures are long and joined by bars
        '"': "''",
        "[": "{[}",  # a row that starts with a bracket would be taken for an option of the row end before it
        "—": "---",
        "–": "--",
        "−": "$-$",
        "×": r"$\times$",
        "·": r"$\cdot$",
        "±": r"$\pm$",
        "°": r"$^\circ$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "≈": r"$\approx$",
        "∞": r"$\infty$",
        "→": r"$\rightarrow$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "†": r"\textsuperscript{\dag}",
        "α": r"$\alpha$",
        "β": r"$\beta$",
        "λ": r"$\lambda$",
        "σ": r"$\sigma$",
        "τ": r"$\tau$",
    }
)


def tex(text: str) -> str:
    """Escape every character special to LaTeX; other unicode is left to the engine (utf8)."""
    return printable(" ".join(text.split())).translate(_TEX)


def _tex_number(text: str) -> str:
    return tex(text.replace("-", "−"))


def _tex_sup(notes: Sequence[int]) -> str:
    return rf"\textsuperscript{{{','.join(map(str, notes))}}}" if notes else ""


def _tex_head(head: PrintHead) -> str:
    return tex(head.title) + (f" {tex(head.arrow)}" if head.arrow else "") + _tex_sup(head.notes)


def _tex_label(row: PrintRow) -> str:
    return tex(row.label) + (tex(DAGGER) if row.quoted else "") + _tex_sup(_some(row.note))


def _tex_cell(cell: PrintCell) -> str:
    if cell.note is not None:
        return tex(cell.text) + _tex_sup([cell.note])
    text = _tex_number(cell.text)
    text = rf"\textbf{{{text}}}" if cell.best else rf"\underline{{{text}}}" if cell.second else text
    text += tex(TIED) if cell.tied else ""
    text += f" {{\\scriptsize {_tex_number(cell.interval)}}}" if cell.interval else ""
    return text + (f" {{\\scriptsize ({cell.coverage})}}" if cell.coverage else "")


def _tex_notes(laid: PrintTable) -> list[str]:
    lines = [tex(line) for line in laid.legend]
    lines += [rf"\textsuperscript{{{place}}}\,{tex(note)}" for place, note in enumerate(laid.notes, 1)]
    if not lines:
        return []
    return [
        "  \\par\\smallskip",
        "  {\\footnotesize\\raggedright",
        *(f"  {line}\\par" for line in lines),
        "  }",
    ]
