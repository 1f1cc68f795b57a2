"""Scoring a folder of renderings, and scoring runs: from files to records and summaries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mvtokenflow.errors import UserError, WeightsMissingError
from mvtokenflow.eval import weights as ledger
from mvtokenflow.eval.pedigree import pedigree
from mvtokenflow.eval.preflight import Plan, plan_run, refuse_if_strict
from mvtokenflow.eval.protocols import MetricSpec, Protocol
from mvtokenflow.eval.records import Run, feature_log, row_log
from mvtokenflow.eval.score import Settings, Unit, units_of
from mvtokenflow.eval.summary import Missing, Summary, why_missing
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
        threads: of each process that renders. Training amplifies their rounding into other results.
    """

    device: str = "cpu"
    jobs: int = 1
    weights: Mapping[str, Path] = field(default_factory=dict)
    force: bool = False
    threads: int = 1


def settings_for(
    protocol: Protocol, options: Options, specs: Sequence[MetricSpec] | None = None
) -> tuple[Settings, list[Missing]]:
    """The metrics of `protocol` that this machine has the weights for, and the others with their reasons.

    Args:
        specs: only these of its metrics; None for all.

    Raises:
        WeightsCorruptError: weights are there but are not the pinned ones.
        WeightsMissingError: explicitly named weights are not there.
    """
    paths: dict[str, Path] = {}
    shas: dict[str, str] = {}
    reasons: dict[str, str] = {}
    wanted = protocol.metrics if specs is None else tuple(specs)
    for name in dict.fromkeys(spec.weights for spec in wanted if spec.weights):
        try:
            paths[name] = ledger.resolve(name, options.weights.get(name))
            shas[name] = ledger.fingerprint(name, options.weights.get(name))
        except WeightsMissingError as error:
            if name in options.weights:
                raise
            reasons[name] = str(error)
    usable = tuple(s for s in wanted if s.weights is None or s.weights in shas)
    missing = [Missing(metric=s.key, reason=reasons[s.weights]) for s in wanted if s.weights in reasons]
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
    folder: Path,
    keys: set[str],
    settings: Settings,
    missing: Sequence[Missing],
    plan: Plan,
    earlier: Summary | None = None,
) -> Summary:
    """Write the summary of a folder; what `earlier` measured and this time was not asked for stays."""
    measured = _measured(settings)
    rows, features = row_log(folder).read(), feature_log(folder).read()
    reasons = list(missing)
    weights = dict(settings.weights_sha)
    if earlier is not None:
        fresh = {(spec.key, view) for spec in settings.specs for view in settings.protocol.places_of(spec)}
        kept = {row.key for row in rows if (row.metric, row.view) not in fresh}
        kept |= {row.key for row in features if (row.metric, row.view) not in fresh}
        keys = keys | (earlier.keys & kept)
        asked = {spec.key for spec in settings.specs} | {entry.metric for entry in missing}
        reasons += [entry for entry in earlier.missing if entry.metric not in asked]
        measured |= {item for item in earlier.measured if item.partition(" ")[0] not in _places_text(fresh)}
        weights = {**earlier.pedigree.get("weights", {}), **weights}
    current = [row for row in rows if row.key in keys]
    clips = [row for row in features if row.key in keys]
    found = [(spec, why_missing(spec, current, clips)) for spec in settings.specs]
    summary = Summary(
        protocol=settings.protocol.name,
        keys=frozenset(keys),
        measured=frozenset(measured),
        missing=[*reasons, *(Missing(metric=spec.key, reason=why) for spec, why in found if why)],
        findings=plan.to_json()["findings"],
        pedigree=pedigree(settings.device, weights),
    )
    summary.save(folder, current, settings.protocol)
    return summary


def _places_text(places: set[tuple[str, str]]) -> set[str]:
    return {f"{metric}@{view}" for metric, view in places}


def _measured(settings: Settings) -> set[str]:
    """What these settings measure, as `metric@view signature`."""
    return {
        f"{spec.key}@{view} {settings.signature(spec, composite=False)}"
        for spec in settings.specs
        for view in settings.protocol.places_of(spec)
    }


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
                run.folder / "pred",
                run.manifest.scene,
                Path(run.manifest.reference_root),
                settings.protocol,
                rendered_here=run.manifest.source == "native",
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
        earlier = Summary.load(run.folder, settings.protocol.name)
        _summarise(run.folder, wanted.get(label, set()), settings, missing, plans[label], earlier)
    return refused


def is_scored(run: Run, settings: Settings) -> bool:
    """Whether a run already has everything these settings would measure."""
    summary = Summary.load(run.folder, settings.protocol.name)
    return summary is not None and _measured(settings) <= summary.measured
