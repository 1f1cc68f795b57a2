"""Units of scoring work and their measurement.

A unit is one view of one object for all methods that share its reference and have the same frames of it,
so that everything that depends on the reference alone is computed once. A value depends on nothing but files,
weights, protocol and, where a network computes it, the kind of device; its key is the digest of these, and
a key that has a record is never computed again.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import digest_json
from mvtokenflow.eval.metrics.spec import MetricSpec, Needs, Networks, Picture
from mvtokenflow.eval.protocols import ALL_VIEWS, Protocol
from mvtokenflow.eval.records.aggregate import CLIP_LENGTH, FORCED
from mvtokenflow.eval.records.rows import FeatureRow, Row
from mvtokenflow.eval.score.pairs import Plan
from mvtokenflow.eval.score.pictures import ClipFiles, read_picture
from mvtokenflow.eval.score.preflight import ViewPair

Emit = Callable[[str, Sequence[Row] | Sequence[FeatureRow]], None]
Step = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings that a worker needs to measure.

    Attributes:
        protocol: how.
        specs: the metrics of the protocol that can be computed here.
        weights: local files or folders by name in the ledger.
        weights_sha: their sha256.
        device: torch device.
        forced: a strict pre-flight refused the prediction and was overruled; every signature records it.
    """

    protocol: Protocol
    specs: tuple[MetricSpec, ...]
    weights: Mapping[str, Path] = field(default_factory=dict)
    weights_sha: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    forced: bool = False

    def signature(self, spec: MetricSpec, composite: bool) -> str:
        """Return a row's signature: the protocol's, the weights, and how the reference was put on white."""
        weights = f"|w:{self.weights_sha[spec.weights][:8]}" if spec.weights else ""
        marks = ("|gt:rgba-on-white" if composite else "") + (f"|{FORCED}" if self.forced else "")
        return self.protocol.signature(spec) + weights + marks

    def key(self, spec: MetricSpec, *parts: Any) -> str:
        """Return the key of a record: its object, signature, digests of its files, and the device."""
        kind = self.device.partition(":")[0]
        return digest_json([*parts, *([kind] if spec.weights and kind != "cpu" else [])])

    def specs_for(self, view: str, *needs: Needs) -> list[MetricSpec]:
        """Return the metrics measured on `view` that need one of `needs`, in the order of the protocol."""
        return [s for s in self.specs if s.needs in needs and self.protocol.views_of(s, [view])]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One view of one object, or (for metrics between views) all of them, for several methods.

    Attributes:
        object: name.
        views: the paired views by label; a label is the folder the records of a method go to. In a unit of one
            view all have the same reference and the same frames of it.
        between: the names of all views of the scene, to measure what lies between them; None to measure each.
    """

    object: str
    views: Mapping[str, Sequence[ViewPair]]
    between: tuple[str, ...] | None = None

    def steps(self) -> int:
        """Return the amount of work, in frames."""
        return sum(len(pair.names) for pairs in self.views.values() for pair in pairs)


def units_of(name: str, plans: Mapping[str, Plan], settings: Settings) -> list[Unit]:
    """Divide one object into units; `plans` by label are of one scene."""
    paired = {label: plan.pairs[name] for label, plan in plans.items()}
    names = dict.fromkeys(pair.view for pairs in paired.values() for pair in pairs)
    units: list[Unit] = []
    for view in names:
        if settings.specs_for(view, "frame", "clip", "set"):
            views = {label: [p for p in ps if p.view == view and p.reference] for label, ps in paired.items()}
            alike = _alike({label: pairs for label, pairs in views.items() if pairs})
            units.extend(Unit(object=name, views=group) for group in alike)
    if any(spec.spans_views for spec in settings.specs):
        between = next(iter(plans.values())).views[name]
        units.append(Unit(object=name, views=paired, between=between))
    return units


def _alike(views: Mapping[str, Sequence[ViewPair]]) -> list[Mapping[str, Sequence[ViewPair]]]:
    """Group the methods of one view by their reference, since values of one reference hold for no other."""
    groups: dict[Any, dict[str, Sequence[ViewPair]]] = {}
    for label, pairs in views.items():
        (pair,) = pairs
        groups.setdefault((pair.reference, pair.names, pair.composite), {})[label] = pairs
    return list(groups.values())


class _Records:
    """The records that one unit wants, those that exist already, and where new ones go."""

    def __init__(self, done: Mapping[str, frozenset[str]], emit: Emit) -> None:
        self.done = done
        self.emit = emit
        self.wanted: dict[str, set[str]] = {}

    def missing(self, label: str, keys: Sequence[str]) -> set[str]:
        """Return those of the keys that have no record yet, and mark all as wanted."""
        self.wanted.setdefault(label, set()).update(keys)
        return set(keys) - self.done.get(label, frozenset())

    def file(self, label: str, records: Sequence[Row] | Sequence[FeatureRow], missing: set[str]) -> None:
        """Emit the records whose keys are missing, in one piece."""
        fresh: list[Any] = [record for record in records if record.key in missing]
        if fresh:
            self.emit(label, fresh)


class UnitScorer:
    """Measures units; holds the networks of one process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.networks = Networks(settings.weights, settings.device)

    def score(
        self, unit: Unit, done: Mapping[str, frozenset[str]], emit: Emit, step: Step
    ) -> dict[str, set[str]]:
        """Measure what has no record yet.

        Args:
            unit: what to measure.
            done: keys of finished records by label.
            emit: takes (label, records) as soon as they are known.
            step: called with the number of frames just measured.

        Returns:
            By label, the keys of all records the unit consists of, old and new.
        """
        records = _Records(done, emit)
        if unit.between is not None:
            self._between(unit, records)
            return records.wanted
        self._frames(unit, records, step)
        shared: dict[Hashable, Any] = {}  # what the clip metrics derive from the reference alone
        for label, (pair,) in unit.views.items():
            clip = ClipFiles(pair, self.settings.protocol.size, shared)
            for spec in self.settings.specs_for(pair.view, "clip", "set"):
                if spec.can_measure(clip):
                    measure = self._features if spec.is_of_set else self._clip
                    measure(spec, label, clip, records)
        return records.wanted

    def _frames(self, unit: Unit, records: _Records, step: Step) -> None:
        pairs = {label: views[0] for label, views in unit.views.items()}
        first = next(iter(pairs.values()))  # of a unit all have the same reference and frames
        specs = self.settings.specs_for(first.view, "frame")
        signatures = {spec: self.settings.signature(spec, first.composite) for spec in specs}
        for position, (name, reference, pictures) in enumerate(_read_ahead(pairs, self.settings.protocol.size)):
            for label, picture in pictures.items():
                files = picture.sha, reference.sha
                keys = {
                    spec: self.settings.key(spec, unit.object, first.view, name, signature, *files)
                    for spec, signature in signatures.items()
                }
                missing = records.missing(label, list(keys.values()))
                rows = [
                    Row(
                        key=key,
                        object=unit.object,
                        view=first.view,
                        frame=name,
                        metric=spec.key,
                        value=self._value(spec, picture, reference, pairs[label].prediction[position]),
                        signature=signatures[spec],
                    )
                    for spec, key in keys.items()
                    if key in missing
                ]
                records.file(label, rows, missing)
                step(1)

    def _value(self, spec: MetricSpec, picture: Picture, reference: Picture, path: Path) -> float:
        """Measure one picture; raise a DataError that names it."""
        try:
            return float(spec.measure_frame(picture, reference, self.networks))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def _clip(self, spec: MetricSpec, label: str, clip: ClipFiles, records: _Records) -> None:
        pair, signature = clip.pair, self.settings.signature(spec, clip.pair.composite)
        moments = spec.moments(pair.names)
        if list(moments) == [None]:
            signature += f"|{CLIP_LENGTH}{_length(pair)}"
        about = pair.object, pair.view
        keys = [self.settings.key(spec, *about, moment, signature, clip.sha) for moment in moments]
        missing = records.missing(label, keys)
        if not missing:
            return
        values = spec.measure_clip(clip, self.networks)
        rows = [
            Row(
                key=key,
                object=pair.object,
                view=pair.view,
                frame=moment,
                metric=spec.key,
                value=float(value),
                signature=signature,
            )
            for key, moment, value in zip(keys, moments, values, strict=True)
            if value is not None
        ]
        records.file(label, rows, missing)

    def _features(self, spec: MetricSpec, label: str, clip: ClipFiles, records: _Records) -> None:
        pair, signature = clip.pair, self.settings.signature(spec, clip.pair.composite)
        count = spec.clips_of(len(pair.names))
        about = pair.object, pair.view
        keys = [self.settings.key(spec, *about, index, signature, clip.sha) for index in range(count)]
        missing = records.missing(label, keys)
        if missing:
            made = spec.measure_set(clip, self.networks)
            records.file(label, _feature_rows(about, spec, signature, keys, made), missing)

    def _between(self, unit: Unit, records: _Records) -> None:
        known: dict[Any, dict[Hashable, Any]] = {}  # by reference, what metrics derive from it
        for label, pairs in unit.views.items():
            made: dict[tuple[ViewPair, ...], list[ClipFiles]] = {}
            for spec in (spec for spec in self.settings.specs if spec.spans_views):
                wanted = self.settings.protocol.views_of(spec, unit.between or ())
                shared = tuple(_shared_frames([pair for pair in pairs if pair.view in wanted]))
                if [pair.view for pair in shared] != list(wanted) or not shared[0].names:
                    continue  # a view is missing; the pre-flight has noted it
                if shared not in made:
                    size = self.settings.protocol.size
                    made[shared] = [
                        ClipFiles(pair, size, known.setdefault((pair.reference, pair.names), {}))
                        for pair in shared
                    ]
                clips = made[shared]
                if all(spec.can_measure(clip) for clip in clips):
                    (self._matrix if spec.is_of_set else self._views)(spec, unit.object, label, clips, records)

    def _views(
        self, spec: MetricSpec, name: str, label: str, clips: Sequence[ClipFiles], records: _Records
    ) -> None:
        names = clips[0].pair.names
        moments = spec.moments(names)
        # A value per time is of the renderings alone, one of them all compares them with their references.
        whole = list(moments) == [None]
        signature = self.settings.signature(
            spec, composite=whole and any(clip.pair.composite for clip in clips)
        )
        if whole:
            signature += f"|{CLIP_LENGTH}{len(names)}"
        shas = [clip.sha if whole else clip.prediction_sha for clip in clips]
        keys = [self.settings.key(spec, name, ALL_VIEWS, moment, signature, shas) for moment in moments]
        missing = records.missing(label, keys)
        if not missing:
            return
        rows = [
            Row(
                key=key,
                object=name,
                view=ALL_VIEWS,
                frame=moment,
                metric=spec.key,
                value=float(value),
                signature=signature,
            )
            for moment, key, value in zip(moments, keys, spec.measure_views(clips, self.networks), strict=True)
        ]
        records.file(label, rows, missing)

    def _matrix(
        self, spec: MetricSpec, name: str, label: str, clips: Sequence[ClipFiles], records: _Records
    ) -> None:
        signature = self.settings.signature(spec, any(clip.pair.composite for clip in clips))
        signature += f"|matrix:{len(clips)}x{len(clips[0].pair.names)}"
        count = spec.clips_of_matrix(len(clips), len(clips[0].pair.names))
        shas = [clip.sha for clip in clips]
        keys = [self.settings.key(spec, name, ALL_VIEWS, index, signature, shas) for index in range(count)]
        missing = records.missing(label, keys)
        if missing:
            made = spec.measure_matrix(clips, self.networks)
            records.file(label, _feature_rows((name, ALL_VIEWS), spec, signature, keys, made), missing)


def _feature_rows(
    about: tuple[str, str],
    spec: MetricSpec,
    signature: str,
    keys: Sequence[str],
    made: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> list[FeatureRow]:
    """Return the records of the features of clips, numbered from 0; `about` is object and view."""
    return [
        FeatureRow(
            key=key,
            object=about[0],
            view=about[1],
            clip=index,
            metric=spec.key,
            signature=signature,
            pred=list(pred),
            reference=list(reference),
        )
        for index, (key, (pred, reference)) in enumerate(zip(keys, made, strict=True))
    ]


def _length(pair: ViewPair) -> str:
    """Return the frames of the rendered clip and, after a slash, of the reference where that is longer."""
    ours, theirs = len(pair.names), len(pair.reference)
    return f"{ours}" if ours == theirs else f"{ours}/{theirs}"


def _shared_frames(pairs: Sequence[ViewPair]) -> list[ViewPair]:
    """Restrict the views of one result to the frames that all of them have; forced ones may lack some."""
    names = {pair.names for pair in pairs}
    if len(names) < 2:
        return list(pairs)
    common = set.intersection(*map(set, names))
    return [
        replace(
            pair,
            names=tuple(n for n in pair.names if n in common),
            prediction=tuple(p for n, p in zip(pair.names, pair.prediction, strict=True) if n in common),
        )
        for pair in pairs
    ]


def _read_ahead(
    pairs: Mapping[str, ViewPair], size: int | None
) -> Iterator[tuple[int, Picture, dict[str, Picture]]]:
    """Yield the frames of a view, decoded one ahead of their use."""
    first = next(iter(pairs.values()))

    def read(position: int) -> tuple[Picture, dict[str, Picture]]:
        reference = read_picture(first.reference[position], size, first.composite)
        return reference, {
            label: read_picture(pair.prediction[position], size) for label, pair in pairs.items()
        }

    with ThreadPoolExecutor(1) as ahead:
        pending: Future[tuple[Picture, dict[str, Picture]]] = ahead.submit(read, 0)
        for position, name in enumerate(first.names):
            reference, pictures = pending.result()
            if position + 1 < len(first.names):
                pending = ahead.submit(read, position + 1)
            yield name, reference, pictures
