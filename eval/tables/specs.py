"""The columns of the tables; no numbers here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from mvtokenflow.base.files import choose
from mvtokenflow.eval.metrics.spec import Better, MetricSpec, ViewRole
from mvtokenflow.eval.protocols import BETWEEN, INPUT, METRICS, NOVEL, Place, Protocol
from mvtokenflow.eval.records.rows import Run
from mvtokenflow.eval.tables.titles import TITLES


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A cost of a run, shown like a metric and measured while rendering."""

    better: ClassVar[Better] = "lower"
    unit: ClassVar[str] = ""
    key: str
    digits: int
    of: Callable[[Run], float]


MINUTES = Cost(key="minutes", digits=2, of=lambda run: sum(stage.wall_s for stage in run.manifest.stages) / 60)
PEAK = Cost(key="peak_mib", digits=0, of=lambda run: max(stage.peak_mib for stage in run.manifest.stages))
COSTS: Mapping[str, Cost] = {cost.key: cost for cost in (MINUTES, PEAK)}


@dataclass(frozen=True, kw_only=True)
class ColumnSpec:
    """A column: its metric or cost, and the views. Direction and digits are the metric's."""

    shows: MetricSpec | Cost
    title: str
    place: Place | None = None

    @property
    def metric(self) -> str:
        """Return the key of the metric or the cost."""
        return self.shows.key

    @property
    def better(self) -> Better:
        return self.shows.better

    @property
    def digits(self) -> int:
        return self.shows.digits


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """The columns of a table. Those that the protocol does not measure are left out.

    Attributes:
        caption: for people; "{views}" stands for the held-out views of the runs.
        role: on which views it shows metrics that bring a column of their own; None for no such columns.
    """

    name: str
    title: str
    caption: str
    columns: tuple[ColumnSpec, ...]
    role: ViewRole | None = None

    def under(self, protocol: Protocol) -> "TableSpec":
        """Return the table with the columns that metrics of `protocol` add (`MetricSpec.column`)."""
        shown = {column.metric for column in self.columns}
        brought = [
            column
            for spec in protocol.metrics
            if spec.key not in shown and (column := _brought(spec, self.role)) is not None
        ]
        return replace(self, columns=(*self.columns, *brought))


def _brought(spec: MetricSpec, role: ViewRole | None) -> ColumnSpec | None:
    if spec.column is None or role is None:
        return None
    if spec.spans_views:
        return ColumnSpec(shows=spec, title=spec.column, place=BETWEEN) if role == spec.table_role else None
    if role not in spec.views:
        return None
    return ColumnSpec(shows=spec, title=spec.column, place=INPUT if role == "input" else NOVEL)


def _input(key: str, title: str) -> ColumnSpec:
    return ColumnSpec(shows=METRICS[key], title=title, place=INPUT)


def _novel(key: str, title: str) -> ColumnSpec:
    return ColumnSpec(shows=METRICS[key], title=title, place=NOVEL)


_CLIP_VIEWS = ColumnSpec(shows=METRICS["clip_views"], title="CLIP views", place=BETWEEN)
_CLIP_TOY_VIEWS = ColumnSpec(shows=METRICS["clip_toy_views"], title="CLIP-toy views", place=BETWEEN)

TABLES: Mapping[str, TableSpec] = {
    spec.name: spec
    for spec in (
        TableSpec(
            name="table1",
            role="input",
            title=TITLES["table1"],
            caption="LPIPS, PSNR, SSIM and the warp error on the input view; CLIP between the rendered views.",
            columns=(
                _input("lpips", "LPIPS"),
                _input("psnr", "PSNR"),
                _input("ssim", "SSIM"),
                _CLIP_VIEWS,
                _CLIP_TOY_VIEWS,
                _input("warp", "Warp error"),
                _input("warp_floor", "Warp floor"),
                _input("motion", "Motion px"),
            ),
        ),
        TableSpec(
            name="table2",
            role="novel",
            title=TITLES["table2"],
            caption="Mean over {views}.",
            columns=(
                _novel("lpips", "LPIPS"),
                _novel("clip", "CLIP"),
                _novel("clip_toy", "CLIP-toy"),
                _novel("fvd_c4d", "FVD (C4D)"),
                _novel("psnr", "PSNR"),
                _novel("ssim", "SSIM"),
                _novel("fvd", "FVD (set)"),
                _novel("warp", "Warp error"),
                _novel("warp_floor", "Warp floor"),
            ),
        ),
        TableSpec(
            name="table3",
            role="input",
            title=TITLES["table3"],
            caption="LPIPS and single-clip FVD on the input view, CLIP between views, geometry where exact.",
            columns=(
                _input("lpips", "LPIPS"),
                _input("fvd_c4d", "FVD (C4D)"),
                _CLIP_VIEWS,
                _CLIP_TOY_VIEWS,
                _novel("lpips", "LPIPS novel"),
                _novel("psnr", "PSNR novel"),
                _novel("warp", "Warp novel"),
                _input("flow_epe", "Flow EPE input px"),
                _novel("flow_epe", "Flow EPE px"),
                _novel("normal_deg", "Normal °"),
            ),
        ),
        TableSpec(
            name="table4",
            title=TITLES["table4"],
            caption="Minutes and peak memory per scene, all stages together.",
            columns=(
                ColumnSpec(shows=MINUTES, title="Minutes"),
                ColumnSpec(shows=PEAK, title="Peak MiB"),
            ),
        ),
    )
}


def table_named(name: str) -> TableSpec:
    """Return a table; raise a ConfigError with the nearest name if there is none."""
    return choose("table", name, TABLES)


def specs_of(protocol: Protocol, tables: Sequence[TableSpec]) -> list[MetricSpec]:
    """Return the metrics of a protocol that the columns of some tables show, on the views they show."""
    specs = []
    for spec in protocol.metrics:
        columns = [
            column for table in tables for column in table.under(protocol).columns if column.metric == spec.key
        ]
        if spec.spans_views and columns:
            specs.append(spec)
            continue
        places = {column.place for column in columns}
        roles = tuple(role for role in spec.views if (INPUT if role == "input" else NOVEL) in places)
        if roles:
            specs.append(replace(spec, views=roles))
    return specs
