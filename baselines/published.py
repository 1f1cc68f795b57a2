"""Numbers printed in papers, with paper and table; they are never ranked with measured ones."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published number.

    Attributes:
        method: row label.
        table: our table with its column, e.g. "table2"; "" of numbers that no table of ours quotes.
        metric: metric key of that column, or the name of a metric that no table of ours has, e.g. "fvd_v".
        views: what it is of: "input view", "novel views", "between views" or "a scene" for costs.
        dataset: on which it was measured.
        printed: the number as the paper prints it, with its own digits.
        arxiv: identifier of the paper that prints it.
        where: table (and page or version) in that paper.
        protocol: what is known and what is unknown about how it was measured.
    """

    method: str
    table: str
    metric: str
    views: str
    dataset: str
    printed: str
    arxiv: str
    where: str
    protocol: str


_MVTF, _SV4D = "2502.11697", "2407.17470"
CONSISTENT4D, OBJAVERSE_DY = "Consistent4D", "ObjaverseDy"
INPUT_VIEW, NOVEL_VIEWS, BETWEEN_VIEWS, A_SCENE = "input view", "novel views", "between views", "a scene"
_REFVIEW = "input view of Consistent4D's videos; which objects, size and LPIPS network are not stated"
_NOVEL = "Consistent4D's synthetic objects with ground truth, presumably its scripts; FVD not defined"
_ABLATION = "Consistent4D dataset; which objects and which view FVD is over are not stated"
_MINUTES = "minutes of training; others' numbers are quoted there from Diffusion² (2404.02148)"
_OPEN = "extractor, clip length, and whether it is of single clips are not stated"
_FVD_F = f"FVD-F is of a view over its frames; {_OPEN}"
_FVD_ALL = (
    "FVD-F is of a view over its frames, FVD-V of a frame over its views, FVD-Diag of both advancing, FV4D of "
    f"all pictures in raster order; {_OPEN}"
)
_REPRODUCED = "STAG4D is the authors' reproduction with SV3D"
_VIDEOS = f"novel-view videos as a model samples them, without a 4D fit; {_REPRODUCED}"
_FITTED = "renderings of the optimised 4D results"
_DY = "the authors' choice of animated objects, whose list no file states; orbits of 21 views x 21 frames"


def _rows(
    table: str,
    where: str,
    protocol: str,
    metrics: tuple[tuple[str, str], ...],
    values: dict[str, tuple[str | None, ...]],
    arxiv: str = _MVTF,
    dataset: str = CONSISTENT4D,
) -> tuple[Published, ...]:
    """Return the numbers of a table; `metrics` are its columns, each with its views."""
    return tuple(
        Published(
            method=method,
            table=table,
            metric=metric,
            views=views,
            dataset=dataset,
            printed=printed,
            arxiv=arxiv,
            where=where,
            protocol=protocol,
        )
        for method, numbers in values.items()
        for (metric, views), printed in zip(metrics, numbers, strict=True)
        if printed is not None
    )


PUBLISHED: tuple[Published, ...] = (
    *_rows(
        "table1",
        "table 1",
        _REFVIEW,
        (
            ("lpips", INPUT_VIEW),
            ("psnr", INPUT_VIEW),
            ("ssim", INPUT_VIEW),
            ("clip_views", BETWEEN_VIEWS),
        ),
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
        (("lpips", NOVEL_VIEWS), ("clip", NOVEL_VIEWS), ("fvd_c4d", NOVEL_VIEWS)),
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
        (("lpips", INPUT_VIEW), ("fvd_c4d", INPUT_VIEW), ("clip_views", BETWEEN_VIEWS)),
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
        (("minutes", A_SCENE),),
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

_MATRIX = tuple((key, NOVEL_VIEWS) for key in ("lpips", "clip", "fvd_f", "fvd_v", "fvd_diag", "fv4d"))

# SV4D's tables 1 to 4, which no table of ours quotes.
ELSEWHERE: tuple[Published, ...] = (
    *_rows(
        "",
        "table 1",
        f"{_VIDEOS}; {_FVD_F}",
        _MATRIX[:3],
        {
            "SV3D": (".129", ".925", "989.53"),
            "4Diffusion": (".164", ".863", None),
            "Diffusion²": (".189", ".907", "1205.16"),
            "STAG4D": (".131", ".929", "861.88"),
            "SV4D": (".129", ".929", "677.68"),
        },
        arxiv=_SV4D,
    ),
    *_rows(
        "",
        "table 2",
        f"{_FITTED}; {_FVD_F}",
        _MATRIX[:3],
        {
            "Consistent4D": (".160", ".87", "1133.93"),
            "STAG4D": (".126", ".91", "992.21"),
            "4Diffusion": (".165", ".88", None),
            "Efficient4D": (".130", ".92", None),
            "4DGen": (".140", ".89", None),
            "DG4D": (".160", ".87", None),
            "GaussianFlow": (".140", ".91", None),
            "SV4D": (".118", ".92", "732.40"),
        },
        arxiv=_SV4D,
    ),
    *_rows(
        "",
        "table 3",
        f"{_DY}; {_VIDEOS}; {_FVD_ALL}",
        _MATRIX,
        {
            "SV3D": (".131", ".920", "729.67", "375.49", "526.78", "690.49"),
            "Diffusion²": (".188", ".869", "1048.47", "564.80", "938.98", "1320.29"),
            "STAG4D": (".133", ".917", "652.43", "469.07", "636.83", "546.56"),
            "SV4D": (".136", ".920", "585.09", "331.94", "503.02", "470.46"),
        },
        arxiv=_SV4D,
        dataset=OBJAVERSE_DY,
    ),
    *_rows(
        "",
        "table 4",
        f"{_DY}; {_FITTED}; {_FVD_ALL}",
        _MATRIX,
        {
            "Consistent4D": (".165", ".896", "880.54", "488.38", "741.52", "871.95"),
            "STAG4D": (".158", ".860", "929.10", "453.62", "663.50", "1003.16"),
            "DG4D": (".152", ".897", "697.80", "450.58", "615.68", "638.15"),
            "SV4D": (".131", ".905", "659.66", "368.53", "525.65", "614.35"),
        },
        arxiv=_SV4D,
        dataset=OBJAVERSE_DY,
    ),
)

# Rows of this repository by their label in papers.
ROWS: Mapping[str, str] = {
    "MVTokenFlow": "mvtokenflow",
    "MVTokenFlow w/o enlarged SA": "no-enlarged-attention",
    "MVTokenFlow w/o flow": "no-flow",
    "MVTokenFlow w/o normal": "no-normal",
    "Consistent4D": "consistent4d",
    "SC4D": "sc4d",
    "STAG4D": "stag4d",
    "DG4D": "dg4d",
    "Diffusion²": "diffusion2",
}
