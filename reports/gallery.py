"""The failure gallery of the index page (after figure 7 of the paper): where each method is worst.

Cases are chosen from the recorded values alone: by a metric over novel views where it was
measured there, else over the input view. Every scene gives its worst frame first, so that one bad scene does
not fill the gallery.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from mvtokenflow.reports import colormaps
from mvtokenflow.reports.figure import (
    INPUT,
    Album,
    Legend,
    Tile,
    heat_legend,
    printed,
    rows_of,
    truth_of,
)
from mvtokenflow.reports.scene import Series

COUNT = 6


@dataclass(frozen=True, kw_only=True)
class Case:
    """The worst frame of a view of a scene. `value` is as recorded; infinite ones sort as such."""

    slug: str
    series: Series
    view: str
    frame: int
    value: float


@dataclass(frozen=True, kw_only=True)
class Card:
    """A case with its pictures: prediction, truth, difference; `link` is relative to the index page."""

    scene: str
    view: str
    frame: int
    value: str
    link: str
    tiles: Sequence[Tile]


@dataclass(frozen=True, kw_only=True)
class Wall:
    """The worst cases of one method on one dataset; `on` names the views considered."""

    method: str
    dataset: str
    metric: str
    on: str
    cards: Sequence[Card]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """All walls, and sentences on what could not be drawn."""

    walls: Sequence[Wall]
    legend: Legend | None
    missing: Sequence[str]


def gallery(albums: Sequence[Album], count: int = COUNT) -> Gallery:
    """Collect the worst `count` cases of every method that figures compare (`figure.rows_of`), by dataset.

    Args:
        albums: of all scene pages, in the order of the site.
    """
    walls, missing = [], []
    for dataset in dict.fromkeys(album.page.dataset for album in albums):
        members = [album for album in albums if album.page.dataset == dataset]
        methods = dict.fromkeys(
            one.run.manifest.method for album in members for one in rows_of(album.page) if one.run
        )
        for method in methods:
            wall = _wall(members, dataset, method, count)
            if wall is None:
                missing.append(
                    f"{method} on {dataset} has no values frame by frame to find its worst by; score it: "
                    f"`mvtf-eval table2 --dataset {quote(dataset)} --methods {quote(method)}`."
                )
            else:
                walls.append(wall)
    legend = None
    if walls:
        legend = heat_legend(albums[0])
    return Gallery(walls=walls, legend=legend, missing=missing)


def _wall(albums: Sequence[Album], dataset: str, method: str, count: int) -> Wall | None:
    owners = {album.page.slug: album for album in albums}
    compared = [
        (album, one)
        for album in albums
        for one in rows_of(album.page)
        if one.run and one.run.manifest.method == method
    ]
    for key in dict.fromkeys(album.metric for album in albums if album.metric):
        metric = next(one for album in albums for one in album.data["metrics"] if one["key"] == key)
        for on in ("novel views", "the input view"):
            scenes = [
                worst_cases(album, one, key, [INPUT] if on == "the input view" else album.novel_views)
                for album, one in compared
            ]
            chosen = choose(scenes, metric["better"], count)
            if chosen:
                cards = [_card(owners[case.slug], metric, case) for case in chosen]
                return Wall(method=method, dataset=dataset, metric=metric["name"], on=on, cards=cards)
    return None


def worst_cases(album: Album, series: Series, key: str, views: Sequence[str]) -> list[Case]:
    """Find the worst frame, the earliest of equals, of each view with the metric; worst first."""
    cases: list[tuple[float, Case]] = []
    for view in views:
        metric, line = album.values(key, series, view)
        values = [(float(value), frame) for frame, value in enumerate(line) if value is not None]
        if metric is None or not values:
            continue
        badness = _badness(metric["better"])
        value, frame = min(values, key=lambda pair: (badness(pair[0]), pair[1]))
        case = Case(slug=album.page.slug, series=series, view=view, frame=frame, value=value)
        cases.append((badness(value), case))
    return [case for _, case in sorted(cases, key=lambda pair: pair[0])]


def choose(by_scene: Sequence[Sequence[Case]], better: str, count: int) -> list[Case]:
    """Choose the worst case of every scene, then, while there is room, the next of every scene; worst first.

    Args:
        by_scene: cases of each scene, worst first. better: "higher" or "lower".
    """
    badness = _badness(better)
    rounds = max((len(cases) for cases in by_scene), default=0)
    chosen: list[Case] = []
    for place in range(rounds):
        left = [cases[place] for cases in by_scene if place < len(cases)]
        chosen += sorted(left, key=lambda case: badness(case.value))
    return sorted(chosen[:count], key=lambda case: badness(case.value))


def _badness(better: str) -> Callable[[float], float]:
    """Return a sort key that puts the worst value first."""
    return (lambda value: value) if better == "higher" else (lambda value: -value)


def _card(album: Album, metric: Mapping[str, Any], case: Case) -> Card:
    truth = truth_of(album.page)
    seen, true = (album.frame(one, case.view, case.frame) for one in (case.series, truth))
    alt = f"{case.series.label} on {album.page.name}, {case.view}, frame {case.frame}"
    apart = Tile(file=None, alt="", why="no truth to compare with")
    if seen is not None and true is not None:
        apart = album.made(
            colormaps.heat(colormaps.difference(seen, true)), f"difference of {alt} to the truth"
        )
    return Card(
        scene=album.page.name,
        view=case.view,
        frame=case.frame,
        value=printed(metric, case.value),
        link=f"scenes/{album.page.slug}.html",
        tiles=[
            album.tile(case.series, case.view, case.frame),
            album.tile(truth, case.view, case.frame),
            apart,
        ],
    )
