"""Pages, tables and terminals made of what anybody may have written, and no connection but those asked for."""

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from mvtokenflow.base.errors import ConfigError, DataError
from mvtokenflow.base.escapes import json_for_terminals, markdown, spreadsheet
from mvtokenflow.eval.gate.compare import compare, to_markdown
from mvtokenflow.eval.tables.explain import tree
from mvtokenflow.eval.tables.table import Cell, Column, Table, TableRow
from mvtokenflow.reports.html import tables_page
from mvtokenflow.reports.pictures import PictureStore
from mvtokenflow.reports.terminal import terminal
from mvtokenflow.reports.text import csv_text, latex, render

GRID = (
    "--dataset",
    "tinyscenes:Tiny",
    "--methods",
    "white,copy-input",
    "--scenes",
    "ant",
    "--protocol",
    "toy4d-v1",
)
TINY = Path(__file__).parent / "data" / "tables_tiny"


@pytest.fixture(scope="module")
def finished(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two rows on one tiny scene, scored once."""
    from mvtokenflow.cli.mvtf_eval import main

    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MVTF_WEIGHTS", str(folder / "none"))
        words = ["table1", *GRID, "--root", str(folder / "data"), "--runs", str(folder / "runs"), "--jobs", "1"]
        patch.setattr("sys.argv", ["mvtf-eval", *words])
        with suppress(SystemExit):
            main()
    return folder


class Report:
    """`mvtf-eval report` on a copy of the finished runs, to be spoiled first."""

    def __init__(self, cli: Any, finished: Path, folder: Path) -> None:
        self.cli, self.finished, self.folder, self.site = cli, finished, folder, folder / "site"
        shutil.copytree(finished / "runs", folder / "runs")
        (self.run,) = (folder / "runs").glob("*/copy-input/ant/*")

    def __call__(self) -> Any:
        words = (*GRID, "--root", self.finished / "data", "--runs", self.folder / "runs")
        return self.cli("report", *words, "-o", self.site, "--tables", "table1")

    def change(self, **fields: Any) -> None:
        path = self.run / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    def pictures(self) -> set[str]:
        return {path.name for path in (self.site / "pictures").iterdir()}


@pytest.fixture
def report(cli: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setenv("MVTF_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    return Report(cli, finished, tmp_path)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """Pictures that no page may show, in the layout of a reference."""
    from PIL import Image

    for view in ("input", "eval_0"):
        (tmp_path / "private" / view).mkdir(parents=True)
        for n in range(4):
            Image.new("RGB", (32, 32), (1, 2, 3)).save(tmp_path / "private" / view / f"{n}.png")
    return tmp_path / "private"


def secret(tmp_path: Path, private: Path) -> str:
    """The name that a site gives to the private picture."""
    return PictureStore(tmp_path / "store", 320).add(private / "input" / "0.png").name


# ---- what a page copies ----


def test_a_page_shows_the_reference_of_the_dataset_alone(report: Report, private: Path, tmp_path: Path) -> None:
    assert report().code == 0
    before = report.pictures()
    for place in (
        str(private),
        os.path.relpath(private),
        f"{report.finished}/data/ant/../../../{tmp_path.name}/private",
    ):
        report.change(reference_root=place)
        assert report().code == 0
        assert report.pictures() == before, "the other row states the dataset's reference"
        assert secret(tmp_path, private) not in report.pictures()


def test_the_reference_is_the_datasets_whatever_all_manifests_say(
    report: Report, private: Path, tmp_path: Path
) -> None:
    assert report().code == 0
    before = report.pictures()
    for place, shown in ((private, before), (tmp_path / "gone", None)):
        for path in (report.folder / "runs").rglob("manifest.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "reference_root": str(place)}))
        assert report().code == 0
        assert secret(tmp_path, private) not in report.pictures()
        if shown is not None:
            assert report.pictures() == shown
    assert "name it with --root" in next((report.site / "scenes").glob("*.js")).read_text()


def test_a_page_shows_no_reference_that_changed_since_the_runs(report: Report) -> None:
    for path in (report.folder / "runs").rglob("manifest.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "scene_digest": "0" * 64}))
    assert report().code == 0
    assert "name it with --root" in next((report.site / "scenes").glob("*.js")).read_text()


@pytest.mark.parametrize(
    "place", ["pred/input", "pred/input/0.png", "work", "work/views", "rows.jsonl", "pred/x/y"]
)
def test_links_out_of_a_run_are_refused(place: str, report: Report, private: Path) -> None:
    path = report.run / place
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(private / "input" / "0.png" if path.suffix == ".png" else private / "input")
    ended = report()
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert not report.site.exists()


def test_links_within_a_run_and_to_a_whole_run_are_followed(report: Report) -> None:
    picture = report.run / "pred" / "input" / "1.png"
    picture.unlink()
    picture.symlink_to("0.png")
    elsewhere = report.folder / "other disk"
    report.run.rename(elsewhere)
    report.run.symlink_to(elsewhere)
    assert report().code == 0


# ---- damaged pictures ----


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes, *others: bytes, depth: int = 8, color: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(others) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


WHOLE = zlib.compress((b"\0" + b"\1\2\3" * 8) * 8)
PICTURES = {
    "bomb": png(40_000, 40_000, zlib.compress(bytes(1000))),
    "large": png(9_000, 9_000, zlib.compress(bytes(1000))),
    "no width": png(0, 8, WHOLE),
    "no rows": png(8, 8, zlib.compress(b"")),
    "cut": png(8, 8, WHOLE)[:45],
    "not deflated": png(8, 8, b"xxxx"),
    "strange depth": png(8, 8, WHOLE, depth=7),
    "strange colour": png(8, 8, WHOLE, color=5),
    "16 bit": png(8, 8, WHOLE, depth=16),
    "empty profile": png(8, 8, WHOLE, chunk(b"iCCP", b"")),
    "text bomb": png(8, 8, WHOLE, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27)))),
    "wrong physics": png(8, 8, WHOLE, chunk(b"pHYs", b"\1")),
    "wrong animation": png(8, 8, WHOLE, chunk(b"acTL", b""), chunk(b"fcTL", b"x")),
    "wrong gamma": png(8, 8, WHOLE, chunk(b"gAMA", b""), chunk(b"cHRM", b"x"), chunk(b"sRGB", b"")),
    "palette": png(8, 8, WHOLE, chunk(b"PLTE", b"x"), color=3),
    "no PNG": b"GIF89a" + bytes(50),
    "a program's": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "empty": b"",
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_damaged_picture_is_a_reason(name: str, tmp_path: Path) -> None:
    (tmp_path / "3.png").write_bytes(PICTURES[name])
    store = PictureStore(tmp_path / "store", 320)
    with suppress(DataError):
        store.add(tmp_path / "3.png")
    if name in ("bomb", "large", "no width", "cut", "not deflated", "no PNG", "a program's", "empty"):
        with pytest.raises(DataError, match=r"3\.png"):
            store.add(tmp_path / "3.png")


def test_a_report_with_damaged_pictures_is_built(report: Report) -> None:
    for n, name in enumerate(("bomb", "not deflated", "empty profile")):
        (report.run / "pred" / "input" / f"{n}.png").write_bytes(PICTURES[name])
    (report.run / "pred" / "eval_0" / "0.png").unlink()
    os.mkfifo(report.run / "pred" / "eval_0" / "0.png")
    assert report().code == 0
    assert "not a readable picture" in next((report.site / "scenes").glob("*.js")).read_text()


# ---- pages load nothing ----


def policy_of(html: str) -> dict[str, str]:
    (content,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html)
    return dict(rule.strip().partition(" ")[::2] for rule in content.split(";"))


def test_pages_forbid_whatever_they_do_not_need(report: Report) -> None:
    assert report().code == 0
    pages = list(report.site.rglob("*.html"))
    assert len(pages) == 2
    for page in pages:
        html = page.read_text()
        policy = policy_of(html)
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self' file:"
        assert "http" not in " ".join(policy.values())
        assert not re.findall(r"<script>|\son\w+=", html), "the policy allows no script in the page"


def test_scripts_in_a_page_are_named_by_their_hash() -> None:
    html = tables_page([make_table()], title="t")
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy_of(html)["script-src"] == f"'sha256-{digest}'"


# ---- text of anybody ----

NASTY = "=cmd|' /C calc'!A0\x1b[31m[red]x[/red]<img src=x onerror=alert(1)>\u202e\\input{x}$(rm)`rm`\x9b"


def make_table(name: str = NASTY) -> Table:
    column = Column(key="psnr", title="PSNR", better="higher", digits=2, signatures=["psnr|p:t"])
    rows = [
        TableRow(
            label=name, source="native", group="measured", cells=[Cell(value=-1.0, have=1, want=1, rank=1)]
        ),
        TableRow(
            label=f"-{name}",
            source="native",
            group="measured",
            cells=[Cell(value=None, reason=name, have=0, want=1)],
        ),
    ]
    return Table(name="t1", title=name, caption=name, columns=[column], rows=rows, footnotes=[name])


@pytest.mark.parametrize("form", ["md", "csv", "latex", "json", "terminal", "html"])
def test_no_table_steers_a_terminal(form: str) -> None:
    table = make_table()
    if form == "terminal":
        console = Console(file=io.StringIO(), width=400, force_terminal=False)
        console.print(terminal(table))
        text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
        assert "[red]x[/red]" in text
    else:
        text = tables_page([table], title=NASTY) if form == "html" else render(table, form)
    from mvtokenflow.base.names import printable

    shown = printable(text) if form == "html" else text  # pages are printed by `tell`
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "\u202e" not in shown
    if form in ("md", "html"):
        assert "<img" not in shown


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋"])
def test_a_spreadsheet_computes_nothing(start: str) -> None:
    line = list(csv.reader(io.StringIO(csv_text(make_table(f"{start}1+1")))))[1]
    assert line[0].startswith("'")
    assert line[4] == "-1.0", "numbers stay numbers"
    assert spreadsheet(-1.5) == -1.5
    assert spreadsheet("a=b") == "a=b"


def test_latex_and_markdown_run_nothing() -> None:
    assert r"\input" not in latex(make_table())
    assert markdown("[a](http://x) | <b> *x* `y`") == r"\[a\](http://x) \| &lt;b&gt; \*x\* \`y\`"
    assert json.loads(json_for_terminals(json.dumps({"a": "\x9b\x7f"}, ensure_ascii=False))) == {
        "a": "\x9b\x7f"
    }


def test_a_gate_shows_names_as_they_are() -> None:
    cell = {"method": "<img src=x>[a](b)", "metric": "psnr", "object": None, "value": 1.0, "signature": "s"}
    cells = [{**cell, "better": "higher", "tolerance": 0.1}]
    report = compare(
        {"schema": 1, "kind": "baseline", "cells": cells}, {"schema": 1, "kind": "measured", "cells": []}
    )
    assert "<img" not in to_markdown(report)
    assert "[a](b)" not in to_markdown(report)


def test_a_cell_taken_apart_shows_names_as_they_are() -> None:
    console = Console(file=io.StringIO(), width=400)
    console.print(tree(NASTY, {"[bold]k": {NASTY: 1}, "x": [NASTY]}))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "\x1b" not in text
    assert "[red]x[/red]" in text
    assert "[bold]k" in text


def test_commands_to_copy_are_quoted() -> None:
    from mvtokenflow.reports.figure import Album
    from mvtokenflow.reports.scene import scene_pages

    page = scene_pages([], [])
    assert page == []
    made = Album.__new__(Album)
    made.page = replace(_page(), name="a; rm -rf ~", dataset="$(x)")
    assert "--scenes 'a; rm -rf ~'" in made.command("x`y`")
    assert "--dataset '$(x)'" in made.command("x")
    assert "--methods 'x`y`'" in made.command("x`y`")


def _page() -> Any:
    from mvtokenflow.reports.scene import ScenePage

    return ScenePage(dataset="d", name="n", slug="s", tags=[], views=[], series=[], references=[])


# ---- sizes ----


@pytest.mark.parametrize(
    "setting",
    [
        "reconstruction.field.depth=1000000000",
        "reconstruction.field.width=1000000000",
        "reconstruction.field.control_points=1000000000",
        "reconstruction.field.hyper_dim=1000000000",
        "reconstruction.points=1000000000000",
        "reconstruction.times_per_step=1000000000",
        "reconstruction.coarse.iterations=1000000000000",
        "reconstruction.extent=1e300",
        "square.size=1000000000",
        "sampling.steps=1000000000",
    ],
)
def test_settings_without_end_are_refused(setting: str) -> None:
    from mvtokenflow.base.settings import overridden
    from mvtokenflow.method.config import preset

    with pytest.raises(ConfigError, match=setting.rpartition("=")[0].rpartition(".")[2]):
        overridden(preset("mini"), [setting])


@pytest.mark.parametrize(
    "change",
    [{"block_out_channels": [2**20, 2**20]}, {"layers_per_block": 10**9}, {"cross_attention_dim": 2**24}],
)
def test_a_prior_that_states_other_sizes_takes_no_memory(
    change: dict[str, Any], prior_file: Path, tmp_path: Path
) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    from mvtokenflow.base.errors import WeightsCorruptError
    from mvtokenflow.small.prior import load_small_prior

    with safe_open(prior_file, framework="pt") as opened:
        metadata = dict(opened.metadata())
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    metadata["unet"] = json.dumps({**json.loads(metadata["unet"]), **change})
    save_file(tensors, tmp_path / "p.safetensors", metadata)
    with pytest.raises(WeightsCorruptError, match=r"p\.safetensors: not a small prior"):
        load_small_prior(tmp_path / "p.safetensors", device="cpu")


# ---- connections ----

WATCHED = """
import json, os, socket, sys
place = sys.argv[1]
def refuse(*arguments, **options):
    open(place, "a").write(repr(arguments) + "\\n")
    raise OSError("no network here")
socket.getaddrinfo = socket.create_connection = refuse
inner = socket.socket.connect
def connect(self, address):
    return refuse(address) if self.family in (socket.AF_INET, socket.AF_INET6) else inner(self, address)
socket.socket.connect = socket.socket.connect_ex = connect
sys.path.insert(0, sys.argv[2])
from mvtokenflow.cli.mvtf_eval import main
for words in json.load(sys.stdin):
    sys.argv = ["mvtf-eval", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
print("somebody asked" if os.path.exists(place) else "nobody asked")
try:
    socket.create_connection(("localhost", 9))
except OSError:
    print("watched" if os.path.exists(place) else "not watched")
"""


def test_no_connection_is_attempted(finished: Path, tmp_path: Path) -> None:
    grid = (*GRID, "--root", finished / "data", "--runs", finished / "runs")
    (run,) = (finished / "runs").glob("*/copy-input/ant/*")
    commands: list[tuple[object, ...]] = [
        ("table1", *grid, "--jobs", 1),
        ("report", *grid, "-o", tmp_path / "site", "--tables", "table1"),
        (
            "score",
            run / "pred",
            "--gt",
            finished / "data" / "ant",
            "--record",
            tmp_path / "r",
            "--jobs",
            1,
            "--force",
        ),
        ("explain", "table1", "copy-input", "psnr", *GRID[:2], *GRID[4:], *grid[len(GRID) :]),
        ("doctor",),
        ("weights", "list"),
    ]
    ended = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path / "asked"), str(TINY)],
        input=json.dumps([[str(word) for word in words] for words in commands]),
        capture_output=True,
        text=True,
        env={**os.environ, "MVTF_WEIGHTS": str(tmp_path / "none"), "MVTF_CACHE": str(tmp_path / "cache")},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split("\n")[-3:] == ["nobody asked", "watched", ""], (tmp_path / "asked").read_text()
