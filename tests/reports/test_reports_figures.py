"""Figures of scene pages: drawn from what runs hold, and in one sentence what is missing where they do not."""

import html
import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from manifests import make_manifest
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.evenly import evenly
from mvtokenflow.eval.records.rows import Manifest, Row, Stage, load_runs, row_log, run_folder
from mvtokenflow.method.artefacts import artefacts
from mvtokenflow.method.config import MethodConfig, mini
from mvtokenflow.reports import colormaps
from mvtokenflow.reports.generated import azimuths_of, warped_difference
from mvtokenflow.reports.html import code_spans
from mvtokenflow.reports.site import build_site
from mvtokenflow.reports.slices import busiest_column, time_slice
from mvtokenflow.workdir.artefacts import Artefact

FRAMES, SIDE = 6, 24
VIEWS = {"input": 0.0, "eval_0": -75.0, "eval_1": 105.0}
GENERATED = (0, 90)  # azimuths
SECTIONS = ("strip", "viewpoints", "ablation", "propagation", "flow", "around", "training")
Pixels = NDArray[np.uint8]


def save(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(frame: int, shade: int = 0) -> Pixels:
    """A disc that moves right by a pixel a frame."""
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = (x - 8 - frame) ** 2 + (y - 12) ** 2 < 30
    return np.where(disc[..., None], np.array([200 - shade, 60, 40 + 5 * shade]), 255).astype(np.uint8)


def add_run(root: Path, method: str, scene: str = "fox", **given: Any) -> Path:
    """A run with its reference. `native`: of the method, `settings`: of it; `work`: with what it leaves behind;
    `change`: of the pictures, by (view, frame); `values`: of LPIPS, by (view, frame)."""
    reference = root.parent / "gt" / scene
    folder = run_folder(root, "toy4d", method, scene, given.get("seed", 0), "ab" * 16)
    change, values = given.get("change", lambda pixels, *_: pixels), given.get("values", lambda *_: 0.1)
    rows = []
    for view in VIEWS:
        for n in range(FRAMES):
            save(reference / view / f"{n}.png", picture(n))
            save(folder / "pred" / view / f"{n}.png", change(picture(n, 4), view, n))
            if (value := values(view, n)) is not None:
                key = f"{method}{scene}{view}{n}"
                rows.append(
                    Row(key=key, object=scene, view=view, frame=n, metric="lpips", value=value, signature="l")
                )
        if given.get("geometry"):
            flow = np.zeros((FRAMES - 1, SIDE, SIDE, 2), np.float32)
            flow[..., 0] = 1
            normal = np.broadcast_to(np.array([0, -1, 0], np.float32), (FRAMES, SIDE, SIDE, 3))
            (reference / "truth").mkdir(exist_ok=True)
            np.savez(reference / "truth" / f"{view}.npz", flow=flow, normal=normal.astype(np.float16))
            np.savez(folder / "pred" / f"{view}.flow.npz", flow=flow)
            np.savez(folder / "pred" / f"{view}.normal.npz", normal=normal)
    row_log(folder).append(rows)
    if given.get("work"):
        add_work(folder / "work", flicker=given.get("flicker", 0))
    native = given.get("native", True)
    settings = replace(mini(), stride=1, **given.get("settings", {}))
    make_manifest(
        dataset="toy4d",
        method=method,
        uses_truth=method == "true-views",
        scene=scene,
        seed=given.get("seed", 0),
        config={"settings": 1},
        artefacts=given.get("artefacts", listed(folder, settings) if native else ()),
        variant_of="mvtokenflow" if native and (method == "coarse" or method.startswith("no-")) else None,
        config_hash="ab" * 16,
        reference_root=str(reference),
        views=[{"name": view, "azimuth_deg": at, "elevation_deg": 0.0} for view, at in VIEWS.items()],
        frames=FRAMES,
        prediction_digest="ab" * 32,
        stages=[
            Stage(name="views", wall_s=61.0, peak_mib=1234.0),
            Stage(name="render", wall_s=2.0, peak_mib=9.0),
        ],
    ).save(folder / "manifest.json")
    return folder


def listed(folder: Path, settings: MethodConfig) -> list[Artefact]:
    """What the method lists; of runs without work/ something that is gone."""
    found = artefacts(folder / "work", settings)
    gone = Artefact(kind="losses", name="static", title="Static field", path="work/gone/losses.jsonl")
    return [one if one.path is None else replace(one, path=f"work/{one.path}") for one in found] or [gone]


def list_again(folder: Path, **settings: Any) -> None:
    """The manifest of a run whose files have changed since."""
    manifest = Manifest.load(folder / "manifest.json")
    again = listed(folder, replace(mini(), stride=1, **settings))
    replace(manifest, artefacts=again).save(folder / "manifest.json")


def add_work(work: Path, flicker: int = 0) -> None:
    """Both passes, losses and previews of all stages."""
    poses = [
        [[math.cos(a), math.sin(a), 0, 0], [0, 0, -1, 0], [-math.sin(a), math.cos(a), 0, 3], [0, 0, 0, 1]]
        for a in map(math.radians, GENERATED)
    ]
    for name in ("views", "regenerated"):
        for view in range(len(GENERATED)):
            for n in range(FRAMES):
                pixels = picture(n, flicker * (n % 2))
                alpha = np.where((pixels == 255).all(-1, keepdims=True), 0, 255).astype(np.uint8)
                save(work / name / f"view_{view}" / f"{n}.png", np.concatenate([pixels, alpha], -1))
                save(work / name / "normals" / f"view_{view}" / f"{n}.png", np.full_like(pixels, 128))
        (work / name / "cameras.json").write_text(json.dumps({"world_to_camera": poses}))
    for place in ("coarse/static", "coarse/coarse", "refined/refine"):
        strip = np.zeros((2 * SIDE, len(GENERATED) * SIDE, 3), np.uint8)
        save(work / place / "preview_00020.png", strip)
        save(work / place / "preview_00100.png", strip + 7)
        steps = [{"step": n, "gaussians": 5, "seconds": 1.0, "loss": 1 / n, "arap": 0.0} for n in (1, 50, 100)]
        (work / place / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps) + '{"st')


def build(root: Path) -> Path:
    build_site([], list(load_runs(root / "runs")), root / "site")
    return root / "site"


def section(site: Path, name: str, page: str = "scenes/toy4d--fox.html") -> str:
    """The markup of a section; entities are kept."""
    found = re.search(rf'<section id="{name}".*?</section>', (site / page).read_text(), re.DOTALL)
    assert found, name
    return found.group()


def text(markup: str) -> str:
    """What a reader reads of it."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", markup)))


def heads(markup: str) -> list[str]:
    """Column heads of the first block."""
    first = markup.split('<div class="tiles"')[1]
    return re.findall(r'<span class="head">(.*?)</span>', first)


def images(site: Path, markup: str, alt: str) -> list[Pixels]:
    """Pictures whose alternative text begins so; all must be in the site."""
    found = re.findall(r'<img src="(?:\.\./)?([^"]+)"[^>]*? alt="([^"]*)"', markup)
    out = []
    for source, name in found:
        with Image.open(site / source) as opened:
            if html.unescape(name).startswith(alt):
                out.append(np.asarray(opened.convert("RGB")))
    return out


# ---- what is missing ----


def test_every_section_says_what_it_needs(tmp_path: Path) -> None:
    add_run(tmp_path / "runs", "rival", native=False, values=lambda *_: None)
    site = build(tmp_path)
    gathered = ("ablation", "propagation", "flow")
    told = {name: text(section(site, name)) for name in SECTIONS if name not in gathered}
    assert "Needs other methods to compare with" in told["strip"]
    assert "Normals: no run here holds any" in told["viewpoints"]
    (page,) = (site / "scenes").glob("*.html")
    assert not [name for name in gathered if f'<section id="{name}"' in page.read_text()]
    unmade = text(section(site, "unmade"))
    assert "Ablation, Token propagation, Flow need more runs. One command makes them all:" in unmade
    wanted = "mvtf-eval table3 --methods mvtokenflow,coarse,no-flow-loss,no-propagation --scenes fox"
    assert wanted in unmade
    assert "`" not in unmade  # backticks become code
    assert "Turntable: rival lists no field" in told["around"]
    assert "Needs a run of the method" in told["training"]
    assert "has no values frame by frame" in text(section(site, "failures", "index.html"))


def test_only_the_absent_runs_are_named(tmp_path: Path) -> None:
    add_run(tmp_path / "runs", "mvtokenflow", work=True)
    add_run(tmp_path / "runs", "coarse")
    site = build(tmp_path)
    assert re.search(r"Needs runs of no-flow-loss\s*:", text(section(site, "ablation")))
    unmade = text(section(site, "unmade"))
    assert "Token propagation" in unmade
    assert "mvtf-eval table3 --methods mvtokenflow,no-propagation --scenes fox" in unmade
    assert "Ablation" not in unmade, "it shows the runs that are there"
    training = text(section(site, "training"))
    assert "What the run lists of its making, losses and previews, is gone" in training
    assert "loss, at last 0.01" in training
    around = text(section(site, "around"))
    assert "lists no field" in around
    field = tmp_path / "runs/toy4d/mvtokenflow/fox/seed0-ababababab/work/refined/refine/field.safetensors"
    field.write_bytes(b"")
    list_again(tmp_path / "runs/toy4d/mvtokenflow/fox/seed0-ababababab")
    around = text(section(build(tmp_path), "around"))
    assert (
        "mvtf export RUNS/toy4d/mvtokenflow/fox/seed0-ababababab/work/refined/refine/field.safetensors"
        in around
    )


def test_damaged_files_cost_their_figure_alone(tmp_path: Path) -> None:
    folder = add_run(tmp_path / "runs", "mvtokenflow", work=True, geometry=True)
    (folder / "pred" / "eval_0.flow.npz").write_bytes(b"PK broken")
    (folder / "work" / "coarse" / "static" / "losses.jsonl").write_text("{no\n")
    (folder / "work" / "views" / "cameras.json").write_text("[]")
    site = build(tmp_path)
    page = (site / "scenes" / "toy4d--fox.html").read_text()
    assert "Not drawn: toy4d/mvtokenflow/fox/seed0-ababababab/pred/eval_0.flow.npz" in text(page)
    assert text(section(site, "training")).count("Not drawn:") == 2
    assert str(tmp_path) not in page
    assert images(site, section(site, "strip"), "mvtokenflow, eval_0")


# ---- what is shown ----


def test_time_is_shown_first_where_there_is_a_reference(tmp_path: Path) -> None:
    add_run(tmp_path / "runs", "mvtokenflow")
    shutil.rmtree(tmp_path / "gt/fox/eval_0")
    shutil.rmtree(tmp_path / "gt/fox/eval_1")
    titles = re.findall(r"<summary>(.*?)</summary>", section(build(tmp_path), "strip"))
    assert [title.split(",")[0] for title in titles] == ["input", "eval_0", "eval_1"]


def test_a_slice_is_the_busiest_column_over_time(tmp_path: Path) -> None:
    def flash(pixels: Pixels, view: str, frame: int) -> Pixels:
        pixels[3:20, 20] = 0 if frame % 2 else 255
        return pixels

    add_run(tmp_path / "runs", "mvtokenflow", change=flash)
    strip = section(site := build(tmp_path), "strip")
    assert len(re.findall('<details class="sheet" name="strip"', strip)) == len(VIEWS)
    slices = images(site, strip, "mvtokenflow, eval_0, one column over time")
    (drawn,) = slices
    assert drawn.shape == (SIDE, FRAMES, 3)
    # the truth chooses the column: the disc's edge moves most where it enters
    column = int(float(re.search(r"left:([\d.]+)%", strip).group(1)) / 100 * SIDE)  # type: ignore[union-attr]
    truth = np.stack([picture(n) for n in range(FRAMES)])
    assert column == truth.mean(-1).std(0).sum(0).argmax()
    for n in range(FRAMES):
        with Image.open(tmp_path / f"runs/toy4d/mvtokenflow/fox/seed0-ababababab/pred/eval_0/{n}.png") as one:
            assert np.array_equal(drawn[:, n], np.asarray(one)[:, column])


def test_the_ablation_has_the_papers_order_and_crops_the_worst(tmp_path: Path) -> None:
    def spoil(pixels: Pixels, view: str, frame: int) -> Pixels:
        pixels[2:6, 3:7] = 0
        return pixels

    for method in ("no-normal", "no-flow-loss", "coarse", "mvtokenflow"):
        add_run(tmp_path / "runs", method, change=spoil, geometry=True)
    add_run(tmp_path / "runs", "rival", native=False)
    add_run(tmp_path / "runs", "true-views")
    panel = section(site := build(tmp_path), "ablation")
    assert heads(panel) == ["Input", "Ground truth", "mvtokenflow", "coarse", "no-flow-loss", "no-normal"]
    left, top, width, height = map(float, re.findall(r"(?:left|top|width|height):([\d.]+)%", panel)[:4])
    assert left <= 100 * 3 / SIDE
    assert left + width >= 100 * 7 / SIDE
    assert top <= 100 * 2 / SIDE
    assert top + height >= 100 * 6 / SIDE
    crop = images(site, panel, "crop of mvtokenflow, eval_0")[0]
    assert crop.shape == (round(height / 100 * SIDE), round(width / 100 * SIDE), 3)
    assert (crop == 0).all(-1).sum() == 16
    assert len(images(site, panel, "difference of mvtokenflow")) == 2  # a novel view and the input
    assert len(images(site, panel, "flow of coarse")) == 2
    assert "Needs" not in text(panel)


def test_comparisons_leave_ablations_and_other_seeds_to_the_viewer(tmp_path: Path) -> None:
    for method, seed in (("mvtokenflow", 0), ("mvtokenflow", 1), ("coarse", 0), ("no-normal", 0)):
        add_run(tmp_path / "runs", method, seed=seed, geometry=method != "coarse")
    add_run(tmp_path / "runs", "rival", native=False)
    views = section(build(tmp_path), "viewpoints")
    labels = re.findall(r'<p class="line"><span>(.*?)</span>', views)
    compared = ["Ground truth", "mvtokenflow · seed 0", "rival"]
    assert labels == [*compared, "Ground truth", "mvtokenflow · seed 0"]  # the rival offers no normals
    assert heads(views) == ["eval_0, −75°", "input, 0°", "eval_1, 105°"]
    assert text(views).count("lpips 0.100") == 2 * len(VIEWS)


def test_flow_maps_share_one_scale(tmp_path: Path) -> None:
    add_run(tmp_path / "runs", "mvtokenflow", geometry=True)
    flow = section(site := build(tmp_path), "flow")
    mine, true = (images(site, flow, f"flow of {name}") for name in ("mvtokenflow", "Ground truth"))
    assert len(mine) == len(true) == len(VIEWS) + 2 * (FRAMES - 1)
    assert all(np.array_equal(one, other) for one, other in zip(mine, true, strict=True))
    assert "at the rim 1 pixels" in text(flow)
    assert images(site, flow, "colour of every direction")


def test_estimated_flow_of_the_input_stands_below_the_fields(tmp_path: Path) -> None:
    folder = add_run(tmp_path / "runs", "mvtokenflow", work=True, geometry=True)
    flow = np.zeros((FRAMES - 1, SIDE, SIDE, 2), np.float32)
    flow[..., 1] = 2
    back = [(n + 1, n) for n in range(FRAMES - 1)]  # the other way is no step of the clip
    pairs = [*back, *((n, n + 1) for n in range(FRAMES - 1))]
    both = np.concatenate([np.full_like(flow, 9), flow])
    np.savez(folder / "work" / "views" / "flow.npz", flow=both, pairs=pairs, view=0)
    list_again(folder)
    figure = section(site := build(tmp_path), "flow")
    drawn = images(site, figure, "flow estimated on the input")
    assert len(drawn) == FRAMES - 1
    outside = (picture(0) == 255).all(-1)
    assert (drawn[0][outside] == 255).all()
    assert np.array_equal(drawn[0][~outside], colormaps.flow_picture(flow[0], 2.0)[~outside])
    assert "2 of its pixels a frame at the rim" in text(figure)


def test_views_may_be_measured_under_signatures_of_their_own(tmp_path: Path) -> None:
    folder = add_run(tmp_path / "runs", "mvtokenflow", values=lambda view, n: None if view == "input" else 0.25)
    row_log(folder).append(
        [
            Row(
                key=f"i{n}",
                object="fox",
                view="input",
                frame=n,
                metric="lpips",
                value=0.75,
                signature="l|on-white",
            )
            for n in range(FRAMES)
        ]
    )
    views = text(section(build(tmp_path), "viewpoints"))
    assert (views.count("lpips 0.250"), views.count("lpips 0.750")) == (2, 1)


def test_a_turntable_is_taken_from_where_export_puts_it(tmp_path: Path) -> None:
    folder = add_run(tmp_path / "runs", "mvtokenflow")
    for n in range(16):
        save(folder / "work" / "export" / "turntable" / "frames" / f"{n:04d}.png", picture(n % FRAMES, n))
    around = section(site := build(tmp_path), "around")
    assert heads(around) == [f"{45 * n}°" for n in range(8)]
    assert len(images(site, around, "mvtokenflow from ")) == 8
    assert "Turntable: no" not in text(around)
    assert "mvtf export" not in around


@pytest.mark.parametrize("flicker", [0, 20])
def test_propagation_shows_what_motion_does_not_explain(tmp_path: Path, flicker: int) -> None:
    add_run(tmp_path / "runs", "mvtokenflow", work=True)
    add_run(tmp_path / "runs", "no-propagation", work=True, flicker=flicker)
    figure = section(site := build(tmp_path), "propagation")
    assert re.findall(r"<summary>(.*?)</summary>", figure) == ["Azimuth 90°", "Azimuth 0°"]
    assert "The motion is estimated on each row's own pictures" in text(figure)
    assert len(images(site, figure, "no-propagation, azimuth 90, one column over time")) == 1
    mean = {
        name: np.mean([one.mean() for one in images(site, figure, f"{name}, warped difference")])
        for name in ("mvtokenflow", "no-propagation")
    }
    if flicker:
        assert mean["no-propagation"] > 2 * mean["mvtokenflow"]
    else:
        assert mean["no-propagation"] == mean["mvtokenflow"]
    add_run(tmp_path / "runs", "true-views", work=True)
    figure = section(site := build(tmp_path), "propagation")
    assert "The motion is estimated" not in text(figure)
    assert images(site, figure, "True views, azimuth 90")


@pytest.mark.parametrize("name", ["no-propagation", "no-flow"])
def test_a_second_pass_that_would_repeat_the_first_is_not_missed(tmp_path: Path, name: str) -> None:
    sentence = "has no second pass: without token propagation it would draw the first one's views again"
    add_run(tmp_path / "runs", "mvtokenflow", work=True, settings={"token_propagation": True})
    whole = add_run(tmp_path / "runs", name, work=True, settings={"token_propagation": False})
    assert sentence not in text(section(build(tmp_path), "training")), "this one has it all the same"
    shutil.rmtree(whole / "work" / "regenerated")
    list_again(whole, token_propagation=False)
    site = build(tmp_path)
    training = text(section(site, "training"))
    assert training.count(f"This run {sentence}") == 1
    assert "mvtf-eval" not in training
    if name == "no-propagation":  # of the other row the figure has nothing to show
        figure = text(section(site, "propagation"))
        assert re.search(rf"no-propagation\s* {sentence}", figure)
        assert "delete" not in figure


def test_a_second_pass_that_was_not_wanted_is_not_explained_by_propagation(tmp_path: Path) -> None:
    for name, settings in (
        ("no-regeneration", {"regeneration": False}),
        ("coarse", {"refinement": False, "regeneration": False, "token_propagation": False}),
    ):
        folder = add_run(tmp_path / "runs", name, work=True, settings=settings)
        shutil.rmtree(folder / "work" / "regenerated")
        list_again(folder, **settings)
    assert "second pass" not in text(section(build(tmp_path), "training"))


# ---- training ----


def test_training_shows_curves_stages_and_costs(tmp_path: Path) -> None:
    add_run(tmp_path / "runs", "coarse", work=True)
    add_run(tmp_path / "runs", "mvtokenflow", work=True)
    training = section(site := build(tmp_path), "training")
    assert re.findall(r"<summary>(.*?)</summary>", training) == ["mvtokenflow", "coarse"]
    assert training.count("<svg") == 2  # "loss" of two runs; a term that is always 0 has no curve
    assert training.count('class="curve"') == 2 * 3
    for row in ("First pass, colour", "Second pass, normals", "Static field", "Coarse field", "Refined field"):
        assert text(training).count(row) >= 2
    assert "after 100 steps" in training
    assert "after 20 steps" not in training
    assert (images(site, training, "mvtokenflow, refined field")[0] == 7).all()
    costs = text(training.split("<table")[1])
    assert "views 1 min 01 s 1,234 MiB 1 min 01 s 1,234 MiB" in costs
    assert "all 1 min 03 s" in costs


# ---- pages ----


def test_pages_escape_and_ask_the_network_for_nothing(tmp_path: Path) -> None:
    name = '<b>"x"&\'y'
    add_run(tmp_path / "runs", "mvtokenflow", scene=name, work=True, geometry=True)
    add_run(tmp_path / "runs", "a&b <i>", scene=name, native=False)
    site = build(tmp_path)
    pages = [path for path in site.rglob("*") if path.suffix in (".html", ".css", ".js")]
    assert len(pages) > 5
    for path in pages:
        written = path.read_text()
        assert "<b>" not in written, path
        assert "a&b <i>" not in written, path
        assert not re.search(r"""(?:src|href)=["'](?:[a-z]+:)?//|url\(|@import|fetch\(""", written), path
    linked = {
        source
        for page in (site / "scenes").glob("*.html")
        for source in re.findall(r'<img src="\.\./([^"]+)"', page.read_text())
    }
    assert all((site / source).is_file() for source in linked)
    assert any(s.startswith("figures/") for s in linked)


def test_the_same_runs_give_the_same_figures(tmp_path: Path) -> None:
    add_run(tmp_path / "runs", "mvtokenflow", work=True, geometry=True)
    add_run(tmp_path / "runs", "no-propagation", work=True)
    first = contents(build(tmp_path))
    again = contents(build(tmp_path))  # pictures are taken from the first
    shutil.rmtree(tmp_path / "site")
    assert first == again == contents(build(tmp_path))


def contents(folder: Path) -> Mapping[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_code_is_marked_and_escaped() -> None:
    assert code_spans("a < `b & c` > d") == "a &lt; <code>b &amp; c</code> &gt; d"


# ---- colours ----


def test_flow_colours_have_a_fixed_scale() -> None:
    flow = np.zeros((4, 5, 2))
    flow[0], flow[1], flow[2] = (2, 0), (20, 0), (-2, 0)
    drawn = colormaps.flow_picture(flow, 2.0)
    assert drawn.shape == (4, 5, 3)
    assert (drawn[3] == 255).all()
    assert np.array_equal(drawn[0], drawn[1])  # beyond the rim nothing changes
    assert np.abs(drawn[0].astype(int) - drawn[2]).max() > 100
    alone = colormaps.flow_picture(flow[2:3], 2.0)
    assert np.array_equal(alone[0], drawn[2])  # whatever else is in the picture
    wheel = colormaps.flow_wheel()
    assert (wheel[0, 0] == 255).all()
    assert (wheel[32, 32] == 255).all()
    assert np.array_equal(wheel[32, 64], drawn[0, 0])
    assert colormaps.flow_rim([np.zeros((3, 3, 2))]) == 0.5
    assert colormaps.flow_rim([np.full((3, 3, 2), 3.0)]) == pytest.approx(3 * math.sqrt(2))


def test_differences_and_normals_as_pictures() -> None:
    dark, light = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert colormaps.difference(light, dark) == pytest.approx(0.2)
    assert colormaps.difference(np.full((8, 8, 3), 51, np.uint8), dark) == pytest.approx(0.2)
    levels = colormaps.heat_ramp()[0].sum(-1).astype(int)
    assert levels[0] < 15
    assert levels[-1] > 600
    assert (np.diff(levels) >= 0).mean() > 0.95
    assert np.array_equal(colormaps.heat(np.array([[0.5]])), colormaps.heat(np.array([[0.9]])))
    normal = np.zeros((2, 2, 3))
    normal[0, 0] = (0, 0, 1)
    drawn = colormaps.normal_picture(normal)
    assert drawn[0, 0].tolist() == [128, 128, 255]
    assert (drawn[1] == 255).all()


def test_warped_differences_are_what_motion_leaves() -> None:
    flow = np.zeros((SIDE, SIDE, 2), np.float32)
    flow[..., 0] = 1
    seen = np.ones((SIDE, SIDE), bool)
    assert warped_difference(picture(0), picture(1), flow, seen).max() < 1e-5  # float32 sampling: 3e-7
    assert warped_difference(picture(0), picture(1), 0 * flow, seen).max() > 0.3
    assert warped_difference(picture(0), picture(1), 0 * flow, ~seen).max() == 0


def test_azimuths_are_read_off_the_cameras() -> None:
    from mvtokenflow.views.cameras import orbit

    cameras = orbit((0, 45, 90, 180, -90, -45), size=8, kind="ortho", radius=3.0)
    assert azimuths_of(cameras.to_dict()) == [0, 45, 90, 180, 270, 315]


def test_frames_are_evenly_chosen_with_both_ends() -> None:
    assert evenly(32, 6) == [0, 6, 12, 19, 25, 31]
    assert evenly(3, 6) == [0, 1, 2]
    assert evenly(1, 6) == [0]


def test_slices_have_gaps_where_frames_are_missing() -> None:
    clip = [picture(0), None, picture(2), np.zeros((5, 5, 3), np.uint8)]
    drawn = time_slice(clip, 0.5)
    assert drawn is not None
    assert np.array_equal(drawn[:, 0], picture(0)[:, SIDE // 2])
    assert (drawn[:, 1] == 128).all()
    assert (drawn[:, 3] == 128).all()
    assert time_slice([None], 0.5) is None
    assert busiest_column(clip) is None  # of two sizes
    assert busiest_column([picture(0), None]) is None


# ---- methods of others ----


def test_what_a_foreign_method_lists_is_drawn(tmp_path: Path) -> None:
    """Under names of its own, with a stage and a pass that the method of this repository does not have."""
    made = [
        Artefact(kind="views", name="sds", title="Distilled views", path="work/out/pictures", stride=2),
        Artefact(
            kind="normals", name="sds", title="Distilled views", path="work/out/pictures/normals", stride=2
        ),
        Artefact(kind="flow", name="sds", title="Distilled views", path="work/out/motion.npz", stride=2),
        Artefact(kind="losses", name="warmup", title="Warm-up", path="work/logs/a.jsonl"),
        Artefact(kind="previews", name="warmup", title="Warm-up", path="work/logs"),
        Artefact(kind="field", name="warmup", title="Warm-up", path="work/net/last.safetensors"),
        Artefact(
            kind="views", name="again", title="More views", path=None, note="has no more views: one pass."
        ),
    ]
    folder = add_run(tmp_path / "runs", "rival", geometry=True, artefacts=made)
    work = folder / "work"
    add_work(tmp_path / "kept")
    for source, target in (("views", "out/pictures"), ("coarse/static", "logs")):
        (work / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(tmp_path / "kept" / source, work / target)
    (work / "logs" / "losses.jsonl").rename(work / "logs" / "a.jsonl")
    (work / "net").mkdir()
    (work / "net" / "last.safetensors").write_bytes(b"")
    flow = np.full((FRAMES - 1, SIDE, SIDE, 2), 2, np.float32)
    np.savez(work / "out" / "motion.npz", flow=flow, view=0)
    site = build(tmp_path)

    training = section(site, "training")
    assert training.count('class="curve"') == 1
    assert images(site, training, "rival, distilled views, colour, azimuth 90")
    assert images(site, training, "rival, distilled views, normals, azimuth 0")
    assert (images(site, training, "rival, warm-up")[0] == 7).all()
    assert "This run has no more views: one pass." in text(training)
    assert "views 1 min 01 s" in text(training)
    assert "RUNS/toy4d/rival/fox/seed0-ababababab/work/net/last.safetensors" in text(section(site, "around"))
    assert images(site, section(site, "flow"), "flow estimated on the input")
    assert "over 2 frames" in text(section(site, "flow"))


def test_ablations_of_a_foreign_method_stand_beside_it(tmp_path: Path) -> None:
    made = [Artefact(kind="losses", name="all", title="All", path="work/losses.jsonl")]
    for name, of in (("rival", None), ("rival-mini", "rival"), ("other", None)):
        folder = add_run(tmp_path / "runs", name, artefacts=made)
        manifest = Manifest.load(folder / "manifest.json")
        replace(manifest, variant_of=of).save(folder / "manifest.json")
    site = build(tmp_path)
    assert heads(section(site, "ablation")) == ["Input", "Ground truth", "rival", "rival-mini"]
    strip = section(site, "strip")
    assert images(site, strip, "other, eval_0")
    assert not images(site, strip, "rival-mini, eval_0"), "left to the section of ablations"


def test_manifests_that_list_nothing_are_read_and_say_so(tmp_path: Path) -> None:
    folder = add_run(tmp_path / "runs", "mvtokenflow", work=True)
    document = json.loads((folder / "manifest.json").read_text())
    for later in ("artefacts", "variant_of"):
        del document[later]
    (folder / "manifest.json").write_text(json.dumps(document))
    site = build(tmp_path)
    assert images(site, section(site, "strip"), "mvtokenflow, eval_0")
    assert "Needs a run of the method" in text(section(site, "training"))
