"""Read the measured values of finished runs into pandas, and make a table of your own of them.

    mvtf-eval table2 --methods ground-truth,copy-input,one-frame-lag --runs runs
    python examples/records_into_pandas.py runs

Each row of the table is one value: of a dataset, method, scene, seed, view, frame and metric. Values that do
not count any more (of pictures that were rendered again, say) are not in it.
"""

import sys
from pathlib import Path

import pandas as pd

import mvtokenflow


def worst_frames(runs: Path, metric: str = "psnr", count: int = 5) -> pd.DataFrame:
    """The frames with the lowest values of a metric, over all methods and scenes."""
    values = mvtokenflow.load_values(runs)
    of_metric = values[values["metric"] == metric]
    return of_metric.nsmallest(count, "value")[["method", "scene", "view", "frame", "value"]]


def by_method_and_view(runs: Path, metric: str = "psnr") -> pd.DataFrame:
    """Means of a metric, methods downwards and views across."""
    values = mvtokenflow.load_values(runs)
    of_metric = values[values["metric"] == metric]
    return of_metric.pivot_table(index="method", columns="view", values="value", aggfunc="mean")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(by_method_and_view(folder).round(2).to_string())
    print(worst_frames(folder).to_string(index=False))
