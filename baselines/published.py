"""Numbers printed in papers, with paper and table; they are never ranked with measured ones."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published number.

    Attributes:
        method: row label.
        table: our table with its column, e.g. "table2".
        metric: metric key of that column.
        printed: the number as the paper prints it, with its own digits.
        arxiv: identifier of the paper that prints it.
        where: table (and page or version) in that paper.
        protocol: what is known and what is unknown about how it was measured.
    """

    method: str
    table: str
    metric: str
    printed: str
    arxiv: str
    where: str
    protocol: str


_MVTF = "2502.11697"
_REFVIEW = "input view of Consistent4D's videos; which objects, size and LPIPS network are not stated"
_NOVEL = "Consistent4D's synthetic objects with ground truth, presumably its scripts; FVD not defined"
_ABLATION = "Consistent4D dataset; which objects and which view FVD is over are not stated"
_MINUTES = "minutes of training; others' numbers are quoted there from Diffusion² (2404.02148)"


def _rows(
    table: str, where: str, protocol: str, metrics: tuple[str, ...], values: dict[str, tuple[str | None, ...]]
) -> tuple[Published, ...]:
    return tuple(
        Published(
            method=method,
            table=table,
            metric=metric,
            printed=printed,
            arxiv=_MVTF,
            where=where,
            protocol=protocol,
        )
        for method, numbers in values.items()
        for metric, printed in zip(metrics, numbers, strict=True)
        if printed is not None
    )


PUBLISHED: tuple[Published, ...] = (
    *_rows(
        "table1",
        "table 1",
        _REFVIEW,
        ("lpips", "psnr", "ssim", "clip_views"),
        {
            "Consistent4D": (None, "23.97", "0.91", "0.89"),
            "SC4D": ("0.08", "29.50", "0.95", "0.90"),
            "STAG4D": ("0.06", "30.79", "0.94", "0.91"),
            "MVTokenFlow": ("0.04", "31.27", "0.97", "0.91"),
        },
    ),
    *_rows(
        "table2",
        "table 2",
        _NOVEL,
        ("lpips", "clip", "fvd_c4d"),
        {
            "DG4D": ("0.1748", "0.915", "856.86"),
            "Consistent4D": ("0.1729", "0.865", "1072.94"),
            "SC4D": ("0.1659", "0.915", "879.66"),
            "STAG4D": ("0.1506", "0.885", "972.73"),
            "MVTokenFlow": ("0.1216", "0.948", "846.32"),
        },
    ),
    *_rows(
        "table3",
        "table 3",
        _ABLATION,
        ("lpips", "fvd_c4d", "clip_views"),
        {
            "MVTokenFlow w/o enlarged SA": ("0.0425", "348.36", "0.881"),
            "MVTokenFlow w/o flow": ("0.0408", "341.50", "0.887"),
            "MVTokenFlow w/o normal": ("0.0405", "320.93", "0.885"),
            "MVTokenFlow": ("0.0423", "313.47", "0.891"),
        },
    ),
    *_rows(
        "table4",
        "table 4",
        _MINUTES,
        ("minutes",),
        {
            "Consistent4D": ("120",),
            "SC4D": ("30",),
            "STAG4D": ("90",),
            "DG4D": ("11",),
            "Diffusion²": ("12",),
            "MVTokenFlow": ("120",),
        },
    ),
)
