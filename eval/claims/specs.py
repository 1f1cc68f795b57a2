"""Definitions of claims and of what the paper says of its parts: rows and metrics; no measured numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from mvtokenflow.eval.protocols import BETWEEN, INPUT, METRICS, NOVEL, Place
from mvtokenflow.eval.tables.specs import TABLES, ColumnSpec


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric on some views, as the claims compare it.

    Attributes:
        key: name within the claims, e.g. "lpips_novel".
        column: metric, views, direction; its title is read within a sentence.
        floor: the column of the reference's own value, below which lower is no longer better.
        proxy: weak evidence, which never decides alone.
    """

    key: str
    column: ColumnSpec
    floor: ColumnSpec | None = None
    proxy: bool = False

    @property
    def unit(self) -> str:
        """Return the unit printed after a number, with its space."""
        return self.column.shows.unit

    @property
    def table(self) -> str:
        """Name of the first table whose command measures it."""
        return table_of(self.column)


def table_of(column: ColumnSpec) -> str:
    """Return the first table whose command measures a column; metrics with a column of their own are in all."""
    return next(
        (
            name
            for name in ("table3", "table1", "table2")
            for shown in TABLES[name].columns
            if shown.metric == column.metric and column.place == shown.place
        ),
        "table2",
    )


def _measure(
    key: str,
    title: str,
    place: Place,
    floor: ColumnSpec | None = None,
    metric: str | None = None,
    proxy: bool = False,
) -> Measure:
    column = ColumnSpec(shows=METRICS[metric or key], title=title, place=place)
    return Measure(key=key, column=column, floor=floor, proxy=proxy)


_FLOOR = ColumnSpec(shows=METRICS["warp_floor"], title="warp floor", place=NOVEL)
_FLICKER_FLOOR = ColumnSpec(shows=METRICS["flicker_floor"], title="flicker floor", place=NOVEL)
_NORMAL_FLOOR = ColumnSpec(shows=METRICS["normal_warp_floor"], title="normal warp floor", place=NOVEL)

_ALL: Mapping[str, Measure] = {
    measure.key: measure
    for measure in (
        _measure("lpips_input", "LPIPS of the input view", INPUT, metric="lpips"),
        _measure("psnr_input", "PSNR of the input view", INPUT, metric="psnr"),
        _measure("ssim_input", "SSIM of the input view", INPUT, metric="ssim"),
        _measure("lpips_novel", "LPIPS of novel views", NOVEL, metric="lpips"),
        _measure("psnr_novel", "PSNR of novel views", NOVEL, metric="psnr"),
        _measure("ssim_novel", "SSIM of novel views", NOVEL, metric="ssim"),
        _measure("clip_novel", "CLIP of novel views", NOVEL, metric="clip"),
        _measure("clip_toy_novel", "CLIP-toy of novel views", NOVEL, metric="clip_toy", proxy=True),
        _measure("fvd_c4d_input", "FVD (C4D) of the input view", INPUT, metric="fvd_c4d"),
        _measure("fvd_c4d_novel", "FVD (C4D) of novel views", NOVEL, metric="fvd_c4d"),
        _measure("fvd", "FVD (set) of novel views", NOVEL),
        _measure("warp", "warp error of novel views", NOVEL, floor=_FLOOR),
        _measure("clip_views", "CLIP between views", BETWEEN),
        # It measures whether views show one toy, and is hardly sensitive to the side.
        _measure("clip_toy_views", "CLIP-toy between views", BETWEEN, proxy=True),
        _measure(
            "flow_epe_input",
            "flow end-point error of the input view",
            INPUT,
            metric="flow_epe",
        ),
        _measure(
            "flow_epe_novel",
            "flow end-point error of novel views",
            NOVEL,
            metric="flow_epe",
        ),
        _measure("normal_deg", "normal error", NOVEL),
        _measure("flicker", "flicker of novel views", NOVEL, floor=_FLICKER_FLOOR),
        _measure("normal_warp", "normal warp error of novel views", NOVEL, floor=_NORMAL_FLOOR),
    )
}


def _chosen(*keys: str) -> Mapping[str, Measure]:
    return {key: _ALL[key] for key in keys}


# Of claims about parts of the method, in print order.
MEASURES = _chosen(
    *("lpips_input", "lpips_novel", "psnr_novel", "fvd_c4d_input", "fvd_c4d_novel", "fvd", "warp"),
    *("clip_views", "clip_toy_views", "flow_epe_input", "flow_epe_novel", "normal_deg"),
)
# Of comparisons with other methods: what tables 1 and 2 show.
RIVAL_MEASURES = _chosen(
    *("lpips_input", "psnr_input", "ssim_input", "clip_views", "clip_toy_views"),
    *("lpips_novel", "clip_novel", "clip_toy_novel", "fvd_c4d_novel"),
    *("psnr_novel", "ssim_novel", "fvd", "warp"),
)
# Of claims about generated views, before a field is fitted to them.
GENERATED_MEASURES = _chosen(
    *("warp", "flicker", "normal_warp", "psnr_novel", "lpips_novel", "fvd_c4d_novel", "fvd"),
    *("clip_views", "clip_toy_views", "normal_deg"),
)
# The paper's tables: metric by key of the measure that is compared with it.
PRINTED: Mapping[str, Mapping[str, str]] = {
    "table1": {"lpips_input": "lpips", "psnr_input": "psnr", "ssim_input": "ssim", "clip_views": "clip_views"},
    "table2": {"lpips_novel": "lpips", "clip_novel": "clip", "fvd_c4d_novel": "fvd_c4d"},
    "table3": {"lpips_input": "lpips", "fvd_c4d_input": "fvd_c4d", "clip_views": "clip_views"},
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the paper about a part of its method, or about the method beside another one.

    Attributes:
        key: short name.
        title: the part and what it is claimed to improve, or the other method and where.
        says: the claim in plain words.
        where: sections, tables and figures of arXiv 2502.11697 that make it.
        part: what the first row has and the second lacks, as "With <part>, ..." reads; of a comparison with
            another method its name, as "Compared with <part>, ..." reads.
        against: the row without it, or that of the other method.
        primary: keys of the measures that decide.
        guards: keys of measures that must not get worse, where a primary one also rewards something else.
        videos: the paper claims it for generated videos; measured are renderings of the field.
        row: the row with it.
        printed: the second row's label among the numbers of one of the paper's tables, if it is there.
        printed_in: that table.
        rival: the second row is another method.
        generated: it is tested on generated views, before a field is fitted to them.
    """

    key: str
    title: str
    says: str
    where: str
    part: str
    against: str
    primary: tuple[str, ...]
    guards: tuple[str, ...] = ()
    videos: bool = False
    row: str = "mvtokenflow"
    printed: str | None = None
    printed_in: str = "table3"
    rival: bool = False
    generated: bool = False

    @property
    def measures(self) -> Mapping[str, Measure]:
        """Return what is compared, by key."""
        if self.generated:
            return GENERATED_MEASURES
        return RIVAL_MEASURES if self.rival else MEASURES

    @property
    def opening(self) -> str:
        """Return the words with which a sentence on the numbers begins."""
        if self.rival:
            return f"Compared with {self.part}"
        if self.generated:
            return f"In generated views, with {self.part}"
        return f"In renderings of the field, with {self.part}" if self.videos else f"With {self.part}"


_BLUR = ("lpips_novel",)  # blur lowers the warp error, and LPIPS detects blur

CLAIMS: Mapping[str, Claim] = {
    claim.key: claim
    for claim in (
        Claim(
            key="enlarged-attention",
            title="Enlarged self-attention: temporal consistency",
            says="Self-attention over all time steps of a view makes the generated videos more consistent over "
            "time, without retraining; the ablation shows it as a lower FVD.",
            where="section 3.1; table 3 (FVD 348.36 without, 313.47 with)",
            part="enlarged self-attention",
            against="no-enlarged-attention",
            primary=("fvd_c4d_input", "fvd_c4d_novel", "warp"),
            guards=_BLUR,
            videos=True,
            printed="MVTokenFlow w/o enlarged SA",
        ),
        Claim(
            key="front-propagation",
            title="Front propagation: temporal consistency",
            says="Propagating the front view's tokens along the input's flow, in the first pass, makes the "
            "generated videos more consistent over time.",
            where="section 3.1",
            part="token propagation of the front view in the first pass",
            row="no-regeneration",
            against="no-propagation",
            primary=("warp",),
            guards=_BLUR,
            videos=True,
        ),
        Claim(
            key="propagation",
            title="Token propagation: temporal consistency",
            says="Propagating tokens along the flow, those of the front view in the first pass and of all "
            "views in the second, keeps pose and shape in the generated videos from flickering.",
            where="sections 3.1 and 4.3; figure 6",
            part="token propagation in both passes",
            against="no-propagation",
            primary=("warp",),
            guards=_BLUR,
            videos=True,
        ),
        Claim(
            key="flow",
            title="Flow (propagation and loss): temporal consistency",
            says="Flow guidance as a whole, token propagation in both passes and the flow loss, improves "
            "temporal consistency; the ablation shows it as a lower FVD.",
            where="section 4.3; table 3 (FVD 341.50 without, 313.47 with)",
            part="token propagation in both passes and the flow loss",
            against="no-flow",
            primary=("fvd_c4d_input", "fvd_c4d_novel", "warp"),
            guards=_BLUR,
            printed="MVTokenFlow w/o flow",
        ),
        Claim(
            key="flow-loss",
            title="Flow loss: motion of the field",
            says="The flow loss makes the field's own flow much better: its motion can be relied on.",
            where="section 4.3; figure 5 (b) against (d)",
            part="the flow loss",
            against="no-flow-loss",
            primary=("flow_epe_input", "flow_epe_novel"),
        ),
        Claim(
            key="normal-consistency",
            title="Normal loss: consistency between views",
            says="The normal loss makes views of one time agree better; the ablation shows it as a higher CLIP "
            "cosine between views.",
            where="section 4.3; table 3 (CLIP 0.885 without, 0.891 with)",
            part="the normal loss",
            against="no-normal",
            primary=("clip_views", "clip_toy_views"),
            printed="MVTokenFlow w/o normal",
        ),
        Claim(
            key="normal-geometry",
            title="Normal loss: geometry",
            says="Generated normal maps constrain the geometry of the field.",
            where="section 3.2",
            part="the normal loss",
            against="no-normal",
            primary=("normal_deg",),
            guards=("lpips_novel",),  # normals count only where the row has some: thinner rims score better
            printed="MVTokenFlow w/o normal",
        ),
        Claim(
            key="normal-rendering",
            title="Normal loss: rendering",
            says="The geometric constraint of the normal maps makes renderings better.",
            where="section 3.2",
            part="the normal loss",
            against="no-normal",
            primary=("lpips_novel", "psnr_novel"),
            printed="MVTokenFlow w/o normal",
        ),
        Claim(
            key="regeneration",
            title="Regeneration: temporal consistency",
            says="Generating again with the coarse field's flow on all views makes the videos much more "
            "consistent over time.",
            where="section 3.3",
            part="the second pass, with tokens of all views carried along the field's flow",
            against="no-regeneration",
            primary=("warp",),
            guards=_BLUR,
            videos=True,
        ),
        Claim(
            key="refinement",
            title="Refined against coarse: quality",
            says="Regeneration and refinement make the blurry renderings of the coarse field better and "
            "sharper.",
            where="sections 3.3 and 4.3; figure 5 (b) against (c)",
            part="regeneration and refinement",
            against="coarse",
            primary=("lpips_novel", "lpips_input"),
        ),
    )
}
