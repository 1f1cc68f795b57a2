"""Records of runs: manifests, measured values and clip features, with the layout of run folders.

A run folder is `runs/<dataset>/<method>/<scene>/seed<k>-<confighash>/`:

* `manifest.json`  config, code, packages, device and times of the run; written once the renderings are complete
* `pred/<view>/<n>.png`  the renderings, and `pred/<view>.<normal|flow>.npz` where the method provides them
* `rows.jsonl`  the long named table, one measured value per line, appended and fsynced as it is computed
* `features.jsonl`  features of clips, for metrics that exist only for sets of clips

Tables and pages are pure functions of these files.
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Generic, NamedTuple, Protocol, TypeVar

from mvtokenflow.base.damaged import bounded_bytes, damage, parse_json
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import naming, write_json
from mvtokenflow.base.names import brief
from mvtokenflow.base.partial import locked
from mvtokenflow.eval.records import checks as record_checks
from mvtokenflow.workdir.artefacts import Artefact

SCHEMA_VERSION = 1
MAX_FRAMES = record_checks.MAX_FRAMES
MAX_LINE_BYTES = 2**24  # lines of features are the longest: some ten thousands


def _fields(line: str) -> dict[str, Any]:
    fields: dict[str, Any] = parse_json(line)
    version = fields.pop("schema", None)
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ValueError(f"schema {brief(repr(version))}, this version reads {SCHEMA_VERSION}")
    return fields


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured value.

    Attributes:
        key: sha256 over everything the value depends on (prediction and reference digests, metric
            signature, weights, metric code version); an equal key is never computed again.
        object, view: names; view is "*" for a value over all views.
        frame: number of the frame, as in its file's name; None for a value over a clip.
        metric: key of the metric, e.g. "lpips".
        value: the number; may be infinite (PSNR of equal pictures), never NaN.
        signature: the metric under its protocol, printed with every number derived from it.
    """

    key: str
    object: str
    view: str
    frame: int | None
    metric: str
    value: float
    signature: str

    def __post_init__(self) -> None:
        if math.isnan(self.value):
            raise DataError(
                f"{self.object}/{self.view}"
                + ("" if self.frame is None else f"/{self.frame}")
                + f": {self.metric} is NaN; the pictures hold values the metric is not defined on"
            )

    def to_json(self) -> str:
        """Serialise to one line of strict JSON; infinities become the strings "inf" and "-inf"."""
        fields = {"schema": SCHEMA_VERSION, **asdict(self)}
        if math.isinf(self.value):
            fields["value"] = "inf" if self.value > 0 else "-inf"
        return json.dumps(fields, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> "Row":
        fields = _fields(line)
        record_checks.row(fields)
        return cls(**{**fields, "value": float(fields["value"])})


@dataclass(frozen=True, kw_only=True)
class FeatureRow:
    """Features of one clip, for metrics that exist only for sets of clips.

    Attributes:
        key: as in `Row`.
        object, view: names.
        clip: index of the clip within the view.
        metric, signature: as in `Row`.
        pred, reference: feature vectors of the rendering and of the reference.
    """

    key: str
    object: str
    view: str
    clip: int
    metric: str
    signature: str
    pred: Sequence[float]
    reference: Sequence[float]

    def to_json(self) -> str:
        """Serialise to one line of strict JSON."""
        return json.dumps({"schema": SCHEMA_VERSION, **asdict(self)}, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> "FeatureRow":
        fields = _fields(line)
        record_checks.features(fields)
        return cls(**fields)


class _Record(Protocol):
    @property
    def key(self) -> str: ...

    def to_json(self) -> str: ...


R = TypeVar("R", bound=_Record)


class Log(Generic[R]):
    """An append-only file of records, one JSON line each, with one writer at a time.

    A last line without its line end is torn (kill −9) or still being written. Reading ignores it; the next
    writer removes it.
    """

    def __init__(self, path: Path, parse: Callable[[str], R]) -> None:
        self.path = path
        self._parse = parse

    def read(self) -> list[R]:
        """Read all complete records in the order written; the file is not changed."""
        if not self.path.is_file():  # a device has no end
            return []
        records = []
        for number, line in enumerate(self._lines(), 1):
            place = Path(f"{self.path}:{number}")
            with damage(place, "not a record", "move the file away and score again"):
                records.append(self._parse(line.decode()))
        return records

    def _lines(self) -> Iterator[bytes]:
        """Yield complete lines, of at most `MAX_LINE_BYTES` each: a file may be larger than memory."""
        with self.path.open("rb") as stream:
            number = 0
            while (line := stream.readline(MAX_LINE_BYTES)).endswith(b"\n"):
                number += 1
                yield line[:-1]
            if len(line) == MAX_LINE_BYTES:
                raise DataError(
                    f"{self.path}:{number + 1}: not a record (a line of more than {MAX_LINE_BYTES} bytes); "
                    "move the file away and score again"
                )

    def append(self, records: Sequence[R]) -> None:
        """Append complete lines and fsync before returning; a torn last line of an earlier writer is removed.

        One process writes at a time. Records that another process has written since this one last looked are
        not written again.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self.path), self.path.open("a+b") as stream, locked(stream.fileno()):
            size = stream.seek(0, os.SEEK_END)
            seen, known = _SEEN.get(self.path, (0, set()))
            if size != seen:  # another process has written, or this one has not yet
                _mend(stream, size)
                known = {record.key for record in self.read()}
            fresh = [record for record in records if record.key not in known]
            stream.write("".join(record.to_json() + "\n" for record in fresh).encode())
            stream.flush()
            os.fsync(stream.fileno())
            known.update(record.key for record in fresh)
            _SEEN[self.path] = stream.tell(), known


# By log: its size when this process last wrote to it, and the keys in it.
_SEEN: dict[Path, tuple[int, set[str]]] = {}


def _mend(stream: IO[bytes], size: int) -> None:
    """Remove a last line without its line end."""
    stream.seek(max(size - 1, 0))  # nearly always complete: then nothing else is read
    if stream.read() not in (b"", b"\n"):
        stream.seek(0)
        stream.truncate(_whole(stream.read()))


def _whole(data: bytes) -> int:
    """Return the number of bytes up to the end of the last complete line."""
    return data.rfind(b"\n") + 1


def row_log(folder: Path) -> Log[Row]:
    """Open the log of measured values of the run in `folder`."""
    return Log(folder / "rows.jsonl", Row.from_json)


def feature_log(folder: Path) -> Log[FeatureRow]:
    """Open the log of clip features of the run in `folder`."""
    return Log(folder / "features.jsonl", FeatureRow.from_json)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Cost of one stage of a run: wall seconds and peak resident (or device) memory in MiB."""

    name: str
    wall_s: float
    peak_mib: float


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Configuration and provenance of a run.

    Attributes:
        pedigree: code version, commit, packages, device, weights' hashes, command.
        scene_digest: digest of the pictures and views it was rendered from and is scored against; None in
            manifests of earlier versions, which lack it.
        assumed: see `Scene.assumed`.
        artefacts: what the method left behind to be looked at; none in manifests of earlier versions.
        variant_of: name of the whole method, of an ablation; None for others.
    """

    dataset: str
    method: str
    source: str
    uses_truth: bool
    scene: str
    tags: Sequence[str]
    seed: int
    config: Mapping[str, Any]
    config_hash: str
    reference_root: str
    views: Sequence[Mapping[str, Any]]  # {"name", "azimuth_deg", "elevation_deg"}
    frames: int
    prediction_digest: str
    pedigree: Mapping[str, Any]
    stages: Sequence[Stage] = field(default_factory=tuple)
    scene_digest: str | None = None
    assumed: Sequence[str] = ()
    artefacts: Sequence[Artefact] = ()
    variant_of: str | None = None

    def save(self, path: Path) -> None:
        write_json(path, {"schema": SCHEMA_VERSION, **asdict(self)})

    @classmethod
    def load(cls, path: Path, *, count_frames: bool = True) -> "Manifest":
        """Read a manifest.

        Args:
            count_frames: compare its number of frames with the pictures beside it.

        Raises:
            DataError: damaged, or of another version.
        """
        with damage(path, "not a manifest", "delete the run folder and run again"):
            fields = _fields(bounded_bytes(path).decode())
            record_checks.manifest(fields)
            if count_frames:
                _check_frames(path.parent / "pred", fields)
            stages = tuple(Stage(**stage) for stage in fields.get("stages", ()))
            artefacts = tuple(Artefact.from_json(one) for one in fields.get("artefacts", ()))
            assumed = tuple(fields.get("assumed", ()))
            return cls(**{**fields, "stages": stages, "assumed": assumed, "artefacts": artefacts})


class ViewMean(NamedTuple):
    """The rows of one metric on one view of one object, averaged.

    Attributes:
        value: mean over its frames; None where there is none, between infinities of both signs.
        frames: their number.
        signatures: of the rows.
    """

    value: float | None
    frames: int
    signatures: frozenset[str]


Means = Mapping[str, Mapping[str, Mapping[str, ViewMean]]]  # by metric, object and view


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run folder: renderings, measured values, and reasons for missing values.

    Attributes:
        means: of the rows; a run that has them may come without its rows.
    """

    folder: Path
    manifest: Manifest
    rows: Sequence[Row]
    features: Sequence[FeatureRow] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    measured_by: Mapping[str, Any] = field(default_factory=dict)
    means: Means | None = None


def _check_frames(pred: Path, fields: Mapping[str, Any]) -> None:
    """Check a manifest's number of frames against its pictures, if it has any; raise a ValueError.

    Pictures missing in between are reported where they are needed.
    """
    stated, count, span = fields.get("frames", 0), 0, 0
    for view in fields.get("views", ()):
        numbers = [int(found[1]) for name in _names(pred / view["name"]) if (found := _PICTURE.match(name))]
        if numbers:
            count = max(count, len(numbers))
            span = max(span, max(numbers) - min(numbers) + 1)
    if count and not count <= stated <= span:
        raise ValueError(f"'frames' is {stated}, but the fullest view of pred/ holds {count}")


_PICTURE = re.compile(r"(\d{1,18})\.png\Z", re.ASCII)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def run_folder(root: Path, dataset: str, method: str, scene: str, seed: int, config_hash: str) -> Path:
    """Return the folder of a run; a changed config has another folder."""
    return root / dataset / method / scene / f"seed{seed}-{config_hash[:10]}"


def load_run(folder: Path) -> Run:
    """Load a finished run folder with all its records."""
    return Run(
        folder=folder,
        manifest=Manifest.load(folder / "manifest.json"),
        rows=row_log(folder).read(),
        features=feature_log(folder).read(),
    )


def load_runs(root: Path) -> Iterator[Run]:
    """Yield every finished run below `root`, sorted by path; unfinished folders (no manifest) are skipped."""
    for manifest in sorted(root.glob("*/*/*/seed*/manifest.json")):
        yield load_run(manifest.parent)
