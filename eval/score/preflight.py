"""What is checked before anything is measured: a wrong pairing must not become a number."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import DataError, ProtocolError
from mvtokenflow.base.files import frame_files, frame_numbers, utf8_name
from mvtokenflow.eval.metrics.compute.silhouette import background, misplaced_views, silhouettes, view_confusion
from mvtokenflow.eval.protocols import INPUT_VIEW, Protocol
from mvtokenflow.media.video import composite_white, read_rgb, read_rgba

SILHOUETTE_FRAMES = 8
# A wrong view scores about 0.25-0.6 against 0.7-1.0 for the right one; less than this lead is no evidence.
SILHOUETTE_MARGIN = 0.05


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something noticed before scoring. "refuse" stops a strict protocol, "note" is only recorded."""

    severity: Literal["refuse", "note"]
    where: str
    problem: str
    fix: str

    def sentence(self) -> str:
        return f"{self.where}: {self.problem}; {self.fix}"


@dataclass(frozen=True, kw_only=True)
class ViewPair:
    """One view of one object, paired for scoring.

    Attributes:
        object, view: names.
        names: frame numbers of the pairs, in order.
        reference: all reference pictures of the view, in order; the first `len(prediction)` are paired. Empty
            where the view is only looked at together with others.
        prediction: rendered pictures, in order.
        composite: the reference is RGBA and is put on white.
        gapless: the pairs are the first frames of both sides, none of them left out. Exact geometry fits no
            others: it knows no frame numbers.
    """

    object: str
    view: str
    names: tuple[int, ...]
    reference: tuple[Path, ...]
    prediction: tuple[Path, ...]
    composite: bool
    gapless: bool = True


def read_reference(path: Path, composite: bool) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A reference picture as (H, W, 3) uint8, put on white by straight alpha where it is RGBA."""
    return composite_white(read_rgba(path)) if composite else read_rgb(path)


def objects_of(root: Path) -> Mapping[str, Path]:
    """The objects of a folder in the Consistent4D layout: `<object>/eval_<i>/<n>.png`.

    A folder that holds views itself counts as one object.

    Raises:
        DataError: no such folder, or no views in it.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected <object>/eval_<i>/<n>.png in it")
    try:
        entries = sorted(utf8_name(entry) for entry in root.iterdir() if not entry.name.startswith("."))
        if any(_is_view(entry) for entry in entries):
            return {utf8_name(root.resolve()).name: root}
        found = {e.name: e for e in entries if e.is_dir() and any(_is_view(child) for child in e.iterdir())}
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); check the folder") from error
    if not found:
        raise DataError(f"{root}: holds no <object>/eval_<i>/ folders; is this the right folder?")
    return found


def _is_view(entry: Path) -> bool:
    return entry.is_dir() and (entry.name == INPUT_VIEW or entry.name.startswith("eval_"))


def _header(path: Path) -> tuple[str, tuple[int, int]]:
    if path.exists() and not path.is_file():  # a pipe has no end
        raise DataError(f"{path}: not a regular file; put a picture in its place")
    with damage(path, "not a readable picture", "write it again"), Image.open(path, formats=["PNG"]) as picture:
        return picture.mode, picture.size


def pair_view(
    name: str, view: str, prediction: Path, reference: Path, protocol: Protocol
) -> tuple[ViewPair, list[Finding]]:
    """Pair the frames of one view and look at every header.

    Raises:
        DataError: a folder or picture cannot be read, or is of a kind no protocol accepts.
        ProtocolError: the prediction is longer than the reference, or of another size where the protocol
            resizes nothing.
    """
    findings: list[Finding] = []
    ours, theirs = frame_files(prediction), frame_files(reference)
    number = {path: n for paths in (ours, theirs) for n, path in zip(frame_numbers(paths), paths, strict=True)}
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
        shown = ", ".join(map(str, (missing or extra)[:3]))
        findings.append(
            Finding(
                severity="refuse",
                where=str(prediction),
                problem=f"{len(ours)} frames, the reference has {len(theirs)}; "
                f"{'missing' if missing else 'not in the reference'}: {shown}"
                + (" ..." if len(missing or extra) > 3 else ""),
                fix="render every reference frame under its own number",
            )
        )
    composite = _check_headers(ours, theirs, protocol, findings)
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
                where=f"{name}/{view}",
                problem=f"{len(theirs)} frames where {protocol.name} has {protocol.frames}",
                fix="the count is in the signature",
            )
        )
    pair = ViewPair(
        object=name,
        view=view,
        names=tuple(number[p] for p in theirs[: len(ours)]),
        reference=tuple(theirs),
        prediction=tuple(ours),
        composite=composite,
        gapless=list(zip(ours, theirs, strict=False)) == first[: len(ours)],
    )
    return pair, findings


def _pair_alone(
    name: str, view: str, prediction: Path, front: ViewPair | None, protocol: Protocol
) -> tuple[ViewPair, list[Finding]]:
    """A view without reference, numbered as the rendered input view (`front`), whose frames it must have.

    Raises:
        DataError: the folder cannot be read.
    """
    frames = frame_files(prediction)[: protocol.first_frames]
    names = tuple(frame_numbers(frame_files(prediction))[: len(frames)])
    findings = []
    if front is not None:
        shift = front.names[0] - names[0]  # nothing but its reference could have told it where to begin
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


def _check_headers(
    ours: Sequence[Path], theirs: Sequence[Path], protocol: Protocol, findings: list[Finding]
) -> bool:
    reference_modes = {_header(path) for path in theirs}
    our_headers = {path: _header(path) for path in ours}
    for path, (mode, _) in our_headers.items():
        if mode != "RGB":
            raise DataError(
                f"{path}: {mode} where RGB is meant; put it on white first and save it as 8-bit RGB"
            )
    sizes, reference_sizes = {size for _, size in our_headers.values()}, {size for _, size in reference_modes}
    for folder, found in ((ours[0].parent, sizes), (theirs[0].parent, reference_sizes)):
        if len(found) > 1:
            raise DataError(f"{folder}: pictures of {len(found)} sizes, {_sizes(found)}; write one size")
    (width, height), (reference_width, reference_height) = next(iter(sizes)), next(iter(reference_sizes))
    if (width, height) != (reference_width, reference_height):
        same_shape = abs(width * reference_height - height * reference_width) <= max(width, height)
        if protocol.size is None:
            raise ProtocolError(
                f"{ours[0].parent}: {width}x{height}, the reference is {reference_width}x{reference_height} "
                f"and {protocol.name} resizes nothing; render at the reference's size"
            )
        findings.append(
            Finding(
                severity="note" if same_shape else "refuse",
                where=str(ours[0].parent),
                problem=f"{width}x{height}, the reference is {reference_width}x{reference_height}",
                fix=f"both are squashed to {protocol.size} px"
                if same_shape
                else "render at the reference's size",
            )
        )
    modes = {mode for mode, _ in reference_modes}
    if not modes <= {"RGB", "RGBA"} or len(modes) > 1:
        raise DataError(f"{theirs[0].parent}: reference pictures of mode {', '.join(sorted(modes))}; write RGB")
    return modes == {"RGBA"}


def _sizes(sizes: set[tuple[int, int]]) -> str:
    return ", ".join(f"{w}x{h}" for w, h in sorted(sizes)[:3])


def check_silhouettes(pairs: Sequence[ViewPair], rendered_here: bool = False) -> list[Finding]:
    """Whether each predicted view looks most like its own reference view, and what its background is.

    Args:
        pairs: the novel views of one object; one alone has nothing to be confused with.
        rendered_here: by a method that was told the cameras. Then two views that look like one and the same
            reference are no reason to refuse: wrong azimuths and mirrors exchange views, while a poor result
            has sides that look like its front.
    """
    findings: list[Finding] = []
    if not pairs:
        return findings
    frames = min(len(pair.names) for pair in pairs)
    keep = sorted({round(k * (frames - 1) / (SILHOUETTE_FRAMES - 1)) for k in range(SILHOUETTE_FRAMES)})
    ours = [np.stack([read_rgb(pair.prediction[i]) for i in keep]) for pair in pairs]
    theirs = [np.stack([read_reference(pair.reference[i], pair.composite) for i in keep]) for pair in pairs]
    masks = []
    for pair, clip in zip(pairs, ours, strict=True):
        around = background(clip)
        if around.pixels and min(around.colour) < 250:
            findings.append(
                Finding(
                    severity="note",
                    where=str(pair.prediction[0].parent),
                    problem=f"background {around.colour} is not white",
                    fix="the number includes it; render on (255, 255, 255)",
                )
            )
        masks.append(silhouettes(clip))
    if len(pairs) < 2:
        return findings
    mixed = misplaced_views(view_confusion(masks, theirs), margin=SILHOUETTE_MARGIN)
    looks = {view: view for view in range(len(pairs))} | {mix.view: mix.looks_like for mix in mixed}
    exchanged = len(set(looks.values())) == len(looks)
    for mix in mixed:
        own, other = pairs[mix.view], pairs[mix.looks_like]
        findings.append(
            Finding(
                severity="note" if rendered_here and not exchanged else "refuse",
                where=str(own.prediction[0].parent),
                problem=f"silhouettes match reference {other.view} (IoU {mix.other_iou:.2f}) better than "
                f"{own.view} ({mix.own_iou:.2f})",
                fix="check the azimuths; `mvtf-eval align` finds a yaw or mirror offset",
            )
        )
    return findings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be scored: the pairs by object, what was noticed, and what is absent."""

    pairs: Mapping[str, Sequence[ViewPair]]
    findings: Sequence[Finding]
    absent: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        return {"findings": [asdict(f) for f in self.findings], "absent": list(self.absent)}


def _add(
    pairs: list[ViewPair], name: str, view: str, prediction: Path, reference: Path, protocol: Protocol
) -> list[Finding]:
    """Pair one view and append it; without reference it is still good for what lies between views."""
    if (reference / view).is_dir():
        pair, findings = pair_view(name, view, prediction / view, reference / view, protocol)
    else:
        front = next((pair for pair in pairs if pair.view == INPUT_VIEW), None)  # protocols name it first
        pair, findings = _pair_alone(name, view, prediction / view, front, protocol)
    pairs.append(pair)
    return findings


def plan_object(name: str, prediction: Path, reference: Path, views: Sequence[str], protocol: Protocol) -> Plan:
    """Pair one object on the named views. A view that is only compared with other views needs no reference.

    Raises:
        DataError: a view's folder is missing, or its pictures cannot be used.
    """
    pairs: list[ViewPair] = []
    findings: list[Finding] = []
    judged = {v for spec in protocol.metrics if spec.needs != "views" for v in protocol.views_of(spec)}
    for view in views:
        if view in judged and not (reference / view).is_dir():
            raise DataError(f"{reference / view}: no such folder; {protocol.name} scores {', '.join(views)}")
        if not (prediction / view).is_dir():
            raise DataError(f"{prediction / view}: no such folder; render view {view} of {name} into it")
        findings.extend(_add(pairs, name, view, prediction, reference, protocol))
    findings.extend(check_silhouettes([pair for pair in pairs if pair.view != INPUT_VIEW and pair.reference]))
    return Plan(pairs={name: pairs}, findings=findings, absent=())


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
    theirs, ours = objects_of(reference), objects_of(prediction)
    if list(theirs.values()) == [reference] and list(ours.values()) == [prediction]:
        ours = dict(zip(theirs, ours.values(), strict=True))  # one object each, whatever the folders are called
    wanted = list(theirs) if only is None else list(only)
    unknown = [name for name in wanted if name not in theirs]
    if unknown:
        raise ProtocolError(f"{reference}: no object {', '.join(unknown)}; it has {', '.join(theirs)}")
    absent = [name for name in wanted if name not in ours]
    if absent and not allow_missing:
        raise ProtocolError(
            f"{prediction}: lacks {len(absent)} of {len(wanted)} objects ({', '.join(absent[:3])}); "
            "render them, name the wanted ones with --objects, or accept a partial score with "
            "`mvtf-eval score --allow-missing`"
        )
    views = tuple(dict.fromkeys(view for spec in protocol.metrics for view in protocol.views_of(spec)))
    plans = [plan_object(name, ours[name], theirs[name], views, protocol) for name in wanted if name in ours]
    plan = Plan(
        pairs={name: pairs for p in plans for name, pairs in p.pairs.items()},
        findings=[finding for p in plans for finding in p.findings],
        absent=absent,
    )
    if not plan.pairs:
        raise ProtocolError(f"{prediction}: none of the objects {', '.join(wanted[:5])} is there; render one")
    refuse_if_strict(plan.findings, protocol, force)
    return plan


def refuse_if_strict(findings: Sequence[Finding], protocol: Protocol, force: bool) -> None:
    """Raise a ProtocolError naming the first three refusals, unless the protocol accepts or `force` is set."""
    refusals = [finding for finding in findings if finding.severity == "refuse"]
    if not refusals or force or not protocol.strict:
        return
    shown = " | ".join(finding.sentence() for finding in refusals[:3])
    more = f" | and {len(refusals) - 3} more" if len(refusals) > 3 else ""
    raise ProtocolError(
        f"{shown}{more} ({protocol.name} is strict; `mvtf-eval score --force` and `mvtf-eval table1 --force` "
        "score anyway and record this)"
    )


def plan_run(folder: Path, name: str, reference: Path, protocol: Protocol, rendered_here: bool = False) -> Plan:
    """Pair the renderings of one run, `<folder>/<view>/<n>.png`, with a scene's reference pictures.

    A view that was not rendered is left out and noted: its metrics will be missing. So will be those of a view
    without reference, but for what lies between views.

    Args:
        rendered_here: see `check_silhouettes`.

    Raises:
        DataError, ProtocolError: as for a folder.
    """
    pairs: list[ViewPair] = []
    findings: list[Finding] = []
    views = tuple(dict.fromkeys(view for spec in protocol.metrics for view in protocol.views_of(spec)))
    for view in views:
        if not (folder / view).is_dir():
            findings.append(
                Finding(
                    severity="note", where=name, problem=f"{view} was not rendered", fix="render it to score it"
                )
            )
        else:
            findings.extend(_add(pairs, name, view, folder, reference, protocol))
    novel = [pair for pair in pairs if pair.view != INPUT_VIEW and pair.reference]
    findings.extend(check_silhouettes(novel, rendered_here))
    return Plan(pairs={name: pairs}, findings=findings, absent=())
