"""Protocols: what exactly a number means, as frozen, versioned data.

A protocol is never edited once published; a change is a new version. Everything that can move a value
is a field, and every field is in the signature printed with each number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import ClassVar, Literal

from mvtokenflow.base.files import choose

ViewRole = Literal["novel", "input"]

NOVEL_VIEWS = ("eval_0", "eval_1", "eval_2", "eval_3")
INPUT_VIEW = "input"
ALL_VIEWS = "*"


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One metric of a protocol.

    Attributes:
        key: name of the metric in records and JSON.
        version: of our code for it; raised whenever a value can change.
        views: on which views it is measured.
        weights: name in the weights ledger, or None.
        needs: "frame" (a value per frame), "clip" (a value per view) or "views" (a value per object).
        resized: it looks at pictures of the protocol's size; else at pictures as they are.
    """

    resized: ClassVar[bool] = True
    key: str
    version: int = 1
    views: tuple[ViewRole, ...] = ("novel",)
    weights: str | None = None
    needs: Literal["frame", "clip", "views"] = "frame"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        """For which frames a view of `frames` has a value; [None] for one value per clip."""
        return [None] if self.needs == "clip" else frames

    def signature(self) -> str:
        """All fields that can change a value, e.g. `lpips|v:1|net:vgg|scale:-1..1`."""
        hidden = {"key", "version", "views", "weights", "needs"}
        parts = [
            f"{f.name.replace('_', '-')}:{getattr(self, f.name)}" for f in fields(self) if f.name not in hidden
        ]
        return "|".join([self.key, f"v:{self.version}", *parts])


@dataclass(frozen=True, kw_only=True)
class Psnr(MetricSpec):
    """PSNR in dB; `range` is R of 10 log10(R²/MSE).

    `cap` is the value of equal pictures and the most any picture gets: without it one equal frame makes a
    whole average infinite, as it does in the published scripts.
    """

    key: str = "psnr"
    range: Literal["gt-minmax", "255"] = "255"
    cap: float | None = 100.0


@dataclass(frozen=True, kw_only=True)
class Ssim(MetricSpec):
    """SSIM, Gaussian 11x11 σ 1.5, float64; `border` is the part of the map that is averaged."""

    key: str = "ssim"
    range: Literal["max-minmax", "255"] = "255"
    border: Literal["crop5", "full"] = "full"


@dataclass(frozen=True, kw_only=True)
class Lpips(MetricSpec):
    """LPIPS v0.1; `scale` is the input range the network is fed."""

    key: str = "lpips"
    weights: str | None = "lpips-vgg"
    net: Literal["vgg", "alex"] = "vgg"
    scale: Literal["-1..1", "0..1"] = "-1..1"


@dataclass(frozen=True, kw_only=True)
class Clip(MetricSpec):
    """Cosine of CLIP image embeddings.

    `model` is OpenAI's ViT-B/32, or the small network trained on toy4d alone; cosines of one say nothing of
    the other's, so metrics of the small one have keys of their own (`clip_toy`, never `clip`).
    `pair`: "gt" compares a rendering with the reference picture; "views" compares the rendered input view
    with every rendered novel view of the same time (no reference); "time" compares consecutive frames.
    """

    key: str = "clip"
    weights: str | None = "clip-vit-b32-openai"
    model: Literal["ViT-B-32", "toy4d-small"] = "ViT-B-32"
    pair: Literal["gt", "views", "time"] = "gt"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return frames[:-1] if self.pair == "time" else frames


@dataclass(frozen=True, kw_only=True)
class FvdC4d(MetricSpec):
    """What Consistent4D's script computes on one clip against one clip: squared logit distance plus a
    difference of standard deviations. No Fréchet distance between sets."""

    resized: ClassVar[bool] = False  # the network's own resizing starts from the pictures as they are
    key: str = "fvd_c4d"
    weights: str | None = "i3d-kinetics400"
    needs: Literal["frame", "clip", "views"] = "clip"
    pool: Literal[1, 2] = 1
    resize: Literal["pil-bicubic"] = "pil-bicubic"


@dataclass(frozen=True, kw_only=True)
class FvdSet(MetricSpec):
    """The Fréchet video distance between sets of clips of all objects and views (unbiased covariance).

    Recorded per clip as I3D logits; the number exists for a table, not for one object.
    """

    resized: ClassVar[bool] = False
    key: str = "fvd"
    weights: str | None = "i3d-kinetics400"
    needs: Literal["frame", "clip", "views"] = "clip"
    frames: int = 16
    pool: Literal[1, 2] = 2
    resize: Literal["bilinear"] = "bilinear"


@dataclass(frozen=True, kw_only=True)
class WarpError(MetricSpec):
    """Mean absolute difference, in 0..255, between frame t and frame t+gap warped back by the reference's
    flow, over visible pixels of the object. `of="reference"` is the floor: the reference's own value."""

    key: str = "warp"
    needs: Literal["frame", "clip", "views"] = "clip"
    flow: Literal["exact", "dis"] = "exact"
    gap: int = 1
    of: Literal["prediction", "reference"] = "prediction"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return frames[: -self.gap]


@dataclass(frozen=True, kw_only=True)
class MotionMagnitude(MetricSpec):
    """Mean length in pixels of the flow on the object; reads a static result for what it is.

    The flow is estimated (DIS) on the rendering, so that methods without flow are measured too.
    """

    key: str = "motion"
    needs: Literal["frame", "clip", "views"] = "clip"
    of: Literal["prediction", "reference"] = "prediction"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return frames[:-1]


@dataclass(frozen=True, kw_only=True)
class FlowError(MetricSpec):
    """End-point error in pixels of the method's own flow against the exact one, on visible pixels."""

    key: str = "flow_epe"
    needs: Literal["frame", "clip", "views"] = "clip"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return frames[:-1]


@dataclass(frozen=True, kw_only=True)
class NormalError(MetricSpec):
    """Mean angle in degrees between the method's normals and the exact ones, where both have an object."""

    key: str = "normal_deg"
    needs: Literal["frame", "clip", "views"] = "clip"

    def moments(self, frames: Sequence[int]) -> Sequence[int | None]:
        return frames


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How predictions are read, paired, measured and averaged.

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
        assumed: what the source leaves open and how it was read.
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
        """The signature of one metric under this protocol, without the data (views, frames, weights)."""
        resize = "native" if self.size is None or not spec.resized else f"{self.size}.pil-bicubic"
        subset = f"|first:{self.first_frames}" if self.first_frames else ""
        return f"{spec.signature()}|p:{self.name}|res:{resize}{subset}|agg:frame>view>object>set"

    def views_of(self, spec: MetricSpec) -> tuple[str, ...]:
        """Folder names on which `spec` is measured."""
        names: list[str] = []
        if "input" in spec.views or self.front_view:
            names.append(INPUT_VIEW)
        if "novel" in spec.views:
            names.extend(NOVEL_VIEWS)
        return tuple(names)

    def places_of(self, spec: MetricSpec) -> tuple[str, ...]:
        """The views that records of `spec` name: those it is measured on, or "*" for what lies between them."""
        return (ALL_VIEWS,) if spec.needs == "views" else self.views_of(spec)


_C4D = (
    Psnr(range="gt-minmax", cap=None),
    Ssim(range="max-minmax", border="crop5"),
    Lpips(),
    Clip(),
    FvdC4d(),
)
_FIXED = (Psnr(), Ssim(), Lpips(), Clip(), FvdC4d())
_BOTH: tuple[ViewRole, ...] = ("novel", "input")
_TOY4D_V1 = (
    Psnr(views=_BOTH),
    Ssim(views=_BOTH),
    Lpips(views=_BOTH),
    Clip(),
    Clip(key="clip_views", pair="views", views=_BOTH, needs="views"),
    FvdC4d(views=_BOTH),
    FvdSet(),
    Clip(key="clip_t", pair="time", views=_BOTH, needs="clip"),
    WarpError(views=_BOTH),
    WarpError(key="warp_floor", views=_BOTH, of="reference"),
    WarpError(key="warp_8", views=_BOTH, gap=8),
    WarpError(key="warp_8_floor", views=_BOTH, gap=8, of="reference"),
    MotionMagnitude(views=_BOTH),
    MotionMagnitude(key="motion_reference", views=_BOTH, of="reference"),
    FlowError(views=_BOTH),
    NormalError(views=_BOTH),
)
_CLIP_TOY: tuple[MetricSpec, ...] = (
    Clip(key="clip_toy", weights="clip-toy4d", model="toy4d-small"),
    Clip(
        key="clip_toy_views",
        weights="clip-toy4d",
        model="toy4d-small",
        pair="views",
        views=_BOTH,
        needs="views",
    ),
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
            Clip(key="clip_views", pair="views", views=_BOTH, needs="views"),
            FvdC4d(views=("input",)),
            # version 1 embedded the renderings as they were, not at the protocol's size
            Clip(key="clip_t", version=2, pair="time", views=("input",), needs="clip"),
            WarpError(views=("input",), flow="dis"),
            WarpError(key="warp_floor", views=("input",), flow="dis", of="reference"),
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
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({protocol.name: protocol for protocol in _ALL})


def protocol_named(name: str) -> Protocol:
    """The protocol, or a ConfigError with the nearest name."""
    return choose("protocol", name, PROTOCOLS)


def readings(base: Protocol) -> Sequence[tuple[str, Protocol]]:
    """The plausible readings of one protocol, each labelled with its single departure from `base`."""
    from dataclasses import replace

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
