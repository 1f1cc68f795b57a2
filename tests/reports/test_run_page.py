"""The page of a run: a function of its files, whatever of them is there."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from mvtokenflow.base.errors import DataError
from mvtokenflow.base.files import write_json, write_text
from mvtokenflow.media.pictures import write_png
from mvtokenflow.method.artefacts import artefacts
from mvtokenflow.method.config import mini
from mvtokenflow.reports.curves import HEIGHT, WIDTH, charts
from mvtokenflow.reports.run_page import duration, run_page, write_page
from mvtokenflow.views.cameras import ERA3D_AZIMUTHS_DEG, orbit
from mvtokenflow.workdir.artefacts import ARTEFACTS_FILE, write_artefacts

PRIOR = "ab" * 32


def _settings(folder: Path) -> None:
    settings = {
        "config": {"stride": 2, "square": {"size": 64, "crop_size": 56}, "flow": "<dis>"},
        "prior": PRIOR,
        "seed": 3,
        "video": {"pictures": "cd" * 32, "cut_out_by": "mask", "frames": 6},
    }
    write_json(folder / "run.json", settings)


def _views(folder: Path, frames: int) -> None:
    picture = np.zeros((4, 4, 4), np.uint8)
    for view in range(6):
        for frame in range(frames):
            write_png(folder / f"view_{view}" / f"{frame}.png", picture)
            write_png(folder / "normals" / f"view_{view}" / f"{frame}.png", picture[..., :3])
    write_json(folder / "cameras.json", orbit(ERA3D_AZIMUTHS_DEG, size=4, kind="ortho", radius=3.0).to_dict())


def _stage(folder: Path, steps: int, scale: float) -> None:
    lines = [
        {"step": step, "gaussians": 1234, "seconds": 0.1, "loss": scale / step, "flow": 0.0}
        for step in range(1, steps + 1)
    ]
    write_text(folder / "losses.jsonl", "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 9')
    write_png(folder / "preview_00002.png", np.zeros((8, 24, 3), np.uint8))
    write_png(folder / f"preview_{steps:05d}.png", np.zeros((8, 24, 3), np.uint8))


def _list(out: Path, **settings: Any) -> None:
    """What lies in the folder of the stages now."""
    found = artefacts(out / "method", replace(mini(), **settings))
    below = [one if one.path is None else replace(one, path=f"method/{one.path}") for one in found]
    write_artefacts(out / ARTEFACTS_FILE, below)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Everything a finished run has, as far as the page looks; its name needs quoting."""
    out = tmp_path / "cat & dog"
    _settings(out)
    method = out / "method"
    for name in ("views", "regenerated"):
        _views(method / name, 4)
    for place, steps in (("coarse/static", 5), ("coarse/coarse", 10), ("refined/refine", 10)):
        _stage(method / place, steps, 2.0)
    costs = [
        {"stage": "views", "seconds": 3725.0, "peak_mib": 1234.5, "finished": True},
        {"stage": "coarse", "seconds": 75.25, "peak_mib": 999.0, "finished": False},
    ]
    write_json(method / "stages.json", costs)
    _list(out)
    write_json(out / "environment.json", [{"mvtokenflow": "0.9", "packages": {"torch": "2.9.1"}}])
    for name in ("comparison", "turntable/turntable", "azimuth_0/azimuth_0", "azimuth_90/azimuth_90"):
        write_text(out / f"{name}.mp4", "not looked into")
    write_text(out / "ply" / "0000.ply", "")
    write_text(out / "field.safetensors", "x" * 2**20)
    return out


class _Page(HTMLParser):
    """Links and texts of a page; fails on elements that are not closed in order."""

    VOID = ("meta", "link", "img", "line", "path")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.alts: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [str(given[name]) for name in ("src", "href") if given.get(name)]
        if tag == "img":
            self.alts.append(given["alt"] or "")
        self.ids |= {str(given["id"])} if "id" in given else set()
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data


def test_every_part_is_shown_and_every_link_is_a_file_of_the_run(folder: Path) -> None:
    path = write_page(folder)
    assert path == folder / "index.html"
    page = _Page(path.read_text())
    local = [link for link in page.links if link != "data:,"]
    assert all((folder / unquote(link)).exists() for link in local)
    assert not any(link.startswith(("/", "http", "file")) for link in local)
    videos = {"comparison.mp4", "turntable/turntable.mp4", "azimuth_90/azimuth_90.mp4"}
    assert videos <= set(local)
    assert "azimuth_0/azimuth_0.mp4" not in local  # the comparison shows it
    assert {"result", "files", "views", "training", "costs", "settings"} <= page.ids
    assert "cat & dog" in page.text
    for fact in ("sha256 abababababab", "1,234", "1 h 03 min", "1 min 15 s", "(not finished)", "1.0 MiB"):
        assert fact in page.text, fact
    assert PRIOR in page.text  # among the settings, whole
    assert "<dis>" in page.text
    assert "2.9.1" in page.text


def test_pictures_are_the_first_middle_and_last_of_both_passes(folder: Path) -> None:
    """Generated are the frames 0, 2, 4 and 5 of the clip."""
    page = _Page(run_page(folder))
    views = [alt for alt in page.alts if "pass" in alt]
    assert len(views) == 2 * 3 * 2 * 6
    expected = [f"First pass, frame {n}, {kind}, azimuth" for n in (0, 2, 5) for kind in ("colour", "normals")]
    assert [alt.rsplit(" ", 1)[0] for alt in views[:36:6]] == expected
    assert [alt.rsplit(" ", 1)[1] for alt in views[:6]] == ["0°", "45°", "90°", "180°", "270°", "315°"]
    previews = [link for link in page.links if "preview" in link]
    assert [Path(link).name for link in previews] == [f"preview_000{n:02d}.png" for n in (5, 10, 10)]


def test_the_same_files_give_the_same_page_and_it_is_not_written_again(folder: Path) -> None:
    path = write_page(folder)
    stamp, html = path.stat().st_mtime_ns, path.read_text()
    assert run_page(folder) == html
    assert write_page(folder).stat().st_mtime_ns == stamp
    (folder / "turntable" / "turntable.mp4").unlink()
    assert "turntable" not in write_page(folder).read_text()


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    _settings(tmp_path)
    page = _Page(run_page(tmp_path))
    assert page.ids & {"result", "files", "views", "training", "costs", "settings"} == {"settings"}
    _views(tmp_path / "method" / "views", 2)
    write_text(tmp_path / "method" / "coarse" / "static" / "losses.jsonl", "")  # begun just now
    assert "views" not in _Page(run_page(tmp_path)).ids, "only what is listed is drawn"
    _list(tmp_path)
    page = _Page(run_page(tmp_path))
    assert "views" in page.ids
    assert "training" not in page.ids
    assert "Second pass" not in page.text


def test_a_second_pass_that_would_repeat_the_first_is_explained(folder: Path) -> None:
    along = "The second pass is generated along the flow"
    assert along in _Page(run_page(folder)).text
    shutil.rmtree(folder / "method" / "regenerated")
    assert "second pass" not in _Page(run_page(folder)).text, "it may still come"
    _list(folder, token_propagation=False)
    page = _Page(run_page(folder))
    assert "This run has no second pass: without token propagation it would draw" in page.text
    assert along not in page.text


def test_the_page_names_no_folder_of_the_machine(folder: Path) -> None:
    settings = json.loads((folder / "run.json").read_text())
    settings["config"]["prior"] = settings["prior"] = "/home/some body/era3d"
    write_json(folder / "run.json", settings)
    page = run_page(folder)
    assert "some body" not in page
    assert page.count("…/era3d") == 3


def test_folders_of_others_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no run\.json"):
        run_page(tmp_path)
    _settings(tmp_path)
    write_text(tmp_path / "method" / "stages.json", "[{")
    _list(tmp_path)
    with pytest.raises(DataError, match=r"stages\.json: damaged"):
        run_page(tmp_path)
    (tmp_path / "method" / "stages.json").unlink()
    write_text(tmp_path / "method" / "coarse" / "coarse" / "losses.jsonl", "{]\n")
    _list(tmp_path)
    with pytest.raises(DataError, match=r"losses\.jsonl: damaged"):
        run_page(tmp_path)
    write_text(tmp_path / ARTEFACTS_FILE, '[{"kind": "views", "path": "../../elsewhere"}]')
    with pytest.raises(DataError, match=r"artefacts\.json: damaged"):
        run_page(tmp_path)


# ---- curves ----


def _points(line: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", line)]


def test_curves_lie_in_the_picture_in_order_of_steps_and_values() -> None:
    static = [{"step": step, "loss": 10.0 / step} for step in (1, 10)]
    coarse = [{"step": step, "loss": 100.0 / step, "arap": 0.5} for step in (1, 10, 30)]
    loss, arap = charts([("static", static), ("coarse", coarse), ("refine", [])])
    assert (loss.name, arap.name) == ("loss", "arap")
    assert loss.last == pytest.approx(100 / 30)
    first, second = map(_points, loss.lines)
    assert first[0][1] == second[1][1]  # both 10
    assert first[-1][0] == loss.borders[1][0]  # the coarse stage begins where the static one ends
    assert second[0][1] < first[0][1] < second[2][1] < first[1][1]  # 100, 10, 3.3, 1, downwards
    assert second[-1][0] == WIDTH - 6
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in first + second)
    assert [label for _, label in loss.ticks] == ["1", "10", "100"]
    assert {label: y for y, label in loss.ticks}["10"] == first[0][1]
    assert len(arap.lines) == 1
    assert len({y for _, y in _points(arap.lines[0])}) == 1


def test_terms_that_are_off_have_no_chart() -> None:
    assert charts([]) == []
    assert charts([("static", [{"step": 1, "flow": 0.0, "seconds": 2.0, "gaussians": 7}])]) == []
    assert charts([("coarse", [{"step": 1, "flow": 0.0}, {"step": 2, "flow": 0.15}])]) == [], "one value"
    (chart,) = charts(
        [("coarse", [{"step": n + 1, "flow": value} for n, value in enumerate((0.0, 0.15, 0.15))])]
    )
    assert len(chart.ticks) >= 2


def test_durations_for_people() -> None:
    assert [duration(s) for s in (0.04, 59.94, 61.6, 7260.0)] == ["0.0 s", "59.9 s", "1 min 02 s", "2 h 01 min"]


def test_the_estimated_pose_of_the_input_is_told(folder: Path) -> None:
    """And that level views are other views than a steep one."""
    assert "estimated" not in run_page(folder)
    report = folder / "method" / "views.json"
    write_json(report, {"made_by": "x", "pose": None})
    _list(folder)
    for elevation, focal, says in ((4.2, 0.0, "no perspective"), (25.0, 24 / 50, "50 mm")):
        write_json(report, {"pose": {"elevation_deg": [elevation], "lens": [focal]}})
        page = run_page(folder)
        assert says in page
        assert f"{elevation:.0f}°" in page
        assert ("level views cannot lie over it" in page) == (elevation > 10)
    write_json(report, {"made_by": "x", "pose": None})
    assert "estimated" not in run_page(folder)


def test_an_unfinished_run_says_how_far_it_is_and_loads_itself_again(folder: Path) -> None:
    assert "At work" not in run_page(folder)
    state = {"stage": 2, "stages": 6, "title": "Static field", "seconds_left": 1580, "at_work": True}
    for left, words in ((1580, "about 26 min left"), (62, "about 60 s left"), (None, "not known yet")):
        write_json(folder / "progress.json", {**state, "seconds_left": left})
        html = run_page(folder)
        assert "At work: stage 2 of 6, Static field; " in html
        assert words in html
        assert 'http-equiv="refresh" content="10"' in html
        assert 'data-written="' not in html  # of a run of an earlier version
    write_json(folder / "progress.json", {**state, "written": 1_800_000_000})
    assert '<p class="going" role="status" data-written="1800000000">At work' in run_page(folder)
    write_json(folder / "progress.json", {**state, "at_work": False})
    html = run_page(folder)
    assert "Stopped in stage 2 of 6, Static field. Run the same command again to go on." in html
    assert 'http-equiv="refresh"' not in html
    _Page(html)


def test_the_page_says_what_was_guessed_what_it_found_and_what_to_do_next(folder: Path) -> None:
    write_json(folder / "result.json", {"front_iou": 0.714, "warnings": ["the view is <bad>"]})
    write_json(folder / "export.json", {"size": 256, "fps": 3.75})
    write_png(folder / "masks.png", np.zeros((8, 8, 3), np.uint8))
    html = run_page(folder)
    page = _Page(html)
    assert "their shape and colour are guesses" in page.text
    assert "The view is <bad>." in page.text
    assert "<bad>" not in html
    for words in (
        "0.71",
        "3.75",
        "mvtf export 'cat & dog/field.safetensors' -o 'cat & dog/export' --splat --glb",
    ):
        assert words in page.text
    assert "masks.png" in page.links
    widths = re.findall(r'class="bar"><span style="width: ([\d.]+)%', html)
    assert widths == ["100.0", "2.0"]
