"""The site in a real browser, opened from the file system: what is drawn, synced, linked and reachable."""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, start_browser
from manifests import make_manifest
from numpy.typing import NDArray
from PIL import Image

from mvtokenflow.base.files import write_json
from mvtokenflow.eval.records.rows import Row, load_runs, row_log, run_folder
from mvtokenflow.eval.tables.table import Cell, Column, Table, TableRow
from mvtokenflow.reports.run_page import write_page
from mvtokenflow.reports.site import build_site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    started, profile = start_browser()
    yield started
    started.close()
    shutil.rmtree(profile, ignore_errors=True)


METHODS = ("ours", "rival", "oracle")
VIEWS = ("input", "eval_0", "eval_1")
FRAMES, SIDE = 8, 16


def color(series: int, view: str, frame: int) -> tuple[int, int, int]:
    """A colour of its own for every picture, and none that the page itself is painted in."""
    return (25 + 55 * series, 10 + 70 * VIEWS.index(view), 15 + 29 * frame)


def picture_of(series: int, view: str, frame: int) -> NDArray[np.uint8]:
    """Flat in the middle; the upper quarter holds stripes that are equal in all pictures."""
    pixels = np.full((SIDE, SIDE, 3), color(series, view, frame), np.uint8)
    pixels[: SIDE // 4] = np.array([0, 255], np.uint8)[np.arange(SIDE // 4) % 2, None, None]
    return pixels


def score(series: int, view: str, frame: int) -> float:
    """Worst (largest) at frame 6 of eval_1 for `rival`."""
    return 0.1 * series + 0.01 * VIEWS.index(view) + 0.001 * (7 - abs(frame - 6))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site whose path and names hold what addresses must quote."""
    return made_site(tmp_path_factory.mktemp("a site #1 with 100% é"), METHODS)


def made_site(root: Path, methods: Sequence[str]) -> Path:
    """A site of a scene with runs of these methods; those that no list here names are known answers."""
    for index, method in enumerate(methods, 1):
        folder = run_folder(root / "runs", "toy4d", method, "fox <&>", 0, "c0ffee" * 4)
        rows = []
        for view in VIEWS:
            for frame in range(FRAMES):
                for path, series in ((root / "gt" / view, 0), (folder / "pred" / view, index)):
                    path.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(picture_of(series, view, frame)).save(path / f"{frame}.png")
                rows.append(
                    Row(
                        key=f"{method}{view}{frame}",
                        object="fox <&>",
                        view=view,
                        frame=frame,
                        metric="lpips",
                        value=score(index, view, frame),
                        signature="lpips|p:t",
                    )
                )
        row_log(folder).append(rows)
        if method == "rival":
            (folder / "pred" / "eval_0" / "7.png").unlink()
        make_manifest(
            dataset="toy4d",
            method=method,
            source="native" if method in METHODS[:2] else "oracle",
            uses_truth=method not in METHODS[:2],
            scene="fox <&>",
            tags=["held-out-plan"] if method == "ours" else [],
            config={"steps": 40, "a long name without any place to break it " * 3: "x" * 200},
            config_hash="c0ffee" * 4,
            reference_root=str(root / "gt"),
            views=[{"name": view, "azimuth_deg": 15.0, "elevation_deg": 0.0} for view in VIEWS],
            frames=FRAMES,
            prediction_digest="ab" * 32,
            pedigree={"code": {"version": "0.1", "commit": "f" * 40, "dirty": False}, "device": "cpu"},
        ).save(folder / "manifest.json")
    columns = [
        Column(
            key="lpips", title="LPIPS", better="lower", digits=3, signatures=["lpips|p:t" + "|long:name" * 30]
        ),
        *(
            Column(key=f"m{k}", title=f"A wide column {k}", better="higher", digits=2, signatures=[])
            for k in range(6)
        ),
    ]
    cells = [
        Cell(
            value=0.12345,
            low=0.1,
            high=0.2,
            have=1,
            want=1,
            rank=1,
            provenance={
                "signature": "lpips|p:t",
                "runs": {"fox <&>": "ab" * 32},
                "command": ["mvtf-eval", "<x>"],
            },
        )
    ] * len(columns)
    table = Table(
        name="table1",
        title="Table 1",
        caption="",
        columns=columns,
        rows=[TableRow(label=name, source="native", group="measured", cells=cells) for name in methods],
        footnotes=[],
    )
    build_site([table], list(load_runs(root / "runs")), root / "site")
    return root / "site"


@pytest.fixture(scope="module")
def scene(site: Path) -> Path:
    (page,) = (site / "scenes").glob("*.html")
    return page


def colors_of_panes(browser: Browser) -> dict[str, tuple[int, int, int]]:
    """The colour on screen in the middle of every visible pane, by the label below it."""
    boxes = browser.js(
        "[...document.querySelectorAll('.pane:not([hidden])')].map((pane) => {"
        " const box = pane.querySelector('.stack').getBoundingClientRect();"
        " return [pane.querySelector('.label').textContent, box.x + box.width / 2, box.y + box.height / 2]; })"
    )
    shot = browser.picture()
    found = {}
    for label, x, y in boxes:
        red, green, blue = (int(value) for value in shot[round(y), round(x)])
        found[label] = (red, green, blue)
    return found


def expected(view: str, frame: int) -> dict[str, tuple[int, int, int]]:
    return {name: color(place, view, frame) for place, name in enumerate(("Ground truth", *METHODS))}


def shown(browser: Browser) -> str:
    value: str = browser.js("document.documentElement.dataset.shown")
    return value


def test_a_link_shows_its_frame_in_all_panes(browser: Browser, scene: Path) -> None:
    browser.size(1280, 900)
    for view, frame in (("eval_1", 5), ("input", 0), ("eval_0", 3)):
        browser.open(scene, f"#view={view}&frame={frame}")
        assert colors_of_panes(browser) == expected(view, frame)
        files = browser.js("[...document.querySelectorAll('.pane')].map((pane) => pane.dataset.file)")
        for place, name in enumerate(files):
            with Image.open(scene.parents[1] / "pictures" / name) as stored:
                assert np.array_equal(np.asarray(stored), picture_of(place, view, frame))
        assert browser.js("document.getElementById('frame').textContent") == f"{frame} / {FRAMES - 1}"
        assert browser.js("document.querySelector('#chart svg').dataset.frame") == str(frame)
        assert browser.complaints() == []


def test_nothing_is_asked_from_anywhere_but_the_site(browser: Browser, site: Path, scene: Path) -> None:
    for page in (site / "index.html", scene):
        browser.open(page)
        if page == scene:
            browser.wait("document.documentElement.dataset.preloaded === 'eval_0'")
        asked = [url for url in browser.requests() if not url.startswith("data:")]
        assert asked
        assert all(url.startswith(site.as_uri()) for url in asked), asked
        assert browser.complaints() == []


def test_keys_scrubber_and_address_move_together(browser: Browser, scene: Path) -> None:
    browser.size(1280, 900)
    browser.open(scene, "#view=eval_1&frame=2")
    steps = [
        ("ArrowRight", 0, 3),
        ("ArrowLeft", 0, 2),
        ("ArrowRight", 8, 7),
        ("ArrowRight", 0, 7),
        ("Home", 0, 0),
    ]
    for key, modifiers, frame in steps:
        browser.key(key, modifiers)
        assert shown(browser) == f"eval_1/{frame}"
        assert browser.js("location.hash") == f"#view=eval_1&frame={frame}"
        assert browser.js("document.getElementById('scrubber').value") == str(frame)
    browser.js(
        "(() => { const scrubber = document.getElementById('scrubber');"
        " scrubber.value = 6; scrubber.dispatchEvent(new Event('input')); })()"
    )
    browser.settle()
    assert colors_of_panes(browser) == expected("eval_1", 6)
    browser.key("v")
    assert shown(browser) == "input/6"
    browser.js("location.hash = '#view=eval_0&frame=99&metric=nonsense&mode=bogus'")
    browser.wait("document.documentElement.dataset.shown === 'eval_0/7'")  # the last frame; the rest is ignored
    assert browser.complaints() == []


def test_playing_shows_every_frame_of_all_panes_together(browser: Browser, scene: Path) -> None:
    browser.open(scene, "#view=eval_1&frame=0")
    browser.wait("document.documentElement.dataset.preloaded === 'eval_1'")
    # What is on screen is noted at every change of the page; panes that disagree would leave a set of two.
    browser.js(
        "window.seen = []; new MutationObserver(() => { window.seen.push([...new Set("
        "[...document.querySelectorAll('.pane')].map((pane) => pane.dataset.shown))].join()); })"
        ".observe(document.documentElement, { attributeFilter: ['data-shown'] })"
    )
    browser.key(" ")
    assert browser.js("document.getElementById('play').getAttribute('aria-pressed')") == "true"
    browser.wait(f"window.seen.length >= {FRAMES + 2}")
    browser.key(" ")
    seen = browser.js("window.seen")
    assert seen[: FRAMES + 1] == [f"eval_1/{(1 + step) % FRAMES}" for step in range(FRAMES + 1)]
    assert browser.js("document.getElementById('play').getAttribute('aria-pressed')") == "false"


def test_difference_is_the_amplified_absolute_difference(browser: Browser, scene: Path) -> None:
    browser.size(1280, 900)
    browser.open(scene, "#view=eval_1&frame=5&mode=difference&gain=2")
    truth = np.array(color(0, "eval_1", 5))
    found = colors_of_panes(browser)
    assert found["Ground truth"] == tuple(truth)
    for place, name in enumerate(METHODS, 1):
        wanted = np.minimum(255, 2 * np.abs(np.array(color(place, "eval_1", 5)) - truth))
        assert np.abs(np.array(found[name]) - wanted).max() <= 1, name  # 8-bit rounding in the compositor
    # equal pictures give exact black, also where scaled stripes lie between the pixels of the screen
    tops = browser.js(
        "[...document.querySelectorAll('.pane .stack.difference')].map((stack) => {"
        " const b = stack.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })"
    )
    assert len(tops) == len(METHODS)
    shot = browser.picture()
    for x, y, width, height in tops:
        part = shot[int(y) + 3 : int(y + height / 4) - 3, int(x) + 5 : int(x + width) - 5]
        assert part.size > 1000
        assert part.max() == 0
    browser.key("p")
    assert colors_of_panes(browser) == expected("eval_1", 5)


def test_wipe_shows_a_on_the_left_and_b_on_the_right(browser: Browser, scene: Path) -> None:
    browser.size(1280, 900)
    browser.open(scene, "#view=eval_1&frame=4&mode=wipe&a=m0&b=m1")
    box = browser.js(
        "(() => { const b = document.querySelector('.stack.large').getBoundingClientRect();"
        " return [b.x, b.y, b.width, b.height]; })()"
    )
    at = (
        "(() => { const edge = document.getElementById('wipe-at');"
        " edge.value = 25; edge.dispatchEvent(new Event('input')); })()"
    )
    for move, edge in (("0", 0.5), (at, 0.25)):
        browser.js(move)
        shot = browser.picture()
        row = shot[round(box[1] + box[3] / 2)]
        left = row[round(box[0] + box[2] * (edge - 0.05))]
        right = row[round(box[0] + box[2] * (edge + 0.05))]
        assert tuple(left) == color(1, "eval_1", 4)
        assert tuple(right) == color(2, "eval_1", 4)


def test_the_map_and_the_worst_case_lead_to_their_frame(browser: Browser, scene: Path) -> None:
    browser.size(1280, 900)
    browser.open(scene, "#view=eval_0&frame=0")
    labels = browser.js("[...document.querySelectorAll('#cases small')].map((one) => one.textContent)")
    assert labels[0] == "rival · eval_1 · frame 6"
    assert len(labels) == 2 * len(VIEWS)  # the oracle is no candidate; one case a method and view
    browser.js("document.querySelector('#cases a').click()")
    browser.wait("document.documentElement.dataset.shown === 'eval_1/6'")
    browser.settle()
    # cell (frame 3, third row = input) of the first map
    browser.js(
        "(() => { const map = document.querySelector('#maps svg'); map.scrollIntoView();"
        " const b = map.getBoundingClientRect();"
        f" const at = {{ clientX: b.x + b.width * 3.5 / {FRAMES}, clientY: b.y + b.height * 2.5 / 3 }};"
        " map.dispatchEvent(new PointerEvent('pointermove', at));"
        " map.dispatchEvent(new MouseEvent('click', at)); })()"
    )
    browser.wait("document.documentElement.dataset.shown === 'input/3'")
    assert (
        browser.js("document.getElementById('heat-at').textContent")
        == f"ours, input, frame 3: {score(1, 'input', 3):.3f}"
    )
    assert browser.complaints() == []


def test_a_missing_frame_says_why_in_its_pane_only(browser: Browser, scene: Path) -> None:
    browser.size(1280, 900)
    browser.open(scene, "#view=eval_0&frame=7")
    gaps = browser.js(
        "Object.fromEntries([...document.querySelectorAll('.pane')].map((pane) => ["
        " pane.querySelector('.label').textContent,"
        " pane.querySelector('.gap:not([hidden])')?.textContent || '']))"
    )
    assert gaps.pop("rival").startswith("No frame 7: 7 frames in toy4d/rival/fox <&>/seed0-")
    assert set(gaps.values()) == {""}
    found = colors_of_panes(browser)
    assert found["ours"] == color(1, "eval_0", 7)
    assert browser.complaints() == []


def test_hidden_methods_leave_panes_curves_and_maps(browser: Browser, scene: Path) -> None:
    browser.open(scene, "#view=eval_1&frame=5&hide=m1")
    count = "document.querySelectorAll('{}').length"
    assert browser.js(count.format(".pane:not([hidden])")) == 3
    assert browser.js(count.format("#chart .curve")) == browser.js(count.format("#maps figure")) == 2
    browser.js("document.querySelector('#shown [data-series=m1]').click()")
    browser.settle()
    assert browser.js(count.format("#chart .curve")) == browser.js(count.format("#maps figure")) == 3
    assert browser.js("location.hash") == "#view=eval_1&frame=5"


def test_known_answers_but_one_are_folded_away(browser: Browser, tmp_path: Path) -> None:
    site = made_site(tmp_path, ("ours", "rival", "ground-truth", "blurred", "white"))
    (page,) = (site / "scenes").glob("*.html")
    labels = "[...document.querySelectorAll('.pane:not([hidden]) .label')].map((label) => label.textContent)"
    browser.open(page)
    first = ["Ground truth", "ours", "rival", "blurred"]
    assert browser.js(labels) == first
    assert browser.js("document.getElementById('more').textContent") == "Show 2 more"
    browser.js("document.getElementById('more').click()")
    browser.settle()
    assert set(browser.js(labels)) == {*first, "ground-truth", "white"}
    assert "hide=" in browser.js("location.hash"), "the address holds that nothing is hidden"
    browser.js("document.getElementById('more').click()")
    browser.settle()
    assert browser.js(labels) == first
    assert browser.complaints() == []


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_no_page_scrolls_sideways(browser: Browser, site: Path, scene: Path, width: int) -> None:
    browser.size(width, 844)
    for page, fragment in (
        (site / "index.html", ""),
        (scene, ""),
        (scene, "#mode=wipe"),
        (scene, "#mode=difference"),
    ):
        browser.open(page, fragment)
        browser.js("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
        browser.settle()
        excess = browser.js("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert excess == 0, (page.name, fragment)
        if fragment:
            high = browser.js("document.querySelector('.transport').offsetHeight")
            assert high < (100 if width >= 390 else 140)  # in reach without covering the pictures


def test_numbers_open_their_provenance(browser: Browser, site: Path) -> None:
    browser.size(1280, 900)
    browser.open(site / "index.html")
    browser.js(
        "document.querySelector('button.cell').dispatchEvent("
        "new PointerEvent('pointerenter', { pointerType: 'mouse' }))"
    )
    assert browser.js("document.querySelector('.tip').textContent").startswith(
        "LPIPS 0.12345\n95 % interval 0.100 to 0.200"
    )
    browser.js("document.querySelector('button.cell').click()")
    panel = browser.js("document.querySelector('dialog[open]').innerText")
    assert "ours · LPIPS" in panel
    assert "mvtf-eval <x>" in panel
    assert "ab" * 32 in panel
    browser.key("Escape")
    assert browser.js("document.querySelectorAll('dialog[open]').length") == 0
    assert browser.complaints() == []


def test_scenes_are_filtered_by_tag_and_the_filter_can_be_linked(browser: Browser, site: Path) -> None:
    cards = "document.querySelectorAll('#scenes .cards > li:not([hidden]) strong')"
    visible = f"[...{cards}].map((name) => name.textContent)"
    browser.open(site / "index.html", "#tag=held-out-plan")
    assert browser.js(visible) == ["fox <&>"]
    assert browser.js("document.querySelector('#tags [aria-pressed=true]').dataset.tag") == "held-out-plan"
    browser.js(
        "document.querySelector('#scenes .cards li').dataset.tags = '[]';"
        " document.querySelector('#tags button').click()"
    )
    assert browser.js(visible) == ["fox <&>"]
    browser.js("document.querySelectorAll('#tags button')[1].click()")
    assert browser.js(visible) == []
    assert browser.js("location.hash") == "#tag=held-out-plan"


# Relative luminance and contrast ratio after WCAG 2.1, over every element that holds text of its own.
CONTRAST = """
(() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(node).backgroundColor);
      if (a > 0.9) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const written = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  const tags = 'h1, h2, p, a, dt, dd, th, td, button, small, span, label, summary, figcaption, select';
  const found = [];
  for (const node of document.querySelectorAll(tags)) {
    const color = getComputedStyle(node).color;
    if (!written(node) || !node.offsetParent || !color.startsWith('rgb')) continue;
    const pair = [light(numbers(color).slice(0, 3)), light(ground(node))].sort((a, b) => b - a);
    found.push([(pair[0] + 0.05) / (pair[1] + 0.05), node.textContent.slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_reaches_the_contrast_of_wcag_aa(browser: Browser, site: Path, scene: Path, dark: bool) -> None:
    browser.size(1280, 900, dark=dark)
    for page in (site / "index.html", scene):
        browser.open(page)
        found = browser.js(CONTRAST)
        assert len(found) > 10
        assert found[0][0] >= 4.5, found[:3]


def test_every_control_has_a_name(browser: Browser, scene: Path) -> None:
    browser.size(1280, 900)
    browser.open(scene, "#mode=wipe")
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    controls = [n for n in tree if n.get("role", {}).get("value") in ("button", "slider", "combobox", "radio")]
    assert len(controls) >= 10
    assert [node for node in controls if not node.get("name", {}).get("value")] == []


def test_the_gallery_opens_a_scene_at_its_worst_frame(browser: Browser, site: Path) -> None:
    browser.size(1280, 900)
    browser.open(site / "index.html")
    walls = "[...document.querySelectorAll('#failures details')]"
    assert browser.js(f"{walls}.map((wall) => wall.open)") == [True, False]  # the oracle has no wall
    link = browser.js(f"{walls}[1].querySelector('a').href")
    assert link.endswith("#view=eval_1&frame=6")
    browser.call("Page.navigate", url=link)
    browser.wait("document.documentElement?.dataset.shown === 'eval_1/6'")
    assert browser.complaints() == []


def test_figures_need_no_script_and_no_wide_window(browser: Browser, scene: Path) -> None:
    browser.size(390, 844)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.events.clear()
        browser.call("Page.navigate", url=scene.as_uri() + "#strip")
        browser.wait("document.readyState === 'complete' && location.protocol === 'file:'")
        open_sheets = "[...document.querySelectorAll('#strip details')].map((sheet) => sheet.open)"
        assert browser.js(open_sheets) == [True, False, False]
        browser.js("document.querySelectorAll('#strip details')[2].open = true")
        browser.wait(f"{open_sheets}.join() === 'false,false,true'")  # one at a time
        drawn = "[...document.querySelectorAll('#strip details[open] img')]"
        browser.wait(f"{drawn}.slice(0, 6).every((image) => image.complete && image.naturalWidth > 0)")
        assert browser.js("document.documentElement.scrollWidth") == 390
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_an_address_of_a_section_leaves_the_viewer_alone(browser: Browser, scene: Path) -> None:
    browser.size(1280, 900)
    browser.open(scene, "#view=eval_1&frame=3")
    browser.js("document.querySelector('.contents a[href=\"#provenance\"]').click()")
    browser.settle()
    assert browser.js("location.hash") == "#provenance"
    assert browser.js("document.documentElement.dataset.shown") == "eval_1/3"


def test_a_narrow_screen_shows_one_metric_at_a_time(browser: Browser, site: Path) -> None:
    cells = (
        "[...document.querySelectorAll('table.numbers thead th')].filter((head) => head.offsetParent)"
        ".map((head) => head.textContent.trim().split('\\n')[0])"
    )
    browser.size(390, 844)
    browser.open(site / "index.html")
    assert [text[:5] for text in browser.js(cells)] == ["Metho", "LPIPS"]
    browser.js(
        "(() => { const pick = document.querySelector('.pick select'); pick.value = '3';"
        " pick.dispatchEvent(new Event('change')); })()"
    )
    assert [text[:14] for text in browser.js(cells)] == ["Method", "A wide column "]
    assert "A wide column 2" in browser.js(cells)[1]
    inside = (
        "(() => { const box = document.querySelector('.scroll'); return box.scrollWidth - box.clientWidth; })()"
    )
    assert browser.js(inside) == 0
    browser.size(1280, 900)
    assert len(browser.js(cells)) == 8
    assert browser.js("document.querySelector('.pick').offsetParent") is None


def test_a_row_is_one_stop_of_the_tab_key_and_arrows_go_on(browser: Browser, site: Path) -> None:
    browser.size(1280, 900)
    browser.open(site / "index.html")
    stops = "document.querySelectorAll('table.numbers button.cell:not([tabindex=\"-1\"])').length"
    assert browser.js(stops) == len(METHODS)
    browser.js("document.querySelector('button.cell').focus()")
    browser.key("ArrowRight")
    browser.key("ArrowDown")
    assert browser.js("document.activeElement.dataset.cell") == "1.1"


def test_a_scene_page_opens_on_a_view_that_was_measured(browser: Browser, site: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    runs = [
        replace(run, rows=[row for row in run.rows if row.view == "input"])
        for run in load_runs(site.parent / "runs")
    ]
    build_site([], runs, tmp_path / "site")
    (page,) = (tmp_path / "site" / "scenes").glob("*.html")
    browser.size(1280, 900)
    browser.open(page)
    assert shown(browser).startswith("input/")
    assert browser.js("document.querySelectorAll('#chart svg .curve').length") == len(METHODS)


def test_curves_have_their_names_beside_them_and_known_answers_are_grey(browser: Browser, scene: Path) -> None:
    browser.size(1280, 900)
    browser.open(scene)
    names = "[...document.querySelectorAll('#chart .name')].map((name) => name.textContent)"
    assert sorted(browser.js(names)) == sorted(METHODS)
    heights = browser.js(
        "[...document.querySelectorAll('#chart .name')].map((n) => Number(n.getAttribute('y')))"
    )
    gaps = np.diff(sorted(heights))
    assert gaps.min() >= 13
    color = "getComputedStyle(document.querySelector('#chart .curve.{}')).stroke"
    soft = "getComputedStyle(document.querySelector('.soft')).color"
    assert browser.js(color.format("oracle")) == browser.js(soft)
    assert browser.js(color.format("measured")) != browser.js(soft)


def test_the_page_of_a_killed_run_says_that_nothing_is_written(browser: Browser, tmp_path: Path) -> None:
    state = {"stage": 2, "stages": 6, "title": "Static field", "seconds_left": 60, "at_work": True}
    write_json(tmp_path / "run.json", {"kind": "asset"})
    for minutes, silent in ((0, False), (25, True)):
        write_json(tmp_path / "progress.json", {**state, "written": round(time.time()) - 60 * minutes - 5})
        browser.open(write_page(tmp_path))
        said = browser.js("document.querySelector('.going').textContent")
        assert said.startswith("At work: stage 2 of 6, Static field")
        assert ("Nothing was written for 25 minutes" in said) == silent
        assert browser.complaints() == []
