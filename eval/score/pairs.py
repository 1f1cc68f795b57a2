"""Pairs the rendered pictures of a scene with its reference pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mvtokenflow.base.errors import DataError, ProtocolError
from mvtokenflow.base.files import frame_files, frame_numbers
from mvtokenflow.datasets.folder import FolderDataset
from mvtokenflow.datasets.layout import objects_of
from mvtokenflow.datasets.scene import Scene, View
from mvtokenflow.eval.protocols import INPUT, INPUT_VIEW, Protocol
from mvtokenflow.eval.score.preflight import (
    Finding,
    ViewPair,
    check_headers,
    check_silhouettes,
    refuse_if_strict,
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The pairs to score and the findings on them.

    Attributes:
        pairs: the paired views by object.
        views: the names of all views of each object's scene, the input view first.
        findings: what the pre-flight noticed.
        absent: objects that were asked for and are not in the prediction.
    """

    pairs: Mapping[str, Sequence[ViewPair]]
    views: Mapping[str, tuple[str, ...]]
    findings: Sequence[Finding]
    absent: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        return {"findings": [asdict(f) for f in self.findings], "absent": list(self.absent)}


def pair_view(name: str, view: View, prediction: Path, protocol: Protocol) -> tuple[ViewPair, list[Finding]]:
    """Pair the frames of one view of the object `name` and look at every header.

    Args:
        prediction: folder of the rendered pictures.

    Raises:
        DataError: a folder or picture cannot be read, or is of a kind no protocol accepts.
        ProtocolError: the prediction is longer than the reference, or of another size where the protocol
            resizes nothing.
    """
    findings: list[Finding] = []
    ours, theirs = frame_files(prediction), list(view.frames)
    reference = theirs[0].parent
    number = dict(zip(theirs, view.frame_numbers(), strict=True)) | dict(
        zip(ours, frame_numbers(ours), strict=True)
    )
    if protocol.first_frames is not None:
        if min(len(ours), len(theirs)) < protocol.first_frames:
            raise ProtocolError(
                f"{prediction}: {len(ours)} frames against {len(theirs)}, {protocol.name} needs "
                f"{protocol.first_frames}; render them all"
            )
        ours, theirs = ours[: protocol.first_frames], theirs[: protocol.first_frames]
    if len(ours) > len(theirs):
        raise ProtocolError(
            f"{prediction}: {len(ours)} frames but {reference} has {len(theirs)}; remove the extra frames"
        )
    missing = sorted({number[p] for p in theirs} - {number[p] for p in ours})
    extra = sorted({number[p] for p in ours} - {number[p] for p in theirs})
    if missing or extra:
        findings.append(_other_numbers(prediction, len(ours), len(theirs), missing, extra))
    composite = check_headers(ours, theirs, protocol, findings)
    first = list(zip(ours, theirs, strict=False))
    if protocol.strict and (missing or extra):  # forced: what is there is paired by name, not by position
        common = {number[p] for p in ours} & {number[p] for p in theirs}
        ours, theirs = ([p for p in paths if number[p] in common] for paths in (ours, theirs))
        if not common:
            raise ProtocolError(f"{prediction}: no frame number is in {reference} as well; rename the frames")
    if protocol.frames is not None and len(theirs) != protocol.frames:
        findings.append(
            Finding(
                severity="note",
                where=f"{name}/{view.name}",
                problem=f"{len(theirs)} frames where {protocol.name} has {protocol.frames}",
                fix="the count is in the signature",
            )
        )
    pair = ViewPair(
        object=name,
        view=view.name,
        names=tuple(number[p] for p in theirs[: len(ours)]),
        reference=tuple(theirs),
        prediction=tuple(ours),
        composite=composite,
        gapless=list(zip(ours, theirs, strict=False)) == first[: len(ours)],
        truth=None if view.truth is None else view.truth.path,
    )
    return pair, findings


def _on_surface(scene: Scene, pair: ViewPair, findings: list[Finding]) -> tuple[ViewPair, list[Finding]]:
    """Return the pair with the scene's exact surface, which belongs to the input view."""
    return replace(pair, surface=scene.surface if pair.view == "input" else None), findings


def _other_numbers(
    prediction: Path, ours: int, theirs: int, missing: Sequence[int], extra: Sequence[int]
) -> Finding:
    shown = ", ".join(map(str, (missing or extra)[:3]))
    return Finding(
        severity="refuse",
        where=str(prediction),
        problem=f"{ours} frames, the reference has {theirs}; "
        f"{'missing' if missing else 'not in the reference'}: {shown}"
        + (" ..." if len(missing or extra) > 3 else ""),
        fix="render every reference frame under its own number",
    )


def _pair_alone(
    name: str, view: str, prediction: Path, front: ViewPair | None, protocol: Protocol
) -> tuple[ViewPair, list[Finding]]:
    """Pair a view without reference; its frames must be those of the rendered input view (`front`).

    Raises:
        DataError: the folder cannot be read.
    """
    frames = frame_files(prediction)[: protocol.first_frames]
    names = tuple(frame_numbers(frame_files(prediction))[: len(frames)])
    findings = []
    if front is not None:
        shift = front.names[0] - names[0]  # only its reference determines the first number
        if tuple(name + shift for name in names) == front.names[: len(frames)]:
            names = front.names[: len(frames)]
        if len(frames) != len(front.names) or names != front.names:
            findings.append(
                Finding(
                    severity="refuse",
                    where=str(prediction),
                    problem=f"{len(frames)} frames, not the {len(front.names)} of the rendered input view",
                    fix="render every view at every time of the input, under the same numbers",
                )
            )
    pair = ViewPair(
        object=name,
        view=view,
        names=names,
        reference=(),
        prediction=tuple(frames[: len(names)]),
        composite=False,
    )
    return pair, findings


def plan_scene(
    scene: Scene,
    rendering: Path,
    protocol: Protocol,
    *,
    whole: bool = False,
    rendered_here: bool = False,
    of_package: bool = False,
) -> Plan:
    """Pair renderings of a scene, `<rendering>/<view>/<n>.png`, with the frames of its views.

    A view that is only compared with other views needs no reference.

    Args:
        whole: every view that the protocol measures must be there; else one that was not rendered is noted and
            left out, and one without reference is measured only together with others.
        rendered_here, of_package: see `check_silhouettes`.

    Raises:
        DataError: a view's folder is missing, or its pictures cannot be used.
        ProtocolError: as `pair_view`.
    """
    names = tuple(view.name for view in scene.all_views())
    measured = {spec: protocol.views_of(spec, names) for spec in protocol.metrics}
    wanted = [name for name in names if any(name in views for views in measured.values())]
    judged = {name for spec, views in measured.items() if not spec.spans_views for name in views}
    pairs: list[ViewPair] = []
    findings: list[Finding] = []
    for view in (view for view in scene.all_views() if view.name in wanted):
        folder = rendering / view.name
        if whole and view.name in judged and not view.frames:
            raise DataError(
                f"{scene.root / view.name}: no such folder; {protocol.name} scores {', '.join(wanted)}"
            )
        if folder.is_dir():
            _refuse_gone(scene, view)
            pair, found = (
                _on_surface(scene, *pair_view(scene.name, view, folder, protocol))
                if view.frames
                else _pair_alone(scene.name, view.name, folder, _front(pairs), protocol)
            )
            pairs.append(pair)
            findings.extend(found)
        elif whole:
            raise DataError(f"{folder}: no such folder; render view {view.name} of {scene.name} into it")
        else:
            problem = f"{view.name} was not rendered"
            findings.append(
                Finding(severity="note", where=scene.name, problem=problem, fix="render it to score it")
            )
    novel = [pair for pair in pairs if pair.view not in INPUT and pair.reference]
    findings.extend(check_silhouettes(novel, rendered_here, of_package))
    return Plan(pairs={scene.name: pairs}, views={scene.name: names}, findings=findings)


def _front(pairs: Sequence[ViewPair]) -> ViewPair | None:
    return next((pair for pair in pairs if pair.view == INPUT_VIEW), None)  # it is paired first


def _refuse_gone(scene: Scene, view: View) -> None:
    """Raise a DataError where a scene names files that are not there; else their cells would stay empty."""
    files = [*view.frames, *([view.truth.path] if view.truth is not None else [])]
    gone = next((path for path in files if not path.exists()), None)
    if gone is not None:
        raise DataError(
            f"{gone}: the reference of {scene.name} is not there; delete {scene.root} if it was generated, "
            "so that it is made anew, or else restore the file"
        )


def plan_folder(
    prediction: Path,
    reference: Path,
    protocol: Protocol,
    *,
    only: Sequence[str] | None = None,
    allow_missing: bool = False,
    force: bool = False,
) -> Plan:
    """Pair a whole prediction folder with a reference folder.

    Args:
        only: score just these objects.
        allow_missing: go on where the prediction lacks objects; they are listed in `absent`.
        force: go on in spite of refusals; they stay in the record.

    Raises:
        DataError, ProtocolError: the first offenders, with the fix.
    """
    dataset = FolderDataset(reference, option="--gt")
    theirs = dataset.reference_folders()
    wanted = list(theirs) if only is None else list(only)
    unknown = [name for name in wanted if name not in theirs]
    if unknown:
        raise ProtocolError(f"{reference}: no object {', '.join(unknown)}; it has {', '.join(theirs)}")
    scenes = {name: dataset.reference(name) for name in wanted}
    ours = objects_of(prediction, {view.name for scene in scenes.values() for view in scene.all_views()})
    if list(theirs.values()) == [dataset.path] and list(ours.values()) == [prediction]:
        ours = dict(zip(theirs, ours.values(), strict=True))  # one object each, whatever the folders are called
    absent = [name for name in wanted if name not in ours]
    if absent and not allow_missing:
        raise ProtocolError(
            f"{prediction}: lacks {len(absent)} of {len(wanted)} objects ({', '.join(absent[:3])}); "
            "render them, name the wanted ones with --objects, or accept a partial score with "
            "`mvtf-eval score --allow-missing`"
        )
    plans = [plan_scene(scenes[n], ours[n], protocol, whole=True) for n in wanted if n in ours]
    plan = Plan(
        pairs={name: pairs for p in plans for name, pairs in p.pairs.items()},
        views={name: views for p in plans for name, views in p.views.items()},
        findings=[finding for p in plans for finding in p.findings],
        absent=absent,
    )
    if not plan.pairs:
        raise ProtocolError(f"{prediction}: none of the objects {', '.join(wanted[:5])} is there; render one")
    refuse_if_strict(plan.findings, protocol, force)
    return plan
