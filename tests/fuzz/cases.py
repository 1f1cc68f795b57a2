"""Cases of ../shared/cases that are commands and what is right, and shells to run the others in."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, kw_only=True)
class Right:
    """What a command of a case must end with.

    Attributes:
        code: exit code. words: a pattern that what it prints must match. never: one that it must not match.
    """

    command: str
    code: int = 2
    words: str = ""
    never: str = "Traceback"


MASKED = "mvtf run data/{} --mask data/masks -o out"

# Cases that are their generator and their commands.
COMMANDS: dict[str, Sequence[Right]] = {
    "advice-without-option": [
        Right(
            command="mvtf run data/empty-frame -o out",
            words=r"--frames|--stride|[Rr]emove|leave .* out",
            never="start and stop",
        )
    ],
    "cover-picture-first": [Right(command=MASKED.format("cover.mp4"), code=0, words="8 frames of 96x96")],
    "frame-gap": [Right(command="mvtf run data/clip -o out", code=0, words="1 to 3 numbers apart")],
    "frame-names": [
        Right(command="mvtf run data/frame -o out/a", code=0, words="frames of 96x96"),
        Right(command="mvtf run data/rgba -o out/b", code=0, words="frames of 96x96"),
    ],
    "gif-bytes-after-end": [Right(command="mvtf run data/newline.gif -o out", code=0, words="8 frames")],
    "inverted-masks": [Right(command="mvtf run data/rgb --mask data/masks -o out", words="inverted")],
    "label-masks": [
        Right(command="mvtf run data/rgb --mask data/label-2 -o out/a", words="255"),
        Right(command="mvtf run data/rgb --mask data/level-128 -o out/b", words="255"),
    ],
    "masks-other-numbers": [Right(command="mvtf run data/rgb --mask data/masks -o out", words=r"\b[23]\b")],
    "matroska-duration-tag": [Right(command=MASKED.format("unknown.mkv"), code=0, words="8 frames")],
    "matroska-starts-late": [Right(command=MASKED.format("late.mkv"), code=0, words="8 frames")],
    "rel_field_metadata": [Right(command="mvtf render list.safetensors -o a.png", words="damaged")],
    "rel_regress_runs_what_it_reads": [
        Right(command="mvtf-eval regress --against baseline.json --runs R", code=4, words="sys:exit|dataset")
    ],
    "rel_words_of_options": [
        Right(command="mvtf-eval table1 --shard ²/3", words="--shard"),
        Right(command=f"mvtf-eval table1 --shard 0/{'9' * 5000}", words="--shard"),
        Right(command="mvtf-eval table1 --methods ..:x", words="methods?|module"),
        Right(command="mvtf-eval table1 --methods .a:x", words="methods?|module"),
        Right(command="mvtf-eval table1 --dataset os:sep", words="os:sep"),
    ],
    "uneven-times": [
        Right(command=MASKED.format("vfr.mp4"), code=0, words="apart"),
        Right(command="mvtf run data/uneven.gif -o out/b", code=0, words="apart"),
    ],
}

# Command lines of the product in a shell whose $0 is this Python.
MVTF, MVTF_EVAL = (
    f'"$0" -c "from mvtokenflow.{place} import main; main()"' for place in ("cli.mvtf", "cli.mvtf_eval")
)


def may_mount() -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no right to make a mount namespace here (unshare -rm)")


def shell(
    script: str, folder: Path, *, mounts: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A script of sh whose $0 is this Python; perhaps in a mount namespace of its own."""
    words = [*(("unshare", "-rm") if mounts else ()), "sh", "-c", script, sys.executable]
    names = {**os.environ, "MVTF_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        words, cwd=folder, env=names, capture_output=True, text=True, errors="replace", check=False, timeout=580
    )
