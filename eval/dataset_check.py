"""Checks the files of any dataset."""

import os
from collections.abc import Callable
from pathlib import Path

from mvtokenflow.base.errors import UserError
from mvtokenflow.base.files import expanded
from mvtokenflow.datasets.catalogue import open_dataset
from mvtokenflow.datasets.consistent4d import INSTRUCTIONS, Consistent4D, verify
from mvtokenflow.datasets.consistent4d_videos import Consistent4DVideos
from mvtokenflow.datasets.toy4d.dataset import Toy4D


def check_dataset(
    name: str, root: Path | None, videos: Path | None, report: Callable[[str, int, int], None]
) -> list[str]:
    """Return one sentence per fault; empty if the dataset is complete.

    Args:
        report: called with (stage, done, total).
    """
    data = open_dataset(name, root)
    if isinstance(data, Consistent4D):
        named = os.environ.get("MVTF_CONSISTENT4D")
        place = root or (expanded(named, "MVTF_CONSISTENT4D") if named else None)
        return [INSTRUCTIONS] if place is None else [str(finding) for finding in verify(place, videos)]
    names = list(data.scene_names())
    findings = []
    for done, scene in enumerate(names, 1):
        try:
            data.scene(scene).clip()
            if isinstance(data, Toy4D):
                data.verify(scene)
        except UserError as error:
            findings.append(str(error))
        report("scenes", done, len(names))
    return findings


def coverage(name: str, root: Path | None) -> str | None:
    """Describe how much of a dataset without a fixed list of scenes is here; None for other datasets."""
    data = open_dataset(name, root)
    return data.coverage() if isinstance(data, Consistent4DVideos) else None
