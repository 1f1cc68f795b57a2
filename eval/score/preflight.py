"""Checks before scoring, so that a wrong pairing does not become a number."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from mvtokenflow.base.damaged import damage
from mvtokenflow.base.errors import DataError, ProtocolError
from mvtokenflow.eval.metrics.compute.silhouette import background, misplaced_views, silhouettes, view_confusion
from mvtokenflow.eval.protocols import Protocol
from mvtokenflow.media.video import composite_white, read_rgb, read_rgba

SILHOUETTE_FRAMES = 8
# A wrong view scores about 0.25-0.6 against 0.7-1.0 for the right one; less than this lead is no evidence.
SILHOUETTE_MARGIN = 0.05


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fault noticed before scoring. "refuse" stops a strict protocol, "note" is only recorded."""

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
            where the view is only measured together with others.
        prediction: rendered pictures, in order.
        composite: the reference is RGBA and is put on white.
        gapless: the pairs are the first frames of both sides, none of them left out. Exact geometry fits no
            others: it has no frame numbers.
        truth: the file with exact geometry of the view, from the reference's first frame on, or None.
        surface: of the input view, as `datasets.scene.Scene.surface`; None of others.
    """

    object: str
    view: str
    names: tuple[int, ...]
    reference: tuple[Path, ...]
    prediction: tuple[Path, ...]
    composite: bool
    gapless: bool = True
    truth: Path | None = None
    surface: Callable[[], Path] | None = None


def read_reference(path: Path, composite: bool) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read a reference picture as (H, W, 3) uint8, composited on white by straight alpha if it is RGBA."""
    return composite_white(read_rgba(path)) if composite else read_rgb(path)


def _header(path: Path) -> tuple[str, tuple[int, int]]:
    if path.exists() and not path.is_file():  # a pipe has no end
        raise DataError(f"{path}: not a regular file; put a picture in its place")
    with damage(path, "not a readable picture", "write it again"), Image.open(path, formats=["PNG"]) as picture:
        return picture.mode, picture.size


def check_headers(
    ours: Sequence[Path], theirs: Sequence[Path], protocol: Protocol, findings: list[Finding]
) -> bool:
    """Check the headers of a view's pictures; return whether the reference is RGBA. Adds to `findings`.

    Raises:
        DataError: a picture cannot be read, or is of a kind that no protocol accepts.
        ProtocolError: the sizes differ where the protocol resizes nothing.
    """
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


def check_silhouettes(
    pairs: Sequence[ViewPair], rendered_here: bool = False, of_package: bool = False
) -> list[Finding]:
    """Check whether each predicted view looks most like its own reference, and check its background.

    Args:
        pairs: the novel views of one object; one alone has nothing to be confused with.
        rendered_here: by a method that received the cameras. Then two views that look like one and the same
            reference are no reason to refuse: wrong azimuths and mirrors exchange views, while a poor result
            has sides that look like its front.
        of_package: by a method of this package, whose cameras are tested. Then exchanged views are no reason
            either: a flat or symmetric result resembles its own mirror, and a table that left out such
            results would flatter their row.
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
                severity="note" if of_package or (rendered_here and not exchanged) else "refuse",
                where=str(own.prediction[0].parent),
                problem=f"silhouettes match reference {other.view} (IoU {mix.other_iou:.2f}) better than "
                f"{own.view} ({mix.own_iou:.2f})",
                fix="check the azimuths; `mvtf-eval align` finds a yaw or mirror offset",
            )
        )
    return findings


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
