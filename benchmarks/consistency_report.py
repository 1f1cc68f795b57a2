"""Tables of `consistency.py`: means, paired differences, and the Frechet distance of sets of clips."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvtokenflow.eval.metrics import fvd
from mvtokenflow.eval.tables.stats import bootstrap_mean, paired_differences, sign_flip_test

NOVEL = (1, 2, 3, 4, 5)
METRICS = ("warp", "flicker", "psnr", "lpips", "normal", "normal_warp", "iou", "detail", "fvd_c4d")
AZIMUTHS = {"45": (1, 5), "90": (2, 4), "180": (3,), "front": (0,)}
DIGITS = {"detail": 3, "iou": 3, "lpips": 4, "fvd": 1, "fvd_c4d": 1, "warp": 3, "flicker": 3}
_RESAMPLES = 1000  # resamples for the set distance, which has no value per scene

# row -> scene -> metric -> view -> value, and metric "report"; row -> scene -> (clips, 400)
Records = Mapping[str, Mapping[str, Mapping[str, Any]]]
Logits = Mapping[str, Mapping[str, NDArray[np.float64]]]


def per_scene(records: Records, row: str, metric: str, views: Sequence[int] = NOVEL) -> dict[str, float]:
    """Return a row's value of every scene, mean over views (records are means over seeds)."""
    return {
        scene: float(np.mean([found[metric][view] for view in views])) for scene, found in records[row].items()
    }


def summarise(records: Records, logits: Logits, against: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Compute everything that the tables show, JSON-able.

    Args:
        records: row -> scene -> metric -> view -> value; views without a value are left out.
        logits: row -> scene -> I3D logits of its clips of `NOVEL` views; empty without `fvd`.
        against: rows each row is compared with.
    """
    measured = next(iter(next(iter(records.values())).values()))
    metrics = [name for name in METRICS if name in measured]
    rows: dict[str, Any] = {}
    for row, scenes in records.items():
        values = {}
        for metric in metrics:
            of_scenes = per_scene(records, row, metric)
            spread = bootstrap_mean([of_scenes[name] for name in sorted(of_scenes)], 0)
            values[metric] = {
                "mean": spread.mean,
                "low": spread.low,
                "high": spread.high,
                "scenes": of_scenes,
                "views": {
                    name: float(np.mean(list(per_scene(records, row, metric, views).values())))
                    for name, views in AZIMUTHS.items()
                    if all(view in next(iter(scenes.values()))[metric] for view in views)
                },
            }
        rows[row] = {"values": values, "tokens": _mean_reports([found["report"] for found in scenes.values()])}
        if logits:
            rows[row]["fvd"] = set_distance(logits[row], logits["truth"], sorted(scenes))
    differences = [
        difference
        for row, others in against.items()
        for other in others
        if row in records and other in records
        for difference in _differences(records, logits, metrics, row, other)
    ]
    return {"rows": rows, "differences": differences}


def set_distance(
    clips: Mapping[str, NDArray[np.float64]], truth: Mapping[str, NDArray[np.float64]], scenes: Sequence[str]
) -> float | None:
    """Compute `fvd` of the clips of some scenes; None where a side has only one clip."""
    ours, theirs = (np.concatenate([side[scene] for scene in scenes]) for side in (clips, truth))
    return fvd.frechet_distance(ours, theirs) if len(ours) > 1 else None


def _differences(
    records: Records, logits: Logits, metrics: Sequence[str], row: str, other: str
) -> list[dict[str, Any]]:
    found = []
    for metric in metrics:
        gaps = paired_differences(per_scene(records, row, metric), per_scene(records, other, metric))
        spread, test = bootstrap_mean(gaps, 0), sign_flip_test(gaps, 0)
        found.append(
            {
                "row": row,
                "against": other,
                "metric": metric,
                "mean": spread.mean,
                "low": spread.low,
                "high": spread.high,
                "p": test.p,
                "falls": int((gaps < 0).sum()),
                "scenes": len(gaps),
            }
        )
    if logits:
        found.append(_set_difference(logits, row, other))
    return found


def _set_difference(logits: Logits, row: str, other: str) -> dict[str, Any]:
    """Compute the difference of two set distances; its interval resamples scenes with all their clips."""
    scenes = sorted(logits[row])
    draws = np.random.default_rng(0)
    gaps = []
    for _ in range(_RESAMPLES if len(scenes) > 1 else 0):
        drawn = [scenes[k] for k in draws.integers(0, len(scenes), len(scenes))]
        ours, theirs = (set_distance(logits[name], logits["truth"], drawn) for name in (row, other))
        if ours is not None and theirs is not None:
            gaps.append(ours - theirs)
    ours, theirs = (set_distance(logits[name], logits["truth"], scenes) for name in (row, other))
    low, high = np.percentile(gaps, (2.5, 97.5)) if gaps else (None, None)
    return {
        "row": row,
        "against": other,
        "metric": "fvd",
        "mean": None if ours is None or theirs is None else ours - theirs,
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
        "p": None,
        "falls": None,
        "scenes": len(scenes),
    }


def _mean_reports(reports: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = sorted({name for report in reports for name in report})
    return {name: float(np.mean([report[name] for report in reports if name in report])) for name in names}


def markdown(summary: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """Write the means, then the differences: change, 95 % interval and p; bold where both agree on one."""
    rows = summary["rows"]
    known = next(iter(rows.values()))["values"]
    metrics = [name for name in METRICS if name in known]
    sets = all(row.get("fvd") is not None for row in rows.values())
    columns = metrics + (["fvd"] if sets else [])
    lines = ["| row | " + " | ".join(name.replace("_", " ") for name in columns) + " |"]
    lines.append("| --- |" + " --- |" * len(columns))
    for name, row in rows.items():
        cells = [_number(metric, row["values"][metric]["mean"]) for metric in metrics]
        cells += [_number("fvd", row["fvd"])] if sets else []
        lines.append(f"| {titles[name]} | " + " | ".join(cells) + " |")
    pairs = list(dict.fromkeys((gap["row"], gap["against"]) for gap in summary["differences"]))
    lines += ["", "| difference | " + " | ".join(name.replace("_", " ") for name in columns) + " |"]
    lines.append("| --- |" + " --- |" * len(columns))
    for pair in pairs:
        gaps = {gap["metric"]: gap for gap in summary["differences"] if (gap["row"], gap["against"]) == pair}
        cells = [_change(metric, gaps[metric]) for metric in columns]
        lines.append(f"| {pair[0]} − {pair[1]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(metric: str, value: float | None) -> str:
    return "–" if value is None else f"{value:.{DIGITS.get(metric, 2)}f}"


def _change(metric: str, gap: Mapping[str, Any]) -> str:
    digits = DIGITS.get(metric, 2)
    if gap["mean"] is None:
        return "–"
    text = f"{gap['mean']:+.{digits}f}"
    if gap["low"] is None:
        return text
    clear = not gap["low"] <= 0 <= gap["high"] and (gap["p"] is None or gap["p"] <= 0.05)
    text = f"**{text}**" if clear else text
    text += f" [{gap['low']:+.{digits}f}, {gap['high']:+.{digits}f}]"
    return text if gap["p"] is None else f"{text} p={gap['p']:.2g}"
