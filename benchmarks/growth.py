"""How the time and memory of a table grow with finished runs: fake records, no pictures.

    python benchmarks/growth.py --scenes 1000 --methods 3 runs/fake
    python benchmarks/growth.py --scenes 10000 --methods 9 --averages runs/many

The records of a run are those of a toy4d scene under toy4d-v1, without networks, of eight frames, with random
values. Prints CPU seconds and MiB above the start of the first table, which reads all rows, and of the second,
which reads averages, each in a process of its own. With `--averages` runs have manifests and averages, as the
first table would leave them, but no rows (10 GB for 90,000 runs), and both tables read averages.
"""

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import numpy as np

from mvtokenflow.base.files import canonical_json, digest_json
from mvtokenflow.baselines.imported import ImportedRenderings
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.eval.protocols import PROTOCOLS
from mvtokenflow.eval.records.means import averages
from mvtokenflow.eval.records.rows import Manifest, Row, Stage, run_folder
from mvtokenflow.eval.records.summary import Summary
from mvtokenflow.eval.score.units import Settings
from mvtokenflow.eval.tables.request import Request
from mvtokenflow.eval.tables.specs import table_named
from mvtokenflow.eval.tables.tabulate import tabulate
from mvtokenflow.workdir.provenance import pedigree

PROTOCOL = PROTOCOLS["toy4d-v1"]
VIEWS = ("input", "eval_0", "eval_1", "eval_2", "eval_3")
FRAMES = 8


class Fake:
    """A dataset of scenes by name only."""

    name = "fake"

    def __init__(self, count: int) -> None:
        self.count = count

    def scene_names(self) -> list[str]:
        return [f"scene-{number:05d}" for number in range(self.count)]

    def scene(self, name: str) -> Scene:
        raise NotImplementedError("a table of finished runs opens no scene")


class FakeRow(ImportedRenderings):
    """A row without files."""

    def config(self) -> dict[str, Any]:
        return {"fake": self.name}


def write_runs(root: Path, scenes: int, methods: list[FakeRow], *, averages_only: bool) -> None:
    """Write the records of every run that is not there: one whole run a method, the others from its text."""
    made = pedigree("cpu", {})
    settings = Settings(protocol=PROTOCOL, specs=tuple(s for s in PROTOCOL.metrics if s.weights is None))
    for place, method in enumerate(methods):
        hashed = digest_json({"method": method.name, **method.config()})
        names = Fake(scenes).scene_names()
        first = run_folder(root, "fake", method.name, names[0], 0, hashed)
        if not (first / "manifest.json").is_file():
            first.mkdir(parents=True)
            _write_run(first, method, names[0], hashed, settings, made, place)
        averages(first, PROTOCOL.name)
        texts = {path.name: path.read_text() for path in first.iterdir()}
        whole = json.loads(texts.pop(f".means-{PROTOCOL.name}.json"))
        pieces = re.split(r'("value": )[^,}]+', texts.pop("rows.jsonl"))
        for scene in names[1:]:
            folder = run_folder(root, "fake", method.name, scene, 0, hashed)
            if not (folder / "manifest.json").is_file():
                folder.mkdir(parents=True)
                rng = random.Random(f"{method.name}/{scene}")
                if averages_only:
                    _copy_averages(folder, (names[0], scene), texts["manifest.json"], whole, rng, place)
                else:
                    _copy_run(folder, (names[0], scene), texts, pieces, rng, place)


def _copy_run(
    folder: Path,
    scenes: tuple[str, str],
    texts: dict[str, str],
    pieces: list[str],
    rng: random.Random,
    place: int,
) -> None:
    """Write a run's files with another scene and other values; `pieces` are of its rows, around the values."""
    rows = "".join(
        piece + (str(rng.gauss(20 - place / 4, 1)) if n % 2 else "") for n, piece in enumerate(pieces)
    )
    for name, text in {"rows.jsonl": rows, **texts}.items():
        (folder / name).write_text(text.replace(*scenes))


def _copy_averages(
    folder: Path,
    scenes: tuple[str, str],
    manifest: str,
    whole: dict[str, Any],
    rng: random.Random,
    place: int,
) -> None:
    """Write a run's manifest and averages with another scene and other values."""
    path = folder / "manifest.json"
    path.write_text(manifest.replace(*scenes))
    numbers = np.array([rng.gauss(20 - place / 4, 1) for _ in range(len(b64decode(whole["numbers"])) // 8)])
    fields = whole | {
        "of": {path.name: [path.stat().st_size, path.stat().st_mtime_ns]},
        "own": whole["own"] | {"scene": scenes[1], "prediction_digest": f"{rng.getrandbits(256):064x}"},
        "objects": [scenes[1]],
        "numbers": b64encode(numbers.astype("<f8").tobytes()).decode(),
    }
    (folder / f".means-{PROTOCOL.name}.json").write_text(canonical_json(fields))


def _write_run(
    folder: Path, method: FakeRow, scene: str, hashed: str, settings: Settings, made: dict[str, Any], place: int
) -> None:
    rng = random.Random(f"{method.name}/{scene}")
    rows = []
    for spec in settings.specs:
        for view in PROTOCOL.names_of(spec, VIEWS):
            whole = list(spec.moments(range(FRAMES))) == [None] if spec.needs == "clip" else False
            for frame in [None] if whole else range(FRAMES):
                signature = settings.signature(spec, composite=False) + (f"|clip:{FRAMES}" if whole else "")
                value = rng.gauss(20 - place / 4, 1)
                key = digest_json([scene, view, frame, signature, method.name])
                rows.append(
                    Row(
                        key=key,
                        object=scene,
                        view=view,
                        frame=frame,
                        metric=spec.key,
                        value=value,
                        signature=signature,
                    )
                )
    (folder / "rows.jsonl").write_text("".join(row.to_json() + "\n" for row in rows))
    Summary(
        protocol=PROTOCOL.name,
        keys=frozenset(row.key for row in rows),
        measured=frozenset(),
        missing=(),
        findings=(),
        pedigree=made,
    ).save(folder, rows, PROTOCOL)
    Manifest(
        dataset="fake",
        method=method.name,
        source="released-renderings",
        uses_truth=False,
        scene=scene,
        tags=[],
        seed=0,
        config=method.config(),
        config_hash=hashed,
        reference_root="/fake",
        views=[{"name": view, "azimuth_deg": 0.0, "elevation_deg": 0.0} for view in VIEWS],
        frames=FRAMES,
        prediction_digest=digest_json([scene, method.name]),
        pedigree=made,
        stages=[Stage(name="render", wall_s=rng.uniform(1, 2), peak_mib=100.0)],
        scene_digest=digest_json(scene),
    ).save(folder / "manifest.json")


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read(root: Path, scenes: int, methods: list[FakeRow]) -> None:
    """Build the table, and print what it took."""
    dataset = Fake(scenes)
    request = Request(
        dataset=dataset,
        methods=methods,
        scenes=dataset.scene_names(),
        seeds=[0],
        root=root,
        protocol=PROTOCOL,
    )
    before, start = _peak_mib(), time.process_time()
    found = tabulate(request, table_named("table2"), [], quoted=False)
    seconds, more = time.process_time() - start, _peak_mib() - before
    digest = digest_json(found.to_json())[:12]
    have = max(cell.have for row in found.rows for cell in row.cells)
    print(json.dumps({"runs": scenes * len(methods), "scenes": have, "s": round(seconds, 2), "MiB": round(more),
                      "digest": digest}))  # fmt: skip


def main() -> None:
    """Write what is missing, then build the table twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--methods", type=int, default=3)
    parser.add_argument("--averages", action="store_true")
    parser.add_argument("--read", action="store_true", help="only build the table once, in this process")
    given = parser.parse_args()
    methods = [FakeRow(name=f"row-{number}", root=Path("/fake")) for number in range(given.methods)]
    if given.read:
        read(given.root, given.scenes, methods)
        return
    start = time.process_time()
    write_runs(given.root, given.scenes, methods, averages_only=given.averages)
    print(f"wrote {given.scenes * given.methods} runs, {time.process_time() - start:.1f} s", file=sys.stderr)
    for _ in ("first", "second"):
        subprocess.run([sys.executable, *sys.argv, "--read"], check=True)


if __name__ == "__main__":
    main()
