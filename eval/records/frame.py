"""Measured values of runs as one pandas table, and as a CSV, JSON Lines or Parquet file."""

import csv
import io
import json
import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.escapes import spreadsheet
from mvtokenflow.base.files import atomic_path, choose, write_text
from mvtokenflow.eval.protocols import Protocol
from mvtokenflow.eval.records.rows import load_runs
from mvtokenflow.eval.records.summary import current_rows

COLUMNS = ("dataset", "method", "scene", "seed", "view", "frame", "metric", "value", "signature")
INDEX = "run"
FORMATS = ("csv", "jsonl", "parquet")
_TYPES = {"seed": "int64", "frame": "Int64", "value": "float64"}  # others are text
_ORDER = ["dataset", "method", "scene", "seed", INDEX, "view", "frame", "metric", "signature"]


def load_values(runs: Path, protocol: Protocol | str | None = None) -> pd.DataFrame:
    """Load every current value of all finished runs below `runs`, one per row.

    A value is current if the summary of its run (`metrics-<protocol>.json`) names its key: values of pictures
    that were rendered again, which stay in the logs, are left out. Features of clips (`fvd`) are not values.

    Args:
        runs: the folder given to tables as `--runs`.
        protocol: only values under this protocol, or under the one of this name; None for every protocol that a
            run was scored under.

    Returns:
        Columns `COLUMNS`: dataset, method, scene, view, metric, signature (string), seed (int64), frame (Int64,
        missing for a value of a whole clip), value (float64, may be infinite). The index `run` is the folder of
        the run below `runs`; it distinguishes configurations of one method. Rows are sorted by dataset,
        method, scene, seed, run, view, frame, metric and signature.

    Raises:
        DataError: `runs` is no folder or holds no run that was scored so; a record is damaged.
    """
    if not runs.is_dir():
        raise DataError(f"{runs}: no such folder; name the folder of runs, as `mvtf-eval table1 --runs` does")
    name = protocol.name if isinstance(protocol, Protocol) else protocol
    records = [
        (
            run.folder.relative_to(runs).as_posix(),
            *(run.manifest.dataset, run.manifest.method, run.manifest.scene, run.manifest.seed),
            *(row.view, row.frame, row.metric, row.value, row.signature),
        )
        for run in load_runs(runs)
        for row in current_rows(run, name)
    ]
    if not records:
        under = f" under {name}" if name else ""
        raise DataError(f"{runs}: holds no run that was scored{under}; make a table there first")
    frame = pd.DataFrame.from_records(records, columns=[INDEX, *COLUMNS])
    frame = frame.astype({column: _TYPES.get(column, "string") for column in frame.columns})
    frame = frame.sort_values(_ORDER, kind="stable", na_position="first")
    return frame.set_index(INDEX)


def check_format(form: str) -> None:
    """Raise a ConfigError unless values can be written in this format here."""
    choose("format", form, dict.fromkeys(FORMATS))
    if form == "parquet" and find_spec("pyarrow") is None:
        raise ConfigError("--format parquet needs pyarrow, which is not installed; run `pip install pyarrow`")


def save_values(values: pd.DataFrame, form: str, path: Path) -> None:
    """Write the table of `load_values` to a file, the column `run` last.

    Args:
        form: one of `FORMATS`.

    Raises:
        ConfigError: no such format, or Parquet without pyarrow.
    """
    check_format(form)
    if form != "parquet":
        write_text(path, values_text(values, form))
        return
    with atomic_path(path) as temporary:
        _with_run(values).to_parquet(temporary, engine="pyarrow", index=False)


def values_text(values: pd.DataFrame, form: str) -> str:
    """Serialise the table of `load_values` with the column `run` last; equal tables give equal bytes.

    Args:
        form: "csv" (RFC 4180 with a header, numbers in full precision, `inf` for infinity, an empty cell where
            there is no frame) or "jsonl" (one JSON object a line, "inf" and "-inf" as text, null for no frame).

    Raises:
        ConfigError: another format.
    """
    known = {"csv": _csv, "jsonl": _jsonl}
    return choose("text format", form, known)(_with_run(values))


def _with_run(values: pd.DataFrame) -> pd.DataFrame:
    return values.reset_index()[[*COLUMNS, INDEX]]


def _csv(values: pd.DataFrame) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(values.columns)
    writer.writerows([spreadsheet(cell) for cell in line] for line in _lines(values))
    return stream.getvalue()


def _jsonl(values: pd.DataFrame) -> str:
    names = list(values.columns)
    lines = []
    for line in _lines(values):
        cells = [str(c) if isinstance(c, float) and math.isinf(c) else c for c in line]
        lines.append(json.dumps(dict(zip(names, cells, strict=True)), allow_nan=False))
    return "".join(line + "\n" for line in lines)


def _lines(values: pd.DataFrame) -> Iterator[list[object]]:
    """Convert rows to Python's own numbers and texts; None where there is no frame."""
    columns = [[None if cell is pd.NA else cell for cell in values[name].tolist()] for name in values.columns]
    return (list(line) for line in zip(*columns, strict=True))
