"""Protocols define what a number means, as frozen, versioned data.

A protocol is never edited once published; a change is a new version. Everything that can move a value
is a field, and every field is in the signature printed with each number.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from mvtokenflow.base.errors import ConfigError
from mvtokenflow.base.files import choose
from mvtokenflow.base.imports import attribute_at
from mvtokenflow.base.names import brief, name_fault
from mvtokenflow.eval.metrics.clip import Clip, ClipTime, ClipViews
from mvtokenflow.eval.metrics.flow_error import FlowError
from mvtokenflow.eval.metrics.fvd import FvdSet
from mvtokenflow.eval.metrics.fvd_c4d import FvdC4d
from mvtokenflow.eval.metrics.lpips import Lpips
from mvtokenflow.eval.metrics.matrix import (
    Fv4d,
    Fv4dSet,
    FvdDiag,
    FvdDiagSet,
    FvdF,
    FvdFSet,
    FvdV,
    FvdVSet,
)
from mvtokenflow.eval.metrics.motion import FlickerFloor, FlickerOf, MotionMagnitude
from mvtokenflow.eval.metrics.normal_error import NormalError
from mvtokenflow.eval.metrics.normal_warp import NormalWarpError, NormalWarpFloor
from mvtokenflow.eval.metrics.psnr import Psnr
from mvtokenflow.eval.metrics.spec import BOTH, MetricSpec
from mvtokenflow.eval.metrics.ssim import Ssim
from mvtokenflow.eval.metrics.surface import Chamfer, DepthError, FScore, TrackError
from mvtokenflow.eval.metrics.warp import WarpError, WarpFloor

INPUT_VIEW = "input"
ALL_VIEWS = "*"


@dataclass(frozen=True)
class Place:
    """The place where a value was measured: the input view, novel views, or between views.

    It contains the view names that records use: `"eval_2" in NOVEL`.
    """

    role: Literal["input", "novel", "between"]

    def __contains__(self, view: object) -> bool:
        if self.role == "novel":
            return view not in (INPUT_VIEW, ALL_VIEWS)
        return view == (INPUT_VIEW if self.role == "input" else ALL_VIEWS)


INPUT, NOVEL, BETWEEN = Place("input"), Place("novel"), Place("between")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A protocol defines how predictions are read, paired, measured and averaged.

    Attributes:
        name: with version, part of every number.
        summary: one line for people.
        source: where it comes from.
        size: pictures are squashed to size x size by PIL bicubic first; None keeps them as they are and
            demands equal sizes.
        frames: how many frames are standard, None for all there are.
        first_frames: use only that many frames from the start, None for all.
        front_view: score the input view among the novel views (five views).
        strict: pre-flight findings that make numbers meaningless refuse the prediction; otherwise they
            are recorded.
        metrics: what is measured, in column order.
        assumed: what the source does not state, and the assumption made.
    """

    name: str
    summary: str
    source: str
    size: int | None
    strict: bool
    metrics: tuple[MetricSpec, ...]
    frames: int | None = 32
    first_frames: int | None = None
    front_view: bool = False
    assumed: tuple[str, ...] = field(default=())

    def signature(self, spec: MetricSpec) -> str:
        """Return the signature of a metric under this protocol, without the data (views, frames, weights)."""
        resize = "native" if self.size is None or not spec.resized else f"{self.size}.pil-bicubic"
        subset = f"|first:{self.first_frames}" if self.first_frames else ""
        return f"{spec.signature()}|p:{self.name}|res:{resize}{subset}|agg:frame>view>object>set"

    def views_of(self, spec: MetricSpec, views: Sequence[str]) -> tuple[str, ...]:
        """Return those of a scene's `views` on which `spec` is measured, the input view first."""
        inputs = [view for view in views if view in INPUT and ("input" in spec.views or self.front_view)]
        return (*inputs, *(view for view in views if view in NOVEL and "novel" in spec.views))

    def names_of(self, spec: MetricSpec, views: Sequence[str]) -> tuple[str, ...]:
        """Return the view names in records of `spec`, for a scene with `views`."""
        return (ALL_VIEWS,) if spec.spans_views else self.views_of(spec, views)

    def places_of(self, spec: MetricSpec) -> tuple[Place, ...]:
        """Return the places where `spec` is measured."""
        if spec.spans_views:
            return (BETWEEN,)
        roles = {"input": INPUT, "novel": NOVEL}
        views = ("input", *spec.views) if self.front_view else spec.views
        return tuple(dict.fromkeys(roles[role] for role in views))


_C4D = (
    Psnr(range="gt-minmax", cap=None),
    Ssim(range="max-minmax", border="crop5"),
    Lpips(),
    Clip(),
    FvdC4d(),
)
_FIXED = (Psnr(), Ssim(), Lpips(), Clip(), FvdC4d())
_TOY4D_V1 = (
    Psnr(views=BOTH),
    Ssim(views=BOTH),
    Lpips(views=BOTH),
    Clip(),
    ClipViews(),
    FvdC4d(views=BOTH),
    FvdSet(),
    ClipTime(views=BOTH),
    WarpError(views=BOTH),
    WarpFloor(views=BOTH),
    WarpError(key="warp_8", views=BOTH, gap=8),
    WarpFloor(key="warp_8_floor", views=BOTH, gap=8),
    MotionMagnitude(views=BOTH),
    MotionMagnitude(key="motion_reference", views=BOTH, of="reference"),
    FlowError(views=BOTH),
    NormalError(views=BOTH),
)
_CLIP_TOY: tuple[MetricSpec, ...] = (
    Clip(key="clip_toy", weights="clip-toy4d", model="toy4d-small"),
    ClipViews(key="clip_toy_views", weights="clip-toy4d", model="toy4d-small"),
)

# Of views that are generated before a field is fitted.
_VIEWS: tuple[MetricSpec, ...] = (
    Psnr(),
    Ssim(),
    Lpips(),
    ClipViews(),
    FvdC4d(),
    FvdSet(),
    WarpError(),
    WarpFloor(),
    NormalError(),
    FlickerOf(),
    FlickerFloor(),
    NormalWarpError(),
    NormalWarpFloor(),
)

_MATRIX: tuple[MetricSpec, ...] = (
    *(FvdF(), FvdV(), FvdDiag(), Fv4d()),
    *(FvdFSet(), FvdVSet(), FvdDiagSet(), Fv4dSet()),
)

_ALL = (
    Protocol(
        name="c4d-v1",
        summary="what the Consistent4D scripts gave when they were published, but for SSIM in float64",
        source="yanqinJiang/Consistent4D evaluation/ at e6d3e258 with torchmetrics 1.3, numpy < 2.2",
        size=512,
        strict=False,
        metrics=_C4D,
    ),
    Protocol(
        name="c4d-fixed-v1",
        summary="the same with PSNR and SSIM range 255, full border, pairing by name and a strict pre-flight; "
        "recommended for new work",
        source="c4d-v1 with its accidents removed",
        size=512,
        strict=True,
        metrics=_FIXED,
    ),
    Protocol(
        name="stag4d-30f-v1",
        summary="c4d-v1 on 30 frames, as STAG4D reports",
        source="issue zeng-yifei/STAG4D#10",
        size=512,
        strict=False,
        metrics=_C4D,
        frames=30,
        first_frames=30,
        assumed=("the first 30 of 32 frames: which 30 were used is not stated",),
    ),
    Protocol(
        name="diffusion2-25f-front-v1",
        summary="c4d-v1 on the first 25 frames with the front view as a fifth view, as Diffusion² reports",
        source="issue fudan-zvg/diffusion-square#4",
        size=512,
        strict=False,
        metrics=_C4D,
        frames=25,
        first_frames=25,
        front_view=True,
        assumed=("mean over five views; the published script's literal division by 4 would be 25 % higher",),
    ),
    Protocol(
        name="refview-v1",
        summary="agreement with the input video on the input view, CLIP between views of one result",
        source="MVTokenFlow, tables 1 and 3; its text leaves the details open",
        size=512,
        strict=True,
        metrics=(
            Psnr(views=("input",)),
            Ssim(views=("input",)),
            Lpips(views=("input",)),
            ClipViews(),
            FvdC4d(views=("input",)),
            # version 1 embedded the renderings as they were, not at the protocol's size
            ClipTime(version=2, views=("input",)),
            WarpError(views=("input",), flow="dis"),
            WarpFloor(views=("input",), flow="dis"),
            MotionMagnitude(views=("input",)),
        ),
        assumed=(
            "512 px on white, LPIPS-VGG fed −1..1, range 255",
            "CLIP: rendered input view against each rendered novel view at the same time",
            "FVD: the single-clip distance of Consistent4D's script, input video against rendered input view",
        ),
    ),
    Protocol(
        name="toy4d-v1",
        summary="the embedded benchmark at its own resolution, with exact flow and normals",
        source="this project",
        size=None,
        strict=True,
        metrics=_TOY4D_V1,
    ),
    Protocol(
        name="toy4d-v2",
        summary="toy4d-v1 and the cosines of a small CLIP trained on toy4d, which ships with the package",
        source="this project",
        size=None,
        strict=True,
        metrics=(*_TOY4D_V1, *_CLIP_TOY),
    ),
    Protocol(
        name="toy4d-v3",
        summary="toy4d-v2 and geometry in space: chamfer distance, F-score, tracks of surface points, depth",
        source="this project",
        size=None,
        strict=True,
        metrics=(*_TOY4D_V1, *_CLIP_TOY, Chamfer(), FScore(), TrackError(), DepthError(views=BOTH)),
    ),
    Protocol(
        name="views-v1",
        summary="generated views before a field is fitted, with flicker and normals along the exact flow",
        source="this project",
        size=None,
        strict=True,
        metrics=(*_VIEWS, *_CLIP_TOY),
        frames=17,
    ),
    Protocol(
        name="matrix-v1",
        summary="SV4D's four video distances over 21 views by 21 times, each in two readings; LPIPS, PSNR",
        source="SV4D (arXiv 2407.17470), section 4; its text leaves the details open",
        size=None,
        strict=True,
        metrics=(Psnr(), Lpips(), *_MATRIX),
        frames=21,
        assumed=(
            "views wrap; the raster runs along the views first and is cut into clips as long as a view's",
            "I3D's logits, head pooling 1, PIL bicubic to 224, as in Consistent4D's script, in both readings",
        ),
    ),
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({protocol.name: protocol for protocol in _ALL})
# One of each metric, by its key in records: for what all of a key share, direction and digits.
METRICS: Mapping[str, MetricSpec] = MappingProxyType(
    {spec.key: spec for protocol in _ALL for spec in protocol.metrics}
)


def protocol_named(name: str) -> Protocol:
    """Return the protocol `name`, or the object at "package.module:attribute" for a protocol of your own.

    Raises:
        ConfigError: unknown name (suggests the nearest), nothing to import there, or not a protocol.
    """
    if ":" not in name:
        return choose("protocol", name, PROTOCOLS)
    protocol: Any = attribute_at(name, f"protocol {brief(name)}")
    if fault := _fault(protocol):
        raise ConfigError(f"protocol {brief(name)}: {fault}")
    made: Protocol = protocol
    return made


def _fault(protocol: Any) -> str | None:
    """Return why an object from outside cannot be used as a protocol; None if it can."""
    if not isinstance(protocol, Protocol):
        return f"it is a {type(protocol).__name__}; name a Protocol of mvtokenflow.eval.protocols"
    if fault := name_fault(protocol.name):
        return f"its name becomes part of a file's name, but it {fault}; give it another one"
    if protocol.name in PROTOCOLS and protocol != PROTOCOLS[protocol.name]:
        return f"its name is that of the published {protocol.name}, which it is not; give it another one"
    metrics: Sequence[Any] = protocol.metrics
    for spec in metrics:
        if not isinstance(spec, MetricSpec):
            return f"{brief(repr(spec))} among its metrics is no MetricSpec of mvtokenflow.eval.metrics.spec"
        if fault := name_fault(spec.key):
            return f"the key of a {type(spec).__name__} is a name, but it {fault}; give it another one"
    keys = Counter(spec.key for spec in protocol.metrics)
    twice = [key for key, count in keys.items() if count > 1]
    return f"two of its metrics have the key '{twice[0]}'; give each its own" if twice else None


def is_catalogued(name: str) -> bool:
    """Return whether a name is a protocol of this package, which data files may therefore name."""
    return name in PROTOCOLS


def readings(base: Protocol) -> Sequence[tuple[str, Protocol]]:
    """Return the plausible readings of one protocol, each labelled with its one difference from `base`."""

    def swapped(key: str, **changes: object) -> Protocol:
        metrics = tuple(replace(s, **changes) if s.key == key else s for s in base.metrics)  # type: ignore[arg-type]
        return replace(base, metrics=tuple(s for s in metrics if s.key == key))

    present = {spec.key for spec in base.metrics}
    table: list[tuple[str, str, dict[str, object]]] = [
        ("psnr", "range of each reference picture", {"range": "gt-minmax"}),
        ("psnr", "range 255", {"range": "255"}),
        ("ssim", "automatic range, 5-px border dropped", {"range": "max-minmax", "border": "crop5"}),
        ("ssim", "automatic range, whole map", {"range": "max-minmax", "border": "full"}),
        ("ssim", "range 255, whole map", {"range": "255", "border": "full"}),
        ("lpips", "VGG fed −1..1", {"net": "vgg", "scale": "-1..1", "weights": "lpips-vgg"}),
        ("lpips", "VGG fed 0..1 (3DGS lineage)", {"net": "vgg", "scale": "0..1", "weights": "lpips-vgg"}),
        ("lpips", "AlexNet fed −1..1", {"net": "alex", "scale": "-1..1", "weights": "lpips-alex"}),
        ("lpips", "AlexNet fed 0..1", {"net": "alex", "scale": "0..1", "weights": "lpips-alex"}),
        ("fvd_c4d", "I3D head pooling (1,7,7), Consistent4D's", {"pool": 1}),
        ("fvd_c4d", "I3D head pooling (2,7,7), DeepMind's", {"pool": 2}),
    ]
    rows = [(f"{key}: {label}", swapped(key, **changes)) for key, label, changes in table if key in present]
    sizes = [("at 256 px", 256), ("at 512 px", 512)]
    for key in ("psnr", "ssim", "lpips"):
        if key in present:
            rows.extend((f"{key}: {label}", replace(swapped(key), size=size)) for label, size in sizes)
    return rows
