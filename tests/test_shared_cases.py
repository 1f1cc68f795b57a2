"""Every case of ../shared/cases as its README gives it: the generator, the command, the right outcome.

A case is a folder with a README.md and perhaps a generator; it runs in a copy of its folder. The cases are kept
outside the repository. Each has a counterpart among the other tests, which need no such folder.
"""

import json
import os
import re
import runpy
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import valid
from cases import COMMANDS, MVTF, MVTF_EVAL, Right, may_mount, shell

from mvtokenflow.base.errors import DataError

if TYPE_CHECKING:
    from mvtokenflow.views.video import MultiviewVideo

ROOT = Path(__file__).resolve().parents[1]
CASES = Path(os.environ.get("MVTF_SHARED", ROOT.parent / "shared")) / "cases"
Cli = Callable[..., Any]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder of the case that the test is named after, with what its generator makes; the cwd."""
    words = request.function.__name__.removeprefix("test_")
    name = getattr(request, "param", None) or (words if words.startswith("rel_") else words.replace("_", "-"))
    if not CASES.is_dir():
        pytest.skip(f"the cases are not in {CASES}; set MVTF_SHARED to the folder that holds cases/")
    folder = tmp_path / "case"
    shutil.copytree(CASES / name, folder)
    folder.chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MVTF_CACHE", str(tmp_path / "cache"))
    make = folder / "make.py"
    if make.exists() and "sys.argv" not in make.read_text():
        runpy.run_path(str(make))
    return folder


@pytest.fixture
def go(mvtf: Cli, cli: Cli, prior_file: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command line in this process, `mvtf run` with next to no work; (exit code, all it printed)."""

    def run(command: str | Sequence[str]) -> tuple[int, str]:
        program, *words = shlex.split(command) if isinstance(command, str) else command
        if program == "mvtf" and words[0] == "run":
            words += valid.run_options(prior_file)
        done = (mvtf if program == "mvtf" else cli)(*words)
        return done.code, done.out + done.err

    return run


def _holds(found: tuple[int, str], right: Right) -> None:
    code, messages = found
    assert code == right.code, messages
    assert re.search(right.words, messages), messages
    assert not re.search(right.never, messages), messages


@pytest.mark.parametrize("case", COMMANDS, indirect=True)
def test_commands(case: Path, go: Cli, request: pytest.FixtureRequest) -> None:
    for right in COMMANDS[request.node.callspec.params["case"]]:
        _holds(go(right.command), right)


def test_every_case_has_a_test() -> None:
    if not CASES.is_dir():
        pytest.skip(f"the cases are not in {CASES}; set MVTF_SHARED to the folder that holds cases/")
    alone = {name.removeprefix("test_").replace("_", "-") for name in globals() if name.startswith("test_")}
    folders = {path.name.replace("_", "-") for path in CASES.iterdir() if path.is_dir()}
    known = alone | {name.replace("_", "-") for name in COMMANDS} | {"rel-fuzzer"}  # tests/fuzz
    assert folders <= known


# ---- pictures and clips ----


def test_alpha_not_quite_zero(case: Path, go: Cli) -> None:
    code, messages = go("mvtf run data/clean -o out/a --json")
    assert code == 0, messages
    clean = json.loads(messages[messages.index("{") : messages.rindex("}") + 1])["crop"]
    code, messages = go("mvtf run data/noise -o out/b --json")
    if code == 0:
        assert json.loads(messages[messages.index("{") : messages.rindex("}") + 1])["crop"] == clean
    else:
        assert re.search("alpha", messages), messages
    _holds(go("mvtf run data/all-254 -o out/c --json"), Right(command="", words="not cut out"))


def test_hdr_pq(case: Path) -> None:
    from mvtokenflow.media.video import read_clip

    clip = read_clip(Path("data/pq.mp4"), Path("data/masks"))
    disc = clip.rgb[0][clip.alpha[0, ..., 0] == 1].median(dim=0).values * 255
    assert np.abs(disc.numpy() - (200, 60, 40)).max() < 12, disc
    assert float(clip.rgb[0, 0, 0].min()) > 0.95  # white


def test_mirrored_video(case: Path) -> None:
    from mvtokenflow.media.video import read_clip

    for name, wanted in (("hflip", (16, 75)), ("vflip", (47, 20))):
        clip = read_clip(Path(f"data/{name}.mp4"), Path(f"data/{name}-mask.mp4"))
        rgb = clip.on_background(1.0)[0].numpy()
        red = np.argwhere((rgb[..., 0] > 0.6) & (rgb[..., 1] < 0.4) & (rgb[..., 2] < 0.4)).mean(axis=0)
        assert np.abs(red - wanted).max() < 3, (name, red)


def test_reference_view_with_gap(case: Path, go: Cli) -> None:
    """Pictures are paired by their numbers: the truth itself is without error, or is refused."""
    for name in ("true", "by-position"):
        words = f"--dataset data/dataset --methods ground-truth --import mine=data/{name} --no-quoted --jobs 1"
        code, messages = go(f"mvtf-eval table2 {words} --json")
        if code == 2:
            assert re.search("frame|3", messages), messages
            continue
        assert code == 0, messages
        table = json.loads(messages[messages.index("{") : messages.rindex("}") + 1])
        (row,) = [row for row in table["rows"] if row["label"] == "mine"]
        keys = [column["key"] for column in table["columns"]]
        psnr = row["cells"][keys.index("psnr")]["value"]
        assert psnr in (None, 100.0, "inf"), psnr


def test_ply_compressed_message(case: Path) -> None:
    from mvtokenflow.splat.io import read_ply

    with pytest.raises(DataError, match="compressed"):
        read_ply(Path("data/compressed.ply"))


def test_ply_empty(case: Path) -> None:
    import torch

    from mvtokenflow.splat.gaussians import Gaussians
    from mvtokenflow.splat.io import read_ply, write_ply

    zeros = torch.zeros
    empty = Gaussians(zeros(0, 3), zeros(0, 4), zeros(0, 3), zeros(0), colors=zeros(0, 3))
    for work in (lambda: read_ply(Path("data/empty.ply")), lambda: write_ply(Path("data/none.ply"), empty)):
        assert re.search("^$|empty|no Gaussians", _refusal(work))


def _refusal(work: Callable[[], object]) -> str:
    """The sentence of a refusal, or nothing."""
    try:
        work()
    except DataError as error:
        return str(error)
    return ""


def test_rel_video_metadata(case: Path, go: Cli) -> None:
    valid.balls(case / "masks", kind="mask", count=1)  # not looked at where the video is refused
    for name, words in (("title_latin1.mov", ""), ("duration.mkv", ""), ("codec_unknown.mp4", "codec")):
        code, messages = go(f"mvtf run {name} -o out-{name}")
        assert code in (0, 2), messages
        assert re.search(words, messages), messages


def test_rel_playlist_fetches(case: Path, go: Cli) -> None:
    asked: list[str] = []

    class Notes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Notes) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        text = (case / "clip.m3u8").read_text().replace(":8000", f":{server.server_port}")
        (case / "mine.m3u8").write_text(text)
        for name in ("mine.m3u8", "file.m3u8"):
            _holds(go(f"mvtf run {name} -o out"), Right(command="", words=re.escape(name)))
        server.shutdown()
    assert asked == []


# ---- multiview folders, fields and reconstructions ----


@pytest.fixture
def views(toy: "MultiviewVideo", tmp_path: Path) -> Path:
    """The multiview folder of the cases: three frames of 64 pixels."""
    from mvtokenflow.views.folder import write_multiview

    write_multiview(tmp_path / "views", toy)
    return tmp_path / "views"


SMALL = [word for setting in valid.RECONSTRUCT_SETTINGS for word in ("--set", setting)]


def _generate(case: Path, *arguments: object, script: str = "make.py") -> None:
    subprocess.run([sys.executable, case / script, *map(str, arguments)], check=True)


def test_rel_npz_bomb(case: Path, views: Path) -> None:
    _generate(case, views, case / "bomb")
    done = shell(f"ulimit -v 7000000; {MVTF} reconstruct bomb -o out", case)
    assert done.returncode == 2, done.stderr
    assert "flow.npz" in done.stderr
    assert "emory" not in done.stderr


def test_rel_npz_zip_features(case: Path, views: Path, go: Cli) -> None:
    _generate(case, views, case / "bad")
    folders = sorted((case / "bad").iterdir())
    assert len(folders) == 6
    for folder in folders:
        _holds(go(["mvtf", "reconstruct", str(folder), "-o", "out"]), Right(command="", words="flow.npz"))


def test_rel_checkpoint_damaged(case: Path, views: Path, go: Cli) -> None:
    command = ["mvtf", "reconstruct", str(views), "-o", "out", "--fit-size", "32", *SMALL]
    assert go(command)[0] == 0
    (case / "out" / "coarse" / "coarse" / "field.safetensors").unlink()
    for name in ("a.pt", "b.pt", "c.pt"):
        shutil.copyfile(case / name, case / "out" / "coarse" / "coarse" / "checkpoint.pt")
        _holds(go(command), Right(command="", words="checkpoint.pt.*delete it"))


def test_rel_deep_json(case: Path, views: Path, go: Cli, tmp_path: Path) -> None:
    deep = "[" * 200_000
    (views / "cameras.json").write_text(deep)
    _holds(go(["mvtf", "reconstruct", str(views), "-o", "out"]), Right(command="", words="cameras.json"))
    (case / "mine").mkdir()
    (case / "mine" / "run.json").write_text(deep)
    valid.balls(case / "clip", size=64)
    _holds(go("mvtf run clip -o mine"), Right(command="", words="run.json"))
    (case / "baseline.json").write_text(deep)
    _holds(
        go("mvtf-eval regress --against baseline.json --runs R"),
        Right(command="", code=4, words="baseline.json"),
    )


def test_rel_disk_full_field(case: Path, views: Path) -> None:
    words = " ".join(SMALL)
    command = f"{MVTF} reconstruct {views} -o M/d --fit-size 32 {words} --set points=200"
    may_mount()
    small = shell(f"mkdir M; mount -t tmpfs -o size=64k tmpfs M && {command}", case, mounts=True)
    assert small.returncode == 2, small.stderr
    assert re.search("No space left on device", small.stderr)
    assert "Traceback" not in small.stderr


def test_rel_out_of_memory(case: Path, views: Path) -> None:
    words = " ".join(SMALL)
    command = f"ulimit -v 6000000; {MVTF} reconstruct {views} -o out {words}"
    done = shell(f"{command} --set points=5000000", case)
    assert done.returncode == 2, done.stderr
    assert re.search("memory", done.stderr)
    assert "Traceback" not in done.stderr


# ---- the folder of `mvtf run` ----


@pytest.fixture
def finished(case: Path, go: Cli) -> Path:
    """The folder of a finished `mvtf run clip -o out`."""
    valid.balls(case / "clip", size=64)
    code, messages = go("mvtf run clip -o out")
    assert code == 0, messages
    return case / "out"


def test_rel_empty_field_is_done(case: Path, finished: Path, go: Cli) -> None:
    field = finished / "field.safetensors"
    whole = field.read_bytes()
    for folder in (*finished.glob("azimuth_*"), finished / "turntable", finished / "ply"):
        shutil.rmtree(folder)
    (finished / "comparison.mp4").unlink()
    field.write_bytes(b"")
    code, messages = go("mvtf run clip -o out")
    if code == 0:
        assert field.read_bytes() == whole
    else:
        _holds((code, messages), Right(command="", words="field.safetensors"))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *(("environment.json", data) for data in (b"", b"{", b"5")),
        *(("method/stages.json", data) for data in (b"5", b"[{}]")),
        *(("method/coarse/static/losses.jsonl", data) for data in (b"x\n", b"{}\n", b"\xff\n")),
    ],
)
@pytest.mark.parametrize("case", ["rel_resume_files"], indirect=True)
def test_rel_resume_files(case: Path, finished: Path, go: Cli, name: str, data: bytes) -> None:
    whole = (finished / "field.safetensors").read_bytes()
    (finished / name).write_bytes(data)
    _holds(go("mvtf run clip -o out"), Right(command="", words=f"{name}.*delete"))
    assert (finished / "field.safetensors").read_bytes() == whole


# ---- records and pages ----


@pytest.fixture
def layouts(layout: Cli, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of renderings and one of references, with the object `cat`."""
    return layout(tmp_path / "pred", shift=1), layout(tmp_path / "gt")


@pytest.fixture(scope="session")
def crab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs of toy4d's crab-01, of two rows, and their cache."""
    root = tmp_path_factory.mktemp("crab")
    command = "table1 --methods ground-truth,copy-input --scenes crab-01 --runs runs --jobs 1"
    done = shell(f"{MVTF_EVAL} {command}", root, MVTF_CACHE=str(root / "cache"))
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def of_crab(crab: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runs, with the cache in place."""
    monkeypatch.setenv("MVTF_CACHE", str(crab / "cache"))
    return crab / "runs"


ROWS = "--scenes crab-01 --methods ground-truth,copy-input"


def test_rel_manifest_endless(case: Path, of_crab: Path, go: Cli) -> None:
    _generate(case, of_crab, case / "R")
    _holds(go(f"mvtf-eval report --runs R -o site {ROWS}"), Right(command="", words=r"manifest\.json|frames"))


def test_rel_manifest_types(case: Path, of_crab: Path, go: Cli) -> None:
    changes = re.findall(r"'(\{.*?\})'", (case / "try.sh").read_text())
    assert len(changes) == 15
    for number, change in enumerate(changes):
        runs = case / f"R{number}"
        subprocess.run(
            [sys.executable, CASES / "rel_manifest_endless" / "make.py", of_crab, runs, change], check=True
        )
        for verb in (f"report -o {case / f'site{number}'}", "table1"):
            code, messages = go(f"mvtf-eval {verb} --runs {runs} {ROWS}")
            assert code in (0, 2), (change, messages)
            assert code == 0 or "manifest.json" in messages, (change, messages)


def test_rel_view_name_traversal(case: Path, of_crab: Path, go: Cli) -> None:
    valid.balls(case / "private", kind="rgb")
    _generate(case, of_crab, case / "R", case / "private")
    _holds(go(f"mvtf-eval report --runs R -o site {ROWS}"), Right(command="", words=r"manifest\.json"))
    assert not (case / "site").exists()


def test_rel_png_in_report(case: Path, of_crab: Path, go: Cli) -> None:
    runs = case / "R"
    shutil.copytree(of_crab, runs)
    (frame,) = runs.glob("toy4d/copy-input/crab-01/*/pred/eval_0/3.png")
    for name in ("inner.png", "size.png", "bomb.png"):
        shutil.copyfile(case / name, frame)
        code, messages = go(f"mvtf-eval report --runs R -o site-{name} {ROWS}")
        assert code == 0, messages


def test_rel_names_not_utf8(case: Path, layouts: tuple[Path, Path]) -> None:
    subprocess.run(["sh", case / "make.sh", *layouts, case / "OUT"], check=True)
    done = shell(f"{MVTF_EVAL} score OUT/pred --gt OUT/gt --record r --jobs 1", case)
    assert done.returncode in (0, 2), done.stderr
    assert "Traceback" not in done.stderr


def test_rel_two_tables(case: Path, crab: Path) -> None:
    command = f"{MVTF_EVAL} table1 {ROWS},blurred --runs R --jobs 1"
    # Row by row: the truth and its copy have equal pictures on the input view, and equal records.
    twice = "for f in R/*/*/*/*/rows.jsonl; do sort $f | uniq -d; done | wc -l"
    script = f"for i in 1 2; do {command} & done; wait; {twice}"
    done = shell(script, case, MVTF_CACHE=str(crab / "cache"))
    assert "Traceback" not in done.stderr
    assert done.stdout.split()[-1] == "0", done.stderr


def test_rel_leftovers(case: Path, crab: Path) -> None:
    command = f"{MVTF_EVAL} table1 {ROWS},blurred --runs R --jobs 1"
    script = (
        f"for n in 9 12 15; do timeout -s KILL $n {command}; done; {command}; find R -name '.*' ! -name .stages"
    )
    done = shell(script, case, MVTF_CACHE=str(crab / "cache"))
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("R/")] == []


def test_rel_umask(case: Path, crab: Path) -> None:
    shutil.copytree(crab / "runs", case / "R")
    command = f"umask 077; {MVTF_EVAL} report --runs R -o site {ROWS}"
    done = shell(command, case, MVTF_CACHE=str(crab / "cache"))
    assert done.returncode == 0, done.stderr
    modes = {
        (path.is_dir(), stat.S_IMODE(path.stat().st_mode))
        for path in (case / "site", *(case / "site").rglob("*"))
    }
    assert modes == {(True, 0o700), (False, 0o600)}


def test_rel_mount_point(case: Path, crab: Path) -> None:
    may_mount()
    command = f"mkdir M; mount -t tmpfs tmpfs M; {MVTF_EVAL} report --runs {crab / 'runs'} -o M {ROWS}"
    done = shell(command, case, mounts=True, MVTF_CACHE=str(crab / "cache"))
    assert done.returncode in (0, 2), done.stderr
    assert done.returncode == 0 or re.search("mount", done.stderr), done.stderr
    assert list(case.glob(".M.old*")) == []


# ---- the machine ----


def test_console_cp1252(case: Path) -> None:
    done = shell(f"{MVTF_EVAL} protocols", case, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("form", ["terminal", "md", "html"])
@pytest.mark.parametrize("case", ["rel_stdout_encoding"], indirect=True)
def test_rel_stdout_encoding(case: Path, crab: Path, encoding: str, form: str) -> None:
    command = f"{MVTF_EVAL} table1 {ROWS} --runs {crab / 'runs'} --format {form} --jobs 1"
    done = shell(command, case, PYTHONIOENCODING=encoding, MVTF_CACHE=str(crab / "cache"))
    assert done.returncode in (0, 2), done.stderr
    assert "Traceback" not in done.stderr


def test_rel_tar_sparse(case: Path, go: Cli) -> None:
    _generate(case, case / "OUT")
    for name in ("v10", "v01", "v00"):
        right = Right(command="", words="not an archive of|not in the ledger")
        _holds(go(f"mvtf-eval weights unpack OUT/{name}.tar"), right)


def test_rel_tilde_in_environment(case: Path, go: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MVTF_CACHE", "MVTF_WEIGHTS", "MVTF_WEIGHTS_LPIPS_VGG"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "~nobody-here/x")
            code, messages = go("mvtf-eval doctor")
        assert code in (0, 1, 2), messages
        assert re.search(f"{name}.*~nobody-here/x", messages), messages
    _holds(go("mvtf-eval table1 --dataset ~nobody-here/x"), Right(command="", words="~nobody-here/x"))


def test_read_only_install(case: Path) -> None:
    may_mount()
    if not (ROOT / ".venv" / "bin" / "mvtf").exists():
        pytest.skip("the checkout has no .venv; see `make setup`")
    done = subprocess.run(["sh", "run.sh", ROOT], cwd=case, capture_output=True, text=True, check=False)
    assert re.search("exit code [02]$", done.stdout.strip()), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
