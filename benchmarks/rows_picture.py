"""Write one picture of what rows of a table rendered, below the reference.

    python benchmarks/rows_picture.py runs --methods mvtokenflow,dg4d --scenes quadruped-01,crab-01 \
        --views input,eval_0,eval_3 --frame 22 -o docs/images/six.png [--dataset toy4d-wild]

Each row of the picture is a method, the first is the reference; each group of columns is a scene.
"""

import argparse
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base import terminal
from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import write_bytes
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.eval.records.rows import load_runs
from mvtokenflow.media.video import read_on_white

SIDE = 96
GAP = 10  # pixels between scenes


def strip(folder: Path, views: Sequence[str], frame: int) -> NDArray[np.uint8]:
    """Return a frame of some views side by side, (SIDE, V SIDE + GAP, 3)."""
    pictures = [read_on_white(folder / view / f"{frame}.png") for view in views]
    small = [
        np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)) for picture in pictures
    ]
    return np.concatenate([*small, np.full((SIDE, GAP, 3), 255, np.uint8)], 1)


def _run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--methods", required=True)
    parser.add_argument("--dataset", default="toy4d")
    parser.add_argument("--scenes", required=True)
    parser.add_argument("--views", default="input,eval_0,eval_3")
    parser.add_argument("--frame", type=int, default=22)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    methods, scenes, views = (words.split(",") for words in (given.methods, given.scenes, given.views))
    made = {
        (run.manifest.method, run.manifest.scene): run.folder / "pred"
        for run in load_runs(given.runs)
        if run.manifest.dataset == given.dataset
    }
    missing = [f"{m} on {s}" for m in methods for s in scenes if (m, s) not in made]
    if missing:
        raise DataError(f"{given.runs}: no run of {', '.join(missing)}; complete the table first")
    dataset = open_dataset(given.dataset)
    rows = [[dataset.scene(scene).root for scene in scenes], *([made[m, s] for s in scenes] for m in methods)]
    picture = np.concatenate([np.concatenate([strip(f, views, given.frame) for f in row], 1) for row in rows])
    packed = BytesIO()
    Image.fromarray(picture).quantize(256).save(packed, "png", optimize=True)
    write_bytes(given.out, packed.getvalue())


if __name__ == "__main__":
    terminal.run(_run)
