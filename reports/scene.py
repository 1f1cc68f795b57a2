"""The page of one scene: its runs, their names and colours, and where their pictures lie."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import frame_files
from mvtokenflow.datasets.scene import Scene
from mvtokenflow.eval.records.rows import Run

TRUTH = "gt"
_SLUG_BYTES = 150  # of the name of a page


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a scene page: the ground truth (`run` None) or one run.

    Attributes:
        id: short name used in links; "gt" for the ground truth.
        label: the method's name, with seed and configuration only where they distinguish runs.
        kind: "truth", "measured" or "oracle".
        color: index into the palette, the same for a method on all pages; -1 for the ground truth.
    """

    id: str
    label: str
    kind: str
    color: int
    run: Run | None


@dataclass(frozen=True, kw_only=True)
class ScenePage:
    """A scene of a dataset with its runs. `slug` names its page, `tags` filter it.

    `scene` is the dataset's description, whose views have the ground truth. Without it `references` are folders
    with ground truth in `<view>/`, as the runs name them.
    """

    dataset: str
    name: str
    slug: str
    tags: Sequence[str]
    views: Sequence[Mapping[str, Any]]
    series: Sequence[Series]
    references: Sequence[Path] = ()
    scene: Scene | None = None

    @property
    def runs(self) -> list[Run]:
        return [series.run for series in self.series if series.run is not None]


def scene_pages(
    runs: Sequence[Run], order: Sequence[str], scenes: Mapping[tuple[str, str], Scene] | None = None
) -> list[ScenePage]:
    """Build one page per (dataset, scene), sorted; methods follow `order`, then their names, oracles last.

    Args:
        scenes: by names of dataset and scene; the only ground truth that pages show, whatever the manifests
            name. None shows what the manifests name.

    Raises:
        DataError: a run's folder holds a link that leads out of it.
    """
    for run in runs:
        _check_links(run.folder)
    methods = sorted(
        {run.manifest.method for run in runs},
        key=lambda name: (
            any(_is_oracle(run) for run in runs if run.manifest.method == name),
            order.index(name) if name in order else len(order),
            name,
        ),
    )
    grouped: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        grouped.setdefault((run.manifest.dataset, run.manifest.scene), []).append(run)
    pages: list[ScenePage] = []
    taken: Counter[str] = Counter()
    for (dataset, name), members in sorted(grouped.items()):
        members.sort(key=lambda run: (methods.index(run.manifest.method), run.manifest.seed, run.folder.name))
        slug = re.sub(r"[^\w.-]+", "_", f"{dataset}--{name}").lower().lstrip(".")
        slug = slug.encode()[:_SLUG_BYTES].decode(errors="ignore")
        taken[slug] += 1
        truth = Series(id=TRUTH, label="Ground truth", kind="truth", color=-1, run=None)
        pages.append(
            ScenePage(
                dataset=dataset,
                name=name,
                slug=slug if taken[slug] == 1 else f"{slug}~{taken[slug]}",
                tags=sorted({tag for run in members for tag in run.manifest.tags}),
                views=_views(members),
                series=[truth, *_series(members, methods)],
                references=_references(members) if scenes is None else (),
                scene=(scenes or {}).get((dataset, name)),
            )
        )
    return pages


def picture_files(page: ScenePage, series: Series, view: str) -> list[Path]:
    """List the frames of a view in temporal order, of a run or of the ground truth.

    Raises:
        DataError: there are none, or their folder cannot be read.
    """
    if series.run is not None:
        return frame_files(series.run.folder / "pred" / view)
    if page.scene is not None:
        frames = next((list(one.frames) for one in page.scene.all_views() if one.name == view), [])
        if not frames:
            raise DataError("the dataset has no reference pictures of this view")
        return frames
    fault = None
    for root in page.references:
        try:
            return frame_files(root / view)
        except DataError as error:
            fault = fault or error
    raise fault or DataError("the reference is not in a folder of the dataset; name it with --root")


def truth_files(page: ScenePage, view: str) -> list[Path]:
    """List possible files with the exact geometry of a view."""
    if page.scene is None:
        return [root / "truth" / f"{view}.npz" for root in page.references]
    return [one.truth.path for one in page.scene.all_views() if one.name == view and one.truth is not None]


def _is_oracle(run: Run) -> bool:
    return run.manifest.uses_truth or run.manifest.source == "oracle"


def _series(runs: Sequence[Run], methods: Sequence[str]) -> list[Series]:
    """Build the series; labels name seed and configuration only where two runs of a method would look alike."""
    made = []
    for place, run in enumerate(runs):
        manifest = run.manifest
        alike = [other.manifest for other in runs if other.manifest.method == manifest.method]
        label = manifest.method
        if len({other.seed for other in alike}) > 1:
            label += f" · seed {manifest.seed}"
        if len({other.config_hash for other in alike}) > 1:
            label += f" · {manifest.config_hash[:7]}"
        made.append(
            Series(
                id=f"m{place}",
                label=label,
                kind="oracle" if _is_oracle(run) else "measured",
                color=methods.index(manifest.method),
                run=run,
            )
        )
    labels = Counter(series.label for series in made)
    return [
        replace(series, label=f"{series.label} · run {place}") if labels[series.label] > 1 else series
        for place, series in enumerate(made, 1)
    ]


def _views(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """List evaluation views in the order of the manifests, then the input view, which every run renders."""
    known: dict[str, dict[str, Any]] = {}
    for run in runs:
        for view in run.manifest.views:
            known.setdefault(view["name"], {"name": view["name"], "azimuth": None, "elevation": None})
            for short, long in (("azimuth", "azimuth_deg"), ("elevation", "elevation_deg")):
                if view.get(long) is not None:
                    known[view["name"]][short] = view[long]
    entry = known.pop("input", {"name": "input", "azimuth": 0, "elevation": 0})
    return [*known.values(), entry]


def _references(runs: Sequence[Run]) -> list[Path]:
    """List distinct reference folders; runs recorded on another machine may name one that is not here."""
    return list(dict.fromkeys(Path(run.manifest.reference_root) for run in runs))


def _check_links(folder: Path) -> None:
    """Raise a DataError for a link to somewhere outside a run: pages copy what lies in the run alone."""
    home = folder.resolve()
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            if path.is_symlink() and not _within(path, home):
                raise DataError(
                    f"{path}: a link that leads out of the run's folder, which pages do not follow; put what "
                    "it links to in its place"
                )


def _within(path: Path, home: Path) -> bool:
    try:
        return path.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # a link that leads to itself
        return False


class Namer:
    """Removes this machine's folders from messages, so that sites are equal wherever they are built."""

    def __init__(self, page: ScenePage) -> None:
        self.names: dict[str, str] = {}
        for run in page.runs:
            self.names[str(run.folder)] = "/".join(run.folder.parts[-4:])
            if "/" in (root := run.manifest.reference_root.rstrip("/")):
                self.names[root] = "reference"
        for view in page.scene.all_views() if page.scene is not None else ():
            files = [*view.frames, *([view.truth.path] if view.truth is not None else [])]
            self.names |= {str(path.parent): f"reference/{path.parent.name}" for path in files}

    def __call__(self, message: str) -> str:
        for folder in sorted(self.names, key=len, reverse=True):
            message = message.replace(folder, self.names[folder])
        return message
