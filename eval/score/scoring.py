"""Scores a folder of renderings, and runs: from files to records and summaries."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mvtokenflow.base.errors import UserError, WeightsMissingError
from mvtokenflow.base.partial import sweep
from mvtokenflow.baselines.names import is_catalogued
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.eval.metrics.compute.precision import full_precision
from mvtokenflow.eval.metrics.spec import MetricSpec
from mvtokenflow.eval.protocols import Protocol
from mvtokenflow.eval.records.aggregate import FORCED
from mvtokenflow.eval.records.rows import Run, feature_log, row_log
from mvtokenflow.eval.records.summary import Missing, Summary, why_missing
from mvtokenflow.eval.score.measure import measure
from mvtokenflow.eval.score.pairs import Plan, plan_scene
from mvtokenflow.eval.score.preflight import refuse_if_strict
from mvtokenflow.eval.score.units import Settings, Unit, units_of
from mvtokenflow.weights import ledger
from mvtokenflow.workdir.provenance import pedigree

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of measuring that do not depend on what is measured.

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
    """Return the metrics of `protocol` whose weights are here, and the others with reasons.

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
    plan: Plan, settings: Settings, missing: Sequence[Missing], folder: Path, options: Options, report: Report
) -> Summary:
    """Measure a paired prediction folder into `folder` and write its summary."""
    label = str(folder)
    units = [unit for name in plan.pairs for unit in units_of(name, {label: plan}, settings)]
    wanted = measure(units, settings, jobs=options.jobs, step=_counted(units, report))
    return _summarise(folder, wanted.get(label, set()), settings, missing, plan)


def _counted(units: Sequence[Unit], report: Report) -> Callable[[int], None]:
    """Turn per-frame callbacks into one count over all frames."""
    total = sum(unit.steps() for unit in units if unit.between is None)  # these do not count frames
    done = 0

    def step(frames: int) -> None:
        nonlocal done
        done += frames
        report("score", done, total)

    return step


def _summarise(
    folder: Path,
    keys: set[str],
    settings: Settings,
    missing: Sequence[Missing],
    plan: Plan,
    earlier: Summary | None = None,
) -> Summary:
    """Write the summary of a folder; values of `earlier` that were not requested now stay.

    Forced and unforced values are never in one summary.
    """
    views = list(dict.fromkeys(view for names in plan.views.values() for view in names))
    measured = _measured(settings, views)
    if earlier is not None and settings.forced != any(i.endswith(f"|{FORCED}") for i in earlier.measured):
        earlier = None
    rows, features = row_log(folder).read(), feature_log(folder).read()
    reasons = list(missing)
    with full_precision():  # as the networks of the metrics were run
        made = pedigree(settings.device, settings.weights_sha)
    if earlier is not None:
        fresh = {
            (spec.key, view) for spec in settings.specs for view in settings.protocol.names_of(spec, views)
        }
        kept = {row.key for row in rows if (row.metric, row.view) not in fresh}
        kept |= {row.key for row in features if (row.metric, row.view) not in fresh}
        if earlier.keys & kept:
            devices = {*str(earlier.pedigree.get("device", "unknown")).split(" + "), made["device"]}
            made["device"] = " + ".join(sorted(devices))
        keys = keys | (earlier.keys & kept)
        asked = {spec.key for spec in settings.specs} | {entry.metric for entry in missing}
        reasons += [entry for entry in earlier.missing if entry.metric not in asked]
        measured |= {item for item in earlier.measured if item.partition(" ")[0] not in _places_text(fresh)}
        made["weights"] = {**earlier.pedigree.get("weights", {}), **settings.weights_sha}
    current = [row for row in rows if row.key in keys]
    clips = [row for row in features if row.key in keys]
    found = [(spec, why_missing(spec, current, clips)) for spec in settings.specs]
    summary = Summary(
        protocol=settings.protocol.name,
        keys=frozenset(keys),
        measured=frozenset(measured),
        missing=[*reasons, *(Missing(metric=spec.key, reason=why) for spec, why in found if why)],
        findings=plan.to_json()["findings"],
        pedigree=made,
    )
    sweep(folder, deep=False)
    summary.save(folder, current, settings.protocol)
    return summary


def _places_text(places: set[tuple[str, str]]) -> set[str]:
    return {f"{metric}@{view}" for metric, view in places}


def _measured(settings: Settings, views: Sequence[str]) -> set[str]:
    """List what these settings measure of a scene with `views`, as `metric@view signature`."""
    return {
        f"{spec.key}@{view} {settings.signature(spec, composite=False)}"
        for spec in settings.specs
        for view in settings.protocol.names_of(spec, views)
    }


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A run that could not be scored, and the reason."""

    run: Run
    reason: str


def score_runs(
    runs: Sequence[Run],
    scenes: Mapping[str, Scene],
    settings: Settings,
    missing: Sequence[Missing],
    options: Options,
    report: Report,
) -> list[Refused]:
    """Score runs under one protocol, all methods of a scene together so that they share its reference.

    Known-answer rows are scored despite pre-flight findings: they are wrong on purpose. Every signature of
    what `options.force` scores records it.

    Args:
        runs: their records are not read.
        scenes: the runs' scenes by name, whose views they are compared with.

    Returns:
        The runs the pre-flight refused; the others have their summaries.
    """
    plans: dict[str, Plan] = {}
    chosen: dict[str, Settings] = {}
    refused = []
    for run in runs:
        try:
            plan = _plan(run, scenes[run.manifest.scene], settings.protocol, options.force)
        except UserError as error:
            refused.append(Refused(run=run, reason=str(error)))
            continue
        forced = _overruled((finding.severity for finding in plan.findings), run, settings.protocol)
        plans[str(run.folder)], chosen[str(run.folder)] = plan, replace(settings, forced=forced)
    accepted = [run for run in runs if str(run.folder) in plans]
    units: dict[bool, list[Unit]] = {False: [], True: []}  # by whether they are forced
    for forced, batch in units.items():
        for scene in dict.fromkeys(run.manifest.scene for run in accepted):
            labels = [str(run.folder) for run in accepted if run.manifest.scene == scene]
            alike = {label: plans[label] for label in labels if chosen[label].forced == forced}
            if alike:
                batch.extend(units_of(scene, alike, settings))
    step = _counted([unit for batch in units.values() for unit in batch], report)
    wanted: dict[str, set[str]] = {}
    for forced, batch in units.items():
        wanted |= measure(batch, replace(settings, forced=forced), jobs=options.jobs, step=step)
    for run in accepted:
        label = str(run.folder)
        earlier = Summary.load(run.folder, settings.protocol.name)
        _summarise(run.folder, wanted.get(label, set()), chosen[label], missing, plans[label], earlier)
    return refused


def _plan(run: Run, scene: Scene, protocol: Protocol, force: bool) -> Plan:
    """Pair the run's pictures with the scene's.

    Raises:
        DataError: pictures of either are missing or cannot be used.
        ProtocolError: a strict protocol refuses what was found.
    """
    here = run.manifest.source == "native"
    plan = plan_scene(
        scene,
        run.folder / "pred",
        protocol,
        rendered_here=here,
        of_package=here and is_catalogued(run.manifest.method),
    )
    refuse_if_strict(plan.findings, protocol, force or run.manifest.source == "oracle")
    return plan


def _overruled(severities: Iterable[str], run: Run, protocol: Protocol) -> bool:
    """Return whether a strict pre-flight with such findings refuses the run, unless forced."""
    return protocol.strict and run.manifest.source != "oracle" and "refuse" in severities


def was_forced(run: Run, severities: Iterable[str], protocol: Protocol) -> bool:
    """Return whether findings of such severities are of a prediction that a strict pre-flight refused."""
    return _overruled(severities, run, protocol)


def is_scored(run: Run, settings: Settings, force: bool) -> bool:
    """Return whether a run already has everything that these settings would measure.

    Values that were scored by force count under `force` only.
    """
    summary = Summary.load(run.folder, settings.protocol.name)
    if summary is None:
        return False
    forced = was_forced(run, (str(one["severity"]) for one in summary.findings), settings.protocol)
    views = [str(view["name"]) for view in run.manifest.views]
    return force >= forced and _measured(replace(settings, forced=forced), views) <= summary.measured
