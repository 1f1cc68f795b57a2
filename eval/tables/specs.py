"""Which columns the tables have; no numbers here."""

from collections.abc import Mapping
from dataclasses import dataclass

from mvtokenflow.base.files import choose
from mvtokenflow.eval.protocols import ALL_VIEWS, INPUT_VIEW, NOVEL_VIEWS
from mvtokenflow.eval.tables.table import Direction


@dataclass(frozen=True, kw_only=True)
class ColumnSpec:
    """A column: which metric, on which views."""

    metric: str
    title: str
    better: Direction
    digits: int
    views: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """What a table shows. Columns the protocol does not measure are left out."""

    name: str
    title: str
    caption: str
    columns: tuple[ColumnSpec, ...]


_INPUT, _BETWEEN = (INPUT_VIEW,), (ALL_VIEWS,)


def _input(metric: str, title: str, better: Direction, digits: int) -> ColumnSpec:
    return ColumnSpec(metric=metric, title=title, better=better, digits=digits, views=_INPUT)


def _novel(metric: str, title: str, better: Direction, digits: int) -> ColumnSpec:
    return ColumnSpec(metric=metric, title=title, better=better, digits=digits, views=NOVEL_VIEWS)


_CLIP_VIEWS = ColumnSpec(metric="clip_views", title="CLIP views", better="higher", digits=3, views=_BETWEEN)
_CLIP_TOY_VIEWS = ColumnSpec(
    metric="clip_toy_views", title="CLIP-toy views", better="higher", digits=3, views=_BETWEEN
)

TABLES: Mapping[str, TableSpec] = {
    spec.name: spec
    for spec in (
        TableSpec(
            name="table1",
            title="Agreement with the input video, consistency between views and over time",
            caption="LPIPS, PSNR, SSIM and the warp error on the input view; CLIP between the rendered views.",
            columns=(
                _input("lpips", "LPIPS", "lower", 4),
                _input("psnr", "PSNR", "higher", 2),
                _input("ssim", "SSIM", "higher", 4),
                _CLIP_VIEWS,
                _CLIP_TOY_VIEWS,
                _input("warp", "Warp error", "lower", 2),
                _input("warp_floor", "Warp floor", "none", 2),
                _input("motion", "Motion px", "none", 2),
            ),
        ),
        TableSpec(
            name="table2",
            title="Novel views against ground truth",
            caption="Mean over four held-out views (azimuth −75, 15, 105, 195 degrees).",
            columns=(
                _novel("lpips", "LPIPS", "lower", 4),
                _novel("clip", "CLIP", "higher", 3),
                _novel("clip_toy", "CLIP-toy", "higher", 3),
                _novel("fvd_c4d", "FVD (C4D)", "lower", 1),
                _novel("psnr", "PSNR", "higher", 2),
                _novel("ssim", "SSIM", "higher", 4),
                _novel("fvd", "FVD (set)", "lower", 1),
                _novel("warp", "Warp error", "lower", 2),
                _novel("warp_floor", "Warp floor", "none", 2),
            ),
        ),
        TableSpec(
            name="table3",
            title="Ablation",
            caption="LPIPS and single-clip FVD on the input view, CLIP between views, geometry where exact.",
            columns=(
                _input("lpips", "LPIPS", "lower", 4),
                _input("fvd_c4d", "FVD (C4D)", "lower", 1),
                _CLIP_VIEWS,
                _CLIP_TOY_VIEWS,
                _novel("lpips", "LPIPS novel", "lower", 4),
                _novel("psnr", "PSNR novel", "higher", 2),
                _novel("warp", "Warp novel", "lower", 2),
                _input("flow_epe", "Flow EPE input px", "lower", 2),
                _novel("flow_epe", "Flow EPE px", "lower", 2),
                _novel("normal_deg", "Normal °", "lower", 1),
            ),
        ),
        TableSpec(
            name="table4",
            title="Cost",
            caption="Minutes and peak memory per scene, all stages together.",
            columns=(
                ColumnSpec(metric="minutes", title="Minutes", better="lower", digits=2),
                ColumnSpec(metric="peak_mib", title="Peak MiB", better="lower", digits=0),
            ),
        ),
    )
}


def table_named(name: str) -> TableSpec:
    """The table, or a ConfigError with the nearest name."""
    return choose("table", name, TABLES)
