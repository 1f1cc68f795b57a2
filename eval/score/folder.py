"""Scores one folder of renderings against one folder of reference pictures, for `mvtf-eval score`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mvtokenflow.base.device import AUTO, resolve_device
from mvtokenflow.base.files import digest_json, write_json
from mvtokenflow.base.progress import Progress
from mvtokenflow.eval.engine.local import default_jobs
from mvtokenflow.eval.protocols import Protocol, protocol_named
from mvtokenflow.eval.records.rows import Row, row_log
from mvtokenflow.eval.records.summary import score_json
from mvtokenflow.eval.score.pairs import plan_folder
from mvtokenflow.eval.score.preflight import ViewPair
from mvtokenflow.eval.score.scoring import Options, score_plan, settings_for

RECORDS = Path("runs") / "score"  # below it records lie by default


@dataclass(frozen=True, kw_only=True)
class FolderScore:
    """The scores of a folder of renderings.

    Attributes:
        protocol: it was scored under.
        folder: of the records; holds the document as `score-<protocol>.json`.
        document: the score JSON (docs/records.md).
        rows: every value that counts.
        pairs: the views that were compared, of all objects.
    """

    protocol: Protocol
    folder: Path
    document: Mapping[str, Any]
    rows: Sequence[Row]
    pairs: Sequence[ViewPair]

    @property
    def average(self) -> Mapping[str, float | None]:
        """Return the mean over the objects that have a value, by metric; None where there is none."""
        values: Mapping[str, float | None] = self.document["average"]
        return values

    @property
    def objects(self) -> Mapping[str, Mapping[str, float | None]]:
        """Return the value by object and metric; None where it is missing or infinite."""
        values: Mapping[str, Mapping[str, float | None]] = self.document["objects"]
        return values

    @property
    def missing(self) -> Mapping[str, str]:
        """Return the reason why a metric has no value, or none for some object, by metric."""
        return {entry["metric"]: entry["reason"] for entry in self.document["missing"]}


def score_folder(
    prediction: Path | str,
    reference: Path | str,
    protocol: Protocol | str = "c4d-fixed-v1",
    *,
    objects: Sequence[str] | None = None,
    record: Path | str | None = None,
    allow_missing: bool = False,
    options: Options | None = None,
    progress: Progress | None = None,
    say: Callable[[str], object] | None = None,
) -> FolderScore:
    """Score renderings in the Consistent4D layout, `<object>/eval_<i>/<n>.png`, against a reference.

    A value that has a record is not computed again.

    Args:
        prediction, reference: folders of this layout; 8-bit RGB on white, the reference may be RGBA.
        protocol: or its name.
        objects: only these; None for all.
        record: folder of the records; None is one below `RECORDS` with the names of both folders in its hash.
        allow_missing: score although objects of the reference are missing.
        options: how to measure; None is a GPU if there is one, and one process per core else.
        progress: called with (stage, done, total).
        say: called with each finding of the pre-flight as a sentence.

    Raises:
        DataError: the pre-flight refuses the folder, or a picture cannot be read.
        ConfigError: no such protocol or object.
        WeightsMissingError, WeightsCorruptError: weights that `options` name, missing or not as pinned.
    """
    prediction, reference = Path(prediction), Path(reference)
    if options is None:
        device = resolve_device(AUTO)
        options = Options(device=device, jobs=default_jobs(device))
    chosen = protocol_named(protocol) if isinstance(protocol, str) else protocol
    settings, missing = settings_for(chosen, options)
    plan = plan_folder(
        prediction, reference, chosen, only=objects, allow_missing=allow_missing, force=options.force
    )
    if say is not None:
        for finding in plan.findings:
            say(f"{finding.severity}: {finding.sentence()}")
    refused = any(finding.severity == "refuse" for finding in plan.findings)
    settings = replace(settings, forced=chosen.strict and refused)
    folder = records_of(prediction, reference) if record is None else Path(record)
    summary = score_plan(plan, settings, missing, folder, options, progress or _silent)
    rows = [row for row in row_log(folder).read() if row.key in summary.keys]
    document = score_json(chosen, rows, summary.missing, plan.absent)
    write_json(folder / f"score-{chosen.name}.json", document)
    pairs = [pair for group in plan.pairs.values() for pair in group]
    return FolderScore(protocol=chosen, folder=folder, document=document, rows=rows, pairs=pairs)


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing; the default reporter."""


def records_of(prediction: Path, reference: Path) -> Path:
    """Return the default folder of the records of two folders."""
    both = digest_json([str(prediction.resolve()), str(reference.resolve())])[:8]
    return RECORDS / f"{prediction.resolve().name}-{both}"
