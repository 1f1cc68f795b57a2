"""The failure gallery: cases are found from recorded values alone, the worst first."""

import math
import re
from pathlib import Path

import numpy as np
from manifests import make_manifest
from PIL import Image

from mvtokenflow.eval.records.rows import Row, load_runs, row_log, run_folder
from mvtokenflow.reports.gallery import Case, choose
from mvtokenflow.reports.scene import Series
from mvtokenflow.reports.site import build_site

VIEWS = ("input", "eval_0", "eval_1")
NOBODY = Series(id="m0", label="ours", kind="measured", color=0, run=None)

Values = dict[tuple[str, int], float]


def add_run(root: Path, scene: str, values: Values, *, method: str = "ours", metric: str = "lpips") -> None:
    reference = root.parent / "gt" / scene
    folder = run_folder(root, "toy4d", method, scene, 0, "cd" * 16)
    for view in VIEWS:
        for n in range(3):
            for where, shade in ((reference / view, 100), (folder / "pred" / view, 151)):
                where.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((6, 6, 3), shade, np.uint8)).save(where / f"{n}.png")
    row_log(folder).append(
        [
            Row(
                key=f"{scene}{metric}{view}{n}",
                object=scene,
                view=view,
                frame=n,
                metric=metric,
                value=value,
                signature=metric,
            )
            for (view, n), value in values.items()
        ]
    )
    make_manifest(
        dataset="toy4d",
        method=method,
        scene=scene,
        config_hash="cd" * 16,
        reference_root=str(reference),
        views=[{"name": view, "azimuth_deg": 0.0, "elevation_deg": 0.0} for view in VIEWS],
        frames=3,
        prediction_digest="ab" * 32,
    ).save(folder / "manifest.json")


def cards(root: Path, **tables: object) -> list[tuple[str, str]]:
    """(link, text below) of the cards in order."""
    from mvtokenflow.eval.tables.table import Column, Table

    columns = [
        Column(key="lpips", title="LPIPS", better="lower", digits=4, signatures=[]),
        Column(key="psnr", title="PSNR", better="higher", digits=2, signatures=[]),
    ]
    table = Table(name="t", title="T", caption="", columns=columns, rows=[], footnotes=[])
    build_site([table], list(load_runs(root / "runs")), root / "site")
    page = (root / "site" / "index.html").read_text()
    found = re.search(r'<section id="failures".*?</section>', page, re.DOTALL)
    assert found
    return re.findall(r'<li><a href="([^"]+)">.*?<small>(.*?)</small></li>', found.group(), re.DOTALL)


def case(scene: str, value: float) -> Case:
    return Case(slug=scene, series=NOBODY, view="eval_0", frame=0, value=value)


def test_every_scene_comes_before_a_second_case_of_the_worst() -> None:
    scenes = [[case("a", 0.9), case("a", 0.8)], [case("b", 0.2), case("b", 0.1)], [case("c", 0.3)]]
    assert [(one.slug, one.value) for one in choose(scenes, "lower", 4)] == [
        ("a", 0.9),
        ("a", 0.8),
        ("c", 0.3),
        ("b", 0.2),
    ]
    assert [one.slug for one in choose(scenes, "lower", 2)] == ["a", "c"]
    assert choose([], "lower", 6) == [] == choose([[]], "lower", 6)


def test_higher_is_better_and_perfect_frames_come_last() -> None:
    scenes = [[case("a", 12.0)], [case("b", math.inf)], [case("c", 9.0)]]
    assert [one.slug for one in choose(scenes, "higher", 6)] == ["c", "a", "b"]


def test_novel_views_are_looked_at_first_and_cards_open_the_frame(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    add_run(runs, "ant", {("eval_0", 0): 0.2, ("eval_0", 1): 0.4, ("eval_1", 2): 0.3, ("input", 0): 0.99})
    add_run(runs, "bee", {("eval_1", 0): 0.5, ("eval_1", 1): 0.5})
    assert cards(tmp_path) == [
        ("scenes/toy4d--bee.html#view=eval_1&amp;frame=0", "LPIPS 0.5000 · eval_1 · frame 0"),
        ("scenes/toy4d--ant.html#view=eval_0&amp;frame=1", "LPIPS 0.4000 · eval_0 · frame 1"),
        ("scenes/toy4d--ant.html#view=eval_1&amp;frame=2", "LPIPS 0.3000 · eval_1 · frame 2"),
    ]
    page = (tmp_path / "site" / "index.html").read_text()
    assert "LPIPS of novel views" in page
    assert page.count('alt="difference of ours on ') == 3
    made = re.search(r'<img src="(figures/[^"]+)"[^>]*alt="difference of ours on bee', page)
    assert made
    with Image.open(tmp_path / "site" / made.group(1)) as opened:  # |151 - 100| everywhere
        assert len(opened.convert("RGB").getcolors() or ()) == 1


def test_the_input_view_stands_in_and_other_metrics_for_lpips(tmp_path: Path) -> None:
    add_run(tmp_path / "runs", "ant", {("input", 0): 20.0, ("input", 2): 11.5}, metric="psnr")
    assert [text for _, text in cards(tmp_path)] == ["PSNR 11.50 · input · frame 2"]
    assert "by PSNR of the input view" in (tmp_path / "site" / "index.html").read_text()


def test_six_cases_a_method_and_a_wall_each(tmp_path: Path) -> None:
    for place in range(8):
        for method in ("ours", "theirs"):
            add_run(tmp_path / "runs", f"s{place}", {("eval_0", 0): place / 10 + 0.01}, method=method)
    found = cards(tmp_path)
    assert len(found) == 12
    assert [link.split(".html")[0][-2:] for link, _ in found[:6]] == ["s7", "s6", "s5", "s4", "s3", "s2"]
    page = (tmp_path / "site" / "index.html").read_text()
    assert re.findall(r'name="failures"( open)?><summary>(\w+)', page) == [(" open", "ours"), ("", "theirs")]


def test_unscored_methods_are_named(tmp_path: Path) -> None:
    add_run(tmp_path / "runs", "ant", {})
    assert cards(tmp_path) == []
    page = (tmp_path / "site" / "index.html").read_text()
    assert "<code>mvtf-eval table2 --dataset toy4d --methods ours</code>" in page
