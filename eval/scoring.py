"""Scoring a folder of renderings, and scoring runs: from files to records and summaries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvtokenflow.errors import UserError, WeightsMissingError
from mvtokenflow.eval import weights as ledger
from mvtokenflow.eval.pedigree import pedigree
from mvtokenflow.eval.preflight import Plan, plan_run, refuse_if_strict
from mvtokenflow.eval.protocols import Protocol
from mvtokenflow.eval.records import Run, feature_log, row_log
from mvtokenflow.eval.score import Settings, Unit, units_of
from mvtokenflow.eval.summary import Missing, Summary, scored, why_missing
from mvtokenflow.eval.workers import measure

Step = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to measure, whatever is measured.

    Attributes:
        device: torch device.
        jobs: worker processes.
        weights: explicit files or folders by name in the ledger.
        force: score in spite of what a strict pre-flight refuses; it is recorded.
    """

    device: str = "cpu"
    jobs: int = 1
    weights: Mapping[str, Path] = field(default_factory=dict)
    force: bool = False


def settings_for(protocol: Protocol, options: Options) -> tuple[Settings, list[Missing]]:
    """The metrics of `protocol` that this machine has the weights for, and the others with their reasons.

    Raises:
        WeightsCorruptError: weights are there but are not the pinned ones.
        WeightsMissingError: explicitly named weights are not there.
    """
    paths: dict[str, Path] = {}
    shas: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for name in dict.fromkeys(spec.weights for spec in protocol.metrics if spec.weights):
        try:
            paths[name] = ledger.resolve(name, options.weights.get(name))
            shas[name] = ledger.fingerprint(name, options.weights.get(name))
        except WeightsMissingError as error:
            if name in options.weights:
                raise
            reasons[name] = str(error)
    usable = tuple(s for s in protocol.metrics if s.weights is None or s.weights in shas)
    missing = [
        Missing(metric=s.key, reason=reasons[s.weights]) for s in protocol.metrics if s.weights in reasons
    ]
    settings = Settings(protocol=protocol, specs=usable, weights=paths, weights_sha=shas, device=options.device)
    return settings, missing


def score_plan(
    plan: Plan, settings: Settings, missing: Sequence[Missing], folder: Path, options: Options, step: Step
) -> Summary:
    """Measure a paired prediction folder into `folder` and write its summary."""
    label = str(folder)
    units = [unit for name, pairs in plan.pairs.items() for unit in units_of(name, {label: pairs}, settings)]
    wanted = measure(units, settings, jobs=options.jobs, step=step)
    return _summarise(folder, wanted.get(label, set()), settings, missing, plan)


def _summarise(
    folder: Path, keys: set[str], settings: Settings, missing: Sequence[Missing], plan: Plan
) -> Summary:
    rows = [row for row in row_log(folder).read() if row.key in keys]
    features = [row for row in feature_log(folder).read() if row.key in keys]
    found = [(spec, why_missing(spec, rows, features)) for spec in settings.specs]
    summary = Summary(
        protocol=settings.protocol.name,
        keys=frozenset(keys),
        missing=[*missing, *(Missing(metric=spec.key, reason=why) for spec, why in found if why)],
        findings=plan.to_json()["findings"],
        pedigree=pedigree(settings.device, settings.weights_sha),
    )
    summary.save(folder, rows, settings.protocol)
    return summary


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A run that could not be scored, and why."""

    run: Run
    reason: str


def score_runs(
    runs: Sequence[Run], settings: Settings, missing: Sequence[Missing], options: Options, step: Step
) -> list[Refused]:
    """Score runs under one protocol, all methods of a scene together so that they share its reference.

    Known-answer rows are scored whatever the pre-flight says: they are wrong on purpose.

    Returns:
        The runs the pre-flight refused; the others have their summaries.
    """
    plans: dict[str, Plan] = {}
    refused = []
    for run in runs:
        try:
            plan = plan_run(
                run.folder / "pred", run.manifest.scene, Path(run.manifest.reference_root), settings.protocol
            )
            refuse_if_strict(plan.findings, settings.protocol, options.force or run.manifest.source == "oracle")
            plans[str(run.folder)] = plan
        except UserError as error:
            refused.append(Refused(run=run, reason=str(error)))
    units: list[Unit] = []
    accepted = [run for run in runs if str(run.folder) in plans]
    for scene in dict.fromkeys(run.manifest.scene for run in accepted):
        root = next(Path(r.manifest.reference_root) for r in accepted if r.manifest.scene == scene)
        pairs = {
            str(r.folder): plans[str(r.folder)].pairs[scene] for r in accepted if r.manifest.scene == scene
        }
        truth = root / "truth"
        units += units_of(scene, pairs, settings, truth if truth.is_dir() else None)
    wanted = measure(units, settings, jobs=options.jobs, step=step)
    for run in accepted:
        label = str(run.folder)
        _summarise(run.folder, wanted.get(label, set()), settings, missing, plans[label])
    return refused


def is_scored(run: Run, settings: Settings, missing: Sequence[Missing]) -> bool:
    """Whether a run already has everything these settings would measure."""
    summary = Summary.load(run.folder, settings.protocol.name)
    if summary is None:
        return False
    weights: Any = summary.pedigree.get("weights")
    return bool(weights == dict(settings.weights_sha)) and scored(run, settings.protocol.name) is not None
